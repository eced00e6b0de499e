//! Plans of a small image in memory, whole and in their parts.

mod labels;
pub(crate) mod machine;

use machine::*;

use super::*;
use crate::error::Class;
use crate::os::{Image, detect, tree::fixed};
use crate::profile::model::{ComponentName, ComponentSource, CredentialProvider, Profile};
use crate::volume::model::MemoryVolume;
use crate::volume::{FileSystem, Volume};

#[test]
fn the_whole_plan_reads_well() {
    let (plan, mut image) = planned(debian(), &full_profile(), Vec::new()).expect("plans");
    let changes = text::changes(&plan, &mut image).expect("reads");
    let rendered = text::render(&plan, &changes);
    // The key is in it by its hash, which changes with every release.
    let rendered = rendered.replace(&plan.key().to_string(), "KEY");
    insta::assert_snapshot!(rendered);
}

#[test]
fn writes_what_nodeadm_looks_for() {
    let (plan, _) = planned(debian(), &profile(), Vec::new()).expect("plans");
    assert_eq!(
        text_at(&plan, "/opt/nodeadm/tracker"),
        "Artifacts:\n  CniPlugins: true\n  Containerd: none\n  IamAuthenticator: false\n  IamRolesAnywhere: false\n  ImageCredentialProvider: false\n  Iptables: false\n  Kubectl: false\n  Kubelet: true\n  Ssm: false\n"
    );
    let unit = text_at(&plan, "/etc/systemd/system/kubelet.service");
    assert!(unit.contains("    $NODEADM_KUBELET_ARGS\\\n    $KUBELET_EXTRA_ARGS\n"));
    let entries = &plan.volumes[&Target::Root].entries;
    assert!(
        !entries
            .keys()
            .any(|path| path.to_string().ends_with("wants/kubelet.service")),
        "the kubelet is enabled by first boot, not by the bake"
    );
    assert_eq!(
        entries[&fixed("/opt/cni/bin/loopback")].node,
        Node::Symlink {
            target: "/usr/lib/cni/loopback".to_owned()
        }
    );
}

