//! `nodekiln schema`.

use clap::{Args, ValueEnum};
use nodekiln::{Error, Result, profile, report};

use super::progress::Event;
use super::{Context, Printer};

/// Print a JSON schema, for editors and for consumers of outputs
#[derive(Debug, Args)]
pub struct Schema {
    /// Which one
    #[arg(value_enum, default_value_t = What::Profile)]
    what: What,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// Image profiles
    Profile,
    /// NodeConfig documents
    NodeConfig,
    /// The manifest of a build
    Manifest,
    /// A line of `--progress json`
    Progress,
}

impl Schema {
    pub fn run(&self, _: &Context) -> Result<()> {
        let schema = match self.what {
            What::Profile => profile::schema(),
            What::Manifest => report::manifest_schema(),
            What::Progress => schemars::schema_for!(Event<'static>).to_value(),
            What::NodeConfig => {
                return Printer::bytes(nodekiln_firstboot::node_config::JSON_SCHEMA.as_bytes());
            }
        };
        let mut text = serde_json::to_string_pretty(&schema).map_err(|error| {
            Error::new(nodekiln::Class::Internal, "write the schema").caused_by(error)
        })?;
        text.push('\n');
        Printer::bytes(text.as_bytes())
    }
}
