//! Overlays, users, units and the kernel.

use std::collections::BTreeMap;

use super::super::model::Profile;
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
        let position = index.to_string();
        let at = |key: &'static str| ["spec", "users", position.as_str(), key].map(str::to_owned);
        let mut add = |path: &[String], message: String, hint: &str| {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            problems.add(&path, message, hint);
        };
        if !names::is_login_name(&user.name) {
            add(
                &at("name"),
                format!("'{}' is no login name", shortened(&user.name)),
                "use lower-case letters, digits, '_' and '-', at most 32, beginning with a letter",
            );
        } else if user.name == "root" {
            add(
                &at("name"),
                "the user root exists in every image".to_owned(),
                "create a user with `sudo: true` instead",
            );
        }
        let earlier = &users[..index];
        if earlier.iter().any(|other| other.name == user.name) {
            add(
                &at("name"),
                format!("the user '{}' stands here twice", shortened(&user.name)),
                "keep one of the two",
            );
        }
        if let Some(uid) = user.uid {
            if !UIDS.contains(&uid) || RESERVED_UIDS.contains(&uid) {
                add(
                    &at("uid"),
                    format!("{uid} is not for users"),
                    "choose a number from 1000 on",
                );
            }
            if earlier.iter().any(|other| other.uid == Some(uid)) {
                add(
                    &at("uid"),
                    format!("two users have the number {uid}"),
                    "give each its own",
                );
            }
        }
        for (group, name) in user.groups.iter().enumerate() {
            if !names::is_login_name(name) {
                let path =
                    ["spec", "users", &position, "groups", &group.to_string()].map(str::to_owned);
                add(
                    &path,
                    format!("'{}' is no name of a group", shortened(name)),
                    "name a group that the base image has, such as adm",
                );
            }
        }
        let shell = &user.shell;
        let plain = shell.starts_with('/')
            && shell
                .chars()
                .all(|letter| letter.is_ascii_graphic() && letter != ':');
        if !plain {
            add(
                &at("shell"),
                format!("'{}' is no path of a shell", shortened(shell)),
                "give an absolute path, such as /bin/bash",
            );
        }
        for (number, key) in user.ssh_authorized_keys.iter().enumerate() {
            if let Err(hint) = names::ssh_key(key) {
                let path = [
                    "spec",
                    "users",
                    &position,
                    "sshAuthorizedKeys",
                    &number.to_string(),
                ]
                .map(str::to_owned);
                add(&path, "this is no SSH public key".to_owned(), hint);
            }
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
