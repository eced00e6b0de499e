//! `nodekiln validate`.

use std::path::PathBuf;

use clap::Args;
use nodekiln::{Error, Result, profile};
use serde::Serialize;

use super::{Context, inputs};

/// Check a profile or a NodeConfig, without network
#[derive(Debug, Args)]
pub struct Validate {
    /// The files: image profiles and NodeConfigs, told apart by their kind
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Set a variable of a profile
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    file: PathBuf,
    kind: &'static str,
}

impl Validate {
    pub fn run(&self, context: &Context) -> Result<()> {
        let overrides = profile::Overrides::from_words(&self.set)?;
        let mut checked = Vec::new();
        let mut errors = Vec::new();
        for file in &self.files {
            let kind = if is_node_config(file)? {
                "NodeConfig"
            } else {
                profile::model::KIND
            };
            let outcome = if kind == "NodeConfig" {
                inputs::node_config(file).map(drop)
            } else {
                profile::load(file, &overrides).map(drop)
            };
            match outcome {
                Ok(()) => checked.push(Checked {
                    file: file.clone(),
                    kind,
                }),
                Err(error) => errors.push(error),
            }
        }
        let mut errors = errors.into_iter();
        if let Some(first) = errors.next() {
            return Err(first.and(errors.collect()));
        }
        context.printer.result(&checked, |checked| {
            checked
                .iter()
                .map(|checked| format!("{}: {} is valid\n", checked.file.display(), checked.kind))
                .collect()
        })
    }
}

/// Whether a file is about a node and not about an image: by its text, since a
/// broken file must get the errors of the kind that it was meant to be.
fn is_node_config(file: &std::path::Path) -> Result<bool> {
    use std::io::Read as _;
    let mut head = Vec::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(1 << 20).read_to_end(&mut head))
        .map_err(|error| Error::io(format!("read {}", file.display()), error))?;
    let head = String::from_utf8_lossy(&head);
    let says = |word: &str| head.contains(word);
    Ok(says("node.eks.aws") && !says(profile::model::API_VERSION))
}
