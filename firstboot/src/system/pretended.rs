//! A machine in memory for tests: files, units that start and stop, and a count of
//! everything that changes it, after which it can be made to die.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::shared::{Shared, Slot};
use super::{
    Argument, Clock, Ended, Error, Files, Level, Network, NetworkError, NewFile, Programs, Request,
    Response, Space, Status, Task, Voice,
};

pub mod programs;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub content: Vec<u8>,
    pub mode: u32,
    modified: SystemTime,
}

/// Plays a program; none for one that it does not know.
pub type Hook = fn(&Pretended, &str) -> Option<Result<Ended, Error>>;

#[derive(Debug, Default)]
pub struct Pretended {
    pub files: Shared<BTreeMap<String, Kept>>,
    /// Links and what they say.
    pub links: Shared<BTreeMap<String, String>>,
    /// Active units, and how often each was started.
    pub active: Shared<BTreeMap<String, u32>>,
    pub enabled: Shared<Vec<String>>,
    /// Units that will not start.
    pub broken: Shared<Vec<String>>,
    /// Programs that change the machine, by command line; asked first.
    pub hook: Slot<Option<Hook>>,
    /// How programs end, by command line; asked before anything that is known here.
    pub programs: Shared<BTreeMap<String, Ended>>,
    /// What the SSM agent says instead of registering, last one first.
    pub refusals: Shared<Vec<String>>,
    /// Whether the SSM agent writes no credentials.
    pub mute: Slot<bool>,
    /// Images in containerd's store, and whether they are pinned.
    pub images: Shared<BTreeMap<String, bool>>,
    /// Bytes that are free and that there are, by folder.
    pub spaces: Shared<BTreeMap<String, Space>>,
    /// Every command line, in order.
    pub commands: Shared<Vec<String>>,
    /// Everything that was said, logged or notified.
    pub said: Shared<Vec<String>>,
    /// What the network answers, by method and URL, such as `GET http://host/path`;
    /// everything else cannot be reached.
    pub answers: Shared<BTreeMap<String, Result<Response, NetworkError>>>,
    /// Addresses by host name, and hosts with ports that take connections.
    pub names: Shared<BTreeMap<String, Vec<IpAddr>>>,
    pub listeners: Shared<Vec<String>>,
    /// Every request that was sent, in order.
    pub requests: Shared<Vec<Request>>,
    /// Changes that are still carried out; none for without end.
    pub lives: Slot<Option<usize>>,
    /// Changes so far: files written or removed, units changed.
    pub changes: Slot<usize>,
    /// Seconds by which the clock is behind.
    pub behind: Slot<u64>,
    /// Seconds by which the clock is ahead.
    pub ahead: Slot<u64>,
    ticks: Slot<u64>,
}

