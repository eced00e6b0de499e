use super::*;
use crate::packages::fuzz::Hash;

fn header(path: &str, kind: tar::EntryType, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    // Not by the library's own call, which refuses what leads out.
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_cksum();
    header
}

use ::tar;

/// A tar archive of files with these contents.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let header = header(path, tar::EntryType::Regular, content.len());
        builder.append(&header, *content).expect("memory");
    }
    builder.into_inner().expect("memory")
}

fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for (name, content) in members {
        let size = content.len();
        bytes.extend(
            format!(
                "{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n",
                0, 0, 0, 100_644
            )
            .bytes(),
        );
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    bytes
}

const CONTROL: &[u8] = b"Package: a\nVersion: 1\nArchitecture: all\n";

/// A package with these control files beside `control`, and this data.
fn package(control: &[(&str, &[u8])], data: &[u8]) -> Vec<u8> {
    let files = [&[("./control", CONTROL)], control].concat();
    ar(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar", &archive(&files)),
        ("data.tar", data),
    ])
}

fn problem(package: &[u8]) -> String {
    let read = read(package, &mut Hash, &Limits::default());
    read.expect_err("it is refused").to_string()
}

#[test]
fn reads_fields_items_and_sums() {
    let data = archive(&[("./usr/x", b"x"), ("./etc/x.conf", b"1")]);
    let package = package(
        &[
            ("./conffiles", b"/etc/x.conf\nremove-on-upgrade /etc/old\n"),
            ("./md5sums", b"9dd4e461268c8034f5c8564e155c67a6  usr/x\n"),
        ],
        &data,
    );
    let (deb, items) = read(&package[..], &mut Hash, &Limits::default()).expect("sound");
    assert_eq!((deb.name.as_str(), deb.version.as_str()), ("a", "1"));
    assert_eq!(deb.conffiles.len(), 1);
    assert_eq!(items.len(), 2);
    assert_eq!(items[0].modified, 1);
}

#[test]
fn refuses_what_no_honest_package_has() {
    let fine = archive(&[("./usr/x", b"x")]);
    for (package, words) in [
        (
            package(&[], &archive(&[("../etc/passwd", b"x")])),
            "leads out",
        ),
        (
            package(&[], &archive(&[("./a", b"x"), ("a", b"y")])),
            "/a twice",
        ),
        (package(&[("./list", b"")], &fine), "'list'"),
        (package(&[("./UPPER", b"")], &fine), "unknown file"),
        (
            package(&[("./conffiles", b"/etc/none\n")], &fine),
            "/etc/none",
        ),
        (
            package(&[("./conffiles", b"usr/x\n")], &fine),
            "no conffile",
        ),
        (
            package(&[("./md5sums", b"00  usr/x\n")], &fine),
            "has not the sum",
        ),
        (
            package(&[("./md5sums", b"00  usr/y\n")], &fine),
            "no file of it",
        ),
        (package(&[("./triggers", b"enjoy x\n")], &fine), "triggers"),
        (ar(&[("debian-binary", b"3.0\n")]), "format 2"),
        (
            ar(&[("debian-binary", b"2.0\n"), ("data.tar", &fine)]),
            "control.tar",
        ),
        (ar(&[("debian-binary", b"2.0\n"), ("evil", b"")]), "'evil'"),
        (
            ar(&[
                ("debian-binary", b"2.0\n"),
                ("control.tar", &archive(&[("./control", CONTROL)])),
            ]),
            "no data.tar",
        ),
        (
            ar(&[
                ("debian-binary", b"2.0\n"),
                ("control.tar", &archive(&[("./control", b"Package: a\n")])),
                ("data.tar", &fine),
            ]),
            "no Version",
        ),
        (b"!<arch>\nshort".to_vec(), "damaged"),
        (b"!<ar".to_vec(), "cut off"),
    ] {
        let problem = problem(&package);
        assert!(
            problem.contains(words),
            "'{words}' is missing in: {problem}"
        );
    }
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append(&header("./dev/null", tar::EntryType::Char, 0), &b""[..])
        .expect("memory");
    let device = builder.into_inner().expect("memory");
    assert!(problem(&package(&[], &device)).contains("device"));
    let mut builder = tar::Builder::new(Vec::new());
    let mut link = header("./a", tar::EntryType::Link, 0);
    link.set_link_name("etc/passwd").expect("short");
    link.set_cksum();
    builder.append(&link, &b""[..]).expect("memory");
    let link = builder.into_inner().expect("memory");
    assert!(problem(&package(&[], &link)).contains("no file in it"));
}

#[test]
fn bounds_hold() {
    let limits = Limits {
        entries: 1,
        ..Limits::default()
    };
    let two = archive(&[("./a", b""), ("./b", b"")]);
    let read = read(&package(&[], &two)[..], &mut Hash, &limits);
    assert!(
        read.expect_err("too many")
            .to_string()
            .contains("more than 1")
    );
    let cut = package(&[], &two);
    let problem = problem(&cut[..cut.len() - 1100]);
    assert!(
        problem.contains("truncated") || problem.contains("cut off"),
        "{problem}"
    );
}
