//! The syntax of names, as those who own them define it.

use base64::Engine as _;

fn all(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(allowed)
}

fn lower_or_digit(letter: char) -> bool {
    letter.is_ascii_lowercase() || letter.is_ascii_digit()
}

/// A name that is safe as a folder and as a host name's part.
pub(super) fn is_profile_name(text: &str) -> bool {
    text.len() <= 63
        && all(text, |letter| {
            lower_or_digit(letter) || ".-".contains(letter)
        })
        && text.starts_with(lower_or_digit)
        && text.ends_with(lower_or_digit)
}

/// A name in a template.
pub(super) fn is_identifier(text: &str) -> bool {
    all(text, |letter| {
        letter.is_ascii_alphanumeric() || letter == '_'
    }) && !text.starts_with(|letter: char| letter.is_ascii_digit())
}

/// An https URL of a file; the error is the hint.
pub(super) fn https(url: &str) -> Result<(), &'static str> {
    if url.starts_with("http://") {
        return Err("http is refused: use https, or download the file and give its path");
    }
    let Some(rest) = url.strip_prefix("https://") else {
        return Err("begin it with https://; for a file on this machine use `path`");
    };
    if !url.is_ascii()
        || url
            .chars()
            .any(|letter| letter.is_ascii_control() || letter == ' ')
    {
        return Err("write spaces and other special characters as %XX");
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.contains('@') {
        return Err("a URL with a user or password is refused: it would end up in the lock");
    }
    if host.is_empty() || host.starts_with([':', '.']) {
        return Err("name the host after https://");
    }
    let file = path.split(['?', '#']).next().unwrap_or_default();
    if file.is_empty() || file.ends_with('/') {
        return Err("name the file at the end of the URL");
    }
    Ok(())
}

/// An OpenPGP fingerprint, with or without spaces.
pub(super) fn is_fingerprint(text: &str) -> bool {
    let digits: String = text.split_whitespace().collect();
    (digits.len() == 40 || digits.len() == 64)
        && digits.chars().all(|letter| letter.is_ascii_hexdigit())
}

/// A Debian release.
pub(super) fn is_suite(text: &str) -> bool {
    all(text, |letter| lower_or_digit(letter) || letter == '-')
        && text.starts_with(|letter: char| letter.is_ascii_lowercase())
}

/// A Debian package, as apt takes it: `NAME` or `NAME=VERSION`
/// (Debian Policy 5.6.1 and 5.6.12). apt would read a `-` at the end as 'remove';
/// a `+` there means 'install', as it should.
pub(crate) fn is_package(text: &str) -> bool {
    let (name, version) = text.split_once('=').unwrap_or((text, "0"));
    name.len() >= 2
        && all(name, |letter| {
            lower_or_digit(letter) || "+-.".contains(letter)
        })
        && name.starts_with(lower_or_digit)
        && all(version, |letter| {
            letter.is_ascii_alphanumeric() || "+-.:~".contains(letter)
        })
        && version.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        && !text.ends_with('-')
}

/// A full version: three plain numbers.
pub(super) fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    parts.len() == 3
        && parts.iter().all(|part| {
            all(part, |letter| letter.is_ascii_digit())
                && part.len() <= 6
                && (part.len() == 1 || !part.starts_with('0'))
        })
}

/// A date, `YYYY-MM-DD`.
pub(super) fn is_date(text: &str) -> bool {
    let shape = text.len() == 10
        && text.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let number = |range: std::ops::Range<usize>| {
        text.get(range)
            .and_then(|part| part.parse::<u32>().ok())
            .unwrap_or(0)
    };
    shape && (1..=12).contains(&number(5..7)) && (1..=31).contains(&number(8..10))
}

/// A user or group name that every tool of shadow-utils takes.
pub(super) fn is_login_name(text: &str) -> bool {
    text.len() <= 32
        && all(text, |letter| {
            lower_or_digit(letter) || "_-".contains(letter)
        })
        && text.starts_with(|letter: char| letter.is_ascii_lowercase() || letter == '_')
}

