//! OpenPGP signatures of lists of checksums (RFC 9580).
//!
//! A signature counts when all of this holds at the time of checking:
//! - it is over exactly these bytes, as a document (binary or text), with a hash
//!   of the SHA-2 or SHA-3 family, not from the future and not expired;
//! - it carries no critical subpacket that is unknown;
//! - the key that made it is a trusted primary key, or a subkey that such a key
//!   has bound for signing and that has bound itself back;
//! - neither of the two is expired or revoked, and the primary key vouches for
//!   itself by a user or direct signature.
//!
//! The crypto library checks the mathematics only; the rest is done here.

pub mod fuzz;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pgp::composed::{
    CleartextSignedMessage, Deserializable, DetachedSignature, SignedPublicKey, SignedPublicSubKey,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PublicKey, Signature, SignatureType, SubpacketData, SubpacketType};
use pgp::types::{KeyDetails as _, SignedUser, Tag};

use crate::error::{Error, Result};
use crate::lock::VerifiedList;

/// Bytes of a list, a signature or a keyring that are looked at.
const LIMIT: usize = 4 << 20;
/// Signatures in one file that are tried.
const SIGNATURES: usize = 16;
/// Keys of one keyring that are looked at.
const KEYS: usize = 256;
/// How far the clocks of signer and verifier may be apart.
const SKEW: Duration = Duration::from_secs(24 * 60 * 60);
const ARMOUR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const CLEAR: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";

/// Verifies `list` against the detached `signature`, or as a clear-signed text
/// when there is none, with the public keys of `keyring` (armoured or binary).
/// Only keys with one of `fingerprints` (of the primary key, hexadecimal, blanks
/// ignored) are trusted, unless there are none. `now` decides about expiry.
///
/// # Errors
/// [`crate::Class::Input`] when the keyring or a fingerprint cannot be read;
/// [`crate::Class::Dependency`] when no signature counts, with the reasons.
pub fn verify(
    list: &[u8],
    signature: Option<&[u8]>,
    keyring: &[u8],
    fingerprints: &[String],
    now: SystemTime,
) -> Result<VerifiedList> {
    let keys = trusted(read_keyring(keyring)?, fingerprints)?;
    if list.len() > LIMIT || signature.is_some_and(|signature| signature.len() > LIMIT) {
        return Err(unsigned("it is too large"));
    }
    let (signed, text, signatures) = match signature {
        Some(signature) => {
            let text =
                String::from_utf8(list.to_vec()).map_err(|_| unsigned("the list is no text"))?;
            (list.to_vec(), text, read_detached(signature)?)
        }
        None if list.starts_with(CLEAR) => read_clear(list)?,
        None => {
            return Err(unsigned("the list is not clear-signed")
                .hint("give the URL of the detached signature with base.checksums.signature"));
        }
    };
    let fingerprint = signer(&signatures, &keys, &signed, now);
    fingerprint.map(|fingerprint| VerifiedList { text, fingerprint }).map_err(|reasons| unsigned("no good signature of a trusted key")
        .caused_by(reasons)
        .hint("check that keyring and fingerprints are the vendor's, and that list and signature belong together"))
}

/// The fingerprint of a key of `keyrings` that made one of `signatures` (detached, binary)
/// over `data`. `now` decides about expiry.
///
/// # Errors
/// [`crate::Class::Input`] when a keyring cannot be read; [`crate::Class::Dependency`]
/// when no signature counts, with the reasons.
pub fn verify_data(
    data: &[u8],
    signatures: &[Vec<u8>],
    keyrings: &[Vec<u8>],
    now: SystemTime,
) -> Result<String> {
    let mut keys = Vec::new();
    for keyring in keyrings {
        keys.extend(read_keyring(keyring)?);
    }
    let unreadable =
        |error: Error| Error::dependency("read a signature").caused_by(error.to_string());
    let mut found = Vec::new();
    for signature in signatures {
        found.extend(read_detached(signature).map_err(unreadable)?);
    }
    signer(&found, &keys, data, now).map_err(|reasons| {
        Error::dependency("no good signature of a trusted key").caused_by(reasons)
    })
}

