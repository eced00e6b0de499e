//! One entry of the log: a line of JSON, which the journal keeps with the right
//! priority because of what stands before it (sd-daemon, "<N>").

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// How much an entry matters; the numbers are syslog's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The machine will not become a node like this.
    Error = 3,
    /// It will, but a person should know.
    Warning = 4,
    /// What is done.
    Info = 6,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// The line, without its end. `prefixed` for the journal.
pub(super) fn line(
    level: Level,
    message: &str,
    fields: &BTreeMap<&str, String>,
    prefixed: bool,
) -> String {
    let mut entry = Map::new();
    entry.insert("level".into(), level.name().into());
    entry.insert("message".into(), message.into());
    for (name, value) in fields {
        entry.entry(*name).or_insert_with(|| value.as_str().into());
    }
    let prefix = if prefixed {
        format!("<{}>", level as u8)
    } else {
        String::new()
    };
    format!("{prefix}{}", Value::Object(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_line_of_json() {
        let fields = BTreeMap::from([("phase", "files".to_owned()), ("level", "no".into())]);
        let text = line(Level::Warning, "two\nlines", &fields, true);
        assert_eq!(
            text,
            r#"<4>{"level":"warning","message":"two\nlines","phase":"files"}"#
        );
        assert!(line(Level::Error, "", &BTreeMap::new(), false).starts_with('{'));
    }
}
