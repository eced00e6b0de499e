use super::*;
use crate::Class;
use crate::os::Image;
use crate::plan::Target;
use crate::volume::Volume;
use crate::volume::model::MemoryVolume;

const SQLITE: &[u8] = include_bytes!("../../../../fuzz/corpus/rpm/sqlite-512");
const BERKELEY: &[u8] = include_bytes!("../../../../fuzz/corpus/rpm/berkeley-512");
const BERKELEY_4096: &[u8] = include_bytes!("../../../../fuzz/corpus/rpm/berkeley-4096");
const TREE: &[u8] = include_bytes!("../../../../fuzz/corpus/rpm/berkeley-tree-512");
const HEADER: &[u8] = include_bytes!("../../../../fuzz/corpus/rpm/header");

fn image(files: &[(&str, &[u8])]) -> Image {
    let mut volume = MemoryVolume::new();
    for (path, content) in files {
        volume = volume.with_file(path, content).expect("builds");
    }
    let root: Box<dyn Volume> = Box::new(volume);
    Image::new([(Target::Root, root)].into()).expect("has a root")
}

#[test]
fn reads_both_kinds_of_database() {
    let wanted = [
        ("alpha".to_owned(), "4:1.2-3".to_owned()),
        ("beta".to_owned(), "2.0~rc1-1.el9".to_owned()),
        ("gamma".to_owned(), "9-1.el9".to_owned()),
    ];
    for (path, bytes) in [
        ("/usr/lib/sysimage/rpm/rpmdb.sqlite", SQLITE),
        ("/var/lib/rpm/rpmdb.sqlite", SQLITE),
        ("/var/lib/rpm/Packages", BERKELEY),
        ("/var/lib/rpm/Packages", BERKELEY_4096),
    ] {
        let log = format!("{path}-wal");
        let found = installed(&mut image(&[(path, bytes), (&log, b"")])).expect("sound");
        assert_eq!(found, Some(wanted.clone().into()), "{path}");
    }
    assert_eq!(installed(&mut image(&[])).expect("nothing"), None);
}

#[test]
fn a_database_that_is_damaged_is_one_clear_error() {
    let path = "/var/lib/rpm/rpmdb.sqlite";
    let mut twice = SQLITE.to_vec();
    // Every pointer of every page to page 3: a tree that never ends.
    for page in twice.chunks_mut(512).skip(1) {
        if page[0] == 0x05 {
            page[8..12].copy_from_slice(&3_u32.to_be_bytes());
        }
    }
    let cut = &SQLITE[..SQLITE.len() / 2];
    for bytes in [cut, &twice[..1500], b"rpm".as_slice(), &[0; 5000]] {
        let error = installed(&mut image(&[(path, bytes)])).expect_err("damaged");
        assert_eq!(error.class(), Class::CheckFailed);
        assert!(error.to_string().contains(path), "{error}");
        assert!(error.hint_text().is_some());
    }
    let error = installed(&mut image(&[("/var/lib/rpm/Packages", &BERKELEY[..2048])]));
    assert_eq!(error.expect_err("cut").class(), Class::CheckFailed);
}

#[test]
fn a_database_that_cannot_be_read_is_not_supported() {
    let sqlite = "/var/lib/rpm/rpmdb.sqlite";
    let open = [
        (sqlite, SQLITE),
        ("/var/lib/rpm/rpmdb.sqlite-wal", b"frames".as_slice()),
    ];
    let ndb = [("/usr/lib/sysimage/rpm/Packages.db", b"RpmP".as_slice())];
    for (files, words) in [(&open[..], "not closed"), (&ndb[..], "ndb")] {
        let error = installed(&mut image(files)).expect_err("not read");
        assert_eq!(error.class(), Class::Unsupported);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_package_is_added_to_both_kinds_of_database() {
    let added = header::package(HEADER).expect("a header");
    for (path, bytes) in [
        ("/usr/lib/sysimage/rpm/rpmdb.sqlite", SQLITE),
        ("/var/lib/rpm/Packages", BERKELEY),
        ("/var/lib/rpm/Packages", BERKELEY_4096),
    ] {
        let stale = "/var/lib/rpm/__db.001";
        let mut before = image(&[(path, bytes), (stale, b"memory")]);
        let mut wanted = installed(&mut before).expect("sound").expect("packages");
        let database = Database::read(&mut before).expect("sound");
        let recorded = database.with(&[HEADER.to_vec()]).expect("has room");
        let is_berkeley = path.ends_with("Packages");
        assert_eq!(recorded.stale.len(), usize::from(is_berkeley));
        let [(written, bytes)] = &recorded.files[..] else {
            panic!("there is no index");
        };
        assert_eq!(written.as_str(), Some(path));
        wanted.insert(added.name.clone(), added.version.clone());
        let found = installed(&mut image(&[(path, bytes)])).expect("sound");
        assert_eq!(found, Some(wanted), "{path}");
    }
}

#[test]
fn an_index_that_is_not_of_the_packages_is_refused() {
    let files = [
        ("/var/lib/rpm/Packages", BERKELEY),
        ("/var/lib/rpm/Name", TREE),
    ];
    let database = Database::read(&mut image(&files)).expect("each is sound");
    let error = database.with(&[]).expect_err("of other packages");
    assert_eq!(error.class(), Class::CheckFailed);
    assert!(
        error.to_string().contains("its index Name names"),
        "{error}"
    );
}

#[test]
fn only_what_rpm_writes_in_berkeley_db_is_written_anew() {
    // Version, flags of the first page, flags, parts, the function that hashes.
    for (at, byte) in [(16, 8), (16, 10), (26, 2), (48, 1), (36, 1)] {
        let mut bytes = BERKELEY.to_vec();
        bytes[at] = byte;
        let error = Database::read(&mut image(&[("/var/lib/rpm/Packages", &bytes)]));
        let error = error.expect_err("not understood");
        assert_eq!(error.class(), Class::Unsupported, "{at}");
        assert!(error.hint_text().is_some());
    }
    let mut bytes = BERKELEY.to_vec();
    bytes[92] ^= 1;
    let error = Database::read(&mut image(&[("/var/lib/rpm/Packages", &bytes)]));
    assert_eq!(
        error.expect_err("hashes otherwise").class(),
        Class::CheckFailed
    );
}
