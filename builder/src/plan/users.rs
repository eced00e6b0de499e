//! Users and the SSH server, only as far as the profile asks for them.

use std::collections::BTreeSet;

use super::draft::Draft;
use super::{Content, Node};
use crate::error::{Error, Result};
use crate::image_path::ImagePath;
use crate::os::Tree;
use crate::os::tree::fixed;
use crate::profile::model::{Ssh, User};

/// First number of ordinary users (`UID_MIN` of login.defs).
const FIRST_ID: u32 = 1000;
/// One past the last number of ordinary users (`UID_MAX` of login.defs is 60000).
const END_OF_IDS: u32 = 60_001;
/// Mode of files that only root reads.
const SUDOERS_MODE: u32 = 0o440;
/// Sorts before the distribution's: sshd takes the first value that it sees.
const SSHD_DROP_IN: &str = "/etc/ssh/sshd_config.d/10-nodekiln.conf";

pub(super) fn plan(draft: &mut Draft<'_>, users: &[User], ssh: Option<&Ssh>) -> Result<()> {
    if !users.is_empty() {
        Accounts::read(draft)?.add_all(draft, users)?;
    }
    match ssh {
        Some(ssh) => plan_ssh(draft, ssh),
        None => Ok(()),
    }
}

/// The four files of accounts, as lines.
struct Accounts {
    passwd: Vec<String>,
    shadow: Vec<String>,
    group: Vec<String>,
    gshadow: Option<Vec<String>>,
}

impl Accounts {
    fn read(draft: &mut Draft<'_>) -> Result<Self> {
        let mut lines = |path: &str| -> Result<Option<Vec<String>>> {
            let text = draft.read_text(&fixed(path))?;
            Ok(text.map(|text| text.lines().map(str::to_owned).collect()))
        };
        let missing = |path: &str| Error::input(format!("create users: the image has no {path}"));
        Ok(Self {
            passwd: lines("/etc/passwd")?.ok_or_else(|| missing("/etc/passwd"))?,
            shadow: lines("/etc/shadow")?.ok_or_else(|| missing("/etc/shadow"))?,
            group: lines("/etc/group")?.ok_or_else(|| missing("/etc/group"))?,
            gshadow: lines("/etc/gshadow")?,
        })
    }

    fn add_all(mut self, draft: &mut Draft<'_>, users: &[User]) -> Result<()> {
        for user in users {
            let id = self.add(user)?;
            plan_home(draft, user, id)?;
            if user.sudo {
                plan_sudo(draft, user)?;
            }
        }
        let text = |lines: &[String]| lines.join("\n") + "\n";
        draft.edit_text(&fixed("/etc/passwd"), text(&self.passwd), "users")?;
        draft.edit_text(&fixed("/etc/shadow"), text(&self.shadow), "users")?;
        draft.edit_text(&fixed("/etc/group"), text(&self.group), "users")?;
        if let Some(gshadow) = &self.gshadow {
            draft.edit_text(&fixed("/etc/gshadow"), text(gshadow), "users")?;
        }
        Ok(())
    }

    /// Adds the user with a group of the same name and number; gives that number.
    fn add(&mut self, user: &User) -> Result<u32> {
        let name = &user.name;
        check_fields(user)?;
        for (lines, what) in [(&self.passwd, "user"), (&self.group, "group")] {
            if find(lines, name).is_some() {
                return Err(Error::input(format!(
                    "create the user {name}: the image has a {what} of that name"
                )));
            }
        }
        let id = self.choose_id(user)?;
        // `!` and no digest: the password is locked, keys still work. The day of
        // the last change is left out, so that nothing depends on a clock.
        self.passwd
            .push(format!("{name}:x:{id}:{id}::/home/{name}:{}", user.shell));
        self.shadow.push(format!("{name}:!:::::::"));
        self.group.push(format!("{name}:x:{id}:"));
        if let Some(gshadow) = &mut self.gshadow {
            gshadow.push(format!("{name}:!::"));
        }
        for group in &user.groups {
            let line = find(&self.group, group).ok_or_else(|| {
                Error::input(format!(
                    "create the user {name}: the image has no group {group}"
                ))
                .hint("name groups that the base has, or leave it out")
            })?;
            add_member(&mut self.group[line], name);
            if let Some(gshadow) = &mut self.gshadow
                && let Some(line) = find(gshadow, group)
            {
                add_member(&mut gshadow[line], name);
            }
        }
        Ok(id)
    }

