//! `nodekiln convert`.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use nodekiln::disk::{CowDisk, OpenOptions, open_base};
use nodekiln::error::Context as _;
use nodekiln::output::{self, Pending, qcow2};
use nodekiln::{Error, Result};
use serde::Serialize;

use super::{Context, printer};

/// Write a finished image in another format
#[derive(Debug, Args)]
pub struct Convert {
    /// The image, raw or qcow2; it is only read
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// The file to write
    #[arg(value_name = "OUTPUT")]
    output: PathBuf,
    /// Its format; told by the end of its name by default
    #[arg(long, value_enum)]
    to: Option<Format>,
    /// Compression of qcow2
    #[arg(long, value_enum, default_value_t = Compression::Zstd)]
    compression: Compression,
    /// Let a qcow2 image read from a backing file beside it
    #[arg(long)]
    allow_backing_file: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The bytes of the disk, sparse
    Raw,
    /// QEMU's format
    Qcow2,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Compression {
    /// zstd, level 3
    Zstd,
    /// None
    None,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Converted {
    file: PathBuf,
    size: u64,
    virtual_size: u64,
}

impl Convert {
    pub fn run(&self, context: &Context) -> Result<()> {
        let progress = context.reporter.as_ref();
        let to = self.format()?;
        let options = OpenOptions {
            allow_backing_file: self.allow_backing_file,
        };
        let base = open_base(&self.image, &options)?;
        self.refuse_the_same_file()?;
        if let Some(folder) = self.output.parent() {
            // What a killed process left beside the output.
            output::clear_leftovers(if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            })?;
        }
        let pending = Pending::create(&self.output)?;
        let size = match to {
            Format::Raw => {
                let file = pending.file().try_clone();
                let file = file.doing(|| format!("write {}", self.output.display()))?;
                let disk = CowDisk::new(Arc::clone(&base.storage), base.virtual_size, file)?;
                output::raw::finish(&disk, pending, progress)?.allocated
            }
            Format::Qcow2 => {
                let options = qcow2::Options {
                    compression: match self.compression {
                        Compression::Zstd => qcow2::Compression::Zstd,
                        Compression::None => qcow2::Compression::None,
                    },
                    ..qcow2::Options::default()
                };
                let written =
                    qcow2::write(base.storage.as_ref(), pending.file(), &options, progress)?;
                pending.finish()?;
                written.size
            }
        };
        let converted = Converted {
            file: self.output.clone(),
            size,
            virtual_size: base.virtual_size,
        };
        context.printer.result(&converted, |converted| {
            format!(
                "{}: {} for a disk of {}",
                converted.file.display(),
                printer::bytes(converted.size),
                printer::bytes(converted.virtual_size)
            )
        })
    }

    /// The image is only read; replacing it would lose it.
    fn refuse_the_same_file(&self) -> Result<()> {
        let identity = |path: &Path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        let output = identity(&self.output);
        if output.is_some() && output == identity(&self.image) {
            return Err(
                Error::input(format!("convert {} into itself", self.image.display()))
                    .hint("name another output"),
            );
        }
        Ok(())
    }

    fn format(&self) -> Result<Format> {
        if let Some(format) = self.to {
            return Ok(format);
        }
        match self
            .output
            .extension()
            .and_then(|extension| extension.to_str())
        {
            Some("raw" | "img") => Ok(Format::Raw),
            Some("qcow2") => Ok(Format::Qcow2),
            _ => Err(Error::input(format!(
                "the name {} does not tell a format",
                self.output.display()
            ))
            .hint("end it in .raw or .qcow2, or give --to")),
        }
    }
}
