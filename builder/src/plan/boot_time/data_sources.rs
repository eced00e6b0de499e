//! cloud-init asks data sources over the network, whatever the machine is.
//!
//! A list of one source, or of one and `None`, is taken as it is by `ds-identify`, the
//! generator that finds out before the network is up where a machine runs (cloud-init,
//! `tools/ds-identify`). On a machine that is somewhere else cloud-init then waits for a
//! metadata service that nobody answers for: 120 seconds for EC2 (`max_wait` in
//! `cloudinit/sources/DataSourceEc2.py`), and takes neither a NoCloud seed nor a config
//! drive. With more names in the list the generator looks, and nobody waits.
//!
//! On arm64 it looks, too, but where it finds nothing it starts every source of the list
//! (`DI_DEFAULT_POLICY_NO_DMI`), from when such machines had no SMBIOS tables: minutes,
//! in which each asks for its service. It is told to do as on x86-64, which newer versions
//! do by themselves.

use super::super::draft::Draft;
use super::REASON;
use crate::error::Result;
use crate::image_path::ImagePath;
use crate::os::Tree;
use crate::os::tree::fixed;
use crate::profile::model::Architecture;

/// The configuration, and the folder of further files, which go over it in the order of
/// their names.
const CONFIGURATION: &str = "/etc/cloud/cloud.cfg";
const DROP_INS: &str = "/etc/cloud/cloud.cfg.d";
/// Sorts after what vendors and clouds lay.
const DROP_IN: &str = "/etc/cloud/cloud.cfg.d/99-nodekiln-data-sources.cfg";
/// Where the generator is: it looks only if it is there.
const IDENTIFY: [&str; 3] = [
    "/usr/lib/cloud-init/ds-identify",
    "/usr/libexec/cloud-init/ds-identify",
    "/lib/cloud-init/ds-identify",
];
/// What tells the generator how to look, or that it shall not.
const POLICY: &str = "/etc/cloud/ds-identify.cfg";
/// That of x86-64 (`DI_DEFAULT_POLICY`).
const LIKE_X86_64: &str = "\
# Where nothing is found, cloud-init stays off, as on x86-64: older versions would ask each
# of their data sources on arm64, for minutes.
policy: search,found=all,maybe=none,notfound=disabled
";
/// Sources that wait for the network.
const REMOTE: [&str; 3] = ["Ec2", "OpenStack", "CloudStack"];
/// Sources that need none, and that seeds of nodes come by.
const LOCAL: [&str; 2] = ["NoCloud", "ConfigDrive"];

pub(super) fn plan(draft: &mut Draft<'_>, architecture: Architecture) -> Result<()> {
    if !looks(draft)? {
        return Ok(());
    }
    if architecture == Architecture::Arm64 {
        let reason = format!("{REASON}: cloud-init waits for every source where it finds none");
        draft.put_text(&fixed(POLICY), 0o644, LIKE_X86_64.to_owned(), &reason)?;
    }
    let Some(source) = only_source(draft)? else {
        return Ok(());
    };
    let list = [LOCAL[0], LOCAL[1], &source, "None"].join(", ");
    let text = format!(
        "# cloud-init's ds-identify finds out where the machine runs; with {source} alone it\n\
         # would wait for it everywhere.\n\
         datasource_list: [ {list} ]\n"
    );
    let reason = format!("{REASON}: cloud-init waits for {source} on machines that are not there");
    draft.put_text(&fixed(DROP_IN), 0o644, text, &reason)
}

/// Whether the generator looks where the machine runs.
fn looks(draft: &mut Draft<'_>) -> Result<bool> {
    for path in IDENTIFY {
        if draft.is_file(&fixed(path))? {
            return Ok(!draft.is_file(&fixed(POLICY))?);
        }
    }
    Ok(false)
}

/// The one remote source of the list that counts. None where the profile lays a file of
/// its own: that is its word.
fn only_source(draft: &mut Draft<'_>) -> Result<Option<String>> {
    let folder = draft.resolve(&fixed(DROP_INS))?;
    let mut files: Vec<ImagePath> = Vec::new();
    for entry in draft.list(&folder)? {
        if entry.name.ends_with(b".cfg") {
            files.push(folder.join(&entry.name)?);
        }
    }
    files.sort();
    if files.iter().any(|path| draft.planned(path).is_some()) {
        return Ok(None);
    }
    files.insert(0, fixed(CONFIGURATION));
    let mut list = Vec::new();
    for path in files {
        let real = draft.resolve(&path)?;
        if let Some(found) = draft.read_text(&real)?.as_deref().and_then(list_in) {
            list = found;
        }
    }
    let [source, rest @ ..] = list.as_slice() else {
        return Ok(None);
    };
    let is_alone = rest.is_empty() || rest == ["None"];
    Ok((is_alone && REMOTE.contains(&source.as_str())).then(|| source.clone()))
}

