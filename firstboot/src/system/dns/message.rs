//! Messages of DNS (RFC 1035): a question for the addresses of a name, and what a
//! server answers. Nothing that an answer says is believed without a bound.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest name on the wire, in bytes, with its length bytes (RFC 1035, 2.3.4).
const LONGEST_NAME: usize = 255;
/// Longest part of a name, in bytes.
const LONGEST_LABEL: usize = 63;
/// Most addresses that are taken of one answer.
const MOST_ADDRESSES: usize = 32;
/// Longest chain of aliases that is followed.
const MOST_ALIASES: usize = 16;

const HEADER: usize = 12;
const INTERNET: u16 = 1;
const ALIAS: u16 = 5;

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `A`.
    V4,
    /// `AAAA` (RFC 3596).
    V6,
}

impl Kind {
    fn code(self) -> u16 {
        match self {
            Self::V4 => 1,
            Self::V6 => 28,
        }
    }
}

/// The name of a host, without a dot at its end, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Takes a name whose parts have 1 to 63 letters, digits, `-` and `_`; `None` for
    /// anything else.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            (1..=LONGEST_LABEL).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        // Each part has one byte of length on the wire, and the root ends it.
        let fits = text.len() + 2 <= LONGEST_NAME && text.split('.').all(is_label);
        fits.then(|| Self(text.to_ascii_lowercase()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The addresses; none when the name has none of this kind.
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    NoSuchName,
    /// The answer did not fit: ask again over TCP.
    Truncated,
    /// The server could not or would not answer: its response code.
    Failed(u8),
}

/// Why a message is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It answers something else: another's, or a forgery. The right one may come yet.
    #[error("an answer to another question")]
    Foreign,
    /// It is not well-formed.
    #[error("an answer that is not well-formed")]
    Malformed,
}

/// A question, with the wish that the server ask others for us.
pub fn question(id: u16, name: &Name, kind: Kind) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + name.0.len() + 6);
    message.extend(id.to_be_bytes());
    message.extend([0x01, 0x00]);
    message.extend([0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.0.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.code().to_be_bytes());
    message.extend(INTERNET.to_be_bytes());
    message
}

/// Reads the answer to a question.
pub fn answer(message: &[u8], id: u16, name: &Name, kind: Kind) -> Result<Answer, MessageError> {
    let mut reader = Reader { message, at: 0 };
    let (its_id, flags) = (reader.number()?, reader.number()?);
    let (questions, answers) = (reader.number()?, reader.number()?);
    reader.skip(4)?;
    let is_answer = flags & 0x8000 != 0;
    if its_id != id || !is_answer {
        return Err(MessageError::Foreign);
    }
    let code = (flags & 0x000f) as u8;
    // A server that refuses may leave the question out.
    if questions == 0 && code != 0 && code != 3 {
        return Ok(Answer::Failed(code));
    }
    if questions != 1
        || reader.name()? != name.0
        || reader.number()? != kind.code()
        || reader.number()? != INTERNET
    {
        return Err(MessageError::Foreign);
    }
    match code {
        0 => {}
        3 => return Ok(Answer::NoSuchName),
        code => return Ok(Answer::Failed(code)),
    }
    if flags & 0x0200 != 0 {
        return Ok(Answer::Truncated);
    }
    let mut records = Vec::new();
    for _ in 0..answers {
        if let Some(record) = reader.record(kind)? {
            records.push(record);
        }
    }
    Ok(Answer::Addresses(follow(&records, &name.0)))
}

/// An answer's record, as far as it matters here.
struct Record {
    owner: String,
    data: Data,
}

enum Data {
    Alias(String),
    Address(IpAddr),
}

/// The addresses of a name, or of what it is an alias of.
fn follow(records: &[Record], name: &str) -> Vec<IpAddr> {
    let mut name = name;
    for _ in 0..=MOST_ALIASES {
        let of_name = || records.iter().filter(|record| record.owner == name);
        let addresses: Vec<IpAddr> = of_name()
            .filter_map(|record| match record.data {
                Data::Address(address) => Some(address),
                Data::Alias(_) => None,
            })
            .take(MOST_ADDRESSES)
            .collect();
        let alias = of_name().find_map(|record| match &record.data {
            Data::Alias(target) => Some(target.as_str()),
            Data::Address(_) => None,
        });
        match alias {
            Some(target) if addresses.is_empty() => name = target,
            _ => return addresses,
        }
    }
    Vec::new()
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], MessageError> {
        let end = self.at.checked_add(length).ok_or(MessageError::Malformed)?;
        let taken = self.message.get(self.at..end);
        self.at = end;
        taken.ok_or(MessageError::Malformed)
    }

    fn skip(&mut self, length: usize) -> Result<(), MessageError> {
        self.take(length).map(drop)
    }

    fn number(&mut self) -> Result<u16, MessageError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A name in lower case. A pointer leads only backwards, to before the place
    /// where the name or the last pointer's target began, so that no chain of them is
    /// endless.
    fn name(&mut self) -> Result<String, MessageError> {
        let mut text = String::new();
        let mut before = self.at;
        let mut at = self.at;
        let mut end = None;
        loop {
            let length = usize::from(*self.message.get(at).ok_or(MessageError::Malformed)?);
            match length >> 6 {
                0 if length == 0 => break,
                0 => {
                    let label = self.message.get(at + 1..at + 1 + length);
                    let label = label.ok_or(MessageError::Malformed)?;
                    if text.len() + length + 2 > LONGEST_NAME {
                        return Err(MessageError::Malformed);
                    }
                    if !text.is_empty() {
                        text.push('.');
                    }
                    // Whatever the byte: it is only compared, and a dot in a label
                    // must not look like two labels.
                    text.extend(label.iter().map(|byte| match byte {
                        b'.' => '\u{0}',
                        byte => char::from(byte.to_ascii_lowercase()),
                    }));
                    at += 1 + length;
                }
                3 => {
                    let low = *self.message.get(at + 1).ok_or(MessageError::Malformed)?;
                    let target = (length & 0x3f) << 8 | usize::from(low);
                    if target >= before {
                        return Err(MessageError::Malformed);
                    }
                    end.get_or_insert(at + 2);
                    before = target;
                    at = target;
                }
                _ => return Err(MessageError::Malformed),
            }
        }
        self.at = end.unwrap_or(at + 1);
        Ok(text)
    }

    /// The next record, if it is an address of this kind or an alias.
    fn record(&mut self, kind: Kind) -> Result<Option<Record>, MessageError> {
        let owner = self.name()?;
        let (its_kind, class) = (self.number()?, self.number()?);
        self.skip(4)?;
        let length = usize::from(self.number()?);
        let start = self.at;
        let bytes = self.take(length)?;
        if class != INTERNET {
            return Ok(None);
        }
        let data = if its_kind == ALIAS {
            let mut inside = Reader {
                message: self.message,
                at: start,
            };
            let target = inside.name()?;
            if inside.at != self.at {
                return Err(MessageError::Malformed);
            }
            Data::Alias(target)
        } else if its_kind == kind.code() {
            Data::Address(address(bytes, kind).ok_or(MessageError::Malformed)?)
        } else {
            return Ok(None);
        };
        Ok(Some(Record { owner, data }))
    }
}

fn address(bytes: &[u8], kind: Kind) -> Option<IpAddr> {
    Some(match kind {
        Kind::V4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        Kind::V6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    })
}
