//! What a signature of version 4 is made of: the canonical request and the string
//! that is signed. Pure.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::message::{Asked, decode};

/// SHA-256 in lower-case hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes of hexadecimal digits; `None` where they are none.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then(|| {
        (0..text.len())
            .step_by(2)
            .filter_map(|index| u8::from_str_radix(&text[index..index + 2], 16).ok())
            .collect()
    })
}

/// Percent escapes of all but letters, digits, `-`, `.`, `_` and `~`, and `/` where
/// `slash` keeps it.
pub fn encode(text: &str, slash: bool) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (slash && byte == b'/') {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// The path without `.`, `..` and empty segments, its escapes escaped once more: all
/// services but S3 want that.
fn path(raw: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in raw.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut normal = format!("/{}", segments.join("/"));
    if raw.ends_with('/') && normal != "/" {
        normal.push('/');
    }
    encode(&normal, true)
}

/// The query string, decoded and encoded anew, sorted by name and then value, without
/// the parameter `without`.
fn query(raw: &str, without: Option<&str>) -> String {
    let mut pairs: Vec<(String, String)> = raw
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name, false), decode(value, false)))
        .filter(|(name, _)| Some(name.as_str()) != without)
        .map(|(name, value)| (encode(&name, false), encode(&value, false)))
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// All values of a header, trimmed, with single spaces, joined by commas.
fn header(asked: &Asked, name: &str) -> String {
    let values: Vec<String> = asked
        .headers
        .iter()
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    values.join(",")
}

/// The canonical request. `signed` are the names of the signed headers, `without` a
/// parameter that is left out: the signature itself, where it stands in the URL.
pub fn request(asked: &Asked, signed: &[&str], without: Option<&str>, payload: &str) -> String {
    let headers: String = signed
        .iter()
        .map(|name| format!("{name}:{}\n", header(asked, name)))
        .collect();
    format!(
        "{}\n{}\n{}\n{headers}\n{}\n{payload}",
        asked.method,
        path(&asked.path),
        query(&asked.query, without),
        signed.join(";"),
    )
}

/// The string that is signed.
pub fn string_to_sign(algorithm: &str, date: &str, scope: &str, request: &str) -> String {
    format!(
        "{algorithm}\n{date}\n{scope}\n{}",
        sha256(request.as_bytes())
    )
}
