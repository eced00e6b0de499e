//! A container image that no registry has to give: busybox, as an archive by the image
//! layout of OCI, as containerd imports it.

use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The image that every pod starts with: it waits.
pub const PAUSE: &str = "localhost/nodekiln-tests/pause:1";
/// The same image for the containers of pods: it has a shell.
pub const BUSYBOX: &str = "localhost/nodekiln-tests/busybox:1";

/// A command that waits until it is told to end, and ends then: a first process that
/// does not ask for the signal never gets it.
pub const WAIT: [&str; 3] = ["sh", "-c", "trap exit TERM; sleep 1000000000 & wait"];
/// What of busybox has a name in the image.
const APPLETS: [&str; 8] = [
    "sh", "sleep", "cat", "echo", "nsenter", "hostname", "wget", "nc",
];
/// Where Debian's busybox-static lies.
const PROGRAM: &str = "/bin/busybox";

/// Writes the archive, the same bytes for the same busybox.
///
/// # Panics
/// When busybox-static is not installed, or the file cannot be written.
pub fn write(archive: &Path) {
    let layer = layer();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": WAIT,
            "Env": ["PATH=/bin"],
        },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let named = |name: &str| {
        let mut value = descriptor(MANIFEST, &manifest);
        value["annotations"] = json!({ "io.containerd.image.name": name });
        value
    };
    let index = json!({ "schemaVersion": 2, "manifests": [named(PAUSE), named(BUSYBOX)] });

    let mut tar = tar::Builder::new(Vec::new());
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
    add(&mut tar, "oci-layout", 0o644, layout);
    add(&mut tar, "index.json", 0o644, index.to_string().as_bytes());
    for blob in [&layer, &config, &manifest] {
        let digest = digest(blob).replace(':', "/");
        add(&mut tar, &format!("blobs/{digest}"), 0o644, blob);
    }
    let bytes = tar.into_inner().expect("memory");
    let mut file = std::fs::File::create(archive).expect("the folder can be written");
    file.write_all(&bytes).expect("the disk has room");
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn layer() -> Vec<u8> {
    let busybox = std::fs::read(PROGRAM)
        .unwrap_or_else(|error| unreachable!("busybox-static must be installed: {error}"));
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, "bin/busybox", 0o755, &busybox);
    for applet in APPLETS {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")
            .expect("memory");
    }
    tar.into_inner().expect("memory")
}

fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, path, content).expect("memory");
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": digest(bytes), "size": bytes.len() })
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
