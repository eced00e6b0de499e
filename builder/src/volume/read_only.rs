//! What a driver of others reads by number, as a [`Volume`]: paths become numbers here, and
//! every change is refused.

use std::collections::HashMap;
use std::fmt::Debug;
use std::io::{Read, Write};

use super::places::Places;
use super::refusal::refuse;
use super::{
    Attributes, DirectoryEntry, Identity, Kind, Metadata, Problem, Space, Timestamp, Volume,
};
use crate::error::Result;
use crate::image_path::ImagePath;

/// Folders of which the number is remembered.
const KNOWN_FOLDERS: usize = 4096;

/// A file system whose files, folders and links are read by their numbers.
pub(super) trait Reader: Debug + Send {
    /// What it says of itself.
    fn identity(&self) -> Identity;
    /// How much room there is.
    fn space(&mut self) -> Result<Space>;
    /// The number of the top folder.
    fn root(&self) -> u64;
    /// What `name` in the folder `folder` is, and its number.
    fn child(&mut self, folder: u64, name: &[u8], doing: &str) -> Result<Option<(u64, Kind)>>;
    /// What `lstat` would tell of `number`.
    fn metadata(&mut self, number: u64, doing: &str) -> Result<Metadata>;
    /// As [`Volume::part`].
    fn part(&self, number: u64) -> u64 {
        let _ = number;
        0
    }
    /// The names in the folder `number`, in any order, and what they are.
    fn list(&mut self, number: u64, doing: &str) -> Result<Vec<DirectoryEntry>>;
    /// Copies the content of the file `number`; gives its size in bytes.
    fn copy(&mut self, number: u64, sink: &mut dyn Write, doing: &str) -> Result<u64>;
    /// The target of the link `number`.
    fn target(&mut self, number: u64, doing: &str) -> Result<Vec<u8>>;
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct ReadOnly<R> {
    reader: R,
    folders: HashMap<ImagePath, u64>,
    places: Places,
}

impl<R: Reader> ReadOnly<R> {
    /// What `reader` reads.
    pub(super) fn new(reader: R) -> Self {
        Self {
            places: Places::new(reader.root()),
            folders: HashMap::new(),
            reader,
        }
    }

    /// The number of the folder `path`; a link on the way, or at its end, is none.
    fn folder(&mut self, path: &ImagePath, doing: &str) -> Result<u64> {
        if path.is_root() {
            return Ok(self.reader.root());
        }
        if let Some(known) = self.folders.get(path) {
            return Ok(*known);
        }
        let mut number = self.reader.root();
        let mut below = ImagePath::root();
        for component in path.components() {
            below = below.join(component)?;
            if let Some(known) = self.folders.get(&below) {
                number = *known;
                continue;
            }
            let parent = number;
            let found = self.reader.child(parent, component, doing)?;
            let (child, kind) = found.ok_or_else(|| {
                refuse(Problem::NotFound, doing, format!("{below} does not exist"))
            })?;
            if kind != Kind::Directory {
                let text = format!("a component of {path} is no folder");
                return Err(refuse(Problem::NotADirectory, doing, text));
            }
            number = child;
            self.places.one_name(number, parent, component, doing)?;
            if self.folders.len() >= KNOWN_FOLDERS {
                self.folders.clear();
            }
            self.folders.insert(below.clone(), number);
        }
        Ok(number)
    }

    /// What is at `path`, its folder being there.
    fn find(&mut self, path: &ImagePath, doing: &str) -> Result<Option<u64>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(Some(self.reader.root()));
        };
        let folder = self.folder(&parent, doing)?;
        let found = self.reader.child(folder, name, doing)?;
        Ok(found.map(|(number, _)| number))
    }

    fn existing(&mut self, path: &ImagePath, doing: &str) -> Result<u64> {
        self.find(path, doing)?
            .ok_or_else(|| refuse(Problem::NotFound, doing, format!("{path} does not exist")))
    }

    fn refused<T>(doing: impl Into<String>) -> Result<T> {
        Err(refuse(
            Problem::NotSupported,
            doing,
            "the image is open for reading",
        ))
    }
}

impl<R: Reader> Volume for ReadOnly<R> {
    fn identity(&self) -> Identity {
        self.reader.identity()
    }

    fn space(&mut self) -> Result<Space> {
        self.reader.space()
    }

    fn metadata(&mut self, path: &ImagePath) -> Result<Option<Metadata>> {
        let doing = format!("look at {path}");
        match self.find(path, &doing) {
            Ok(Some(number)) => self.reader.metadata(number, &doing).map(Some),
            Ok(None) => Ok(None),
            Err(error) => match super::problem(&error) {
                Some(Problem::NotFound | Problem::NotADirectory) => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn part(&self, inode: u64) -> u64 {
        self.reader.part(inode)
    }

    fn read_directory(&mut self, path: &ImagePath) -> Result<Vec<DirectoryEntry>> {
        let doing = format!("list {path}");
        let number = self.folder(path, &doing)?;
        let mut entries = self.reader.list(number, &doing)?;
        entries.sort();
        if let Some(entry) = entries
            .iter()
            .find(|entry| entry.name.contains(&b'/') || entry.name.contains(&0))
        {
            let text = format!("it holds the name '{}'", entry.name.escape_ascii());
            return Err(refuse(Problem::Damaged, doing, text));
        }
        Ok(entries)
    }

    fn read_file(&mut self, path: &ImagePath, sink: &mut dyn Write) -> Result<u64> {
        let doing = format!("read {path}");
        let number = self.existing(path, &doing)?;
        self.reader.copy(number, sink, &doing)
    }

    fn read_link(&mut self, path: &ImagePath) -> Result<Vec<u8>> {
        let doing = format!("read the link {path}");
        let number = self.existing(path, &doing)?;
        self.reader.target(number, &doing)
    }

    fn create_directory(&mut self, path: &ImagePath, _: &Attributes) -> Result<()> {
        Self::refused(format!("create the folder {path}"))
    }

    fn write_file(
        &mut self,
        path: &ImagePath,
        _: u64,
        _: &mut dyn Read,
        _: &Attributes,
    ) -> Result<()> {
        Self::refused(format!("write {path}"))
    }

    fn append_file(&mut self, path: &ImagePath, _: &[u8]) -> Result<()> {
        Self::refused(format!("append to {path}"))
    }

    fn create_symlink(&mut self, path: &ImagePath, _: &[u8], _: &Attributes) -> Result<()> {
        Self::refused(format!("create the link {path}"))
    }

    fn create_hard_link(&mut self, existing: &ImagePath, path: &ImagePath) -> Result<()> {
        Self::refused(format!("link {path} to {existing}"))
    }

    fn set_attributes(&mut self, path: &ImagePath, _: &Attributes) -> Result<()> {
        Self::refused(format!("set the attributes of {path}"))
    }

    fn remove_file(&mut self, path: &ImagePath) -> Result<()> {
        Self::refused(format!("remove {path}"))
    }

    fn remove_directory(&mut self, path: &ImagePath) -> Result<()> {
        Self::refused(format!("remove the folder {path}"))
    }

    fn rename(&mut self, from: &ImagePath, to: &ImagePath) -> Result<()> {
        Self::refused(format!("rename {from} to {to}"))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// Seconds and nanoseconds as a driver read them: bounded.
pub(super) fn time(seconds: i64, nanoseconds: u32) -> Timestamp {
    Timestamp {
        seconds,
        nanoseconds: nanoseconds.min(999_999_999),
    }
}
