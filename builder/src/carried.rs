//! Programs that the command carries, and where else they are looked for.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::os::elf_architecture;
use crate::profile::model::Architecture;

/// Largest program that is taken, in bytes.
const LIMIT: u64 = 16 << 20;

/// A program that the command carries.
#[derive(Debug)]
pub struct Carried {
    /// What it is, in words: `the agent`.
    pub what: &'static str,
    /// The one that came along; empty where the build had none.
    pub embedded: &'static [u8],
    /// Its name beside the command.
    pub name: String,
    /// The processor that it is for.
    pub architecture: Architecture,
    /// The variable that names another.
    pub variable: &'static str,
    /// What makes it.
    pub script: String,
}

impl Carried {
    /// The program: `given` if there is one, else that of the variable, else the one that
    /// came along, else the file beside the command.
    ///
    /// # Errors
    /// [`crate::Class::Environment`] when there is none at all; [`crate::Class::Input`] for
    /// one that is no program of the architecture.
    pub fn find(&self, given: Option<&Path>) -> Result<Cow<'static, [u8]>> {
        let named = std::env::var_os(self.variable).filter(|value| !value.is_empty());
        let named = given.map(Path::as_os_str).or(named.as_deref());
        let program = match named {
            Some(path) => Cow::Owned(self.read(path)?),
            None if !self.embedded.is_empty() => Cow::Borrowed(self.embedded),
            None => Cow::Owned(self.read(self.beside()?.as_os_str())?),
        };
        self.check(&program)?;
        Ok(program)
    }

    fn beside(&self) -> Result<PathBuf> {
        let (what, name, script) = (self.what, &self.name, &self.script);
        std::env::current_exe()
            .ok()
            .and_then(|command| Some(command.parent()?.join(name)))
            .filter(|path| path.is_file())
            .ok_or_else(|| {
                let variable = self.variable;
                Error::environment(format!("find {what}: this nodekiln came without {name}")).hint(
                    format!(
                        "make it with `{script}` and name it with {variable}, or put it beside \
                         the command as {name}; `make build` makes a command that brings it along"
                    ),
                )
            })
    }

    fn read(&self, path: &OsStr) -> Result<Vec<u8>> {
        let path = Path::new(path);
        let doing = || format!("read {} {}", self.what, path.display());
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

    fn check(&self, program: &[u8]) -> Result<()> {
        if elf_architecture(program) == Some(self.architecture) {
            return Ok(());
        }
        Err(Error::input(format!(
            "{} is no ELF program for {}",
            self.what,
            self.architecture.name()
        ))
        .hint(format!("name the one that `{}` makes", self.script)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(architecture: Architecture) -> Carried {
        Carried {
            what: "the program",
            embedded: b"",
            name: format!("program-{}", architecture.name()),
            architecture,
            variable: "NODEKILN_NO_SUCH_VARIABLE",
            script: format!("scripts/build-program {}", architecture.name()),
        }
    }

    #[test]
    fn refuses_what_is_no_program_of_the_architecture() {
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = 62;
        let (x86_64, arm64) = (carried(Architecture::X86_64), carried(Architecture::Arm64));
        assert!(x86_64.check(&elf).is_ok());
        let refused = arm64.check(&elf).expect_err("of another");
        assert!(refused.to_string().ends_with("for arm64"), "{refused}");
        assert!(x86_64.check(b"#!/bin/sh").is_err());
        assert!(x86_64.check(b"").is_err());
    }

    #[test]
    fn a_command_without_the_program_says_how_to_make_it() {
        let error = carried(Architecture::Arm64)
            .find(None)
            .expect_err("no test has a program beside it");
        assert_eq!(error.class(), crate::Class::Environment);
        let (said, hint) = (error.to_string(), error.hint_text().unwrap_or_default());
        assert!(said.contains("came without program-arm64"), "{said}");
        assert!(hint.contains("scripts/build-program arm64"), "{hint}");
    }
}
