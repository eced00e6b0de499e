//! Arguments that several verbs share, and what they open.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use nodekiln::error::Place;
use nodekiln::lock::{self, model::LockedProfile};
use nodekiln::profile::{self, Loaded, Overrides};
use nodekiln::store::{FetchOptions, Fetcher, Store};
use nodekiln::{Error, Result, environment};
use nodekiln_firstboot::node_config;

/// Which profile, with which variables.
#[derive(Debug, Args)]
pub struct ProfileArgument {
    /// The image profile
    #[arg(value_name = "PROFILE", default_value = "profile.yaml")]
    file: PathBuf,
    /// Set a variable of the profile
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
}

impl ProfileArgument {
    /// Reads, renders and checks it.
    pub fn load(&self) -> Result<Loaded> {
        profile::load(&self.file, &Overrides::from_words(&self.set)?)
    }
}

/// Where inputs lie and how they are fetched.
#[derive(Debug, Args)]
pub struct StoreArguments {
    /// The store of downloads and bases; the user's cache folder by default
    #[arg(long, value_name = "DIR", env = environment::NODEKILN_CACHE)]
    store: Option<PathBuf>,
    /// A read-only store to look into as well
    #[arg(long, value_name = "DIR")]
    mirror: Vec<PathBuf>,
    /// Use no network
    #[arg(long)]
    pub offline: bool,
    /// Trust the certificate authorities in this PEM file too
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl StoreArguments {
    /// Opens the store.
    pub fn open(&self) -> Result<Store> {
        let folder = match &self.store {
            Some(folder) => folder.clone(),
            None => environment::cache_folder().ok_or_else(|| {
                Error::environment("find the store: neither HOME nor a cache folder is known").hint(
                    format!("name one with --store or {}", environment::NODEKILN_CACHE),
                )
            })?,
        };
        Ok(Store::open(folder.join("store"))?.with_mirrors(self.mirror.clone()))
    }

    /// Prepares downloads.
    pub fn fetcher(&self) -> Result<Fetcher> {
        Fetcher::new(&FetchOptions {
            offline: self.offline,
            ca_file: self.ca_file.clone(),
            ..FetchOptions::default()
        })
    }
}

/// The pins of a profile; an error that says what to do when they are missing or
/// out of date.
pub fn locked(loaded: &Loaded) -> Result<LockedProfile> {
    let path = lock_path(loaded);
    let name = &loaded.profile.metadata.name;
    let relock = || format!("run: nodekiln lock {}", loaded.file.display());
    let found = lock::model::Lock::read(&path)?.and_then(|lock| lock.profiles.get(name).cloned());
    let Some(found) = found else {
        return Err(
            Error::input(format!("{} has no pins for '{name}'", path.display())).hint(relock()),
        );
    };
    if !lock::is_current(&loaded.profile, &found) {
        return Err(Error::input(format!(
            "{} is out of date: the inputs of '{name}' changed since it was written",
            path.display()
        ))
        .hint(relock()));
    }
    Ok(found)
}

/// Where the lock of a profile lies.
pub fn lock_path(loaded: &Loaded) -> PathBuf {
    loaded.folder.join(lock::model::FILE_NAME)
}

/// Reads a file that is meant for user data, which has a limit.
pub fn small_file(path: &Path) -> Result<Vec<u8>> {
    let doing = || format!("read {}", path.display());
    let limit = node_config::MAXIMUM_USER_DATA as u64;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|error| Error::io(doing(), error))?;
    if bytes.len() as u64 > limit {
        return Err(
            Error::input(format!("{}: it has more than {limit} bytes", doing()))
                .hint("is this the right file? User data has a few KiB"),
        );
    }
    Ok(bytes)
}

/// Reads a NodeConfig and checks it as first boot will.
pub fn node_config(path: &Path) -> Result<Vec<u8>> {
    let name = path.display().to_string();
    let bytes = small_file(path)?;
    let problems = match node_config::load(&bytes) {
        Ok(parsed) => parsed.check(),
        Err(problems) => problems,
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut errors = problems
        .into_iter()
        .map(|problem| located(&name, &text, problem));
    match errors.next() {
        None => Ok(bytes),
        Some(first) => Err(first.and(errors.collect())),
    }
}

/// A problem of a NodeConfig as an error. The source line is shown only where it
/// is known to hold no secret: a problem without a field (bad YAML) may be
/// anywhere.
fn located(name: &str, text: &str, problem: node_config::Problem) -> Error {
    let mut error = Error::input(problem.message);
    if let Some(hint) = problem.hint {
        error = error.hint(hint);
    }
    if problem.line == 0 {
        return error.context(format!("check {name}"));
    }
    let harmless = !problem.field.is_empty() && !problem.field.starts_with("spec.hybrid");
    let source = text.lines().nth(problem.line - 1).filter(|_| harmless);
    error.at(Place {
        file: name.to_owned(),
        line: problem.line,
        column: problem.column,
        source: source
            .unwrap_or("(not shown: it may hold a secret)")
            .to_owned(),
    })
}
