//! Which pins are to be found anew.

use std::collections::BTreeSet;

use crate::catalog;
use crate::error::{Error, Result};
use crate::profile::model::ComponentName;

/// What the packages are called together.
const PACKAGES: &str = "packages";

/// An input of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Input {
    /// The base image.
    Base,
    /// A component.
    Component(ComponentName),
    /// The packages, all of them.
    Packages,
}

impl Input {
    /// Its name on the command line and in messages.
    pub fn label(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Component(name) => catalog::component(name).label,
            Self::Packages => PACKAGES,
        }
    }
}

/// Which pins are to be found anew, although the profile asks for the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Upgrade {
    /// None: what is pinned stays.
    #[default]
    Nothing,
    /// All of them.
    All,
    /// These.
    Only(BTreeSet<Input>),
}

impl Upgrade {
    /// The inputs with these names (`base`, `packages`, or a component's); all without one.
    ///
    /// # Errors
    /// [`crate::Class::Input`] for another name.
    pub fn of_names<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut inputs = BTreeSet::new();
        for name in names {
            inputs.insert(input_of_name(name.as_ref())?);
        }
        Ok(if inputs.is_empty() {
            Self::All
        } else {
            Self::Only(inputs)
        })
    }

    /// Whether `input` is to be found anew.
    pub fn includes(&self, input: Input) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Only(inputs) => inputs.contains(&input),
        }
    }
}

fn input_of_name(name: &str) -> Result<Input> {
    if name == "base" {
        return Ok(Input::Base);
    }
    if name == PACKAGES {
        return Ok(Input::Packages);
    }
    if let Some(part) = catalog::component_of_label(name) {
        return Ok(Input::Component(part.name));
    }
    let known = || {
        let parts = catalog::ALL.iter().map(|part| part.label);
        ["base", PACKAGES].into_iter().chain(parts)
    };
    let hint = match crate::profile::nearest(name, known()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("there are: {}", known().collect::<Vec<_>>().join(", ")),
    };
    Err(Error::input(format!("upgrade '{name}': there is no such input")).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names() {
        let none: [&str; 0] = [];
        assert_eq!(Upgrade::of_names(none).expect("all"), Upgrade::All);
        let some = Upgrade::of_names(["base", "runc"]).expect("known");
        assert!(some.includes(Input::Base));
        assert!(some.includes(Input::Component(ComponentName::Runc)));
        assert!(!some.includes(Input::Component(ComponentName::Kubelet)));
        assert!(!Upgrade::Nothing.includes(Input::Base));
        let error = Upgrade::of_names(["kubelt"]).expect_err("unknown");
        assert_eq!(error.hint_text(), Some("did you mean 'kubelet'?"));
    }
}
