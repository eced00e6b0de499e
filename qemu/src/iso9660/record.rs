//! The small pieces of an ISO 9660 image: numbers, names, times and the system
//! use entries of Rock Ridge.

/// A number in both byte orders (ECMA-119 7.2.3).
pub(super) fn both_endian_16(value: u16) -> [u8; 4] {
    let mut bytes = [0; 4];
    bytes[..2].copy_from_slice(&value.to_le_bytes());
    bytes[2..].copy_from_slice(&value.to_be_bytes());
    bytes
}

/// A number in both byte orders (ECMA-119 7.3.3).
pub(super) fn both_endian_32(value: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    bytes
}

/// ASCII text, filled up with spaces to `length` bytes.
pub(super) fn padded(text: &str, length: usize) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(length, b' ');
    bytes
}

/// Text in big-endian UCS-2, filled up with spaces to `length` bytes.
pub(super) fn ucs2(text: &str, length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    while bytes.len() + 2 <= length {
        bytes.extend([0, b' ']);
    }
    bytes.resize(length, 0);
    bytes
}

/// A point in time, in UTC, split as the records want it.
#[derive(Debug)]
pub(super) struct Stamp {
    year: i64,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

impl Stamp {
    /// `None` when a directory record cannot hold it: its year is one byte,
    /// counted from 1900 (ECMA-119 9.1.5).
    pub(super) fn new(seconds: i64) -> Option<Self> {
        if seconds < 0 {
            return None;
        }
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        // Days to a date in the proleptic Gregorian calendar: count in eras of
        // 400 years that begin on 1 March, so that the leap day comes last.
        let shifted = days + 719_468;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        let year = year_of_era + shifted / 146_097 * 400 + i64::from(month <= 2);
        (year <= 1900 + 255).then_some(Self {
            year,
            month: month as u8,
            day: (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u8,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
        })
    }

    /// The seven bytes of a directory record (ECMA-119 9.1.5).
    pub(super) fn short(&self) -> [u8; 7] {
        [
            (self.year - 1900) as u8,
            self.month,
            self.day,
            self.hour,
            self.minute,
            self.second,
            0,
        ]
    }
}

/// The seventeen bytes of a volume descriptor (ECMA-119 8.4.26.1); `None` means
/// not given.
pub(super) fn long_time(stamp: Option<&Stamp>) -> Vec<u8> {
    let mut bytes = match stamp {
        Some(stamp) => format!(
            "{:04}{:02}{:02}{:02}{:02}{:02}00",
            stamp.year, stamp.month, stamp.day, stamp.hour, stamp.minute, stamp.second
        ),
        None => "0".repeat(16),
    }
    .into_bytes();
    bytes.push(0);
    bytes
}

/// Marks the tree as one that uses the system use sharing protocol (SUSP 5.3);
/// first entry of the root's record of itself.
pub(super) fn sharing_protocol() -> Vec<u8> {
    vec![b'S', b'P', 7, 1, 0xbe, 0xef, 0]
}

/// Points to [`extension_reference`] in its own sector (SUSP 5.1).
pub(super) fn continuation(sector: u32) -> Vec<u8> {
    let mut bytes = vec![b'C', b'E', 28, 1];
    bytes.extend(both_endian_32(sector));
    bytes.extend(both_endian_32(0));
    bytes.extend(both_endian_32(extension_reference().len() as u32));
    bytes
}

/// Names Rock Ridge as the extension in use (SUSP 5.5); readers look for the
/// identifier, the other texts are for people.
pub(super) fn extension_reference() -> Vec<u8> {
    let identifier = b"RRIP_1991A";
    let descriptor = b"Rock Ridge";
    let mut bytes = vec![
        b'E',
        b'R',
        (8 + identifier.len() + descriptor.len()) as u8,
        1,
        identifier.len() as u8,
        descriptor.len() as u8,
        0,
        1,
    ];
    bytes.extend(identifier);
    bytes.extend(descriptor);
    bytes
}

/// Mode and number of links, owner and group root (RRIP 4.1.1).
pub(super) fn posix_attributes(mode: u32, links: u32) -> Vec<u8> {
    let mut bytes = vec![b'P', b'X', 36, 1];
    for value in [mode, links, 0, 0] {
        bytes.extend(both_endian_32(value));
    }
    bytes
}

/// Times of change, access and attributes (RRIP 4.1.6).
pub(super) fn time_stamps(stamp: &Stamp) -> Vec<u8> {
    let mut bytes = vec![b'T', b'F', 26, 1, 0b1110];
    for _ in 0..3 {
        bytes.extend(stamp.short());
    }
    bytes
}

/// The name as it was given (RRIP 4.1.4).
pub(super) fn alternate_name(name: &str) -> Vec<u8> {
    let mut bytes = vec![b'N', b'M', (5 + name.len()) as u8, 1, 0];
    bytes.extend(name.as_bytes());
    bytes
}

/// A directory record (ECMA-119 9.1).
pub(super) fn directory_record(
    identifier: &[u8],
    extent: u32,
    length: u32,
    folder: bool,
    stamp: &Stamp,
    system_use: &[u8],
) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(both_endian_32(extent));
    bytes.extend(both_endian_32(length));
    bytes.extend(stamp.short());
    bytes.push(if folder { 2 } else { 0 });
    bytes.extend([0, 0]);
    bytes.extend(both_endian_16(1));
    bytes.push(identifier.len() as u8);
    bytes.extend(identifier);
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    bytes.extend(system_use);
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    debug_assert!(bytes.len() <= 255, "names are bounded by Tree::new");
    bytes[0] = bytes.len() as u8;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_calendar() {
        let text =
            |seconds| String::from_utf8(long_time(Stamp::new(seconds).as_ref())).expect("ASCII");
        assert_eq!(text(0), "1970010100000000\0");
        assert_eq!(text(951_827_696), "2000022912345600\0");
        assert_eq!(text(1_709_251_199), "2024022923595900\0");
        assert_eq!(text(4_102_444_800), "2100010100000000\0");
        assert_eq!(long_time(None), b"0000000000000000\0");
    }
}
