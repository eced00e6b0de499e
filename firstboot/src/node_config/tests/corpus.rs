//! Replays the corpora of the fuzz targets, and mutations of them, so that every
//! run of the tests goes the same way.

use std::path::Path;
use std::time::{Duration, Instant};

/// No input of a corpus may take longer, in an unoptimised build on a busy machine.
const LONGEST: Duration = Duration::from_secs(5);

/// Feeds each file of a corpus, and mutations of each, to an entry point.
pub(crate) fn replay(corpus: &str, mutations: u64, entry: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(corpus);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() > 1, "{} holds no corpus", folder.display());
    for file in files {
        let seed = std::fs::read(&file).unwrap();
        for round in 0..=mutations {
            let input = if round == 0 {
                seed.clone()
            } else {
                mutated(&seed, round)
            };
            let begin = Instant::now();
            entry(&input);
            assert!(
                begin.elapsed() < LONGEST,
                "{} in round {round}",
                file.display()
            );
        }
    }
}

/// A few changed, inserted, removed or repeated bytes: the same for each round.
fn mutated(seed: &[u8], round: u64) -> Vec<u8> {
    let mut state = round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let mut bytes = seed.to_vec();
    for _ in 0..=random(8) {
        if bytes.is_empty() {
            break;
        }
        let place = random(bytes.len());
        match random(6) {
            0 => bytes[place] = [0, 1, 0x7f, 0x80, 0xfe, 0xff][random(6)],
            1 => bytes[place] ^= 1 << random(8),
            2 => bytes[place] = b"\n:-{}[]\"'&*!|>%@ \t#=~"[random(21)],
            3 => bytes.truncate(place),
            4 => {
                let length = random(64).min(bytes.len() - place);
                let piece = bytes[place..place + length].to_vec();
                let at = random(bytes.len());
                bytes.splice(at..at, piece);
            }
            _ => {
                let length = random(16).min(bytes.len() - place);
                bytes.drain(place..place + length);
            }
        }
    }
    bytes
}

#[test]
fn node_configs() {
    replay("node_config", 300, |input| {
        if let Ok(parsed) = super::load(input) {
            parsed.check();
        }
        let _ = super::read_certificates(input);
    });
}
