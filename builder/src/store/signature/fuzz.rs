//! One door to all that reads signatures, for fuzzing.

use std::time::{Duration, UNIX_EPOCH};

use super::verify;

/// Seconds since 1970 at which the seeds are good: 2026-02-01.
const NOW: u64 = 1_769_904_000;
/// What stands between a list and its detached signature.
const BETWEEN: &[u8] = b"\n---\n";

/// Takes `bytes` as a clear-signed list, as a list with a detached signature behind
/// a line `---`, as a signature of something else, and as a keyring. It must end,
/// without a panic, whatever they are; gives how often a signature counted.
pub fn verify_all(keyring: &[u8], bytes: &[u8]) -> usize {
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    let (list, signature) = match bytes
        .windows(BETWEEN.len())
        .position(|window| window == BETWEEN)
    {
        Some(at) => (&bytes[..=at], &bytes[at + BETWEEN.len()..]),
        None => (&b"another list\n"[..], bytes),
    };
    [
        verify(bytes, None, keyring, &[], now),
        verify(list, Some(signature), keyring, &[], now),
        verify(list, Some(signature), bytes, &[], now),
    ]
    .iter()
    .filter(|outcome| outcome.is_ok())
    .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_fuzz_corpus_and_its_mutations() {
        let keyring = include_bytes!("../../../../fuzz/fixtures/keyring.gpg");
        let mut good = 0;
        crate::seeds::replay("signature", 0, |bytes| good += verify_all(keyring, bytes));
        assert_eq!(good, 3, "three of the seeds are signed");
        crate::seeds::replay("signature", 60, |bytes| {
            verify_all(keyring, bytes);
        });
    }
}