impl Pretended {
    /// A machine of an image, before its first boot is done.
    pub fn node() -> Self {
        let machine = Self::default();
        for (path, content) in [
            ("/etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
            (
                "/sys/class/dmi/id/product_uuid",
                "6b8a8b6e-0000-4000-8000-000000000001\n",
            ),
            ("/etc/os-release", "ID=ubuntu\n"),
            ("/etc/fstab", "UUID=1 / ext4 defaults 0 1\n"),
            ("/proc/meminfo", "MemTotal: 8000000 kB\n"),
            ("/proc/swaps", "Filename Type Size Used Priority\n"),
            ("/sys/module/overlay/refcnt", "0\n"),
            ("/sys/module/br_netfilter/refcnt", "0\n"),
            ("/usr/bin/kubelet", "program"),
            ("/usr/bin/containerd", "program"),
            ("/usr/bin/ctr", "program"),
            ("/usr/local/bin/aws-iam-authenticator", "program"),
            ("/usr/local/bin/aws_signing_helper", "program"),
            (crate::render::CREDENTIAL_PROVIDER, "program"),
            ("/etc/iam/pki/server.pem", "-----BEGIN CERTIFICATE-----\n"),
        ] {
            machine.put(path, content.as_bytes(), 0o644);
        }
        machine.put("/etc/iam/pki/server.key", b"key", 0o600);
        machine
    }

    /// Lays a file down without counting it.
    pub fn put(&self, path: &str, content: &[u8], mode: u32) {
        let kept = Kept {
            content: content.into(),
            mode,
            modified: self.tick(),
        };
        self.files.borrow_mut().insert(path.into(), kept);
    }

    /// Has a command line end well with this output.
    pub fn prints(&self, line: &str, output: &str) {
        let ended = Ended {
            success: true,
            output: output.into(),
            errors: String::new(),
        };
        self.programs.borrow_mut().insert(line.into(), ended);
    }

    /// Has a command line fail with these words.
    pub fn fails(&self, line: &str, errors: &str) {
        let ended = Ended {
            success: false,
            output: String::new(),
            errors: errors.into(),
        };
        self.programs.borrow_mut().insert(line.into(), ended);
    }

    /// Content of a file as text.
    pub fn text(&self, path: &str) -> Option<String> {
        let files = self.files.borrow();
        files
            .get(path)
            .map(|kept| String::from_utf8_lossy(&kept.content).into_owned())
    }

    /// How often a command line was run.
    pub fn ran(&self, command: &str) -> usize {
        self.commands
            .borrow()
            .iter()
            .filter(|line| *line == command)
            .count()
    }

    /// Switches the machine off and on: no unit runs.
    pub fn reboot(&self) {
        self.active.borrow_mut().clear();
        self.commands.borrow_mut().clear();
        self.said.borrow_mut().clear();
        self.changes.set(0);
        self.lives.set(None);
    }

    /// All files but those that are said to differ from run to run.
    pub fn tree(&self) -> BTreeMap<String, (Vec<u8>, u32)> {
        let files = self.files.borrow();
        files
            .iter()
            .filter(|(path, _)| !path.ends_with("/state.json"))
            .map(|(path, kept)| (path.clone(), (kept.content.clone(), kept.mode)))
            .collect()
    }

    fn tick(&self) -> SystemTime {
        self.ticks.set(self.ticks.get() + 1);
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + self.ticks.get())
    }

    pub fn change(&self, doing: &'static str, path: &str) -> Result<(), Error> {
        match self.lives.get() {
            Some(0) => Err(Error::File {
                doing,
                path: path.into(),
                source: io::Error::other("killed"),
            }),
            lives => {
                self.lives.set(lives.map(|lives| lives - 1));
                self.changes.set(self.changes.get() + 1);
                Ok(())
            }
        }
    }

    fn systemctl(&self, arguments: &[&str]) -> Result<Ended, Error> {
        let words: Vec<&str> = arguments
            .iter()
            .filter(|word| !word.starts_with("--"))
            .copied()
            .collect();
        let ok = |output: String| {
            Ok(Ended {
                success: true,
                output,
                errors: String::new(),
            })
        };
        let unit = words.get(1).copied().unwrap_or_default().to_owned();
        match words[0] {
            "show" => ok(format!(
                "LoadState=loaded\nActiveState={}\nUnitFileState={}\n",
                if self.active.borrow().contains_key(&unit) {
                    "active"
                } else {
                    "inactive"
                },
                if self.enabled.borrow().contains(&unit) {
                    "enabled"
                } else {
                    "disabled"
                },
            )),
            "start" if self.active.borrow().contains_key(&unit) => ok(String::new()),
            "start" | "restart" => {
                self.change("starting", &unit)?;
                if self.broken.borrow().contains(&unit) {
                    let errors = format!("Job for {unit} failed.\n");
                    return Ok(Ended {
                        success: false,
                        output: String::new(),
                        errors,
                    });
                }
                self.started(&unit);
                *self.active.borrow_mut().entry(unit).or_default() += 1;
                ok(String::new())
            }
            "stop" => {
                self.change("stopping", &unit)?;
                self.active.borrow_mut().remove(&unit);
                ok(String::new())
            }
            "enable" => {
                self.change("enabling", &unit)?;
                self.enabled.borrow_mut().push(unit);
                ok(String::new())
            }
            "disable" => {
                self.change("disabling", &unit)?;
                self.enabled.borrow_mut().retain(|enabled| *enabled != unit);
                self.active.borrow_mut().remove(&unit);
                ok(String::new())
            }
            "is-active" if self.active.borrow().contains_key(&unit) => ok("active\n".into()),
            "is-active" => Ok(Ended {
                output: "inactive\n".into(),
                ..Ended::default()
            }),
            "daemon-reload" => ok(String::new()),
            other => panic!("systemctl {other} is not pretended"),
        }
    }
}

