//! Whether a maintainer script of a Debian package does anything that matters in an image.
//!
//! The rule is narrow on purpose. A script is judged by its lines, without comments and
//! blank ones, and each of them must be one of these:
//! - `set -e`, `exit 0`, `true`, `:`, `ldconfig`;
//! - what debhelper writes for systemd units (`dh_installsystemd`, its `autoscripts`):
//!   `deb-systemd-helper unmask`, `enable` and `update-state` of a unit, under the tests
//!   that it writes around them. A plan does what these do.
//!
//! What stands below `if [ -d /run/systemd/system ]` is passed over: an image does not run.
//! Anything else is work that somebody has to think about.

use std::collections::BTreeSet;

/// What a script that is accepted asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    /// Units to enable.
    pub enable: BTreeSet<String>,
    /// Whether the cache of the dynamic linker is renewed.
    pub ldconfig: bool,
}

/// The tests under which debhelper's lines run when a package is configured.
const CONFIGURE: [&str; 3] = [
    r#"if [ "$1" = "configure" ] || [ "$1" = "abort-upgrade" ] || [ "$1" = "abort-deconfigure" ] || [ "$1" = "abort-remove" ] ; then"#,
    r#"if [ "$1" = "configure" ] || [ "$1" = "abort-upgrade" ]; then"#,
    r#"if [ "$1" = "configure" ]; then"#,
];
/// The tests that no image passes: systemd runs, or an older version is replaced.
const RUNNING: [&str; 4] = [
    "if [ -d /run/systemd/system ]; then",
    r#"if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then"#,
    r#"if [ "$1" = upgrade ] && [ -d /run/systemd/system ] ; then"#,
    r#"if [ -z "${DPKG_ROOT:-}" ] && [ "$1" = upgrade ] && [ -d /run/systemd/system ] ; then"#,
];
const HELPER: &str = "deb-systemd-helper ";
const QUIET: &str = " >/dev/null || true";

/// What `script` asks for, or the lines that are not accepted.
///
/// # Errors
/// The lines, as they stand in the script, at least one.
pub fn judge(script: &str) -> Result<Effects, Vec<String>> {
    let (interpreter, body) = match script.strip_prefix("#!") {
        Some(rest) => rest.split_once('\n').unwrap_or((rest, "")),
        None => ("/bin/sh", script),
    };
    let mut words = interpreter.split_whitespace();
    let is_shell = matches!(words.next(), Some("/bin/sh" | "/bin/dash" | "/bin/bash"));
    if !is_shell || words.any(|word| word != "-e") {
        return Err(vec![format!("#!{}", interpreter.trim())]);
    }
    let lines: Vec<&str> = body
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    // What spans lines could hide its end from those who count lines.
    let spans = |line: &&&str| {
        let is_odd = |quote: char| line.matches(quote).count() % 2 == 1;
        line.contains("<<") || line.ends_with('\\') || is_odd('"') || is_odd('\'') || is_odd('`')
    };
    let spanning: Vec<String> = lines
        .iter()
        .filter(spans)
        .map(|line| (*line).to_owned())
        .collect();
    if !spanning.is_empty() {
        return Err(spanning);
    }
    let mut judge = Judge {
        lines: &lines,
        at: 0,
        effects: Effects::default(),
        refused: Vec::new(),
    };
    judge.all();
    if judge.refused.is_empty() {
        Ok(judge.effects)
    } else {
        Err(judge.refused)
    }
}

struct Judge<'a> {
    lines: &'a [&'a str],
    at: usize,
    effects: Effects,
    refused: Vec<String>,
}

impl<'a> Judge<'a> {
    fn all(&mut self) {
        // Tests of debhelper that are open: their `fi` is still to come.
        let mut open = 0_usize;
        while let Some(line) = self.next() {
            if CONFIGURE.contains(&line) {
                open += 1;
            } else if line == "fi" && open > 0 {
                open -= 1;
            } else if RUNNING.contains(&line) || is_of_older(line) {
                self.skip(line);
            } else if let Some(unit) = was_enabled(line) {
                self.enabling(line, unit);
            } else if !self.takes(line) {
                self.refused.push(line.to_owned());
            }
        }
        if open > 0 {
            self.refused.push("(an if without its fi)".to_owned());
        }
    }

    fn next(&mut self) -> Option<&'a str> {
        let line = self.lines.get(self.at).copied();
        self.at += 1;
        line
    }

    /// One line that stands for itself.
    fn takes(&mut self, line: &str) -> bool {
        match line {
            "set -e" | "exit 0" | "true" | ":" => true,
            "ldconfig" | "/sbin/ldconfig" => {
                self.effects.ldconfig = true;
                true
            }
            _ => helper(line).is_some_and(|(verb, _)| matches!(verb, "unmask" | "update-state")),
        }
    }

    /// Everything up to the `fi` of the test that was just read.
    fn skip(&mut self, test: &str) {
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                None => {
                    self.refused.push(test.to_owned());
                    return;
                }
                Some("fi") => depth -= 1,
                Some(line) if opens(line) => depth += 1,
                Some(line) if is_plain(line) => {}
                Some(line) => self.refused.push(line.to_owned()),
            }
        }
    }

    /// What debhelper writes after its question whether a unit was enabled before.
    fn enabling(&mut self, test: &str, unit: &str) {
        let mut body = Vec::new();
        loop {
            match self.next() {
                Some("fi") => break,
                Some(line) if body.len() < 3 => body.push(line),
                _ => {
                    self.refused.push(test.to_owned());
                    return;
                }
            }
        }
        let is = |line: &str, verb: &str| helper(line) == Some((verb, unit));
        let fits = match body[..] {
            [enable] => is(enable, "enable"),
            [enable, "else", update] => is(enable, "enable") && is(update, "update-state"),
            _ => false,
        };
        if fits {
            self.effects.enable.insert(unit.to_owned());
        } else {
            self.refused.push(test.to_owned());
        }
    }
}

