//! The user's wish: loading, templating, checking, and its JSON schema.
//!
//! ```text
//! text ──read──▶ tree ──set variables, render──▶ tree ──compare with the schema──▶ Profile ──check──▶ Loaded
//! ```
//!
//! Every node of the tree knows its place in the text, so every problem does;
//! each step finds as many as it can before it gives up.

mod check;
pub mod model;
mod nearest;
pub mod schema;
mod shape;
pub mod size;
mod template;
mod tree;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

pub(crate) use check::names;
pub use nearest::{closest, nearest};
pub use schema::schema;
pub use tree::SIZE_LIMIT;

use crate::error::{Class, Error, Place, Result};
use model::Profile;
use tree::{Entry, Kind, Node, Scalar, Source, Value};

/// Problems that are reported at most.
const PROBLEM_LIMIT: usize = 50;

/// What the command line changes in a profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Values for `metadata.variables`, which must declare the names.
    pub variables: BTreeMap<String, String>,
}

impl Overrides {
    /// Reads `NAME=VALUE` words.
    ///
    /// # Errors
    /// [`Class::Input`] for a word without `=` and for a name given twice.
    pub fn from_words<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut variables = BTreeMap::new();
        for word in words {
            let word = word.as_ref();
            let (name, value) = word
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| {
                    Error::input(format!("set '{word}': it is not NAME=VALUE"))
                        .hint("write it as --set NAME=VALUE")
                })?;
            if variables
                .insert(name.to_owned(), value.to_owned())
                .is_some()
            {
                return Err(Error::input(format!("set '{name}': it is set twice"))
                    .hint("keep one --set of each name"));
            }
        }
        Ok(Self { variables })
    }
}

/// A profile with its origin.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The profile; templates are rendered.
    pub profile: Profile,
    /// The file.
    pub file: PathBuf,
    /// The folder that relative paths in the profile start from.
    pub folder: PathBuf,
    source: Source,
    tree: Node,
}

impl Loaded {
    /// The text as it was read.
    pub fn text(&self) -> &str {
        &self.source.text
    }

    /// Where the value at `path` stands, such as `["spec", "overlays", "0"]`; the
    /// nearest thing above it, when it is not in the text.
    pub fn place(&self, path: &[&str]) -> Place {
        let path: Vec<String> = path.iter().map(|&step| step.to_owned()).collect();
        self.source.place(self.tree.position_of(&path))
    }
}

/// Reads, renders and checks a profile.
///
/// # Errors
/// [`Class::Input`] for everything that is wrong with the file, with its place;
/// further problems are in [`Error::others`].
pub fn load(file: &Path, overrides: &Overrides) -> Result<Loaded> {
    let name = file.display().to_string();
    let doing = || format!("read {name}");
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(SIZE_LIMIT as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::io(doing(), error).hint("`nodekiln init` writes a profile to begin with")
            }
            std::io::ErrorKind::IsADirectory => Error::input(doing())
                .caused_by(error)
                .hint("name the profile in the folder, such as FOLDER/profile.yaml"),
            _ => Error::io(doing(), error),
        })?;
    if bytes.len() > SIZE_LIMIT {
        return Err(tree::too_long(&name));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        let position = tree::Position {
            line: before.matches('\n').count() + 1,
            column: before.lines().last().map_or(0, |line| line.chars().count()) + 1,
        };
        let source = Source {
            file: name.clone(),
            text: before,
        };
        Error::input("the text is not UTF-8 from here on")
            .at(source.place(position))
            .hint("save the file as UTF-8 text; is this the right file?")
    })?;
    let (profile, source, tree) = understand(text, &name, overrides)?;
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok(Loaded {
        profile,
        file: file.to_owned(),
        folder,
        source,
        tree,
    })
}

/// As [`load`], for a text that is already there; `file_name` is for messages.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, file_name: &str, overrides: &Overrides) -> Result<Profile> {
    understand(text.to_owned(), file_name, overrides).map(|(profile, _, _)| profile)
}

fn understand(text: String, file: &str, overrides: &Overrides) -> Result<(Profile, Source, Node)> {
    let source = Source {
        file: file.to_owned(),
        text,
    };
    let mut tree = source.read()?;
    identify(&tree, &source)?;

    let mut problems = set_variables(&mut tree, overrides, &source);
    let variables = variables(&tree);
    if let Some(spec) = tree.entry_mut("spec") {
        problems.extend(template::render(&mut spec.value, &variables, &source));
    }
    let json = match shape::shape(&tree, &schema::plain(), &source) {
        Ok(json) if problems.is_empty() => json,
        Ok(_) => return Err(together(problems)),
        Err(more) => {
            problems.extend(more);
            return Err(together(problems));
        }
    };
    let profile: Profile = serde_json::from_value(json).map_err(|error| {
        Error::new(Class::Internal, format!("understand {file}")).caused_by(error)
    })?;
    let problems: Vec<Error> = check::problems(&profile)
        .into_iter()
        .map(|problem| {
            Error::input(problem.message)
                .at(source.place(tree.position_of(&problem.path)))
                .hint(problem.hint)
        })
        .collect();
    if problems.is_empty() {
        Ok((profile, source, tree))
    } else {
        Err(together(problems))
    }
}

