//! `nodekiln build`.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nodekiln::base::StoreSources;
use nodekiln::base::fetch;
use nodekiln::build::{self, Built, Engine, Request};
use nodekiln::{Result, environment};
use serde::Serialize;

use super::inputs::{self, ProfileArgument, StoreArguments};
use super::progress::Timing;
use super::{Context, printer};

/// Bake the image of a profile
///
/// Needs no root, no loop device, no mount and, with `--offline`, no network.
/// The result is `OUTPUT/PROFILE/KEY`; it appears whole or not at all.
#[derive(Debug, Args)]
pub struct Build {
    #[command(flatten)]
    profile: ProfileArgument,
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    baking: Baking,
    /// Where builds go
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    output: PathBuf,
}

/// How to bake.
#[derive(Debug, Args)]
pub struct Baking {
    /// What edits the file systems
    #[arg(long, value_enum, default_value_t = EngineArgument::Auto)]
    engine: EngineArgument,
    /// The first-boot program to bake, instead of the one that came along
    #[arg(long, value_name = "FILE")]
    firstboot: Option<PathBuf>,
    /// Bake a base that is not supported all the same
    #[arg(long)]
    pub allow_unsupported: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum EngineArgument {
    /// The first that is right for what was found
    Auto,
    /// This process: ext4 and FAT
    InProcess,
    /// A guest kernel, user-mode or in QEMU: ext4, FAT, XFS and btrfs, without root
    Agent,
    /// The kernel, by loop mounts: needs root
    Mount,
}

/// The result with the times.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    #[serde(flatten)]
    built: Built,
    seconds: f64,
    steps: Vec<Timing>,
}

impl Baking {
    /// The engine.
    pub fn engine(&self) -> Engine {
        match self.engine {
            EngineArgument::Auto => Engine::Auto,
            EngineArgument::InProcess => Engine::InProcess,
            EngineArgument::Agent => Engine::Agent,
            EngineArgument::Mount => Engine::Mount,
        }
    }

    /// The given first-boot program.
    pub fn firstboot(&self) -> Option<&std::path::Path> {
        self.firstboot.as_deref()
    }
}

impl Build {
    pub fn run(&self, context: &Context) -> Result<()> {
        let progress = context.reporter.as_ref();
        let loaded = self.profile.load()?;
        let locked = inputs::locked(&loaded)?;
        let store = self.store.open()?;
        if !self.store.offline {
            let fetcher = self.store.fetcher()?;
            let epoch = environment::source_date_epoch()?;
            let sources = StoreSources::new(&store, &fetcher, &loaded.folder, epoch, progress);
            fetch(&locked, &loaded.profile.spec.base, &sources)?;
        }
        let request = Request {
            loaded: &loaded,
            locked: &locked,
            store: &store,
            firstboot: self.baking.firstboot(),
            engine: self.baking.engine(),
            allow_unsupported: self.baking.allow_unsupported,
        };
        let built = build::run(&request, &self.output, progress)?;
        let outcome = Outcome {
            built,
            seconds: context.reporter.elapsed().as_secs_f64(),
            steps: context.reporter.timings(),
        };
        context.printer.result(&outcome, text)
    }
}

fn text(outcome: &Outcome) -> String {
    let built = &outcome.built;
    let mut text = String::new();
    // Writing into a String cannot fail.
    if built.present {
        writeln!(
            text,
            "{} is there already: nothing changed",
            built.folder.display()
        )
        .ok();
        return text;
    }
    writeln!(text, "{}", built.folder.display()).ok();
    for image in &built.manifest.images {
        writeln!(
            text,
            "  {:<28} {:>9} for a disk of {}",
            image.name,
            printer::bytes(image.size),
            printer::bytes(image.virtual_size)
        )
        .ok();
    }
    let components: Vec<&str> = built
        .manifest
        .components
        .keys()
        .map(String::as_str)
        .collect();
    writeln!(
        text,
        "  with {} on {}",
        components.join(", "),
        built.manifest.os.pretty_name
    )
    .ok();
    writeln!(text, "  in {:.2} s", outcome.seconds).ok();
    text
}
