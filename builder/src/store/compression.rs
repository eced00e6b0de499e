//! Decompression by magic number, with bounds on memory, size and ratio.

use std::cell::Cell;
use std::io::{self, BufReader, Cursor, Read};
use std::rc::Rc;

/// Memory that an xz stream may ask for, in bytes: enough for `xz -9`.
const XZ_MEMORY: u64 = 128 << 20;
/// Largest zstd window, as a power of two: 128 MiB, what `zstd --ultra` makes.
const ZSTD_WINDOW: u32 = 27;
/// Bytes that may come out whatever went in: short texts compress without end.
const FREE: u64 = 64 << 20;
/// Beyond [`FREE`], bytes out for one byte in. Programs reach about 5, zero-padded
/// ones 100.
const RATIO: u64 = 300;
/// Bytes that tell all known formats apart (xz has the longest magic number).
const MAGIC: usize = 6;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Not at all, or by something that nodekiln does not know.
    Plain,
    /// RFC 1952.
    Gzip,
    /// The .xz file format, version 1.2.
    Xz,
    /// RFC 8878.
    Zstd,
}

impl Format {
    fn of(magic: &[u8]) -> Self {
        if magic.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if magic.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
            Self::Xz
        } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else {
            Self::Plain
        }
    }
}

/// Finds out how `reader` is compressed and gives what is inside. At most
/// `limit` bytes come out, and not many more than went in; beyond that reading
/// fails with `InvalidData`.
pub fn decompress<'a>(
    mut reader: impl Read + 'a,
    limit: u64,
) -> io::Result<(Format, Box<dyn Read + 'a>)> {
    let mut magic = Vec::with_capacity(MAGIC);
    reader.by_ref().take(MAGIC as u64).read_to_end(&mut magic)?;
    let format = Format::of(&magic);
    let consumed = Rc::new(Cell::new(0));
    let input = BufReader::with_capacity(
        128 << 10,
        Counted {
            inner: Cursor::new(magic).chain(reader),
            count: Rc::clone(&consumed),
        },
    );
    let output: Box<dyn Read + 'a> = match format {
        Format::Plain => Box::new(input),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Format::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(
                XZ_MEMORY,
                liblzma::stream::CONCATENATED,
            )?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
    };
    let bounded = Bounded {
        inner: output,
        consumed,
        produced: 0,
        limit,
    };
    Ok((format, Box::new(bounded)))
}

struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

struct Bounded<'a> {
    inner: Box<dyn Read + 'a>,
    consumed: Rc<Cell<u64>>,
    produced: u64,
    limit: u64,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.produced += count as u64;
        let allowed = self.consumed.get().saturating_mul(RATIO).max(FREE);
        if self.produced > self.limit {
            return Err(invalid(format!(
                "it unpacks to more than {} bytes",
                self.limit
            )));
        }
        if self.produced > allowed {
            return Err(invalid(format!(
                "{} bytes of it unpack to more than {allowed}: that is no honest archive",
                self.consumed.get()
            )));
        }
        Ok(count)
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn all(bytes: &[u8], limit: u64) -> io::Result<(Format, Vec<u8>)> {
        let (format, mut reader) = decompress(bytes, limit)?;
        let mut content = Vec::new();
        reader.read_to_end(&mut content)?;
        Ok((format, content))
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(content).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn tells_formats_by_their_magic() {
        let text = b"some text, some text, some text".to_vec();
        let xz = {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
            encoder.write_all(&text).expect("memory");
            encoder.finish().expect("memory")
        };
        let zstd = zstd::encode_all(&text[..], 3).expect("memory");
        for (bytes, format) in [
            (text.clone(), Format::Plain),
            (gzip(&text), Format::Gzip),
            (xz, Format::Xz),
            (zstd, Format::Zstd),
        ] {
            assert_eq!(all(&bytes, 1000).expect("sound"), (format, text.clone()));
        }
        assert_eq!(all(b"", 10).expect("empty").1, b"");
        assert_eq!(all(b"ab", 10).expect("short").1, b"ab");
    }

    #[test]
    fn stops_bombs() {
        let zeros = vec![0; (FREE + (1 << 20)) as usize];
        let error = all(&gzip(&zeros), u64::MAX).expect_err("ratio of 1,000");
        assert!(error.to_string().contains("no honest archive"), "{error}");
        let error = all(&gzip(&zeros[..5000]), 4999).expect_err("limit");
        assert!(error.to_string().contains("more than 4999"), "{error}");
    }

    #[test]
    fn notices_truncation() {
        let whole = gzip(&[7; 3000]);
        assert!(all(&whole[..whole.len() - 4], 10_000).is_err());
    }
}
