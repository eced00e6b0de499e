//! A container image by the layout of OCI, busybox: as an archive that containerd imports,
//! so that no registry has to give it, and in the registries of the cloud.

use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::cloud::World;
use crate::cloud::registry::TAG;
use crate::cloud::world::Repository;

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
/// The account whose registry has EKS's own images.
const OF_EKS: &str = "602401143452";
/// Where Debian's busybox-static lies.
const PROGRAM: &str = "/bin/busybox";

/// What an image is made of.
struct Parts {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl Parts {
    fn make() -> Self {
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
        Self {
            layer,
            config,
            manifest: manifest.to_string().into_bytes(),
        }
    }

    /// The files of a layout in which the image has these names by this annotation.
    fn files(&self, annotation: &str, names: &[&str]) -> Vec<(String, Vec<u8>)> {
        let named = |name: &&str| {
            let mut value = descriptor(MANIFEST, &self.manifest);
            value["annotations"] = json!({ annotation: name });
            value
        };
        let manifests: Vec<Value> = names.iter().map(named).collect();
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        let mut files = vec![
            ("oci-layout".to_owned(), layout.to_vec()),
            ("index.json".to_owned(), index.to_string().into_bytes()),
        ];
        for blob in [&self.layer, &self.config, &self.manifest] {
            let digest = digest(blob).replace(':', "/");
            files.push((format!("blobs/{digest}"), blob.clone()));
        }
        files
    }
}

/// Writes the archive, the same bytes for the same busybox.
///
/// # Panics
/// When busybox-static is not installed, or the file cannot be written.
pub fn write(archive: &Path) {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in Parts::make().files("io.containerd.image.name", &[PAUSE, BUSYBOX]) {
        add(&mut tar, &path, 0o644, &content);
    }
    let bytes = tar.into_inner().expect("memory");
    let mut file = std::fs::File::create(archive).expect("the folder can be written");
    file.write_all(&bytes).expect("the disk has room");
}

/// Has ECR give the image, out of layouts that are written below `folder`: as the pause
/// image of EKS, and as `busybox:1` of the world's own account.
///
/// # Panics
/// As [`write`].
pub fn stock(world: &mut World, folder: &Path) {
    let parts = Parts::make();
    let account = world.account.clone();
    for (registry, name, tag) in [(OF_EKS, "eks/pause", "3.5"), (&account, "busybox", "1")] {
        let layout = folder.join(name);
        for (path, content) in parts.files(TAG, &[tag]) {
            let path = layout.join(path);
            let parent = path.parent().expect("it has a folder");
            std::fs::create_dir_all(parent).expect("the folder can be written");
            std::fs::write(path, content).expect("the disk has room");
        }
        world.repositories.push(Repository {
            registry: registry.to_owned(),
            name: name.to_owned(),
            layout,
        });
    }
}

/// The reference of what [`stock`] has the world's own account give.
pub fn busybox_of_ecr(world: &World) -> String {
    let (account, region) = (&world.account, &world.region);
    format!("{account}.dkr.ecr.{region}.amazonaws.com/busybox:1")
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
