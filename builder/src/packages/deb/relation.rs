//! Dependencies between Debian packages (deb-control(5), Debian Policy 7.1).

use std::cmp::Ordering;

use super::version;

/// Alternatives and packages in one field that are read at most.
const LIMIT: usize = 10_000;

/// One group of a field such as `Depends`: one of its alternatives is enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The alternatives, in order.
    pub alternatives: Vec<Relation>,
}

/// A package, and which versions of it are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its name.
    pub name: String,
    /// What stands behind the colon: `any`, `native` or an architecture.
    pub architecture: Option<String>,
    /// Operator and version.
    pub version: Option<(Operator, String)>,
}

/// How a version relates to the named one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

impl Operator {
    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "<<" => Self::Earlier,
            // dpkg reads the obsolete single signs as these.
            "<=" | "<" => Self::EarlierOrEqual,
            "=" => Self::Equal,
            ">=" | ">" => Self::LaterOrEqual,
            ">>" => Self::Later,
            _ => return None,
        })
    }

    /// Whether `found` is one of the versions that `OPERATOR wanted` means.
    pub fn admits(self, found: &str, wanted: &str) -> bool {
        let order = version::compare(found, wanted);
        match self {
            Self::Earlier => order == Ordering::Less,
            Self::EarlierOrEqual => order != Ordering::Greater,
            Self::Equal => order == Ordering::Equal,
            Self::LaterOrEqual => order != Ordering::Less,
            Self::Later => order == Ordering::Greater,
        }
    }
}

/// Reads the value of a field of relations; `None` when it is damaged.
pub fn parse(text: &str) -> Option<Vec<Group>> {
    let mut groups = Vec::new();
    let mut count = 0;
    for group in text.split(',') {
        let group = group.trim();
        if group.is_empty() {
            continue;
        }
        let mut alternatives = Vec::new();
        for alternative in group.split('|') {
            count += 1;
            if count > LIMIT {
                return None;
            }
            alternatives.push(relation(alternative.trim())?);
        }
        groups.push(Group { alternatives });
    }
    Some(groups)
}

fn relation(text: &str) -> Option<Relation> {
    let (name, version) = match text.split_once('(') {
        None => (text, None),
        Some((name, rest)) => {
            let inside = rest.trim_end().strip_suffix(')')?.trim();
            let end = inside.find(|c: char| !"<=>".contains(c))?;
            let operator = Operator::of(&inside[..end])?;
            let wanted = inside[end..].trim();
            if !version::is_version(wanted) {
                return None;
            }
            (name.trim(), Some((operator, wanted.to_owned())))
        }
    };
    let (name, architecture) = match name.split_once(':') {
        Some((name, architecture)) => (name, Some(architecture)),
        None => (name, None),
    };
    let is_fine = is_name(name) && architecture.is_none_or(is_name);
    is_fine.then(|| Relation {
        name: name.to_owned(),
        architecture: architecture.map(str::to_owned),
        version,
    })
}

/// Whether `text` can be the name of a package.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.len() <= 128
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

impl std::fmt::Display for Relation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.name)?;
        if let Some(architecture) = &self.architecture {
            write!(formatter, ":{architecture}")?;
        }
        if let Some((operator, version)) = &self.version {
            let sign = match operator {
                Operator::Earlier => "<<",
                Operator::EarlierOrEqual => "<=",
                Operator::Equal => "=",
                Operator::LaterOrEqual => ">=",
                Operator::Later => ">>",
            };
            write!(formatter, " ({sign} {version})")?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Group {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, alternative) in self.alternatives.iter().enumerate() {
            if index > 0 {
                formatter.write_str(" | ")?;
            }
            alternative.fmt(formatter)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_packages_write() {
        let text = "libc6 (>= 2.34), default-mta | mail-transport-agent,\n python3:any (<< 3.12~), foo:amd64(=1:2-3), ";
        let groups = parse(text).expect("sound");
        let shown: Vec<String> = groups.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "libc6 (>= 2.34)",
                "default-mta | mail-transport-agent",
                "python3:any (<< 3.12~)",
                "foo:amd64 (= 1:2-3)"
            ]
        );
        assert_eq!(parse(""), Some(Vec::new()));
        for damaged in ["a (", "a (>= )", "a (~ 1)", "a b", "(>= 1)", "a | ", "ä"] {
            assert_eq!(parse(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn operators_follow_the_order_of_versions() {
        assert!(Operator::Later.admits("1.0-2", "1.0-1"));
        assert!(!Operator::Later.admits("1.0", "1.0"));
        assert!(Operator::Earlier.admits("1.0~rc1", "1.0"));
        assert!(Operator::Equal.admits("0:1.0", "1.0"));
    }
}
