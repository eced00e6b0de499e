//! `Packages` with the indexes beside it, read whole and written anew with more packages.

use std::collections::{BTreeMap, HashSet};

use super::super::Problem;
use super::super::index::{self, Entry, GROUP, INDEXES};
use super::{MAGIC_TREE, Meta, file, hash, tree};
use crate::packages::Damage;
use crate::packages::rpm::header::Header;

/// Under this key is the highest number that was given.
const COUNTER: u32 = 0;
/// What stands for a key without a byte, such as the name of `/`.
const EMPTY: &[u8] = b"\0";

/// A database that can be added to.
#[derive(Debug)]
pub(crate) struct Whole {
    meta: Meta,
    /// The headers by their numbers.
    headers: BTreeMap<u32, Vec<u8>>,
    last: u32,
}

/// An index, with its tag.
#[derive(Debug)]
pub(crate) struct Index {
    name: &'static str,
    tag: u32,
    meta: Meta,
    /// For each key the packages that have it: their numbers, and where in the tag.
    keys: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Whole {
    /// Reads `Packages`.
    ///
    /// # Errors
    /// When it is damaged, or of a kind that rpm before 4.16 does not write.
    pub fn read(bytes: &[u8]) -> Result<Self, Damage> {
        let meta = Meta::of(bytes)?;
        let mut headers = BTreeMap::new();
        let mut last = 0;
        hash::each(bytes, &mut |key, value| {
            let key = <[u8; 4]>::try_from(key).map_err(|_| "a key of it is no number")?;
            let number = u32::from_le_bytes(key);
            last = last.max(number);
            if number == COUNTER {
                let value = <[u8; 4]>::try_from(value).map_err(|_| "its counter is none")?;
                last = last.max(u32::from_le_bytes(value));
                return Ok(());
            }
            match headers.insert(number, value) {
                None => Ok(()),
                Some(_) => Err("a key is in it twice"),
            }
        })?;
        Ok(Self {
            meta,
            headers,
            last,
        })
    }

    /// The headers, in the order of their numbers.
    pub fn headers(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.headers.values()
    }

    /// `Packages` and its indexes with more installed packages.
    ///
    /// # Errors
    /// When an index does not fit the packages that are there, or it would be too large.
    pub fn with(
        mut self,
        mut indexes: Vec<Index>,
        added: &[Vec<u8>],
    ) -> Result<(Vec<u8>, Vec<Vec<u8>>), Damage> {
        let parsed = |(number, blob): (&u32, &Vec<u8>)| -> Result<(u32, Header), Damage> {
            Ok((*number, Header::parse(blob.clone())?))
        };
        let there = self.headers.iter().map(parsed);
        let there: BTreeMap<u32, Header> = there.collect::<Result<_, _>>()?;
        for index in &indexes {
            index.check(&there)?;
        }
        for blob in added {
            let header = Header::parse(blob.clone())?;
            let number = self.last.checked_add(1).ok_or("it has no number left")?;
            self.last = number;
            for index in &mut indexes {
                index.add(number, &header)?;
            }
            self.headers.insert(number, blob.clone());
        }
        let counter = self.last.to_le_bytes();
        let mut records: BTreeMap<[u8; 4], &[u8]> = BTreeMap::new();
        records.insert(COUNTER.to_le_bytes(), &counter);
        for (number, header) in &self.headers {
            records.insert(number.to_le_bytes(), header);
        }
        let packages = hash::write(&self.meta, &records)?;
        let indexes = indexes
            .iter()
            .map(|index| tree::write(&index.meta, &index.keys));
        Ok((packages, indexes.collect::<Result<_, _>>()?))
    }
}

impl Index {
    /// Reads the index of this name; a tree, or a hash as an older rpm made it.
    ///
    /// # Errors
    /// As [`Whole::read`].
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self, Damage> {
        let meta = Meta::of(bytes)?;
        let mut keys = BTreeMap::new();
        let mut take = |key, value: Vec<u8>| -> Result<(), Problem> {
            if value.is_empty() || !value.len().is_multiple_of(8) {
                return Err("a value of it is no list of packages");
            }
            match keys.insert(key, value) {
                None => Ok(()),
                Some(_) => Err("a key is in it twice"),
            }
        };
        if file::File::open(bytes)?.magic == MAGIC_TREE {
            tree::each(bytes, &mut take)?;
        } else {
            hash::each(bytes, &mut take)?;
        }
        let known = INDEXES.iter().find(|(known, _)| *known == name);
        let (name, tag) = known.ok_or("it is no index of rpm")?;
        Ok(Self {
            name,
            tag: *tag,
            meta,
            keys,
        })
    }

    /// Whether it is the index of these packages: it has what they say, and names no other.
    ///
    /// This shows, too, that the rpm of the image goes by the same rules.
    fn check(&self, headers: &BTreeMap<u32, Header>) -> Result<(), Damage> {
        let mut found = HashSet::new();
        for (key, value) in &self.keys {
            for place in value.as_chunks::<8>().0 {
                let [first, second, third, fourth, ..] = *place;
                let number = u32::from_le_bytes([first, second, third, fourth]);
                if !headers.contains_key(&number) {
                    let text = format!("its index {} names a package that is not there", self.name);
                    return Err(text.into());
                }
                found.insert((key.as_slice(), *place));
            }
        }
        // The group may be in any language; the names of a condition are rpm's own affair.
        if self.tag == GROUP {
            return Ok(());
        }
        for (number, header) in headers {
            for entry in index::entries(header, self.tag)? {
                let is_there = found.contains(&(key(&entry), place(*number, &entry)));
                if !is_there && !entry.is_of_condition {
                    let text = String::from_utf8_lossy(key(&entry)).into_owned();
                    let text = format!(
                        "its index {} lacks '{}' of an installed package",
                        self.name,
                        text.escape_debug()
                    );
                    return Err(text.into());
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, number: u32, header: &Header) -> Result<(), Damage> {
        for entry in index::entries(header, self.tag)? {
            let places = self.keys.entry(key(&entry).to_vec()).or_default();
            places.extend(place(number, &entry));
        }
        Ok(())
    }
}

fn key(entry: &Entry) -> &[u8] {
    match entry.key.bytes() {
        [] => EMPTY,
        key => key,
    }
}

fn place(number: u32, entry: &Entry) -> [u8; 8] {
    let mut place = [0; 8];
    place[..4].copy_from_slice(&number.to_le_bytes());
    place[4..].copy_from_slice(&entry.place.to_le_bytes());
    place
}

/// Writes `bytes` anew as `Packages` and as an index, where they can be read as such, for
/// fuzzing.
///
/// # Panics
/// When what was written does not hold what was read.
pub(crate) fn write_any(bytes: &[u8]) {
    if let Ok(whole) = Whole::read(bytes) {
        let (before, last) = (whole.headers.clone(), whole.last);
        if let Ok((written, _)) = whole.with(Vec::new(), &[]) {
            let after = Whole::read(&written).expect("what was written is read");
            assert_eq!((after.headers, after.last), (before, last));
        }
    }
    if let Ok(index) = Index::read("Name", bytes)
        && let Ok(written) = tree::write(&index.meta, &index.keys)
    {
        let after = Index::read("Name", &written).expect("what was written is read");
        assert_eq!(after.keys, index.keys);
    }
}
