//! The lock: every input of a build with what pins it.
//!
//! `nodekiln.lock` lies beside the profile. No build reads anything that is not
//! in it. [`resolve()`] makes the pins of a profile, through [`Sources`];
//! [`Lock`](model::Lock) reads and writes the file.

mod checksum_file;
mod file;
mod inputs;
pub mod model;
mod resolve;
mod sources;
mod upgrade;

pub use checksum_file::checksum_in;
pub use inputs::{base_inputs_digest, inputs_digest, is_current};
pub use resolve::resolve;
pub use sources::{
    Bootstrapped, LocalBase, MemberSelection, OTHERS_LIMIT, Signer, Sources, Stored, StoredMember,
    Unpacked, VerifiedList,
};
pub use upgrade::{Input, Upgrade};

/// What stands in the trust of a package before the fingerprint of its signer.
pub const SIGNED_BY: &str = "signed by ";

/// The file name at the end of a URL, without query and fragment.
pub fn file_name_of_url(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}
