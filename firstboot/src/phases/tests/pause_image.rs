//! The pause image out of the machine's own image.

use super::*;

const IMAGE: &str = "localhost/pause:3.10";
const ARCHIVE: &str = "/etc/nodekiln/sandbox-image.tar";

fn warnings(machine: &Pretended) -> Vec<String> {
    let said = machine.said.borrow();
    let about = |line: &&String| line.starts_with("<4>") && line.contains(IMAGE);
    said.iter().filter(about).cloned().collect()
}

#[test]
fn an_archive_is_imported_once_and_pinned() {
    let machine = machine();
    machine.put(ARCHIVE, IMAGE.as_bytes(), 0o644);
    work_with(&machine, &sample()).unwrap();
    assert_eq!(machine.images.borrow().get(IMAGE), Some(&true));
    assert_eq!(warnings(&machine), [""; 0]);
    let import = format!("ctr --namespace k8s.io images import {ARCHIVE}");
    assert_eq!(machine.ran(&import), 1);
    machine.changes.set(0);
    work_with(&machine, &sample()).unwrap();
    assert_eq!(machine.ran(&import), 1);
    assert_eq!(machine.changes.get(), 0);
    // A store that was lost, as with an instance's own disks, is filled again.
    machine.images.borrow_mut().clear();
    work_with(&machine, &sample()).unwrap();
    assert_eq!(machine.images.borrow().get(IMAGE), Some(&true));
}

#[test]
fn an_image_in_the_store_is_left_alone() {
    let machine = machine();
    machine.images.borrow_mut().insert(IMAGE.into(), false);
    work_with(&machine, &sample()).unwrap();
    assert_eq!(machine.images.borrow().get(IMAGE), Some(&false));
    assert_eq!(warnings(&machine), [""; 0]);
}

#[test]
fn without_the_image_the_node_is_told_of_and_not_stopped() {
    type Damage = fn(&Pretended);
    let damages: [(Damage, &str); 4] = [
        (|_| {}, "neither in containerd's store nor at"),
        (
            |machine| machine.put(ARCHIVE, b"another:1", 0o644),
            "does not hold the image",
        ),
        (
            |machine| {
                machine.fails(
                    "ctr --namespace k8s.io images check name==localhost/pause:3.10",
                    "no such socket",
                );
            },
            "asking for it failed: no such socket",
        ),
        (
            |machine| machine.remove("/usr/bin/ctr").unwrap(),
            "running ctr",
        ),
    ];
    for (damage, text) in damages {
        let machine = machine();
        damage(&machine);
        work_with(&machine, &sample()).unwrap();
        let said = warnings(&machine);
        assert!(
            said.len() == 1 && said[0].contains(text),
            "{text}: {said:?}"
        );
        assert!(machine.active.borrow().contains_key("kubelet.service"));
    }
}
