//! A plan for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Entry, Node, Plan, Target};
use crate::error::Result;
use crate::image_path::ImagePath;
use crate::os::{Image, Tree, mount_point};
use crate::volume::FirstMount;

/// What a change does to the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Was not there.
    Add,
    /// Is there, and becomes something else.
    Replace,
    /// Goes away.
    Remove,
}

impl Effect {
    fn sign(self) -> char {
        match self {
            Self::Add => '+',
            Self::Replace => '~',
            Self::Remove => '-',
        }
    }
}

/// One change, in words and numbers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// What it does.
    pub effect: Effect,
    /// Path as the running machine sees it.
    pub path: ImagePath,
    /// What is there afterwards: mode and size, or a link's target.
    pub detail: String,
    /// Bytes of content.
    pub size: u64,
    /// Which part of the wish asked for it.
    pub reason: String,
}

/// The changes of `plan` against what `image` holds, in the order of paths.
/// Folders that exist and keep their attributes are no change.
///
/// # Errors
/// What the volume gives.
pub fn changes(plan: &Plan, image: &mut Image) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for (target, volume) in &plan.volumes {
        for (path, reason) in &volume.removals {
            changes.push(Change {
                effect: Effect::Remove,
                path: absolute(*target, path)?,
                detail: String::new(),
                size: 0,
                reason: reason.clone(),
            });
        }
        for (path, entry) in &volume.entries {
            let path = absolute(*target, path)?;
            let exists = image.metadata(&path)?.is_some();
            if exists && matches!(entry.node, Node::Directory { keep: true }) {
                continue;
            }
            let (detail, size) = describe(entry);
            changes.push(Change {
                effect: if exists { Effect::Replace } else { Effect::Add },
                path,
                detail,
                size,
                reason: entry.reason.clone(),
            });
        }
    }
    changes.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(changes)
}

fn absolute(target: Target, path: &ImagePath) -> Result<ImagePath> {
    let mut result = mount_point(target);
    for component in path.components() {
        result = result.join(component)?;
    }
    Ok(result)
}

fn describe(entry: &Entry) -> (String, u64) {
    let mode = entry.attributes.mode;
    match &entry.node {
        Node::Directory { .. } => (format!("{mode:04o} folder"), 0),
        Node::Symlink { target } => (format!("-> {target}"), 0),
        Node::File { content } => (
            format!("{mode:04o} {}", size_text(content.size)),
            content.size,
        ),
    }
}

/// A size with a unit that keeps it short: `12 B`, `3.4 KiB`, `56 MiB`.
pub fn size_text(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" || value >= 10.0 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// The plan grouped by reason, with a summary.
pub fn render(plan: &Plan, changes: &[Change]) -> String {
    let mut groups: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
    for change in changes {
        groups.entry(&change.reason).or_default().push(change);
    }
    let width = changes
        .iter()
        .map(|change| change.path.to_string().chars().count())
        .filter(|width| *width <= 72)
        .max()
        .unwrap_or_default();
    let mut text = format!(
        "{} ({})\nbase {}\nbuild key {}\n",
        plan.profile,
        plan.architecture.name(),
        plan.base,
        plan.key()
    );
    for (reason, changes) in groups {
        let size: u64 = changes.iter().map(|change| change.size).sum();
        let size = if size == 0 {
            String::new()
        } else {
            format!(" ({})", size_text(size))
        };
        push(&mut text, format_args!("\n{reason}{size}"));
        for change in changes {
            let path = change.path.to_string();
            let line = format!(
                "  {} {path:width$}  {}",
                change.effect.sign(),
                change.detail
            );
            push(&mut text, format_args!("{}", line.trim_end()));
        }
    }
    let settled: Vec<String> = plan
        .volumes
        .iter()
        .flat_map(|(target, volume)| {
            let line =
                |work: &FirstMount| format!("  ~ {} file system: {}", target.name(), work.remedy());
            volume.first_mount.iter().map(line)
        })
        .collect();
    if !settled.is_empty() {
        push(&mut text, format_args!("\ntime of boot"));
        for line in settled {
            push(&mut text, format_args!("{line}"));
        }
    }
    let count = |effect| {
        changes
            .iter()
            .filter(|change| change.effect == effect)
            .count()
    };
    push(
        &mut text,
        format_args!(
            "\n{} added, {} replaced, {} removed; {} to write",
            count(Effect::Add),
            count(Effect::Replace),
            count(Effect::Remove),
            size_text(changes.iter().map(|change| change.size).sum())
        ),
    );
    text
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string cannot fail");
}
