//! The fuzzer's seeds and some hundred mutations of each, through the fuzzer's
//! own entry points: nothing may panic, hang or take much memory.

use std::time::{Duration, Instant};

use super::{Overrides, parse};
use crate::lock;

/// Mutations of each seed.
const MUTATIONS: u64 = 300;
/// Far more than any input of this size needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// Marsaglia's xorshift: the same mutations in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap_or(0)
    }
}

fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    const PIECES: [&[u8]; 12] = [
        b"{{", b"}}", b"*a", b"&a ", b"\n  ", b": ", b"- ", b"\xff", b"\0", b"'", b"[[[[",
        b"!!int ",
    ];
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(4) {
            0 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).unwrap_or(0),
            1 => {
                let end = (at + random.below(20)).min(bytes.len());
                bytes.drain(at..end);
            }
            2 => {
                let piece = PIECES[random.below(PIECES.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            _ => {
                let from = random.below(bytes.len() + 1);
                let end = (from + random.below(60)).min(bytes.len());
                let copied = bytes[from..end].to_vec();
                bytes.splice(at..at, copied);
            }
        }
    }
    bytes
}

fn enter(input: &[u8]) {
    let started = Instant::now();
    let _ = lock::checksum_in(input, "kubelet");
    if let Ok(text) = std::str::from_utf8(input) {
        if let Err(error) = parse(text, "profile.yaml", &Overrides::default()) {
            let place = error.place().unwrap_or_else(|| panic!("{text:?}: {error}"));
            assert!(place.line >= 1 && place.column >= 1);
            assert_eq!(error.class(), crate::Class::Input, "{text:?}: {error:?}");
            assert!(error.hint_text().is_some(), "{text:?}: {error}");
        }
        let _ = lock::model::Lock::parse(text, "nodekiln.lock");
    }
    assert!(started.elapsed() < PATIENCE, "{input:?}");
}

#[test]
fn seeds_and_their_mutations_do_no_harm() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    crate::seeds::replay("profile", 0, |seed| {
        enter(seed);
        for _ in 0..MUTATIONS {
            enter(&mutate(seed, &mut random));
        }
    });
}

#[test]
fn the_whole_seed_is_understood() {
    let seed = include_str!("../../../fuzz/corpus/profile/whole");
    let error = parse(seed, "whole", &Overrides::default()).expect_err("a key is cut off");
    assert!(error.message().contains("SSH public key"), "{error}");
    assert!(error.others().is_empty(), "{:?}", error.others());
    let seed = include_str!("../../../fuzz/corpus/profile/lock");
    lock::model::Lock::parse(seed, "lock").expect("a lock");
}
