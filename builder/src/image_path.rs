//! Paths inside an image.
//!
//! An [`ImagePath`] is absolute and normal: components separated by single
//! slashes, no `.` or `..`, no NUL, at most 4,096 bytes, each component at most
//! 255 bytes. It is bytes, not UTF-8, since that is what Linux file systems
//! hold. It never names a file of the machine that nodekiln runs on: there is no
//! conversion to `std::path::Path`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Longest path, in bytes (Linux `PATH_MAX`).
const MAX_PATH: usize = 4096;
/// Longest component, in bytes (Linux `NAME_MAX`).
const MAX_COMPONENT: usize = 255;

/// See the module documentation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImagePath(Vec<u8>);

impl ImagePath {
    /// `/`.
    pub fn root() -> Self {
        Self(b"/".to_vec())
    }

    /// Takes `path`, which must begin with a slash. Repeated and trailing
    /// slashes are dropped.
    ///
    /// # Errors
    /// [`crate::Class::Input`] for a relative path, `.`/`..` components, NUL, or
    /// excessive length.
    pub fn new(path: impl AsRef<[u8]>) -> Result<Self> {
        let bytes = path.as_ref();
        if bytes.first() != Some(&b'/') {
            return Err(Error::input(format!(
                "path '{}' is not absolute",
                Self::printable(bytes)
            )));
        }
        let mut result = Self::root();
        for component in bytes
            .split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty())
        {
            result = result.join(component)?;
        }
        Ok(result)
    }

    /// This path with one more component.
    ///
    /// # Errors
    /// As [`ImagePath::new`]; also when `component` is empty or holds a slash.
    pub fn join(&self, component: impl AsRef<[u8]>) -> Result<Self> {
        let component = component.as_ref();
        let problem = if component.is_empty() {
            Some("an empty component")
        } else if component == b"." || component == b".." {
            Some("a '.' or '..' component")
        } else if component.contains(&b'/') {
            Some("a slash in a component")
        } else if component.contains(&0) {
            Some("a NUL byte")
        } else if component.len() > MAX_COMPONENT {
            Some("a component of more than 255 bytes")
        } else if self.0.len() + 1 + component.len() > MAX_PATH {
            Some("more than 4,096 bytes")
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(Error::input(format!(
                "path '{}' + '{}' has {problem}",
                self,
                Self::printable(component)
            )));
        }
        let mut bytes = self.0.clone();
        if bytes != b"/" {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(component);
        Ok(Self(bytes))
    }

    /// The bytes, beginning with a slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as UTF-8, if it is.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Whether this is `/`.
    pub fn is_root(&self) -> bool {
        self.0 == b"/"
    }

    /// The components, first one first; none for `/`.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0
            .split(|byte| *byte == b'/')
            .filter(|part| !part.is_empty())
    }

    /// The last component; `None` for `/`.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// The folder that holds this; `None` for `/`.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let slash = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(if slash == 0 {
            Self::root()
        } else {
            Self(self.0[..slash].to_vec())
        })
    }

    /// Whether this is `other` or lies below it.
    pub fn starts_with(&self, other: &Self) -> bool {
        other.is_root()
            || self.0 == other.0
            || (self.0.starts_with(&other.0) && self.0.get(other.0.len()) == Some(&b'/'))
    }

    fn printable(bytes: &[u8]) -> String {
        bytes.escape_ascii().to_string()
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            Some(text) if !text.chars().any(char::is_control) => formatter.write_str(text),
            _ => formatter.write_str(&Self::printable(&self.0)),
        }
    }
}

impl fmt::Debug for ImagePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ImagePath({self})")
    }
}

impl std::str::FromStr for ImagePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl Serialize for ImagePath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImagePath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(|error| serde::de::Error::custom(error.message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_slashes() {
        let path = ImagePath::new("//usr///bin/").expect("valid");
        assert_eq!(path.as_str(), Some("/usr/bin"));
        assert_eq!(path.parent().expect("parent").as_str(), Some("/usr"));
        assert_eq!(path.file_name(), Some(&b"bin"[..]));
    }

    #[test]
    fn refuses_what_could_lead_out() {
        for bad in ["", "usr", "/usr/../etc", "/./a", "/a\0b"] {
            assert!(ImagePath::new(bad).is_err(), "{bad:?} must be refused");
        }
        assert!(ImagePath::new(format!("/{}", "a".repeat(256))).is_err());
        assert!(ImagePath::root().join("a/b").is_err());
    }

    #[test]
    fn knows_what_lies_below() {
        let etc = ImagePath::new("/etc").expect("valid");
        assert!(
            ImagePath::new("/etc/passwd")
                .expect("valid")
                .starts_with(&etc)
        );
        assert!(
            !ImagePath::new("/etcetera")
                .expect("valid")
                .starts_with(&etc)
        );
        assert!(etc.starts_with(&ImagePath::root()));
    }
}
