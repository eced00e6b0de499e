//! Commands that run in the guest and tell their result over its console, so
//! that a guest without a network can be asked what it looks like.
//!
//! The guest's cloud-init runs them, as root, after first boot is done. Their
//! output comes back as lines
//! `nodekiln-test:NAME:BASE64`, one for every 57 bytes, and a last one
//! `nodekiln-test:NAME:=CODE`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, Result};
use crate::machine::Architecture;
use crate::seed::Part;

/// Begins every line of a result.
const PREFIX: &str = "nodekiln-test:";
/// Most bytes that one command's output may have: the console of a slow guest
/// takes seconds for it, and it is kept in memory.
pub const OUTPUT_LIMIT: usize = 1 << 20;

/// A command for the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestCommand {
    /// Its name in [`crate::Report::guest`]: letters, digits, `-` and `_`.
    pub name: String,
    /// A script for `/bin/sh`.
    pub script: String,
}

/// A command that prints `script`'s output and errors.
pub fn guest_command(name: impl Into<String>, script: impl Into<String>) -> GuestCommand {
    GuestCommand {
        name: name.into(),
        script: script.into(),
    }
}

/// What a command gave.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestOutput {
    /// Exit code.
    pub code: i32,
    /// Standard output and standard error, in the order they were written; what
    /// is not UTF-8 is replaced.
    pub output: String,
}

/// The user data that makes cloud-init run `commands`.
pub(crate) fn part(commands: &[GuestCommand], architecture: Architecture) -> Result<Part> {
    let device = architecture.serial_device();
    let mut script = vec![format!("exec </dev/null >/dev/{device} 2>&1\n")];
    for GuestCommand { name, script: body } in commands {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
            return Err(Error::option(
                format!("name of a guest command '{}'", name.escape_default()),
                "is not 1 to 64 letters, digits, '-' and '_'",
            ));
        }
        script.push(format!(
            "out=$(mktemp)\n\
             echo {body} | base64 -d | sh >\"$out\" 2>&1\n\
             code=$?\n\
             head -c {OUTPUT_LIMIT} \"$out\" | base64 -w 76 | sed 's/^/{PREFIX}{name}:/'\n\
             printf '\\n%s\\n' \"{PREFIX}{name}:=$code\"\n\
             rm -f \"$out\"\n",
            body = STANDARD.encode(body),
        ));
    }
    // A script, not a #cloud-config: of two of those, the later one's lists, such
    // as `write_files`, replace the earlier one's, which are the site's.
    // `--no-block`: a command may wait for units that wait for cloud-init.
    // The kernel keeps to itself what is less than a panic: it would write into the
    // middle of a line of results.
    // `After` takes effect because first boot is queued or done by then.
    let user_script = format!(
        "#!/bin/sh\n\
         umask 077\n\
         dmesg -n 1\n\
         echo {} | base64 -d >/run/nodekiln-test.sh\n\
         exec systemd-run --no-block --unit=nodekiln-test \
         --property=After=nodekiln-firstboot.service /bin/sh /run/nodekiln-test.sh\n",
        STANDARD.encode(script.concat())
    );
    Part::of_cloud_init(user_script)
}

/// Gathers the results from the console.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    waiting: Vec<String>,
    partial: BTreeMap<String, Vec<u8>>,
    done: BTreeMap<String, GuestOutput>,
}

impl Collector {
    pub(crate) fn new(commands: &[GuestCommand]) -> Self {
        Self {
            waiting: commands
                .iter()
                .map(|command| command.name.clone())
                .collect(),
            ..Self::default()
        }
    }

