//! What a check found that is not as it has to be. A test that relies on it unwraps it,
//! one that breaks something on purpose reads what it says.

use std::error::Error;
use std::fmt::{self, Debug, Display};

/// What is not as it has to be, for people.
///
/// `Debug` says it in the same words, so that a test which fails by it can be read.
#[derive(Clone, PartialEq, Eq)]
pub struct Unmet(String);

/// What a check gives.
pub type Met<T = ()> = Result<T, Unmet>;

impl Unmet {
    /// Says what it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Adds what may explain it, each on a line of its own.
    #[must_use]
    pub fn with(mut self, explanations: impl IntoIterator<Item = String>) -> Self {
        for explanation in explanations {
            self.0.push('\n');
            self.0 += &explanation;
        }
        self
    }
}

impl Display for Unmet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Debug for Unmet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, formatter)
    }
}

impl Error for Unmet {}

/// Met where `is_so`; else `text` says what is not.
pub fn must(is_so: bool, text: impl FnOnce() -> String) -> Met {
    if is_so { Ok(()) } else { Err(Unmet(text())) }
}

/// Met where `what` is as `wanted`.
pub fn equal<F, W>(what: &str, found: F, wanted: W) -> Met
where
    F: PartialEq<W> + Debug,
    W: Debug,
{
    must(found == wanted, || {
        format!("{what}: {found:?} instead of {wanted:?}")
    })
}
