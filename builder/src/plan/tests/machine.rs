//! A small Debian in memory, and a profile, a lock and plans for it.

use std::collections::BTreeMap;

use crate::lock::model::{LockedComponent, LockedFile, LockedMember, LockedProfile, Origin};
use crate::os::{Image, detect, tree::fixed};
use crate::plan::overlay::{Overlay, OverlayEntry, OverlayNode};
use crate::plan::*;
use crate::profile::model::{ComponentName, ComponentSource, Profile, Ssh, User};
use crate::volume::model::MemoryVolume;
use crate::volume::{FileSystem, Volume};

/// 20 bytes that say "a program for x86-64".
pub(crate) fn program() -> Vec<u8> {
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(20, 0);
    head[18] = 62;
    head
}

pub(crate) fn debian() -> MemoryVolume {
    let build = || -> crate::Result<MemoryVolume> {
        let mut volume = MemoryVolume::new()
            .with_file(
                "/etc/os-release",
                "ID=debian\nVERSION_ID=12\nPRETTY_NAME=\"Debian 12\"\n",
            )?
            .with_link("/bin", "usr/bin")?
            .with_link("/sbin", "usr/sbin")?
            .with_link("/lib", "usr/lib")?
            .with_directory("/dev")?
            .with_directory("/etc/default/grub.d")?
            .with_directory("/etc/sudoers.d")?
            .with_file("/etc/sudoers", "")?
            .with_file(
                "/etc/ssh/sshd_config",
                "Include /etc/ssh/sshd_config.d/*.conf\n",
            )?
            .with_file("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\n")?
            .with_file("/etc/shadow", "root:*:19700:0:99999:7:::\n")?
            .with_file("/etc/group", "root:x:0:\nadm:x:4:syslog\nsudo:x:27:\n")?
            .with_file("/etc/gshadow", "root:*::\nadm:*::syslog\nsudo:*::\n")?
            .with_file("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")?
            .with_file(
                "/etc/fstab",
                "LABEL=root / ext4 defaults 0 1\n/swap none swap sw 0 0\n",
            )?
            .with_file("/var/log/dpkg.log", "installed\n")?
            .with_file("/var/log/dpkg.log.1.gz", "x")?
            .with_file(
                "/boot/grub/grub.cfg",
                "menuentry 'x' {\n linux /vmlinuz ro quiet\n}\n",
            )?
            .with_file("/usr/lib/systemd/systemd", program())?
            .with_file(
                "/usr/lib/modules/6.1.0/modules.dep",
                "kernel/net/bridge/br_netfilter.ko: \nkernel/net/bridge/bridge.ko:\n\
                 kernel/drivers/net/veth.ko:\nkernel/net/netfilter/nf_conntrack.ko:\n\
                 kernel/net/netfilter/nf_nat.ko:\nkernel/net/netfilter/nf_tables.ko:\n",
            )?
            .with_file(
                "/usr/lib/modules/6.1.0/modules.builtin",
                "kernel/fs/overlayfs/overlay.ko\n",
            )?
            .with_file("/usr/lib/cni/loopback", program())?
            .with_file(
                "/usr/lib/systemd/system/containerd.service",
                "[Install]\nWantedBy=multi-user.target\n",
            )?;
        for path in [
            "/usr/bin/bash",
            "/usr/bin/sh",
            "/usr/sbin/iptables",
            "/usr/bin/containerd",
            "/usr/sbin/runc",
            "/usr/lib/cni/loopback",
        ] {
            volume = volume.with_file(path, program())?;
            let mut metadata = volume
                .metadata(&fixed(path))?
                .expect("just written")
                .attributes;
            metadata.mode = 0o755;
            volume.set_attributes(&fixed(path), &metadata)?;
        }
        Ok(volume)
    };
    build().expect("a small image")
}

pub(crate) fn image(volume: MemoryVolume) -> Image {
    let root: Box<dyn Volume> = Box::new(volume);
    Image::new([(Target::Root, root)].into()).expect("has a root")
}

