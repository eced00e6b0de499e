//! A bootstrapped Debian base, made once and kept between runs.

use std::path::{Path, PathBuf};

use nodekiln::base::bootstrap::{self, Options, bootstrap};
use nodekiln::environment;
use nodekiln::lock::{Bootstrapped, Stored};
use nodekiln::profile::model::{Architecture, Bootstrap, Layout};
use nodekiln::progress::Silent;
use nodekiln::store::{Digest, Store};
use sha2::{Digest as _, Sha256};

/// Size of the base's disk in bytes.
pub const SIZE: u64 = 4 << 30;
/// Debian release of the base.
pub const SUITE: &str = "bookworm";

/// The store that keeps bases between runs of the tests.
///
/// # Panics
/// When no cache folder is known, or it cannot be written.
pub fn store() -> Store {
    let folder = environment::cache_folder().expect("HOME or XDG_CACHE_HOME is set");
    Store::open(folder.join("test-bases")).expect("the cache can be written")
}

/// The profile section that makes the base.
pub fn wish() -> Bootstrap {
    // The last for twins with an XFS root: cloud-init lets it fill its partition.
    let packages = [
        "containerd",
        "runc",
        "containernetworking-plugins",
        "xfsprogs",
    ];
    Bootstrap {
        suite: SUITE.to_owned(),
        packages: packages.map(ToOwned::to_owned).to_vec(),
        layout: Layout::Ubuntu,
        size: "4GiB".to_owned(),
    }
}

/// Makes the base anew.
///
/// # Panics
/// When that fails.
fn make(store: &Store, architecture: Architecture) -> Bootstrapped {
    let options = Options {
        epoch: bootstrap::DEFAULT_EPOCH,
        size: SIZE,
    };
    bootstrap(store, &wish(), architecture, &options, &Silent).unwrap_or_else(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        unreachable!("bootstrap: {error}\n{}", cause.unwrap_or_default())
    })
}

/// The base for an architecture and its packages, made at most once for one state of the
/// code that makes it.
///
/// # Panics
/// When it cannot be made.
pub fn bootstrapped(architecture: Architecture) -> Bootstrapped {
    let store = store();
    let key = key(architecture);
    let record = store.folder().join(format!("base-{key}.json"));
    let _one = store
        .exclusive(&format!("base-{key}"), &Silent)
        .expect("the cache can be written");
    if let Some(known) = read(&record)
        && store.contains(&known.image.sha256)
    {
        return known;
    }
    let made = make(&store, architecture);
    let text = serde_json::json!({
        "sha256": made.image.sha256,
        "size": made.image.size,
        "packages": made.packages,
    });
    std::fs::write(&record, text.to_string()).expect("the cache can be written");
    made
}

/// The path of the base for an architecture, a qcow2 file. It must not be changed.
///
/// # Panics
/// When it cannot be made.
pub fn path(architecture: Architecture) -> PathBuf {
    let made = bootstrapped(architecture);
    store()
        .verified_path(&made.image.sha256)
        .expect("the base is in the store")
}

fn read(record: &Path) -> Option<Bootstrapped> {
    let value: serde_json::Value = serde_json::from_slice(&std::fs::read(record).ok()?).ok()?;
    Some(Bootstrapped {
        image: Stored {
            sha256: serde_json::from_value(value.get("sha256")?.clone()).ok()?,
            size: value.get("size")?.as_u64()?,
        },
        packages: serde_json::from_value(value.get("packages")?.clone()).ok()?,
    })
}

/// Changes whenever the code that makes the base does.
fn key(architecture: Architecture) -> String {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../builder/src/base/bootstrap");
    let mut hasher = Sha256::new().chain_update(format!("{:?} {architecture:?}", wish()));
    for file in walkdir::WalkDir::new(sources).sort_by_file_name() {
        let file = file.expect("the sources can be read");
        if file.file_type().is_file() {
            hasher.update(std::fs::read(file.path()).expect("the sources can be read"));
        }
    }
    Digest::from_bytes(hasher.finalize().into()).short()
}
