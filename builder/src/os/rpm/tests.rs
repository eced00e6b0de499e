use super::*;
use crate::Class;
use crate::os::Image;
use crate::plan::Target;
use crate::volume::Volume;
use crate::volume::model::MemoryVolume;

const SQLITE: &[u8] = include_bytes!("../../../../fuzz/corpus/rpm/sqlite-512");
const BERKELEY: &[u8] = include_bytes!("../../../../fuzz/corpus/rpm/berkeley-512");
const BERKELEY_4096: &[u8] = include_bytes!("../../../../fuzz/corpus/rpm/berkeley-4096");

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
