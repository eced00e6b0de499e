use super::*;
use crate::system::Ended;
use crate::system::pretended::Pretended;

const ARRAY_DEVICE: &str = "/dev/md/kubernetes";

fn wanted(strategy: &str) -> LocalStorage {
    LocalStorage {
        strategy: strategy.into(),
        ..LocalStorage::default()
    }
}

fn wish(strategy: &str) -> Wish {
    Wish::new(&wanted(strategy)).unwrap().unwrap()
}

fn disks(contents: &[Content]) -> Vec<Disk> {
    let numbered = contents.iter().enumerate();
    numbered
        .map(|(index, content)| Disk {
            path: format!("/dev/d{index}"),
            content: content.clone(),
        })
        .collect()
}

fn xfs(label: &str) -> Content {
    Content::Xfs {
        label: label.into(),
        uuid: format!("uuid-of-{label}"),
    }
}

fn member(name: &str, array: &str) -> Content {
    Content::Member {
        name: name.into(),
        array: array.into(),
    }
}

fn other() -> Content {
    Content::Other("data of type \"ext4\"".into())
}

#[test]
fn what_a_nodeconfig_asks_for() {
    assert_eq!(Wish::new(&LocalStorage::default()).unwrap(), None);
    let raid = wish("RAID0");
    assert_eq!(raid.mount_path, DEFAULT_MOUNT_PATH);
    assert_eq!(raid.folders.len(), 4);
    assert!(wish("Mount").folders.is_empty());
    let given = LocalStorage {
        strategy: "raid10".into(),
        mount_path: "/data/".into(),
        disabled_mounts: vec!["Containerd".into(), "PodLogs".into(), "SOCI".into()],
    };
    let wish = Wish::new(&given).unwrap().unwrap();
    assert_eq!(wish.mount_path, "/data");
    let paths: Vec<&str> = wish.folders.iter().map(|it| it.path).collect();
    assert_eq!(paths, ["/var/lib/kubelet"]);
    for (strategy, path) in [
        ("RAID5", ""),
        ("RAID0", "data"),
        ("RAID0", "/a/../b"),
        ("Mount", "/"),
    ] {
        let given = LocalStorage {
            strategy: strategy.into(),
            mount_path: path.into(),
            disabled_mounts: Vec::new(),
        };
        assert_eq!(
            Wish::new(&given).unwrap_err().exit_code(),
            2,
            "{strategy} {path}"
        );
    }
}

#[test]
fn what_becomes_of_disks_for_an_array() {
    let ours = || member("kubernetes", "a");
    // Content, whether it was begun before, and whether the array is made anew;
    // none where the disks are refused.
    for (contents, undertaken, expected) in [
        (vec![Content::Nothing], false, Some(true)),
        (vec![Content::Nothing, Content::Nothing], false, Some(true)),
        (vec![ours(), ours()], false, Some(false)),
        (vec![ours(), Content::Nothing], false, None),
        (vec![ours(), Content::Nothing], true, Some(true)),
        (vec![ours(), member("kubernetes", "b")], false, None),
        (vec![member("data", "a"), member("data", "a")], false, None),
        (vec![member("data", "a")], true, None),
        (vec![other(), Content::Nothing], false, None),
        (vec![other(), Content::Nothing], true, None),
        (vec![xfs("k8s-disk-1")], false, None),
    ] {
        let found = layout(&wish("RAID0"), &disks(&contents), undertaken);
        let is_new = found
            .as_ref()
            .ok()
            .map(|it| it.array.as_ref().unwrap().is_new);
        assert_eq!(is_new, expected, "{contents:?} {undertaken}");
        if let Err(error) = found {
            assert_eq!(error.exit_code(), 4);
            assert!(error.hint().unwrap().contains("never does that"));
        }
    }
}

#[test]
fn raid10_needs_four_disks() {
    let three = vec![Content::Nothing; 3];
    let error = layout(&wish("RAID10"), &disks(&three), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "RAID10 needs at least 4 local disks, and there are 3"
    );
    let four = vec![Content::Nothing; 4];
    let array = layout(&wish("RAID10"), &disks(&four), false)
        .unwrap()
        .array
        .unwrap();
    assert_eq!((array.level, array.disks.len()), ("10", 4));
}