/// A line in a passed-over block that opens or ends nothing in the middle of itself.
fn is_plain(line: &str) -> bool {
    const STRUCTURE: [&str; 10] = [
        "if", "then", "elif", "fi", "case", "esac", "for", "while", "do", "done",
    ];
    let is_word = |word: &str| STRUCTURE.contains(&word);
    !line.contains(['(', ')', '{', '}'])
        && !line
            .split(|c: char| c.is_whitespace() || ";&|".contains(c))
            .any(is_word)
}

/// A line that opens one `if`, and does nothing else.
fn opens(line: &str) -> bool {
    let test = line
        .strip_prefix("if ")
        .and_then(|rest| rest.strip_suffix("then"));
    test.and_then(|test| test.trim_end().strip_suffix(';'))
        .is_some_and(is_plain)
}

/// `deb-systemd-helper VERB 'UNIT' >/dev/null || true`: the verb and the unit.
fn helper(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix(HELPER)?.strip_suffix(QUIET)?;
    let (verb, unit) = rest.split_once(' ')?;
    Some((verb, unquoted(unit)?))
}

/// debhelper's question whether a unit was enabled before: in a new image, it was.
fn was_enabled(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("if deb-systemd-helper --quiet was-enabled ")?;
    unquoted(
        rest.strip_suffix("then")?
            .trim_end()
            .strip_suffix(';')?
            .trim_end(),
    )
}

/// debhelper's question whether a unit was installed before: in a new image, it was not.
fn is_of_older(line: &str) -> bool {
    line.strip_prefix("if deb-systemd-helper debian-installed ")
        .and_then(|rest| rest.strip_suffix("; then"))
        .is_some_and(|unit| unquoted(unit).is_some())
}

fn unquoted(text: &str) -> Option<&str> {
    let name = text
        .strip_prefix('\'')
        .map_or(Some(text), |rest| rest.strip_suffix('\''))?;
    let is_name = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte));
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As debhelper 13.11 writes it into a package with one service.
    const SYSTEMD: &str = include_str!("../../../../fuzz/corpus/package/postinst");

    #[test]
    fn takes_what_debhelper_writes_for_a_service() {
        let effects = judge(SYSTEMD).expect("plan steps");
        assert_eq!(effects.enable, ["agent.service".to_owned()].into());
        assert!(!effects.ldconfig);
        let script = "#!/bin/sh -e\nldconfig\nexit 0\n";
        assert!(judge(script).expect("trivial").ldconfig);
        assert_eq!(judge("#!/bin/sh\n# nothing\n"), Ok(Effects::default()));
    }

    #[test]
    fn names_the_lines_that_do_work() {
        for (script, refused) in [
            ("#!/bin/sh\nuseradd agent\n", "useradd agent"),
            ("#!/usr/bin/perl\nexit 0\n", "#!/usr/bin/perl"),
            ("#!/bin/sh -x\nexit 0\n", "#!/bin/sh -x"),
            ("#!/bin/sh\ncat <<fi\nfi\n", "cat <<fi"),
            ("#!/bin/sh\ntrue; rm -r /\n", "true; rm -r /"),
            (
                "#!/bin/sh\nif [ \"$1\" = \"configure\" ]; then\n",
                "(an if without its fi)",
            ),
            (
                "#!/bin/sh\nif [ -d /run/systemd/system ]; then\nx\n",
                "if [ -d /run/systemd/system ]; then",
            ),
            (
                "#!/bin/sh\nif [ -d /run/systemd/system ]; then\ntrue; fi; rm -r /; if true\nfi\n",
                "true; fi; rm -r /; if true",
            ),
            (
                "#!/bin/sh\ndeb-systemd-helper purge 'a.service' >/dev/null || true\n",
                "deb-systemd-helper purge 'a.service' >/dev/null || true",
            ),
            (
                "#!/bin/sh\ndeb-systemd-helper unmask '$(x)' >/dev/null || true\n",
                "deb-systemd-helper unmask '$(x)' >/dev/null || true",
            ),
        ] {
            assert_eq!(judge(script), Err(vec![refused.to_owned()]), "{script}");
        }
        let other = SYSTEMD.replace("enable 'agent.service'", "enable 'other.service'");
        assert!(judge(&other).is_err());
    }

    /// `exit 0` inside a passed-over block, `else` of the wrong test, a stray `fi`.
    #[test]
    fn counts_every_if() {
        assert!(judge("#!/bin/sh\nfi\n").is_err());
        assert!(judge("#!/bin/sh\nelse\n").is_err());
        assert!(judge("#!/bin/sh\nif true; then\nfi\n").is_err());
    }
}
