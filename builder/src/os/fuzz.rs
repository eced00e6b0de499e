//! One door to every reader of an image's text files, for fuzzing.

use super::OsRelease;
use super::packages::parse_status;

/// Reads `bytes` as each kind of text that detection and planning take from an
/// image. It must end, without a panic, whatever the bytes are.
pub fn texts(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let release = OsRelease::parse(&text);
    assert!(!release.id.is_empty() && !release.pretty_name.contains('\n'));
    parse_status(&text);
    super::elf_architecture(bytes);
    crate::plan::services::read_unit(&text);
    crate::plan::command_line::edit_twice(&text);
}

/// Reads `bytes` as an rpm database and as a header of one.
pub fn rpm(bytes: &[u8]) {
    super::rpm::read_any(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replays the seeds and, from each, some hundred deterministic mutations.
    #[test]
    fn takes_the_corpus_and_what_is_like_it() {
        crate::seeds::replay("image_text", 0, |seed| {
            texts(seed);
            let mut state = 0x9E37_79B9_7F4A_7C15_u64;
            for _ in 0..300 {
                let mut bytes = seed.to_vec();
                for _ in 0..4 {
                    // xorshift64: the same numbers on every run.
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    let at = (state >> 8) as usize % bytes.len().max(1);
                    match state % 3 {
                        0 if at < bytes.len() => bytes[at] = (state >> 40) as u8,
                        1 => bytes.truncate(at.max(1)),
                        _ => bytes.insert(at, b"\n=[]\\'\"%@"[(state >> 48) as usize % 9]),
                    }
                }
                texts(&bytes);
            }
        });
    }

    #[test]
    fn takes_rpm_databases_and_what_is_like_them() {
        crate::seeds::replay("rpm", 300, rpm);
    }
}
