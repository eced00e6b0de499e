//! Versions of Debian packages and their order (deb-version(7)).

use std::cmp::Ordering;

/// Compares `[EPOCH:]UPSTREAM[-REVISION]`, as `dpkg --compare-versions` does.
pub fn compare(left: &str, right: &str) -> Ordering {
    let (left, right) = (Parts::of(left), Parts::of(right));
    left.epoch
        .cmp(&right.epoch)
        .then_with(|| compare_part(left.upstream, right.upstream))
        .then_with(|| compare_part(left.revision, right.revision))
}

/// Whether dpkg takes `text` as a version.
pub fn is_version(text: &str) -> bool {
    let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".+-~:".contains(&byte);
    !epoch.is_empty()
        && epoch.len() <= 9
        && epoch.bytes().all(|byte| byte.is_ascii_digit())
        && rest
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_digit())
        && rest.bytes().all(allowed)
}

struct Parts<'a> {
    epoch: u32,
    upstream: &'a [u8],
    revision: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        Self {
            epoch: epoch.parse().unwrap_or_default(),
            upstream: upstream.as_bytes(),
            revision: revision.as_bytes(),
        }
    }
}

/// The weight of a character: `~` before the end, the end and digits before letters,
/// letters before everything else.
fn weight(byte: Option<u8>) -> i32 {
    match byte {
        None => 0,
        Some(b'~') => -1,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(byte),
        Some(byte) => i32::from(byte) + 256,
    }
}

/// dpkg's `verrevcmp`: what is no number and what is one, in turns.
fn compare_part(mut left: &[u8], mut right: &[u8]) -> Ordering {
    let is_digit = |bytes: &[u8]| bytes.first().is_some_and(u8::is_ascii_digit);
    while !left.is_empty() || !right.is_empty() {
        while (!left.is_empty() && !is_digit(left)) || (!right.is_empty() && !is_digit(right)) {
            let order = weight(left.first().copied()).cmp(&weight(right.first().copied()));
            if order != Ordering::Equal {
                return order;
            }
            left = left.get(1..).unwrap_or_default();
            right = right.get(1..).unwrap_or_default();
        }
        let (one, other) = (number(&mut left), number(&mut right));
        let order = one.len().cmp(&other.len()).then_with(|| one.cmp(other));
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

/// Takes the digits at the beginning, without zeros in front.
fn number<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let end = bytes
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(bytes.len());
    let (digits, rest) = bytes.split_at(end);
    *bytes = rest;
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_versions() {
        let sorted = [
            "0~~",
            "0~a",
            "0",
            "0a",
            "0+",
            "0.9",
            "1.0~rc1-1",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1.1",
            "1.0-9",
            "1.0-10",
            "1.0a",
            "1.0+x",
            "1.0.1",
            "1.10",
            "1:0",
            "2:0",
        ];
        for (index, left) in sorted.iter().enumerate() {
            for (other, right) in sorted.iter().enumerate() {
                assert_eq!(compare(left, right), index.cmp(&other), "{left} {right}");
            }
        }
        assert_eq!(compare("0:1.0", "1.00-0"), Ordering::Equal);
        for text in ["", "a1", ":1", "1:", "x:1", "1 2", "1_2"] {
            assert!(!is_version(text), "{text}");
        }
        assert!(is_version("1:2.0~rc1-3+b1"));
    }
}
