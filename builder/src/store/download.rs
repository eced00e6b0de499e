//! Downloads: https only, resumed, verified before they are an object.
//!
//! The bytes of a download gather in `partial/<sha256 of the URL>`, with what is
//! needed to go on later beside it. Only when all of them are there and their
//! sha256 is right does the file get its name under `sha256/`.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::http::{Client, Failure, Range, Reply};
use super::{Digest, Store, retry, write, write_error};
use crate::error::{Class, Error, Result};
use crate::progress::{Progress, Step};

/// How to reach the network.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Refuses every use of the network.
    pub offline: bool,
    /// A file with further certificate authorities to trust, in PEM.
    pub ca_file: Option<PathBuf>,
    /// Time to reach a server.
    pub connect_timeout: Duration,
    /// Longest silence of a server.
    pub read_timeout: Duration,
    /// The wait before the second attempt; it doubles from there.
    pub first_wait: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            offline: false,
            ca_file: None,
            connect_timeout: Duration::from_secs(20),
            read_timeout: Duration::from_secs(60),
            first_wait: Duration::from_millis(500),
        }
    }
}

/// Brings files from the network into a store.
///
/// Blocking, with an asynchronous runtime of its own inside: do not call it from
/// asynchronous code. Proxies are taken from the environment.
#[derive(Debug)]
pub struct Fetcher {
    /// `None` offline.
    client: Option<Client>,
    first_wait: Duration,
}

impl Fetcher {
    /// Prepares downloads; nothing is sent yet.
    ///
    /// # Errors
    /// [`Class::Input`] when the file of certificate authorities cannot be read;
    /// [`Class::Environment`] when the machine's own cannot be.
    pub fn new(options: &FetchOptions) -> Result<Self> {
        let client = if options.offline {
            None
        } else {
            Some(Client::new(options)?)
        };
        Ok(Self {
            client,
            first_wait: options.first_wait,
        })
    }

    /// Downloads `url`, at most `limit` bytes, and gives the object's digest and
    /// size. An object that is in the store by its expected digest is not
    /// downloaded again.
    ///
    /// # Errors
    /// [`Class::Dependency`] when it is not there, too large, or its sha256 is
    /// not `expected`; [`Class::Transient`] when the network fails for too long;
    /// [`Class::Input`] for a URL that is not https; [`Class::Environment`]
    /// offline.
    pub fn download(
        &self,
        store: &Store,
        url: &str,
        expected: Option<Digest>,
        limit: u64,
        progress: &dyn Progress,
    ) -> Result<(Digest, u64)> {
        let present = || {
            let digest = expected?;
            Some((digest, store.size(&digest)?))
        };
        if let Some(found) = present() {
            return Ok(found);
        }
        let name = super::http::shown(url);
        let client = self.client(&name)?;
        let url_hash = Digest::from_bytes(Sha256::digest(url.as_bytes()).into());
        let _only_one = store.exclusive(&format!("url-{url_hash}"), progress)?;
        // Another build may have brought it while this one waited.
        if let Some(found) = present() {
            return Ok(found);
        }
        let mut transfer = Transfer {
            partial: Partial::open(store, &url_hash)?,
            client,
            url,
            name: &name,
            expected,
            limit,
            first_wait: self.first_wait,
            progress,
            begun: false,
        };
        let result = transfer.run(store);
        if transfer.begun {
            progress.end(Step::Download);
        }
        result.map_err(|error| error.context(format!("download {name}")))
    }

    /// Downloads a small text of at most `limit` bytes, without storing it.
    ///
    /// # Errors
    /// As [`Fetcher::download`].
    pub fn text(&self, url: &str, limit: u64, progress: &dyn Progress) -> Result<Vec<u8>> {
        let name = super::http::shown(url);
        let client = self.client(&name)?;
        let mut failed = 0;
        loop {
            let mut text = Vec::new();
            let attempt = client.get(url, None, progress, &mut |event| {
                if let Reply::Bytes(bytes) = event {
                    if (text.len() + bytes.len()) as u64 > limit {
                        return Err(too_large(limit));
                    }
                    text.extend_from_slice(bytes);
                }
                Ok(())
            });
            match attempt {
                Ok(()) => return Ok(text),
                Err(failure) => {
                    failed += 1;
                    pause(failure, failed, self.first_wait, progress)
                        .map_err(|error| error.context(format!("download {name}")))?;
                }
            }
        }
    }

    /// Whether every use of the network is refused.
    pub fn is_offline(&self) -> bool {
        self.client.is_none()
    }

    fn client(&self, name: &str) -> Result<&Client> {
        self.client.as_ref().ok_or_else(|| {
            Error::environment(format!(
                "download {name}: it is not in the store, and this run is offline"
            ))
            .hint("run `nodekiln fetch` where there is a network, or leave out --offline")
        })
    }
}

/// Waits before the next attempt, or gives up.
fn pause(failure: Failure, failed: u32, first: Duration, progress: &dyn Progress) -> Result<()> {
    match failure {
        Failure::Final(error) => Err(error),
        Failure::Transient { error, retry_after } => {
            if failed >= retry::ATTEMPTS {
                return Err(error);
            }
            let wait = retry::wait(first, failed, retry_after);
            progress.note(&format!(
                "{error}: trying again in {:.1} s",
                wait.as_secs_f64()
            ));
            let until = std::time::Instant::now() + wait;
            while let Some(left) = until.checked_duration_since(std::time::Instant::now()) {
                progress.check()?;
                std::thread::sleep(left.min(Duration::from_millis(100)));
            }
            progress.check()
        }
    }
}