#[test]
fn single_disks_keep_their_numbers_whatever_they_are_called_today() {
    let contents = [
        xfs("k8s-disk-2"),
        Content::Nothing,
        xfs("k8s-disk-1"),
        Content::Nothing,
    ];
    let found = layout(&wish("Mount"), &disks(&contents), false).unwrap();
    let told: Vec<_> = found
        .file_systems
        .iter()
        .map(|it| {
            (
                it.mount_point.as_str(),
                it.label.as_str(),
                it.uuid.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("/mnt/k8s-disks/2", "k8s-disk-2", Some("uuid-of-k8s-disk-2")),
            ("/mnt/k8s-disks/3", "k8s-disk-3", None),
            ("/mnt/k8s-disks/1", "k8s-disk-1", Some("uuid-of-k8s-disk-1")),
            ("/mnt/k8s-disks/4", "k8s-disk-4", None),
        ]
    );
    for refused in [other(), xfs("data"), xfs(""), member("kubernetes", "a")] {
        assert!(layout(&wish("Mount"), &disks(&[refused]), false).is_err());
    }
    let twice = [xfs("k8s-disk-1"), xfs("k8s-disk-1")];
    assert!(layout(&wish("Mount"), &disks(&twice), false).is_err());
}

fn blkid(device: &str) -> String {
    format!("blkid --probe --output export {device}")
}

/// An instance with empty local disks, whose programs do what they are for.
fn instance(number: usize) -> Pretended {
    let system = Pretended::node();
    for index in 1..=number {
        let device = format!("/dev/nvme{index}n1");
        system.put(&device, b"", 0o660);
        let name = format!("/dev/disk/by-id/nvme-Amazon_EC2_NVMe_Instance_Storage_AWS{index}");
        system.links.borrow_mut().insert(name, device.clone());
        system.fails(&blkid(&device), "");
    }
    system.fails(&blkid(ARRAY_DEVICE), "");
    system.put("/var/lib/kubelet/state", b"kept", 0o600);
    system.hook.set(Some(play));
    system
}

/// Plays mdadm, mkfs.xfs, systemctl and the rest on a pretended machine.
fn play(system: &Pretended, line: &str) -> Option<Result<Ended, system::Error>> {
    let words: Vec<&str> = line.split(' ').collect();
    let last = *words.last()?;
    let looks = ["blkid", "systemctl is-active"];
    if !looks.iter().any(|it| line.starts_with(it))
        && let Err(error) = system.change("running", line)
    {
        return Some(Err(error));
    }
    let mut output = String::new();
    match &words[..] {
        ["mdadm", "--create", ..] => {
            for device in words.iter().filter(|it| it.starts_with("/dev/nvme")) {
                system.prints(
                    &blkid(device),
                    "TYPE=linux_raid_member\nLABEL=any:kubernetes\nUUID=a\n",
                );
            }
            system.put(ARRAY_DEVICE, b"", 0o660);
        }
        ["mdadm", "--assemble", ..] => system.put(ARRAY_DEVICE, b"", 0o660),
        ["mdadm", "--stop", device] => drop(system.files.borrow_mut().remove(*device)),
        ["wipefs", ..] => system.fails(&blkid(last), ""),
        ["mkfs.xfs", .., label, device] => {
            system.prints(
                &blkid(device),
                &format!("TYPE=xfs\nLABEL={label}\nUUID=u-{label}\n"),
            );
        }
        ["systemctl", "is-active", unit] => {
            let is_active = system.active.borrow().contains_key(*unit);
            output = if is_active { "active\n" } else { "inactive\n" }.into();
        }
        ["systemctl", "enable", "--now", unit] => {
            system.active.borrow_mut().insert((*unit).into(), 1);
        }
        ["mkdir", .., folder] => system.put(&format!("{folder}/."), b"", 0o755),
        ["rm", ..] => {
            let below = format!("{last}/");
            system
                .files
                .borrow_mut()
                .retain(|path, _| !path.starts_with(&below));
        }
        ["cp", .., from, to] => {
            let from = from.trim_end_matches('.');
            let copied: Vec<(String, Vec<u8>, u32)> = system
                .files
                .borrow()
                .iter()
                .filter_map(|(path, kept)| {
                    let rest = path.strip_prefix(from)?;
                    Some((format!("{to}/{rest}"), kept.content.clone(), kept.mode))
                })
                .collect();
            for (path, content, mode) in copied {
                system.put(&path, &content, mode);
            }
        }
        ["sync", ..] => {}
        _ => return None,
    }
    let success = !output.contains("inactive");
    let programs = system.programs.borrow().get(line).cloned();
    Some(Ok(programs.unwrap_or(Ended {
        success,
        output,
        errors: String::new(),
    })))
}

#[test]
fn nothing_is_done_where_nothing_is_asked_for_or_there() {
    let system = instance(2);
    assert_eq!(
        set_up(&system, &LocalStorage::default()).unwrap(),
        Outcome::NotAskedFor
    );
    assert_eq!(
        set_up(&Pretended::node(), &wanted("RAID0")).unwrap(),
        Outcome::NoDisks
    );
    assert!(system.commands.borrow().is_empty());
}

#[test]
fn an_array_is_made_and_the_state_of_the_node_moved_to_it() {
    let system = instance(2);
    system
        .active
        .borrow_mut()
        .insert("kubelet.service".into(), 1);
    let done = set_up(&system, &wanted("RAID0")).unwrap();
    let mounted = [
        "/mnt/k8s-disks/0",
        "/var/lib/kubelet",
        "/var/lib/containerd",
        "/var/lib/soci-snapshotter-grpc",
        "/var/log/pods",
    ];
    assert_eq!(
        done,
        Outcome::Done {
            mounted: mounted.map(str::to_owned).to_vec(),
            changed: true,
        }
    );
    let changing = |line: &&String| !line.starts_with("blkid") && !line.contains("is-active");
    let commands: Vec<String> = system
        .commands
        .borrow()
        .iter()
        .filter(changing)
        .cloned()
        .collect();
    insta::assert_snapshot!("commands_of_raid0", commands.join("\n"));
    let unit = |name: &str| {
        system
            .text(&format!("/etc/systemd/system/{name}.mount"))
            .unwrap()
    };
    insta::assert_snapshot!(
        "units_of_raid0",
        [unit("mnt-k8s\\x2ddisks-0"), unit("var-lib-kubelet"),].join("\n")
    );
    assert_eq!(
        system.text("/mnt/k8s-disks/0/kubelet/state").unwrap(),
        "kept"
    );
    assert!(system.active.borrow().contains_key("kubelet.service"));
}

#[test]
fn a_second_run_and_a_reboot_change_no_disk() {
    for strategy in ["RAID0", "RAID10", "Mount"] {
        let system = instance(4);
        set_up(&system, &wanted(strategy)).unwrap();
        let before = system.tree();
        system.changes.set(0);
        let again = set_up(&system, &wanted(strategy)).unwrap();
        assert!(
            matches!(again, Outcome::Done { changed: false, .. }),
            "{again:?}"
        );
        assert_eq!(system.changes.get(), 0);
        // Newer state than that below the mount, and an array that is not put together.
        system.put("/mnt/k8s-disks/0/kubelet/state", b"newer", 0o600);
        system.reboot();
        system.files.borrow_mut().remove(ARRAY_DEVICE);
        set_up(&system, &wanted(strategy)).unwrap();
        let commands = system.commands.borrow().join("\n");
        for never in ["mkfs", "--create", "wipefs", "cp "] {
            assert!(!commands.contains(never), "{strategy}: {commands}");
        }
        assert_eq!(
            system.text("/mnt/k8s-disks/0/kubelet/state").unwrap(),
            "newer"
        );
        assert_eq!(
            system.tree().len(),
            before.len() + usize::from(strategy == "Mount")
        );
    }
}

#[test]
fn killed_at_any_step_the_next_run_ends_with_the_same() {
    for strategy in ["RAID0", "Mount"] {
        let whole = instance(2);
        let Outcome::Done {
            mounted: expected, ..
        } = set_up(&whole, &wanted(strategy)).unwrap()
        else {
            panic!("it is not done");
        };
        let steps = whole.changes.get();
        assert!(steps > 5);
        for step in 0..steps {
            let system = instance(2);
            system.lives.set(Some(step));
            set_up(&system, &wanted(strategy)).unwrap_err();
            system.lives.set(None);
            let Outcome::Done { mounted, .. } = set_up(&system, &wanted(strategy)).unwrap() else {
                panic!("it is not done");
            };
            assert_eq!(mounted, expected, "at {step}");
            assert_eq!(system.tree(), whole.tree(), "{strategy} at {step}");
        }
    }
}

#[test]
fn an_array_of_which_one_disk_is_half_made_is_made_anew_only_if_we_began_it() {
    let system = instance(2);
    // Cut off before mdadm, which then had written to one disk.
    system.lives.set(Some(1));
    set_up(&system, &wanted("RAID0")).unwrap_err();
    system.lives.set(None);
    system.prints(
        &blkid("/dev/nvme1n1"),
        "TYPE=linux_raid_member\nLABEL=any:kubernetes\nUUID=a\n",
    );
    set_up(&system, &wanted("RAID0")).unwrap();
    assert_eq!(system.ran("wipefs --all --quiet /dev/nvme1n1"), 1);
    assert_eq!(system.ran("wipefs --all --quiet /dev/nvme2n1"), 0);
}

#[test]
fn a_disk_of_somebody_elses_is_refused_before_anything_is_changed() {
    let system = instance(2);
    system.prints(&blkid("/dev/nvme2n1"), "TYPE=ext4\nLABEL=data\n");
    for strategy in ["RAID0", "Mount"] {
        let error = set_up(&system, &wanted(strategy)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the local disk /dev/nvme2n1 holds data of type \"ext4\""
        );
    }
    assert_eq!(system.changes.get(), 0);
}

#[test]
fn what_a_program_says_when_it_fails_is_told() {
    let system = instance(1);
    let line = "mkfs.xfs -K -l su=8b -L k8s-disk-1 /dev/nvme1n1";
    system.fails(line, "mkfs.xfs: pwrite failed: Input/output error\n");
    let error = set_up(&system, &wanted("Mount")).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{line} failed: mkfs.xfs: pwrite failed: Input/output error")
    );
}

#[test]
fn a_link_that_a_failed_array_left_is_no_array() {
    let system = instance(2);
    let links = [("/dev/md/kubernetes".to_owned(), "/dev/md127".to_owned())];
    system.links.borrow_mut().extend(links);
    set_up(&system, &wanted("RAID0")).unwrap();
    assert_eq!(system.ran("mdadm --stop /dev/md/kubernetes"), 0);
}
