//! Who gets into a machine, and becomes root there.

use super::{Finding, Remedy, homes, remove};
use crate::error::Result;
use crate::image_path::ImagePath;
use crate::os::Tree;
use crate::os::tree::fixed;
use crate::volume::Kind;

/// Every private key begins with a line `-----BEGIN ... PRIVATE KEY-----`,
/// whatever its file is called.
pub fn ssh_keys(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const KEY: &[u8] = b"PRIVATE KEY-----";
    let mut findings = Vec::new();
    for home in homes(tree)? {
        let folder = tree.resolve(&home.join(".ssh")?)?;
        for entry in tree.list(&folder)? {
            if entry.kind != Kind::File {
                continue;
            }
            let path = folder.join(&entry.name)?;
            let head = tree.read_head(&path, 64)?;
            if head.starts_with(BEGIN) && head.windows(KEY.len()).any(|part| part == KEY) {
                findings.push(remove(path));
            }
        }
    }
    Ok(findings)
}

pub fn authorized_keys(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for home in homes(tree)? {
        for name in ["authorized_keys", "authorized_keys2"] {
            let path = tree.resolve_parent(&home.join(".ssh")?.join(name)?)?;
            if tree.metadata(&path)?.is_some_and(|found| found.size > 0) {
                findings.push(remove(path));
            }
        }
    }
    Ok(findings)
}

/// Digests of passwords, and accounts that need none: `!` or `*` before it, or
/// alone, lets nobody in (shadow(5)). The backups that the tools of accounts leave
/// have the digests of before.
pub fn passwords(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (path, is_backup) in [
        ("/etc/shadow", false),
        ("/etc/passwd", false),
        ("/etc/shadow-", true),
        ("/etc/passwd-", true),
    ] {
        let path = tree.resolve_parent(&fixed(path))?;
        let Some(text) = text_of_file(tree, &path)? else {
            continue;
        };
        let locked = locked(&text);
        if locked != text {
            let remedy = if is_backup {
                Remedy::Remove
            } else {
                Remedy::Edit(locked)
            };
            findings.push(Finding { path, remedy });
        }
    }
    Ok(findings)
}

/// The text of a file; none where there is something else, a link too.
fn text_of_file(tree: &mut dyn Tree, path: &ImagePath) -> Result<Option<String>> {
    match tree.metadata(path)? {
        Some(found) if found.kind == Kind::File => tree.read_text(path),
        _ => Ok(None),
    }
}

/// The lines of shadow or passwd with nobody let in by their second field. `x` in
/// passwd points to shadow; in shadow no password has that digest.
fn locked(text: &str) -> String {
    let lock = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let (digest, rest) = rest.split_once(':')?;
        let lets_in = !digest.starts_with(['!', '*']) && digest != "x";
        // NIS's lines have no name of a user, and no password.
        let is_account = !name.is_empty() && !name.starts_with(['+', '-', '#']);
        (lets_in && is_account).then(|| format!("{name}:!:{rest}"))
    };
    text.split_inclusive('\n')
        .map(|line| lock(line).unwrap_or_else(|| line.to_owned()))
        .collect()
}

/// Rules of sudoers(5) that let somebody run everything as root unasked. Pipelines
/// make them for themselves, and cloud-init for its user, which it does again.
pub fn sudo(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    // Without this file sudo does nothing at all, so it stays whatever is left.
    let main = tree.resolve_parent(&fixed("/etc/sudoers"))?;
    let mut paths = vec![main.clone()];
    let folder = tree.resolve(&fixed("/etc/sudoers.d"))?;
    for entry in tree.list(&folder)? {
        paths.push(folder.join(&entry.name)?);
    }
    let mut findings = Vec::new();
    for path in paths {
        let Some(text) = text_of_file(tree, &path)? else {
            continue;
        };
        let rules = logical_lines(&text);
        if !rules.iter().any(|rule| gives_all(rule)) {
            continue;
        }
        let kept: String = rules
            .iter()
            .filter(|rule| !gives_all(rule))
            .copied()
            .collect();
        let is_empty = kept
            .lines()
            .all(|line| line.trim().is_empty() || is_comment(line));
        let is_main = path == main;
        let remedy = if is_empty && !is_main {
            Remedy::Remove
        } else {
            Remedy::Edit(kept)
        };
        findings.push(Finding { path, remedy });
    }
    Ok(findings)
}

/// The lines of a text; one that ends with a backslash goes on in the next.
fn logical_lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let (mut start, mut end) = (0, 0);
    for line in text.split_inclusive('\n') {
        end += line.len();
        if !line.trim_end_matches(['\r', '\n']).ends_with('\\') {
            lines.push(&text[start..end]);
            start = end;
        }
    }
    if start < end {
        lines.push(&text[start..]);
    }
    lines
}

