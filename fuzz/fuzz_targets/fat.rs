//! Any bytes as a FAT volume: opened, listed, read, edited.
#![no_main]

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use libfuzzer_sys::fuzz_target;
use nodekiln::ImagePath;
use nodekiln::disk::Storage;
use nodekiln::volume::fat::Fat;
use nodekiln::volume::{Access, Attributes, Kind, Timestamp, Volume};

#[derive(Debug)]
struct Memory(Mutex<Vec<u8>>);

impl Storage for Memory {
    fn size(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = self.0.lock().unwrap();
        let source = usize::try_from(offset)
            .ok()
            .and_then(|offset| bytes.get(offset..offset.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(source);
        Ok(())
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        let mut bytes = self.0.lock().unwrap();
        usize::try_from(offset)
            .ok()
            .and_then(|offset| bytes.get_mut(offset..offset.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::InvalidInput)?
            .copy_from_slice(buffer);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        Ok((offset < self.size()).then(|| offset..self.size()))
    }
}

fuzz_target!(|data: &[u8]| {
    for access in [Access::Read, Access::Write] {
        let storage = Arc::new(Memory(Mutex::new(data.to_vec())));
        let Ok(mut volume) = Fat::open(storage, access, Timestamp::default()) else {
            continue;
        };
        let root = ImagePath::root();
        for entry in volume.read_directory(&root).unwrap_or_default() {
            let Ok(path) = root.join(&entry.name) else {
                continue;
            };
            let _ = volume.metadata(&path);
            if entry.kind == Kind::File {
                let _ = volume.read_file(&path, &mut io::sink());
                let _ = volume.append_file(&path, &[0; 3000]);
            } else {
                let _ = volume.read_directory(&path);
                let _ = volume.rename(&path, &ImagePath::new("/moved").unwrap());
            }
        }
        let attributes = Attributes {
            mode: 0,
            uid: 0,
            gid: 0,
            modified: Timestamp::default(),
            xattrs: BTreeMap::new(),
        };
        let path = ImagePath::new("/a new file with a long name").unwrap();
        let _ = volume.write_file(&path, 5000, &mut &[1; 5000][..], &attributes);
        let _ = Box::new(volume).finish();
    }
});
