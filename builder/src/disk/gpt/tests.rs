use super::*;
use crate::disk::memory::Memory;
use crate::error::Class;

const SECTORS: u64 = 4096;

/// A disk of 4,096 sectors whose fields can be bent before it is sealed.
#[derive(Debug, Clone)]
struct Draft {
    sector_size: usize,
    entry_size: u32,
    entry_count: u32,
    /// Number, first sector, last sector, unique GUID.
    partitions: Vec<(u32, u64, u64, u128)>,
    last_usable: u64,
    header_size: u32,
}

impl Draft {
    fn new() -> Self {
        Self {
            sector_size: 512,
            entry_size: 128,
            entry_count: 128,
            partitions: vec![(1, 2048, 3000, 1), (128, 40, 2047, 2)],
            last_usable: SECTORS - 34,
            header_size: 92,
        }
    }

    fn entry_sectors(&self) -> u64 {
        u64::from(self.entry_count * self.entry_size).div_ceil(self.sector_size as u64)
    }

    fn entries(&self) -> Vec<u8> {
        let mut entries = vec![0; (self.entry_count * self.entry_size) as usize];
        for (number, first, last, unique) in &self.partitions {
            let at = ((number - 1) * self.entry_size) as usize;
            entries[at..at + 16].copy_from_slice(&Guid::LINUX_FILESYSTEM.to_disk());
            entries[at + 16..at + 32].copy_from_slice(&Guid::from_u128(*unique).to_disk());
            entries[at + 32..at + 40].copy_from_slice(&first.to_le_bytes());
            entries[at + 40..at + 48].copy_from_slice(&last.to_le_bytes());
            entries[at + 56] = b'a';
        }
        entries
    }

    fn header(&self, my_lba: u64, alternate: u64, entries_lba: u64) -> Vec<u8> {
        let mut header = vec![0; self.sector_size];
        header[..8].copy_from_slice(b"EFI PART");
        header[8..12].copy_from_slice(&0x0001_0000_u32.to_le_bytes());
        header[12..16].copy_from_slice(&self.header_size.to_le_bytes());
        header[24..32].copy_from_slice(&my_lba.to_le_bytes());
        header[32..40].copy_from_slice(&alternate.to_le_bytes());
        header[40..48].copy_from_slice(&(2 + self.entry_sectors()).to_le_bytes());
        header[48..56].copy_from_slice(&self.last_usable.to_le_bytes());
        header[56..72].copy_from_slice(&[9; 16]);
        header[72..80].copy_from_slice(&entries_lba.to_le_bytes());
        header[80..84].copy_from_slice(&self.entry_count.to_le_bytes());
        header[84..88].copy_from_slice(&self.entry_size.to_le_bytes());
        // A revision to come may say more behind what is known.
        header[92..100].copy_from_slice(b"unknown!");
        seal(&mut header, &self.entries());
        header
    }

    fn bytes(&self) -> Vec<u8> {
        let size = self.sector_size;
        let mut bytes = vec![0; SECTORS as usize * size];
        bytes[..440].fill(0xB0);
        bytes[450] = 0xEE;
        bytes[454] = 1;
        bytes[510..512].copy_from_slice(&[0x55, 0xAA]);
        let mut put = |lba: u64, what: &[u8]| {
            let at = lba as usize * size;
            bytes[at..at + what.len()].copy_from_slice(what);
        };
        let backup_entries = SECTORS - 1 - self.entry_sectors();
        put(2, &self.entries());
        put(backup_entries, &self.entries());
        put(1, &self.header(1, SECTORS - 1, 2));
        put(SECTORS - 1, &self.header(SECTORS - 1, 1, backup_entries));
        bytes
    }

    fn read(&self) -> Result<Gpt> {
        read(&Memory::new(self.bytes()))
    }
}

fn seal(header: &mut [u8], entries: &[u8]) {
    header[88..92].copy_from_slice(&crc32fast::hash(entries).to_le_bytes());
    header[16..20].fill(0);
    let size = u32::from_le_bytes(header[12..16].try_into().expect("four bytes")) as usize;
    let checksum = crc32fast::hash(&header[..size.clamp(92, header.len())]);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
}

#[track_caller]
fn assert_refused(result: Result<Gpt>, words: &str) {
    let error = result.expect_err("must be refused");
    let cause = std::error::Error::source(&error).map_or(String::new(), ToString::to_string);
    assert_eq!(error.class(), Class::Input, "{error}: {cause}");
    assert!(
        format!("{error}: {cause}").contains(words),
        "{error}: {cause}"
    );
    assert!(error.hint_text().is_some());
}

