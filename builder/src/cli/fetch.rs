//! `nodekiln fetch`.

use std::path::PathBuf;

use clap::Args;
use nodekiln::base::StoreSources;
use nodekiln::base::fetch;
use nodekiln::{Result, environment};
use serde::Serialize;

use super::Context;
use super::inputs::{self, ProfileArgument, StoreArguments};

/// Bring everything that the lock names into the store, so that `build
/// --offline` works
#[derive(Debug, Args)]
pub struct Fetch {
    #[command(flatten)]
    profile: ProfileArgument,
    #[command(flatten)]
    store: StoreArguments,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fetched {
    store: PathBuf,
    files: usize,
}

impl Fetch {
    pub fn run(&self, context: &Context) -> Result<()> {
        let loaded = self.profile.load()?;
        let locked = inputs::locked(&loaded)?;
        let (store, fetcher) = (self.store.open()?, self.store.fetcher()?);
        let epoch = environment::source_date_epoch()?;
        let progress = context.reporter.as_ref();
        let sources = StoreSources::new(&store, &fetcher, &loaded.folder, epoch, progress);
        fetch(&locked, &loaded.profile.spec.base, &sources)?;
        let fetched = Fetched {
            store: store.folder().to_owned(),
            files: 1 + locked.components.len() + locked.packages.len(),
        };
        context.printer.result(&fetched, |fetched| {
            format!(
                "{}: all {} inputs are there",
                fetched.store.display(),
                fetched.files
            )
        })
    }
}