    fn choose_id(&self, user: &User) -> Result<u32> {
        let third = |line: &String| line.split(':').nth(2)?.parse::<u32>().ok();
        let taken: BTreeSet<u32> = self
            .passwd
            .iter()
            .chain(&self.group)
            .filter_map(third)
            .collect();
        match user.uid {
            Some(id) if taken.contains(&id) => Err(Error::input(format!(
                "create the user {}: the number {id} is taken in the image",
                user.name
            ))),
            Some(id) => Ok(id),
            None => (FIRST_ID..END_OF_IDS)
                .find(|id| !taken.contains(id))
                .ok_or_else(|| {
                    Error::input(format!(
                        "create the user {}: the image has no free number from {FIRST_ID} on",
                        user.name
                    ))
                }),
        }
    }
}

fn find(lines: &[String], name: &str) -> Option<usize> {
    lines
        .iter()
        .position(|line| line.split(':').next() == Some(name))
}

fn add_member(line: &mut String, name: &str) {
    if !line.ends_with(':') {
        line.push(',');
    }
    line.push_str(name);
}

/// Nothing may end a field or a line of the account files.
fn check_fields(user: &User) -> Result<()> {
    let name_is_plain = user.name.len() <= 32
        && user
            .name
            .starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && user.name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte)
        });
    let fits = |text: &str| !text.contains([':', '\n', '\r', '\0']);
    if !name_is_plain {
        return Err(Error::input(format!(
            "create the user '{}': a name has lower-case letters, digits, '_' and '-', and begins with a letter or '_'",
            user.name.escape_debug()
        )));
    }
    if !fits(&user.shell) || ImagePath::new(&user.shell).is_err() {
        return Err(Error::input(format!(
            "create the user {}: the shell '{}' is no absolute path",
            user.name,
            user.shell.escape_debug()
        )));
    }
    if user
        .ssh_authorized_keys
        .iter()
        .any(|key| key.contains(['\n', '\r', '\0']))
    {
        return Err(Error::input(format!(
            "create the user {}: an SSH key holds a line break",
            user.name
        )));
    }
    Ok(())
}

fn plan_home(draft: &mut Draft<'_>, user: &User, id: u32) -> Result<()> {
    let reason = format!("user {}", user.name);
    let home = fixed("/home").join(&user.name)?;
    if draft.stat(&fixed(&user.shell))?.is_none() {
        return Err(Error::input(format!(
            "create the user {}: the image has no {}",
            user.name, user.shell
        )));
    }
    let folder = Node::Directory { keep: false };
    let directory = |draft: &mut Draft<'_>, path: &ImagePath| {
        let attributes = draft.owned(0o700, id, id);
        draft.put(path, folder.clone(), attributes, &reason)
    };
    directory(draft, &home)?;
    if user.ssh_authorized_keys.is_empty() {
        return Ok(());
    }
    let ssh = home.join(".ssh")?;
    directory(draft, &ssh)?;
    let content = Content::inline(user.ssh_authorized_keys.join("\n") + "\n");
    let attributes = draft.owned(0o600, id, id);
    draft.put(
        &ssh.join("authorized_keys")?,
        Node::File { content },
        attributes,
        &reason,
    )
}

fn plan_sudo(draft: &mut Draft<'_>, user: &User) -> Result<()> {
    if draft.stat(&fixed("/etc/sudoers"))?.is_none() {
        return Err(Error::input(format!(
            "let the user {} become root: the image has no sudo",
            user.name
        ))
        .hint("add the package sudo to the base, or remove 'sudo: true'"));
    }
    let path = fixed("/etc/sudoers.d").join(format!("90-nodekiln-{}", user.name))?;
    let text = format!("{} ALL=(ALL) NOPASSWD:ALL\n", user.name);
    draft.put_text(&path, SUDOERS_MODE, text, &format!("user {}", user.name))
}

fn plan_ssh(draft: &mut Draft<'_>, ssh: &Ssh) -> Result<()> {
    let Some(main) = draft.read_text(&fixed("/etc/ssh/sshd_config"))? else {
        return Err(Error::input(
            "configure the SSH server: the image has no /etc/ssh/sshd_config",
        )
        .hint("add the package openssh-server to the base, or remove spec.ssh"));
    };
    let text = format!(
        "PasswordAuthentication {}\nKbdInteractiveAuthentication {0}\nPermitRootLogin {}\n",
        if ssh.password_authentication {
            "yes"
        } else {
            "no"
        },
        if ssh.permit_root_login {
            "prohibit-password"
        } else {
            "no"
        },
    );
    let reads_drop_ins = main.lines().any(|line| {
        let mut words = line.split_whitespace();
        words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case("include"))
            && words.any(|word| word.contains("sshd_config.d/"))
    });
    if reads_drop_ins {
        return draft.put_text(&fixed(SSHD_DROP_IN), 0o644, text, "ssh");
    }
    // The first value counts, so ours stands before everything else.
    draft.edit_text(&fixed("/etc/ssh/sshd_config"), text + &main, "ssh")
}
