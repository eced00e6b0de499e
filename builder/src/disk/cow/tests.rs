use proptest::prelude::*;

use super::*;
use crate::disk::raw::RawFile;
use crate::progress::Silent;

fn raw_base(content: &[u8]) -> Arc<dyn Storage> {
    let file = tempfile::tempfile().expect("temporary file");
    file.set_len(content.len() as u64).expect("grow");
    write_sparse(&file, content, 0).expect("write");
    Arc::new(RawFile::read_only(file).expect("open"))
}

fn disk(content: &[u8], size: u64) -> CowDisk {
    let delta = tempfile::tempfile().expect("temporary file");
    CowDisk::new(raw_base(content), size, delta).expect("make the disk")
}

fn read(disk: &dyn Storage, range: Range<u64>) -> Vec<u8> {
    let mut bytes = vec![0xEE; (range.end - range.start) as usize];
    disk.read_at(&mut bytes, range.start).expect("read");
    bytes
}

/// What `next_data` leaves out must be zero; what it names is read.
fn through_data_ranges(disk: &dyn Storage) -> Vec<u8> {
    let mut bytes = vec![0; disk.size() as usize];
    let mut at = 0;
    while let Some(data) = disk.next_data(at).expect("next data") {
        assert!(data.start >= at && data.end > data.start && data.end <= disk.size());
        let part = read(disk, data.clone());
        bytes[data.start as usize..data.end as usize].copy_from_slice(&part);
        at = data.end;
    }
    bytes
}

#[test]
fn lays_changes_over_an_untouched_base() {
    let content = vec![1; 3 * 4096];
    let disk = disk(&content, 8 * 4096);
    disk.write_at(&[2; 100], 4000).expect("write");
    let mut model = content.clone();
    model.resize(8 * 4096, 0);
    model[4000..4100].fill(2);
    assert_eq!(read(&disk, 0..disk.size()), model);
    assert_eq!(read(&*disk.base, 0..3 * 4096), content);
}

#[test]
fn refuses_to_shrink_or_to_reuse_a_file() {
    let base = raw_base(&[1; 8192]);
    let file = || tempfile::tempfile().expect("temporary file");
    let error = CowDisk::new(base.clone(), 4096, file()).expect_err("too small");
    assert_eq!(error.class(), Class::Input);
    assert!(CowDisk::new(base.clone(), 8193, file()).is_err());
    let used = file();
    used.set_len(1).expect("grow");
    assert!(CowDisk::new(base, 8192, used).is_err());
}

#[test]
fn costs_little_however_large_it_is() {
    let disk = disk(&[1; 4096], 2 << 40);
    disk.write_at(&[2; 4096], (2 << 40) - 4096).expect("write");
    assert_eq!(disk.changed_bytes(), 4096);
    let first = disk.next_data(0).expect("next").expect("the base");
    assert_eq!(first.start, 0);
    let last = disk
        .next_data(first.end)
        .expect("next")
        .expect("the change");
    assert_eq!(last, (2 << 40) - 4096..2 << 40);
}

#[test]
fn keeps_parts_that_two_threads_write_into_one_granule() {
    for _ in 0..50 {
        let disk = disk(&[1; 8192], 8192);
        std::thread::scope(|scope| {
            for part in 0..4_u8 {
                let disk = &disk;
                scope.spawn(move || {
                    let at = u64::from(part) * 1024;
                    disk.write_at(&[10 + part; 1000], at).expect("write");
                });
            }
        });
        let bytes = read(&disk, 0..4096);
        for part in 0..4_u8 {
            let start = usize::from(part) * 1024;
            assert!(bytes[start..start + 1000].iter().all(|b| *b == 10 + part));
            assert!(bytes[start + 1000..start + 1024].iter().all(|b| *b == 1));
        }
    }
}

#[test]
fn stops_on_request_and_goes_on_later() {
    struct Stopped;
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
    let disk = disk(&vec![1; 65536], 65536);
    let error = disk.materialize(&Stopped).expect_err("stopped");
    assert_eq!(error.class(), Class::Interrupted);
    disk.materialize(&Silent).expect("goes on");
    assert_eq!(read(&disk, 0..65536), vec![1; 65536]);
}

#[derive(Debug, Clone)]
enum Action {
    Write { at: usize, length: usize, byte: u8 },
    Materialize,
}

const SIZE: usize = 300 * 1024;
const BASE: usize = 200 * 1024 - 512;

fn steps() -> impl Strategy<Value = Vec<Action>> {
    let write = (0..SIZE, 1..40_000_usize, any::<u8>(), any::<bool>()).prop_map(
        |(at, length, byte, aligned)| {
            let at = if aligned { at / 4096 * 4096 } else { at };
            let length = if aligned {
                (length / 4096 + 1) * 4096
            } else {
                length
            };
            Action::Write {
                at,
                length: length.min(SIZE - at),
                byte,
            }
        },
    );
    proptest::collection::vec(
        prop_oneof![20 => write, 1 => Just(Action::Materialize)],
        1..20,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_plain_memory(
        steps in steps(),
        holes in proptest::collection::vec(any::<bool>(), BASE / 4096 + 1),
    ) {
        let mut base = vec![0; BASE];
        for (block, hole) in base.chunks_mut(4096).zip(&holes) {
            if !hole {
                block.fill(0x55);
            }
        }
        let disk = disk(&base, SIZE as u64);
        let mut model = base.clone();
        model.resize(SIZE, 0);
        for step in steps {
            match step {
                Action::Write { at, length, byte } => {
                    disk.write_at(&vec![byte; length], at as u64).expect("write");
                    model[at..at + length].fill(byte);
                }
                Action::Materialize => disk.materialize(&Silent).expect("materialize"),
            }
            prop_assert!(read(&disk, 0..SIZE as u64) == model);
            prop_assert!(through_data_ranges(&disk) == model);
        }
        disk.materialize(&Silent).expect("materialize");
        let mut file = vec![0; SIZE];
        disk.file().read_exact_at(&mut file, 0).expect("read");
        prop_assert!(file == model);
        prop_assert!(read(&*disk.base, 0..BASE as u64) == base);
    }
}

#[test]
fn can_be_written_while_the_base_is_copied() {
    let size = 64 << 20;
    let content: Vec<u8> = (0..size).map(|at| (at / 4096 % 251 + 1) as u8).collect();
    let disk = disk(&content, size as u64);
    let mut model = content;
    std::thread::scope(|scope| {
        let copy = scope.spawn(|| disk.materialize(&Silent));
        // Parts of granules too, back and forth.
        for step in 0..4000_usize {
            let at = step * 7_919_777 % (size - 9000);
            let bytes = vec![(step % 255) as u8; 1 + step % 9000];
            disk.write_at(&bytes, at as u64).expect("write");
            model[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        copy.join().expect("no panic").expect("copied");
    });
    assert!(disk.as_file().is_some(), "the copy is complete");
    assert!(
        read(&disk, 0..size as u64) == model,
        "the file differs from the model"
    );
}

#[test]
fn gives_up_when_nobody_wants_the_disk() {
    let disk = disk(&[1; 8192], 8192);
    disk.give_up();
    let error = disk.materialize(&Silent).expect_err("given up");
    assert_eq!(error.class(), Class::Interrupted);
}
