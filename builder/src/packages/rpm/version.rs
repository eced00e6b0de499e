//! Versions of rpms and their order (rpm's `rpmio/rpmvercmp.c`, `lib/rpmds.c`).

use std::cmp::Ordering;

/// `[EPOCH:]VERSION[-RELEASE]`, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parts<'a> {
    epoch: u64,
    version: &'a str,
    release: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let (epoch, rest) = match text.split_once(':') {
            Some((epoch, rest)) => (epoch.parse().unwrap_or_default(), rest),
            None => (0, text),
        };
        let (version, release) = match rest.rsplit_once('-') {
            Some((version, release)) => (version, Some(release)),
            None => (rest, None),
        };
        Self {
            epoch,
            version,
            release,
        }
    }
}

/// Compares two full versions; releases only where both have one, as rpm does.
pub fn compare(left: &str, right: &str) -> Ordering {
    let (left, right) = (Parts::of(left), Parts::of(right));
    let releases = || match (left.release, right.release) {
        (Some(one), Some(other)) => compare_part(one, other),
        _ => Ordering::Equal,
    };
    left.epoch
        .cmp(&right.epoch)
        .then_with(|| compare_part(left.version, right.version))
        .then_with(releases)
}

/// What a rest of a version begins with: a tilde sorts before the end, a caret after it and
/// before everything else.
const TILDE: u8 = 0;
const END: u8 = 1;
const CARET: u8 = 2;
const PART: u8 = 3;

fn rank(rest: &[u8]) -> u8 {
    match rest.first() {
        Some(b'~') => TILDE,
        None => END,
        Some(b'^') => CARET,
        Some(_) => PART,
    }
}

/// rpm's `rpmvercmp`: runs of digits and of letters, in turns.
pub fn compare_part(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    loop {
        left = without_separators(left);
        right = without_separators(right);
        let (one, other) = (rank(left), rank(right));
        if one != other {
            return one.cmp(&other);
        }
        if one == END {
            return Ordering::Equal;
        }
        if one != PART {
            left = &left[1..];
            right = &right[1..];
            continue;
        }
        let is_number = left[0].is_ascii_digit();
        let belongs = |byte: &u8| {
            if is_number {
                byte.is_ascii_digit()
            } else {
                byte.is_ascii_alphabetic()
            }
        };
        let one = run(&mut left, belongs);
        let other = run(&mut right, belongs);
        if other.is_empty() {
            // A number is newer than letters.
            return if is_number {
                Ordering::Greater
            } else {
                Ordering::Less
            };
        }
        let order = if is_number {
            let (one, other) = (without_zeros(one), without_zeros(other));
            one.len().cmp(&other.len()).then_with(|| one.cmp(other))
        } else {
            one.cmp(other)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

fn without_separators(bytes: &[u8]) -> &[u8] {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'~' | b'^');
    let start = bytes.iter().position(is_part).unwrap_or(bytes.len());
    &bytes[start..]
}

fn without_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    &digits[zeros..]
}

fn run<'a>(bytes: &mut &'a [u8], belongs: impl Fn(&u8) -> bool) -> &'a [u8] {
    let end = bytes
        .iter()
        .position(|byte| !belongs(byte))
        .unwrap_or(bytes.len());
    let (taken, rest) = bytes.split_at(end);
    *bytes = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_versions() {
        let sorted = [
            "1.0~rc1-1",
            "1.0-1",
            "1.0^git1-1",
            "1.0.1-1",
            "1.0.a",
            "1.9-1",
            "1.10-1",
            "1:0-1",
        ];
        // `1.0.a` and `1.0.1`: a number is newer than letters.
        let sorted = {
            let mut sorted = sorted;
            sorted.swap(3, 4);
            sorted
        };
        for (index, left) in sorted.iter().enumerate() {
            for (other, right) in sorted.iter().enumerate() {
                assert_eq!(compare(left, right), index.cmp(&other), "{left} {right}");
            }
        }
        assert_eq!(compare("1.0", "0:1.00-7"), Ordering::Equal);
        assert_eq!(compare("2_0", "2.0"), Ordering::Equal);
    }
}
