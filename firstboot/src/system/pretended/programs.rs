//! Programs of a node, as far as first boot uses them.

use std::io;

use super::super::{Ended, Error};
use super::Pretended;
use crate::credentials::ssm;

/// What the pretended agent registers a machine as.
pub const MANAGED_INSTANCE_ID: &str = "mi-0123456789abcdef0";

/// What the registries of ECR take.
pub const REGISTRY_TOKEN: &str = "QVdTOnMzY3IzdA==";

pub(super) fn ok(output: impl Into<String>) -> Result<Ended, Error> {
    Ok(Ended {
        success: true,
        output: output.into(),
        errors: String::new(),
    })
}

impl Pretended {
    /// Puts the SSM agent's program there, as one of its packages does.
    pub fn install_ssm_agent(&self, agent: ssm::Agent) {
        self.put(agent.program, b"program", 0o755);
    }

    /// Registers the machine unless a failure was planned; `None` when this is not
    /// the agent, or it is not installed.
    pub(super) fn ssm_agent(&self, program: &str) -> Option<Result<Ended, Error>> {
        ssm::AGENTS.iter().find(|agent| agent.program == program)?;
        self.text(program)?;
        let planned = self.refusals.borrow_mut().pop();
        if let Some(said) = planned {
            return Some(Ok(Ended {
                success: false,
                output: String::new(),
                errors: said,
            }));
        }
        Some(self.change("registering", "the machine").map(|()| {
            let text =
                format!(r#"{{"ManagedInstanceID":"{MANAGED_INSTANCE_ID}","Region":"us-west-2"}}"#);
            self.put(ssm::REGISTRATION_KEY, b"key", 0o600);
            self.put(ssm::REGISTRATION, text.as_bytes(), 0o600);
            Ended {
                success: true,
                ..Ended::default()
            }
        }))
    }

    /// What a unit does when it starts, beyond being active.
    pub(super) fn started(&self, unit: &str) {
        let is_agent = ssm::AGENTS.iter().any(|agent| agent.unit == unit);
        let credentials = ssm::CREDENTIALS;
        if is_agent
            && self.text(ssm::REGISTRATION).is_some()
            && self.text(credentials).is_none()
            && !self.mute.get()
        {
            self.put(credentials, b"[default]\n", 0o600);
        }
        if unit == "snapd.seeded.service" {
            self.install_ssm_agent(ssm::AGENTS[1]);
        }
    }

    /// containerd's client: images that are there, or come out of an archive.
    pub(super) fn ctr(&self, arguments: &[&str]) -> Result<Ended, Error> {
        match arguments {
            [_, _, "images", "check", .., filter] => {
                let (name, label) = filter.split_once(',').unwrap_or((filter, ""));
                let name = name.trim_start_matches("name==");
                let row = format!("{name} type sha256:1 complete (1/1) 1/1 true\n");
                let is_pinned = self.images.borrow().get(name).copied();
                let is_there = is_pinned.is_some_and(|pinned| pinned || label.is_empty());
                ok(format!(
                    "REF TYPE DIGEST STATUS SIZE UNPACKED\n{}",
                    if is_there { row.as_str() } else { "" }
                ))
            }
            [_, _, "images", "import", .., archive] => {
                self.change("importing", archive)?;
                let name = self.text(archive).unwrap_or_default();
                self.images.borrow_mut().insert(name, false);
                ok("")
            }
            [
                ..,
                "images",
                "label",
                name,
                "io.cri-containerd.pinned=pinned",
            ] => {
                self.change("labelling", name)?;
                self.images.borrow_mut().insert((*name).to_owned(), true);
                ok("")
            }
            // A registry of ECR lets in who has the right token.
            [_, _, "images", "pull", "--hosts-dir", folder, name] => {
                let host = name.split('/').next().unwrap_or_default();
                let path = format!("{folder}/{host}/hosts.toml");
                let hosts = self.files.borrow().get(&path).cloned();
                let is_private = hosts.as_ref().is_some_and(|file| file.mode == 0o600);
                let hosts = String::from_utf8(hosts.map(|it| it.content).unwrap_or_default());
                let header = format!("authorization = \"Basic {REGISTRY_TOKEN}\"");
                if !is_private || !hosts.is_ok_and(|hosts| hosts.contains(&header)) {
                    return Ok(Ended {
                        errors: "401 Unauthorized\n".into(),
                        ..Ended::default()
                    });
                }
                self.change("pulling", name)?;
                self.images.borrow_mut().insert((*name).to_owned(), false);
                ok("")
            }
            _ => Err(Error::Program {
                program: "ctr".into(),
                source: io::ErrorKind::Unsupported.into(),
            }),
        }
    }
}
