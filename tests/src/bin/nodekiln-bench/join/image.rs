//! The image of both ways: the demo's, with the checks before joining, a network for pods
//! and the image that they start with.

use std::fs;
use std::path::{Path, PathBuf};

use nodekiln_tests::container_image::{self, PAUSE};
use nodekiln_tests::network::POD_NETWORK;
use nodekiln_tests::program::run;
use serde_json::Value;

use crate::settings::Settings;

const PROFILE: &str = include_str!("../../../../../profiles/debian-12-demo.yaml");
/// What the demo leaves out, since nobody answers its node.
const LEFT_OUT: &str = "    - demo\n";

/// Bakes it; gives its path.
pub fn baked(settings: &Settings) -> PathBuf {
    let folder = settings.work.join("join");
    let overlay = folder.join("overlay");
    for (path, text) in [
        ("etc/cni/net.d/10-bridge.conflist", POD_NETWORK),
        ("etc/nodekiln/sandbox-image", PAUSE),
    ] {
        let path = overlay.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
        fs::write(path, text).expect("write the overlay");
    }
    container_image::write(&overlay.join("etc/nodekiln/sandbox-image.tar"));
    assert!(PROFILE.contains(LEFT_OUT), "the demo's profile has changed");
    let profile = PROFILE.replace(LEFT_OUT, &format!("    - {}\n", overlay.display()));
    let path = folder.join("profile.yaml");
    fs::write(&path, profile).expect("write the profile");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let components = format!("components={}", text(&settings.components));
    let nodekiln = text(&settings.nodekiln);
    let common = ["--set", &components, "--progress", "none"];
    run(&nodekiln, &[&["lock", &text(&path)], &common[..]].concat());
    let output = text(&folder.join("out"));
    let build = ["build", &text(&path), "--offline", "--format", "json"];
    let place = ["--output", &output];
    let printed = run(&nodekiln, &[&build[..], &place, &common].concat());
    let built: Value = serde_json::from_str(&printed).expect("JSON");
    let built = built["folder"].as_str().expect("a folder");
    Path::new(built).join("debian-12-demo.qcow2")
}
