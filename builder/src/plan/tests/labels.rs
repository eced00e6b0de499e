//! The labels in plans for images with an SELinux policy.

use super::*;
use crate::os::selinux::ATTRIBUTE;

const FOLDER: &str = "/etc/selinux/targeted/contexts/files";
const CONTEXTS: &str = "/.* system_u:object_r:default_t:s0\n\
    /usr/bin(/.*)? system_u:object_r:bin_t:s0\n\
    /usr/libexec(/.*)? system_u:object_r:bin_t:s0\n\
    /usr/sbin/.* -l system_u:object_r:link_t:s0\n\
    /etc(/.*)? system_u:object_r:etc_t:s0\n\
    /etc/fstab <<none>>\n\
    /opt/cni -d system_u:object_r:cni_t:s0\n";

fn with_policy(mode: &str) -> MemoryVolume {
    debian()
        .with_file(
            "/etc/selinux/config",
            format!("SELINUX={mode}\nSELINUXTYPE=targeted\n"),
        )
        .and_then(|volume| volume.with_file(&format!("{FOLDER}/file_contexts"), CONTEXTS))
        .expect("builds")
}

fn label(plan: &Plan, path: &str) -> Option<String> {
    let entry = &plan.volumes[&Target::Root].entries[&fixed(path)];
    let value = entry.attributes.xattrs.get(ATTRIBUTE)?;
    Some(String::from_utf8(value.clone()).expect("ASCII"))
}

#[test]
fn everything_that_is_laid_has_its_label() {
    let (plan, _) = planned(with_policy("enforcing"), &profile(), Vec::new()).expect("plans");
    for (path, wanted) in [
        ("/usr/bin/kubelet", "system_u:object_r:bin_t:s0\0"),
        ("/usr/libexec/nodekiln", "system_u:object_r:bin_t:s0\0"),
        (
            "/usr/libexec/nodekiln/firstboot",
            "system_u:object_r:bin_t:s0\0",
        ),
        ("/usr/sbin/firstboot", "system_u:object_r:link_t:s0\0"),
        ("/opt/cni", "system_u:object_r:cni_t:s0\0"),
        ("/opt/cni/bin", "system_u:object_r:default_t:s0\0"),
        ("/etc/nodekiln-release", "system_u:object_r:etc_t:s0\0"),
        ("/etc/machine-id", "system_u:object_r:etc_t:s0\0"),
    ] {
        assert_eq!(label(&plan, path).as_deref(), Some(wanted), "{path}");
    }
    assert_eq!(label(&plan, "/etc/fstab"), None, "it keeps what it has");
}

#[test]
fn folders_of_first_boot_are_laid_where_they_would_get_another_label() {
    let laid = |local: &str| {
        let local_contexts = format!("{FOLDER}/file_contexts.local");
        let volume = with_policy("enforcing").with_file(&local_contexts, local);
        let volume = volume.expect("builds");
        planned(volume, &profile(), Vec::new()).expect("plans").0
    };
    let has = |plan: &Plan, path: &str| {
        let entries = &plan.volumes[&Target::Root].entries;
        entries.contains_key(&fixed(path))
    };
    let plan = laid("");
    assert!(!has(&plan, "/etc/kubernetes"), "its label is that of /etc");
    assert!(!has(&plan, "/var/log/pods"));
    // As container-selinux has it.
    let plan = laid(
        "/etc/kubernetes(/.*)? system_u:object_r:kubernetes_file_t:s0\n\
         /var/log/pods(/.*)? system_u:object_r:container_log_t:s0\n\
         /var/lib/containerd(/.*)? <<none>>\n",
    );
    for (path, wanted) in [
        (
            "/etc/kubernetes",
            "system_u:object_r:kubernetes_file_t:s0\0",
        ),
        ("/var/log/pods", "system_u:object_r:container_log_t:s0\0"),
    ] {
        assert_eq!(label(&plan, path).as_deref(), Some(wanted));
    }
    assert!(!has(&plan, "/etc/kubernetes/kubelet"), "its folder has it");
    assert!(!has(&plan, "/var/lib/containerd"), "no label is wanted");
}

#[test]
fn labels_are_part_of_the_build_key() {
    let key = |volume: MemoryVolume| {
        let (plan, _) = planned(volume, &profile(), Vec::new()).expect("plans");
        plan.key()
    };
    let other = with_policy("enforcing")
        .with_file(
            &format!("{FOLDER}/file_contexts.local"),
            "/usr/bin/kubelet u:r:t_t:s0\n",
        )
        .expect("builds");
    assert_ne!(key(with_policy("enforcing")), key(other));
}

#[test]
fn a_system_that_uses_no_selinux_gets_no_labels() {
    for volume in [debian(), with_policy("disabled")] {
        let (plan, _) = planned(volume, &profile(), Vec::new()).expect("plans");
        let mut entries = plan.volumes.values().flat_map(|it| it.entries.values());
        assert!(entries.all(|entry| entry.attributes.xattrs.is_empty()));
    }
    let (plan, _) = planned(with_policy("permissive"), &profile(), Vec::new()).expect("plans");
    assert!(label(&plan, "/usr/bin/kubelet").is_some());
}

#[test]
fn an_enforcing_system_without_a_policy_is_refused() {
    let volume = debian()
        .with_file("/etc/selinux/config", "SELINUX=enforcing\n")
        .expect("builds");
    let error = planned(volume, &profile(), Vec::new()).expect_err("would not start");
    assert_eq!(error.class(), Class::Input);
    assert!(error.to_string().contains("file_contexts"), "{error}");
}

#[test]
fn a_profile_cannot_change_the_policy() {
    let local = format!("{FOLDER}/file_contexts.local");
    for path in ["/etc/selinux/config", &local] {
        let laid = overlay("mine", path, file("SELINUX=permissive\n"));
        let error =
            planned(with_policy("enforcing"), &profile(), vec![laid]).expect_err("is refused");
        assert_eq!(error.class(), Class::Unsupported);
        assert!(error.to_string().contains(path), "{error}");
        assert!(error.hint_text().is_some());
    }
}