/// Makes one error of at least one, in the order of the text.
fn together(mut problems: Vec<Error>) -> Error {
    problems.sort_by_key(|problem| {
        problem
            .place()
            .map_or((0, 0), |place| (place.line, place.column))
    });
    let more = problems.len().saturating_sub(PROBLEM_LIMIT);
    problems.truncate(PROBLEM_LIMIT);
    if more > 0 {
        problems.push(Error::input(format!("and {more} more problems")));
    }
    let mut problems = problems.into_iter();
    match problems.next() {
        Some(first) => first.and(problems.collect()),
        None => Error::new(Class::Internal, "fail without a problem"),
    }
}

/// Whether this is a profile at all, and of this version: if not, every further
/// message would mislead.
fn identify(tree: &Node, source: &Source) -> Result<()> {
    let at = |position| source.place(position);
    if !matches!(tree.value, Value::Mapping(_)) {
        let found = match tree.value {
            Value::Null => "the file is empty".to_owned(),
            _ => format!("the file holds {}", tree.describe()),
        };
        return Err(Error::input(format!("{found}, not a profile"))
            .at(at(tree.position))
            .hint("`nodekiln init` writes a profile to begin with"));
    }
    for (key, only) in [("apiVersion", model::API_VERSION), ("kind", model::KIND)] {
        // A missing or ill-typed key is found with all other problems.
        let Some(Entry { value, .. }) = tree.entry(key) else {
            continue;
        };
        let Value::Scalar(scalar) = &value.value else {
            continue;
        };
        if scalar.text != only {
            let text = tree::shortened(&scalar.text);
            let message = match key {
                "kind" => format!("a document of kind '{text}' is not an image profile"),
                _ => format!("the version '{text}' is not known"),
            };
            return Err(Error::input(message)
                .at(at(value.position))
                .hint(format!("write `{key}: {only}`")));
        }
    }
    Ok(())
}

/// Puts the overrides in place of the declared values.
fn set_variables(tree: &mut Node, overrides: &Overrides, source: &Source) -> Vec<Error> {
    let owner = tree
        .entry("metadata")
        .map_or(tree::Position::START, |entry| entry.key_position);
    let mut problems = Vec::new();
    let declared = tree
        .entry_mut("metadata")
        .and_then(|entry| entry.value.entry_mut("variables"));
    let mut entries = match declared {
        Some(Entry {
            value:
                Node {
                    value: Value::Mapping(entries),
                    ..
                },
            ..
        }) => Some(entries),
        _ => None,
    };
    for (name, value) in &overrides.variables {
        let entries = entries
            .as_mut()
            .map_or(&mut [][..], |entries| entries.as_mut_slice());
        match entries.iter_mut().find(|entry| entry.key == *name) {
            Some(entry) => entry.value.value = text_node(value),
            None => problems.push(undeclared(name, entries).at(source.place(owner))),
        }
    }
    // A variable without a value is one that the user must set. The rest of the
    // profile is read as if it were empty.
    for entry in entries.into_iter().flatten() {
        if matches!(entry.value.value, Value::Null) {
            problems.push(unset(&entry.key).at(source.place(entry.key_position)));
            entry.value.value = text_node("");
        }
    }
    problems
}

fn text_node(text: &str) -> Value {
    Value::Scalar(Scalar {
        text: text.to_owned(),
        kind: Kind::Text,
    })
}

fn undeclared(name: &str, declared: &[Entry]) -> Error {
    let names: Vec<&str> = declared.iter().map(|entry| entry.key.as_str()).collect();
    let hint = match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean '{near}'?"),
        None if names.is_empty() => "declare it in metadata.variables".to_owned(),
        None => format!("metadata.variables declares: {}", names.join(", ")),
    };
    Error::input(format!(
        "set '{}': the profile declares no such variable",
        tree::shortened(name)
    ))
    .hint(hint)
}

fn unset(name: &str) -> Error {
    let name = tree::shortened(name);
    Error::input(format!("the variable '{name}' has no value"))
        .hint(format!("give it one here, or with --set {name}=VALUE"))
}

/// The scalars of `metadata.variables`.
fn variables(tree: &Node) -> BTreeMap<String, String> {
    let entries = tree
        .entry("metadata")
        .and_then(|entry| entry.value.entry("variables"))
        .map(|entry| &entry.value.value);
    match entries {
        Some(Value::Mapping(entries)) => entries
            .iter()
            .filter_map(|entry| match &entry.value.value {
                Value::Scalar(scalar) => Some((entry.key.clone(), scalar.text.clone())),
                _ => None,
            })
            .collect(),
        _ => BTreeMap::new(),
    }
}

#[cfg(test)]
mod replay;
#[cfg(test)]
mod tests;
