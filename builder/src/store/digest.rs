//! A sha256 digest as a value.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A sha256 digest; 64 lower-case hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest with these 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits, of either case.
    ///
    /// # Errors
    /// [`crate::Class::Input`] for anything else.
    pub fn from_hex(text: &str) -> Result<Self> {
        let digits = text.as_bytes();
        let mut bytes = [0; 32];
        let well_formed = digits.len() == 64
            && digits.chunks(2).zip(&mut bytes).all(|(pair, byte)| {
                let high = char::from(pair[0]).to_digit(16);
                let low = char::from(pair[1]).to_digit(16);
                if let (Some(high), Some(low)) = (high, low) {
                    *byte = (high * 16 + low) as u8;
                    true
                } else {
                    false
                }
            });
        if well_formed {
            Ok(Self(bytes))
        } else {
            Err(Error::input(format!("'{text}' is no sha256"))
                .hint("a sha256 has 64 hexadecimal digits: `sha256sum FILE` prints it"))
        }
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 16 hexadecimal digits: enough to tell builds apart in a path.
    pub fn short(&self) -> String {
        self.to_string()[..16].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_hex(&text).map_err(|error| serde::de::Error::custom(error.message()))
    }
}
