//! The first-boot program that is put into images.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::carried::Carried;
use crate::environment;
use crate::error::Result;
use crate::plan::{Content, Source};
use crate::profile::model::Architecture;
use crate::store::Digest;

/// The programs that came along; empty where the build had none.
const EMBEDDED_X86_64: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/firstboot-x86_64"));
const EMBEDDED_ARM64: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/firstboot-arm64"));

/// The program for `architecture`: `given` if there is one, else that of
/// `NODEKILN_FIRSTBOOT`, else the one that came along, else
/// `firstboot-ARCHITECTURE` beside the command.
///
/// # Errors
/// As [`Carried::find`].
pub fn find(architecture: Architecture, given: Option<&Path>) -> Result<Content> {
    let name = architecture.name();
    let carried = Carried {
        what: "the first-boot program",
        embedded: match architecture {
            Architecture::X86_64 => EMBEDDED_X86_64,
            Architecture::Arm64 => EMBEDDED_ARM64,
        },
        name: format!("firstboot-{name}"),
        architecture,
        variable: environment::NODEKILN_FIRSTBOOT,
        script: format!("scripts/build-firstboot {name}"),
    };
    let bytes = carried.find(given)?;
    Ok(Content {
        sha256: Digest::from_bytes(Sha256::digest(&bytes).into()),
        size: bytes.len() as u64,
        source: Source::Inline(bytes.into_owned()),
    })
}