const UNIT_TYPES: [&str; 8] = [
    "service",
    "socket",
    "target",
    "timer",
    "path",
    "mount",
    "automount",
    "swap",
];

/// A unit's name (systemd.unit(5)); the error is the hint.
pub(super) fn unit(text: &str) -> Result<(), String> {
    let legal = |letter: char| letter.is_ascii_alphanumeric() || ":-_.\\@".contains(letter);
    let Some((stem, kind)) = text.rsplit_once('.') else {
        return Err(if all(text, legal) {
            format!("write the whole name, such as {text}.service")
        } else {
            "a unit's name has letters, digits and any of :-_.\\@".to_owned()
        });
    };
    if !UNIT_TYPES.contains(&kind) {
        return Err(if all(text, legal) {
            format!("end it with .service, such as {text}.service, or with another type of unit")
        } else {
            "a unit's name has letters, digits and any of :-_.\\@".to_owned()
        });
    }
    if !all(stem, legal) || stem.starts_with('@') || stem.matches('@').count() > 1 {
        return Err(
            "a unit's name has letters, digits, any of :-_.\\ and at most one @".to_owned(),
        );
    }
    if text.len() > 255 {
        return Err("a unit's name has at most 255 characters".to_owned());
    }
    Ok(())
}

/// A kernel module.
pub(super) fn is_module(text: &str) -> bool {
    text.len() <= 55
        && all(text, |letter| {
            letter.is_ascii_alphanumeric() || "_-".contains(letter)
        })
        && !text.starts_with('-')
}

/// A kernel setting, with `.` or `/` between its parts (sysctl.d(5)).
pub(super) fn is_sysctl(text: &str) -> bool {
    text.contains(['.', '/'])
        && all(text, |letter| {
            letter.is_ascii_alphanumeric() || "._-/*@:".contains(letter)
        })
        && text.starts_with(|letter: char| letter.is_ascii_lowercase())
        && !text.ends_with(['.', '/'])
        && !text.contains("..")
        && !text.contains("//")
}

/// An argument of the kernel that needs no quotes anywhere on its way: in
/// `/etc/default/grub` (a shell script) and in `grub.cfg`. In front of a name
/// that is to be removed stands a `-`.
pub(crate) fn is_kernel_argument(text: &str) -> bool {
    let name = text.strip_prefix('-').unwrap_or(text);
    text.len() <= 1024
        && all(name, |letter| {
            letter.is_ascii_graphic() && !"\"'`$\\;&|<>(){}*?#".contains(letter)
        })
        && !name.starts_with(['-', '='])
}

