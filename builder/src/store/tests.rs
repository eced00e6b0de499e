use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use sha2::{Digest as _, Sha256};

use super::*;
use crate::error::Class;
use crate::progress::{Progress, Silent, Step};

fn digest(content: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(content).into())
}

pub(super) fn empty() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = Store::open(folder.path().join("store")).expect("writable");
    (folder, store)
}

fn files_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("exists")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn gives_back_what_it_took() {
    let (_folder, store) = empty();
    for content in [&b"content"[..], b""] {
        let added = store
            .add_reader(&mut &content[..], None, 100)
            .expect("added");
        assert_eq!(added, (digest(content), content.len() as u64));
        assert!(store.contains(&added.0));
        assert_eq!(store.size(&added.0), Some(added.1));
        let mut read = Vec::new();
        let mut file = store.open_object(&added.0).expect("there");
        file.read_to_end(&mut read).expect("sound");
        assert_eq!(read, content);
        let path = store.verified_path(&added.0).expect("sound");
        let mode = std::fs::metadata(path).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o444);
    }
    assert_eq!(files_in(&store.folder().join("temporary")), ["gate"]);
}

#[test]
fn keeps_nothing_that_is_wrong_or_too_large() {
    let (_folder, store) = empty();
    let other = digest(b"other");
    let error = store
        .add_reader(&mut &b"content"[..], Some(other), 100)
        .expect_err("wrong digest");
    assert_eq!(error.class(), Class::Dependency);
    let text = error.to_string();
    assert!(text.contains(&other.to_string()) && text.contains(&digest(b"content").to_string()));
    let error = store
        .add_reader(&mut &b"content"[..], None, 6)
        .expect_err("too large");
    assert_eq!(error.class(), Class::Dependency);
    assert!(!store.contains(&digest(b"content")));
    assert_eq!(files_in(&store.folder().join("temporary")), ["gate"]);
}

#[test]
fn moves_damaged_objects_aside() {
    let (_folder, store) = empty();
    for damaged in [&b"c0ntent"[..], b"conten", b""] {
        let (name, _) = store
            .add_reader(&mut &b"content"[..], None, 100)
            .expect("added");
        let path = store.verified_path(&name).expect("sound");
        std::fs::remove_file(&path).expect("own");
        std::fs::write(&path, damaged).expect("own");
        let error = store.verified_path(&name).expect_err("damaged");
        assert_eq!(error.class(), Class::Dependency, "{error}");
        assert!(!store.contains(&name));
        assert_eq!(
            files_in(&store.folder().join("damaged")),
            [name.to_string()]
        );
    }
}

#[test]
fn never_hands_out_the_last_byte_of_a_damaged_object() {
    let (_folder, store) = empty();
    let (name, _) = store
        .add_reader(&mut &b"content"[..], None, 100)
        .expect("added");
    let path = store.verified_path(&name).expect("sound");
    let mut file = store.open_object(&name).expect("there");
    let mut first = [0; 3];
    file.read_exact(&mut first).expect("first bytes");
    std::fs::remove_file(&path).expect("own");
    std::fs::write(&path, b"cXntent").expect("own");
    let mut file = store.open_object(&name).expect("there");
    let error = file.read_exact(&mut [0; 7]).expect_err("damaged");
    assert_eq!(Error::io("copy", error).class(), Class::Dependency);
}

#[test]
fn reads_mirrors_and_never_writes_them() {
    let (_folder, mirror) = empty();
    let (name, _) = mirror
        .add_reader(&mut &b"content"[..], None, 100)
        .expect("added");
    let (_other, store) = empty();
    assert!(!store.contains(&name));
    let store = store.with_mirrors(vec![mirror.folder().to_owned()]);
    let path = store.verified_path(&name).expect("in the mirror");
    std::fs::remove_file(&path).expect("own");
    std::fs::write(&path, b"damaged").expect("own");
    assert!(store.verified_path(&name).is_err());
    assert!(path.exists(), "a mirror is left alone");
}

