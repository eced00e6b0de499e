//! Journals that cannot be read.

use super::*;

#[test]
fn an_unreadable_journal_does_not_stop_a_node_for_ever() {
    const PKI: &str = "/var/lib/kubelet/pki/kubelet-server-current.pem";
    for content in ["{\"version\": 1, \"mach", "", "{\"version\": 99}"] {
        for lives in 0..6 {
            let machine = machine();
            work_with(&machine, &sample()).unwrap();
            machine.put(PKI, b"somebody's", 0o600);
            machine.put(JOURNAL, content.as_bytes(), 0o600);
            machine.reboot();
            machine.lives.set(Some(lives));
            work_with(&machine, &sample()).ok();
            machine.lives.set(None);
            work_with(&machine, &sample()).unwrap();
            // It cannot be known whose it was, so it is not used.
            assert!(machine.text(PKI).is_none(), "{content} {lives}");
            assert!(matches!(status(&machine).unwrap(), Status::Done { .. }));
        }
    }
}
