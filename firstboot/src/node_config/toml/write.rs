//! Trees to text.

use super::{Item, Table};

/// A whole document.
pub(super) fn document(table: &Table) -> String {
    let mut writer = Writer::default();
    writer.body(table, "");
    writer.text
}

#[derive(Default)]
struct Writer {
    text: String,
    /// Whether the last line is a value: a header below it gets a blank line.
    is_below_value: bool,
}

impl Writer {
    fn body(&mut self, table: &Table, path: &str) {
        for (name, item) in table {
            if !matches!(item, Item::Table(_)) {
                let line = format!("{} = {}\n", key(name), value(item));
                self.text.push_str(&line);
                self.is_below_value = true;
            }
        }
        for (name, item) in table {
            let Item::Table(inner) = item else { continue };
            let path = if path.is_empty() {
                key(name)
            } else {
                format!("{path}.{}", key(name))
            };
            if std::mem::take(&mut self.is_below_value) {
                self.text.push('\n');
            }
            self.text.push_str(&format!("[{path}]\n"));
            self.body(inner, &path);
        }
    }
}

fn key(name: &str) -> String {
    let is_bare = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_bare { name.into() } else { string(name) }
}

fn value(item: &Item) -> String {
    match item {
        Item::Text(text) => string(text),
        Item::Plain(text) => text.clone(),
        Item::Array(items) => {
            let items: Vec<String> = items.iter().map(value).collect();
            format!("[{}]", items.join(", "))
        }
        Item::Table(table) if table.is_empty() => "{}".into(),
        Item::Table(table) => {
            let entries: Vec<String> = table
                .iter()
                .map(|(name, item)| format!("{} = {}", key(name), value(item)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
    }
}

/// Between single quotes a string stands as it is; where it cannot, JSON's escapes
/// are TOML's, but for the one character that JSON lets stand.
fn string(text: &str) -> String {
    if text
        .chars()
        .any(|c| c == '\'' || (c.is_control() && c != '\t'))
    {
        serde_json::Value::from(text)
            .to_string()
            .replace('\u{7f}', "\\u007F")
    } else {
        format!("'{text}'")
    }
}
