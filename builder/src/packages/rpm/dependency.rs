//! What rpms say of each other (rpm's `lib/rpmds.c`).

use std::cmp::Ordering;
use std::fmt;

use super::super::Damage;
use super::header::Header;
use super::version;

const LESS: u64 = 1 << 1;
const GREATER: u64 = 1 << 2;
const EQUAL: u64 = 1 << 3;
/// The package can do without.
const MISSING_OK: u64 = 1 << 19;
/// A need of rpm itself: `rpmlib(…)`.
const RPMLIB: u64 = 1 << 24;
const RANGE: u64 = LESS | GREATER | EQUAL;

/// A name, and which versions of it are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// A package, a file, a library or anything else that packages provide.
    pub name: String,
    /// `[EPOCH:]VERSION[-RELEASE]`; empty for any.
    pub version: String,
    flags: u64,
}

/// The tags of names, flags and versions of one kind.
pub type Tags = [u32; 3];
/// What a package provides.
pub const PROVIDES: Tags = [1047, 1112, 1113];
/// What it needs.
pub const REQUIRES: Tags = [1049, 1048, 1050];
/// What it cannot be beside.
pub const CONFLICTS: Tags = [1054, 1053, 1055];
/// What it takes the place of.
pub const OBSOLETES: Tags = [1090, 1114, 1115];
/// The packages for whose sake it has triggers.
pub const TRIGGERS: Tags = [1066, 1068, 1067];

impl Dependency {
    /// A name in any version.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: String::new(),
            flags: 0,
        }
    }

    /// This very version of a name.
    pub fn exactly(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            flags: EQUAL,
        }
    }

    /// The dependencies of one kind.
    ///
    /// # Errors
    /// When the header's lists of them are damaged.
    pub fn all(header: &Header, [names, flags, versions]: Tags) -> Result<Vec<Self>, Damage> {
        let (names, flags) = (header.strings(names)?, header.numbers(flags)?);
        let versions = header.strings(versions)?;
        let is_plain = flags.is_empty() && versions.is_empty();
        if !is_plain && (flags.len() != names.len() || versions.len() != names.len()) {
            return Err("its dependencies have lists of different lengths".into());
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let one = |(index, name): (usize, &&[u8])| Self {
            name: text(name),
            version: versions
                .get(index)
                .map(|version| text(version))
                .unwrap_or_default(),
            flags: flags.get(index).copied().unwrap_or_default(),
        };
        Ok(names.iter().enumerate().map(one).collect())
    }

    /// Whether nothing is wrong without it.
    pub fn is_weak(&self) -> bool {
        self.flags & MISSING_OK != 0
    }

    /// Whether it speaks of rpm itself.
    pub fn is_of_rpm(&self) -> bool {
        self.flags & RPMLIB != 0 || self.name.starts_with("rpmlib(")
    }

    /// The flags, for what else stands in them.
    pub fn flags(&self) -> u64 {
        self.flags
    }

    /// Whether the versions that both mean have one in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        if self.name != other.name {
            return false;
        }
        let (one, two) = (self.flags & RANGE, other.flags & RANGE);
        if one == 0 || two == 0 || self.version.is_empty() || other.version.is_empty() {
            return true;
        }
        match version::compare(&self.version, &other.version) {
            Ordering::Less => one & GREATER != 0 || two & LESS != 0,
            Ordering::Greater => one & LESS != 0 || two & GREATER != 0,
            Ordering::Equal => one & two & RANGE != 0,
        }
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.name.escape_debug())?;
        if self.flags & RANGE == 0 {
            return Ok(());
        }
        formatter.write_str(" ")?;
        for (flag, sign) in [(LESS, "<"), (GREATER, ">"), (EQUAL, "=")] {
            if self.flags & flag != 0 {
                formatter.write_str(sign)?;
            }
        }
        write!(formatter, " {}", self.version.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(flags: u64, version: &str) -> Dependency {
        Dependency {
            name: "a".to_owned(),
            version: version.to_owned(),
            flags,
        }
    }

    #[test]
    fn ranges_overlap_as_in_rpm() {
        let provided = Dependency::exactly("a", "1:2.0-3");
        for (wanted, fits) in [
            (range(GREATER | EQUAL, "1:2.0"), true),
            (range(GREATER, "1:2.0-3"), false),
            (range(LESS, "1:2.0-4"), true),
            (range(LESS, "2.0"), false),
            (range(EQUAL, "1:2.0"), true),
            (Dependency::named("a"), true),
            (Dependency::named("b"), false),
        ] {
            assert_eq!(wanted.overlaps(&provided), fits, "{wanted}");
            assert_eq!(provided.overlaps(&wanted), fits, "{wanted}");
        }
        assert_eq!(range(GREATER | EQUAL, "1").to_string(), "a >= 1");
    }
}
