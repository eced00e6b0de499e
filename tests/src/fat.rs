//! FAT for tests: file systems made by mkfs.vfat, and the readers of others.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use nodekiln::ImagePath;
use nodekiln::volume::Kind;

use crate::sequences::Operation;
use crate::volumes::{EPOCH, Node, at, blank, must, plain};

/// mkfs.vfat's arguments, size in bytes, whether the other reader opens it.
pub const LAYOUTS: &[(&str, &[&str], u64, bool)] = &[
    ("FAT12", &["-F", "12"], 4 << 20, true),
    ("FAT16", &["-F", "16"], 32 << 20, true),
    ("FAT32", &["-F", "32", "-s", "1"], 40 << 20, true),
    ("a small FAT32", &["-F", "32"], 24 << 20, false),
    (
        "sectors of 4 KiB",
        &["-F", "16", "-S", "4096", "-s", "1"],
        32 << 20,
        true,
    ),
];

/// A FAT of `size` bytes, labelled `UEFI`.
pub fn make(folder: &Path, name: &str, options: &[&str], size: u64) -> PathBuf {
    let image = blank(folder, &name.replace(' ', "-"), size);
    let mut arguments = vec!["--invariant", "-i", "1a2b3c4d", "-n", "UEFI"];
    arguments.extend_from_slice(options);
    must("mkfs.vfat", &arguments, &image);
    image
}

/// A day after the epoch.
const LATER: i64 = EPOCH.seconds + 86_400;

/// A bake's changes: long, short and foreign names, large files and small ones, whatever
/// their case.
pub fn payload() -> Vec<Operation> {
    let mut later = plain(0o600);
    later.modified.seconds = LATER;
    later.uid = 1000;
    let folder = |path: &str| Operation::Folder(at(path), plain(0o755));
    let mut list = vec![
        folder("/EFI"),
        folder("/EFI/BOOT"),
        folder("/EFI/ubuntu with a long name"),
        folder("/loader"),
        folder("/loader/entries"),
        Operation::Write(at("/EFI/BOOT/BOOTX64.EFI"), 1, 900_000, later.clone()),
        Operation::Write(at("/EFI/BOOT/grubx64.efi"), 2, 16 << 10, later.clone()),
        Operation::Write(at("/EFI/BOOT/Mixed.Case"), 3, 5000, later.clone()),
        Operation::Write(at("/efi/boot/bootx64.efi"), 4, 700_001, plain(0o644)),
        Operation::Write(
            at("/loader/\u{65e5}\u{672c}\u{8a9e} \u{1f980}.conf"),
            5,
            9,
            later.clone(),
        ),
        Operation::Write(at("/loader/caf\u{e9}"), 6, 10, later.clone()),
        Operation::Write(at("/loader/CAF\u{c9}"), 7, 11, later.clone()),
        Operation::Write(at("/LOADER/loader.conf"), 8, 0, plain(0o644)),
        Operation::Append(at("/Loader/LOADER.CONF"), 9, 300_000),
        Operation::Append(at("/loader/loader.conf"), 10, 77),
        Operation::Dress(at("/LOADER"), later.clone()),
    ];
    for number in 0..40 {
        let path = at(&format!(
            "/loader/entries/an entry that is long {number}.conf"
        ));
        list.push(Operation::Write(
            path,
            number,
            (number * 241) as usize,
            plain(0o644),
        ));
    }
    list.extend([
        Operation::Rename(at("/efi/boot/mixed.case"), at("/efi/boot/MIXED.case")),
        Operation::Rename(at("/EFI/BOOT/grubx64.efi"), at("/EFI/boot/Mixed.CASE")),
        Operation::Rename(at("/loader/entries"), at("/EFI/entries")),
        Operation::Rename(
            at("/EFI/Entries/AN ENTRY that is long 7.conf"),
            at("/EFI/entries/an entry that is long 8.CONF"),
        ),
        Operation::Remove(at("/efi/ENTRIES/an entry that is long 9.conf")),
        folder("/empty"),
        Operation::RemoveFolder(at("/EMPTY")),
        folder("/Tree"),
        folder("/Tree/below"),
        Operation::Write(at("/tree/Below/file"), 1, 20_000, plain(0o644)),
        Operation::RemoveTree(at("/TREE")),
        Operation::Dress(at("/"), plain(0o755)),
    ]);
    list
}

/// Whether `fsck.vfat -n` finds an image sound.
pub fn check(image: &Path) {
    must("fsck.vfat", &["-n"], image);
}

/// What FAT keeps of a tree: kind, size, content, and the time in steps of two
/// seconds.
pub fn reduced(tree: &BTreeMap<ImagePath, Node>) -> BTreeMap<ImagePath, (Kind, u64, Vec<u8>, i64)> {
    tree.iter()
        .filter(|(path, _)| !path.is_root() && path.as_str() != Some("/lost+found"))
        .map(|(path, node)| {
            let seconds = node.metadata.attributes.modified.seconds / 2 * 2;
            let kept = (
                node.metadata.kind,
                node.metadata.size,
                node.content.clone(),
                seconds,
            );
            (path.clone(), kept)
        })
        .collect()
}

/// Everything on an image as the crate `fatfs` reads it, without times.
///
/// # Panics
/// When it cannot be read.
pub fn read_by_another(image: &Path) -> BTreeMap<ImagePath, (Kind, u64)> {
    let file = std::fs::File::open(image).expect("opened");
    let volume = fatfs::FileSystem::new(ReadOnly(file), fatfs::FsOptions::new()).expect("opened");
    let mut found = BTreeMap::new();
    let mut left = vec![(ImagePath::root(), volume.root_dir())];
    while let Some((path, folder)) = left.pop() {
        for entry in folder.iter() {
            let entry = entry.expect("entry read");
            let name = entry.file_name();
            if name == "." || name == ".." {
                continue;
            }
            let path = path.join(&name).expect("sound");
            if entry.is_dir() {
                found.insert(path.clone(), (Kind::Directory, 0));
                left.push((path, entry.to_dir()));
            } else {
                let mut data = Vec::new();
                entry.to_file().read_to_end(&mut data).expect("file read");
                assert_eq!(data.len() as u64, entry.len());
                found.insert(path, (Kind::File, entry.len()));
            }
        }
    }
    found
}

/// fatfs wants to write; nothing may.
struct ReadOnly(std::fs::File);

impl std::io::Read for ReadOnly {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl std::io::Write for ReadOnly {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl std::io::Seek for ReadOnly {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}