/// An OpenSSH public key: `TYPE BASE64 [COMMENT]`; the error is the hint. The
/// text itself never goes into a message.
pub(super) fn ssh_key(text: &str) -> Result<(), &'static str> {
    if text.contains("PRIVATE KEY") {
        return Err(
            "this is a private key: take it out of the file, and give the .pub file's line",
        );
    }
    if text.trim_end().chars().any(char::is_control) {
        return Err("write the key in one line");
    }
    let mut words = text.split_whitespace();
    let (Some(kind), Some(body)) = (words.next(), words.next()) else {
        return Err("a public key is a type, base64 and a comment: the line of the .pub file");
    };
    let known = kind == "ssh-ed25519"
        || kind == "ssh-rsa"
        || kind.starts_with("ecdsa-sha2-nistp")
        || (kind.starts_with("sk-") && kind.ends_with("@openssh.com"));
    if !known {
        return Err(
            "the first word is the type: ssh-ed25519, ssh-rsa, ecdsa-sha2-nistp256, sk-...; \
             options in front of it are not supported",
        );
    }
    let blob = base64::engine::general_purpose::STANDARD
        .decode(body)
        .map_err(|_| "the second word is no base64: was the key cut off?")?;
    // RFC 4253 6.6: the blob begins with the type, as a string with its length.
    let (length, rest) = blob
        .split_first_chunk::<4>()
        .ok_or("the key is too short: was it cut off?")?;
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if rest.get(..length) != Some(kind.as_bytes()) || rest.len() < length + 32 {
        return Err("the key is not of the type that its first word names, or it was cut off");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A well-formed ed25519 public key of 32 zero bytes.
    pub(in super::super) const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA you@here";

    #[test]
    fn names() {
        for good in ["a", "debian-12-demo", "al2023.x86"] {
            assert!(is_profile_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "A", "-a", "a-", "é", &"a".repeat(64)] {
            assert!(!is_profile_name(bad), "{bad}");
        }
        assert!(is_version("1.34.4") && is_version("1.30.14"));
        for bad in [
            "1.34",
            "v1.34.4",
            "1.34.4-rc.0",
            "1.034.4",
            "1..4",
            "1.34.4 ",
        ] {
            assert!(!is_version(bad), "{bad}");
        }
        assert!(is_date("2026-07-05"));
        for bad in [
            "2026-7-5",
            "2026-13-01",
            "2026-00-10",
            "20260705",
            "2026-07-05x",
            "２０26-07-0",
        ] {
            assert!(!is_date(bad), "{bad}");
        }
        assert!(is_package("libc6") && is_package("containerd=1.6.20~ds1-1+b1"));
        assert!(is_package("g++"));
        for bad in [
            "",
            "-f",
            "a b",
            "a,b",
            "A",
            "x=",
            "a;b",
            "--allow",
            "runc-",
            "?essential",
        ] {
            assert!(!is_package(bad), "{bad}");
        }
    }

    #[test]
    fn units() {
        for good in [
            "a.service",
            "getty@tty1.service",
            "dev-sda.swap",
            "x@.timer",
            "a.b.socket",
        ] {
            assert_eq!(unit(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "ssh",
            "a.conf",
            "../a.service",
            "a b.service",
            "@.service",
            ".service",
            "a@b@c.service",
        ] {
            assert!(unit(bad).is_err(), "{bad}");
        }
        assert!(unit("ssh").expect_err("bare").contains("ssh.service"));
    }

    #[test]
    fn kernel() {
        assert!(is_module("br_netfilter") && !is_module("a b") && !is_module("../x"));
        assert!(is_sysctl("net.ipv4.conf.eth0/1.rp_filter") && is_sysctl("vm/swappiness"));
        for bad in ["", "net", "net.", "a b.c", "../etc.x", "a..b", "A.b"] {
            assert!(!is_sysctl(bad), "{bad}");
        }
        for good in [
            "quiet",
            "-quiet",
            "console=ttyS0,115200n8",
            "root=UUID=1-2",
            "a.b=c:d",
        ] {
            assert!(is_kernel_argument(good), "{good}");
        }
        for bad in [
            "", "-", "a b", "a\nb", "a=\"b\"", "$(x)", "--", "a;b", "=x", "a=(b)", "a=*", "a?",
        ] {
            assert!(!is_kernel_argument(bad), "{bad}");
        }
    }

    #[test]
    fn urls() {
        assert_eq!(https("https://example.org/a/b.img?x=1"), Ok(()));
        for bad in [
            "http://example.org/a",
            "https://",
            "https://host",
            "https://host/",
            "ftp://h/a",
            "/a",
            "https://u:p@h/a",
            "https://h/a b",
            "https://h/é",
            "https:///a",
            "https://h/a/?x",
        ] {
            assert!(https(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys() {
        assert_eq!(ssh_key(KEY), Ok(()));
        for bad in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            "ssh-dss AAAA x",
            "ssh-ed25519 ???",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "no-pty ssh-ed25519 AAAA",
            "ssh-rsa a\nssh-rsa b",
        ] {
            assert!(ssh_key(bad).is_err(), "{bad}");
        }
        assert!(ssh_key(&KEY.replace("ssh-ed25519", "ssh-rsa")).is_err());
    }
}
