//! The program that joins the machine, as it is: in a root of its own with a
//! service manager that is pretended, killed wherever it can be killed; and what it
//! writes, read by programs that others wrote.

mod bad_disks;
mod changes;
mod clones;
mod joining;
mod kills;
mod machine;
mod rendering;
mod resets;
mod tracing;
mod unit_file;
mod usage;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Output};

use nodekiln_tests::first_boot::program;
use nodekiln_tests::node_configs::{self, Flavour};

const CERTIFICATE: &str = include_str!("../../../firstboot/src/node_config/testdata/ca.pem");
const UNIT: &str =
    include_str!("../../../overlays/linux/etc/systemd/system/nodekiln-firstboot.service");

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Of a machine of a site, with these flags of the kubelet.
fn node_config(flags: &str) -> String {
    let more = format!(
        "  kubelet:
    flags: [{flags}]
    config: {{maxPods: 42}}
  containerd:
    config: |
      [debug]
      level = \"debug\"
"
    );
    node_configs::node_config(Flavour::RolesAnywhere, &more)
}

fn pipe(program: &str, arguments: &[&str], input: &[u8]) -> Output {
    use std::io::Write as _;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} must be installed: {error}"));
    // A program may end without reading all.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    child.wait_with_output().expect("it can be waited for")
}

fn firstboot(arguments: &[&str]) -> Output {
    Command::new(program())
        .args(arguments)
        .output()
        .expect("it starts")
}

/// Something in a tree: permission bits, owner and group, and content or where a
/// link leads.
type Entry = (u32, u32, u32, Vec<u8>);

/// All in a folder, by path.
type Tree = BTreeMap<String, Entry>;

/// All in a folder, but for some folders in it.
fn tree(root: &Path, without: &[&str]) -> Tree {
    let is_wanted = |entry: &walkdir::DirEntry| {
        entry.depth() != 1 || !without.iter().any(|name| entry.file_name() == *name)
    };
    walkdir::WalkDir::new(root)
        .min_depth(1)
        .into_iter()
        .filter_entry(is_wanted)
        .map(|entry| {
            let entry = entry.expect("the tree can be read");
            let path = entry.path();
            let metadata = entry.metadata().expect("it is there");
            let content = if metadata.is_file() {
                fs::read(path).expect("it can be read")
            } else if metadata.is_symlink() {
                let target = fs::read_link(path).expect("it is a link");
                target.into_os_string().into_encoded_bytes()
            } else {
                Vec::new()
            };
            let name = path.strip_prefix(root).expect("it is below").display();
            let mode = metadata.mode() & 0o7777;
            (
                name.to_string(),
                (mode, metadata.uid(), metadata.gid(), content),
            )
        })
        .collect()
}
