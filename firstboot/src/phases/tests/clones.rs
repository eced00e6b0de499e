//! Machines whose disk is a copy of another's.

use super::*;

#[test]
fn a_clone_starts_anew_and_never_as_the_other() {
    let original = machine();
    work_with(&original, &sample()).unwrap();
    let copy = || {
        let machine = machine();
        *machine.files.borrow_mut() = original.files.borrow().clone();
        *machine.enabled.borrow_mut() = original.enabled.borrow().clone();
        machine.put(
            "/var/lib/kubelet/pki/kubelet-server-current.pem",
            b"its own",
            0o600,
        );
        machine.put(
            "/etc/machine-id",
            b"ffffffffffffffffffffffffffffffff\n",
            0o444,
        );
        machine
    };
    let clone = copy();
    work_with(&clone, &sample()).unwrap();
    assert!(
        clone
            .text("/var/lib/kubelet/pki/kubelet-server-current.pem")
            .is_none()
    );
    assert_eq!(clone.ran("systemctl restart systemd-sysctl.service"), 1);

    // Without a NodeConfig of its own the kubelet cannot even start.
    let lost = copy();
    start(&lost, &nothing_found).unwrap_err();
    assert!(lost.text("/etc/eks/kubelet/environment").is_none());
    assert!(
        lost.text("/var/lib/kubelet/pki/kubelet-server-current.pem")
            .is_none()
    );

    for lives in 0..8 {
        let clone = copy();
        clone.lives.set(Some(lives));
        work_with(&clone, &sample()).unwrap_err();
        clone.lives.set(None);
        work_with(&clone, &sample()).unwrap();
        assert!(
            clone
                .text("/var/lib/kubelet/pki/kubelet-server-current.pem")
                .is_none(),
            "{lives}"
        );
        assert_eq!(clone.tree(), {
            let clone = copy();
            work_with(&clone, &sample()).unwrap();
            clone.tree()
        });
    }

    // The firmware alone tells a copy, too; that it cannot be read tells nothing.
    let moved = copy();
    moved.put(
        "/etc/machine-id",
        b"0123456789abcdef0123456789abcdef\n",
        0o444,
    );
    moved.put("/sys/class/dmi/id/product_uuid", b"another", 0o400);
    work_with(&moved, &sample()).unwrap();
    assert!(
        moved
            .text("/var/lib/kubelet/pki/kubelet-server-current.pem")
            .is_none()
    );
    let same = copy();
    same.put(
        "/etc/machine-id",
        b"0123456789abcdef0123456789abcdef\n",
        0o444,
    );
    same.remove("/sys/class/dmi/id/product_uuid").unwrap();
    work_with(&same, &sample()).unwrap();
    assert!(
        same.text("/var/lib/kubelet/pki/kubelet-server-current.pem")
            .is_some()
    );
}