#[test]
fn reads_both_sector_sizes_and_larger_entries() {
    for (sector_size, entry_size, entry_count) in [
        (512, 128, 128),
        (512, 256, 128),
        (512, 4096, 128),
        (4096, 128, 128),
        (512, 128, 129),
    ] {
        let draft = Draft {
            sector_size,
            entry_size,
            entry_count,
            partitions: vec![(1, 2048, 2999, 1), (128, 1200, 2047, 2)],
            last_usable: 3000,
            ..Draft::new()
        };
        let gpt = draft.read().expect("reads");
        assert_eq!(gpt.origin(), &Origin::Both);
        assert_eq!(gpt.sector_size(), sector_size as u64);
        assert_eq!(gpt.partitions().len(), 2);
        let last = gpt.partition(128).expect("number 128");
        assert_eq!(last.bytes().start, 1200 * sector_size as u64);
        assert_eq!(last.name, "a");
    }
}

#[test]
fn refuses_tables_that_contradict_themselves() {
    let with = |partitions: &[(u32, u64, u64, u128)]| Draft {
        partitions: partitions.to_vec(),
        ..Draft::new()
    };
    assert_refused(
        with(&[(1, 100, 200, 1), (2, 200, 300, 2)]).read(),
        "overlap",
    );
    assert_refused(with(&[(1, 200, 100, 1)]).read(), "before its begin");
    assert_refused(with(&[(1, 10, 100, 1)]).read(), "outside of the usable");
    assert_refused(
        with(&[(1, 100, SECTORS - 10, 1)]).read(),
        "outside of the usable",
    );
    assert_refused(
        with(&[(1, 100, u64::MAX, 1)]).read(),
        "outside of the usable",
    );
    assert_refused(
        with(&[(1, 100, 200, 1), (2, 201, 300, 1)]).read(),
        "same PARTUUID",
    );
    let bent = |bend: fn(&mut Draft)| {
        let mut draft = Draft::new();
        bend(&mut draft);
        draft.read()
    };
    assert_refused(bent(|draft| draft.entry_size = 64), "entries have 64 bytes");
    assert_refused(
        bent(|draft| draft.entry_size = 192),
        "entries have 192 bytes",
    );
    assert_refused(bent(|draft| draft.header_size = 91), "header has 91 bytes");
    assert_refused(
        bent(|draft| draft.header_size = 513),
        "header has 513 bytes",
    );
    assert_refused(bent(|draft| draft.last_usable = SECTORS + 5), "cut off");
    assert_refused(bent(|draft| draft.last_usable = 3), "usable sectors are");
    // Here only the backup lies where it must not.
    let gpt = bent(|draft| draft.last_usable = SECTORS - 2).expect("the primary is valid");
    assert!(matches!(gpt.origin(), Origin::Primary(_)));
}

/// Changes one field of both headers and seals them again.
fn with_field(at: usize, value: &[u8]) -> Result<Gpt> {
    let draft = Draft::new();
    let mut bytes = draft.bytes();
    for lba in [1, SECTORS as usize - 1] {
        let header = &mut bytes[lba * 512..(lba + 1) * 512];
        header[at..at + value.len()].copy_from_slice(value);
        seal(header, &draft.entries());
    }
    read(&Memory::new(bytes))
}

#[test]
fn refuses_headers_that_lead_astray() {
    assert_refused(with_field(8, &[0, 0, 2, 0]), "revision");
    assert_refused(with_field(24, &[7]), "but says 7");
    assert_refused(with_field(72, &[0xFF; 8]), "over something else");
    assert_refused(
        with_field(72, &100_u64.to_le_bytes()),
        "over something else",
    );
    assert_refused(with_field(80, &[0; 4]), "has 0 entries");
    assert_refused(with_field(80, &[0xFF; 4]), "entries");
}

#[test]
fn falls_back_to_the_copy_that_is_valid_and_says_so() {
    let draft = Draft::new();
    for (at, primary) in [
        (512 + 60, true),
        (1024 + 3, true),
        (SECTORS as usize * 512 - 512 + 60, false),
        (SECTORS as usize * 512 - 600, false),
    ] {
        let mut bytes = draft.bytes();
        bytes[at] ^= 1;
        let disk = Memory::new(bytes);
        let gpt = read(&disk).expect("one copy is valid");
        assert_eq!(matches!(gpt.origin(), Origin::Backup(_)), primary, "{at}");
        assert!(gpt.origin().note().expect("a note").contains("checksum"));
        gpt.write(&disk).expect("mends");
        assert!(disk.content() == read_both(&draft), "{at}");
    }
    let mut bytes = draft.bytes();
    bytes[512 + 60] ^= 1;
    bytes[SECTORS as usize * 512 - 512 + 60] ^= 1;
    assert_refused(read(&Memory::new(bytes)), "checksum");
}

/// What a sound disk of `draft` is after it was written once: the size in the
/// protective MBR is right.
fn read_both(draft: &Draft) -> Vec<u8> {
    let disk = Memory::new(draft.bytes());
    read(&disk).expect("reads").write(&disk).expect("writes");
    disk.content()
}

