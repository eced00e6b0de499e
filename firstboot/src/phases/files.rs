//! Writing what was rendered, and removing what is not wanted any more.

use std::collections::BTreeSet;

use super::journal::digest;
use super::steps::{Node, digest_of_files};
use super::work::Work;
use super::{Error, Phase, name_resolution, unit};
use crate::render::{File, Part};
use crate::system::{NewFile, System, is_current};

/// Units and drop-ins of the machine's own.
const UNITS: &str = "/etc/systemd/system/";

/// All that the service manager reads only when told to.
const MANAGER: &str = "/etc/systemd/";

/// Drop-ins of the resolver.
const RESOLVER: &str = "/run/systemd/resolved.conf.d/";

/// Folders for files of ours alone: without any they go as well, those within others
/// first.
const FOLDERS: [&str; 6] = [
    "/etc/aws/hybrid",
    "/etc/aws",
    "/etc/containerd/config.d",
    "/etc/kubernetes/kubelet/config.json.d",
    "/etc/systemd/system/containerd.service.d",
    "/etc/systemd/system/kubelet.service.d",
];

/// What something of the user's is called from now on that lies where a link belongs.
const BEFORE: &str = ".before-nodekiln";

/// Digest of all files and links.
pub(super) fn inputs(node: &Node<'_>) -> String {
    let links = node.links();
    let texts = links.iter().flat_map(|(path, target)| [path, target]);
    digest(
        std::iter::once(digest_of_files(node.files.iter()).as_bytes())
            .chain(texts.map(|text| text.as_bytes())),
    )
}

/// Digest of what the service manager reads; empty when there is nothing.
pub(super) fn of_service_manager(node: &Node<'_>) -> String {
    let mut files = node
        .files
        .iter()
        .filter(|file| file.path.starts_with(MANAGER))
        .peekable();
    if files.peek().is_none() {
        return String::new();
    }
    digest_of_files(files)
}

/// What differs from what is wanted.
struct Difference<'a> {
    stale: Vec<&'a File>,
    links: Vec<(&'static str, &'static str)>,
    wanted: BTreeSet<&'a str>,
    obsolete: Vec<String>,
}

impl<'a> Difference<'a> {
    fn find(work: &Work<'_>, node: &Node<'a>) -> Result<Self, Error> {
        let mut stale = Vec::new();
        for file in node.files {
            if !is_current(work.system, &file.path, &file.content, file.mode)? {
                stale.push(file);
            }
        }
        let mut links = Vec::new();
        for (path, target) in node.links() {
            if work.system.link_target(path)?.as_deref() != Some(target) {
                links.push((path, target));
            }
        }
        let files = node.files.iter().map(|file| file.path.as_str());
        let wanted: BTreeSet<&str> = files
            .chain(node.links().into_iter().map(|(path, _)| path))
            .collect();
        let known = work.journal.files.iter();
        let obsolete = known
            .filter(|path| !wanted.contains(path.as_str()))
            .cloned()
            .collect();
        Ok(Self {
            stale,
            links,
            wanted,
            obsolete,
        })
    }

    fn is_none(&self, work: &Work<'_>) -> bool {
        self.stale.is_empty()
            && self.links.is_empty()
            && self.obsolete.is_empty()
            && work.journal.files.len() == self.wanted.len()
    }

    /// Notes what will be ours, and who has to read it anew.
    fn announce(&self, work: &mut Work<'_>) -> Result<(), Error> {
        for file in &self.stale {
            work.reopen(reader(file.part));
            if file.path.starts_with(MANAGER) {
                work.reopen(Phase::ServiceManager);
            }
        }
        for path in &self.obsolete {
            for phase in readers_of_path(path) {
                work.reopen(*phase);
            }
        }
        work.reopen(Phase::Files);
        work.journal.files = self
            .wanted
            .iter()
            .map(ToString::to_string)
            .chain(self.obsolete.iter().cloned())
            .collect();
        work.save()
    }
}

/// The phase that a changed file calls for.
fn reader(part: Part) -> Phase {
    match part {
        Part::Credentials => Phase::CredentialsFile,
        Part::Kernel => Phase::Kernel,
        Part::Manager => Phase::ServiceManager,
        Part::Resolver => Phase::NameResolution,
        Part::Containerd => Phase::Containerd,
        Part::Kubelet => Phase::Kubelet,
    }
}

/// The phases that the end of a file calls for: of what was written for an earlier
/// NodeConfig only the path is known. The service manager and the resolver are told at once.
fn readers_of_path(path: &str) -> &'static [Phase] {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
    if starts(&[
        "/etc/containerd/",
        "/etc/systemd/system/containerd.service.d/",
        "/etc/soci-snapshotter-grpc/",
    ]) {
        &[Phase::Containerd]
    } else if starts(&[
        "/etc/kubernetes/",
        "/var/lib/kubelet/",
        "/etc/eks/",
        "/etc/systemd/system/kubelet.service.d/",
    ]) {
        &[Phase::Kubelet]
    } else if starts(&["/etc/sysctl.d/", "/etc/modules-load.d/"]) {
        &[Phase::Kernel]
    } else {
        // Links, the AWS configuration, units and environments of others: who reads
        // them does so each time.
        &[]
    }
}

/// Makes the files of the machine those of the node.
pub(super) fn write(work: &mut Work<'_>, node: &Node<'_>, _: &str) -> Result<(), Error> {
    let difference = Difference::find(work, node)?;
    if difference.is_none(work) {
        return Ok(());
    }
    // First it is noted what will be ours and who has to read it anew; then it is
    // written. Cut off in between, the next start does it all again.
    difference.announce(work)?;
    remove(work.system, &difference.obsolete)?;
    for (path, target) in &difference.links {
        link(work.system, path, target)?;
    }
    let new: Vec<NewFile<'_>> = difference
        .stale
        .iter()
        .map(|file| NewFile {
            path: &file.path,
            content: &file.content,
            mode: file.mode,
        })
        .collect();
    work.system.write_all(&new)?;
    work.journal.files = difference.wanted.iter().map(ToString::to_string).collect();
    work.info(&format!(
        "{} of {} files were written",
        difference.stale.len(),
        node.files.len()
    ));
    Ok(())
}

/// Removes files of ours: units among them are stopped before, and who reads the
/// others is told.
pub(super) fn remove(system: &dyn System, paths: &[String]) -> Result<(), Error> {
    for path in paths {
        if let Some(unit) = path.strip_prefix(UNITS)
            && !unit.contains('/')
            // Of a killed run the unit may be gone already: then there is nothing to stop.
            && system.status(path)?.is_some()
        {
            unit::retire(system, unit)?;
        }
        system.remove(path)?;
    }
    for folder in FOLDERS {
        let is_in_it = |path: &String| {
            let rest = path.strip_prefix(folder);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        if paths.iter().any(is_in_it) {
            system.remove_empty(folder)?;
        }
    }
    if paths.iter().any(|path| path.starts_with(MANAGER)) {
        unit::reload_manager(system)?;
    }
    if paths.iter().any(|path| path.starts_with(RESOLVER)) {
        unit::restart(system, name_resolution::RESOLVED)?;
    }
    Ok(())
}

fn link(system: &dyn System, path: &str, target: &str) -> Result<(), Error> {
    if system.status(path)?.is_some() && system.link_target(path)?.is_none() {
        // Somebody's folder: a link cannot take its place.
        system.rename(path, &format!("{path}{BEFORE}"))?;
    }
    Ok(system.link(path, target)?)
}
