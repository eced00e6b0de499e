//! What a lock depends on, as digests.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::model::LockedProfile;
use crate::profile::model::{
    Architecture, Base, CredentialProvider, Kubernetes, PackageSource, Profile,
};
use crate::store::Digest;

/// Everything of a profile that decides which files are needed.
#[derive(Serialize)]
struct Inputs<'a> {
    architecture: Architecture,
    base: &'a Base,
    kubernetes: &'a Kubernetes,
    credential_provider: CredentialProvider,
    /// Left out where there are none: locks from before packages stay good.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    packages: &'a [PackageSource],
}

/// What decides which base is needed.
#[derive(Serialize)]
struct BaseInputs<'a> {
    architecture: Architecture,
    base: &'a Base,
}

/// sha256 of what the profile says about its inputs.
pub fn inputs_digest(profile: &Profile) -> Digest {
    let spec = &profile.spec;
    digest_of(&Inputs {
        architecture: spec.architecture,
        base: &spec.base,
        kubernetes: &spec.kubernetes,
        credential_provider: spec.credential_provider,
        packages: &spec.packages,
    })
}

/// sha256 of what the profile says about its base.
pub fn base_inputs_digest(profile: &Profile) -> Digest {
    digest_of(&BaseInputs {
        architecture: profile.spec.architecture,
        base: &profile.spec.base,
    })
}

/// Whether the pins are those of the profile as it is now.
pub fn is_current(profile: &Profile, locked: &LockedProfile) -> bool {
    locked.inputs == inputs_digest(profile)
}

fn digest_of(inputs: &impl Serialize) -> Digest {
    let text = serde_json::to_vec(inputs)
        .expect("structs of text, numbers and maps with text keys are JSON");
    Digest::from_bytes(Sha256::digest(text).into())
}
