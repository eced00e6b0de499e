//! Taking a node out again: its services stop, and what was written goes, in an
//! order in which it can be cut off anywhere and begun anew.

use std::fmt;
use std::time::Duration;

use super::journal::{Journal, OnDisk};
use super::{Error, cluster, files, instance, unit};
use crate::credentials::ssm;
use crate::node_config::model::{API_VERSION, KIND, NodeConfig, Spec};
use crate::render::{Facts, hosts};
use crate::system::{System, Task, mounts_at_or_below, mounts_below, write_if_changed};

/// Where the kubelet keeps all that it knows.
const KUBELET: &str = "/var/lib/kubelet";

/// Its keys and certificates.
const KUBELET_KEYS: &str = "/var/lib/kubelet/pki";

/// Folders in which only the kubelet and storage drivers on its behalf mount.
const MOUNTED_BY_PODS: [&str; 2] = ["/var/lib/kubelet/pods/", "/var/lib/kubelet/plugins/"];

/// What network plugins keep: results, and the configuration that a cluster's
/// plugin wrote.
const NETWORK: [&str; 2] = ["/var/lib/cni", "/etc/cni/net.d"];

/// Time for one unmount, and for one answer of containerd.
const LIMIT: Duration = Duration::from_secs(120);

/// What is wanted of a reset.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    /// The machine stays who it is: the kubelet's keys and the registration with
    /// SSM stay.
    pub keep_identity: bool,
}

/// One act of a reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Stops a unit and keeps it from starting with the machine.
    Retire(String),
    /// Stops all containers of the kubelet.
    StopPods,
    /// Unmounts what pods had mounted.
    Unmount(String),
    /// Removes files and links that were written here.
    RemoveWritten(Vec<String>),
    /// Takes the cluster's names out of /etc/hosts.
    CleanHosts(String),
    /// Removes a file.
    Remove(String),
    /// Removes all that a folder holds.
    Empty(String),
    /// Writes the journal anew, without anything done.
    Forget,
    /// Keeps of the journal only which machine it is.
    ForgetAllButMachine,
}

impl fmt::Display for Act {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retire(unit) => write!(formatter, "stop and disable {unit}"),
            Self::StopPods => formatter.write_str("stop all pods"),
            Self::Unmount(path) => write!(formatter, "unmount {path}"),
            Self::RemoveWritten(paths) => write!(formatter, "remove {}", paths.join(", ")),
            Self::CleanHosts(_) => formatter.write_str("take our lines out of /etc/hosts"),
            Self::Remove(path) => write!(formatter, "remove {path}"),
            Self::Empty(path) => write!(formatter, "remove everything in {path}"),
            Self::Forget => formatter.write_str("remove the journal"),
            Self::ForgetAllButMachine => {
                formatter.write_str("keep of the journal only which machine this is")
            }
        }
    }
}

/// What a reset would do here, in order.
///
/// # Errors
/// When something is mounted where it would remove: it is for a person to say what
/// that is.
pub fn plan(system: &dyn System, wish: Wish) -> Result<Vec<Act>, Error> {
    let journal = match Journal::read(system)? {
        OnDisk::Journal(journal) => journal,
        OnDisk::Absent | OnDisk::Unreadable => Journal::default(),
    };
    let mounts = mounts_below(system, KUBELET)?;
    refuse_foreign_mounts(system, &mounts)?;
    let mut acts = vec![
        // Started again, it joins again: it counts as running since the boot.
        Act::Retire("kubelet.service".into()),
        Act::StopPods,
        Act::Retire("containerd.service".into()),
    ];
    acts.extend(mounts.into_iter().map(Act::Unmount));
    if let Some(text) = cleaned_hosts(system)? {
        acts.push(Act::CleanHosts(text));
    }
    acts.extend(kubelet_state(system, wish)?);
    for folder in NETWORK {
        if !system.names(folder)?.is_empty() {
            acts.push(Act::Empty(folder.into()));
        }
    }
    if !wish.keep_identity {
        acts.extend(identity(system)?);
    }
    // Of the journal is known what was written: so both go last.
    if !journal.files.is_empty() {
        acts.push(Act::RemoveWritten(journal.files));
    }
    for remembered in [instance::REMEMBERED, cluster::REMEMBERED] {
        if system.status(remembered)?.is_some() {
            acts.push(Act::Remove(remembered.into()));
        }
    }
    acts.push(if wish.keep_identity && journal.machine.is_some() {
        Act::ForgetAllButMachine
    } else {
        Act::Forget
    });
    Ok(acts)
}

fn refuse_foreign_mounts(system: &dyn System, below_kubelet: &[String]) -> Result<(), Error> {
    let is_foreign = |path: &&String| {
        !MOUNTED_BY_PODS
            .iter()
            .any(|folder| path.starts_with(folder))
    };
    let mut foreign: Vec<String> = below_kubelet.iter().filter(is_foreign).cloned().collect();
    for folder in NETWORK.into_iter().chain([ssm::FOLDER]) {
        foreign.extend(mounts_at_or_below(system, folder)?);
    }
    if foreign.is_empty() {
        return Ok(());
    }
    Err(Error::Machine {
        problem: format!(
            "{} is mounted where a reset would remove everything",
            foreign.join(", ")
        ),
        hint: "unmount it, then reset again; nothing was changed".into(),
    })
}

