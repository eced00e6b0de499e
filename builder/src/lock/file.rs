//! The lock file on disk.

use std::io::{Read as _, Write as _};
use std::path::Path;

use serde::Deserialize;

use super::model::{FILE_NAME, Lock, LockedProfile, VERSION};
use crate::error::{Context as _, Error, Place, Result};

/// Bytes of a lock file that are read at most.
pub const LENGTH_LIMIT: u64 = 16 << 20;

const HEADER: &str = "\
# Written by `nodekiln lock`: every input of the profiles in this folder, with
# what pins it. Keep it under version control; do not edit it.
";

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Lock {
    /// Reads a lock file; `None` when there is none.
    ///
    /// # Errors
    /// [`crate::Class::Input`] when it is no lock, or one of another version.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let name = path.display().to_string();
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(format!("read {name}"), error)),
        };
        let mut text = String::new();
        file.take(LENGTH_LIMIT + 1)
            .read_to_string(&mut text)
            .map_err(|error| {
                if error.kind() == std::io::ErrorKind::InvalidData {
                    Error::input(format!("read {name}: it is not UTF-8 text")).hint(AGAIN)
                } else {
                    Error::io(format!("read {name}"), error)
                }
            })?;
        Self::parse(&text, &name).map(Some)
    }

    /// Reads the text of a lock file; `file_name` is for messages.
    ///
    /// # Errors
    /// As [`Lock::read`].
    pub fn parse(text: &str, file_name: &str) -> Result<Self> {
        if text.len() as u64 > LENGTH_LIMIT {
            return Err(
                Error::input(format!("read {file_name}: it is too long for a lock")).hint(AGAIN),
            );
        }
        let Versioned { version } = read_yaml(text, file_name)?;
        if version != VERSION {
            let hint = if version > VERSION {
                "a newer nodekiln wrote it: use that one, or make it anew with `nodekiln lock`"
            } else {
                AGAIN
            };
            return Err(Error::input(format!(
                "read {file_name}: it is of version {version}, this nodekiln reads {VERSION}"
            ))
            .hint(hint));
        }
        let lock: Self = read_yaml(text, file_name)?;
        for (profile, locked) in &lock.profiles {
            locked.check().map_err(|error| {
                error
                    .context(format!("read the pins of '{profile}' in {file_name}"))
                    .hint(AGAIN)
            })?;
        }
        Ok(lock)
    }

    /// The text of the lock file: the same for the same lock.
    ///
    /// # Errors
    /// [`crate::Class::Internal`] when a value cannot be written as YAML.
    pub fn to_text(&self) -> Result<String> {
        let body = serde_yaml::to_string(self).map_err(|error| {
            Error::new(crate::Class::Internal, "write the lock as YAML").caused_by(error)
        })?;
        Ok(format!("{HEADER}{body}"))
    }

    /// Puts the pins of one profile into the lock file of `folder`, keeping those
    /// of the others, and replaces the file at once. Several processes may do it
    /// at the same time.
    ///
    /// # Errors
    /// As [`Lock::read`] for the present file; [`crate::Class::Environment`] when
    /// the folder cannot be written.
    pub fn update(folder: &Path, profile: &str, locked: LockedProfile) -> Result<()> {
        let path = folder.join(FILE_NAME);
        let doing = || format!("write {}", path.display());
        // The file itself is replaced, so the folder is what can be locked.
        let guard = std::fs::File::open(folder).doing(doing)?;
        guard.lock().doing(doing)?;
        let mut lock = Self::read(&path)?.unwrap_or_else(|| Self {
            version: VERSION,
            profiles: std::collections::BTreeMap::new(),
        });
        if lock.profiles.get(profile) == Some(&locked) {
            return Ok(());
        }
        lock.profiles.insert(profile.to_owned(), locked);
        let text = lock.to_text()?;
        replace(&path, folder, text.as_bytes()).doing(doing)?;
        guard.sync_all().doing(doing)
    }
}

const AGAIN: &str = "make it anew: remove the file and run `nodekiln lock`";

/// Replaces a file at once: whoever reads sees the old one or the new one whole.
fn replace(path: &Path, folder: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut file = tempfile::Builder::new()
        .prefix(".nodekiln.lock.")
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn read_yaml<T: serde::de::DeserializeOwned>(text: &str, file_name: &str) -> Result<T> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 16,
            flow_nesting_limit: 16,
            max_aliases: 0,
            max_documents: 2,
        },
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let refused = Error::input(format!("read the lock: {}", first_line(error))).hint(AGAIN);
        match error.location() {
            Some(location) => {
                let number = |value: u64| usize::try_from(value).unwrap_or(1).max(1);
                let line = number(location.line());
                refused.at(Place {
                    file: file_name.to_owned(),
                    line,
                    column: number(location.column()),
                    source: text.lines().nth(line - 1).unwrap_or_default().to_owned(),
                })
            }
            None => refused,
        }
    })
}

