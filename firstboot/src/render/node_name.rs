//! The name of a node, and the templates that let one NodeConfig serve a fleet.

use super::{Error, Facts};
use crate::node_config::{NODE_NAME_TEMPLATES, TemplatePart, node_name_problem, template_parts};

const FIELD: &str = "spec.hybrid.iamRolesAnywhere.nodeName";

/// What firmware and systems say when nobody gave them a name. A name made from
/// one of these would be that of many machines.
const PLACEHOLDERS: [&str; 13] = [
    "",
    "0",
    "123456789",
    "default string",
    "localhost",
    "localhost.localdomain",
    "n/a",
    "none",
    "not applicable",
    "not specified",
    "system serial number",
    "to be filled by o.e.m.",
    "unknown",
];

/// Fills the templates in a name. Whatever a machine says of itself is put in
/// lower case, and what cannot stand in a name becomes a hyphen.
pub(super) fn expand(given: &str, facts: &Facts) -> Result<String, Error> {
    let parts = template_parts(given).map_err(|problem| Error::field(FIELD, problem))?;
    let mut name = String::new();
    for part in parts {
        match part {
            TemplatePart::Text(text) => name.push_str(text),
            TemplatePart::Template(template) => {
                let value = value(template, facts).ok_or_else(|| Error::Fact {
                    what: format!("`{{{{{template}}}}}` in {FIELD}"),
                    hint: format!(
                        "the machine does not say; use another of {}",
                        NODE_NAME_TEMPLATES
                            .map(|name| format!("`{{{{{name}}}}}`"))
                            .join(", ")
                    ),
                })?;
                name.push_str(&value);
            }
        }
    }
    match node_name_problem(&name) {
        Some(problem) => Err(Error::field(FIELD, problem)),
        None => Ok(name),
    }
}

/// What a template stands for on this machine.
fn value(template: &str, facts: &Facts) -> Option<String> {
    let names = &facts.names;
    let text = match template {
        "hostname" => &names.host_name,
        "smbios.uuid" => &names.smbios_uuid,
        "smbios.serial" => &names.smbios_serial,
        "mac" => &names.mac,
        _ => return None,
    };
    let text = text.as_deref()?.trim().to_ascii_lowercase();
    let mut digits = text.bytes().filter(|byte| byte.is_ascii_alphanumeric());
    let first = digits.next()?;
    // All zeros, all ones: an identifier that was never set.
    let is_blank = matches!(first, b'0' | b'f') && digits.all(|byte| byte == first);
    if is_blank || PLACEHOLDERS.contains(&text.as_str()) {
        return None;
    }
    let clean: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect();
    let clean = clean.trim_matches(['-', '.']).to_owned();
    (!clean.is_empty()).then_some(clean)
}

#[cfg(test)]
mod tests {
    use super::super::Names;
    use super::*;

    fn facts() -> Facts {
        Facts {
            names: Names {
                host_name: Some("Rack-7.example".into()),
                smbios_uuid: Some("4C4C4544-0042-3510-8052-B4C04F4A3132".into()),
                smbios_serial: Some("VMware-56 4d 8a".into()),
                mac: Some("0a:ff:12:00:00:01".into()),
            },
            ..Facts::default()
        }
    }

    #[test]
    fn templates_are_filled_from_the_machine() {
        for (given, expected) in [
            ("plain-1", "plain-1"),
            ("Plain-1", "Plain-1"),
            ("{{hostname}}", "rack-7.example"),
            ("{{ hostname }}", "rack-7.example"),
            (
                "node-{{smbios.uuid}}",
                "node-4c4c4544-0042-3510-8052-b4c04f4a3132",
            ),
            ("{{smbios.serial}}.edge", "vmware-56-4d-8a.edge"),
            ("a{{mac}}b", "a0a-ff-12-00-00-01b"),
            ("{{mac}}-{{mac}}", "0a-ff-12-00-00-01-0a-ff-12-00-00-01"),
        ] {
            assert_eq!(expand(given, &facts()).unwrap(), expected, "{given}");
        }
    }

    #[test]
    fn what_is_no_template_is_said_with_its_place() {
        for (given, problem) in [
            (
                "a{{host}}",
                "holds the unknown template `{{host}}` at character 2",
            ),
            ("{{hostname", "holds a `{{` at character 1 without `}}`"),
            ("{{}}", "holds the unknown template `{{}}` at character 1"),
        ] {
            let error = expand(given, &facts()).unwrap_err().to_string();
            assert!(error.contains(problem), "{given}: {error}");
        }
    }

    #[test]
    fn a_machine_that_does_not_say_its_name_gets_no_name_of_many() {
        for serial in [
            None,
            Some(""),
            Some("To Be Filled By O.E.M."),
            Some("0000000000"),
            Some("  "),
            Some("-.-"),
            Some("None\n"),
        ] {
            let mut facts = facts();
            facts.names.smbios_serial = serial.map(Into::into);
            let error = expand("n-{{smbios.serial}}", &facts).unwrap_err();
            assert!(matches!(error, Error::Fact { .. }), "{serial:?}: {error:?}");
        }
        let mut facts = facts();
        facts.names.smbios_uuid = Some("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF".into());
        assert!(expand("{{smbios.uuid}}", &facts).is_err());
        facts.names.host_name = Some("localhost".into());
        assert!(expand("{{hostname}}", &facts).is_err());
    }

    #[test]
    fn what_comes_out_is_a_name_of_at_most_64_bytes() {
        let mut facts = facts();
        facts.names.host_name = Some("x".repeat(64));
        assert_eq!(expand("{{hostname}}", &facts).unwrap().len(), 64);
        for given in ["a{{hostname}}", "", "-a", "a_b", "a b", "é"] {
            let error = expand(given, &facts).unwrap_err();
            assert!(matches!(error, Error::Field { .. }), "{given}: {error:?}");
        }
    }
}
