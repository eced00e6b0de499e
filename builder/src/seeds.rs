//! The seeds of the fuzz targets and mutations of them, for plain tests.

use std::path::Path;

/// Hands `enter` every seed of the fuzz target `target` and `mutations` of each:
/// bytes changed, put in, taken out, or the end cut off. The same on every run.
pub fn replay(target: &str, mutations: usize, mut enter: impl FnMut(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let mut seeds: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus is there")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "no seed of {target}");
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut draw = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 9) as usize
    };
    for seed in seeds {
        let seed = std::fs::read(seed).expect("a seed");
        enter(&seed);
        for _ in 0..mutations {
            let mut bytes = seed.clone();
            for _ in 0..=draw() % 4 {
                let at = draw() % bytes.len().max(1);
                match draw() % 4 {
                    _ if bytes.is_empty() => bytes.push(draw() as u8),
                    0 => bytes.insert(at, draw() as u8),
                    1 => drop(bytes.remove(at)),
                    2 if draw() % 4 == 0 => bytes.truncate(at),
                    _ => bytes[at] = draw() as u8,
                }
            }
            enter(&bytes);
        }
    }
}
