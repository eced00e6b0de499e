use super::*;
use crate::disk::memory::Memory;
use crate::error::Class;

/// What the fuzz target does with an input, too: open, read all data.
fn exercise(bytes: Vec<u8>) -> bool {
    let Ok(image) = Qcow2::open_storage(Arc::new(Memory::new(bytes))) else {
        return false;
    };
    let mut buffer = vec![0; 8192];
    let mut at = 0;
    let mut reads = 0;
    while let Ok(Some(data)) = image.next_data(at) {
        assert!(data.start >= at && data.end > data.start && data.end <= image.size());
        let length = (data.end - data.start).min(8192);
        image
            .read_at(&mut buffer[..length as usize], data.start)
            .ok();
        at = data.start + length;
        reads += 1;
        // Enough to have met every place of a small image.
        if reads > 4096 {
            break;
        }
    }
    true
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
    let mut sound = 0;
    crate::seeds::replay("qcow2", 0, |seed| {
        sound += usize::from(exercise(seed.to_vec()));
        for _ in 0..300 {
            let mut bytes = seed.to_vec();
            for _ in 0..=random() % 4 {
                // Mostly the header and the tables behind it.
                let near = if random() % 2 == 0 { 112 } else { 4096 };
                let at = random() % near.min(bytes.len()).max(1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random() as u8;
                }
            }
            exercise(bytes);
        }
    });
    assert!(sound >= 4, "{sound} seeds are images");
}

#[test]
fn reads_a_header_only_as_long_as_it_is() {
    let mut header = b"QFI\xfb\0\0\0\x03".to_vec();
    for length in 0..header.len() + 60 {
        header.resize(length.max(8), 0);
        let error = Qcow2::open_storage(Arc::new(Memory::new(
            header[..length.min(header.len())].to_vec(),
        )))
        .expect_err("cut off");
        assert_eq!(error.class(), Class::Input);
    }
}