impl Files for Pretended {
    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        match self.files.borrow().get(path) {
            Some(kept) if kept.content.len() > limit => Err(Error::TooLarge {
                path: path.into(),
                limit,
            }),
            kept => Ok(kept.map(|kept| kept.content.clone())),
        }
    }

    fn status(&self, path: &str) -> Result<Option<Status>, Error> {
        if self.links.borrow().contains_key(path) {
            return Ok(Some(Status {
                mode: 0o777,
                modified: UNIX_EPOCH,
                is_file: false,
            }));
        }
        let folder = (!self.names(path)?.is_empty()).then_some(Status {
            mode: 0o755,
            modified: UNIX_EPOCH,
            is_file: false,
        });
        let file = self.files.borrow().get(path).map(|kept| Status {
            mode: kept.mode,
            modified: kept.modified,
            is_file: true,
        });
        Ok(file.or(folder))
    }

    fn names(&self, folder: &str) -> Result<Vec<String>, Error> {
        let prefix = format!("{}/", folder.trim_end_matches('/'));
        let (files, links) = (self.files.borrow(), self.links.borrow());
        let mut names: Vec<String> = files
            .keys()
            .chain(links.keys())
            .filter_map(|path| {
                path.strip_prefix(&prefix)?
                    .split('/')
                    .next()
                    .map(ToOwned::to_owned)
            })
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn resolve(&self, path: &str) -> Option<String> {
        let target = self.links.borrow().get(path).cloned();
        let path = target.as_deref().unwrap_or(path);
        let is_there = !self.names(path).ok()?.is_empty() || self.files.borrow().contains_key(path);
        is_there.then(|| path.into())
    }

    fn write_all(&self, files: &[NewFile<'_>]) -> Result<(), Error> {
        for file in files {
            self.change("writing", file.path)?;
            self.put(file.path, file.content, file.mode);
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), Error> {
        self.change("removing", path)?;
        self.files.borrow_mut().remove(path);
        self.links.borrow_mut().remove(path);
        Ok(())
    }

    /// There are no folders without files here.
    fn remove_empty(&self, _: &str) -> Result<(), Error> {
        Ok(())
    }

    fn empty(&self, folder: &str) -> Result<(), Error> {
        if self.names(folder)?.is_empty() {
            return Ok(());
        }
        self.change("emptying", folder)?;
        let below = format!("{folder}/");
        let keep = |path: &String| !path.starts_with(&below);
        self.files.borrow_mut().retain(|path, _| keep(path));
        self.links.borrow_mut().retain(|path, _| keep(path));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        self.change("moving", from)?;
        let below = format!("{from}/");
        let moved = |path: &str| match path.strip_prefix(&below) {
            Some(rest) => format!("{to}/{rest}"),
            None if path == from => to.to_owned(),
            None => path.to_owned(),
        };
        let files = std::mem::take(&mut *self.files.borrow_mut());
        *self.files.borrow_mut() = files
            .into_iter()
            .map(|(path, kept)| (moved(&path), kept))
            .collect();
        Ok(())
    }

    fn link(&self, path: &str, target: &str) -> Result<(), Error> {
        self.change("linking", path)?;
        self.files.borrow_mut().remove(path);
        self.links.borrow_mut().insert(path.into(), target.into());
        Ok(())
    }

    fn space(&self, path: &str) -> Result<Option<Space>, Error> {
        Ok(self.spaces.borrow().get(path).copied())
    }

    fn link_target(&self, path: &str) -> Result<Option<String>, Error> {
        Ok(self.links.borrow().get(path).cloned())
    }
}

impl Programs for Pretended {
    fn run(&self, task: &Task) -> Result<Ended, Error> {
        let arguments: Vec<&str> = task.arguments.iter().map(Argument::value).collect();
        self.commands.borrow_mut().push(task.line());
        if let Some(hook) = self.hook.get()
            && let Some(ended) = hook(self, &task.line())
        {
            return ended;
        }
        if let Some(ended) = self.programs.borrow().get(&task.line()) {
            return Ok(ended.clone());
        }
        let absent = || Error::Program {
            program: task.program.clone(),
            source: io::ErrorKind::NotFound.into(),
        };
        let prints = |output: &str| {
            Ok(Ended {
                success: true,
                output: output.into(),
                errors: String::new(),
            })
        };
        match task.program.as_str() {
            "systemctl" => self.systemctl(&arguments),
            "kubelet" if self.text("/usr/bin/kubelet").is_some() => prints("Kubernetes v1.34.1\n"),
            "containerd" if self.text("/usr/bin/containerd").is_some() => {
                prints("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20\n")
            }
            "swapoff" => {
                self.change("turning off", arguments[0])?;
                self.put("/proc/swaps", b"Filename Type Size Used Priority\n", 0o444);
                prints("")
            }
            "ctr" if self.text("/usr/bin/ctr").is_some() => self.ctr(&arguments),
            program => self.ssm_agent(program).unwrap_or_else(|| Err(absent())),
        }
    }

    fn waited(&self) -> Duration {
        Duration::ZERO
    }
}

impl Clock for Pretended {
    fn now(&self) -> SystemTime {
        let ahead = Duration::from_secs(self.ahead.get());
        self.tick() + ahead - Duration::from_secs(self.behind.get())
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.ticks.get())
    }

    fn pause(&self, time: Duration) {
        self.ticks.set(self.ticks.get() + time.as_millis() as u64);
    }
}

impl Voice for Pretended {
    fn log(&self, level: Level, message: &str, fields: &BTreeMap<&str, String>) {
        self.said
            .borrow_mut()
            .push(super::journal_line::line(level, message, fields, true));
    }

    fn milestone(&self, text: &str) {
        self.said
            .borrow_mut()
            .push(format!("nodekiln-firstboot: {text}"));
    }

    fn ready(&self) {
        self.said.borrow_mut().push("READY=1".into());
    }

    fn status_line(&self, text: &str) {
        self.said.borrow_mut().push(format!("STATUS={text}"));
    }
}

impl Network for Pretended {
    fn send(&self, request: &Request) -> Result<Response, NetworkError> {
        self.requests.borrow_mut().push(request.clone());
        let asked = format!("{} {}", request.method, request.url);
        let answer = self.answers.borrow().get(&asked).cloned();
        answer.unwrap_or_else(|| {
            Err(NetworkError::Connection {
                host: request.url.clone(),
                reason: "nobody listens".into(),
            })
        })
    }

    fn lookup(&self, host: &str, _: Duration) -> Result<Vec<IpAddr>, NetworkError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let found = self.names.borrow().get(host).cloned();
        found.ok_or_else(|| NetworkError::Name {
            host: host.into(),
            reason: "no such name".into(),
        })
    }

    fn connect(&self, host: &str, port: u16, _: Duration) -> Result<(), NetworkError> {
        let listener = format!("{host}:{port}");
        if self.listeners.borrow().contains(&listener) {
            return Ok(());
        }
        Err(NetworkError::Connection {
            host: listener,
            reason: "nobody listens".into(),
        })
    }
}
