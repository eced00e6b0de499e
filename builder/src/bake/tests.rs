use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::os::tree::fixed;
use crate::os::{Image, Tree};
use crate::plan::tests::machine::{debian, firstboot_unit, planned, profile};
use crate::plan::{Source, overlay::OverlayNode};
use crate::progress::Silent;
use crate::store::Digest;

/// The store of the tests: it has the one component.
fn store(digest: &Digest) -> Result<Box<dyn Read + Send>> {
    let mut head = b"\x7fELF\x02\x01\x01".to_vec();
    head.resize(20, 0);
    head[18] = 62;
    assert_eq!(*digest, Content::inline(head.clone()).sha256);
    Ok(Box::new(io::Cursor::new(head)))
}

fn baked() -> (Plan, Image) {
    let (plan, mut image) = planned(debian(), &profile(), Vec::new()).expect("plans");
    let applied = apply(
        &plan,
        image.volumes_mut(),
        &LocalContents::new(store),
        &Silent,
    )
    .expect("bakes");
    assert!(applied.files > 5 && applied.links > 0, "{applied:?}");
    (plan, image)
}

#[test]
fn bakes_what_verify_then_finds() {
    let (plan, mut image) = baked();
    verify(&plan, &mut image, &LocalContents::new(store), &Silent).expect("is as planned");
    let id = image.read(&fixed("/etc/machine-id")).expect("reads");
    assert_eq!(id, Some(Vec::new()));
    // Baking the same again changes nothing.
    apply(
        &plan,
        image.volumes_mut(),
        &LocalContents::new(store),
        &Silent,
    )
    .expect("bakes");
    verify(&plan, &mut image, &LocalContents::new(store), &Silent).expect("is as planned");
}

#[test]
fn verify_lists_every_difference() {
    let (plan, mut image) = baked();
    let volume = open(image.volumes_mut(), Target::Root).expect("is open");
    volume
        .append_file(&fixed("/usr/bin/kubelet"), b"x")
        .expect("is there");
    let mut attributes = volume
        .metadata(&fixed("/opt/nodeadm/tracker"))
        .expect("reads")
        .expect("is there")
        .attributes;
    attributes.mode = 0o666;
    volume
        .set_attributes(&fixed("/opt/nodeadm/tracker"), &attributes)
        .expect("is there");
    volume
        .remove_file(&fixed("/usr/sbin/firstboot"))
        .expect("is there");
    volume
        .write_file(
            &fixed("/etc/ssh/ssh_host_rsa_key"),
            1,
            &mut &b"k"[..],
            &attributes,
        )
        .expect("writes");
    let error = verify(&plan, &mut image, &LocalContents::new(store), &Silent)
        .expect_err("four differences");
    assert_eq!(error.class(), Class::CheckFailed);
    let found: Vec<String> = error.others().iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "/opt/nodeadm/tracker has mode 0666, not 0644",
            "/usr/bin/kubelet has 21 bytes, not 20",
            "/usr/sbin/firstboot is not there",
            "/etc/ssh/ssh_host_rsa_key: is the SSH host key of one machine",
        ]
    );
}

#[test]
fn content_that_is_not_what_was_pinned_is_refused_as_its_sources_fault() {
    let (plan, mut image) = planned(debian(), &profile(), Vec::new()).expect("plans");
    let wrong = |_: &Digest| Ok(Box::new(io::Cursor::new(vec![7_u8; 20])) as Box<dyn Read + Send>);
    let contents = LocalContents::new(wrong);
    apply(&plan, image.volumes_mut(), &contents, &Silent).expect("is as long as planned");
    let error = verify(&plan, &mut image, &contents, &Silent).expect_err("another content");
    assert_eq!(error.class(), Class::Dependency);
    assert!(error.to_string().contains("/usr/bin/kubelet"), "{error}");
    // With a sound source, the image is at fault.
    let contents = LocalContents::new(store);
    let error = verify(&plan, &mut image, &contents, &Silent).expect_err("another content");
    assert_eq!(error.class(), Class::CheckFailed);
}