#[test]
fn writes_back_what_it_read() {
    let draft = Draft {
        header_size: 100,
        entry_size: 256,
        last_usable: SECTORS - 66,
        partitions: vec![(1, 2048, 3000, 1), (128, 100, 2047, 2)],
        ..Draft::new()
    };
    let before = draft.bytes();
    let after = read_both(&draft);
    let differ: Vec<usize> = (0..before.len())
        .filter(|at| before[*at] != after[*at])
        .collect();
    // Only the size in the protective MBR, which the draft left open.
    assert!(
        differ.iter().all(|at| (451..462).contains(at)),
        "{differ:?}"
    );
}

#[test]
fn grows_only_the_last_partition_and_only_if_it_fits() {
    let mut gpt = Draft::new().read().expect("reads");
    assert_eq!(gpt.extend(128).expect_err("not last").class(), Class::Input);
    assert_eq!(gpt.extend(5).expect_err("absent").class(), Class::Input);
    assert!(gpt.resize_disk(3010 * 512).is_err(), "too small");
    assert!(
        gpt.resize_disk(SECTORS * 512 + 1).is_err(),
        "no whole sector"
    );
    gpt.resize_disk(3034 * 512).expect("fits exactly");
    assert_eq!(gpt.extend(1).expect("stays").end, 3001 * 512);
    gpt.resize_disk(1 << 40).expect("grows");
    assert_eq!(gpt.extend(1).expect("grows").end, (1 << 40) - (1 << 20));
    let small = Memory::new(vec![0; 1 << 20]);
    assert_eq!(
        gpt.write(&small).expect_err("too large").class(),
        Class::Internal
    );
}

#[test]
fn says_what_a_disk_without_a_table_is() {
    let refused = |bytes: Vec<u8>| read(&Memory::new(bytes)).expect_err("refused");
    let words = |error: &Error| std::error::Error::source(error).map(ToString::to_string);
    let empty = refused(vec![0; 1 << 20]);
    assert_eq!(empty.class(), Class::Input);
    let mut mbr = vec![0; 1 << 20];
    mbr[450] = 0x83;
    mbr[510..512].copy_from_slice(&[0x55, 0xAA]);
    let mbr = refused(mbr);
    assert_eq!(mbr.class(), Class::Unsupported);
    assert!(words(&mbr).expect("a cause").contains("MBR"));
    let mut ext4 = vec![0; 1 << 20];
    ext4[1080..1082].copy_from_slice(&[0x53, 0xEF]);
    assert!(words(&refused(ext4)).expect("a cause").contains("ext4"));
    assert_eq!(refused(vec![0; 100]).class(), Class::Input);
    let mut unprotected = Draft::new().bytes();
    unprotected[450] = 0;
    assert_refused(read(&Memory::new(unprotected)), "protective MBR");
}

/// What the fuzz target does with an input, too: read, grow, write, read again.
fn exercise(mut bytes: Vec<u8>, with_checksums: bool) {
    if with_checksums {
        seal_whatever_it_is(&mut bytes);
    }
    bytes.resize(bytes.len() + (1 << 20), 0);
    let disk = Memory::new(bytes);
    let Ok(mut gpt) = read(&disk) else {
        return;
    };
    gpt.origin().note();
    for partition in gpt.partitions() {
        assert!(partition.bytes().end <= disk.size());
    }
    if gpt.resize_disk(disk.size() / 4096 * 4096).is_ok() {
        let last = gpt.last_on_disk().map(|partition| partition.number);
        last.map(|number| gpt.extend(number));
        if gpt.write(&disk).is_ok() {
            read(&disk).expect("what was written can be read");
        }
    }
}

fn seal_whatever_it_is(bytes: &mut [u8]) {
    for lba in [1, (bytes.len() / 512).saturating_sub(1)] {
        let Some(header) = bytes.get(lba * 512..(lba + 1) * 512) else {
            continue;
        };
        let mut header = header.to_vec();
        let field = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four"));
        let start = (field(72) as usize).saturating_mul(512);
        let length = (field(80) as usize).saturating_mul(field(84) as usize);
        let entries = bytes.get(start..start.saturating_add(length));
        let entries = entries.unwrap_or_default().to_vec();
        seal(&mut header, &entries);
        bytes[lba * 512..(lba + 1) * 512].copy_from_slice(&header);
    }
}

#[test]
fn survives_the_fuzz_corpus_and_its_mutations() {
    let mut state = 0x1234_5678_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    crate::seeds::replay("gpt", 0, |seed| {
        exercise(seed.to_vec(), false);
        // As the fuzz target takes it.
        exercise(seed.to_vec(), true);
        for round in 0..300 {
            let mut bytes = seed.to_vec();
            for _ in 0..=random() % 4 {
                // Mostly where the header is.
                let at = if random() % 4 > 0 {
                    512 + random() % 600
                } else {
                    random()
                };
                let at = at % bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random() as u8;
                }
            }
            exercise(bytes, round % 8 > 0);
        }
    });
}
