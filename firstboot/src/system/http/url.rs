//! The URLs that first boot uses: a scheme, a host, a port, a path and a query.

/// Longest URL that is taken, in bytes.
const LONGEST: usize = 8192;

/// An `http` or `https` URL.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_debug_implementations)] // May hold a password.
pub struct Url {
    pub is_https: bool,
    /// A name, or an address without brackets.
    pub host: String,
    pub port: u16,
    /// Path and query as they are sent; begins with a slash.
    pub target: String,
    /// User and password, decoded.
    pub user: Option<(String, String)>,
}

impl Url {
    /// Reads a URL. What is wrong is said without repeating it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > LONGEST {
            return Err("it is too long");
        }
        if text.chars().any(|it| it.is_control() || it.is_whitespace()) || !text.is_ascii() {
            return Err("it holds blanks or characters that have to be encoded");
        }
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err("its scheme is neither http nor https"),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user_of(user)?), place),
            None => (None, authority),
        };
        let (host, port) = host_and_port(place)?;
        Ok(Self {
            is_https,
            host: host.to_ascii_lowercase(),
            port: port.unwrap_or(if is_https { 443 } else { 80 }),
            target: match target {
                "" => "/".into(),
                query if query.starts_with('?') => format!("/{query}"),
                path => path.into(),
            },
            user,
        })
    }

    /// Host and port as the `host` header has them: without the scheme's own port.
    pub fn authority(&self) -> String {
        let whole = authority(&self.host, self.port);
        let usual = if self.is_https { ":443" } else { ":80" };
        match whole.strip_suffix(usual) {
            Some(host) => host.to_owned(),
            None => whole,
        }
    }
}

/// A host and a port, with brackets around an address of IPv6.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Host without brackets, and the port if one is given.
pub(super) fn host_and_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or("a bracket is missing")?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err("there is no IPv6 address in its brackets");
        }
        match port {
            "" => (host, None),
            port => (
                host,
                Some(port.strip_prefix(':').ok_or("its port is wrong")?),
            ),
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() {
        return Err("it has no host");
    }
    let port = match port {
        None | Some("") => None,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err("its port is wrong"),
        },
    };
    Ok((host, port))
}

fn user_of(text: &str) -> Result<(String, String), &'static str> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    Ok((decoded(user)?, decoded(password)?))
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err("its user or password is wrongly encoded");
        };
        bytes.push((high * 16 + low) as u8);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| "its user or password is wrongly encoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> &'static str {
        Url::parse(text).err().unwrap()
    }

    #[test]
    fn parts_of_urls() {
        let url = Url::parse("https://eks.eu-central-1.amazonaws.com/clusters/a?b=c#d").ok();
        let url = url.unwrap();
        assert_eq!(url.authority(), "eks.eu-central-1.amazonaws.com");
        assert_eq!((url.port, url.target.as_str()), (443, "/clusters/a?b=c"));
        let url = Url::parse("HTTP://User:p%40ss@[FD00:EC2::254]:8080")
            .ok()
            .unwrap();
        assert_eq!(url.authority(), "[fd00:ec2::254]:8080");
        assert_eq!(url.user, Some(("User".into(), "p@ss".into())));
        assert_eq!(url.target, "/");
        assert_eq!(Url::parse("http://a?b").ok().unwrap().target, "/?b");
        assert_eq!(Url::parse("http://a:80").ok().unwrap().authority(), "a");
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_repeated() {
        assert_eq!(refused("host"), "it has no scheme");
        assert_eq!(refused("ftp://a"), "its scheme is neither http nor https");
        assert_eq!(refused("http://"), "it has no host");
        assert_eq!(refused("http://a:0"), "its port is wrong");
        assert_eq!(refused("http://a:66000"), "its port is wrong");
        assert_eq!(refused("http://[::1"), "a bracket is missing");
        assert!(refused("http://[x]").contains("no IPv6 address"));
        assert!(refused("http://a/\r\nx: y").contains("encoded"));
        assert!(refused("http://u:%zz@a").contains("wrongly encoded"));
        assert_eq!(
            refused(&format!("http://{}", "a".repeat(9000))),
            "it is too long"
        );
    }
}