#[test]
fn content_of_another_length_is_refused_at_once() {
    for length in [3, 21] {
        let (plan, mut image) = planned(debian(), &profile(), Vec::new()).expect("plans");
        let wrong =
            |_: &Digest| Ok(Box::new(io::Cursor::new(vec![7_u8; length])) as Box<dyn Read + Send>);
        let contents = LocalContents::new(wrong);
        apply(&plan, image.volumes_mut(), &contents, &Silent).expect_err("another length");
    }
}

#[test]
fn finds_too_little_room_before_the_first_write() {
    let mut small = debian();
    small.free = 8192;
    let (plan, mut image) = planned(small, &profile(), Vec::new()).expect("plans");
    let error = apply(
        &plan,
        image.volumes_mut(),
        &LocalContents::new(store),
        &Silent,
    )
    .expect_err("no room");
    assert!(format!("{error:?}").contains("missing"), "{error:?}");
    assert!(!image.is_file(&fixed("/usr/bin/kubelet")).expect("reads"));
}

#[test]
fn stops_when_asked() {
    #[derive(Default)]
    struct Stop(AtomicBool);
    impl Progress for Stop {
        fn begin(&self, _: Step, _: &str, _: Option<u64>) {}
        fn advance(&self, _: Step, _: u64) {
            self.0.store(true, Ordering::Relaxed);
        }
        fn end(&self, _: Step) {}
        fn note(&self, _: &str) {}
        fn warn(&self, _: &str) {}
        fn stopped(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }
    let (plan, mut image) = planned(debian(), &profile(), Vec::new()).expect("plans");
    let error = apply(
        &plan,
        image.volumes_mut(),
        &LocalContents::new(store),
        &Stop::default(),
    )
    .expect_err("stopped");
    assert_eq!(error.class(), Class::Interrupted);
}

#[test]
fn reads_overlays_from_folders() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("etc/x")).expect("writes");
    std::fs::write(at("etc/x/a.tmpl"), "{{ name }}").expect("writes");
    std::fs::write(at("etc/x/large"), vec![1; 100_000]).expect("writes");
    std::fs::write(at("etc/x/run"), "#!/bin/sh\n").expect("writes");
    let mode = |name: &str, mode| {
        std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).expect("sets");
    };
    mode("etc/x/run", 0o700);
    symlink("/etc/shadow", at("etc/x/link")).expect("links");
    let read = overlay::read("site", folder.path()).expect("reads");
    let node = |path: &str| &read.entries[&fixed(path)].node;
    assert!(matches!(node("/etc/x"), OverlayNode::Directory));
    assert!(matches!(
        node("/etc/x/a.tmpl"),
        OverlayNode::Template { .. }
    ));
    assert!(matches!(
        node("/etc/x/run"),
        OverlayNode::File {
            executable: true,
            ..
        }
    ));
    assert!(
        matches!(node("/etc/x/link"), OverlayNode::Symlink { target } if target == "/etc/shadow")
    );
    match node("/etc/x/large") {
        OverlayNode::File { content, .. } => {
            assert_eq!(content.sha256, Content::inline(vec![1; 100_000]).sha256);
            assert!(matches!(content.source, Source::File(_)));
        }
        other => panic!("{other:?}"),
    }
    mode("etc/x/run", 0o4755);
    assert!(overlay::read("site", folder.path()).is_err(), "set-uid");
    assert!(overlay::read("site", &at("absent")).is_err());
}

#[test]
fn what_is_shipped_can_be_laid() {
    assert!(overlay::shipped_names().contains(&"common"));
    let shipped = overlay::shipped("common").expect("is shipped");
    // A shipped first-boot unit would meet the one of the test.
    assert_ne!(shipped.name, firstboot_unit().name);
    planned(debian(), &profile(), vec![shipped]).expect("plans");
}
