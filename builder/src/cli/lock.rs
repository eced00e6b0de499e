//! `nodekiln lock`.

use clap::Args;
use nodekiln::base::StoreSources;
use nodekiln::lock::model::{Lock as LockFile, LockedProfile};
use nodekiln::lock::{self, Upgrade};
use nodekiln::profile::Loaded;
use nodekiln::{Error, Result, environment};

use super::inputs::{self, ProfileArgument, StoreArguments};
use super::{Context, printer};

/// Pin every input of a profile: URLs, checksums, sizes, and how they were
/// trusted
#[derive(Debug, Args)]
pub struct Lock {
    #[command(flatten)]
    profile: ProfileArgument,
    #[command(flatten)]
    store: StoreArguments,
    /// Only tell whether the lock is current; exit code 2 when it is not
    #[arg(long, conflicts_with = "upgrade")]
    check: bool,
    /// Find pins anew although nothing changed: all, or `base` and components by
    /// name
    #[arg(long, value_name = "NAME", num_args = 0.., value_delimiter = ',')]
    upgrade: Option<Vec<String>>,
}

impl Lock {
    pub fn run(&self, context: &Context) -> Result<()> {
        let loaded = self.profile.load()?;
        if self.check {
            let locked = inputs::locked(&loaded)?;
            let now = self.resolve(context, &loaded, Some(&locked), &Upgrade::Nothing)?;
            unchanged(&loaded, &locked, &now)?;
            return context.printer.result(&locked, text);
        }
        let path = inputs::lock_path(&loaded);
        let name = &loaded.profile.metadata.name;
        let previous = LockFile::read(&path)?.and_then(|lock| lock.profiles.get(name).cloned());
        let upgrade = match &self.upgrade {
            None => Upgrade::Nothing,
            Some(names) => Upgrade::of_names(names)?,
        };
        let locked = self.resolve(context, &loaded, previous.as_ref(), &upgrade)?;
        LockFile::update(&loaded.folder, name, locked.clone())?;
        context.printer.result(&locked, text)
    }

    fn resolve(
        &self,
        context: &Context,
        loaded: &Loaded,
        previous: Option<&LockedProfile>,
        upgrade: &Upgrade,
    ) -> Result<LockedProfile> {
        let (store, fetcher) = (self.store.open()?, self.store.fetcher()?);
        let epoch = environment::source_date_epoch()?;
        let progress = context.reporter.as_ref();
        let sources = StoreSources::new(&store, &fetcher, &loaded.folder, epoch, progress);
        lock::resolve(&loaded.profile, &loaded.folder, previous, upgrade, &sources)
            .map_err(offline_hint)
    }
}

/// Refuses a lock whose local files have another content now.
fn unchanged(loaded: &Loaded, locked: &LockedProfile, now: &LockedProfile) -> Result<()> {
    if locked == now {
        return Ok(());
    }
    let mut changed = Vec::new();
    if locked.base != now.base {
        changed.push("base");
    }
    if locked.packages != now.packages {
        changed.push("packages");
    }
    let components = locked.components.iter();
    changed.extend(
        components
            .filter(|(name, component)| now.components.get(name) != Some(component))
            .map(|(name, _)| name.name()),
    );
    Err(Error::input(format!(
        "{} is out of date: a local file has another content now: {}",
        inputs::lock_path(loaded).display(),
        changed.join(", ")
    ))
    .hint(format!("run: nodekiln lock {}", loaded.file.display())))
}

fn offline_hint(error: Error) -> Error {
    if error.hint_text().is_none() && error.class() == nodekiln::Class::Transient {
        error.hint("try again; behind a proxy set HTTPS_PROXY, and --ca-file for its certificate")
    } else {
        error
    }
}

fn text(locked: &LockedProfile) -> String {
    let row = |name: &str, file: &nodekiln::lock::model::LockedFile| {
        format!(
            "{name:<24} {:>9}  {}  {}\n",
            printer::bytes(file.size),
            file.sha256.short(),
            file.trust
        )
    };
    let mut text = row("base", &locked.base);
    for (name, component) in &locked.components {
        text += &row(name.name(), &component.file);
    }
    for package in &locked.packages {
        text += &row("package", package);
    }
    text
}
