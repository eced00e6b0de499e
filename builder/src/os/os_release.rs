//! `os-release`, by its specification
//! (<https://www.freedesktop.org/software/systemd/man/latest/os-release.html>).

use std::collections::BTreeMap;

use super::tree::{Tree, fixed};
use crate::error::Result;

/// The fields that nodekiln uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsRelease {
    /// `ID`; `linux` where it is absent, as the specification says.
    pub id: String,
    /// `VERSION_ID`, or empty.
    pub version_id: String,
    /// `PRETTY_NAME`; `Linux` where it is absent.
    pub pretty_name: String,
    /// `ID_LIKE`, split at spaces.
    pub id_like: Vec<String>,
}

impl OsRelease {
    /// Reads `/etc/os-release`, or `/usr/lib/os-release` where that is absent.
    ///
    /// # Errors
    /// What the volume gives.
    pub fn read(image: &mut dyn Tree) -> Result<Option<Self>> {
        for path in ["/etc/os-release", "/usr/lib/os-release"] {
            if let Some(text) = image.read_text(&fixed(path))? {
                return Ok(Some(Self::parse(&text)));
            }
        }
        Ok(None)
    }

    /// Takes the text of the file. Lines that are no assignments are passed
    /// over; of two assignments to one name the last one counts.
    pub fn parse(text: &str) -> Self {
        let mut values: BTreeMap<&str, String> = BTreeMap::new();
        for line in text.lines() {
            let line = line.trim();
            if line.starts_with('#') {
                continue;
            }
            if let Some((name, value)) = line.split_once('=') {
                values.insert(name.trim_end(), unquote(value.trim()));
            }
        }
        let mut take = |name: &str, default: &str| {
            values
                .remove(name)
                .filter(|value| !value.is_empty())
                .unwrap_or_else(|| default.to_owned())
        };
        Self {
            id: take("ID", "linux"),
            version_id: take("VERSION_ID", ""),
            pretty_name: take("PRETTY_NAME", "Linux"),
            id_like: take("ID_LIKE", "")
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
        }
    }
}

/// Takes shell quoting off a value. Control characters, which no honest file
/// has, are dropped, since the value is shown to people.
fn unquote(value: &str) -> String {
    let mut result = String::new();
    let mut quote = None;
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', None | Some('"')) => result.extend(characters.next()),
            ('\'' | '"', None) => quote = Some(character),
            (character, Some(open)) if character == open => quote = None,
            (character, _) => result.push(character),
        }
    }
    result.retain(|character| !character.is_control());
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_every_kind_of_quoting() {
        let found = OsRelease::parse(
            "# comment\nNAME=x\nID='rhel'\nVERSION_ID=9.6\nID_LIKE=\"fedora  centos\"\n\
             PRETTY_NAME=\"A \\\"quoted\\\" \\$name\"\nnonsense\n",
        );
        assert_eq!(found.id, "rhel");
        assert_eq!(found.version_id, "9.6");
        assert_eq!(found.id_like, ["fedora", "centos"]);
        assert_eq!(found.pretty_name, "A \"quoted\" $name");
    }

    #[test]
    fn has_the_defaults_of_the_specification() {
        let found = OsRelease::parse("ID=\n");
        assert_eq!(
            (found.id.as_str(), found.pretty_name.as_str()),
            ("linux", "Linux")
        );
        assert!(OsRelease::parse("PRETTY_NAME=\"a\x1b[31mb\"").pretty_name == "a[31mb");
    }
}