#[test]
fn configures_the_ssm_agent_and_keeps_what_is_there() {
    let mut profile = profile();
    profile.spec.credential_provider = CredentialProvider::Ssm;
    let path = "/etc/amazon/ssm/amazon-ssm-agent.json";
    let (plan, _) = planned(debian(), &profile, Vec::new()).expect("plans");
    assert_eq!(
        text_at(&plan, path),
        "{\n    \"Ssm\": {\n        \"CredentialRetryMaxSleepSeconds\": 60\n    }\n}"
    );
    assert_eq!(
        plan.volumes[&Target::Root].entries[&fixed(path)]
            .attributes
            .mode,
        0o600
    );
    let base = debian()
        .with_file(path, r#"{"Profile": {"ShareCreds": true}, "Ssm": {"RunCommandLogsRetentionDurationHours": 5}}"#)
        .expect("builds");
    let (plan, _) = planned(base, &profile, Vec::new()).expect("plans");
    let text = text_at(&plan, path);
    assert!(
        text.contains("ShareCreds") && text.contains("Hours\": 5") && text.contains(": 60"),
        "{text}"
    );
    let base = debian().with_file(path, "[]").expect("builds");
    assert!(planned(base, &profile, Vec::new()).is_err());
}

#[test]
fn the_key_follows_every_input_and_nothing_else() {
    let key =
        |profile: &Profile, overlays| planned(debian(), profile, overlays).expect("plans").0.key();
    let first = key(&profile(), Vec::new());
    assert_eq!(first, key(&profile(), Vec::new()));
    let one = |text: &str| vec![overlay("site", "/etc/motd", file(text))];
    assert_ne!(key(&profile(), one("a")), key(&profile(), one("b")));
    let mut other = profile();
    other.spec.kubernetes.version = "1.34.5".to_owned();
    assert_ne!(
        first,
        key(&other, Vec::new()),
        "the manifest tells the version"
    );
    let (plan, _) = planned(debian(), &profile(), Vec::new()).expect("plans");
    let release = text_at(&plan, release::RELEASE_PATH);
    assert!(
        release.contains(&format!("BUILD_KEY=\"{first}\"\n")),
        "{release}"
    );
}

#[test]
fn templates_know_the_profile_and_their_errors_the_place() {
    let wanted = template("{{ greeting }} from {{ name }} {{ version }} {{ architecture }}\n");
    let (plan, _) = planned(
        debian(),
        &profile(),
        vec![overlay("site", "/etc/motd.tmpl", wanted)],
    )
    .expect("plans");
    assert_eq!(
        text_at(&plan, "/etc/motd"),
        "hello from demo 1.34.4 x86_64\n"
    );

    let wrong = template("first\n  {{ greting }}\n");
    let error = planned(
        debian(),
        &profile(),
        vec![overlay("site", "/etc/motd.tmpl", wrong)],
    )
    .expect_err("unknown name");
    let place = error.place().expect("has a place");
    assert_eq!((place.line, place.source.as_str()), (2, "  {{ greting }}"));
    assert!(place.column > 2, "{place:?}");
    assert_eq!(place.file, "site/etc/motd.tmpl");
    assert!(error.hint_text().expect("hint").contains("greeting"));

    let endless = template(
        "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
    );
    assert!(
        planned(
            debian(),
            &profile(),
            vec![overlay("site", "/x.tmpl", endless)]
        )
        .is_err()
    );
}

#[test]
fn overlays_may_share_but_not_contradict() {
    // The file in the overlay, and why it cannot be laid.
    let told = |error: &crate::Error| format!("{error:?}");
    let same = |name| overlay(name, "/etc/motd", file("same"));
    planned(debian(), &profile(), vec![same("one"), same("two")]).expect("identical");

    let error = planned(
        debian(),
        &profile(),
        vec![same("one"), overlay("two", "/etc/motd", file("other"))],
    )
    .expect_err("contradiction");
    assert!(
        told(&error).contains("overlay one") && told(&error).contains("overlay two"),
        "{error}"
    );

    let error = planned(
        debian(),
        &profile(),
        vec![overlay("site", "/bin/kubelet", file("mine"))],
    )
    .expect_err("a component is there, by another name");
    assert!(told(&error).contains("component kubelet"), "{error}");

    let error = planned(
        debian(),
        &profile(),
        vec![overlay("site", "/etc/passwd/x", file("mine"))],
    )
    .expect_err("the parent is a file");
    assert!(told(&error).contains("is a file"), "{error}");

    let error = planned(
        debian(),
        &profile(),
        vec![overlay("site", "/etc", file("mine"))],
    )
    .expect_err("a folder");
    assert!(told(&error).contains("folder"), "{error}");
}

#[test]
fn a_path_through_a_link_stays_in_the_image() {
    let base = debian()
        .with_link("/srv/out", "../../../../../../opt/in")
        .expect("builds");
    let (plan, _) = planned(
        base,
        &profile(),
        vec![overlay("site", "/srv/out/x", file("y"))],
    )
    .expect("plans");
    assert!(
        plan.volumes[&Target::Root]
            .entries
            .contains_key(&fixed("/opt/in/x"))
    );
}

#[test]
fn nothing_of_one_machine_can_be_baked() {
    for path in [
        "/etc/ssh/ssh_host_rsa_key",
        "/etc/machine-id",
        "/root/.aws/credentials",
        "/var/lib/amazon/ssm/registration",
    ] {
        let error = planned(
            debian(),
            &profile(),
            vec![overlay("site", path, file("identity"))],
        )
        .expect_err(path);
        assert_eq!(error.class(), Class::Input, "{error}");
        assert!(error.to_string().contains("overlay site"), "{error}");
    }
}

#[test]
fn traces_of_people_and_of_storage_go() {
    let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n";
    let paths = [
        ("/etc/iscsi/initiatorname.iscsi", "InitiatorName=x"),
        ("/etc/nvme/hostnqn", "nqn"),
        ("/etc/nvme/hostid", "id"),
        ("/root/.ssh/id_ed25519", key),
        ("/home/ubuntu/.ssh/deploy", key),
        ("/home/ubuntu/.zsh_history", "x"),
        ("/home/ubuntu/.python_history", "x"),
        ("/root/.lesshst", "x"),
        ("/home/ubuntu/.viminfo", "x"),
        ("/home/ubuntu/.wget-hsts", "x"),
    ];
    let mut volume = debian()
        .with_file("/root/.ssh/config", "Host *\n")
        .expect("writable");
    for (path, text) in paths {
        volume = volume.with_file(path, text).expect("writable");
    }
    let (plan, _) = planned(volume, &profile(), Vec::new()).expect("plans");
    let removals = &plan.volumes[&Target::Root].removals;
    for (path, _) in paths {
        assert!(removals.contains_key(&fixed(path)), "{path}");
    }
    assert!(!removals.contains_key(&fixed("/root/.ssh/config")));
}

#[test]
fn passwords_of_the_base_are_locked_beside_users_of_the_profile() {
    let volume = debian()
        .with_file("/etc/shadow", "root:$6$s$digest:19700:0:99999:7:::\n")
        .expect("writable");
    let (plan, _) = planned(volume, &full_profile(), Vec::new()).expect("plans");
    assert_eq!(
        text_at(&plan, "/etc/shadow"),
        "root:!:19700:0:99999:7:::\nops:!:::::::\n"
    );
}

#[test]
fn who_becomes_root_by_the_word_of_the_profile_is_told_in_the_manifest() {
    let rule = "%ops ALL=(ALL) NOPASSWD: ALL\n";
    let of_overlay = overlay("site", "/etc/sudoers.d/ops", file(rule));
    let volume = debian()
        .with_file("/etc/sudoers.d/packer", "packer ALL=(ALL) NOPASSWD: ALL\n")
        .expect("writable");
    let (plan, _) = planned(volume, &full_profile(), vec![of_overlay]).expect("plans");
    let removals = &plan.volumes[&Target::Root].removals;
    assert!(removals.contains_key(&fixed("/etc/sudoers.d/packer")));
    let text = text_at(&plan, release::MANIFEST_PATH);
    let manifest = crate::report::Manifest::parse(text.as_bytes()).expect("a manifest");
    let paths: Vec<&str> = manifest.exceptions.keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        [
            "/etc/sudoers.d/90-nodekiln-ops",
            "/etc/sudoers.d/ops",
            "/home/ops/.ssh/authorized_keys",
        ]
    );
    assert_eq!(
        manifest.exceptions["/etc/sudoers.d/ops"],
        Content::inline(rule).sha256.to_string()
    );
}

