//! Package sources: those of the machine itself, for the release that is asked
//! for.
//!
//! No mirror is named in this program. What the machine's apt is configured with
//! is what its administrator trusts and can reach.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use crate::error::{Context as _, Error, Result};
use crate::task::Task;

/// Suffixes of the suites that belong to a release.
const POCKETS: [&str; 3] = ["", "-updates", "-security"];
/// Releases that have no pockets.
const ROLLING: [&str; 2] = ["sid", "unstable"];
/// Bytes read of one configuration file.
const LIMIT: u64 = 1 << 20;

/// One archive of packages.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    uri: String,
    suite: String,
    components: Vec<String>,
    signed_by: Option<String>,
}

/// The proxies that apt of this machine is told to use, for another apt.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Proxies {
    /// Variables of the environment, which others cannot read: a proxy may be
    /// given with user and password. A file would not do: the users of a
    /// namespace cannot read what only its owner can.
    pub(super) variables: Vec<(&'static str, String)>,
    /// What no variable can say: proxies of single hosts, as options of apt.
    pub(super) options: Vec<String>,
}

/// What apt of this machine says of proxies.
///
/// # Errors
/// [`crate::Class::Environment`] when apt cannot say it, and when the proxy of a
/// single host has a password, which would stand on a command line.
pub(super) fn proxies() -> Result<Proxies> {
    let dump = Task::new("apt-config")
        .args(["dump", "Acquire"])
        .output()
        .map_err(|error| error.context("ask apt of this machine for its proxies"))?;
    read_proxies(&String::from_utf8_lossy(&dump))
}

fn read_proxies(dump: &str) -> Result<Proxies> {
    let mut found = Proxies::default();
    for line in dump.lines() {
        let line = line.trim_end_matches(';');
        let Some((name, value)) = line.split_once(' ') else {
            continue;
        };
        let value = value.trim_matches('"');
        match name {
            _ if value.is_empty() => {}
            "Acquire::http::Proxy" => found.variables.push(("http_proxy", value.to_owned())),
            "Acquire::https::Proxy" => found.variables.push(("https_proxy", value.to_owned())),
            _ if name.starts_with("Acquire::http::Proxy::")
                || name.starts_with("Acquire::https::Proxy::") =>
            {
                if value.contains('@') {
                    return Err(Error::environment(
                        "use the proxies of apt: that of a single host holds a password, which \
                         others could read while packages are fetched",
                    )
                    .hint("name one proxy for all hosts: Acquire::http::Proxy"));
                }
                found.options.push(line.to_owned());
            }
            _ => {}
        }
    }
    Ok(found)
}

/// The machine's own sources for the Debian release `suite`, in the format of
/// `sources.list(5)` with fields (deb822).
///
/// # Errors
/// [`crate::Class::Environment`] when the machine has no sources of Debian.
pub(super) fn sources_for(suite: &str) -> Result<String> {
    let configuration = Path::new("/etc/apt");
    let release = read_if_there(Path::new("/etc/os-release"))?.unwrap_or_default();
    let own = codename(&release).ok_or_else(|| {
        Error::environment("find package sources: this machine does not say which release it runs")
            .hint("bootstrap on a Debian machine, or name an image with base.path or base.url")
    })?;
    let mut found = Vec::new();
    for (path, text) in read_configuration(configuration)? {
        let sources = if path.ends_with(".sources") {
            stanzas(&text)
        } else {
            lines(&text)
        };
        found.extend(sources);
    }
    derive(&found, &own, suite)
}

