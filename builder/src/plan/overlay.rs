//! File trees laid over the image.
//!
//! Trees are laid in order. Two trees, or a tree and anything else that the plan
//! writes, may share folders, but a file that both have must be the same to the
//! byte; over the base a tree always wins. Owner is root. Folders are 0755 and
//! files 0644, or 0755 where any execute bit is set: other bits depend on the
//! checkout and its umask, and version control does not keep them.

use std::collections::BTreeMap;

use minijinja::{Environment, UndefinedBehavior};

use super::draft::Draft;
use super::{Content, Node};
use crate::error::{Error, Place, Result};
use crate::image_path::ImagePath;
use crate::profile::model::Profile;

/// The end of a file name that makes the file a template; it is taken off.
pub const TEMPLATE_SUFFIX: &str = ".tmpl";
/// Steps that one template may take.
const FUEL: u64 = 1_000_000;

/// A tree, already read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// Its name for people: as the profile writes it.
    pub name: String,
    /// What is in it, by path in the image (templates still with their suffix).
    pub entries: BTreeMap<ImagePath, OverlayEntry>,
}

/// Something in an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayEntry {
    /// What it is.
    pub node: OverlayNode,
    /// Where it is for people.
    pub origin: String,
}

/// What is in an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverlayNode {
    /// A folder.
    Directory,
    /// A file.
    File {
        /// Its bytes.
        content: Content,
        /// Whether any execute bit is set.
        executable: bool,
    },
    /// A template: its text.
    Template {
        /// The text before it is rendered.
        text: String,
        /// Whether any execute bit is set.
        executable: bool,
    },
    /// A link, laid as a link.
    Symlink {
        /// Its target, unchanged.
        target: String,
    },
}

pub(super) fn plan(draft: &mut Draft<'_>, overlays: &[Overlay], profile: &Profile) -> Result<()> {
    let mut problems = Vec::new();
    for overlay in overlays {
        let reason = format!("overlay {}", overlay.name);
        let mut failed: Option<&ImagePath> = None;
        for (path, entry) in &overlay.entries {
            // What lies below a folder that cannot be laid is no further problem.
            if failed.is_some_and(|folder| path.starts_with(folder)) {
                continue;
            }
            if let Err(error) = plan_entry(draft, path, entry, profile, &reason) {
                failed = Some(path);
                // An error with a place names the file already.
                problems.push(match error.place() {
                    Some(_) => error,
                    None => error.context(format!("lay {}", entry.origin)),
                });
            }
        }
    }
    let mut problems = problems.into_iter();
    match problems.next() {
        None => Ok(()),
        Some(first) => Err(first.and(problems.collect())),
    }
}

fn plan_entry(
    draft: &mut Draft<'_>,
    path: &ImagePath,
    entry: &OverlayEntry,
    profile: &Profile,
    reason: &str,
) -> Result<()> {
    let mode = |executable: bool| if executable { 0o755 } else { 0o644 };
    match &entry.node {
        OverlayNode::Directory => draft.put_directory(path, 0o755, reason),
        OverlayNode::Symlink { target } => draft.put_link(path, target, reason),
        OverlayNode::File {
            content,
            executable,
        } => {
            let attributes = draft.root_owned(mode(*executable));
            let content = content.clone();
            draft.put(path, Node::File { content }, attributes, reason)
        }
        OverlayNode::Template { text, executable } => {
            let rendered = render(text, &entry.origin, profile)?;
            draft.put_text(&without_suffix(path)?, mode(*executable), rendered, reason)
        }
    }
}

fn without_suffix(path: &ImagePath) -> Result<ImagePath> {
    let bytes = path.as_bytes();
    let stripped = bytes
        .strip_suffix(TEMPLATE_SUFFIX.as_bytes())
        .unwrap_or(bytes);
    if stripped.ends_with(b"/") {
        return Err(Error::input(format!(
            "lay {path}: a template needs a name before '{TEMPLATE_SUFFIX}'"
        )));
    }
    ImagePath::new(stripped)
}

/// Renders a template with the profile's variables, and with `name`, `version`
/// (of Kubernetes) and `architecture`, which a variable of the same name hides.
///
/// # Errors
/// [`crate::Class::Input`] with the place in the template.
pub fn render(text: &str, origin: &str, profile: &Profile) -> Result<String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    let syntax = minijinja::syntax::SyntaxConfig::builder()
        .keep_trailing_newline(true)
        .build()
        .expect("the default delimiters do not contradict each other");
    environment.set_syntax(syntax);
    environment.set_fuel(Some(FUEL));
    let mut context: BTreeMap<&str, &str> = BTreeMap::from([
        ("name", profile.metadata.name.as_str()),
        ("version", profile.spec.kubernetes.version.as_str()),
        ("architecture", profile.spec.architecture.name()),
    ]);
    let variables = &profile.metadata.variables;
    context.extend(
        variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    environment
        .render_named_str(origin, text, minijinja::Value::from_pairs(context))
        .map_err(|error| template_error(&error, text, origin, variables.keys()))
}

fn template_error<'a>(
    error: &minijinja::Error,
    text: &str,
    origin: &str,
    variables: impl Iterator<Item = &'a String>,
) -> Error {
    let detail = error.detail().map_or_else(
        || error.kind().to_string(),
        |detail| format!("{}: {detail}", error.kind()),
    );
    let result = Error::input(format!("render the template: {detail}"));
    let result = match error.kind() {
        minijinja::ErrorKind::UndefinedError => {
            let known: Vec<&str> = variables
                .map(String::as_str)
                .chain(["name", "version", "architecture"])
                .collect();
            result.hint(format!(
                "the template may use: {}; metadata.variables of the profile adds others",
                known.join(", ")
            ))
        }
        _ => result,
    };
    let line = error.line().unwrap_or(1).max(1);
    let source = text.lines().nth(line - 1).unwrap_or_default().to_owned();
    let column = error.range().and_then(|range| {
        let before = text.get(..range.start)?;
        Some(
            before
                .chars()
                .rev()
                .take_while(|character| *character != '\n')
                .count()
                + 1,
        )
    });
    result.at(Place {
        file: origin.to_owned(),
        line,
        column: column.unwrap_or(1),
        source,
    })
}
