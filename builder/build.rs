//! Carries files inside the command, so that it is one file: the shipped
//! overlays, and the first-boot program.
//!
//! `NODEKILN_EMBED_FIRSTBOOT_X86_64` and `..._ARM64` name the programs while
//! building a release (`scripts/build`). A build without them looks for the
//! program at run time: `src/firstboot.rs`.

#![allow(
    clippy::print_stdout,
    reason = "this is how a build script speaks to cargo"
)]

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

fn main() {
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for architecture in ["X86_64", "ARM64"] {
        program(architecture, &folder);
    }
    overlays(&folder);
}

fn program(architecture: &str, folder: &Path) {
    let name = format!("NODEKILN_EMBED_FIRSTBOOT_{architecture}");
    println!("cargo:rerun-if-env-changed={name}");
    let target = folder.join(format!("firstboot-{}", architecture.to_lowercase()));
    match std::env::var_os(&name) {
        Some(program) => {
            println!("cargo:rerun-if-changed={}", program.to_string_lossy());
            std::fs::copy(&program, &target)
                .unwrap_or_else(|error| panic!("{name} is {}: {error}", program.to_string_lossy()));
        }
        // An empty file means that none came along.
        None => std::fs::write(&target, b"").expect("OUT_DIR can be written"),
    }
}

/// Lists every file of `overlays/NAME/` as a Rust table.
fn overlays(folder: &Path) {
    let root = Path::new("../overlays")
        .canonicalize()
        .expect("overlays/ lies beside builder/");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut table = String::from("&[\n");
    for overlay in sorted(&root) {
        let name = overlay
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        list(&overlay, &overlay, &name, &mut table);
    }
    table.push(']');
    std::fs::write(folder.join("overlays.rs"), table).expect("OUT_DIR can be written");
}

fn list(folder: &Path, overlay: &Path, name: &str, table: &mut String) {
    println!("cargo:rerun-if-changed={}", folder.display());
    for path in sorted(folder) {
        let kind = path.symlink_metadata().expect("a listed file");
        let below = path
            .strip_prefix(overlay)
            .expect("below")
            .to_string_lossy()
            .into_owned();
        if kind.is_dir() {
            list(&path, overlay, name, table);
        } else if kind.is_symlink() {
            let target = path.read_link().expect("a link");
            let target = target.to_string_lossy();
            writeln!(table, "    Shipped::Link({name:?}, {below:?}, {target:?}),").expect("fits");
        } else {
            println!("cargo:rerun-if-changed={}", path.display());
            let executable = kind.permissions().mode() & 0o100 != 0;
            let source = path.to_string_lossy();
            writeln!(
                table,
                "    Shipped::File({name:?}, {below:?}, {executable}, include_bytes!({source:?})),"
            )
            .expect("fits");
        }
    }
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder entry").path())
        .collect();
    entries.sort();
    entries
}