#[test]
fn sweeps_only_what_has_no_writer() {
    let (_folder, store) = empty();
    let temporary = store.folder().join("temporary");
    std::fs::write(temporary.join("object-dead"), b"left by a killed process").expect("own");
    let mut draft = store.draft(100).expect("draft");
    draft.write_all(b"alive").expect("written");
    let again = Store::open(store.folder()).expect("opened twice");
    assert_eq!(files_in(&temporary).len(), 2, "{:?}", files_in(&temporary));
    assert!(!temporary.join("object-dead").exists());
    let (name, _) = draft.keep(None).expect("kept");
    assert!(again.contains(&name));
}

#[test]
fn takes_regular_files_only() {
    let (folder, store) = empty();
    let error = store.add_file(folder.path(), None).expect_err("a folder");
    assert_eq!(error.class(), Class::Input);
    let error = store
        .add_file(&folder.path().join("absent"), None)
        .expect_err("absent");
    assert_eq!(error.class(), Class::Input);
    let path = folder.path().join("file");
    std::fs::write(&path, b"content").expect("own");
    let added = store
        .add_file(&path, Some(digest(b"content")))
        .expect("added");
    assert_eq!(added, (digest(b"content"), 7));
}

#[test]
fn says_what_to_do_about_a_folder_that_cannot_be() {
    let (folder, _store) = empty();
    let file = folder.path().join("file");
    std::fs::write(&file, b"").expect("own");
    let error = Store::open(file.join("store")).expect_err("below a file");
    assert!(error.to_string().contains("create"), "{error}");
    // /proc takes no folders, not even from root.
    let error = Store::open("/proc/nodekiln").expect_err("not writable");
    assert!(error.to_string().contains("/proc/nodekiln"), "{error}");
}

#[test]
fn reports_a_full_disk_as_such() {
    let error = write_error(
        "write".to_owned(),
        std::io::Error::from(std::io::ErrorKind::StorageFull),
    );
    assert_eq!(error.class(), Class::Environment);
    assert!(
        error
            .hint_text()
            .is_some_and(|hint| hint.contains("NODEKILN_CACHE"))
    );
}

#[test]
fn lets_one_at_a_time_work_on_one_thing() {
    let (_folder, store) = empty();
    let running = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                use std::sync::atomic::Ordering::SeqCst;
                let _lock = store.exclusive("thing", &Silent).expect("locked");
                assert_eq!(running.fetch_add(1, SeqCst), 0);
                std::thread::yield_now();
                running.fetch_sub(1, SeqCst);
            });
        }
    });
    assert!(files_in(&store.folder().join("locks")).is_empty());
}

/// Says that the user wants to stop.
pub(super) struct Stopped;

impl Progress for Stopped {
    fn begin(&self, _: Step, _: &str, _: Option<u64>) {}
    fn advance(&self, _: Step, _: u64) {}
    fn end(&self, _: Step) {}
    fn note(&self, _: &str) {}
    fn warn(&self, _: &str) {}
    fn stopped(&self) -> bool {
        true
    }
}

#[test]
fn stops_waiting_on_request() {
    let (_folder, store) = empty();
    let _held = store.exclusive("thing", &Silent).expect("locked");
    let error = store.exclusive("thing", &Stopped).expect_err("stopped");
    assert_eq!(error.class(), Class::Interrupted);
}

#[test]
fn many_writers_of_one_object_agree() {
    let (_folder, store) = empty();
    let content = vec![7; 300_000];
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let store = Store::open(store.folder()).expect("opened");
                store
                    .add_reader(&mut &content[..], Some(digest(&content)), u64::MAX)
                    .expect("added");
            });
        }
    });
    store.verified_path(&digest(&content)).expect("sound");
    assert_eq!(files_in(&store.folder().join("temporary")), ["gate"]);
}

#[test]
fn zeros_become_holes() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = Store::open(folder.path().join("store")).expect("writable");
    let mut content = vec![0; 8 << 20];
    content[5 << 20] = 1;
    let path = folder.path().join("sparse");
    std::fs::write(&path, &content).expect("own");
    let (digest, size) = store.add_file(&path, None).expect("added");
    let object = store.verified_path(&digest).expect("there");
    assert_eq!(size, content.len() as u64);
    assert_eq!(std::fs::read(&object).expect("there"), content);
    // In blocks of 512 bytes (stat(2)).
    let allocated = object.metadata().expect("there").blocks() * 512;
    assert!(allocated <= 1 << 20, "{allocated}");
}
