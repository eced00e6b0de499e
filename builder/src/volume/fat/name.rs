//! Names: the short form that every entry has, and the long form beside it.

/// Bytes of a directory entry.
pub const ENTRY: usize = 32;
/// Attribute byte of a piece of a long name.
pub const LONG: u8 = 0x0F;
/// UTF-16 units in one piece.
const UNITS: usize = 13;
/// Where the units lie in a piece.
const PLACES: [usize; UNITS] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

/// A name that FAT can hold.
///
/// # Errors
/// Why it cannot.
pub fn accept(name: &[u8]) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(name).map_err(|_| "the name is not UTF-8")?;
    if text
        .chars()
        .any(|character| character.is_control() || "\"*/:<>?\\|".contains(character))
    {
        return Err("the name has a character that FAT does not allow");
    }
    if text.ends_with(['.', ' ']) || text.starts_with(' ') {
        return Err("the name begins with a space, or ends in a dot or a space");
    }
    if text.encode_utf16().count() > 255 {
        return Err("the name has more than 255 UTF-16 units");
    }
    Ok(text)
}

/// The form in which names are compared.
pub fn folded(name: &str) -> String {
    name.chars().flat_map(char::to_uppercase).collect()
}

fn short_character(character: char) -> bool {
    character.is_ascii_uppercase()
        || character.is_ascii_digit()
        || "!#$%&'()-@^_`{}~".contains(character)
}

/// The eleven bytes of `name` if it is a short name as it stands.
pub fn as_short(name: &str) -> Option<[u8; 11]> {
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let fits = (1..=8).contains(&base.len())
        && extension.len() <= 3
        && (extension.is_empty() != name.contains('.'))
        && base.chars().chain(extension.chars()).all(short_character);
    fits.then(|| pad(base, extension))
}

fn pad(base: &str, extension: &str) -> [u8; 11] {
    let mut short = [b' '; 11];
    short[..base.len()].copy_from_slice(base.as_bytes());
    short[8..8 + extension.len()].copy_from_slice(extension.as_bytes());
    short
}

/// A short name for `name` that `taken` does not hold.
pub fn alias(name: &str, taken: &dyn Fn(&[u8; 11]) -> bool) -> Option<[u8; 11]> {
    let upper = folded(name);
    if let Some(short) = as_short(&upper).filter(|short| !taken(short)) {
        return Some(short);
    }
    let trimmed = upper.trim_start_matches('.');
    let (base, extension) = trimmed.rsplit_once('.').unwrap_or((trimmed, ""));
    let clean = |text: &str, most: usize| -> String {
        text.chars()
            .filter(|character| !matches!(character, ' ' | '.'))
            .map(|character| {
                if short_character(character) {
                    character
                } else {
                    '_'
                }
            })
            .take(most)
            .collect()
    };
    let base = clean(base, 8);
    let extension = clean(extension, 3);
    (1..1_000_000u32)
        .map(|number| {
            let tail = format!("~{number}");
            let kept = base.len().min(8 - tail.len());
            pad(&format!("{}{tail}", &base[..kept]), &extension)
        })
        .find(|short| !taken(short))
}

/// The name that a short entry stands for; `case` is its byte 12, where Windows
/// NT and Linux note lower case.
pub fn from_short(short: &[u8], case: u8) -> String {
    let part = |bytes: &[u8], lower: bool| -> String {
        let text: String = bytes
            .iter()
            .map(|byte| {
                if byte.is_ascii() {
                    char::from(*byte)
                } else {
                    '\u{FFFD}'
                }
            })
            .collect();
        let text = text.trim_end();
        if lower {
            text.to_ascii_lowercase()
        } else {
            text.to_owned()
        }
    };
    let mut first = short[..8].to_vec();
    // 0x05 stands for 0xE5, which would mean "deleted".
    if first[0] == 0x05 {
        first[0] = 0xE5;
    }
    let base = part(&first, case & 0x08 != 0);
    let extension = part(&short[8..11], case & 0x10 != 0);
    if extension.is_empty() {
        base
    } else {
        format!("{base}.{extension}")
    }
}