/// One download, over as many attempts as it takes.
struct Transfer<'a> {
    partial: Partial,
    client: &'a Client,
    url: &'a str,
    name: &'a str,
    expected: Option<Digest>,
    limit: u64,
    first_wait: Duration,
    progress: &'a dyn Progress,
    /// Whether the progress of this download was begun.
    begun: bool,
}

impl Transfer<'_> {
    fn run(&mut self, store: &Store) -> Result<(Digest, u64)> {
        // Bytes of an earlier run may belong to another version of the file.
        let mut inherited = self.partial.length > 0;
        loop {
            self.complete()?;
            let digest = self.partial.digest();
            match write::check(self.expected.as_ref(), digest) {
                Ok(()) => return self.partial.keep(store, &digest),
                Err(_) if inherited => {
                    self.progress
                        .note("the rest of an earlier download does not fit: starting anew");
                    self.partial.restart(State::default())?;
                    inherited = false;
                }
                Err(error) => {
                    self.partial.remove();
                    return Err(error);
                }
            }
        }
    }

    /// Attempts until all bytes are there.
    fn complete(&mut self) -> Result<()> {
        let mut failed = 0;
        loop {
            let before = self.partial.length;
            match self.attempt() {
                Ok(()) => return Ok(()),
                Err(failure) => {
                    if self.partial.length > before {
                        failed = 0;
                    }
                    failed += 1;
                    pause(failure, failed, self.first_wait, self.progress)?;
                }
            }
        }
    }

    fn attempt(&mut self) -> Result<(), Failure> {
        let range = self.partial.range(self.expected.is_some());
        let (client, url, progress) = (self.client, self.url, self.progress);
        client.get(url, range.as_ref(), progress, &mut |event| match event {
            Reply::Begin(head) => {
                match head.starts_at {
                    Some(start) if range.as_ref().is_some_and(|range| range.from == start) => {}
                    Some(start) => {
                        self.partial.restart(State::default())?;
                        return Err(Error::new(
                            Class::Transient,
                            format!("resume: the server sent bytes from {start} on instead"),
                        ));
                    }
                    None => self.partial.restart(State {
                        validator: head.validator.clone(),
                    })?,
                }
                let total = head.length.map(|length| length + self.partial.length);
                if total.is_some_and(|total| total > self.limit) {
                    return Err(too_large(self.limit));
                }
                if !self.begun {
                    progress.begin(Step::Download, self.name, total);
                    progress.advance(Step::Download, self.partial.length);
                    self.begun = true;
                }
                Ok(())
            }
            Reply::Bytes(bytes) => {
                if bytes.len() as u64 > self.limit.saturating_sub(self.partial.length) {
                    return Err(too_large(self.limit));
                }
                self.partial.append(bytes)?;
                progress.advance(Step::Download, bytes.len() as u64);
                Ok(())
            }
            Reply::NothingLeft => {
                // The file may be whole, or another one by now: the digest
                // tells, where there is one.
                if self.expected.is_none() {
                    self.partial.restart(State::default())?;
                    return Err(Error::new(
                        Class::Transient,
                        "resume: the file changed in the meantime",
                    ));
                }
                Ok(())
            }
        })
    }
}

fn too_large(limit: u64) -> Error {
    Error::dependency(format!(
        "it has more than the {limit} bytes that are allowed"
    ))
}

/// What is remembered beside a partial file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    /// A strong `ETag`, else `Last-Modified`: what `If-Range` takes.
    validator: Option<String>,
}

/// The bytes of a download that are already here.
#[derive(Debug)]
struct Partial {
    file: File,
    path: PathBuf,
    state_path: PathBuf,
    state: State,
    hasher: Sha256,
    length: u64,
}

impl Partial {
    fn open(store: &Store, url_hash: &Digest) -> Result<Self> {
        let path = store.folder().join("partial").join(url_hash.to_string());
        let state_path = path.with_extension("json");
        let failed = |error| write_error(format!("open {}", path.display()), error);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        let state = std::fs::read(&state_path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let mut hasher = Sha256::new();
        let mut length = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            length += count as u64;
        }
        Ok(Self {
            file,
            path,
            state_path,
            state,
            hasher,
            length,
        })
    }

    /// What to ask the server for. Without a validator it may only be the rest
    /// when a digest tells whether the parts fit together.
    fn range(&self, has_digest: bool) -> Option<Range> {
        let worth_it = self.length > 0 && (has_digest || self.state.validator.is_some());
        worth_it.then(|| Range {
            from: self.length,
            validator: self.state.validator.clone(),
        })
    }

    fn restart(&mut self, state: State) -> Result<()> {
        self.state = state;
        self.hasher = Sha256::new();
        self.length = 0;
        let restart = || {
            self.file.set_len(0)?;
            (&self.file).seek(SeekFrom::Start(0))?;
            let text = serde_json::to_vec(&self.state)?;
            std::fs::write(&self.state_path, text)
        };
        restart().map_err(|error| write_error(format!("write {}", self.path.display()), error))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| write_error(format!("write {}", self.path.display()), error))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn digest(&self) -> Digest {
        Digest::from_bytes(self.hasher.clone().finalize().into())
    }

    fn keep(&self, store: &Store, digest: &Digest) -> Result<(Digest, u64)> {
        store.place(&self.file, &self.path, digest)?;
        remove(&self.state_path);
        Ok((*digest, self.length))
    }

    fn remove(&self) {
        remove(&self.path);
        remove(&self.state_path);
    }
}

/// Removes what nobody needs any more; a leftover does no harm.
fn remove(path: &Path) {
    std::fs::remove_file(path).ok();
}

#[cfg(test)]
mod tests;