/// The fingerprint of the first key whose signature counts; else why none does.
fn signer(
    signatures: &[Signature],
    keys: &[SignedPublicKey],
    data: &[u8],
    now: SystemTime,
) -> std::result::Result<String, String> {
    let mut reasons = Vec::new();
    for signature in signatures.iter().take(SIGNATURES) {
        for key in keys {
            match counts(signature, key, data, now) {
                Ok(()) => return Ok(fingerprint(key)),
                Err(reason) => reasons.push(format!("{}: {reason}", fingerprint(key))),
            }
        }
    }
    if signatures.is_empty() {
        reasons.push("there is no signature in it".to_owned());
    }
    reasons.dedup();
    reasons.truncate(8);
    Err(reasons.join("; "))
}

fn unsigned(problem: &str) -> Error {
    Error::dependency(format!(
        "verify the signature of a list of checksums: {problem}"
    ))
}

fn fingerprint(key: &SignedPublicKey) -> String {
    format!("{:X}", key.primary_key.fingerprint())
}

fn read_keyring(bytes: &[u8]) -> Result<Vec<SignedPublicKey>> {
    let wrong = |problem: String| {
        Error::input(format!("read the keyring: {problem}"))
            .hint("export the vendor's public keys with: gpg --export --armor FINGERPRINT")
    };
    if bytes.len() > LIMIT {
        return Err(wrong("it is too large".to_owned()));
    }
    let mut keys = Vec::new();
    let mut take = |found: pgp::errors::Result<SignedPublicKey>| -> Result<()> {
        // Keys of kinds that are not known do not spoil the others.
        if let Ok(key) = found {
            keys.push(key);
        }
        if keys.len() > KEYS {
            return Err(wrong(format!("it holds more than {KEYS} keys")));
        }
        Ok(())
    };
    match std::str::from_utf8(bytes) {
        Ok(text) if text.contains(ARMOUR) => {
            for block in text.split(ARMOUR).skip(1) {
                let block = format!("{ARMOUR}{block}");
                let (found, _) = SignedPublicKey::from_string_many(&block)
                    .map_err(|error| wrong(error.to_string()))?;
                for key in found.take(KEYS + 1) {
                    take(key)?;
                }
            }
        }
        _ => {
            let found = SignedPublicKey::from_bytes_many(bytes)
                .map_err(|error| wrong(error.to_string()))?;
            for key in found.take(KEYS + 1) {
                take(key)?;
            }
        }
    }
    if keys.is_empty() {
        return Err(wrong("there is no public key in it".to_owned()));
    }
    Ok(keys)
}

fn trusted(keys: Vec<SignedPublicKey>, fingerprints: &[String]) -> Result<Vec<SignedPublicKey>> {
    let mut wanted = Vec::new();
    for text in fingerprints {
        let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        // Short key IDs can be forged.
        if !matches!(digits.len(), 40 | 64) || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(Error::input(format!("'{text}' is no OpenPGP fingerprint"))
                .hint("it has 40 hexadecimal digits: `gpg --show-keys KEYRING` prints it"));
        }
        wanted.push(digits.to_uppercase());
    }
    if wanted.is_empty() {
        return Ok(keys);
    }
    let chosen: Vec<SignedPublicKey> = keys
        .into_iter()
        .filter(|key| wanted.contains(&fingerprint(key)))
        .collect();
    if chosen.is_empty() {
        return Err(
            Error::input("read the keyring: it holds none of the keys that may sign")
                .hint("`gpg --show-keys KEYRING` prints the fingerprints of its primary keys"),
        );
    }
    Ok(chosen)
}

