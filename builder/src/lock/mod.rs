//! The lock: every input of a build with what pins it.
//!
//! `nodekiln.lock` lies beside the profile. No build reads anything that is not
//! in it.

pub mod model;
mod sources;

pub use sources::{
    Bootstrapped, MemberSelection, OTHERS_LIMIT, Sources, Stored, StoredMember, Unpacked,
    VerifiedList,
};

/// The file name at the end of a URL, without query and fragment.
pub fn file_name_of_url(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}
