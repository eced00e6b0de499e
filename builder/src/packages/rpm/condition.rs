//! The names in a condition of dependencies, such as `(a or b)` (rpm's `lib/rpmds.c`,
//! `rpmrichParse`; which of them count as negated, `lib/rpmdb.c`, `updateRichDepCB`).
//!
//! A condition is not worked out here: rpm's database has its names as keys, so that rpm
//! looks at it again when one of them comes or goes.

use std::collections::BTreeSet;

use super::super::Damage;

/// Deepest condition inside conditions.
const MAX_DEPTH: usize = 100;
/// What compares versions.
const COMPARISONS: [&[u8]; 8] = [b"<=", b"=<", b"<", b"==", b"=", b">=", b"=>", b">"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    And,
    Or,
    If,
    Unless,
    Else,
    With,
    Without,
}

const OPERATORS: [(&[u8], Operator); 7] = [
    (b"and", Operator::And),
    (b"or", Operator::Or),
    (b"if", Operator::If),
    (b"unless", Operator::Unless),
    (b"else", Operator::Else),
    (b"with", Operator::With),
    (b"without", Operator::Without),
];

/// The names as rpm's database has them as keys: with `!` where it matters that the name is
/// not there. None for what rpm does not take for a condition.
///
/// # Errors
/// When it is deeper than any.
pub fn names(condition: &[u8]) -> Result<BTreeSet<Vec<u8>>, Damage> {
    let mut reader = Reader {
        rest: condition,
        names: Vec::new(),
        is_negated: false,
    };
    if reader.group(0)?.is_none() {
        return Ok(BTreeSet::new());
    }
    let key = |(is_negated, name): (bool, &[u8])| {
        let sign: &[u8] = if is_negated { b"!" } else { b"" };
        [sign, name].concat()
    };
    Ok(reader.names.into_iter().map(key).collect())
}

struct Reader<'a> {
    rest: &'a [u8],
    names: Vec<(bool, &'a [u8])>,
    is_negated: bool,
}

impl<'a> Reader<'a> {
    /// Reads from `(` to its `)`; `None` when that is not how it goes.
    fn group(&mut self, depth: usize) -> Result<Option<()>, Damage> {
        if depth > MAX_DEPTH {
            return Err("a condition of it is too deep".into());
        }
        let Some(rest) = self.rest.strip_prefix(b"(") else {
            return Ok(None);
        };
        self.rest = rest;
        // Where the names begin that `else` turns round.
        let mut block = self.names.len();
        let mut last = None;
        loop {
            self.skip_spaces();
            let part = match self.rest.first() {
                Some(b'(') => self.group(depth + 1)?,
                _ => self.simple(),
            };
            if part.is_none() {
                return Ok(None);
            }
            self.skip_spaces();
            if let Some(rest) = self.rest.strip_prefix(b")") {
                self.rest = rest;
                break;
            }
            let Some(operator) = self.operator() else {
                return Ok(None);
            };
            match operator {
                Operator::If | Operator::Unless => {
                    block = self.names.len();
                    self.is_negated ^= true;
                }
                Operator::Else => {
                    let turned = self.names[block..].iter();
                    let turned: Vec<_> = turned.map(|(is, name)| (!is, *name)).collect();
                    self.names.extend(turned);
                    self.is_negated ^= true;
                }
                _ => {}
            }
            last = Some(operator);
        }
        if matches!(last, Some(Operator::If | Operator::Unless)) {
            self.is_negated ^= true;
        }
        Ok(Some(()))
    }

    fn skip_spaces(&mut self) {
        let is_space = |byte: &&u8| byte.is_ascii_whitespace() || **byte == b',';
        let spaces = self.rest.iter().take_while(is_space).count();
        self.rest = &self.rest[spaces..];
    }

    /// The bytes up to a space or a `)` that was not opened in them.
    fn word(&self) -> &'a [u8] {
        let mut open = 0;
        let end = self.rest.iter().position(|byte| {
            match byte {
                b'(' => open += 1,
                b')' if open == 0 => return true,
                b')' => open -= 1,
                b',' => return true,
                byte if byte.is_ascii_whitespace() => return true,
                _ => {}
            }
            false
        });
        &self.rest[..end.unwrap_or(self.rest.len())]
    }

    /// A name, perhaps with a version.
    fn simple(&mut self) -> Option<()> {
        let name = self.word();
        if name.is_empty() {
            return None;
        }
        self.rest = &self.rest[name.len()..];
        self.skip_spaces();
        let comparison = self.word();
        if COMPARISONS.contains(&comparison) {
            self.rest = &self.rest[comparison.len()..];
            self.skip_spaces();
            let version = self.word();
            if version.is_empty() {
                return None;
            }
            self.rest = &self.rest[version.len()..];
        }
        // What is asked of rpm itself is no name of a package.
        if !(name.len() > 7 && name.starts_with(b"rpmlib(")) {
            self.names.push((self.is_negated, name));
        }
        Some(())
    }

    fn operator(&mut self) -> Option<Operator> {
        let is_end = |byte: &u8| byte.is_ascii_whitespace() || *byte == b')';
        let end = self.rest.iter().position(is_end)?;
        let found = OPERATORS
            .iter()
            .find(|(word, _)| *word == &self.rest[..end])?;
        self.rest = &self.rest[end..];
        Some(found.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_rpm_looks_up() {
        for (condition, wanted) in [
            ("(a or b)", &["a", "b"][..]),
            ("(a >= 1:2 and b(x) = 3)", &["a", "b(x)"]),
            ("(a if b)", &["!b", "a"]),
            ("(a if b else c)", &["!b", "a", "b", "c"]),
            ("(a unless (b or c))", &["!b", "!c", "a"]),
            ("((a if b) or c)", &["!b", "a", "c"]),
            ("(a with rpmlib(x))", &["a"]),
            ("(a, or b)", &["a", "b"]),
            ("(a or b", &[]),
            ("(a but b)", &[]),
            ("()", &[]),
            ("a", &[]),
            ("(a >= or)", &["a"]),
        ] {
            let found = names(condition.as_bytes()).expect(condition);
            let found: Vec<_> = found
                .iter()
                .map(|name| String::from_utf8_lossy(name))
                .collect();
            assert_eq!(found, wanted, "{condition}");
        }
        let deep = "(".repeat(5000);
        assert!(names(deep.as_bytes()).is_err());
    }
}
