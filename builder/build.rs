//! Takes the shipped overlays, the first-boot program and the agent into the
//! command, so that one file is all there is to install.
//!
//! `NODEKILN_EMBED_FIRSTBOOT_X86_64` and `..._ARM64` name the programs while a release is
//! built (`scripts/build`), and `NODEKILN_EMBED_AGENT_X86_64` or `..._ARM64` the agent for the
//! processor that the command is built for. A build without them looks for the programs at
//! run time: `src/carried.rs`.

#![allow(
    clippy::print_stdout,
    reason = "this is how a build script speaks to cargo"
)]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

fn main() {
    let manifest = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("set by cargo"));
    for architecture in ["X86_64", "ARM64"] {
        embed(
            &format!("NODEKILN_EMBED_FIRSTBOOT_{architecture}"),
            &out.join(format!("firstboot-{}", architecture.to_lowercase())),
        );
    }
    let of_the_command = match std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok("aarch64") => "NODEKILN_EMBED_AGENT_ARM64",
        // On others there is no guest for it: src/volume/agent/program.rs.
        _ => "NODEKILN_EMBED_AGENT_X86_64",
    };
    embed(of_the_command, &out.join("agent"));
    let overlays = manifest.join("../overlays");
    println!("cargo::rerun-if-changed={}", overlays.display());
    let mut text = "const SHIPPED: &[Shipped] = &[\n".to_owned();
    for overlay in sorted(&overlays) {
        let name = file_name(&overlay);
        collect(&overlay, &name, "", &mut text);
    }
    text.push_str("];\n");
    fs::write(out.join("overlays.rs"), text).expect("the output folder can be written");
}

/// Puts the program that the variable `name` names where `include_bytes!` finds it; an
/// empty file when none was named.
fn embed(name: &str, target: &Path) {
    println!("cargo::rerun-if-env-changed={name}");
    let bytes = std::env::var_os(name).map_or_else(Vec::new, |program| {
        println!("cargo::rerun-if-changed={}", program.display());
        fs::read(&program).unwrap_or_else(|error| panic!("{name}: {}: {error}", program.display()))
    });
    fs::write(target, bytes).expect("the output folder can be written");
}

fn collect(folder: &Path, overlay: &str, prefix: &str, text: &mut String) {
    println!("cargo::rerun-if-changed={}", folder.display());
    for path in sorted(folder) {
        let inside = format!("{prefix}/{}", file_name(&path));
        let metadata = fs::symlink_metadata(&path).expect("what was listed exists");
        assert!(
            !metadata.is_symlink(),
            "a shipped overlay holds the link {inside}: links are not embedded"
        );
        if metadata.is_dir() {
            collect(&path, overlay, &inside, text);
            continue;
        }
        println!("cargo::rerun-if-changed={}", path.display());
        let executable = metadata.permissions().mode() & 0o111 != 0;
        let path = path.canonicalize().expect("what was listed exists");
        writeln!(
            text,
            "    Shipped {{ overlay: {overlay:?}, path: {inside:?}, executable: {executable}, bytes: include_bytes!({:?}) }},",
            path.to_str().expect("names of shipped files are UTF-8")
        )
        .expect("writing to a string cannot fail");
    }
}

/// The paths in a folder, by name; none when there is no folder.
fn sorted(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a folder can be read to its end").path())
        .collect();
    paths.sort();
    paths
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .and_then(|name| name.to_str())
        .expect("names of shipped files are UTF-8")
        .to_owned()
}