fn read_detached(bytes: &[u8]) -> Result<Vec<Signature>> {
    let damaged = |error: pgp::errors::Error| {
        unsigned("the signature cannot be read").caused_by(error.to_string())
    };
    let armoured = bytes.trim_ascii_start().starts_with(b"-----BEGIN");
    let found = if armoured {
        DetachedSignature::from_armor_many(bytes)
            .map_err(damaged)?
            .0
    } else {
        DetachedSignature::from_bytes_many(bytes).map_err(damaged)?
    };
    found
        .take(SIGNATURES)
        .map(|signature| Ok(signature.map_err(damaged)?.signature))
        .collect()
}

type Clear = (Vec<u8>, String, Vec<Signature>);

fn read_clear(list: &[u8]) -> Result<Clear> {
    let text = std::str::from_utf8(list).map_err(|_| unsigned("the list is no text"))?;
    let (message, _) = CleartextSignedMessage::from_string(text)
        .map_err(|error| unsigned("the list cannot be read").caused_by(error.to_string()))?;
    // Only what was signed is handed on, not what stands before or after.
    let signed = message.signed_text();
    let text = signed.replace("\r\n", "\n");
    Ok((signed.into_bytes(), text, message.signatures().to_vec()))
}

type Verdict = std::result::Result<(), String>;

/// Whether `signature` over `data` counts as one of `key`.
fn counts(signature: &Signature, key: &SignedPublicKey, data: &[u8], now: SystemTime) -> Verdict {
    if !matches!(
        signature.typ(),
        Some(SignatureType::Binary | SignatureType::Text)
    ) {
        return Err("it is no signature of a document".to_owned());
    }
    if !strong(signature) {
        return Err("its hash algorithm is too weak".to_owned());
    }
    is_in_force(signature, now)?;
    let made_by_primary = signature.verify(&key.primary_key, data).is_ok();
    let subkey = key
        .public_subkeys
        .iter()
        .find(|subkey| signature.verify(&subkey.key, data).is_ok());
    if !made_by_primary && subkey.is_none() {
        return Err("the signature is not its own".to_owned());
    }
    let vouching = primary_is_good(key, now)?;
    match subkey {
        Some(subkey) => subkey_may_sign(subkey, &key.primary_key, now),
        None if may_sign(vouching) => Ok(()),
        None => Err("the key is not for signing".to_owned()),
    }
}

/// The signature by which the primary key vouches for itself, if it is in force.
fn primary_is_good(
    key: &SignedPublicKey,
    now: SystemTime,
) -> std::result::Result<&Signature, String> {
    let primary = &key.primary_key;
    let revoked = key.details.revocation_signatures.iter().any(|signature| {
        signature.typ() == Some(SignatureType::KeyRevocation)
            && signature.verify_key(primary).is_ok()
    });
    if revoked {
        return Err("the key is revoked".to_owned());
    }
    let direct = key.details.direct_signatures.iter().filter(|signature| {
        signature.typ() == Some(SignatureType::Key) && signature.verify_key(primary).is_ok()
    });
    let users = key
        .details
        .users
        .iter()
        .filter_map(|user| user_certification(user, primary));
    let newest = newest(direct.chain(users), now).ok_or("the key does not vouch for itself")?;
    has_not_expired(primary.created_at().as_secs(), newest, now)?;
    Ok(newest)
}

/// The newest certification of a user by the key itself, unless it was taken
/// back.
fn user_certification<'a>(user: &'a SignedUser, primary: &PublicKey) -> Option<&'a Signature> {
    let own = |signature: &&Signature| {
        signature
            .verify_certification(primary, Tag::UserId, &user.id)
            .is_ok()
    };
    let revoked = user
        .signatures
        .iter()
        .filter(|signature| signature.typ() == Some(SignatureType::CertRevocation))
        .any(|signature| own(&signature));
    if revoked {
        return None;
    }
    user.signatures
        .iter()
        .filter(|signature| signature.is_certification())
        .filter(own)
        .max_by_key(|signature| signature.created().map(pgp::types::Timestamp::as_secs))
}