    /// Takes a clean line; says whether it is part of a result. Only commands
    /// that we sent are listened to.
    pub(crate) fn line(&mut self, line: &str) -> bool {
        let found = line.find(PREFIX).map(|at| &line[at + PREFIX.len()..]);
        let Some((name, value)) = found.and_then(|rest| rest.split_once(':')) else {
            return false;
        };
        let Some(place) = self.waiting.iter().position(|waiting| waiting == name) else {
            return false;
        };
        let partial = self.partial.entry(name.to_owned()).or_default();
        if let Some(code) = value.strip_prefix('=') {
            let Ok(code) = code.trim().parse() else {
                return false;
            };
            let output = String::from_utf8_lossy(partial).into_owned();
            self.done
                .insert(name.to_owned(), GuestOutput { code, output });
            self.partial.remove(name);
            self.waiting.remove(place);
        } else if partial.len() < OUTPUT_LIMIT {
            match STANDARD.decode(value.trim()) {
                Ok(bytes) => partial.extend(bytes),
                // The kernel wrote into the middle of the line.
                Err(_) => partial.extend(b"\n[a line was garbled on the console]\n"),
            }
        }
        true
    }

    /// Commands whose end was not seen yet.
    pub(crate) fn waiting(&self) -> &[String] {
        &self.waiting
    }

    pub(crate) fn results(&self) -> BTreeMap<String, GuestOutput> {
        self.done.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cloud_config_of_a_site_is_not_replaced() {
        let part = part(&[guest_command("a", "true")], Architecture::X86_64).expect("a part");
        assert_eq!(part.content_type(), "text/x-shellscript");
    }

    #[test]
    fn gathers_lines_to_a_result() {
        let mut collector = Collector::new(&[guest_command("files", "ls")]);
        assert!(!collector.line("nodekiln-test:other:=0"));
        assert!(collector.line("nodekiln-test:files:aGVsbG8g"));
        assert!(!collector.line("[  12.0] audit: something else"));
        assert!(collector.line("login: nodekiln-test:files:d29ybGQK"));
        assert_eq!(collector.waiting(), ["files"]);
        assert!(collector.line("nodekiln-test:files:=3"));
        assert!(collector.waiting().is_empty());
        assert_eq!(
            collector.results().get("files"),
            Some(&GuestOutput {
                code: 3,
                output: "hello world\n".to_owned()
            })
        );
        assert!(!collector.line("nodekiln-test:files:=0"), "once is enough");
    }

    #[test]
    fn names_cannot_smuggle_commands() {
        for name in ["", "a b", "a'; rm -rf /", "é"] {
            let commands = [guest_command(name, "true")];
            assert!(part(&commands, Architecture::X86_64).is_err(), "{name}");
        }
    }

    /// The script that cloud-init gets, run here: what a guest would write is
    /// what the collector reads.
    #[test]
    fn the_script_writes_what_is_read() {
        let commands = [
            guest_command("first", "printf 'a\\0b'; echo it\\'s >&2; exit 7"),
            guest_command("second", "seq 1 100"),
            guest_command("silent", "true"),
        ];
        let seed = crate::Seed {
            parts: vec![part(&commands, Architecture::X86_64).expect("made")],
            ..crate::Seed::default()
        };
        let user_data = String::from_utf8(seed.user_data().expect("made")).expect("text");
        let encoded = user_data
            .lines()
            .find_map(|line| line.strip_prefix("echo ")?.split(' ').next())
            .expect("a script");
        let script = String::from_utf8(STANDARD.decode(encoded).expect("base64")).expect("text");
        let (_, script) = script.split_once('\n').expect("a first line");
        let written = std::process::Command::new("sh")
            .args(["-c", script])
            .output()
            .expect("sh runs");
        let mut collector = Collector::new(&commands);
        for line in String::from_utf8_lossy(&written.stdout).lines() {
            collector.line(line);
        }
        let results = collector.results();
        assert_eq!(results["first"].output, "a\0bit's\n");
        assert_eq!(results["first"].code, 7);
        assert!(results["second"].output.ends_with("99\n100\n"));
        assert_eq!(
            results["silent"],
            GuestOutput {
                code: 0,
                output: String::new()
            }
        );
    }
}
