//! Names of hybrid nodes, and the templates in them.

/// The templates that a name may hold, without their braces.
pub const NODE_NAME_TEMPLATES: [&str; 4] = ["hostname", "smbios.uuid", "smbios.serial", "mac"];

/// Longest name of a node, in bytes: it is the name of the role's session too,
/// which has this limit.
pub const LONGEST_NODE_NAME: usize = 64;

/// A piece of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplatePart<'a> {
    /// Text that stands for itself.
    Text(&'a str),
    /// One of [`NODE_NAME_TEMPLATES`].
    Template(&'static str),
}

/// Takes a name apart; the error says what is wrong and at which character, from 1.
pub fn template_parts(name: &str) -> Result<Vec<TemplatePart<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = name;
    while let Some(start) = rest.find("{{") {
        let place = name[..name.len() - rest.len() + start].chars().count() + 1;
        let (text, template) = (&rest[..start], &rest[start + 2..]);
        let Some(end) = template.find("}}") else {
            return Err(format!(
                "holds a `{{{{` at character {place} without `}}}}`"
            ));
        };
        let asked = template[..end].trim();
        let Some(known) = NODE_NAME_TEMPLATES
            .into_iter()
            .find(|known| *known == asked)
        else {
            // A name is short and no secret, but may be anything: a little is shown.
            let shown: String = asked
                .chars()
                .take(40)
                .flat_map(char::escape_debug)
                .collect();
            return Err(format!(
                "holds the unknown template `{{{{{shown}}}}}` at character {place}"
            ));
        };
        if !text.is_empty() {
            parts.push(TemplatePart::Text(text));
        }
        parts.push(TemplatePart::Template(known));
        rest = &template[end + 2..];
    }
    if !rest.is_empty() {
        parts.push(TemplatePart::Text(rest));
    }
    Ok(parts)
}

/// What is wrong with a name without templates.
pub fn node_name_problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("is empty".into());
    }
    if name.len() > LONGEST_NODE_NAME {
        return Some(format!("is longer than {LONGEST_NODE_NAME} bytes"));
    }
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let valid = is_edge(bytes.first())
        && is_edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(byte));
    (!valid).then(|| "is no name of a Kubernetes node".into())
}