fn subkey_may_sign(subkey: &SignedPublicSubKey, primary: &PublicKey, now: SystemTime) -> Verdict {
    let bound = |kind: SignatureType| {
        subkey.signatures.iter().filter(move |signature| {
            signature.typ() == Some(kind)
                && signature
                    .verify_subkey_binding(primary, &subkey.key)
                    .is_ok()
        })
    };
    if bound(SignatureType::SubkeyRevocation).next().is_some() {
        return Err("the subkey is revoked".to_owned());
    }
    let binding = newest(bound(SignatureType::SubkeyBinding), now)
        .ok_or("the subkey is not bound to the key")?;
    has_not_expired(subkey.key.created_at().as_secs(), binding, now)?;
    if !binding.key_flags().sign() {
        return Err("the subkey is not for signing".to_owned());
    }
    // Without it anybody could adopt somebody else's subkey.
    let back = binding.embedded_signature().is_some_and(|signature| {
        strong(signature)
            && signature
                .verify_primary_key_binding(&subkey.key, primary)
                .is_ok()
    });
    if back {
        Ok(())
    } else {
        Err("the subkey does not know of the key".to_owned())
    }
}

/// The newest of `signatures` that is in force.
fn newest<'a>(
    signatures: impl Iterator<Item = &'a Signature>,
    now: SystemTime,
) -> Option<&'a Signature> {
    signatures
        .filter(|signature| is_in_force(signature, now).is_ok())
        .max_by_key(|signature| signature.created().map(pgp::types::Timestamp::as_secs))
}

fn may_sign(vouching: &Signature) -> bool {
    let has_flags = vouching.config().is_some_and(|config| {
        config
            .hashed_subpackets()
            .any(|subpacket| matches!(subpacket.data, SubpacketData::KeyFlags(_)))
    });
    // Keys from before the flags existed may do everything.
    !has_flags || vouching.key_flags().sign()
}

/// Hashes that resist collisions. A self-signature may be older than that: there
/// only a second preimage would help an attacker.
fn strong(signature: &Signature) -> bool {
    matches!(
        signature.hash_alg(),
        Some(
            HashAlgorithm::Sha256
                | HashAlgorithm::Sha384
                | HashAlgorithm::Sha512
                | HashAlgorithm::Sha3_256
                | HashAlgorithm::Sha3_512
        )
    )
}

fn is_in_force(signature: &Signature, now: SystemTime) -> Verdict {
    let config = signature.config().ok_or("its version is not known")?;
    let unknown = config.hashed_subpackets().any(|subpacket| {
        subpacket.is_critical
            && matches!(
                subpacket.typ(),
                SubpacketType::Other(_) | SubpacketType::Experimental(_)
            )
    });
    if unknown {
        return Err("it has a critical part that is not known".to_owned());
    }
    let created = signature.created().ok_or("it says not when it was made")?;
    let created = at(created.as_secs());
    if created > now + SKEW {
        return Err("it is from the future".to_owned());
    }
    let lifetime = signature
        .signature_expiration_time()
        .map_or(0, pgp::types::Duration::as_secs);
    if lifetime != 0 && created + seconds(lifetime) < now {
        return Err("it has expired".to_owned());
    }
    Ok(())
}

fn has_not_expired(created: u32, vouching: &Signature, now: SystemTime) -> Verdict {
    let lifetime = vouching
        .key_expiration_time()
        .map_or(0, pgp::types::Duration::as_secs);
    if lifetime != 0 && at(created) + seconds(lifetime) < now {
        return Err("the key has expired".to_owned());
    }
    Ok(())
}

fn at(time: u32) -> SystemTime {
    UNIX_EPOCH + seconds(time)
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}

#[cfg(test)]
mod tests;