/// The last list in `text`, as the generator reads it: on one line, without quotes.
fn list_in(text: &str) -> Option<Vec<String>> {
    let is_mark = |character: char| matches!(character, '[' | ']' | '"' | '\'');
    let names = |line: &str| {
        let list = line.strip_prefix("datasource_list:")?;
        let list = list.split('#').next().unwrap_or_default();
        let list = list.trim().strip_prefix('[')?.strip_suffix(']')?;
        let names = list
            .split(',')
            .map(|name| name.trim().trim_matches(is_mark));
        Some(
            names
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    };
    text.lines().filter_map(names).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::machine::{self, debian, file, overlay, planned};
    use crate::plan::{Plan, Target};
    use crate::volume::model::MemoryVolume;

    fn with(files: &[(&str, &str)]) -> MemoryVolume {
        files.iter().fold(debian(), |volume, (path, text)| {
            volume.with_file(path, *text).expect("a small image")
        })
    }

    fn laid_at(plan: &Plan, path: &str) -> Option<String> {
        let is_planned = plan.volumes[&Target::Root]
            .entries
            .contains_key(&fixed(path));
        is_planned.then(|| machine::text_at(plan, path))
    }

    fn drop_in(plan: &Plan) -> Option<String> {
        laid_at(plan, DROP_IN)
    }

    fn plan_of(files: &[(&str, &str)]) -> Plan {
        let profile = machine::profile();
        planned(with(files), &profile, Vec::new()).expect("plans").0
    }

    const GENERATOR: (&str, &str) = ("/usr/lib/cloud-init/ds-identify", "#!/bin/sh\n");

    #[test]
    fn one_remote_source_becomes_one_of_several() {
        for list in ["[ Ec2, None ]", "[Ec2]", "['Ec2', \"None\"] # of the AMI"] {
            let text = format!("users: []\ndatasource_list: {list}\n");
            let plan = plan_of(&[GENERATOR, ("/etc/cloud/cloud.cfg", &text)]);
            let laid = drop_in(&plan).expect(list);
            assert!(
                laid.contains("\ndatasource_list: [ NoCloud, ConfigDrive, Ec2, None ]\n"),
                "{laid}"
            );
            let entry = &plan.volumes[&Target::Root].entries[&fixed(DROP_IN)];
            assert!(
                entry.reason.starts_with("time of boot: "),
                "{}",
                entry.reason
            );
        }
    }

    #[test]
    fn the_last_file_counts() {
        let base = ("/etc/cloud/cloud.cfg", "datasource_list: [ Ec2, None ]\n");
        let later = (
            "/etc/cloud/cloud.cfg.d/90_dpkg.cfg",
            "datasource_list: [ NoCloud, Ec2, None ]\n",
        );
        assert_eq!(drop_in(&plan_of(&[GENERATOR, base, later])), None);
        let ignored = ("/etc/cloud/cloud.cfg.d/README", later.1);
        assert!(drop_in(&plan_of(&[GENERATOR, base, ignored])).is_some());
    }

    #[test]
    fn what_nobody_waits_for_stays() {
        for list in ["[ NoCloud ]", "[ None ]", "[]", "[ Ec2, Azure ]", "Ec2"] {
            let text = format!("datasource_list: {list}\n");
            let plan = plan_of(&[GENERATOR, ("/etc/cloud/cloud.cfg", &text)]);
            assert_eq!(drop_in(&plan), None, "{list}");
        }
    }

    #[test]
    fn without_a_generator_that_looks_a_longer_list_would_wait_longer() {
        let base = ("/etc/cloud/cloud.cfg", "datasource_list: [ Ec2, None ]\n");
        assert_eq!(drop_in(&plan_of(&[base])), None);
        let policy = ("/etc/cloud/ds-identify.cfg", "policy: enabled\n");
        assert_eq!(drop_in(&plan_of(&[GENERATOR, base, policy])), None);
    }

    #[test]
    fn a_file_of_the_profile_is_its_word() {
        let base = ("/etc/cloud/cloud.cfg", "datasource_list: [ Ec2, None ]\n");
        let own = overlay(
            "site",
            "/etc/cloud/cloud.cfg.d/10-site.cfg",
            file("datasource_list: [ Ec2 ]\n"),
        );
        let profile = machine::profile();
        let (plan, _) = planned(with(&[GENERATOR, base]), &profile, vec![own]).expect("plans");
        assert_eq!(drop_in(&plan), None);
    }
}