#[test]
fn an_overlay_may_configure_a_network_that_names_a_card() {
    let card = "/etc/netplan/10-storage.yaml";
    let text = "network:\n  ethernets:\n    storage:\n      match:\n        \
                macaddress: 52:54:00:10:01:11\n";
    let laid = overlay("site", card, file(text));
    let (plan, _) = planned(debian(), &profile(), vec![laid]).expect("plans");
    assert!(
        plan.volumes[&Target::Root]
            .entries
            .contains_key(&fixed(card))
    );
    assert!(plan.exceptions.contains_key(&fixed(card)));
}

#[test]
fn what_stops_a_first_boot_goes() {
    let volume = debian().with_file("/.autorelabel", "").expect("writable");
    let (plan, _) = planned(volume, &profile(), Vec::new()).expect("plans");
    let reason = &plan.volumes[&Target::Root].removals[&fixed("/.autorelabel")];
    assert_eq!(reason, "hygiene: first-boot-traps");
}

#[test]
fn first_boot_need_not_ask_the_kubelet_its_version() {
    let (plan, _) = planned(debian(), &profile(), Vec::new()).expect("plans");
    let entries = &plan.volumes[&Target::Root].entries;
    assert_eq!(
        text_at(&plan, "/etc/eks/kubelet-version.txt"),
        "Kubernetes v1.34.4\n"
    );
    assert!(!entries.contains_key(&fixed("/etc/eks/containerd-version.txt")));
    // First boot believes it unless the kubelet is newer.
    let modified = |path| entries[&fixed(path)].attributes.modified;
    assert!(modified("/etc/eks/kubelet-version.txt") >= modified("/usr/bin/kubelet"));
}

