//! Requests and answers as plain values.

use std::net::IpAddr;

use serde_json::Value;

/// A request that was read to its end.
#[derive(Clone)]
pub struct Asked {
    /// Such as `GET`.
    pub method: String,
    /// The path as it was sent, escapes and all.
    pub path: String,
    /// What follows the question mark, as it was sent.
    pub query: String,
    /// Names in lower case and values, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Who asks.
    pub from: IpAddr,
}

// By hand: headers and body hold signatures, tokens and activation codes.
impl std::fmt::Debug for Asked {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Asked")
            .field("method", &self.method)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Asked {
    /// The value of a header that came exactly once, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name);
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value.trim())
    }

    /// Names and values of the query string, decoded.
    pub fn parameters(&self) -> Vec<(String, String)> {
        form(&self.query)
    }

    /// The one value of a parameter of the query string.
    pub fn parameter(&self, name: &str) -> Option<String> {
        only(self.parameters(), name)
    }

    /// The value of a field of a posted form, or else of the query string: what AWS
    /// calls the query protocol.
    pub fn field(&self, name: &str) -> Option<String> {
        let posted = String::from_utf8_lossy(&self.body);
        only(form(&posted), name).or_else(|| self.parameter(name))
    }
}

fn only(values: Vec<(String, String)>, name: &str) -> Option<String> {
    let mut values = values.into_iter().filter(|(key, _)| key == name);
    let (_, value) = values.next()?;
    values.next().is_none().then_some(value)
}

fn form(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name, true), decode(value, true)))
        .collect()
}

/// Undoes percent escapes; a plus is a space where `plus` says so. What is no escape
/// stays as it is.
pub fn decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        let escaped = (byte == b'%')
            .then(|| text.get(index + 1..index + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        index += if escaped.is_some() { 3 } else { 1 };
        decoded.push(match escaped {
            Some(byte) => byte,
            None if plus && byte == b'+' => b' ',
            None => byte,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// What is answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Such as 200.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A body of a type.
    pub fn of(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("content-type".into(), kind.into())],
            body: body.into(),
        }
    }

    /// Plain text.
    pub fn text(status: u16, body: &str) -> Self {
        Self::of(status, "text/plain", body)
    }

    /// JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::of(status, "application/json", body.to_string())
    }

    /// XML.
    pub fn xml(status: u16, body: &str) -> Self {
        let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}");
        Self::of(status, "text/xml;charset=UTF-8", text)
    }

    /// The same answer with one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// Text within XML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