fn kubelet_state(system: &dyn System, wish: Wish) -> Result<Vec<Act>, Error> {
    let names = system.names(KUBELET)?;
    if !wish.keep_identity {
        return Ok(if names.is_empty() {
            Vec::new()
        } else {
            vec![Act::Empty(KUBELET.into())]
        });
    }
    let mut acts = Vec::new();
    for path in names.iter().map(|name| format!("{KUBELET}/{name}")) {
        if path == KUBELET_KEYS {
            continue;
        }
        let is_folder = system.status(&path)?.is_some_and(|status| !status.is_file)
            && system.link_target(&path)?.is_none();
        acts.push(if is_folder {
            Act::Empty(path)
        } else {
            Act::Remove(path)
        });
    }
    Ok(acts)
}

/// The registration with SSM, and the credentials that come from it.
fn identity(system: &dyn System) -> Result<Vec<Act>, Error> {
    let mut acts = Vec::new();
    if system.status(ssm::REGISTRATION)?.is_none()
        && system.status(ssm::REGISTRATION_KEY)?.is_none()
    {
        return Ok(acts);
    }
    if let Some(agent) = ssm::agent(system) {
        acts.push(Act::Retire(agent.unit.into()));
    }
    if system.status(ssm::CREDENTIALS)?.is_some() {
        acts.push(Act::Remove(ssm::CREDENTIALS.into()));
    }
    acts.push(Act::Empty(ssm::FOLDER.into()));
    Ok(acts)
}

fn cleaned_hosts(system: &dyn System) -> Result<Option<String>, Error> {
    const LIMIT: usize = 1 << 20;
    let Some(bytes) = system.read("/etc/hosts", LIMIT)? else {
        return Ok(None);
    };
    let nobody = NodeConfig {
        api_version: API_VERSION.into(),
        kind: KIND.into(),
        metadata: serde_json::Map::new(),
        spec: Spec::default(),
    };
    let text = String::from_utf8(bytes).ok();
    Ok(text.and_then(|text| hosts(&nobody, &Facts::default(), &text)))
}

/// What a person has to know who resets this machine.
pub fn remarks(system: &dyn System, wish: Wish) -> Result<Vec<String>, Error> {
    let mut remarks = Vec::new();
    if let Some(registration) = ssm::registration(system)?
        && !wish.keep_identity
    {
        remarks.push(format!(
            "SSM still knows this machine: aws ssm deregister-managed-instance --region {} \
             --instance-id {}",
            registration.region, registration.managed_instance_id
        ));
    }
    remarks.push(
        "the cluster still knows this node: drain it before, kubectl delete node after".into(),
    );
    remarks.push(
        "swap, kernel settings in use, firewall ports and interfaces of the network plugin stay \
         until somebody changes them or the machine starts anew; a machine that is offered a \
         NodeConfig joins again when it starts, unless /etc/nodekiln/disabled exists"
            .into(),
    );
    Ok(remarks)
}

/// Does one act. What is gone already is no error.
pub fn carry_out(system: &dyn System, act: &Act) -> Result<(), Error> {
    match act {
        Act::Retire(name) => unit::retire_if_known(system, name),
        Act::StopPods => stop_pods(system),
        Act::Unmount(path) => unmount(system, path),
        Act::RemoveWritten(paths) => files::remove(system, paths),
        Act::CleanHosts(text) => {
            let mode = system
                .status("/etc/hosts")?
                .map_or(0o644, |status| status.mode);
            write_if_changed(system, "/etc/hosts", text.as_bytes(), mode)?;
            Ok(())
        }
        Act::Remove(path) => Ok(system.remove(path)?),
        Act::Empty(path) => Ok(system.empty(path)?),
        Act::Forget => Ok(system.remove(super::JOURNAL)?),
        Act::ForgetAllButMachine => {
            if let OnDisk::Journal(journal) = Journal::read(system)? {
                let kept = Journal {
                    machine: journal.machine,
                    ..Journal::default()
                };
                kept.save(system)?;
            }
            Ok(())
        }
    }
}

/// Through the CRI where its client is there, which tells the network plugin too;
/// else containerd's own. Where containerd does not run there are no pods.
fn stop_pods(system: &dyn System) -> Result<(), Error> {
    if !unit::is_up(system, "containerd.service")? {
        return Ok(());
    }
    let crictl = ["/usr/local/bin/crictl", "/usr/bin/crictl"];
    if let Some(program) = crictl.into_iter().find(|it| system.resolve(it).is_some()) {
        let socket = "--runtime-endpoint=unix:///run/containerd/containerd.sock";
        must(
            system,
            &Task::new(program, &[socket, "rmp", "--all", "--force"], LIMIT),
        )?;
        return Ok(());
    }
    let ctr =
        |arguments: &[&str]| Task::new("ctr", &["--namespace", "k8s.io"], LIMIT).and(arguments);
    for (kind, removal) in [
        ("tasks", &["tasks", "delete", "--force"][..]),
        ("containers", &["containers", "delete"]),
    ] {
        let listing = must(system, &ctr(&[kind, "list", "--quiet"]))?;
        for name in listing.split_whitespace() {
            must(system, &ctr(removal).and(&[name]))?;
        }
    }
    Ok(())
}

fn unmount(system: &dyn System, path: &str) -> Result<(), Error> {
    if !mounts_below(system, KUBELET)?.iter().any(|it| it == path) {
        return Ok(());
    }
    must(system, &Task::new("umount", &["--", path], LIMIT)).map(drop)
}

fn must(system: &dyn System, task: &Task) -> Result<String, Error> {
    let ended = system.run(task)?;
    if ended.success {
        return Ok(ended.output);
    }
    let reason = ended.errors.lines().next_back().unwrap_or_default().trim();
    Err(Error::Machine {
        problem: format!("{} failed: {reason}", task.line()),
        hint: "drain the node first, then reset again: it goes on from here".into(),
    })
}
