//! The seeds of the fuzz target, and mutations of them, through the same door.

use super::*;
use crate::volume::memory::Memory;

fn exercise(bytes: Vec<u8>) {
    for access in [Access::Read, Access::Write] {
        let storage = Arc::new(Memory::from(bytes.clone()));
        let Ok(mut volume) = Fat::open(storage.clone(), access, Timestamp::default()) else {
            continue;
        };
        let root = ImagePath::root();
        for entry in volume.read_directory(&root).unwrap_or_default() {
            let Ok(path) = root.join(&entry.name) else {
                continue;
            };
            volume.metadata(&path).ok();
            if entry.kind == Kind::File {
                volume.read_file(&path, &mut std::io::sink()).ok();
                volume.append_file(&path, &[0; 3000]).ok();
            } else {
                volume.read_directory(&path).ok();
                let moved = ImagePath::new("/moved").expect("sound");
                volume.rename(&path, &moved).ok();
            }
        }
        let path = ImagePath::new("/a new file with a long name").expect("sound");
        let attributes = shown_attributes(false, Timestamp::default());
        volume
            .write_file(&path, 5000, &mut &[1; 5000][..], &attributes)
            .ok();
        let finished = Box::new(volume).finish();
        if access == Access::Write && finished.is_ok() {
            // What was taken for sound is sound afterwards.
            Fat::open(storage, Access::Write, Timestamp::default()).expect("still sound");
        }
    }
}

#[test]
fn survives_the_seeds_and_their_mutations() {
    crate::seeds::replay("fat", 0, |bytes| {
        exercise(bytes.to_vec());
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..300 {
            let mut mutated = bytes.to_vec();
            for _ in 0..3 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // The boot sector, the tables and the root folder.
                let at = (state >> 20) as usize % mutated.len().clamp(1, 8192);
                if let Some(byte) = mutated.get_mut(at) {
                    *byte = state as u8;
                }
            }
            exercise(mutated);
        }
    });
}
