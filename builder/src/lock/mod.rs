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
