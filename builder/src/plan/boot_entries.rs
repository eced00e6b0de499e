//! The kernel's command line where it stands in boot entries of their own files: Amazon
//! Linux 2023 and Red Hat Enterprise Linux (`blscfg`).
//!
//! Red Hat Enterprise Linux 8 keeps the arguments of all entries in a variable of GRUB;
//! release 9 and Amazon Linux 2023 keep them in each entry, and those of kernels to come in
//! `/etc/kernel/cmdline`.

use super::command_line::Edit;
use super::draft::Draft;
use crate::error::{Error, Result};
use crate::os::Tree;
use crate::os::boot_loader::{
    self, ENVIRONMENT, KERNEL_OPTIONS, KERNEL_OPTIONS_IN_ENTRY, kernel_options, options,
};
use crate::os::tree::fixed;

/// What `kernel-install` gives the entries of new kernels.
const FOR_NEW_KERNELS: &str = "/etc/kernel/cmdline";
/// Bytes of GRUB's variables, always ("The GRUB environment block").
const ENVIRONMENT_SIZE: usize = 1024;

/// Edits all entries. `false` when there is none.
pub(super) fn plan(draft: &mut Draft<'_>, edit: &Edit, reason: &str) -> Result<bool> {
    let entries = boot_loader::entries(draft)?;
    let environment = draft.read_text(&fixed(ENVIRONMENT))?.unwrap_or_default();
    let has_variable = kernel_options(&environment).is_some();
    let mut uses_variable = false;
    for path in &entries {
        let text = draft.read_text(path)?.unwrap_or_default();
        if has_variable && text.contains(KERNEL_OPTIONS_IN_ENTRY) {
            uses_variable = true;
            continue;
        }
        let real = draft.resolve(path)?;
        draft.edit_text(&real, edit_entry(&text, edit), reason)?;
    }
    if uses_variable {
        let real = draft.resolve(&fixed(ENVIRONMENT))?;
        let edited = edit_environment(&environment, edit).ok_or_else(|| {
            Error::input(format!(
                "plan the kernel command line: {real} has no room for it ({ENVIRONMENT_SIZE} bytes)"
            ))
            .hint("take fewer arguments")
        })?;
        draft.edit_text(&real, edited, reason)?;
    }
    let for_new = fixed(FOR_NEW_KERNELS);
    if let Some(text) = draft.read_text(&for_new)? {
        draft.edit_text(&for_new, edit.apply(&text) + "\n", reason)?;
    }
    Ok(!entries.is_empty())
}

/// Lines as they are, whatever stands before their ends.
fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    text.strip_suffix('\n').unwrap_or(text).split('\n')
}

/// An entry with its arguments edited; one without a line for them gets one.
pub(super) fn edit_entry(text: &str, edit: &Edit) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut is_edited = false;
    for line in lines_of(text) {
        match options(line) {
            Some(arguments) => {
                lines.push(format!("options {}", edit.apply(arguments)));
                is_edited = true;
            }
            None => lines.push(line.to_owned()),
        }
    }
    if !is_edited {
        lines.push(format!("options {}", edit.apply("")));
    }
    lines.join("\n") + "\n"
}

