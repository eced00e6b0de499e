//! Results to standard output, everything for people to standard error.

use std::io::Write as _;

use nodekiln::{Error, Result};
use serde::Serialize;

use super::{ResultFormat, error};

/// Where a verb's result goes.
#[derive(Debug, Clone)]
pub struct Printer {
    format: ResultFormat,
}

impl Printer {
    /// A printer for `--format`.
    pub fn new(format: ResultFormat) -> Self {
        Self { format }
    }

    /// Writes the result: `value` as JSON, or what `text` makes of it.
    pub fn result<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        let mut output = match self.format {
            ResultFormat::Json => serde_json::to_string_pretty(value).map_err(|error| {
                Error::new(nodekiln::Class::Internal, "write the result as JSON").caused_by(error)
            })?,
            ResultFormat::Text => text(value),
        };
        if !output.is_empty() && !output.ends_with('\n') {
            output.push('\n');
        }
        Self::bytes(output.as_bytes())
    }

    /// Writes `bytes` to standard output. A reader that went away is no error.
    pub fn bytes(bytes: &[u8]) -> Result<()> {
        let mut stream = anstream::stdout().lock();
        match stream.write_all(bytes).and_then(|()| stream.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Error::io("write to standard output", error))
            }
            _ => Ok(()),
        }
    }

    /// Writes a finished message to standard error.
    #[expect(clippy::unused_self, reason = "messages belong to the printer")]
    pub fn raw_message(&self, text: &str) {
        error::stderr(text);
    }
}

/// Bytes for people: `1.4 GiB`, `412 MiB`, `38.2 KiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 100.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A duration for people: `84 ms`, `2.31 s`, `1 min 12 s`.
pub fn duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 {
        format!("{} ms", duration.as_millis())
    } else if seconds < 60.0 {
        format!("{seconds:.2} s")
    } else {
        format!(
            "{} min {} s",
            duration.as_secs() / 60,
            duration.as_secs() % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[test]
    fn numbers_for_people() {
        assert_eq!(super::bytes(0), "0 B");
        assert_eq!(super::bytes(39_117), "38.2 KiB");
        assert_eq!(super::bytes(432 << 20), "432 MiB");
        assert_eq!(super::bytes(3 << 29), "1.5 GiB");
        assert_eq!(super::duration(Duration::from_millis(84)), "84 ms");
        assert_eq!(super::duration(Duration::from_millis(2310)), "2.31 s");
        assert_eq!(super::duration(Duration::from_secs(72)), "1 min 12 s");
    }
}
