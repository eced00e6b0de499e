//! Traces of who made the base, and how.

use super::{Finding, Remedy, all, homes, present, remove, within};
use crate::error::Result;
use crate::os::Tree;
use crate::os::tree::fixed;
use crate::volume::Kind;

/// Logs that programs expect to exist are emptied; journals and what rotation
/// left behind go.
pub fn logs(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = within(tree, "/var/log/journal", all)?;
    let folder = tree.resolve(&fixed("/var/log"))?;
    let mut folders = vec![(folder, 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in tree.list(&folder)? {
            let path = folder.join(&entry.name)?;
            match entry.kind {
                Kind::Directory if entry.name == b"journal" || entry.name == b"installer" => {}
                Kind::Directory if depth < 4 => folders.push((path, depth + 1)),
                Kind::File if is_rotated(&entry.name) => findings.push(remove(path)),
                Kind::File if tree.metadata(&path)?.is_some_and(|found| found.size > 0) => {
                    findings.push(Finding {
                        path,
                        remedy: Remedy::Write(String::new()),
                    });
                }
                _ => {}
            }
        }
    }
    Ok(findings)
}

fn is_rotated(name: &[u8]) -> bool {
    let ends_in_number = name
        .rsplit(|byte| *byte == b'.')
        .next()
        .is_some_and(|end| end.len() < name.len() && end.iter().all(u8::is_ascii_digit));
    ends_in_number
        || [&b".gz"[..], b".xz", b".old"]
            .iter()
            .any(|end| name.ends_with(end))
}

pub fn history(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    const NAMES: [&str; 9] = [
        ".bash_history",
        ".zsh_history",
        ".ash_history",
        ".sh_history",
        ".python_history",
        ".lesshst",
        ".viminfo",
        ".wget-hsts",
        ".ssh/known_hosts",
    ];
    let mut findings = Vec::new();
    for home in homes(tree)? {
        for name in NAMES {
            let path = name
                .split('/')
                .try_fold(home.clone(), |path, step| path.join(step))?;
            let path = tree.resolve_parent(&path)?;
            if tree.metadata(&path)?.is_some() {
                findings.push(remove(path));
            }
        }
    }
    Ok(findings)
}

pub fn package_caches(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = within(tree, "/var/lib/apt/lists", |name| {
        name != b"lock" && name != b"partial" && name != b"auxfiles"
    })?;
    findings.extend(within(tree, "/var/cache/apt", |name| {
        name.ends_with(b".bin")
    })?);
    findings.extend(within(tree, "/var/cache/apt/archives", |name| {
        name.ends_with(b".deb")
    })?);
    findings.extend(within(tree, "/var/cache/dnf", all)?);
    Ok(findings)
}

pub fn temporary_files(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = within(tree, "/tmp", all)?;
    findings.extend(within(tree, "/var/tmp", all)?);
    Ok(findings)
}

pub fn installer(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = within(tree, "/var/log/installer", all)?;
    findings.extend(present(
        tree,
        &[
            "/root/anaconda-ks.cfg",
            "/root/original-ks.cfg",
            "/var/log/anaconda",
            // The first one has the hashes of passwords, and a list of data sources
            // by which cloud-init finds none.
            "/etc/cloud/cloud.cfg.d/99-installer.cfg",
            "/etc/cloud/cloud.cfg.d/90-installer-network.cfg",
            "/etc/cloud/cloud.cfg.d/subiquity-disable-cloudinit-networking.cfg",
        ],
    )?);
    Ok(findings)
}

/// Mailboxes: cron and the installer write to root's.
pub fn mail(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let folder = tree.resolve(&fixed("/var/mail"))?;
    let folder = match tree.metadata(&folder)? {
        Some(_) => folder,
        None => tree.resolve(&fixed("/var/spool/mail"))?,
    };
    let mut findings = Vec::new();
    for entry in tree.list(&folder)? {
        let path = folder.join(&entry.name)?;
        if tree.metadata(&path)?.is_some_and(|found| found.size > 0) && entry.kind == Kind::File {
            findings.push(remove(path));
        }
    }
    Ok(findings)
}

/// What systemd-coredump, kdump and apport keep, and what the kernel itself writes
/// by its default pattern (core(5)).
pub fn crash_dumps(tree: &mut dyn Tree) -> Result<Vec<Finding>> {
    let mut findings = within(tree, "/var/lib/systemd/coredump", all)?;
    findings.extend(within(tree, "/var/crash", all)?);
    let mut folders = homes(tree)?;
    folders.push(fixed("/"));
    for folder in folders {
        for entry in tree.list(&folder)? {
            if entry.kind == Kind::File && is_core(&entry.name) {
                findings.push(remove(folder.join(&entry.name)?));
            }
        }
    }
    Ok(findings)
}

/// `core`, or `core.PID`.
fn is_core(name: &[u8]) -> bool {
    match name.strip_prefix(b"core") {
        Some([]) => true,
        Some([b'.', number @ ..]) => !number.is_empty() && number.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::hygiene::tests::{image, paths};

    #[test]
    fn dumps_and_mail_are_found_and_files_of_like_names_are_not() {
        let mut image = image(&[
            ("/core.1234", "x"),
            ("/root/core", "x"),
            ("/root/core.txt", "x"),
            ("/var/crash/x/vmcore", "x"),
            ("/var/lib/systemd/coredump/core.sh.0.zst", "x"),
            ("/var/spool/mail/root", "From root\n"),
            ("/var/spool/mail/ubuntu", ""),
        ]);
        let mut findings = crash_dumps(&mut image).expect("readable");
        findings.extend(mail(&mut image).expect("readable"));
        assert_eq!(
            paths(&findings),
            [
                "/core.1234",
                "/root/core",
                "/var/crash/x",
                "/var/lib/systemd/coredump/core.sh.0.zst",
                "/var/spool/mail/root",
            ]
        );
    }
}