/// The files that apt reads, in its order.
fn read_configuration(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut paths = vec![folder.join("sources.list")];
    let parts = folder.join("sources.list.d");
    let doing = || format!("list {}", parts.display());
    match std::fs::read_dir(&parts) {
        Ok(entries) => {
            for entry in entries {
                paths.push(entry.doing(doing)?.path());
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io(doing(), error)),
    }
    paths.sort();
    let mut texts = Vec::new();
    for path in paths {
        let name = path.to_string_lossy().into_owned();
        // apt compares case, and passes over every other suffix.
        let suffix = path.extension().and_then(std::ffi::OsStr::to_str);
        if !matches!(suffix, Some("list" | "sources")) {
            continue;
        }
        if let Some(text) = read_if_there(&path)? {
            texts.push((name, text));
        }
    }
    Ok(texts)
}

/// The text of a file; `None` when there is none. One that cannot be read is not
/// the same as one that is not there.
fn read_if_there(path: &Path) -> Result<Option<String>> {
    let doing = || format!("read {}", path.display());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(doing(), error)),
    };
    let mut text = String::new();
    file.take(LIMIT + 1)
        .read_to_string(&mut text)
        .doing(doing)?;
    if text.len() as u64 > LIMIT {
        return Err(Error::environment(format!("{}: it is too large", doing())));
    }
    Ok(Some(text))
}

/// `VERSION_CODENAME` of os-release(5).
fn codename(release: &str) -> Option<String> {
    release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|value| value.trim().trim_matches('"').to_owned())
        .filter(|value| !value.is_empty())
}

/// Sources in the format of one line each.
fn lines(text: &str) -> Vec<Source> {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next()?.trim();
            let rest = line.strip_prefix("deb")?.trim_start_matches([' ', '\t']);
            let (options, rest) = match rest.strip_prefix('[') {
                Some(bracketed) => bracketed.split_once(']')?,
                None => ("", rest),
            };
            let mut words = rest.split_whitespace();
            let uri = words.next().filter(|uri| uri.contains(":/"))?;
            let signed_by = options
                .split_whitespace()
                .find_map(|option| option.strip_prefix("signed-by="));
            Some(Source {
                uri: uri.to_owned(),
                suite: words.next()?.to_owned(),
                components: words.map(ToOwned::to_owned).collect(),
                signed_by: signed_by.map(ToOwned::to_owned),
            })
        })
        .collect()
}

/// Sources in the format of stanzas with fields.
fn stanzas(text: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let without_comments: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in without_comments.split(|line| line.trim().is_empty()) {
        let fields = fields(stanza);
        let words = |name: &str| -> Vec<String> {
            fields
                .get(name)
                .map(|value| value.split_whitespace().map(ToOwned::to_owned).collect())
                .unwrap_or_default()
        };
        let off = fields
            .get("enabled")
            .is_some_and(|value| matches!(value.trim(), "no" | "false" | "off" | "0"));
        if off || !words("types").iter().any(|kind| kind == "deb") {
            continue;
        }
        for uri in words("uris") {
            for suite in words("suites") {
                found.push(Source {
                    uri: uri.clone(),
                    suite,
                    components: words("components"),
                    signed_by: fields
                        .get("signed-by")
                        .map(|value| value.trim_end().to_owned()),
                });
            }
        }
    }
    found
}

