//! Contents of a size that was announced: neither shorter nor longer.

use std::io::{ErrorKind, Read};

use crate::error::{Class, Error, Result};

/// Fills `buffer`.
///
/// # Errors
/// [`Class::Dependency`] when the content ends early; else what reading it gives.
pub(super) fn read_exactly(content: &mut dyn Read, buffer: &mut [u8], doing: &str) -> Result<()> {
    content.read_exact(buffer).map_err(|error| {
        if error.kind() == ErrorKind::UnexpectedEof {
            Error::new(
                Class::Dependency,
                format!("{doing}: its content is shorter than announced"),
            )
        } else {
            failed(doing, error)
        }
    })
}

/// Looks that nothing follows the `size` bytes that were read.
///
/// # Errors
/// [`Class::Dependency`] when something does; else what reading it gives.
pub(super) fn at_its_end(content: &mut dyn Read, size: u64, doing: &str) -> Result<()> {
    match content.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(Error::new(
            Class::Dependency,
            format!("{doing}: its content is longer than the {size} bytes announced"),
        )),
        Err(error) => Err(failed(doing, error)),
    }
}

fn failed(doing: &str, error: std::io::Error) -> Error {
    Error::io(format!("{doing}: read its content"), error)
}
