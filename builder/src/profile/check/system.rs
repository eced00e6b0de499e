//! Overlays, users, units and the kernel.

use std::collections::BTreeMap;

use super::super::model::{Profile, User};
use super::super::tree::shortened;
use super::{Problems, names};

pub(super) fn check(profile: &Profile, problems: &mut Problems) {
    overlays(profile, problems);
    users(profile, problems);
    services(profile, problems);
    kernel(profile, problems);
}

fn overlays(profile: &Profile, problems: &mut Problems) {
    let overlays = &profile.spec.overlays;
    for (index, overlay) in overlays.iter().enumerate() {
        let position = index.to_string();
        let path = ["spec", "overlays", position.as_str()];
        if overlay.as_os_str().is_empty() {
            problems.add(
                &path,
                "an overlay has no name",
                "name a shipped overlay, or a folder beside the profile",
            );
        } else if overlays[..index].contains(overlay) {
            problems.add(
                &path,
                format!("the overlay '{}' stands here twice", overlay.display()),
                "keep one of the two",
            );
        }
    }
}

/// The largest numeric identity that is a user's own: 65,534 is `nobody`,
/// 65,535 is no identity at all on old systems, from 2^31 on tools differ.
const UIDS: std::ops::Range<u32> = 1..(1 << 31);
const RESERVED_UIDS: [u32; 2] = [65_534, 65_535];

fn users(profile: &Profile, problems: &mut Problems) {
    let users = &profile.spec.users;
    for (index, user) in users.iter().enumerate() {
        let mut complaints = Complaints {
            problems: &mut *problems,
            position: index.to_string(),
        };
        user_name(user, &users[..index], &mut complaints);
        user_number(user, &users[..index], &mut complaints);
        user_lists(user, &mut complaints);
        let shell = &user.shell;
        let plain = shell.starts_with('/')
            && shell
                .chars()
                .all(|letter| letter.is_ascii_graphic() && letter != ':');
        if !plain {
            complaints.add(
                &["shell"],
                format!("'{}' is no path of a shell", shortened(shell)),
                "give an absolute path, such as /bin/bash",
            );
        }
    }
}

/// Problems of one user.
struct Complaints<'a> {
    problems: &'a mut Problems,
    /// The user's place in the list.
    position: String,
}

impl Complaints<'_> {
    fn add(&mut self, below: &[&str], message: String, hint: &str) {
        let path = [&["spec", "users", self.position.as_str()], below].concat();
        self.problems.add(&path, message, hint);
    }
}

fn user_name(user: &User, earlier: &[User], complaints: &mut Complaints<'_>) {
    if !names::is_login_name(&user.name) {
        complaints.add(
            &["name"],
            format!("'{}' is no login name", shortened(&user.name)),
            "use lower-case letters, digits, '_' and '-', at most 32, beginning with a letter",
        );
    } else if user.name == "root" {
        complaints.add(
            &["name"],
            "the user root exists in every image".to_owned(),
            "create a user with `sudo: true` instead",
        );
    }
    if earlier.iter().any(|other| other.name == user.name) {
        complaints.add(
            &["name"],
            format!("the user '{}' stands here twice", shortened(&user.name)),
            "keep one of the two",
        );
    }
}

fn user_number(user: &User, earlier: &[User], complaints: &mut Complaints<'_>) {
    let Some(uid) = user.uid else {
        return;
    };
    if !UIDS.contains(&uid) || RESERVED_UIDS.contains(&uid) {
        complaints.add(
            &["uid"],
            format!("{uid} is not for users"),
            "choose a number from 1000 on",
        );
    }
    if earlier.iter().any(|other| other.uid == Some(uid)) {
        complaints.add(
            &["uid"],
            format!("two users have the number {uid}"),
            "give each its own",
        );
    }
}

fn user_lists(user: &User, complaints: &mut Complaints<'_>) {
    for (number, name) in user.groups.iter().enumerate() {
        if !names::is_login_name(name) {
            complaints.add(
                &["groups", &number.to_string()],
                format!("'{}' is no name of a group", shortened(name)),
                "name a group that the base image has, such as adm",
            );
        }
    }
    for (number, key) in user.ssh_authorized_keys.iter().enumerate() {
        if let Err(hint) = names::ssh_key(key) {
            complaints.add(
                &["sshAuthorizedKeys", &number.to_string()],
                "this is no SSH public key".to_owned(),
                hint,
            );
        }
    }
}

fn services(profile: &Profile, problems: &mut Problems) {
    let services = &profile.spec.services;
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (verb, units) in [
        ("enable", &services.enable),
        ("disable", &services.disable),
        ("mask", &services.mask),
    ] {
        for (index, unit) in units.iter().enumerate() {
            let position = index.to_string();
            let path = ["spec", "services", verb, position.as_str()];
            if let Err(hint) = names::unit(unit) {
                problems.add(
                    &path,
                    format!("'{}' is no name of a unit", shortened(unit)),
                    hint,
                );
                continue;
            }
            match seen.insert(unit, verb) {
                None => {}
                // What is masked may be disabled as well: that removes its links.
                Some("disable") if verb == "mask" => {}
                Some(earlier) if earlier == verb => problems.add(
                    &path,
                    format!("the unit '{unit}' stands here twice"),
                    "keep one of the two",
                ),
                Some(earlier) => problems.add(
                    &path,
                    format!("the unit '{unit}' is in both {earlier} and {verb}"),
                    "keep it in one of the lists",
                ),
            }
        }
    }
}

fn kernel(profile: &Profile, problems: &mut Problems) {
    let kernel = &profile.spec.kernel;
    for (index, module) in kernel.modules.iter().enumerate() {
        if !names::is_module(module) {
            problems.add(
                &["spec", "kernel", "modules", &index.to_string()],
                format!("'{}' is no name of a kernel module", shortened(module)),
                "write the name as lsmod prints it, such as br_netfilter, one a line",
            );
        }
    }
    for (name, value) in &kernel.sysctl {
        let path = ["spec", "kernel", "sysctl", name.as_str()];
        if !names::is_sysctl(name) {
            problems.add(
                &path,
                format!("'{}' is no kernel setting", shortened(name)),
                "write the name as sysctl prints it, such as net.ipv4.ip_forward",
            );
        }
        if value.trim().is_empty()
            || value
                .chars()
                .any(|letter| letter.is_control() && letter != '\t')
        {
            problems.add(
                &path,
                format!("the value of {} is not one line of text", shortened(name)),
                "write the value as sysctl prints it",
            );
        }
    }
    for (index, argument) in kernel.command_line.iter().enumerate() {
        let position = index.to_string();
        let path = ["spec", "kernel", "commandLine", position.as_str()];
        if !names::is_kernel_argument(argument) {
            problems.add(
                &path,
                format!("'{}' is no kernel argument", shortened(argument)),
                "write one argument an item, without spaces, quotes and the shell's special \
                 characters; `-NAME` removes one",
            );
        } else if kernel.command_line[..index].contains(argument) {
            problems.add(
                &path,
                format!(
                    "the kernel argument '{}' stands here twice",
                    shortened(argument)
                ),
                "keep one of the two",
            );
        }
    }
}
