//! A program to run, as a value.

use std::fmt;
use std::time::Duration;

/// Stands where a secret would.
const HIDDEN: &str = "(hidden)";

/// An argument of a program.
#[derive(Clone, PartialEq, Eq)]
pub struct Argument {
    value: String,
    is_secret: bool,
}

impl Argument {
    /// What the program gets. Never to be shown; see [`Task::line`].
    pub(super) fn value(&self) -> &str {
        &self.value
    }
}

// By hand, so that no log or panic message can hold a secret.
impl fmt::Debug for Argument {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.shown())
    }
}

impl Argument {
    fn shown(&self) -> &str {
        if self.is_secret { HIDDEN } else { &self.value }
    }
}

/// A program to run: with no input, an environment of `PATH`, `LANG` and what is
/// given here, and a time limit.
#[derive(Clone, PartialEq, Eq)]
pub struct Task {
    /// Name, looked up in the system's folders, or path.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// Variables that it gets besides, by name. Never shown: a proxy may have a
    /// password.
    pub variables: Vec<(String, String)>,
    /// The time it has.
    pub limit: Duration,
    /// How much of each of its outputs is kept, in bytes; the rest is thrown away.
    pub most: usize,
}

impl Task {
    /// What is kept of an output unless more is asked for, in bytes.
    const KEPT: usize = 64 << 10;

    /// A program with its arguments.
    pub fn new(program: &str, arguments: &[&str], limit: Duration) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            variables: Vec::new(),
            limit,
            most: Self::KEPT,
        }
        .and(arguments)
    }

    /// The same task, of whose outputs this many bytes are kept.
    #[must_use]
    pub fn keeping(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    /// The same task with more arguments.
    #[must_use]
    pub fn and(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|value| Argument {
                value: (*value).into(),
                is_secret: false,
            }));
        self
    }

    /// The same task with an argument that must never be shown. Everybody on the
    /// machine can see it while the program runs: only for programs that take it in
    /// no other way.
    #[must_use]
    pub fn and_secret(mut self, value: &str) -> Self {
        self.arguments.push(Argument {
            value: value.into(),
            is_secret: true,
        });
        self
    }

    /// The same task with one more variable.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// The command line for people, without what is secret.
    pub fn line(&self) -> String {
        let mut line = self.program.clone();
        for argument in &self.arguments {
            line.push(' ');
            line.push_str(argument.shown());
        }
        line
    }

    /// A text of the program's own without the secrets that it may repeat.
    pub fn hide(&self, text: String) -> String {
        let secrets = self.arguments.iter().filter(|it| it.is_secret);
        secrets
            .filter(|secret| !secret.value.is_empty())
            .fold(text, |text, secret| text.replace(&secret.value, HIDDEN))
    }

    /// A text of the program's own that only people read: without the secrets that it
    /// may repeat, the passwords of proxies among them, which need not stand in a URL.
    pub fn for_people(&self, text: String) -> String {
        let with_user = |(_, value): &'_ (String, String)| {
            let (before, _) = value.rsplit_once('@')?;
            let user = before.split_once("://").map_or(before, |(_, user)| user);
            user.contains(':').then(|| user.to_owned())
        };
        let users = self.variables.iter().filter_map(with_user);
        let text = users.fold(self.hide(text), |text, user| text.replace(&user, HIDDEN));
        without_users(&text)
    }
}

/// A text for people in which no URL has a user and a password. A password may hold
/// what no URL may, and an error says just that: all from the scheme to the last `@`
/// of the word goes.
fn without_users(text: &str) -> String {
    let mut parts = text.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str("://");
        let word = part.split(char::is_whitespace).next().unwrap_or_default();
        let end = word.rfind('@').unwrap_or_default();
        if end > 0 {
            shown.push_str(HIDDEN);
        }
        shown.push_str(&part[end..]);
    }
    shown
}

impl fmt::Debug for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Task")
            .field("line", &self.line())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_argument_is_shown_nowhere() {
        let task = Task::new("agent", &["-code"], Duration::from_secs(1))
            .and_secret("s3cr3t")
            .and(&["-id", "1"])
            .with_variable("HTTPS_PROXY", "http://me:s3cr3t@proxy");
        assert_eq!(task.line(), "agent -code (hidden) -id 1");
        assert!(!format!("{task:?}{:?}", task.arguments).contains("s3cr3t"));
        assert_eq!(
            task.hide("code s3cr3t is wrong: s3cr3t".into()),
            "code (hidden) is wrong: (hidden)"
        );
        assert_eq!(task.arguments[1].value(), "s3cr3t");
        let empty = Task::new("agent", &[], Duration::from_secs(1)).and_secret("");
        assert_eq!(empty.hide("text".into()), "text");
    }

    #[test]
    fn a_proxy_without_a_scheme_is_told_without_its_password() {
        let task = Task::new("helper", &[], Duration::from_secs(1))
            .with_variable("HTTPS_PROXY", "me:s3cr3t@proxy:3128")
            .with_variable("NO_PROXY", "")
            .with_variable("HTTP_PROXY", "me@proxy:3128");
        let said = "proxyconnect: me:s3cr3t@proxy:3128: refused".to_owned();
        let told = task.for_people(said);
        assert_eq!(told, "proxyconnect: (hidden)@proxy:3128: refused");
    }

    #[test]
    fn users_and_passwords_of_urls_are_not_shown() {
        for (text, shown) in [
            ("", ""),
            ("no such host", "no such host"),
            (
                "Get \"https://a.example/b?c=d\": EOF",
                "Get \"https://a.example/b?c=d\": EOF",
            ),
            (
                "proxy http://me:s3cr3t@proxy:3128 and https://me@b/c d@e",
                "proxy http://(hidden)@proxy:3128 and https://(hidden)@b/c d@e",
            ),
            (
                "parse \"http://me:s3/cr@3t@proxy\": invalid port",
                "parse \"http://(hidden)@proxy\": invalid port",
            ),
        ] {
            assert_eq!(without_users(text), shown);
        }
    }
}
