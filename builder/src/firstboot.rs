//! The first-boot program that is put into images.

use std::borrow::Cow;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::environment;
use crate::error::{Error, Result};
use crate::plan::{Content, Source};
use crate::profile::model::Architecture;
use crate::store::Digest;

/// The programs that came along; empty where the build had none.
const EMBEDDED_X86_64: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/firstboot-x86_64"));
const EMBEDDED_ARM64: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/firstboot-arm64"));

/// Largest program that is taken, in bytes.
const LIMIT: u64 = 16 << 20;

/// ELF machine numbers (System V ABI, `e_machine`).
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;

/// The program for `architecture`: `given` if there is one, else that of
/// `NODEKILN_FIRSTBOOT`, else the one that came along, else
/// `firstboot-ARCHITECTURE` beside the command.
///
/// # Errors
/// [`crate::Class::Input`] when a given file is no ELF program of that
/// architecture; [`crate::Class::Environment`] when there is none at all.
pub fn find(architecture: Architecture, given: Option<&Path>) -> Result<Content> {
    let embedded = match architecture {
        Architecture::X86_64 => EMBEDDED_X86_64,
        Architecture::Arm64 => EMBEDDED_ARM64,
    };
    let named = std::env::var_os(environment::NODEKILN_FIRSTBOOT).filter(|value| !value.is_empty());
    let bytes: Cow<'static, [u8]> = if let Some(path) = given {
        Cow::Owned(read(path)?)
    } else if let Some(path) = named {
        Cow::Owned(read(Path::new(&path))?)
    } else if !embedded.is_empty() {
        Cow::Borrowed(embedded)
    } else {
        Cow::Owned(read(&beside(architecture)?)?)
    };
    check(&bytes, architecture)?;
    Ok(Content {
        sha256: Digest::from_bytes(Sha256::digest(&bytes).into()),
        size: bytes.len() as u64,
        source: Source::Inline(bytes.into_owned()),
    })
}

fn beside(architecture: Architecture) -> Result<std::path::PathBuf> {
    let name = format!("firstboot-{}", architecture.name());
    std::env::current_exe()
        .ok()
        .and_then(|command| Some(command.parent()?.join(&name)))
        .filter(|path| path.is_file())
        .ok_or_else(|| {
            Error::environment(format!(
                "find the first-boot program: this nodekiln came without {name}"
            ))
            .hint(format!(
                "make it with `scripts/build-firstboot {}` and name it with {}, or put it beside the \
                 command as {name}; `make build` makes a command that brings it along",
                architecture.name(),
                environment::NODEKILN_FIRSTBOOT
            ))
        })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let doing = || format!("read the first-boot program {}", path.display());
    let size = std::fs::metadata(path)
        .map_err(|error| Error::io(doing(), error))?
        .len();
    if size > LIMIT {
        return Err(Error::input(format!(
            "{}: {size} bytes are too many",
            doing()
        )));
    }
    std::fs::read(path).map_err(|error| Error::io(doing(), error))
}

fn check(program: &[u8], architecture: Architecture) -> Result<()> {
    let wanted = match architecture {
        Architecture::X86_64 => EM_X86_64,
        Architecture::Arm64 => EM_AARCH64,
    };
    let machine = program
        .get(18..20)
        .map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    if program.starts_with(b"\x7fELF") && machine == Some(wanted) {
        Ok(())
    } else {
        Err(Error::input(format!(
            "the first-boot program is no ELF program for {}",
            architecture.name()
        ))
        .hint(format!(
            "name the one that `scripts/build-firstboot {}` makes",
            architecture.name()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_program_of_the_architecture() {
        let mut elf = vec![0; 64];
        elf[..4].copy_from_slice(b"\x7fELF");
        elf[18] = 62;
        assert!(check(&elf, Architecture::X86_64).is_ok());
        let refused = check(&elf, Architecture::Arm64).expect_err("of another");
        assert!(refused.to_string().ends_with("for arm64"), "{refused}");
        assert!(check(b"#!/bin/sh", Architecture::X86_64).is_err());
        assert!(check(b"", Architecture::X86_64).is_err());
    }

    #[test]
    fn a_command_without_the_program_says_how_to_make_it() {
        let error = beside(Architecture::Arm64).expect_err("no test has a program beside it");
        assert_eq!(error.class(), crate::Class::Environment);
        let (said, hint) = (error.to_string(), error.hint_text().unwrap_or_default());
        assert!(said.contains("came without firstboot-arm64"), "{said}");
        assert!(hint.contains("scripts/build-firstboot arm64"), "{hint}");
    }
}
