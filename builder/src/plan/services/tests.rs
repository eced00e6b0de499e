use super::super::draft::Draft;
use super::super::{Node, Partition, Target};
use super::*;
use crate::os::Image;
use crate::volume::model::MemoryVolume;
use crate::volume::{FileSystem, Volume};

fn base() -> Result<MemoryVolume> {
    MemoryVolume::new()
        .with_link("/lib", "usr/lib")?
        .with_directory("/dev")?
        .with_file(
            "/usr/lib/systemd/system/ssh.service",
            "[Install]\nWantedBy=multi-user.target\nAlias=sshd.service\n",
        )?
        .with_file(
            "/usr/lib/systemd/system/getty@.service",
            "[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n",
        )?
        .with_file(
            "/usr/lib/systemd/system/a.service",
            "[Install]\nAlso=a.socket absent.socket\n",
        )?
        .with_file(
            "/usr/lib/systemd/system/a.socket",
            "[Install]\nWantedBy=sockets.target\n",
        )?
        .with_file("/usr/lib/systemd/system/static.service", "[Service]\n")?
        .with_link(
            "/etc/systemd/system/multi-user.target.wants/cron.service",
            "/lib/systemd/system/cron.service",
        )?
        .with_file(
            "/usr/lib/systemd/system/cron.service",
            "[Install]\nWantedBy=multi-user.target\n",
        )
}

/// The links and removals that `wish` leads to, as lines.
fn changes(wish: &Services) -> Result<Vec<String>> {
    let root: Box<dyn Volume> = Box::new(base()?);
    let mut image = Image::new([(Target::Root, root)].into())?;
    let mut draft = Draft::new(&mut image, 0);
    plan(&mut draft, wish)?;
    let root = Partition::new(1, FileSystem::Ext4);
    let volumes = draft.into_volumes(&[(Target::Root, root)].into());
    let changes = &volumes[&Target::Root];
    let removed = changes.removals.keys().map(|path| format!("- {path}"));
    let links = changes
        .entries
        .iter()
        .filter_map(|(path, entry)| match &entry.node {
            Node::Symlink { target } => Some(format!("+ {path} -> {target}")),
            _ => None,
        });
    Ok(removed.chain(links).collect())
}

fn enable(names: &[&str]) -> Services {
    Services {
        enable: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Services::default()
    }
}

#[test]
fn enables_with_aliases_instances_and_also() {
    let found = changes(&enable(&[
        "ssh",
        "getty@.service",
        "getty@ttyS0.service",
        "a",
    ]));
    assert_eq!(
        found.expect("all are known"),
        [
            "+ /etc/systemd/system/getty.target.wants/getty@tty1.service -> /lib/systemd/system/getty@.service",
            "+ /etc/systemd/system/getty.target.wants/getty@ttyS0.service -> /lib/systemd/system/getty@.service",
            "+ /etc/systemd/system/multi-user.target.wants/ssh.service -> /lib/systemd/system/ssh.service",
            "+ /etc/systemd/system/sockets.target.wants/a.socket -> /lib/systemd/system/a.socket",
            "+ /etc/systemd/system/sshd.service -> /lib/systemd/system/ssh.service",
        ]
    );
    assert!(
        changes(&enable(&["cron"]))
            .expect("is enabled already")
            .is_empty()
    );
}

#[test]
fn disables_with_the_folder_that_is_empty_then() {
    let wish = Services {
        disable: vec!["cron.service".to_owned()],
        mask: vec!["apt-daily.timer".to_owned()],
        ..Services::default()
    };
    assert_eq!(
        changes(&wish).expect("known"),
        [
            "- /etc/systemd/system/multi-user.target.wants",
            "+ /etc/systemd/system/apt-daily.timer -> /dev/null",
        ]
    );
    let wish = Services {
        disable: vec!["cron".to_owned()],
        ..enable(&["ssh"])
    };
    let found = changes(&wish).expect("one goes, one comes");
    assert_eq!(
        found[0],
        "- /etc/systemd/system/multi-user.target.wants/cron.service"
    );
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn says_what_is_wrong_and_what_was_meant() {
    let error = changes(&enable(&["shh.service"])).expect_err("unknown");
    assert_eq!(error.hint_text(), Some("did you mean ssh.service?"));
    let error = changes(&enable(&["static"])).expect_err("no [Install]");
    assert!(error.to_string().contains("[Install]"), "{error}");
    let both = Services {
        mask: vec!["ssh".to_owned()],
        ..enable(&["ssh"])
    };
    let error = changes(&both).expect_err("masked");
    assert!(error.to_string().contains("masked"), "{error}");
}
