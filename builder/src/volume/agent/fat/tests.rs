use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::disk::raw::RawFile;
use crate::task::Task;
use crate::volume::agent::Kernel;
use crate::volume::{Problem, open_for_agent, problem};

/// An empty FAT in `folder`, to be edited by a kernel that is never started.
fn opened(folder: &tempfile::TempDir) -> FatAgent {
    let image = folder.path().join("image");
    let file = File::create_new(&image).expect("created");
    file.set_len(16 << 20).expect("sized");
    Task::new("mkfs.vfat")
        .args(["-F", "16"])
        .arg(&image)
        .output()
        .expect("made");
    let (storage, place) = parts(&image);
    FatAgent::new(&storage, place, Timestamp::default()).expect("opened")
}

fn parts(image: &std::path::Path) -> (Arc<dyn Storage>, Place) {
    let file = File::open(image).expect("opened");
    let storage: Arc<dyn Storage> = Arc::new(RawFile::read_only(file).expect("a file"));
    let place = Place {
        image: image.to_owned(),
        range: 0..storage.size(),
        work: image.parent().expect("it has a folder").to_owned(),
        kernel: Kernel::new(PathBuf::from("/no/such/kernel"), Vec::new()),
    };
    (storage, place)
}

fn at(path: &str) -> ImagePath {
    ImagePath::new(path).expect("sound")
}

fn plain() -> Attributes {
    Attributes {
        mode: 0o644,
        uid: 0,
        gid: 0,
        modified: Timestamp::default(),
        xattrs: BTreeMap::new(),
    }
}

fn write(volume: &mut FatAgent, path: &str, content: &str) {
    let path = at(path);
    let size = content.len() as u64;
    volume
        .write_file(&path, size, &mut content.as_bytes(), &plain())
        .expect("written");
}

/// The changes that the kernel is to make, in short.
fn told(volume: &FatAgent) -> Vec<String> {
    let operations = volume.spool.operations();
    operations.iter().map(Operation::doing).collect()
}

#[test]
fn what_is_there_is_named_as_it_is_spelled() {
    let folder = tempfile::tempdir().expect("folder");
    let mut volume = opened(&folder);
    for path in ["/EFI", "/efi/Boot"] {
        volume.create_directory(&at(path), &plain()).expect("made");
    }
    write(&mut volume, "/efi/boot/grub.cfg", "one");
    write(&mut volume, "/EFI/BOOT/grub.cfg", "same spelling");
    write(&mut volume, "/EFI/BOOT/GRUB.cfg", "another");
    volume
        .append_file(&at("/efi/boot/grub.cfg"), b" and more")
        .expect("appended");
    write(&mut volume, "/EFI/a longer name", "");
    volume
        .set_attributes(&at("/EFI/ALONGE~1"), &plain())
        .expect("by its short name");
    // Linux folds no letters but those of English.
    write(&mut volume, "/EFI/caf\u{e9}", "");
    write(&mut volume, "/EFI/CAF\u{c9}", "");
    volume
        .remove_file(&at("/efi/Caf\u{e9}"))
        .expect("it is one file");
    volume
        .set_attributes(&at("/"), &plain())
        .expect("nothing to keep");
    assert_eq!(
        told(&volume),
        [
            "create the folder /EFI",
            "create the folder /EFI/Boot",
            "write /EFI/Boot/grub.cfg",
            "write /EFI/Boot/grub.cfg",
            "remove /EFI/Boot/grub.cfg",
            "write /EFI/Boot/GRUB.cfg",
            "append to /EFI/Boot/GRUB.cfg",
            "write /EFI/a longer name",
            "set the attributes of /EFI/a longer name",
            r"write /EFI/caf\xc3\xa9",
            r"remove /EFI/caf\xc3\xa9",
            r"write /EFI/CAF\xc3\x89",
            r"remove /EFI/CAF\xc3\x89",
        ]
    );
    let mut content = Vec::new();
    volume
        .read_file(&at("/EFI/boot/grub.cfg"), &mut content)
        .expect("read");
    assert_eq!(content, b"another and more");
}

