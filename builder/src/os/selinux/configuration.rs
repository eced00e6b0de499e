//! `/etc/selinux/config`, read as libselinux reads it
//! (`libselinux/src/selinux_config.c`).

use super::super::Selinux;
use super::super::tree::{Tree, fixed};
use crate::error::Result;

/// Where it lies.
pub const PATH: &str = "/etc/selinux/config";
/// The policy of a file that names none.
const DEFAULT_POLICY: &str = "targeted";

/// Whether SELinux is on at boot, and with which policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// State at boot.
    pub mode: Selinux,
    /// Name of the policy: a folder in `/etc/selinux`. Not checked.
    pub policy: String,
}

impl Configuration {
    /// Reads the file of the image.
    ///
    /// # Errors
    /// What the volume gives.
    pub fn read(image: &mut dyn Tree) -> Result<Self> {
        Ok(match image.read_text(&fixed(PATH))? {
            Some(text) => Self::parse(&text),
            None => Self {
                mode: Selinux::Absent,
                policy: DEFAULT_POLICY.to_owned(),
            },
        })
    }

    /// Takes the text of the file. The mode is the first line `SELINUX=` that
    /// says one, without white space before it; the policy the last line
    /// `SELINUXTYPE=`, with or without.
    pub fn parse(text: &str) -> Self {
        let mode = text
            .lines()
            .filter_map(|line| line.strip_prefix("SELINUX="))
            .find_map(|value| {
                let value = value.trim_start().to_ascii_lowercase();
                let is = |word: &str| value.starts_with(word);
                match () {
                    () if is("enforcing") => Some(Selinux::Enforcing),
                    () if is("permissive") => Some(Selinux::Permissive),
                    () if is("disabled") => Some(Selinux::Disabled),
                    () => None,
                }
            });
        let policy = text
            .lines()
            .filter_map(|line| {
                let line = line.trim_start();
                let (name, value) = line.split_once('=')?;
                name.eq_ignore_ascii_case("SELINUXTYPE").then_some(value)
            })
            .next_back()
            .unwrap_or(DEFAULT_POLICY);
        Self {
            // A kernel whose init cannot tell the mode runs without a policy.
            mode: mode.unwrap_or(Selinux::Disabled),
            policy: policy
                .trim_end_matches(|it: char| it.is_ascii_whitespace() || it.is_ascii_control())
                .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Selinux, String) {
        let found = Configuration::parse(text);
        (found.mode, found.policy)
    }

    #[test]
    fn takes_the_usual_file() {
        let text = "# This file\n# SELINUX=disabled\nSELINUX=enforcing\n# three\nSELINUXTYPE=targeted \n\n";
        assert_eq!(parsed(text), (Selinux::Enforcing, "targeted".to_owned()));
        let text = "SELINUX=permissive\nSELINUXTYPE=default\nSETLOCALDEFS=0\n";
        assert_eq!(parsed(text), (Selinux::Permissive, "default".to_owned()));
    }

    #[test]
    fn the_first_mode_counts_and_the_last_policy() {
        let text = "SELINUX=sure\nSELINUX= Enforcing # on\nSELINUX=disabled\n\
                    SELINUXTYPE=mls\n  SELINUXTYPE=targeted\t\r\n";
        assert_eq!(parsed(text), (Selinux::Enforcing, "targeted".to_owned()));
    }

    #[test]
    fn a_mode_that_cannot_be_told_is_off() {
        for text in ["", " SELINUX=enforcing", "SELINUX=\n", "SELINUX=yes\n"] {
            assert_eq!(parsed(text).0, Selinux::Disabled, "{text:?}");
        }
        assert_eq!(parsed("").1, "targeted");
    }
}