fn first_line(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let end = line.find(" at line ").unwrap_or(line.len());
    line[..end].to_owned()
}

impl LockedProfile {
    fn check(&self) -> Result<()> {
        for member in self
            .components
            .values()
            .flat_map(|component| component.members.values())
        {
            let octal = (3..=4).contains(&member.mode.len())
                && member
                    .mode
                    .bytes()
                    .all(|digit| (b'0'..=b'7').contains(&digit))
                && (member.mode.len() == 3 || member.mode.starts_with('0'));
            if !octal {
                return Err(Error::input(format!(
                    "'{}' is no mode for {}",
                    member.mode, member.destination
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::error::Class;

    /// What the fuzz target does with an input, too.
    fn survive(bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if let Ok(lock) = Lock::parse(&text, "nodekiln.lock") {
            let text = lock.to_text().expect("can be written");
            let again = Lock::parse(&text, "nodekiln.lock").expect("reads back");
            assert_eq!(again, lock);
        }
    }

    #[test]
    fn survives_the_fuzz_corpus_and_its_mutations() {
        crate::seeds::replay("lock", 300, survive);
    }

    fn sample() -> LockedProfile {
        let text = include_str!("../../../fuzz/corpus/profile/lock");
        let mut lock = Lock::parse(text, "seed").expect("a lock");
        lock.profiles.remove("seed").expect("its profile")
    }

    #[test]
    fn the_file_keeps_other_profiles_and_is_the_same_twice() {
        let folder = tempfile::tempdir().expect("folder");
        let path: PathBuf = folder.path().join(FILE_NAME);
        assert!(Lock::read(&path).expect("none").is_none());
        Lock::update(folder.path(), "b", sample()).expect("writes");
        Lock::update(folder.path(), "a", sample()).expect("writes");
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(text.starts_with("# Written by"), "{text}");
        let lock = Lock::read(&path).expect("reads").expect("is there");
        assert_eq!(lock.profiles.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(lock.profiles["a"], sample());
        assert_eq!(lock.to_text().expect("text"), text);
        Lock::update(folder.path(), "a", sample()).expect("writes");
        assert_eq!(std::fs::read_to_string(&path).expect("text"), text);
        assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 1);
        // Both YAML libraries of the project mean the same by it.
        let other: Lock = serde_yaml::from_str(&text).expect("reads");
        assert_eq!(other, lock);
    }

    #[test]
    fn several_processes_lose_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let folder = folder.path();
                scope.spawn(move || {
                    Lock::update(folder, &format!("p{number}"), sample()).expect("writes");
                });
            }
        });
        let lock = Lock::read(&folder.path().join(FILE_NAME)).expect("reads");
        assert_eq!(lock.expect("is there").profiles.len(), 8);
    }

    #[test]
    fn a_broken_file_is_refused_and_stays() {
        let lock = Lock {
            version: VERSION,
            profiles: BTreeMap::from([("a".to_owned(), sample())]),
        };
        let text = lock.to_text().expect("text");
        let sha256 = "d".repeat(64);
        for (from, to, message) in [
            ("version: 1", "version: 2", "of version 2"),
            ("version: 1", "version: 0", "of version 0"),
            ("version: 1", "versoin: 1", "version"),
            (sha256.as_str(), "abc", "no sha256"),
            ("trust:", "thrust:", "thrust"),
            ("/usr/sbin/runc", "/usr/../runc", ".."),
            ("'0755'", "'4755'", "pins of 'a'"),
            ("'0755'", "rwx", "pins of 'a'"),
            ("bookworm", "[", "read the lock"),
        ] {
            assert!(text.contains(from), "{from}: {text}");
            let broken = text.replacen(from, to, 1);
            let error = Lock::parse(&broken, "nodekiln.lock").expect_err(to);
            assert!(error.to_string().contains(message), "{to}: {error}");
            assert!(error.hint_text().is_some(), "{to}");
            assert_eq!(error.class(), Class::Input);
        }
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join(FILE_NAME);
        std::fs::write(&path, "version: 2\nprofiles: {}\n").expect("write");
        Lock::update(folder.path(), "a", sample()).expect_err("not overwritten");
        let kept = std::fs::read_to_string(&path).expect("text");
        assert_eq!(kept, "version: 2\nprofiles: {}\n");
    }
}
