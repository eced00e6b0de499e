//! As much of MIME as user data needs (RFC 2045, RFC 2046): header fields,
//! multipart bodies, transfer encodings. Nothing is dropped silently: a missing
//! end, or a part after the end, is an error.

use std::borrow::Cow;

use super::decode::{DecodeError, base64_lenient};

/// Largest header of a message or part, in bytes.
const MAXIMUM_HEADER: usize = 64 << 10;
/// Most parts of one message.
const MAXIMUM_PARTS: usize = 256;

/// A message, or a part of one.
#[derive(Debug)]
pub(super) struct Message<'a> {
    /// Media type in lower case without parameters; empty when none was given.
    pub media_type: String,
    boundary: Option<String>,
    encoding: String,
    body: &'a [u8],
}

/// A media type as it may be shown.
pub(super) fn shown(media_type: &str) -> String {
    if media_type.is_empty() {
        return "(without a type)".to_owned();
    }
    media_type
        .chars()
        .take(80)
        .flat_map(char::escape_debug)
        .collect()
}

fn broken(what: impl Into<String>) -> DecodeError {
    DecodeError::Broken(what.into())
}

impl<'a> Message<'a> {
    /// Reads a message, if the bytes are one: they begin with a header that names a
    /// content type.
    pub fn read(bytes: &'a [u8]) -> Option<Result<Self, DecodeError>> {
        // An mbox line, as Python's `as_string(unixfrom=True)` writes.
        let bytes = match bytes.strip_prefix(b"From ") {
            Some(_) => &bytes[line_length(bytes)..],
            None => bytes,
        };
        let is_header =
            header_fields(&bytes[..bytes.len().min(MAXIMUM_HEADER)]).is_some_and(|(fields, _)| {
                field(&fields, "content-type").is_some_and(|value| value.contains('/'))
            });
        is_header.then(|| Self::part(bytes).map_err(broken))
    }

    /// Reads a part: header, empty line, body.
    fn part(bytes: &'a [u8]) -> Result<Self, String> {
        let head = &bytes[..bytes.len().min(MAXIMUM_HEADER)];
        let (fields, length) = header_fields(head).ok_or("its header cannot be read")?;
        if length == MAXIMUM_HEADER {
            return Err("its header is larger than 64 KiB".to_owned());
        }
        let content_type = field(&fields, "content-type");
        let (media_type, boundary) = match &content_type {
            Some(value) => media_type(value)?,
            None => (String::new(), None),
        };
        let encoding = field(&fields, "content-transfer-encoding").unwrap_or_default();
        Ok(Self {
            media_type,
            boundary,
            encoding: encoding.trim().to_ascii_lowercase(),
            body: &bytes[length..],
        })
    }

    /// Whether the body is a row of parts.
    pub fn is_multipart(&self) -> bool {
        self.media_type.starts_with("multipart/")
    }

    /// The body with its transfer encoding taken off.
    pub fn content(&self, origin: &str) -> Result<Vec<u8>, DecodeError> {
        match self.encoding.as_str() {
            "" | "7bit" | "8bit" | "binary" => Ok(self.body.to_vec()),
            "base64" => base64_lenient(self.body)
                .ok_or_else(|| broken(format!("{origin}: its base64 is damaged"))),
            "quoted-printable" => quoted_printable(self.body)
                .ok_or_else(|| broken(format!("{origin}: its quoted-printable text is damaged"))),
            other => Err(broken(format!(
                "{origin}: the transfer encoding `{}` is not known",
                shown(other)
            ))),
        }
    }

    /// The parts of a multipart body, each with what is wrong with it alone.
    pub fn parts(&self) -> Result<Vec<Result<Message<'a>, String>>, DecodeError> {
        let boundary = self
            .boundary
            .as_deref()
            .filter(|boundary| !boundary.is_empty());
        let boundary = boundary.ok_or_else(|| broken("the MIME message names no boundary"))?;
        let mut parts = Vec::new();
        let mut begin: Option<usize> = None;
        let mut closed = false;
        let mut offset = 0;
        let mut number = 0;
        while offset < self.body.len() {
            let length = line_length(&self.body[offset..]);
            let line = &self.body[offset..offset + length];
            number += 1;
            if let Some(closes) = delimiter(line, boundary) {
                if closed {
                    return Err(broken(format!(
                        "line {number} of the MIME body is a boundary after the closing one, so \
                         that a part would be lost"
                    )));
                }
                if let Some(begin) = begin {
                    if parts.len() == MAXIMUM_PARTS {
                        return Err(broken("the MIME message has more than 256 parts"));
                    }
                    // The line break before a delimiter belongs to the delimiter.
                    let part = &self.body[begin..offset];
                    let part = part.strip_suffix(b"\n").unwrap_or(part);
                    let part = part.strip_suffix(b"\r").unwrap_or(part);
                    parts.push(Message::part(part));
                }
                begin = Some(offset + length);
                closed = closes;
            } else if closed && line.to_ascii_lowercase().starts_with(b"content-type:") {
                return Err(broken(format!(
                    "line {number} of the MIME body begins a part after the closing boundary"
                )));
            }
            offset += length;
        }
        match (begin, closed) {
            (_, true) => Ok(parts),
            (None, _) => Err(broken(
                "the boundary of the MIME message is not in its body",
            )),
            (Some(_), false) => Err(broken(
                "the MIME message has no closing boundary: it may be cut off",
            )),
        }
    }
}

