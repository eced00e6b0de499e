//! The one error type of the library.
//!
//! An error says what was done to what (lower case, no full stop), why that
//! failed (`caused by`), where in the user's own text (`Place`), and what the
//! user can do (`hint`). Its [`Class`] decides the exit code of the command; the
//! mapping stands in `cli/`.

use std::fmt;

/// A `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure this is: the one property that callers act upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A defect of nodekiln.
    Internal,
    /// The user's input is wrong: profile, NodeConfig, image, arguments.
    Input,
    /// The input is sound but nodekiln does not support it.
    Unsupported,
    /// The machine lacks something: space, permission, a program.
    Environment,
    /// An input from elsewhere is wrong or gone: checksum, signature, 404.
    Dependency,
    /// Trying again may help: network and cloud errors, transient I/O.
    Transient,
    /// The image was made but does not pass a check.
    CheckFailed,
    /// The user stopped it.
    Interrupted,
}

/// A place in a text that the user wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// File name as the user gave it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The whole source line, without its end.
    pub source: String,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    class: Class,
    message: String,
    place: Option<Place>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    hint: Option<String>,
    others: Vec<Error>,
}

impl Error {
    /// An error of `class`; `message` says what was done to what.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            class,
            message: message.into(),
            place: None,
            cause: None,
            hint: None,
            others: Vec::new(),
        }))
    }

    /// Shorthand for [`Class::Input`].
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Class::Input, message)
    }

    /// Shorthand for [`Class::Unsupported`].
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Class::Unsupported, message)
    }

    /// Shorthand for [`Class::Environment`].
    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(Class::Environment, message)
    }

    /// Shorthand for [`Class::Dependency`].
    pub fn dependency(message: impl Into<String>) -> Self {
        Self::new(Class::Dependency, message)
    }

    /// Shorthand for [`Class::CheckFailed`].
    pub fn check_failed(message: impl Into<String>) -> Self {
        Self::new(Class::CheckFailed, message)
    }

    /// An I/O error on something of this machine, with the class that its kind
    /// asks for. One that carries an [`Error`] keeps the class, place and hint of
    /// that: readers and writers of `std` can only pass it on wrapped.
    pub fn io(message: impl Into<String>, cause: std::io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        let cause = match cause.downcast::<Self>() {
            Ok(carried) => return carried.context(message),
            Err(cause) => cause,
        };
        let (class, hint) = match cause.kind() {
            Kind::NotFound => (Class::Input, None),
            Kind::PermissionDenied => (
                Class::Environment,
                Some("check the owner and mode of the file and of its folders"),
            ),
            Kind::StorageFull | Kind::QuotaExceeded => (
                Class::Environment,
                Some("free some space, or choose another folder with --output or TMPDIR"),
            ),
            Kind::ReadOnlyFilesystem => (
                Class::Environment,
                Some("choose a folder that can be written, with --output or TMPDIR"),
            ),
            Kind::Interrupted => (Class::Interrupted, None),
            Kind::TimedOut
            | Kind::ConnectionReset
            | Kind::ConnectionRefused
            | Kind::ConnectionAborted => (Class::Transient, None),
            _ => (Class::Environment, None),
        };
        let error = Self::new(class, message).caused_by(cause);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// Adds why it failed.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Adds what the user can do; replaces an earlier hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds where in the user's text it is.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.0.place = Some(place);
        self
    }

    /// Puts a wider operation in front: the present error becomes its cause.
    /// Class, place and hint stay.
    #[must_use]
    pub fn context(mut self, message: impl Into<String>) -> Self {
        let class = self.0.class;
        let place = self.0.place.take();
        let hint = self.0.hint.take();
        let others = std::mem::take(&mut self.0.others);
        let mut outer = Self::new(class, message).caused_by(self);
        outer.0.place = place;
        outer.0.hint = hint;
        outer.0.others = others;
        outer
    }

    /// Adds further problems that were found in the same pass.
    #[must_use]
    pub fn and(mut self, others: Vec<Error>) -> Self {
        self.0.others.extend(others);
        self
    }

    /// The class.
    pub fn class(&self) -> Class {
        self.0.class
    }

    /// What was done to what.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Where in the user's text, if it is about one.
    pub fn place(&self) -> Option<&Place> {
        self.0.place.as_ref()
    }

    /// What the user can do.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Problems found in the same pass, in order.
    pub fn others(&self) -> &[Error] {
        &self.0.others
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.0.place {
            write!(
                formatter,
                "{}:{}:{}: ",
                place.file, place.line, place.column
            )?;
        }
        formatter.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0
            .cause
            .as_ref()
            .map(|cause| &**cause as &(dyn std::error::Error + 'static))
    }
}

/// Adds context to the error of any `Result` of this library or of `std::io`.
pub trait Context<T> {
    /// Says what was being done; `message` is only built on failure.
    fn doing(self, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn doing(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.context(message()))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn doing(self, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::io(message(), error))
    }
}