#[test]
fn says_what_the_base_lacks() {
    let mut profile = profile();
    profile.spec.kernel.modules = vec!["br_netfilte".to_owned()];
    let error = planned(debian(), &profile, Vec::new()).expect_err("no such module");
    assert_eq!(error.hint_text(), Some("did you mean br_netfilter?"));

    let mut profile = self::profile();
    let kubectl = ComponentSource {
        from_base: true,
        ..ComponentSource::default()
    };
    profile
        .spec
        .kubernetes
        .components
        .insert(ComponentName::Kubectl, kubectl);
    let error = planned(debian(), &profile, Vec::new()).expect_err("no kubectl");
    assert!(error.to_string().contains("/usr/bin/kubectl"), "{error}");
    assert!(error.hint_text().is_some());
}

#[test]
fn adds_users_with_locked_passwords() {
    let (plan, _) = planned(debian(), &full_profile(), Vec::new()).expect("plans");
    assert!(text_at(&plan, "/etc/passwd").ends_with("\nops:x:1000:1000::/home/ops:/bin/bash\n"));
    assert!(text_at(&plan, "/etc/shadow").ends_with("\nops:!:::::::\n"));
    let group = text_at(&plan, "/etc/group");
    assert!(
        group.contains("adm:x:4:syslog,ops\n") && group.ends_with("ops:x:1000:\n"),
        "{group}"
    );
    assert!(text_at(&plan, "/etc/gshadow").contains("adm:*::syslog,ops\n"));
    let keys = &plan.volumes[&Target::Root].entries[&fixed("/home/ops/.ssh/authorized_keys")];
    assert_eq!((keys.attributes.mode, keys.attributes.uid), (0o600, 1000));

    let mut profile = full_profile();
    profile.spec.users[0].name = "a:0:0".to_owned();
    assert!(planned(debian(), &profile, Vec::new()).is_err());
}

#[test]
fn the_manifest_fits_its_schema() {
    let (plan, _) = planned(debian(), &full_profile(), Vec::new()).expect("plans");
    let schema = crate::report::manifest_schema();
    let validator = jsonschema::validator_for(&schema).expect("a valid schema");
    let mut manifest: serde_json::Value =
        serde_json::from_str(&text_at(&plan, release::MANIFEST_PATH)).expect("JSON");
    assert!(
        validator.is_valid(&manifest),
        "{:?}",
        validator.iter_errors(&manifest).next()
    );
    assert_eq!(manifest["buildKey"], plan.key().to_string());
    manifest["surprise"] = true.into();
    assert!(!validator.is_valid(&manifest));
}

#[test]
fn a_separate_boot_volume_gets_what_lies_below_boot() {
    let root: Box<dyn Volume> = Box::new(debian());
    let grub = "menuentry 'x' {\n linux /vmlinuz ro quiet\n}\n";
    let boot = MemoryVolume::new().with_file("/grub/grub.cfg", grub);
    let boot: Box<dyn Volume> = Box::new(boot.expect("builds"));
    let mut image =
        Image::new([(Target::Root, root), (Target::Boot, boot)].into()).expect("has a root");
    let os = detect(&mut image).expect("is Debian");
    let partition = |number| Partition::new(number, FileSystem::Ext4);
    let inputs = Inputs {
        kubelet_version: Some("1.34.4".to_owned()),
        profile: &full_profile(),
        locked: &locked(),
        os: &os,
        partitions: [(Target::Root, partition(1)), (Target::Boot, partition(16))].into(),
        packages: &[],
        overlays: &[firstboot_unit()],
        firstboot: Content::inline("first boot"),
        epoch: 0,
        disk_size: None,
    };
    let plan = compute(&inputs, &mut image).expect("plans");
    let below: Vec<String> = plan.volumes[&Target::Boot]
        .entries
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(below, ["/grub/grub.cfg"]);
    assert_eq!(plan.volumes[&Target::Boot].partition, 16);
}

#[test]
fn first_boot_is_enabled_unless_the_user_said_otherwise() {
    let link = fixed("/etc/systemd/system/multi-user.target.wants/nodekiln-firstboot.service");
    let has_link = |profile: &Profile| {
        let (plan, _) = planned(debian(), profile, Vec::new()).expect("plans");
        plan.volumes[&Target::Root].entries.contains_key(&link)
    };
    let mut wish = profile();
    assert!(has_link(&wish));
    wish.spec.services.disable = vec!["nodekiln-firstboot".to_owned()];
    assert!(!has_link(&wish));
}
