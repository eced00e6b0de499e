//! `file_contexts.subs` and `file_contexts.subs_dist`: paths that are labelled
//! as others (selabel_file(5)).

use std::borrow::Cow;

/// Most lines of one file that are taken; a distribution has some dozens.
const LINES: usize = 4096;

/// Prefixes and what stands for them.
#[derive(Debug, Default)]
pub struct Substitutions {
    local: Vec<Substitution>,
    distribution: Vec<Substitution>,
}

#[derive(Debug)]
struct Substitution {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Substitutions {
    /// Takes `file_contexts.subs`, the administrator's.
    pub fn local(&mut self, text: &[u8]) {
        self.local = parse(text);
    }

    /// Takes `file_contexts.subs_dist`, the distribution's.
    pub fn distribution(&mut self, text: &[u8]) {
        self.distribution = parse(text);
    }

    /// The path under which the label of `path` is looked up: one substitution
    /// of the administrator, then one of the distribution.
    pub fn apply<'a>(&self, path: &'a [u8]) -> Cow<'a, [u8]> {
        let local = substitute(&self.local, path);
        let start = local.as_deref().unwrap_or(path);
        match substitute(&self.distribution, start).or(local) {
            Some(other) => Cow::Owned(other),
            None => Cow::Borrowed(path),
        }
    }
}

/// Two words a line. A line that is not so is passed over, as libselinux does.
fn parse(text: &[u8]) -> Vec<Substitution> {
    let mut found: Vec<Substitution> = text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let mut words = line
                .split(|byte| byte.is_ascii_whitespace() || *byte == 0x0b)
                .filter(|word| !word.is_empty());
            let (from, to) = (words.next()?, words.next()?);
            (from[0] != b'#').then(|| Substitution {
                from: from.to_vec(),
                to: to.to_vec(),
            })
        })
        .take(LINES)
        .collect();
    // libselinux puts each line in front of those before it.
    found.reverse();
    found
}

/// The first that fits: the whole path, or whole components at its beginning.
fn substitute(list: &[Substitution], path: &[u8]) -> Option<Vec<u8>> {
    list.iter().find_map(|it| {
        let rest = path.strip_prefix(it.from.as_slice())?;
        match rest.first() {
            None => Some(it.to.clone()),
            Some(b'/') if it.to == b"/" => Some(rest.to_vec()),
            Some(b'/') => Some([it.to.as_slice(), rest].concat()),
            Some(_) => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(local: &str, distribution: &str, path: &str) -> String {
        let mut substitutions = Substitutions::default();
        substitutions.local(local.as_bytes());
        substitutions.distribution(distribution.as_bytes());
        String::from_utf8(substitutions.apply(path.as_bytes()).into_owned()).expect("UTF-8")
    }

    #[test]
    fn whole_components_alone_are_replaced() {
        let subs = "# comment\n\n/run /var/run\nhalf\n  /srv\t/var  more\n";
        assert_eq!(applied("", subs, "/run"), "/var/run");
        assert_eq!(applied("", subs, "/run/x"), "/var/run/x");
        assert_eq!(applied("", subs, "/running"), "/running");
        assert_eq!(applied("", subs, "/srv/a"), "/var/a");
        assert_eq!(applied("", subs, "/a/run/x"), "/a/run/x");
    }

    #[test]
    fn the_last_line_that_fits_counts() {
        let subs = "/lib /usr/lib\n/lib/systemd /etc/systemd\n";
        assert_eq!(applied("", subs, "/lib/systemd/x"), "/etc/systemd/x");
        let subs = "/lib/systemd /etc/systemd\n/lib /usr/lib\n";
        assert_eq!(applied("", subs, "/lib/systemd/x"), "/usr/lib/systemd/x");
    }

    #[test]
    fn the_distributions_come_after_the_administrators_once() {
        assert_eq!(
            applied("/a /lib\n", "/lib /usr/lib\n", "/a/x"),
            "/usr/lib/x"
        );
        assert_eq!(applied("/lib /a\n", "/b /lib\n", "/b/x"), "/lib/x");
        assert_eq!(applied("", "/a /b\n/b /c\n", "/a/x"), "/b/x");
    }

    #[test]
    fn the_root_takes_no_second_slash() {
        assert_eq!(applied("/sysroot /\n", "", "/sysroot/etc"), "/etc");
        assert_eq!(applied("/sysroot /\n", "", "/sysroot"), "/");
        assert_eq!(applied("/chroot /a/\n", "", "/chroot/etc"), "/a//etc");
    }
}
