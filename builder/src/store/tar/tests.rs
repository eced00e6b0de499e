use super::*;

fn entries(archive: &[u8]) -> io::Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = Reader::new(archive);
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        reader.read_to_end(&mut content)?;
        found.push((entry, content));
    }
    Ok(found)
}

/// An archive by the `tar` crate: a writer that is not ours.
fn written(path: &str, kind: ::tar::EntryType, content: &[u8]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    let mut header = ::tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o4755);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1_700_000_000);
    builder
        .append_data(&mut header, path, content)
        .expect("memory");
    builder.into_inner().expect("memory")
}

#[test]
fn reads_what_others_wrote() {
    let long = format!("{}/file", "deep/".repeat(60));
    for path in ["bin/kubelet", &long] {
        let found = entries(&written(path, ::tar::EntryType::Regular, b"content")).expect("sound");
        let (entry, content) = &found[0];
        assert_eq!(relative_path(&entry.path), relative_path(path.as_bytes()));
        assert_eq!((entry.mode, entry.uid, entry.gid), (0o4755, 7, 8));
        assert_eq!(
            (entry.kind, entry.modified),
            (EntryKind::File, 1_700_000_000)
        );
        assert_eq!(content, b"content");
    }
}

/// A header by hand, for what no honest writer makes.
fn header(path: &str, kind: u8, size: &str) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..path.len()].copy_from_slice(path.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[124..124 + size.len()].copy_from_slice(size.as_bytes());
    block[156] = kind;
    block[257..263].copy_from_slice(b"ustar\0");
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

fn with_records(records: &str, rest: &[u8]) -> Vec<u8> {
    let mut archive = header("pax", b'x', &format!("{:o}", records.len())).to_vec();
    archive.extend_from_slice(records.as_bytes());
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    archive.extend_from_slice(rest);
    archive
}

#[test]
fn takes_size_path_and_xattrs_from_pax_records() {
    let mut rest = header("short", b'0', "0").to_vec();
    rest.extend_from_slice(b"hello");
    rest.resize(2 * BLOCK, 0);
    let records =
        "10 size=5\n18 path=real/name\n30 SCHILY.xattr.user.name=v=1\n20 mtime=123.456789\n";
    let found = entries(&with_records(records, &rest)).expect("sound");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0.path, b"real/name");
    assert_eq!(found[0].0.modified, 123);
    assert_eq!(found[0].0.xattrs["user.name"], b"v=1");
    assert_eq!(found[0].1, b"hello");
}

#[test]
fn refuses_tricks() {
    let plain = header("file", b'0', "0");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("sparse", header("sparse", b'S', "0").to_vec()),
        ("sparse", with_records("22 GNU.sparse.major=1\n", &plain)),
        ("damaged", with_records("99 path=x\n", &plain)),
        ("no '='", with_records("7 path\n", &plain)),
        ("no number", with_records("10 size=x\n", &plain)),
        ("no number", header("file", b'0', "9").to_vec()),
        ("truncated", header("file", b'0', "5").to_vec()),
        ("truncated", plain[..100].to_vec()),
        ("unknown type", header("file", b'M', "0").to_vec()),
        (
            "extended header has",
            header("long", b'L', "77777777").to_vec(),
        ),
        ("after an extended", with_records("9 path=x\n", &[])),
        (
            "in a row",
            (0..20).flat_map(|_| header("x", b'x', "0")).collect(),
        ),
        ("global PAX", {
            let mut archive = with_records("9 path=x\n", &plain);
            archive[..BLOCK].copy_from_slice(&header("pax", b'g', "11"));
            archive
        }),
    ];
    for (expected, archive) in cases {
        let error = entries(&archive).expect_err(expected);
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
    let mut damaged = plain;
    damaged[0] = b'F';
    assert!(entries(&damaged).is_err());
}

#[test]
fn links_have_no_content() {
    let mut block = header("link", b'1', "5");
    block[157..163].copy_from_slice(b"target");
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let found = entries(&block).expect("sound");
    assert_eq!((found[0].0.kind, found[0].0.size), (EntryKind::HardLink, 0));
    assert_eq!(found[0].0.link, b"target");
}

#[test]
fn knows_paths_that_lead_out() {
    assert_eq!(relative_path(b"./a//b/."), Some(b"a/b".to_vec()));
    assert_eq!(relative_path(b"./"), Some(Vec::new()));
    for bad in [&b"/etc/passwd"[..], b"../x", b"a/../../x", b"a\0b"] {
        assert_eq!(relative_path(bad), None);
    }
}

#[test]
fn reads_base_256_numbers() {
    let mut field = [0u8; 12];
    field[0] = 0x80;
    field[7] = 2;
    assert_eq!(number(&field, "size").expect("sound"), 2 << 32);
    assert_eq!(number(&[0xff; 12], "time").expect("sound"), -1);
    let mut huge = [0xffu8; 12];
    huge[0] = 0x80;
    assert!(number(&huge, "size").is_err());
}
