//! `nodekiln doctor`.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use clap::Args;
use nodekiln::volume::agent::Kernel;
use nodekiln::{Class, Error, Result, environment};
use nodekiln_qemu::Architecture;
use nodekiln_qemu::doctor::{Check, examine};

use super::Context;
use super::seed::from_qemu;

const GREEN: Style = AnsiColor::Green.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const RED: Style = AnsiColor::Red.on_default().bold();

/// Tell what this machine has for baking and booting, and what to do about the
/// rest
#[derive(Debug, Args)]
pub struct Doctor {}

impl Doctor {
    #[expect(clippy::unused_self, reason = "every verb has the same shape")]
    pub fn run(&self, context: &Context) -> Result<()> {
        let mut checks = vec![store()];
        checks.extend(["mmdebstrap", "mke2fs", "mkfs.vfat"].map(bootstrap_tool));
        checks.push(guest_kernel());
        checks.extend(
            examine(Architecture::HOST.unwrap_or(Architecture::X86_64)).map_err(from_qemu)?,
        );
        context.printer.result(&checks, |checks| text(checks))?;
        let missing = checks
            .iter()
            .filter(|check| check.required && !check.usable)
            .count();
        if missing == 0 {
            return Ok(());
        }
        Err(Error::new(
            Class::Environment,
            format!("{missing} needed things are missing"),
        ))
    }
}

fn store() -> Check {
    let folder = environment::cache_folder();
    let usable = folder
        .as_ref()
        .is_some_and(|folder| std::fs::create_dir_all(folder).is_ok());
    Check {
        name: "store".to_owned(),
        usable,
        required: true,
        found: folder.map_or("no folder is known".to_owned(), |folder| {
            folder.display().to_string()
        }),
        hint: (!usable).then(|| format!("name a folder with {}", environment::NODEKILN_CACHE)),
    }
}

/// Programs that only `base.bootstrap` needs.
fn bootstrap_tool(name: &str) -> Check {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    Check {
        name: name.to_owned(),
        usable: found.is_some(),
        required: false,
        hint: found
            .is_none()
            .then(|| format!("install {name}, to make bases from packages")),
        found: found.map_or("not installed".to_owned(), |path| {
            path.display().to_string()
        }),
    }
}

/// What a guest kernel is for.
const FOR: &str = "for bases with XFS or btrfs and --engine agent";

/// The kernel that edits XFS and btrfs, and with `--engine agent` all, tried.
fn guest_kernel() -> Check {
    let tried = Kernel::find().and_then(|kernel| {
        kernel.try_out()?;
        Ok(kernel)
    });
    let check = |usable, found, hint| Check {
        name: "guest kernel".to_owned(),
        usable,
        required: false,
        found,
        hint,
    };
    match tried {
        Ok(kernel) => check(
            true,
            match kernel.instead() {
                Some(why) => format!("{}, {FOR}, since {why}", kernel.name()),
                None => format!("{}, {FOR}", kernel.name()),
            },
            None,
        ),
        Err(error) => {
            let mut found = error.to_string();
            if let Some(cause) = std::error::Error::source(&error) {
                found.push_str(": ");
                found.push_str(&cause.to_string());
            }
            check(false, found, error.hint_text().map(ToOwned::to_owned))
        }
    }
}

fn text(checks: &[Check]) -> String {
    let width = checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let (style, word) = match (check.usable, check.required) {
            (true, _) => (GREEN, "ok     "),
            (false, true) => (RED, "missing"),
            (false, false) => (YELLOW, "absent "),
        };
        // Writing into a String cannot fail.
        writeln!(
            text,
            "{style}{word}{style:#}  {:width$}  {}",
            check.name, check.found
        )
        .ok();
        if let Some(hint) = &check.hint {
            writeln!(text, "         {:width$}  hint: {hint}", "").ok();
        }
    }
    text
}
