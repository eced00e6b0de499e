//! The lead, the signatures and the header of an rpm: what a signature is over.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::super::Damage;
use super::header::{self, Added, Header};
use crate::store::Digest;

/// Marks an rpm.
pub const MAGIC: &[u8] = &[0xed, 0xab, 0xee, 0xdb];
/// Bytes of the lead, of which nothing but the magic and the format counts.
const LEAD: usize = 96;
/// Signatures over the header, by RSA and by other algorithms.
const SIGNATURES: [u32; 2] = [268, 267];
/// sha256 of the header, in hexadecimal digits.
const SHA256_SUM: u32 = 273;
/// The tag of the region of signatures, and room that is left for more.
const NOT_KEPT: [u32; 2] = [62, 1008];
/// Tags of signatures, and as which an installed package keeps them
/// (`headerMergeLegacySigs` of rpm's `lib/package.c`).
const RENAMED: [(u32, u32); 5] = [
    (1000, 257),
    (1002, 259),
    (1004, 261),
    (1005, 262),
    (1007, 1046),
];

/// The beginning of a package, up to its payload.
#[derive(Debug)]
pub struct Signed {
    signatures: Header,
    /// The header with its magic: what is signed.
    pub header: Vec<u8>,
}

impl Signed {
    /// Reads it from the beginning of a package.
    ///
    /// # Errors
    /// When it is damaged or passes a bound.
    pub fn read(package: &mut dyn Read) -> Result<Self, Damage> {
        let mut lead = [0; LEAD];
        package.read_exact(&mut lead)?;
        // The type of signatures that is a header: every rpm since 1998.
        if !lead.starts_with(MAGIC) || lead[78..80] != [0, 5] {
            return Err("it is no rpm of the format 3 or 4".into());
        }
        let mut signatures = read_header(package)?;
        let padding = signatures.len().next_multiple_of(8) - signatures.len();
        io::copy(&mut package.take(padding as u64), &mut io::sink())?;
        let signatures = Header::parse(signatures.split_off(header::MAGIC.len()))?;
        let header = read_header(package)?;
        Ok(Self { signatures, header })
    }

    /// Compares the header with the sum beside its signatures.
    ///
    /// # Errors
    /// When there is none, or it is another.
    pub fn check_sum(&self) -> Result<(), Damage> {
        let sum = self.signatures.text(SHA256_SUM)?;
        let sum = sum.ok_or("it has no sha256 of its header: rpm before 4.14 made it")?;
        let found = Digest::from_bytes(Sha256::digest(&self.header).into());
        if found.to_string() == sum {
            Ok(())
        } else {
            Err("its header has not the sum beside it".into())
        }
    }

    /// The OpenPGP signatures over the header.
    ///
    /// # Errors
    /// When one is damaged.
    pub fn signatures(&self) -> Result<Vec<Vec<u8>>, Damage> {
        let mut found = Vec::new();
        for tag in SIGNATURES {
            found.extend(self.signatures.bytes(tag)?.map(<[u8]>::to_vec));
        }
        Ok(found)
    }

    /// The tags that the header of an installed package keeps of the signatures.
    pub(super) fn kept(&self, header: &Header) -> Result<Vec<Added>, Damage> {
        let mut kept = Vec::new();
        for tag in self.signatures.tags().filter(|tag| !NOT_KEPT.contains(tag)) {
            let renamed = RENAMED.iter().find(|(from, _)| *from == tag);
            let other = renamed.map_or(tag, |(_, to)| *to);
            let is_kept = renamed.is_some() || (256..1000).contains(&tag);
            if is_kept && !header.has(other) {
                kept.extend(self.signatures.copied(tag, other)?);
            }
        }
        Ok(kept)
    }
}

/// A header with its magic.
fn read_header(package: &mut dyn Read) -> Result<Vec<u8>, Damage> {
    let mut bytes = vec![0; header::MAGIC.len() + 8];
    package.read_exact(&mut bytes)?;
    if !bytes.starts_with(&header::MAGIC) {
        return Err("a header of it has no magic".into());
    }
    let (entries, size) = header::sizes(&bytes[header::MAGIC.len()..])?;
    let rest = (entries * 16 + size) as u64;
    // As much as is there: what a header says of its size is not yet a reason for memory.
    let read = package.take(rest).read_to_end(&mut bytes)?;
    if (read as u64) < rest {
        return Err("a header of it is cut off".into());
    }
    Ok(bytes)
}
