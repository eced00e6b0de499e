//! Sizes as people write them.

use crate::error::{Error, Result};

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Bytes of a disk sector: every disk size is a multiple of it.
pub const SECTOR: u64 = 512;

/// Reads a size such as `8GiB`, `512MiB` or `1.5GiB` and gives bytes. The unit
/// is required; `KiB` to `TiB` are powers of 1024, `KB` to `TB` powers of 1000.
///
/// # Errors
/// [`crate::Class::Input`] for anything else, for fractions of a byte and for
/// what does not fit into 64 bits.
pub fn parse(text: &str) -> Result<u64> {
    let refused = |why: &str| {
        Error::input(format!("'{text}' is no size: {why}"))
            .hint("write a number and a unit, such as 8GiB or 512MiB")
    };
    let digits = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start_matches(' ');
    let factor = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, factor)| *factor)
        .ok_or_else(|| {
            if unit.is_empty() {
                refused("it has no unit")
            } else {
                refused("its unit is none of B, KiB, MiB, GiB, TiB, KB, MB, GB, TB")
            }
        })?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') || fraction.len() > 9 {
        return Err(refused("the number is not well-formed"));
    }
    let whole: u64 = whole.parse().map_err(|_| refused("it is too large"))?;
    let part: u64 = fraction
        .parse()
        .map_err(|_| refused("the number is not well-formed"))?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let part = u128::from(part) * u128::from(factor);
    if part % scale != 0 {
        return Err(refused("it is no whole number of bytes"));
    }
    (u128::from(whole) * u128::from(factor))
        .checked_add(part / scale)
        .and_then(|bytes| u64::try_from(bytes).ok())
        .ok_or_else(|| refused("it is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_binary_and_decimal_units() {
        for (text, bytes) in [
            ("8GiB", 8 << 30),
            ("512MiB", 512 << 20),
            ("512 MiB", 512 << 20),
            ("1.5GiB", 3 << 29),
            ("20GB", 20_000_000_000),
            ("4096B", 4096),
            ("0KiB", 0),
        ] {
            assert_eq!(parse(text).expect(text), bytes, "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for bad in [
            "",
            "8",
            "GiB",
            "8G",
            "8gib",
            "-1GiB",
            "1..5GiB",
            "1.GiB",
            ".5GiB",
            "1.1B",
            "99999999999TiB",
            "18446744073709551616B",
            "8GiB ",
            "١GiB",
            "1e3MiB",
        ] {
            let error = parse(bad).expect_err(bad);
            assert!(error.hint_text().is_some(), "{bad}");
        }
    }
}
