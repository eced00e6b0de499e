//! What a server answers, read within bounds (RFC 9112).

use std::io;

use super::stream::{Deadline, Stream};
use super::{Response, broken};
use crate::system::NetworkError;

/// Largest head of an answer, in bytes, and the most headers in it.
const LARGEST_HEAD: usize = 32 << 10;
const MOST_HEADERS: usize = 96;

/// Most answers that only announce another one.
const MOST_INTERIM: usize = 4;

/// Longest line before a chunk, in bytes, with what may stand behind its size.
const LONGEST_CHUNK_LINE: usize = 256;

/// An answer on its way.
pub struct Incoming<'a> {
    stream: &'a mut dyn Stream,
    host: &'a str,
    deadline: Deadline,
    /// What was read and not used yet.
    buffer: Vec<u8>,
}

/// How long a body is.
enum Length {
    None,
    Bytes(usize),
    Chunks,
    /// It ends with the connection.
    Rest,
}

impl<'a> Incoming<'a> {
    pub fn new(stream: &'a mut dyn Stream, host: &'a str, deadline: Deadline) -> Self {
        Self {
            stream,
            host,
            deadline,
            buffer: Vec::new(),
        }
    }

    /// The whole answer, with a body of at most `most` bytes.
    pub fn response(mut self, most: usize) -> Result<Response, NetworkError> {
        let mut response = self.head()?;
        for _ in 0..MOST_INTERIM {
            if response.status >= 200 {
                break;
            }
            response = self.head()?;
        }
        response.body = match self.length(&response)? {
            Length::None => Vec::new(),
            Length::Bytes(length) if length > most => return Err(self.too_large(most)),
            Length::Bytes(length) => self.exactly(length)?,
            Length::Chunks => self.chunks(most)?,
            Length::Rest => self.rest(most)?,
        };
        Ok(response)
    }

    /// Status and headers.
    pub fn head(&mut self) -> Result<Response, NetworkError> {
        let mut seen = 0;
        loop {
            // An end of head may begin in what was looked at already.
            let from = seen.min(self.buffer.len()).saturating_sub(3);
            let is_whole = self.buffer[from..].windows(2).any(|it| it == b"\n\n")
                || self.buffer[from..].windows(3).any(|it| it == b"\n\r\n");
            if is_whole {
                return self.parse_head();
            }
            if self.buffer.len() > LARGEST_HEAD {
                return Err(self.wrong("the head of its answer is larger than 32 KiB"));
            }
            // Whoever speaks another protocol says so at once.
            if self.buffer.len() >= 5 && !self.buffer.starts_with(b"HTTP/") {
                return Err(self.wrong("its answer does not begin with HTTP/"));
            }
            seen = self.buffer.len();
            if self.more()? == 0 {
                return Err(NetworkError::Connection {
                    host: self.host.into(),
                    reason: if self.buffer.is_empty() {
                        "it closed the connection without an answer".into()
                    } else {
                        "the connection broke off in the head of its answer".into()
                    },
                });
            }
        }
    }

    fn parse_head(&mut self) -> Result<Response, NetworkError> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let length = match head.parse(&self.buffer) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => {
                return Err(self.wrong("the head of its answer is not whole"));
            }
            Err(error) => return Err(self.wrong(&error.to_string())),
        };
        let response = Response {
            status: head.code.unwrap_or_default(),
            headers: head
                .headers
                .iter()
                .map(|header| {
                    let value = String::from_utf8_lossy(header.value);
                    (header.name.to_ascii_lowercase(), value.trim().to_owned())
                })
                .collect(),
            body: Vec::new(),
        };
        self.buffer.drain(..length);
        Ok(response)
    }

    /// Whether nothing came after what was read.
    pub fn is_drained(&self) -> bool {
        self.buffer.is_empty()
    }

    fn length(&self, response: &Response) -> Result<Length, NetworkError> {
        if matches!(response.status, 204 | 304) {
            return Ok(Length::None);
        }
        if let Some(coding) = response.header("transfer-encoding") {
            return if coding.eq_ignore_ascii_case("chunked") {
                Ok(Length::Chunks)
            } else {
                Err(self.wrong("its answer is encoded in a way that was not asked for"))
            };
        }
        let mut lengths = response
            .headers
            .iter()
            .filter(|(name, _)| name == "content-length")
            .map(|(_, value)| value);
        let Some(first) = lengths.next() else {
            return Ok(Length::Rest);
        };
        if lengths.any(|other| other != first) || !first.bytes().all(|it| it.is_ascii_digit()) {
            return Err(self.wrong("the length of its answer is unclear"));
        }
        // A number that does not fit is larger than anything that is read.
        Ok(Length::Bytes(first.parse().unwrap_or(usize::MAX)))
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>, NetworkError> {
        while self.buffer.len() < length {
            if self.more()? == 0 {
                let have = self.buffer.len();
                return Err(self.cut(&format!("{have} of {length} bytes")));
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    fn rest(&mut self, most: usize) -> Result<Vec<u8>, NetworkError> {
        while self.buffer.len() <= most {
            if self.more()? == 0 {
                return Ok(std::mem::take(&mut self.buffer));
            }
        }
        Err(self.too_large(most))
    }

    fn chunks(&mut self, most: usize) -> Result<Vec<u8>, NetworkError> {
        let mut body = Vec::new();
        loop {
            let line = self.line(LONGEST_CHUNK_LINE)?;
            let Ok(httparse::Status::Complete((_, size))) = httparse::parse_chunk_size(&line)
            else {
                return Err(self.wrong("the size of a chunk of its answer is unclear"));
            };
            if size == 0 {
                break;
            }
            if size > (most - body.len()) as u64 {
                return Err(self.too_large(most));
            }
            body.extend(self.exactly(size as usize)?);
            if self.line(2)? != b"\r\n" {
                return Err(self.wrong("a chunk of its answer does not end where it should"));
            }
        }
        // Headers may follow; they are not used.
        let mut left = LARGEST_HEAD;
        loop {
            let line = self.line(left)?;
            left = left.saturating_sub(line.len()).max(2);
            if line == b"\r\n" || line == b"\n" {
                return Ok(body);
            }
        }
    }

    /// Up to and with the next line feed.
    fn line(&mut self, most: usize) -> Result<Vec<u8>, NetworkError> {
        loop {
            if let Some(end) = self.buffer.iter().take(most).position(|it| *it == b'\n') {
                return Ok(self.buffer.drain(..=end).collect());
            }
            if self.buffer.len() >= most {
                return Err(self.wrong("a line of its answer is too long"));
            }
            if self.more()? == 0 {
                return Err(self.cut("its chunks"));
            }
        }
    }

    /// Reads what is there, at least a byte unless the connection ended.
    fn more(&mut self) -> Result<usize, NetworkError> {
        let mut bytes = [0; 8192];
        let length = loop {
            match self.stream.read(&mut bytes) {
                Ok(length) => break length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(self.cut("its answer, without the end that TLS asks for"));
                }
                Err(error) => return Err(broken(self.host, self.deadline, &error)),
            }
        };
        self.buffer.extend(&bytes[..length]);
        Ok(length)
    }

    fn cut(&self, at: &str) -> NetworkError {
        NetworkError::Connection {
            host: self.host.into(),
            reason: format!("the connection broke off in {at}"),
        }
    }

    fn wrong(&self, reason: &str) -> NetworkError {
        NetworkError::Protocol {
            host: self.host.into(),
            reason: reason.into(),
        }
    }

    fn too_large(&self, most: usize) -> NetworkError {
        NetworkError::TooLarge {
            host: self.host.into(),
            most,
        }
    }
}
