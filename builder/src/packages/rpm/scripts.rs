//! Whether a script of an rpm does anything that matters in an image.
//!
//! The rule is narrow on purpose: `ldconfig` as a program or as a line, lines that do
//! nothing, and what systemd's macro `%systemd_post` becomes. That applies presets to the
//! units of a package when it is new; a machine without an identity, as every image is,
//! applies all presets on its first boot (`systemd.preset(5)`).

use super::super::Damage;
use super::header::Header;

/// The scripts that run when a package is installed: name, script, program.
const INSTALL: [(&str, u32, u32); 4] = [
    ("%pretrans", 1151, 1153),
    ("%pre", 1023, 1085),
    ("%post", 1024, 1086),
    ("%posttrans", 1152, 1154),
];
const LDCONFIG: [&str; 2] = ["/sbin/ldconfig", "/usr/sbin/ldconfig"];
/// What `%systemd_post` begins with, in systemd 239 and since 250.
const INITIAL: [&str; 2] = [
    "if [ $1 -eq 1 ] ; then",
    r#"if [ $1 -eq 1 ] && [ -x "/usr/lib/systemd/systemd-update-helper" ]; then"#,
];
/// What it does then, before and after the names of units.
const PRESET: [(&str, &str); 2] = [
    ("systemctl --no-reload preset ", " &>/dev/null || :"),
    (
        "/usr/lib/systemd/systemd-update-helper install-system-units ",
        " || :",
    ),
];

/// Whether the cache of the dynamic linker is renewed; and the scripts that matter, by name,
/// with the lines that do.
pub type Verdict = (bool, Vec<(&'static str, Vec<String>)>);

/// What the scripts of a package would do: whether the cache of the dynamic linker is
/// renewed, and in words what matters.
///
/// # Errors
/// When the header is damaged.
pub fn judge(header: &Header) -> Result<Verdict, Damage> {
    let mut ldconfig = false;
    let mut matter = Vec::new();
    for (name, script, program) in INSTALL {
        let text = header.text(script)?.unwrap_or_default();
        let program = header.texts(program)?;
        let refused = match program.first().map(String::as_str) {
            None if text.is_empty() => continue,
            Some(path) if LDCONFIG.contains(&path) && text.trim().is_empty() => {
                ldconfig = true;
                continue;
            }
            None | Some("/bin/sh" | "/usr/bin/sh" | "/bin/bash" | "/usr/bin/bash")
                if program.len() <= 1 =>
            {
                lines(&text, &mut ldconfig)
            }
            Some(other) => vec![format!("a script of {other}")],
            None => vec![text],
        };
        if !refused.is_empty() {
            matter.push((name, refused));
        }
    }
    Ok((ldconfig, matter))
}

/// The lines of a shell script that are not accepted.
fn lines(text: &str, ldconfig: &mut bool) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = text
        .lines()
        .map(words)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let mut refused = Vec::new();
    let mut rest = &lines[..];
    while let Some((line, after)) = rest.split_first() {
        rest = after;
        if let [preset, fi, behind @ ..] = after
            && INITIAL.contains(&line.as_str())
            && is_preset(preset)
            && fi == "fi"
        {
            rest = behind;
        } else if LDCONFIG.contains(&line.as_str()) || line == "ldconfig" {
            *ldconfig = true;
        } else if !matches!(line.as_str(), "exit 0" | "true" | ":" | "set -e") {
            refused.push(line.clone());
        }
    }
    refused
}

fn is_preset(line: &str) -> bool {
    PRESET.iter().any(|(start, end)| {
        let units = line
            .strip_prefix(start)
            .and_then(|rest| rest.strip_suffix(end));
        let is_unit = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@ ".contains(&byte);
        units.is_some_and(|units| units.bytes().all(is_unit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_systemds_macro_becomes() {
        let mut ldconfig = false;
        let text = "\nif [ $1 -eq 1 ] && [ -x \"/usr/lib/systemd/systemd-update-helper\" ]; then \n    # Initial installation \n    /usr/lib/systemd/systemd-update-helper install-system-units agent.service || : \nfi \n/sbin/ldconfig\n";
        assert_eq!(lines(text, &mut ldconfig), [""; 0]);
        assert!(ldconfig);
        let old = "if [ $1 -eq 1 ] ; then \n        # Initial installation \n        systemctl --no-reload preset a.service b.socket &>/dev/null || : \nfi \n";
        assert_eq!(lines(old, &mut ldconfig), [""; 0]);
        let more = old.replace("a.service", "$(reboot)");
        assert_eq!(lines(&more, &mut ldconfig).len(), 3);
        assert_eq!(
            lines("getent group a || groupadd a\n", &mut ldconfig).len(),
            1
        );
    }
}