/// Length of the first line with its end.
fn line_length(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(bytes.len(), |end| end + 1)
}

/// Whether a line is a delimiter, and if so whether it is the closing one.
fn delimiter(line: &[u8], boundary: &str) -> Option<bool> {
    let rest = line
        .strip_prefix(b"--")?
        .strip_prefix(boundary.as_bytes())?;
    let (closes, rest) = match rest.strip_prefix(b"--") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    rest.iter().all(u8::is_ascii_whitespace).then_some(closes)
}

/// The fields of a header, and its length with the empty line that ends it.
fn header_fields(bytes: &[u8]) -> Option<(Vec<(String, String)>, usize)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    let mut offset = 0;
    while offset < bytes.len() {
        let length = line_length(&bytes[offset..]);
        let line = std::str::from_utf8(&bytes[offset..offset + length]).ok()?;
        offset += length;
        if line.trim_end_matches(['\r', '\n']).is_empty() {
            return Some((fields, offset));
        }
        if line.starts_with([' ', '\t']) {
            let (_, value) = fields.last_mut()?;
            value.push(' ');
            value.push_str(line.trim());
            continue;
        }
        let (name, value) = line.split_once(':')?;
        let is_token = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;\\\"/[]?=".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    // Cut off within the header, or a header alone.
    Some((fields, offset))
}

fn field(fields: &[(String, String)], name: &str) -> Option<String> {
    fields
        .iter()
        .find(|(field, _)| field == name)
        .map(|(_, value)| value.clone())
}

/// The media type in lower case and the boundary among its parameters.
fn media_type(value: &str) -> Result<(String, Option<String>), String> {
    let (media_type, mut rest) = value.split_once(';').unwrap_or((value, ""));
    let media_type = media_type.trim().to_ascii_lowercase();
    let valid = media_type.split_once('/').is_some_and(|(kind, subtype)| {
        let is_word = |word: &str| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
        };
        is_word(kind) && is_word(subtype)
    });
    if !valid {
        return Err("its content type cannot be read".to_owned());
    }
    let mut boundary = None;
    while !rest.trim().is_empty() {
        let (name, after) = rest
            .split_once('=')
            .ok_or("its content type cannot be read")?;
        let after = after.trim_start();
        let (value, next): (Cow<'_, str>, &str) = if let Some(quoted) = after.strip_prefix('"') {
            let (text, next) = unquoted(quoted).ok_or("its content type has an open quotation")?;
            (
                Cow::Owned(text),
                next.split_once(';').map_or("", |(_, next)| next),
            )
        } else {
            let (value, next) = after.split_once(';').unwrap_or((after, ""));
            (Cow::Borrowed(value.trim()), next)
        };
        if name.trim().eq_ignore_ascii_case("boundary") {
            boundary = Some(value.into_owned());
        }
        rest = next;
    }
    Ok((media_type, boundary))
}

/// The text up to a closing quotation mark, and what follows it.
fn unquoted(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    loop {
        match characters.next()? {
            (index, '"') => return Some((text, &quoted[index + 1..])),
            (_, '\\') => text.push(characters.next()?.1),
            (_, character) => text.push(character),
        }
    }
}

/// Decodes quoted-printable (RFC 2045, section 6.7).
fn quoted_printable(bytes: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let mut output = Vec::with_capacity(bytes.len());
    let mut offset = 0;
    while offset < bytes.len() {
        let length = line_length(&bytes[offset..]);
        let line = &bytes[offset..offset + length];
        offset += length;
        let text = line.trim_ascii_end();
        let ending = if line.ends_with(b"\r\n") {
            &b"\r\n"[..]
        } else if line.ends_with(b"\n") {
            &b"\n"[..]
        } else {
            &b""[..]
        };
        let (text, ending) = match text.strip_suffix(b"=") {
            Some(text) => (text, &b""[..]),
            None => (text, ending),
        };
        let mut rest = text;
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            if *first == b'=' {
                let [high, low, after @ ..] = rest else {
                    return None;
                };
                output.push(digit(high)? << 4 | digit(low)?);
                rest = after;
            } else {
                output.push(*first);
            }
        }
        output.extend_from_slice(ending);
    }
    Some(output)
}