pub(crate) fn profile() -> Profile {
    let text = r#"{
        "apiVersion": "nodekiln.dev/v1alpha1", "kind": "ImageProfile",
        "metadata": {"name": "demo", "variables": {"greeting": "hello"}},
        "spec": {
            "base": {"path": "base.raw"},
            "kubernetes": {"version": "1.34.4"},
            "credentialProvider": "iam-ra"
        }
    }"#;
    let mut profile: Profile = serde_json::from_str(text).expect("a profile");
    let from_base = ComponentSource {
        from_base: true,
        ..ComponentSource::default()
    };
    for name in [
        ComponentName::Containerd,
        ComponentName::Runc,
        ComponentName::CniPlugins,
    ] {
        profile
            .spec
            .kubernetes
            .components
            .insert(name, from_base.clone());
    }
    profile
}

pub(crate) fn locked() -> LockedProfile {
    let file = LockedFile {
        origin: Origin::Url("https://example.com/kubelet".to_owned()),
        sha256: Content::inline(program()).sha256,
        size: 20,
        trust: "sha256 in the profile".to_owned(),
    };
    let member = LockedMember {
        sha256: file.sha256,
        size: 20,
        destination: fixed("/usr/bin/kubelet"),
        mode: "0755".to_owned(),
    };
    LockedProfile {
        inputs: file.sha256,
        base_inputs: file.sha256,
        architecture: Architecture::X86_64,
        base: file.clone(),
        components: [(
            ComponentName::Kubelet,
            LockedComponent {
                file,
                members: [("kubelet".to_owned(), member)].into(),
            },
        )]
        .into(),
        packages: Vec::new(),
    }
}

pub(crate) fn overlay(name: &str, path: &str, node: OverlayNode) -> Overlay {
    let entry = OverlayEntry {
        node,
        origin: format!("{name}{path}"),
    };
    Overlay {
        name: name.to_owned(),
        entries: [(fixed(path), entry)].into(),
    }
}

pub(crate) fn file(text: &str) -> OverlayNode {
    OverlayNode::File {
        content: Content::inline(text),
        executable: false,
    }
}

pub(crate) fn template(text: &str) -> OverlayNode {
    OverlayNode::Template {
        text: text.to_owned(),
        executable: false,
    }
}

pub(crate) fn firstboot_unit() -> Overlay {
    overlay(
        "linux",
        "/etc/systemd/system/nodekiln-firstboot.service",
        file("[Install]\nWantedBy=multi-user.target\n"),
    )
}

pub(crate) fn planned(
    volume: MemoryVolume,
    profile: &Profile,
    overlays: Vec<Overlay>,
) -> crate::Result<(Plan, Image)> {
    let mut image = image(volume);
    let os = detect(&mut image)?;
    let overlays: Vec<Overlay> = [vec![firstboot_unit()], overlays].concat();
    let root = Partition::new(1, FileSystem::Ext4);
    let inputs = Inputs {
        kubelet_version: Some("1.34.4".to_owned()),
        profile,
        locked: &locked(),
        os: &os,
        partitions: BTreeMap::from([(Target::Root, root)]),
        packages: &[],
        overlays: &overlays,
        firstboot: Content::inline("first boot"),
        epoch: 1_700_000_000,
        disk_size: None,
    };
    let plan = compute(&inputs, &mut image)?;
    Ok((plan, image))
}

pub(crate) fn text_at(plan: &Plan, path: &str) -> String {
    match &plan.volumes[&Target::Root].entries[&fixed(path)].node {
        Node::File {
            content:
                Content {
                    source: Source::Inline(bytes),
                    ..
                },
        } => String::from_utf8(bytes.clone()).expect("text"),
        other => panic!("{path} is {other:?}"),
    }
}

pub(crate) fn full_profile() -> Profile {
    let mut profile = profile();
    let spec = &mut profile.spec;
    spec.kernel.modules = vec!["br_netfilter".to_owned(), "overlay".to_owned()];
    spec.kernel.sysctl = [("vm.max_map_count".to_owned(), "262144".to_owned())].into();
    spec.kernel.command_line = vec!["-quiet".to_owned(), "panic=10".to_owned()];
    spec.services.enable = vec!["containerd".to_owned()];
    spec.users = vec![User {
        name: "ops".to_owned(),
        uid: None,
        groups: vec!["adm".to_owned()],
        shell: "/bin/bash".to_owned(),
        ssh_authorized_keys: vec!["ssh-ed25519 AAAA ops".to_owned()],
        sudo: true,
    }];
    spec.ssh = Some(Ssh {
        password_authentication: false,
        permit_root_login: false,
    });
    profile
}