/// What ties the pieces of a long name to their short entry.
pub fn checksum(short: &[u8]) -> u8 {
    short[..11]
        .iter()
        .fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}

/// The pieces of a long name, in the order in which they are stored.
pub fn pieces(name: &str, short: &[u8; 11]) -> Vec<[u8; ENTRY]> {
    let units: Vec<u16> = name.encode_utf16().collect();
    let count = units.len().div_ceil(UNITS);
    (1..=count)
        .rev()
        .map(|number| {
            let mut piece = [0; ENTRY];
            piece[0] = number as u8 | if number == count { 0x40 } else { 0 };
            piece[11] = LONG;
            piece[13] = checksum(short);
            for (place, index) in PLACES.iter().zip((number - 1) * UNITS..) {
                let unit = match index.cmp(&units.len()) {
                    std::cmp::Ordering::Less => units[index],
                    std::cmp::Ordering::Equal => 0,
                    std::cmp::Ordering::Greater => 0xFFFF,
                };
                piece[*place..place + 2].copy_from_slice(&unit.to_le_bytes());
            }
            piece
        })
        .collect()
}

/// The long name of `pieces` as they are stored, if they are whole and belong to
/// `short`.
pub fn from_pieces(pieces: &[&[u8]], short: &[u8]) -> Option<String> {
    let count = pieces.len();
    let mut units = Vec::with_capacity(count * UNITS);
    for (number, piece) in (1..=count).zip(pieces.iter().rev()) {
        let last = if number == count { 0x40 } else { 0 };
        if usize::from(piece[0]) != number | last || piece[13] != checksum(short) {
            return None;
        }
        units.extend(
            PLACES
                .iter()
                .map(|place| u16::from_le_bytes([piece[*place], piece[place + 1]])),
        );
    }
    let end = units
        .iter()
        .position(|unit| *unit == 0)
        .unwrap_or(units.len());
    units.truncate(end);
    let name = String::from_utf16(&units).ok()?;
    (!name.is_empty() && name != "." && name != ".." && accept(name.as_bytes()).is_ok())
        .then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_stand_as_they_are() {
        assert_eq!(as_short("BOOTX64.EFI"), Some(*b"BOOTX64 EFI"));
        for long in ["bootx64.efi", "A.B.C", ".X", "NINECHARS", "A B", "X.", ""] {
            assert_eq!(as_short(long), None, "{long}");
        }
        assert_eq!(from_short(b"GRUB    CFG", 0x18), "grub.cfg");
    }

    #[test]
    fn aliases_do_not_collide() {
        let mut taken: Vec<[u8; 11]> = Vec::new();
        for name in [
            "grub.cfg",
            "Grub.Cfg",
            "a longer name.conf",
            "a longer way.conf",
            ".hidden",
            "日本.txt",
        ] {
            let short = alias(name, &|short| taken.contains(short)).expect("one is free");
            assert!(!taken.contains(&short));
            taken.push(short);
        }
        assert_eq!(&taken[0], b"GRUB    CFG");
        assert_eq!(&taken[1], b"GRUB~1  CFG");
        assert_eq!(&taken[3], b"ALONGE~2CON");
    }

    #[test]
    fn long_names_come_back() {
        for name in [
            "a",
            "exactly13char",
            "twenty-six characters long",
            "日本語 🦀.conf",
        ] {
            let short = *b"X~1        ";
            let stored = pieces(name, &short);
            let borrowed: Vec<&[u8]> = stored.iter().map(|piece| &piece[..]).collect();
            assert_eq!(from_pieces(&borrowed, &short).as_deref(), Some(name));
            assert_eq!(from_pieces(&borrowed, b"Y~1        "), None);
        }
    }
}
