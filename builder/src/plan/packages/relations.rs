//! Whether what Debian packages say of each other holds in an image.

use crate::error::Error;
use crate::packages::deb::Relations;
use crate::packages::deb::relation::{Group, Relation};

/// A package that is there, or will be.
#[derive(Debug, Clone)]
pub(super) struct Present {
    pub name: String,
    pub version: String,
    pub architecture: String,
    /// The value of `Multi-Arch`; empty without it.
    pub multi_arch: String,
    pub relations: Relations,
}

/// Everything that is wrong with `new` among the packages of `installed` and of itself.
/// `native` is the image's own architecture.
pub(super) fn problems(new: &[Present], installed: &[Present], native: &str) -> Vec<Error> {
    let all = || installed.iter().chain(new);
    let mut problems = Vec::new();
    for package in new {
        for group in &package.relations.needs {
            let is_met = group
                .alternatives
                .iter()
                .any(|wanted| all().any(|other| other.satisfies(wanted, native)));
            if !is_met {
                problems.push(unmet(package, group, &all().collect::<Vec<_>>()));
            }
        }
        for wanted in relations(&package.relations.conflicts) {
            let others = all().filter(|other| !other.is(package));
            for other in others.filter(|other| other.is_hit_by(wanted)) {
                problems.push(conflict(package, wanted, other));
            }
        }
    }
    // What is there already may not want the new ones either.
    for package in installed {
        for wanted in relations(&package.relations.conflicts) {
            for other in new.iter().filter(|other| other.is_hit_by(wanted)) {
                problems.push(conflict(package, wanted, other));
            }
        }
    }
    problems
}

fn relations(groups: &[Group]) -> impl Iterator<Item = &Relation> {
    groups.iter().flat_map(|group| &group.alternatives)
}

fn unmet(package: &Present, group: &Group, present: &[&Present]) -> Error {
    let named = |relation: &Relation| {
        let found = present.iter().find(|other| other.name == relation.name)?;
        Some(format!(
            "{} is there in version {}",
            found.name, found.version
        ))
    };
    let found: Vec<String> = group.alternatives.iter().filter_map(named).collect();
    let reason = if found.is_empty() {
        "which neither the base nor the profile's packages have".to_owned()
    } else {
        found.join(", ")
    };
    Error::input(format!(
        "install the package {} {}: it depends on {group}; {reason}",
        package.name, package.version
    ))
    .hint("add the package to spec.packages, or to the base")
}

fn conflict(package: &Present, wanted: &Relation, other: &Present) -> Error {
    Error::input(format!(
        "install packages: {} {} conflicts with {wanted}, and {} {} is there",
        package.name, package.version, other.name, other.version
    ))
    .hint("nothing is taken out of a base for a package: leave one of the two away")
}

impl Present {
    fn is(&self, other: &Self) -> bool {
        self.name == other.name && self.architecture == other.architecture
    }

    /// Whether this is what a dependency of a package of the image's own architecture
    /// asks for.
    fn satisfies(&self, wanted: &Relation, native: &str) -> bool {
        let is_native = self.architecture == native || self.architecture == "all";
        let fits = match wanted.architecture.as_deref() {
            None | Some("native") => is_native || self.multi_arch == "foreign",
            Some("any") => self.multi_arch == "allowed",
            Some(other) => {
                self.architecture == other || (self.architecture == "all" && other == native)
            }
        };
        (fits && self.is_named(wanted)) || (is_native && self.provides(wanted))
    }

    /// Whether this is what a conflict speaks of.
    fn is_hit_by(&self, wanted: &Relation) -> bool {
        let other = wanted.architecture.as_deref().unwrap_or("any");
        let fits = matches!(other, "any" | "native") || self.architecture == other;
        fits && (self.is_named(wanted) || self.provides(wanted))
    }

    fn is_named(&self, wanted: &Relation) -> bool {
        self.name == wanted.name
            && wanted
                .version
                .as_ref()
                .is_none_or(|(operator, version)| operator.admits(&self.version, version))
    }

    /// A name that is provided without a version has none (deb-control(5)).
    fn provides(&self, wanted: &Relation) -> bool {
        relations(&self.relations.provides).any(|provided| {
            provided.name == wanted.name
                && match (&wanted.version, &provided.version) {
                    (None, _) => true,
                    (Some((operator, wanted)), Some((_, found))) => operator.admits(found, wanted),
                    (Some(_), None) => false,
                }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::deb::relation::parse;

    fn present(name: &str, version: &str, needs: &str, conflicts: &str, provides: &str) -> Present {
        Present {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            multi_arch: String::new(),
            relations: Relations {
                needs: parse(needs).expect("sound"),
                conflicts: parse(conflicts).expect("sound"),
                provides: parse(provides).expect("sound"),
            },
        }
    }

    fn texts(new: &[Present], installed: &[Present]) -> Vec<String> {
        let problems = problems(new, installed, "amd64");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn dependencies_are_met_by_names_versions_and_what_is_provided() {
        let base = [
            present("libc6", "2.36-9", "", "", ""),
            present("mawk", "1.3", "", "", "awk"),
            present("exim", "4", "", "", "mta (= 4.2)"),
        ];
        for met in [
            "libc6 (>= 2.34)",
            "gawk | awk",
            "awk",
            "mta (<< 5)",
            "other",
        ] {
            let new = [
                present("a", "1", met, "", ""),
                present("other", "1", "", "", ""),
            ];
            assert_eq!(texts(&new, &base), [""; 0], "{met}");
        }
        let new = [present(
            "a",
            "1",
            "libc6 (>= 2.37), awk (>= 1), python3:any",
            "",
            "",
        )];
        assert_eq!(
            texts(&new, &base),
            [
                "install the package a 1: it depends on libc6 (>= 2.37); libc6 is there in version 2.36-9",
                "install the package a 1: it depends on awk (>= 1); which neither the base nor the profile's packages have",
                "install the package a 1: it depends on python3:any; which neither the base nor the profile's packages have",
            ]
        );
    }

    #[test]
    fn conflicts_count_in_both_directions_and_not_against_oneself() {
        let base = [present("old", "1", "", "new (<< 2)", "")];
        assert_eq!(texts(&[present("new", "2", "", "", "")], &base), [""; 0]);
        assert_eq!(
            texts(&[present("new", "1", "", "", "")], &base),
            ["install packages: old 1 conflicts with new (<< 2), and new 1 is there"]
        );
        let new = [present("mta", "1", "", "mail-agent", "mail-agent")];
        assert_eq!(texts(&new, &[]), [""; 0], "its own name");
        let base = [present("exim", "4", "", "", "mail-agent")];
        assert_eq!(texts(&new, &base).len(), 1);
    }

    #[test]
    fn architectures_follow_the_rules_of_multiarch() {
        let mut python = present("python3", "3.11", "", "", "");
        python.multi_arch = "allowed".to_owned();
        let new = [present(
            "a",
            "1",
            "python3:any, python3, python3:amd64",
            "",
            "",
        )];
        assert_eq!(texts(&new, std::slice::from_ref(&python)), [""; 0]);
        python.architecture = "i386".to_owned();
        assert_eq!(texts(&new, &[python]).len(), 2);
    }
}
