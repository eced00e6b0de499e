//! The kernel's command line: in what GRUB reads at boot, and in what its
//! configuration is made from when a kernel is updated.

use std::fmt::Write as _;

use super::boot_entries;
use super::draft::Draft;
use crate::error::{Error, Result};
use crate::os::Tree;
use crate::os::boot_loader::{CONFIGURATIONS, ENTRIES};
use crate::os::tree::fixed;
use crate::profile::names::is_kernel_argument;

const REASON: &str = "kernel command line";
/// What grub-mkconfig reads (a shell script).
const DEFAULTS: &str = "/etc/default/grub";
/// Scripts that Debian's and Ubuntu's grub-mkconfig read after it.
const DROP_INS: &str = "/etc/default/grub.d";
/// Sorts after the vendor's, which set the variable anew.
const DROP_IN: &str = "/etc/default/grub.d/90-nodekiln.cfg";

/// The wish, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Edit {
    /// Names whose every occurrence goes.
    removed: Vec<String>,
    /// Arguments that are there afterwards, at the end, in order.
    added: Vec<String>,
}

impl Edit {
    pub(super) fn new(wish: &[String]) -> Result<Self> {
        let mut edit = Self::default();
        for argument in wish {
            let text = argument.strip_prefix('-').unwrap_or(argument);
            if !is_kernel_argument(argument) {
                return Err(Error::input(format!(
                    "plan the kernel argument '{}': spaces, quotes and what shells or GRUB give a meaning are not taken",
                    argument.escape_debug()
                )));
            }
            if argument.starts_with('-') {
                edit.removed.push(text.to_owned());
            } else {
                edit.added.push(text.to_owned());
            }
        }
        Ok(edit)
    }

    fn removes(&self, argument: &str) -> bool {
        let name = argument.split('=').next().unwrap_or(argument);
        self.removed
            .iter()
            .any(|removed| removed == name || removed == argument)
    }

    /// The arguments after the edit; doing it twice changes nothing.
    pub(super) fn apply(&self, arguments: &str) -> String {
        let mut kept: Vec<&str> = arguments
            .split_whitespace()
            .filter(|argument| {
                !self.removes(argument) || self.added.iter().any(|added| added == argument)
            })
            .collect();
        for added in &self.added {
            if !kept.contains(&added.as_str()) {
                kept.push(added);
            }
        }
        kept.join(" ")
    }
}

pub(super) fn plan(draft: &mut Draft<'_>, wish: &[String]) -> Result<()> {
    if wish.is_empty() {
        return Ok(());
    }
    let edit = Edit::new(wish)?;
    let has_entries = boot_entries::plan(draft, &edit, REASON)?;
    let mut configurations = Vec::new();
    for path in CONFIGURATIONS {
        if let Some(text) = draft.read_text(&fixed(path))? {
            configurations.push((fixed(path), text));
        }
    }
    if configurations.is_empty() && !has_entries {
        return Err(Error::unsupported(format!(
            "plan the kernel command line: the image has neither {} nor {ENTRIES}, and no other boot loader is known",
            CONFIGURATIONS.join(" nor ")
        ))
        .hint("take a base that boots with GRUB, or remove spec.kernel.commandLine"));
    }
    let mut starts_linux = has_entries;
    for (path, configuration) in &configurations {
        let Some(edited) = edit_configuration(configuration, &edit) else {
            continue;
        };
        starts_linux = true;
        if edited != *configuration {
            let real = draft.resolve(path)?;
            draft.edit_text(&real, edited, REASON)?;
        }
    }
    if !starts_linux {
        return Err(Error::unsupported(format!(
            "plan the kernel command line: {} starts no Linux kernel by itself, and {ENTRIES} has no entry",
            configurations[0].0
        ))
        .hint("images whose entries lie elsewhere are not supported yet"));
    }
    if draft.stat(&fixed(DROP_INS))?.is_some() {
        return draft.put_text(&fixed(DROP_IN), 0o644, drop_in(&edit), REASON);
    }
    match draft.read_text(&fixed(DEFAULTS))? {
        Some(defaults) => {
            // The same statements, at the end of the one script that is read.
            let text = format!("{}\n{}", defaults.trim_end(), drop_in(&edit));
            draft.edit_text(&fixed(DEFAULTS), text, REASON)
        }
        // Nothing makes the configuration anew: there is nothing to keep.
        None => Ok(()),
    }
}

