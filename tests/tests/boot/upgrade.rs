//! A machine whose system is replaced by an image of the next minor version of
//! Kubernetes, while a disk of its own keeps its state. It takes long: `make e2e` runs it.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use nodekiln_qemu::{BootOptions, Format, Milestones, Seed};
use nodekiln_tests::cloud::World;
use nodekiln_tests::cluster::Node;
use nodekiln_tests::container_image::WAIT;
use nodekiln_tests::joining::hybrid;
use nodekiln_tests::program::run;
use nodekiln_tests::unmet::Met;
use serde_json::json;

use super::image::{self, Image};
use super::join::{registrations_with_ssm, with_ssm};
use super::machine;
use super::running::Running;
use super::surroundings::{self, Machines as _, SITE};

/// The minor versions, one after the other.
const BEFORE: &str = "1.34";
const AFTER: &str = "1.35";
/// The machine, as its firmware knows it.
const UUID: &str = "6b8a8b6e-0000-4000-8000-000000000001";
/// The longest wait for anything: a guest without hardware virtualisation is slow.
const LONG: Duration = Duration::from_secs(600);

/// An empty disk, as `overlays/kept-state` looks for it.
fn state_disk(path: &Path) {
    let file = File::create(path).expect("the folder can be written");
    file.set_len(6 << 30).expect("the disk may have holes");
    let path = path.to_str().expect("a path in UTF-8");
    run("mkfs.ext4", &["-q", "-L", "nodekiln-state", path]);
}

fn told(machine: &Running, text: &str) -> String {
    let line = machine.until_line(|line| line.contains(text), LONG);
    line.unwrap_or_else(|error| unreachable!("not told '{text}': {error}"))
}

#[test]
#[ignore = "takes long: make e2e"]
fn with_the_next_image_over_its_kept_state_a_machine_is_the_same_node() -> Met {
    let world = World::sample();
    let mut around = surroundings::around_of(&world, &[SITE], BEFORE);
    let folder = tempfile::tempdir().expect("a folder");
    let disk = folder.path().join("state.raw");
    state_disk(&disk);
    let seed = Seed {
        parts: vec![around.trust("")],
        ..Seed::of_node_config(hybrid("", &with_ssm(&world.activations[0])))
    };
    let options = |image: &Image, log: &str| BootOptions {
        second_disk: Some(disk.clone()),
        uuid: Some(UUID.to_owned()),
        seed: Some((seed.clone(), Format::NoCloud)),
        // The second image is refused at first, and that does not end its boot.
        milestones: Milestones::login(),
        ..machine(&image.qcow2, log)
    };
    let images = [BEFORE, AFTER].map(image::keeping);

    let running = around.start(&SITE, options(&images[0], "upgrade-before.log"));
    let line = told(&running, "registered with SSM as ");
    let name = line.split_whitespace().last().expect("a name");
    told(&running, "nodekiln-firstboot: done in ");
    let first = Node::hybrid(&around.control_plane, name, SITE.address);
    first.until_ready()?;
    first.check_identity()?;
    first.check_pod()?;
    let before = first.object()?;
    first.power_off()?;
    running.until_off(LONG);
    assert_eq!(registrations_with_ssm(&around.cloud.record()), 1);

    // An image that comes before its cluster is refused, and joins once the cluster has
    // come after it.
    let running = around.start(&SITE, options(&images[1], "upgrade-after.log"));
    told(&running, "this machine has another image than before");
    told(&running, "check kubelet-version-skew-validation failed: ");
    around.control_plane.upgrade(AFTER, &around.cloud);
    told(&running, "nodekiln-firstboot: done in ");
    let second = Node::hybrid(&around.control_plane, name, SITE.address);
    let version = "{.status.nodeInfo.kubeletVersion}";
    let old = &before["status"]["nodeInfo"]["kubeletVersion"];
    let old = old.as_str().expect("a node says so");
    second.until_changed(&["node", name], version, old)?;
    second.until_ready()?;
    second.check_identity()?;
    let after = second.object()?;
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(second.registrations(), 1);
    assert_eq!(registrations_with_ssm(&around.cloud.record()), 0);
    second.until_pod_is_back()?;
    second.run_pod("after", &json!(WAIT), false)?;
    for image in images {
        image.assert_unchanged();
    }
    Ok(())
}
