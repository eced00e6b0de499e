//! Paragraphs of `Field: value` lines (deb822(5)).

/// A paragraph: its fields in their order, values with their line breaks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Paragraph {
    fields: Vec<(String, String)>,
}

impl Paragraph {
    /// Reads one paragraph; `None` when a line is none of one, or a field stands in it
    /// twice.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            if line.starts_with([' ', '\t']) {
                let (_, value) = fields.last_mut()?;
                value.push('\n');
                value.push_str(line.trim_end());
                continue;
            }
            let (name, value) = line.split_once(':')?;
            let is_name = !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_graphic())
                && !name.starts_with(['#', '-']);
            if !is_name
                || fields
                    .iter()
                    .any(|(known, _)| known.eq_ignore_ascii_case(name))
            {
                return None;
            }
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
        (!fields.is_empty()).then_some(Self { fields })
    }

    /// The value of a field, whatever its case; `None` without it or when it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self
            .fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name));
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The fields, in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_folded_values() {
        let text = "Package: a\nDescription: short\n long\n .\n more\nempty:\n";
        let paragraph = Paragraph::parse(text).expect("sound");
        assert_eq!(paragraph.get("package"), Some("a"));
        assert_eq!(
            paragraph.get("Description"),
            Some("short\n long\n .\n more")
        );
        assert_eq!(paragraph.get("Empty"), None);
        assert_eq!(paragraph.fields().count(), 3);
        for damaged in ["", " x", "no field\n", "A: 1\nA: 2\n", ": x\n"] {
            assert_eq!(Paragraph::parse(damaged), None, "{damaged}");
        }
    }
}