/// Edits every `linux` line but those of recovery entries. `None` when there
/// is none.
fn edit_configuration(text: &str, edit: &Edit) -> Option<String> {
    let mut result = String::with_capacity(text.len() + 256);
    let mut in_recovery = false;
    let mut edited = false;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end_matches('\n');
        let start = content.trim_start();
        if start.starts_with("menuentry ") || start.starts_with("submenu ") {
            in_recovery = start.contains("recovery mode");
        }
        let indent = &content[..content.len() - start.len()];
        let command = ["linux", "linuxefi", "linux16"]
            .into_iter()
            .find(|command| {
                start
                    .strip_prefix(command)
                    .is_some_and(|rest| rest.starts_with([' ', '\t']) && !rest.trim().is_empty())
            });
        match command {
            Some(command) if !in_recovery => {
                let rest = start[command.len()..].trim_start();
                let (kernel, arguments) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
                let space = &start[command.len()..start.len() - rest.len()];
                let arguments = edit.apply(arguments);
                result.push_str(indent);
                result.push_str(command);
                result.push_str(space);
                result.push_str(kernel);
                if !arguments.is_empty() {
                    result.push(' ');
                    result.push_str(&arguments);
                }
                if line.ends_with('\n') {
                    result.push('\n');
                }
                edited = true;
            }
            _ => result.push_str(line),
        }
    }
    edited.then_some(result)
}

/// Edits a configuration of GRUB; editing it again must change nothing. For
/// fuzzing.
pub(crate) fn edit_twice(text: &str) {
    let edit = Edit {
        removed: vec!["quiet".to_owned()],
        added: vec!["panic=10".to_owned()],
    };
    if let Some(once) = edit_configuration(text, &edit) {
        assert_eq!(edit_configuration(&once, &edit), Some(once.clone()));
    }
    let once = boot_entries::edit_entry(text, &edit);
    assert_eq!(boot_entries::edit_entry(&once, &edit), once);
    if let Some(once) = boot_entries::edit_environment(text, &edit) {
        assert_eq!(
            boot_entries::edit_environment(&once, &edit),
            Some(once.clone())
        );
    }
}

/// Shell that makes the same edit to both variables that grub-mkconfig takes:
/// their values are the vendor's and may change with a package.
fn drop_in(edit: &Edit) -> String {
    let mut text = "# Arguments of the kernel, as the image's profile asks for them.\n".to_owned();
    let patterns: Vec<String> = edit
        .removed
        .iter()
        .map(|name| format!("{name}|{name}=*"))
        .chain(edit.added.iter().cloned())
        .collect();
    if !patterns.is_empty() {
        write!(
            text,
            "nodekiln_without() {{\n  for nodekiln_word in $1; do\n    case \"$nodekiln_word\" in\n      {}) ;;\n      *) printf '%s ' \"$nodekiln_word\" ;;\n    esac\n  done\n}}\n\
             GRUB_CMDLINE_LINUX=\"$(nodekiln_without \"${{GRUB_CMDLINE_LINUX-}}\")\"\n\
             GRUB_CMDLINE_LINUX_DEFAULT=\"$(nodekiln_without \"${{GRUB_CMDLINE_LINUX_DEFAULT-}}\")\"\n",
            patterns.join("|")
        )
        .expect("writing to a string cannot fail");
    }
    if !edit.added.is_empty() {
        writeln!(
            text,
            "GRUB_CMDLINE_LINUX_DEFAULT=\"${{GRUB_CMDLINE_LINUX_DEFAULT-}}{}\"",
            edit.added.join(" ")
        )
        .expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRUB: &str = "menuentry 'Debian' {\n\tlinux\t/boot/vmlinuz root=UUID=1 ro console=tty1 quiet\n\tinitrd /i\n}\nmenuentry 'Debian (recovery mode)' {\n\tlinux\t/boot/vmlinuz root=UUID=1 ro single quiet\n}\n";

    fn edit(words: &[&str]) -> Edit {
        let wish: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Edit::new(&wish).expect("plain words")
    }

    #[test]
    fn edits_every_entry_but_recovery_once() {
        let edit = edit(&["-quiet", "-console", "console=ttyS0", "panic=10"]);
        let once = edit_configuration(GRUB, &edit).expect("has entries");
        assert!(
            once.contains("\tlinux\t/boot/vmlinuz root=UUID=1 ro console=ttyS0 panic=10\n"),
            "{once}"
        );
        assert!(once.contains("ro single quiet\n"), "{once}");
        assert_eq!(
            edit_configuration(&once, &edit).as_deref(),
            Some(once.as_str())
        );
        assert_eq!(edit_configuration("configfile /x\n", &edit), None);
    }

    #[test]
    fn the_drop_in_makes_the_same_edit_in_a_shell() {
        let edit = edit(&["-quiet", "-console", "console=ttyS0", "panic=10"]);
        let script = format!(
            "GRUB_CMDLINE_LINUX='console=tty1 keep quiet'\nGRUB_CMDLINE_LINUX_DEFAULT='splash quiet console=tty0'\n{0}{0}printf %s \"$GRUB_CMDLINE_LINUX/$GRUB_CMDLINE_LINUX_DEFAULT\"",
            drop_in(&edit)
        );
        let printed = crate::task::Task::new("sh")
            .args(["-euc", &script])
            .output()
            .expect("runs");
        assert_eq!(
            String::from_utf8_lossy(&printed),
            "keep /splash console=ttyS0 panic=10"
        );
    }

    #[test]
    fn refuses_what_a_shell_would_take_apart() {
        for bad in ["a b", "a;b", "$(x)", "", "-", "a'b"] {
            assert!(Edit::new(&[bad.to_owned()]).is_err(), "{bad:?}");
        }
    }
}
