//! The profile's wish as a preset (systemd.preset(5)): the first line that matches
//! a unit decides.

use std::collections::BTreeMap;

use super::unit::UnitName;
use crate::error::Result;
use crate::profile::model::Services;

/// Started by the first-boot program, never by itself.
const KUBELET: &str = "kubelet.service";

/// The text of the preset.
///
/// # Errors
/// [`crate::Class::Input`] for a name that is none of a unit.
pub(super) fn text(wish: &Services) -> Result<String> {
    let mut text = "# The services that the profile of this image asks for.\n".to_owned();
    let mut instances: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in &wish.enable {
        let name = UnitName::parse(name)?;
        match (name.template(), name.instance()) {
            (Some(template), Some(instance)) => instances
                .entry(template.as_str().to_owned())
                .or_default()
                .push(instance.to_owned()),
            _ => text += &format!("enable {}\n", name.as_str()),
        }
    }
    for (template, instances) in instances {
        text += &format!("enable {template} {}\n", instances.join(" "));
    }
    for name in wish.disable.iter().chain(&wish.mask) {
        text += &format!("disable {}\n", UnitName::parse(name)?.as_str());
    }
    text += &format!("disable {KUBELET}\n");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Task;

    #[test]
    fn a_first_boot_of_systemd_undoes_nothing() {
        let root = tempfile::tempdir().expect("folder");
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        let unit = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n";
        for name in ["wanted", "kubelet", "unwanted", "other", "each@"] {
            put(&format!("usr/lib/systemd/system/{name}.service"), unit);
        }
        // Against the wish, where it has one.
        put(
            "usr/lib/systemd/system-preset/50-vendor.preset",
            "enable unwanted.service\nenable kubelet.service\nenable other.service\ndisable *\n",
        );
        let wish = Services {
            enable: vec!["wanted".to_owned(), "each@one.service".to_owned()],
            disable: vec!["unwanted".to_owned()],
            ..Services::default()
        };
        put(&super::super::PRESET[1..], &text(&wish).expect("names"));
        Task::new("systemctl")
            .arg(format!("--root={}", root.path().display()))
            .arg("preset-all")
            .output()
            .expect("applied");
        let links = root
            .path()
            .join("etc/systemd/system/multi-user.target.wants");
        let mut names: Vec<_> = std::fs::read_dir(links)
            .expect("links")
            .map(|entry| entry.expect("read").file_name())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["each@one.service", "other.service", "wanted.service"]
        );
    }
}