/// `#1000` at the begin of a line is the user with that number, and no comment.
fn is_comment(line: &str) -> bool {
    let after = line.trim_start().strip_prefix('#');
    after.is_some_and(|after| !after.starts_with(|first: char| first.is_ascii_digit()))
}

/// Whether a line is a rule with the command `ALL` under the tag `NOPASSWD`.
fn gives_all(line: &str) -> bool {
    if is_comment(line) || line.trim_start().starts_with("Defaults") {
        return false;
    }
    let Some((_, commands)) = line.split_once("NOPASSWD") else {
        return false;
    };
    // A tag holds for the commands after it until its opposite.
    let mut unasked = commands
        .split(',')
        .take_while(|command| command.contains("NOPASSWD:") || !command.contains("PASSWD:"));
    unasked.any(|command| {
        // Behind its tags.
        let command = command.rsplit_once(':').map_or(command, |(_, last)| last);
        command.trim_matches(|letter: char| letter.is_whitespace() || letter == '\\') == "ALL"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::hygiene::tests::image;

    fn found(findings: Vec<Finding>) -> Vec<(String, Remedy)> {
        let pair = |finding: Finding| (finding.path.to_string(), finding.remedy);
        findings.into_iter().map(pair).collect()
    }

    #[test]
    fn passwords_are_locked_and_their_backups_go() {
        let shadow = "root:$6$salt$digest:19700:0:99999:7:::\n\
                      daemon:*:19700::::::\nlocked:!$6$s$d:1::::::\nopen::1::::::\n+::::::::\n";
        let mut image = image(&[
            ("/etc/shadow", shadow),
            ("/etc/shadow-", shadow),
            ("/etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
        ]);
        let locked = "root:!:19700:0:99999:7:::\n\
                      daemon:*:19700::::::\nlocked:!$6$s$d:1::::::\nopen:!:1::::::\n+::::::::\n";
        assert_eq!(
            found(passwords(&mut image).expect("readable")),
            [
                ("/etc/shadow".to_owned(), Remedy::Edit(locked.to_owned())),
                ("/etc/shadow-".to_owned(), Remedy::Remove),
            ]
        );
    }

    #[test]
    fn what_lets_nobody_in_by_a_password_is_no_finding() {
        let mut image = image(&[
            ("/etc/shadow", "root:*:1::::::\nubuntu:!:1::::::\n"),
            ("/etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
        ]);
        assert_eq!(passwords(&mut image).expect("readable"), []);
    }

    #[test]
    fn rules_that_give_everything_unasked_go_and_others_stay() {
        let sudoers = "Defaults env_reset\nroot ALL=(ALL:ALL) ALL\n\
                       # packer ALL=(ALL) NOPASSWD: ALL\n\
                       %wheel ALL=(ALL) \\\n    NOPASSWD: ALL\n@includedir /etc/sudoers.d\n";
        let mut image = image(&[
            ("/etc/sudoers", sudoers),
            (
                "/etc/sudoers.d/packer",
                "# of the pipeline\npacker ALL=(ALL) NOPASSWD:ALL\n",
            ),
            (
                "/etc/sudoers.d/1000",
                "#1000 ALL=(ALL) NOPASSWD: ALL\n#1001 ALL=/bin/b\n",
            ),
            (
                "/etc/sudoers.d/agent",
                "agent ALL=(root) NOPASSWD: /bin/ls, PASSWD: ALL\n",
            ),
            (
                "/etc/sudoers.d/tags",
                "x ALL=(ALL) NOPASSWD:SETENV: /bin/a, ALL\ny ALL=/bin/b\n",
            ),
        ]);
        let kept = "Defaults env_reset\nroot ALL=(ALL:ALL) ALL\n\
                    # packer ALL=(ALL) NOPASSWD: ALL\n@includedir /etc/sudoers.d\n";
        assert_eq!(
            found(sudo(&mut image).expect("readable")),
            [
                ("/etc/sudoers".to_owned(), Remedy::Edit(kept.to_owned())),
                (
                    "/etc/sudoers.d/1000".to_owned(),
                    Remedy::Edit("#1001 ALL=/bin/b\n".to_owned())
                ),
                ("/etc/sudoers.d/packer".to_owned(), Remedy::Remove),
                (
                    "/etc/sudoers.d/tags".to_owned(),
                    Remedy::Edit("y ALL=/bin/b\n".to_owned())
                ),
            ]
        );
    }

    #[test]
    fn sudos_own_file_stays_whatever_is_left_of_it() {
        let mut image = image(&[("/etc/sudoers", "u ALL=(ALL) NOPASSWD: ALL\n")]);
        let findings = found(sudo(&mut image).expect("readable"));
        let empty = Remedy::Edit(String::new());
        assert_eq!(findings, [("/etc/sudoers".to_owned(), empty)]);
    }
}