#[test]
fn moves_take_away_what_has_another_spelling() {
    let folder = tempfile::tempdir().expect("folder");
    let mut volume = opened(&folder);
    for path in ["/one", "/two", "/two/full"] {
        volume.create_directory(&at(path), &plain()).expect("made");
    }
    for path in ["/a", "/b", "/Moved0.tmp"] {
        write(&mut volume, path, "");
    }
    let before = told(&volume).len();
    for (from, to) in [
        ("/A", "/c"),
        ("/c", "/B"),
        ("/b", "/B"),
        ("/b", "/b"),
        ("/ONE", "/two/FULL"),
        ("/two/full", "/Two/full"),
        ("/TWO/full", "/full"),
    ] {
        volume.rename(&at(from), &at(to)).expect("moved");
    }
    assert_eq!(
        told(&volume)[before..],
        [
            "rename /a to /c",
            // What is replaced goes first: Linux would keep its spelling.
            "remove /b",
            "rename /c to /B",
            // Only the spelling changes, by a name that is free.
            "rename /B to /MOVED1.TMP",
            "rename /MOVED1.TMP to /b",
            "remove the folder /two/full",
            "rename /one to /two/FULL",
            "rename /two/FULL to /two/MOVED0.TMP",
            "rename /two/MOVED0.TMP to /two/full",
            "rename /two/full to /full",
        ]
    );
    for (from, to, why) in [
        ("/none", "/x", Problem::NotFound),
        ("/two", "/b", Problem::NotADirectory),
        ("/b", "/TWO", Problem::IsADirectory),
        ("/two", "/Two/x", Problem::NotSupported),
        ("/", "/x", Problem::NotSupported),
    ] {
        let error = volume.rename(&at(from), &at(to)).expect_err("refused");
        assert_eq!(problem(&error), Some(why), "{from} to {to}: {error:?}");
    }
    assert_eq!(
        told(&volume).len(),
        before + 10,
        "a move that is refused is no change"
    );
}

#[test]
fn what_fat_cannot_hold_is_no_change() {
    let folder = tempfile::tempdir().expect("folder");
    let mut volume = opened(&folder);
    write(&mut volume, "/there", "something");
    let free = volume.space().expect("space").free;
    let mut labelled = plain();
    labelled
        .xattrs
        .insert("security.selinux".to_owned(), b"x".to_vec());
    // What is left of the last cluster of a file counts as well.
    let full = vec![0; free as usize + (64 << 10)];
    let size = full.len() as u64;
    let refusals = [
        (
            volume.create_symlink(&at("/l"), b"there", &plain()),
            Problem::NotSupported,
        ),
        (
            volume.create_hard_link(&at("/there"), &at("/l")),
            Problem::NotSupported,
        ),
        (
            volume.write_file(&at("/l"), 0, &mut &b""[..], &labelled),
            Problem::NotSupported,
        ),
        (
            volume.set_attributes(&at("/there"), &labelled),
            Problem::NotSupported,
        ),
        (
            volume.create_directory(&at("/a:b"), &plain()),
            Problem::NotSupported,
        ),
        (
            volume.write_file(&at("/l"), size, &mut &full[..], &plain()),
            Problem::NoSpace,
        ),
        (volume.append_file(&at("/there"), &full), Problem::NoSpace),
    ];
    for (refusal, why) in refusals {
        let error = refusal.expect_err("refused");
        assert_eq!(problem(&error), Some(why), "{error:?}");
    }
    assert_eq!(told(&volume), ["write /there"]);
    assert_eq!(volume.space().expect("space").free, free);
    assert_eq!(volume.metadata(&at("/l")).expect("looked"), None);
}

#[test]
fn another_tree_than_foreseen_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let mut volume = opened(&folder);
    write(&mut volume, "/there", "something");
    let foreseen = volume.foreseen.listing().expect("listed");
    compare(&foreseen, &foreseen).expect("it is the same");
    write(&mut volume, "/there", "something else");
    let other = volume.foreseen.listing().expect("listed");
    for (left, right) in [
        (&foreseen, &other),
        (&foreseen, &BTreeMap::new()),
        (&BTreeMap::new(), &foreseen),
    ] {
        let error = compare(left, right).expect_err("it is another");
        assert_eq!(error.class(), Class::Environment);
        assert!(error.to_string().contains("left /there"), "{error}");
    }
}

#[test]
fn fat_does_not_grow() {
    let folder = tempfile::tempdir().expect("folder");
    drop(opened(&folder));
    let (storage, place) = parts(&folder.path().join("image"));
    let error = open_for_agent(&storage, place, Timestamp::default(), true).expect_err("refused");
    assert_eq!(problem(&error), Some(Problem::NotSupported));
}