/// Fields by lower-case name; a line that begins with a blank goes on with the
/// field before it, which keeps its line breaks (keys may be embedded).
fn fields(stanza: &[&str]) -> BTreeMap<String, String> {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut last = None;
    for line in stanza {
        if line.starts_with([' ', '\t']) {
            if let Some(value) = last.as_ref().and_then(|name| fields.get_mut(name)) {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            let name = name.trim().to_ascii_lowercase();
            fields.insert(name.clone(), value.trim().to_owned());
            last = Some(name);
        }
    }
    fields
}

/// What is Debian's own among `found`, with the release `own` of the machine
/// replaced by `wanted`. Third parties name their suites otherwise or have no
/// component `main`.
fn derive(found: &[Source], own: &str, wanted: &str) -> Result<String> {
    let rolling = ROLLING.contains(&wanted);
    let mut text = String::new();
    for source in found {
        let pocket = POCKETS
            .iter()
            .find(|pocket| source.suite == format!("{own}{pocket}"));
        let Some(pocket) = pocket else { continue };
        if (rolling && !pocket.is_empty()) || !source.components.iter().any(|name| name == "main") {
            continue;
        }
        if source
            .uri
            .split_once("://")
            .and_then(|(_, rest)| rest.split('/').next())
            .is_some_and(|authority| authority.contains('@'))
        {
            return Err(Error::environment(
                "use the machine's package sources: one of them holds a password, which would end up in the image",
            )
            .hint("move user and password to a file in /etc/apt/auth.conf.d"));
        }
        write!(
            text,
            "Types: deb\nURIs: {}\nSuites: {wanted}{pocket}\nComponents: main\n",
            source.uri
        )
        .ok();
        if let Some(signed_by) = &source.signed_by {
            writeln!(text, "Signed-By: {signed_by}").ok();
        }
        text.push('\n');
    }
    if text.is_empty() {
        return Err(Error::environment(format!(
            "find package sources for {wanted}: apt of this machine has none of Debian {own}"
        ))
        .hint("bootstrap on a Debian machine, or name an image with base.path or base.url"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_no_empty_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = || read_configuration(folder.path());
        assert_eq!(read().expect("nothing is there"), []);
        std::fs::write(folder.path().join("sources.list"), [0xFF, 0xFE]).expect("writes");
        let error = read().expect_err("no text");
        assert!(error.to_string().contains("sources.list"), "{error}");
        std::fs::write(folder.path().join("sources.list"), "").expect("writes");
        assert_eq!(read().expect("an empty one").len(), 1);
        // What is no folder cannot be listed.
        std::fs::write(folder.path().join("sources.list.d"), "").expect("writes");
        let error = read().expect_err("no folder");
        assert!(error.to_string().contains("sources.list.d"), "{error}");
        assert!(read_if_there(folder.path()).is_err(), "a folder is no file");
    }

    const STANZAS: &str = "\
Types: deb deb-src
# an old mirror
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://third.example/apt
Suites: bookworm
Components: stable

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
";

    #[test]
    fn keeps_debian_and_changes_the_release() {
        let text = derive(&stanzas(STANZAS), "bookworm", "trixie").expect("found");
        assert_eq!(
            text,
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
             Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie-updates\nComponents: main\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
        );
        let text = derive(&stanzas(STANZAS), "bookworm", "sid").expect("found");
        assert_eq!(text.matches("Types:").count(), 1);
    }

    #[test]
    fn reads_lines_with_options() {
        let found = lines(
            "# deb http://a.example/debian bookworm main\n\
             deb [arch=amd64 signed-by=/k.gpg] http://b.example/debian bookworm-security main # x\n\
             deb-src http://b.example/debian bookworm main\n",
        );
        assert_eq!(
            found,
            [Source {
                uri: "http://b.example/debian".to_owned(),
                suite: "bookworm-security".to_owned(),
                components: vec!["main".to_owned()],
                signed_by: Some("/k.gpg".to_owned()),
            }]
        );
    }

    #[test]
    fn keeps_embedded_keys() {
        let found = stanzas(
            "Types: deb\nURIs: http://a.example\nSuites: x\nComponents: main\nSigned-By:\n -----BEGIN PGP\n .\n abc\n",
        );
        assert_eq!(
            found[0].signed_by.as_deref(),
            Some("\n -----BEGIN PGP\n .\n abc")
        );
    }

    #[test]
    fn proxies_with_passwords_stand_on_no_command_line() {
        let found = read_proxies(
            "Acquire \"\";\nAcquire::http::Proxy \"http://user:secret@p.example:3128\";\n\
             Acquire::https::Proxy \"\";\nAcquire::http::Proxy::a.example \"DIRECT\";\n",
        )
        .expect("read");
        let variable = ("http_proxy", "http://user:secret@p.example:3128".to_owned());
        assert_eq!(found.variables, [variable]);
        assert_eq!(
            found.options,
            ["Acquire::http::Proxy::a.example \"DIRECT\""]
        );
        let error = read_proxies("Acquire::http::Proxy::a.example \"http://u:secret@p\";\n")
            .expect_err("on a command line");
        assert!(!error.to_string().contains("secret"));
    }

    #[test]
    fn refuses_passwords_and_nothing() {
        let with_password = lines("deb http://user:secret@a.example/debian bookworm main");
        let error = derive(&with_password, "bookworm", "bookworm").expect_err("password");
        assert!(!error.to_string().contains("secret"));
        assert!(derive(&[], "bookworm", "bookworm").is_err());
    }
}
