//! Configuration files of packages that the image, or an overlay, has already.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::image_path::ImagePath;
use crate::os::Tree as _;
use crate::plan::Content;
use crate::plan::draft::Draft;
use crate::store::Digest;
use crate::volume::{self, Attributes};

/// What there is at the place of a configuration file.
pub(super) enum Standing {
    /// Nothing that concerns it: it is laid as every file.
    New,
    /// The same content, or what an overlay lays: it is not laid.
    Settled,
    /// Another content: the formats differ in which of the two goes beside.
    Other(Content, Attributes),
}

/// Looks what stands at `path`, for a file of the sum `sha256`; `laid` are the files of
/// overlays.
pub(super) fn standing(
    draft: &mut Draft<'_>,
    path: &ImagePath,
    sha256: Digest,
    laid: &BTreeSet<ImagePath>,
) -> Result<Standing> {
    if laid.contains(path) {
        return Ok(Standing::Settled);
    }
    let Some((real, found)) = draft.stat(path)? else {
        return Ok(Standing::New);
    };
    if found.kind != volume::Kind::File || draft.planned(&real).is_some() {
        return Ok(Standing::New);
    }
    let present = Content::inline(draft.read(&real)?.unwrap_or_default());
    Ok(if present.sha256 == sha256 {
        Standing::Settled
    } else {
        Standing::Other(present, found.attributes)
    })
}

/// The path beside `path` with a suffix behind its name.
pub(super) fn beside(path: &ImagePath, suffix: &str) -> Result<ImagePath> {
    ImagePath::new([path.as_bytes(), suffix.as_bytes()].concat())
}
