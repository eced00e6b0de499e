use std::io::Write as _;

use super::*;
use crate::error::Class;
use crate::progress::Silent;
use crate::store::tests::empty;
use ::tar::EntryType;

/// Entries by the `tar` crate: path, kind, content or link target. Paths are
/// written as they are, also bad ones.
fn tar(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (path, kind, content) in entries {
        let mut header = ::tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        let is_file = *kind == EntryType::Regular;
        if is_file {
            header.set_size(content.len() as u64);
        } else {
            header.set_size(0);
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_cksum();
        let body = if is_file { content.as_bytes() } else { &[] };
        builder.append(&header, body).expect("memory");
    }
    builder.into_inner().expect("memory")
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

fn take(archive: &[u8], selection: &MemberSelection) -> Result<BTreeMap<String, Vec<u8>>> {
    let (_folder, store) = empty();
    let unpacked = unpack(&store, archive, selection, &Limits::default(), &Silent)?;
    unpacked
        .members
        .into_iter()
        .map(|(path, member)| {
            let mut content = Vec::new();
            let mut file = store.open_object(&member.content.sha256)?;
            file.read_to_end(&mut content).expect("sound");
            Ok((path, content))
        })
        .collect()
}

fn programs(folder: &str) -> MemberSelection {
    MemberSelection::Programs(folder.to_owned())
}

fn file(path: &str) -> MemberSelection {
    MemberSelection::File(path.to_owned())
}

const REGULAR: EntryType = EntryType::Regular;

#[test]
fn takes_what_is_asked_for_from_every_wrapping() {
    let plain = tar(&[
        ("./bin/", EntryType::Directory, ""),
        ("./bin/ctr", REGULAR, "client"),
        ("./bin/containerd", REGULAR, "runtime"),
        ("./README", REGULAR, "text"),
    ]);
    let xz = {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(&plain).expect("memory");
        encoder.finish().expect("memory")
    };
    let zstd = zstd::encode_all(&plain[..], 1).expect("memory");
    let mut deb = b"!<arch>\n".to_vec();
    for (name, content) in [
        ("debian-binary", &b"2.0\n"[..]),
        ("control.tar.xz", b"odd"),
        ("data.tar.xz", &xz),
    ] {
        deb.extend(
            format!(
                "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
                0,
                0,
                0,
                100_644,
                content.len()
            )
            .bytes(),
        );
        deb.extend_from_slice(content);
        if content.len() % 2 == 1 {
            deb.push(b'\n');
        }
    }
    for archive in [gzip(&plain), xz, zstd, deb, plain] {
        let members = take(&archive, &programs("bin")).expect("sound");
        assert_eq!(members.len(), 2);
        assert_eq!(members["bin/ctr"], b"client");
        assert_eq!(
            take(&archive, &file("README")).expect("sound")["README"],
            b"text"
        );
    }
}

#[test]
fn takes_a_single_compressed_file_as_what_is_asked_for() {
    let members = take(&gzip(b"program"), &file("kubelet")).expect("sound");
    assert_eq!(members["kubelet"], b"program");
    assert!(take(b"program", &file("kubelet")).is_err());
    assert!(take(&gzip(b"program"), &programs("")).is_err());
}

#[test]
fn tells_what_else_there_is() {
    let (_folder, store) = empty();
    let archive = tar(&[("a/x", REGULAR, "1"), ("a/y", REGULAR, "2")]);
    let unpacked = unpack(
        &store,
        &archive[..],
        &file("a/z"),
        &Limits::default(),
        &Silent,
    )
    .expect("nothing matches, which is no error here");
    assert!(unpacked.members.is_empty());
    assert_eq!(unpacked.others, ["a/x", "a/y"]);
}

#[test]
fn resolves_links_between_chosen_members_only() {
    let good = tar(&[
        ("bin/real", REGULAR, "program"),
        ("bin/soft", EntryType::Symlink, "../bin/./real"),
        ("bin/hard", EntryType::Link, "bin/real"),
        ("bin/chain", EntryType::Symlink, "soft"),
    ]);
    let members = take(&good, &programs("bin")).expect("sound");
    assert_eq!(members.len(), 4);
    assert!(members.values().all(|content| content == b"program"));
    for (kind, target) in [
        (EntryType::Symlink, "/etc/passwd"),
        (EntryType::Symlink, "../../etc/passwd"),
        (EntryType::Symlink, "link"),
        (EntryType::Symlink, "absent"),
        (EntryType::Link, "../real"),
        (EntryType::Link, "/etc/passwd"),
        (EntryType::Link, "elsewhere/real"),
    ] {
        let archive = tar(&[("elsewhere/real", REGULAR, "x"), ("bin/link", kind, target)]);
        let error = take(&archive, &programs("bin")).expect_err(target);
        assert_eq!(error.class(), Class::Dependency, "{target}");
    }
}

#[test]
fn refuses_what_leads_out_even_beside_what_is_asked_for() {
    for (path, kind) in [
        ("../evil", REGULAR),
        ("a/../../evil", REGULAR),
        ("/etc/evil", REGULAR),
        ("dev/null", EntryType::Char),
        ("pipe", EntryType::Fifo),
    ] {
        let archive = tar(&[("good", REGULAR, "1"), (path, kind, "")]);
        let error = take(&archive, &file("good")).expect_err(path);
        assert_eq!(error.class(), Class::Dependency, "{path}");
    }
    let twice = tar(&[("good", REGULAR, "1"), ("./good", REGULAR, "2")]);
    let error = take(&twice, &file("good")).expect_err("twice");
    assert!(error.to_string().contains("twice"), "{error}");
}

#[test]
fn keeps_to_its_limits() {
    let (_folder, store) = empty();
    let archive = tar(&[("a", REGULAR, "12345"), ("b", REGULAR, "12345")]);
    let with = |limits: Limits| unpack(&store, &archive[..], &file("a"), &limits, &Silent);
    let default = Limits::default();
    for limits in [
        Limits {
            entries: 1,
            ..default
        },
        Limits {
            unpacked: 1000,
            ..default
        },
        Limits { path: 0, ..default },
    ] {
        assert_eq!(with(limits).expect_err("limit").class(), Class::Dependency);
    }
    with(default).expect("within limits");
}

#[test]
fn refuses_archives_that_end_early() {
    let archive = gzip(&tar(&[("a", REGULAR, &"x".repeat(5000))]));
    for length in [0, 5, 30, archive.len() - 5] {
        let error = take(&archive[..length], &file("a")).expect_err("truncated");
        assert_eq!(error.class(), Class::Dependency, "{length}");
    }
}

#[test]
fn an_object_of_the_store_must_be_whole() {
    let (_folder, store) = empty();
    let archive = tar(&[("a", REGULAR, "12345")]);
    let (name, _) = store
        .add_reader(&mut &archive[..], None, u64::MAX)
        .expect("added");
    members(&store, &name, &file("a"), &Limits::default(), &Silent).expect("sound");
    let path = store.verified_path(&name).expect("sound");
    let mut damaged = archive;
    *damaged.last_mut().expect("not empty") = 1;
    std::fs::remove_file(&path).expect("own");
    std::fs::write(&path, damaged).expect("own");
    let error = members(&store, &name, &file("a"), &Limits::default(), &Silent)
        .expect_err("only the padding differs");
    assert_eq!(error.class(), Class::Dependency);
}

#[test]
fn a_hundred_thousand_chained_links_are_each_followed_once() {
    const COUNT: usize = 100_000;
    let end = StoredMember {
        content: Stored {
            sha256: Digest::from_bytes([1; 32]),
            size: 1,
        },
        mode: 0o755,
    };
    let members = BTreeMap::from([("end".to_owned(), end)]);
    let name = |number: usize| format!("l{number:06}");
    // Each leads to the next; the worst order comes first in the map.
    let mut links: BTreeMap<String, String> = (0..COUNT)
        .map(|number| (name(number), name(number + 1)))
        .collect();
    links.insert(name(COUNT), "end".to_owned());
    let (found, steps) = resolve_links(&links, &members);
    assert_eq!(steps, COUNT + 1);
    assert!(found.values().all(|member| *member == Some(end)));

    // A ring that all lead to, and one that leads nowhere.
    links.insert(name(COUNT), name(COUNT / 2));
    links.insert("lost".to_owned(), "nothing".to_owned());
    let (found, steps) = resolve_links(&links, &members);
    assert_eq!(steps, COUNT + 2);
    assert!(found.values().all(Option::is_none));
}

/// The entry point of the fuzz target: any bytes, without panics, within bounds.
fn survive(bytes: &[u8], store: &Store) {
    let limits = Limits {
        entries: 1000,
        unpacked: 1 << 20,
        path: 256,
    };
    if let Err(error) = unpack(store, bytes, &programs("bin"), &limits, &Silent) {
        assert_eq!(error.class(), Class::Dependency, "{error}");
    }
}

#[test]
fn survives_the_corpus_and_its_mutations() {
    let (_folder, store) = empty();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize
    };
    crate::seeds::replay("archive", 0, |seed| {
        survive(seed, &store);
        for _ in 0..40 {
            let mut mutant = seed.to_vec();
            for _ in 0..=next() % 4 {
                let at = next() % mutant.len().max(1);
                if let Some(byte) = mutant.get_mut(at) {
                    *byte = next() as u8;
                }
            }
            if next() % 4 == 0 {
                mutant.truncate(next() % mutant.len().max(1));
            }
            survive(&mutant, &store);
        }
    });
}
