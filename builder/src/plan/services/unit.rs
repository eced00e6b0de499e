//! Names of units, and the `[Install]` section of their files (systemd.unit(5)).

use crate::error::{Error, Result};

/// Kinds of unit, as the end of a name tells.
const KINDS: [&str; 11] = [
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "slice",
    "scope",
];
/// Longest name, in bytes (`UNIT_NAME_MAX`).
const MAX_NAME: usize = 255;

/// A valid name such as `containerd.service` or `getty@tty1.service`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UnitName(String);

impl UnitName {
    /// Takes a name; one without a kind is a service, as in systemctl.
    pub fn parse(text: &str) -> Result<Self> {
        let kind = text.rsplit_once('.').map(|(_, kind)| kind);
        let name = match kind {
            Some(kind) if KINDS.contains(&kind) => text.to_owned(),
            _ => format!("{text}.service"),
        };
        let stem = name.rsplit_once('.').map_or("", |(stem, _)| stem);
        let is_valid = name.len() <= MAX_NAME
            && !stem.is_empty()
            && !stem.starts_with('@')
            && stem
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte));
        if is_valid {
            Ok(Self(name))
        } else {
            Err(Error::input(format!(
                "'{}' is no name of a systemd unit",
                text.escape_debug()
            )))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `service`, `socket`...
    pub fn kind(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(_, kind)| kind)
    }

    fn stem(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(stem, _)| stem)
    }

    /// What is between `@` and the kind; `None` without an `@`, and for a
    /// template.
    pub fn instance(&self) -> Option<&str> {
        let (_, instance) = self.stem().split_once('@')?;
        (!instance.is_empty()).then_some(instance)
    }

    pub fn is_template(&self) -> bool {
        self.stem().ends_with('@')
    }

    /// The template of an instance.
    pub fn template(&self) -> Option<Self> {
        self.instance()?;
        let (prefix, _) = self.stem().split_once('@')?;
        Some(Self(format!("{prefix}@.{}", self.kind())))
    }

    /// This template with an instance.
    pub fn with_instance(&self, instance: &str) -> Self {
        let prefix = self
            .stem()
            .split_once('@')
            .map_or(self.stem(), |(prefix, _)| prefix);
        Self(format!("{prefix}@{instance}.{}", self.kind()))
    }

    /// Replaces the specifiers that make sense before a machine runs: `%n`,
    /// `%N`, `%p`, `%i`, `%j` and `%%`. Others stay.
    pub fn expand(&self, text: &str) -> String {
        let prefix = self
            .stem()
            .split_once('@')
            .map_or(self.stem(), |(prefix, _)| prefix);
        let mut result = String::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                result.push(character);
                continue;
            }
            match characters.next() {
                Some('n') => result.push_str(&self.0),
                Some('N') => result.push_str(self.stem()),
                Some('p') => result.push_str(prefix),
                Some('i' | 'I') => result.push_str(self.instance().unwrap_or_default()),
                Some('j' | 'J') => {
                    result.push_str(prefix.rsplit_once('-').map_or(prefix, |(_, last)| last));
                }
                Some('%') | None => result.push('%'),
                Some(other) => result.extend(['%', other]),
            }
        }
        result
    }
}

/// The `[Install]` section.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Install {
    pub alias: Vec<String>,
    pub wanted_by: Vec<String>,
    pub required_by: Vec<String>,
    pub upheld_by: Vec<String>,
    pub also: Vec<String>,
    pub default_instance: Option<String>,
}

impl Install {
    /// Whether enabling would do nothing.
    pub fn is_empty(&self) -> bool {
        [
            &self.alias,
            &self.wanted_by,
            &self.required_by,
            &self.upheld_by,
            &self.also,
        ]
        .iter()
        .all(|list| list.is_empty())
    }

    /// Adds what a unit file or drop-in says.
    pub fn read(&mut self, text: &str) {
        let mut in_section = false;
        for line in logical_lines(text) {
            let line = line.trim();
            if line.starts_with('[') {
                in_section = line == "[Install]";
                continue;
            }
            if let (true, Some((key, value))) = (in_section, line.split_once('=')) {
                self.assign(key.trim_end(), value.trim_start());
            }
        }
    }

    fn assign(&mut self, key: &str, value: &str) {
        let list = match key {
            "Alias" => &mut self.alias,
            "WantedBy" => &mut self.wanted_by,
            "RequiredBy" => &mut self.required_by,
            "UpheldBy" => &mut self.upheld_by,
            "Also" => &mut self.also,
            "DefaultInstance" => {
                self.default_instance = (!value.is_empty()).then(|| value.to_owned());
                return;
            }
            _ => return,
        };
        // An empty value takes back what stood before.
        if value.is_empty() {
            list.clear();
        }
        list.extend(
            value
                .split_whitespace()
                .map(|word| word.trim_matches(['"', '\'']).to_owned()),
        );
    }
}

/// Lines with those joined that end in a backslash; without comments, which may
/// stand between joined lines.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        let start = line.trim_start();
        if start.starts_with(['#', ';']) {
            continue;
        }
        let joined = match open.take() {
            Some(before) => format!("{before} {start}"),
            None => line.to_owned(),
        };
        match joined.strip_suffix('\\') {
            Some(before) => open = Some(before.to_owned()),
            None => lines.push(joined),
        }
    }
    lines.extend(open);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_apart() {
        let name = UnitName::parse("getty@tty1.service").expect("valid");
        assert_eq!(
            name.template().expect("instance").as_str(),
            "getty@.service"
        );
        assert_eq!(name.instance(), Some("tty1"));
        assert_eq!(
            UnitName::parse("ssh").expect("valid").as_str(),
            "ssh.service"
        );
        let dotted = UnitName::parse("apt-daily.timer").expect("valid");
        assert_eq!((dotted.kind(), dotted.template()), ("timer", None));
        for bad in [
            "",
            "a/b.service",
            "../x.service",
            "@.service",
            "a b.service",
        ] {
            assert!(UnitName::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            name.expand("%p-%i.target %n %%"),
            "getty-tty1.target getty@tty1.service %"
        );
    }

    #[test]
    fn reads_the_install_section_only() {
        let mut install = Install::default();
        install.read(
            "[Unit]\nWantedBy=no.target\n[Install]\n# WantedBy=comment\nWantedBy=a.target \\\n# within\n  b.target\nAlias=\"x.service\"\n",
        );
        assert_eq!(install.wanted_by, ["a.target", "b.target"]);
        assert_eq!(install.alias, ["x.service"]);
        install.read("[Install]\nWantedBy=\nWantedBy=c.target\n");
        assert_eq!(install.wanted_by, ["c.target"]);
    }
}
