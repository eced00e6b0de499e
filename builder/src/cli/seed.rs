//! `nodekiln seed`, and the seed that `nodekiln boot` makes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nodekiln::{Class, Error, Result};
use nodekiln_qemu::{Format, Part};
use serde::Serialize;

use super::{Context, cloud_config, inputs};

/// Write a seed disk from a NodeConfig: what a machine reads on its first boot
#[derive(Debug, Args)]
pub struct Seed {
    #[command(flatten)]
    content: SeedArguments,
    /// The file to write (mode 0600: it may hold secrets)
    #[arg(short, long, value_name = "FILE", default_value = "seed.iso")]
    output: PathBuf,
}

/// What a seed is made of.
#[derive(Debug, Args)]
pub struct SeedArguments {
    /// The NodeConfig; checked before anything is written
    #[arg(long, value_name = "FILE")]
    node_config: Option<PathBuf>,
    /// Further user data for cloud-init: a #cloud-config file or a script. No key
    /// may stand in two #cloud-config files: cloud-init would keep only one of
    /// both, unless the later file says how to merge them (merge_how)
    #[arg(long, value_name = "FILE")]
    cloud_config: Vec<PathBuf>,
    /// How the disk is laid out
    #[arg(long, value_enum, default_value_t = Kind::Nocloud)]
    seed_format: Kind,
    /// Names this life of the machine; follows from the NodeConfig by default
    #[arg(long, value_name = "ID")]
    instance_id: Option<String>,
    /// Host name of the machine
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Network configuration of cloud-init (NoCloud only)
    #[arg(long, value_name = "FILE")]
    network_config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// cloud-init's NoCloud, label cidata
    Nocloud,
    /// OpenStack's config drive, label config-2
    ConfigDrive,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    file: PathBuf,
    instance_id: String,
}

impl SeedArguments {
    /// The seed and its layout; `None` without a NodeConfig.
    pub fn seed(&self) -> Result<Option<(nodekiln_qemu::Seed, Format)>> {
        let Some(path) = &self.node_config else {
            return Ok(None);
        };
        let mut seed = nodekiln_qemu::Seed::of_node_config(inputs::node_config(path)?);
        let mut files = Vec::new();
        for path in &self.cloud_config {
            files.push((path.clone(), inputs::small_file(path)?));
        }
        cloud_config::check(&files)?;
        for (path, bytes) in files {
            let part = Part::of_cloud_init(bytes)
                .map_err(|error| from_qemu(error).context(format!("read {}", path.display())))?;
            seed.parts.push(part);
        }
        if let Some(id) = &self.instance_id {
            seed.instance_id.clone_from(id);
        }
        seed.hostname.clone_from(&self.hostname);
        seed.network_config = self
            .network_config
            .as_deref()
            .map(inputs::small_file)
            .transpose()?;
        seed.time = nodekiln::environment::source_date_epoch()?.unwrap_or(0);
        let format = match self.seed_format {
            Kind::Nocloud => Format::NoCloud,
            Kind::ConfigDrive => Format::ConfigDrive,
        };
        Ok(Some((seed, format)))
    }
}

impl Seed {
    pub fn run(&self, context: &Context) -> Result<()> {
        let Some((seed, format)) = self.content.seed()? else {
            return Err(Error::input("a seed needs a NodeConfig").hint("give --node-config FILE"));
        };
        seed.write(format, &self.output).map_err(from_qemu)?;
        let written = Written {
            file: self.output.clone(),
            instance_id: seed.instance_id,
        };
        context
            .printer
            .result(&written, |written| written.file.display().to_string())
    }
}

/// An error of the boot library as one of ours.
pub fn from_qemu(error: nodekiln_qemu::Error) -> Error {
    use nodekiln_qemu::Kind;
    let class = match error.kind() {
        Kind::Input => Class::Input,
        Kind::Unsupported => Class::Unsupported,
        Kind::Environment => Class::Environment,
        Kind::Dependency => Class::Dependency,
        Kind::Transient => Class::Transient,
        Kind::Milestone => Class::CheckFailed,
        Kind::Interrupted => Class::Interrupted,
        Kind::Internal => Class::Internal,
    };
    let mut ours = Error::new(class, error.to_string());
    if let Some(hint) = error.hint() {
        ours = ours.hint(hint);
    }
    match std::error::Error::source(&error) {
        Some(source) => ours.caused_by(source.to_string()),
        None => ours,
    }
}