/// GRUB's variables with the arguments edited; `None` when they do not fit.
pub(super) fn edit_environment(text: &str, edit: &Edit) -> Option<String> {
    let mut result = String::with_capacity(ENVIRONMENT_SIZE);
    for line in lines_of(text) {
        // What fills the rest is a line of `#`; the first line is a comment.
        if !line.is_empty() && line.bytes().all(|byte| byte == b'#') {
            continue;
        }
        match kernel_options(line) {
            Some(arguments) => {
                result += &format!("{KERNEL_OPTIONS}={}\n", edit.apply(arguments));
            }
            None => result = result + line + "\n",
        }
    }
    let room = ENVIRONMENT_SIZE.checked_sub(result.len())?;
    result += &"#".repeat(room);
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::machine::{debian, planned, profile, text_at};
    use crate::volume::Volume as _;
    use crate::volume::model::MemoryVolume;

    /// The machine without Debian's configuration of GRUB.
    fn with_grub_of(mut base: MemoryVolume) -> MemoryVolume {
        base.remove_file(&fixed("/boot/grub/grub.cfg"))
            .expect("it is there");
        base
    }

    fn edit(words: &[&str]) -> Edit {
        let wish: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Edit::new(&wish).expect("plain words")
    }

    #[test]
    fn edits_an_entry_once() {
        let entry = "title Red Hat Enterprise Linux (5.14.0) 9.6 (Plow)\nversion 5.14.0\n\
                     linux /vmlinuz-5.14.0\noptions root=UUID=1 ro quiet $tuned_params\n";
        let edit = edit(&["-quiet", "panic=10"]);
        let once = edit_entry(entry, &edit);
        assert!(
            once.contains("\noptions root=UUID=1 ro $tuned_params panic=10\n"),
            "{once}"
        );
        assert_eq!(edit_entry(&once, &edit), once);
        assert!(edit_entry("title x\n", &edit).ends_with("options panic=10\n"));
    }

    #[test]
    fn variables_of_grub_keep_their_size() {
        let mut text = "# GRUB Environment Block\nsaved_entry=1\nkernelopts=root=UUID=1 ro quiet\nboot_success=0\n".to_owned();
        text += &"#".repeat(ENVIRONMENT_SIZE - text.len());
        let edit = edit(&["-quiet", "panic=10"]);
        let edited = edit_environment(&text, &edit).expect("has room");
        assert_eq!(edited.len(), ENVIRONMENT_SIZE);
        assert!(edited.starts_with("# GRUB Environment Block\nsaved_entry=1\nkernelopts=root=UUID=1 ro panic=10\nboot_success=0\n##"), "{edited}");
        assert_eq!(edit_environment(&edited, &edit), Some(edited));
        let long = format!("kernelopts={}\n", "x".repeat(ENVIRONMENT_SIZE));
        assert_eq!(edit_environment(&long, &edit), None);
    }

    #[test]
    fn a_machine_of_red_hats_kind_starts_with_the_arguments() {
        let mut profile = profile();
        profile.spec.kernel.command_line = vec!["panic=10".to_owned()];
        let base = |entry: &str| {
            with_grub_of(debian())
                .with_file("/boot/grub2/grub.cfg", "insmod blscfg\nblscfg\n")
                .and_then(|base| base.with_file("/etc/kernel/cmdline", "root=UUID=1 ro\n"))
                .and_then(|base| {
                    base.with_file(
                        "/boot/grub2/grubenv",
                        "# GRUB Environment Block\nkernelopts=ro\n",
                    )
                })
                .and_then(|base| base.with_file("/boot/loader/entries/1-5.14.0.conf", entry))
                .and_then(|base| {
                    base.with_file("/boot/loader/entries/1-0-rescue.conf", "options ro\n")
                })
                .expect("builds")
        };
        let (plan, _) = planned(base("options ro\n"), &profile, Vec::new()).expect("plans");
        assert_eq!(
            text_at(&plan, "/boot/loader/entries/1-5.14.0.conf"),
            "options ro panic=10\n"
        );
        assert_eq!(
            text_at(&plan, "/etc/kernel/cmdline"),
            "root=UUID=1 ro panic=10\n"
        );
        let of_eight = base("options $kernelopts $tuned_params\n");
        let (plan, _) = planned(of_eight, &profile, Vec::new()).expect("plans");
        let text = text_at(&plan, "/boot/grub2/grubenv");
        assert!(text.contains("\nkernelopts=ro panic=10\n"), "{text}");
        let entries = &plan.volumes[&crate::plan::Target::Root].entries;
        let names: Vec<String> = entries.keys().map(ToString::to_string).collect();
        assert!(
            !names
                .iter()
                .any(|name| name.starts_with("/boot/loader/entries/1-")),
            "{names:?}"
        );
    }
}
