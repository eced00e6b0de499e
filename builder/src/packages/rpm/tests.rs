use super::*;
use crate::packages::fuzz::Hash;

/// Made by rpmbuild: three ways to compress one package.
const GZIP: &[u8] = include_bytes!("../../../../fuzz/corpus/package/rpm-gzip");
const XZ: &[u8] = include_bytes!("../../../../fuzz/corpus/package/rpm-xz");
const ZSTD: &[u8] = include_bytes!("../../../../fuzz/corpus/package/rpm-zstd");

fn problem(package: &[u8]) -> String {
    let read = read(package, &mut Hash, &Limits::default());
    read.expect_err("it is refused").to_string()
}

#[test]
fn reads_what_rpmbuild_wrote() {
    for package in [GZIP, XZ, ZSTD] {
        let (rpm, items) = read(package, &mut Hash, &Limits::default()).expect("sound");
        assert_eq!(
            (rpm.name.as_str(), rpm.version.as_str()),
            ("seed", "1:1.0~rc1-2")
        );
        let paths: Vec<&str> = items.iter().filter_map(|item| item.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "/etc/seed.conf",
                "/usr/bin/hard",
                "/usr/bin/link",
                "/usr/bin/seed"
            ]
        );
        // Two names of one file have its content both.
        assert_eq!(items[1].kind, items[3].kind);
        assert_eq!(items[2].kind, Kind::Symlink("seed".to_owned()));
        assert_eq!(items[0].text.as_deref(), Some(&b"x\n"[..]));
        assert!(items[3].xattrs.contains_key(capability::ATTRIBUTE));
        assert_eq!(rpm.configuration.values().collect::<Vec<_>>(), [&true]);
        let relations = rpm.relations().expect("sound");
        let requires: Vec<String> = relations.requires.iter().map(ToString::to_string).collect();
        assert!(requires.contains(&"other >= 2".to_owned()), "{requires:?}");
        assert_eq!(relations.triggers[0].name, "other");
        let (ldconfig, matter) = scripts::judge(&rpm.header).expect("sound");
        assert!(ldconfig && matter.is_empty());

        let header = Header::parse(rpm.installed(1_700_000_000)).expect("a header");
        assert_eq!(
            header.numbers(tag::INSTALL_TIME).expect("a number"),
            [1_700_000_000]
        );
        assert_eq!(header.numbers(tag::FILE_STATES).expect("numbers"), [0; 4]);
        assert_eq!(
            header.text(tag::NAME).expect("a name").as_deref(),
            Some("seed")
        );
        assert_eq!(
            identity(&header).expect("its name"),
            (rpm.name, rpm.version)
        );
    }
}

#[test]
fn notices_every_damage() {
    let mut changed = GZIP.to_vec();
    let name = GZIP
        .windows(10)
        .position(|bytes| bytes == b"/usr/bin/\0")
        .expect("a folder");
    changed[name] = b'.';
    assert_eq!(problem(&changed), "its header has not the sum beside it");
    for length in [3, 90, 200, 2000, GZIP.len() - 30] {
        problem(&GZIP[..length]);
    }
    let mut changed = GZIP.to_vec();
    let last = changed.len() - 30;
    changed[last] ^= 1;
    problem(&changed);
    let limits = Limits {
        entries: 3,
        ..Limits::default()
    };
    let error = read(GZIP, &mut Hash, &limits).expect_err("four files");
    assert!(error.to_string().contains("more than 3"), "{error}");
    // A header that leads out of itself.
    let blob = include_bytes!("../../../../fuzz/corpus/package/rpm-header");
    Header::parse(blob.to_vec()).expect("sound");
    let mut wild = blob.to_vec();
    wild[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(Header::parse(wild).is_err());
}
