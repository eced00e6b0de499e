//! The order of work, and how it goes on after it was cut off.
//!
//! First boot is a list of phases. Each says what it works from; one that ended
//! well with the same inputs has nothing to do. The journal notes a phase before
//! its first change and after its last, so that a machine that is switched off at
//! any moment goes on where it was, and one that is complete is left alone.

mod checks;
mod cloud;
mod cluster;
mod credentials;
mod environment;
mod error;
mod files;
mod ground;
mod identity;
mod instance;
mod journal;
mod kernel;
mod look;
mod name_resolution;
mod pause_image;
mod prepare;
mod registration;
pub mod reset;
mod services;
mod status;
mod steps;
mod unit;
mod work;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use error::Error;
pub use journal::{Journal, PATH as JOURNAL, Record};
pub use look::look;
pub use status::{Status, status};

use journal::{Machine, OnDisk, digest};
use steps::{Node, STEPS};
use work::Work;

use crate::datasource::{FindError, Found};
use crate::node_config::{self, NodeConfig};
use crate::render;
use crate::system::{Level, System, Variables};
use crate::validation::{Cloud, Skips};

/// A part of the work, in the order of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Find, read and check the NodeConfig.
    Configuration,
    /// Make sure that the machine carries nobody else's identity.
    Identity,
    /// Look at what the node proves its own with; ask an EC2 instance who it is.
    Credentials,
    /// Register the machine with SSM.
    Registration,
    /// Ask EKS for what the NodeConfig does not say about the cluster.
    Cluster,
    /// The checks before anything of the node is written.
    Validation,
    /// Write all files.
    Files,
    /// Have the service manager read its own files anew.
    ServiceManager,
    /// Name servers, and names that are looked up only once.
    NameResolution,
    /// Kernel modules and parameters, swap.
    Kernel,
    /// Ports that the node is reached at.
    Firewall,
    /// An EC2 instance's own disks.
    LocalStorage,
    /// Credentials for pods, if they are asked for.
    CredentialsFile,
    /// The check that the cluster knows the node.
    Authentication,
    /// The container runtime.
    Containerd,
    /// The image that every pod starts with.
    PauseImage,
    /// The kubelet.
    Kubelet,
}

impl Phase {
    /// All, in the order of work.
    pub const ALL: [Self; 17] = [
        Self::Configuration,
        Self::Identity,
        Self::Credentials,
        Self::Registration,
        Self::Cluster,
        Self::Validation,
        Self::Files,
        Self::ServiceManager,
        Self::NameResolution,
        Self::Kernel,
        Self::Firewall,
        Self::LocalStorage,
        Self::CredentialsFile,
        Self::Authentication,
        Self::Containerd,
        Self::PauseImage,
        Self::Kubelet,
    ];

    /// Its name in the journal.
    pub fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Identity => "identity",
            Self::Credentials => "credentials",
            Self::Registration => "registration",
            Self::Cluster => "cluster",
            Self::Validation => "validation",
            Self::Files => "files",
            Self::ServiceManager => "service-manager",
            Self::NameResolution => "name-resolution",
            Self::Kernel => "kernel",
            Self::Firewall => "firewall",
            Self::LocalStorage => "local-storage",
            Self::CredentialsFile => "credentials-file",
            Self::Authentication => "authentication",
            Self::Containerd => "containerd",
            Self::PauseImage => "pause-image",
            Self::Kubelet => "kubelet",
        }
    }

    /// By its name in the journal.
    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Does the whole work, or what is left of it. Checks that `skips` names are left
/// out, and so are those that the image does without.
pub fn run(
    system: &dyn System,
    find: &dyn Fn() -> Result<Found, FindError>,
    variables: &Variables,
    skips: &Skips,
) -> Result<(), Error> {
    system.milestone("started");
    let outcome = work(system, find, variables, skips);
    match &outcome {
        Ok(()) => {
            let total = system.elapsed();
            let own = total.saturating_sub(system.waited());
            let text = format!("done in {} (own work {})", seconds(total), seconds(own));
            system.milestone(&text);
            system.log(Level::Info, &text, &BTreeMap::new());
            system.status_line(&text);
        }
        Err(error) => tell(system, error),
    }
    outcome
}

/// Tells the log, the console and the service manager why the work failed.
pub fn tell(system: &dyn System, error: &Error) {
    let mut fields = BTreeMap::new();
    let mut text = format!("failed: {}", error.chain());
    if let Some(hint) = error.hint() {
        text.push_str("; hint: ");
        text.push_str(&hint);
        fields.insert("hint", hint);
    }
    fields.insert("exitCode", error.exit_code().to_string());
    system.milestone(&text);
    system.log(Level::Error, &error.chain(), &fields);
    system.status_line(&text);
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

fn work(
    system: &dyn System,
    find: &dyn Fn() -> Result<Found, FindError>,
    variables: &Variables,
    skips: &Skips,
) -> Result<(), Error> {
    let machine = Machine::read(system);
    let mut work = take_up(system, &machine)?;
    let Some(config) = configuration(&mut work, find, &machine)? else {
        system.ready();
        return Ok(());
    };
    // Nothing of this machine's is kept before its identity is known to be its own.
    work.phase(Phase::Identity, "", |work| {
        if identity::establish(&mut work.journal, &machine, system)? {
            work.is_saved = false;
        }
        Ok(())
    })?;
    let variables = environment::of_ourselves(&config, variables);
    system.use_variables(&variables);
    join(&mut work, config, &variables, skips)?;
    if work.is_saved { Ok(()) } else { work.save() }
}

/// Takes the work up where the journal says that it was left.
fn take_up<'a>(system: &'a dyn System, machine: &Machine) -> Result<Work<'a>, Error> {
    let on_disk = Journal::read(system)?;
    let is_readable = !matches!(on_disk, OnDisk::Unreadable);
    let mut journal = match on_disk {
        OnDisk::Journal(journal) => journal,
        OnDisk::Absent | OnDisk::Unreadable => Journal::default(),
    };
    if is_readable {
        identity::forget_another(&mut journal, machine, system)?;
    } else {
        identity::forget_unknown(&mut journal, system)?;
    }
    let is_saved = !identity::enter_image(&mut journal, system)?;
    Ok(Work {
        system,
        journal,
        is_saved,
    })
}

/// The NodeConfig; none where the machine is a node that stays as it is.
fn configuration(
    work: &mut Work<'_>,
    find: &dyn Fn() -> Result<Found, FindError>,
    machine: &Machine,
) -> Result<Option<NodeConfig>, Error> {
    let found = match find() {
        Err(error) if error.is_absence() && work.was_done_by(machine) => {
            let text = match &error {
                FindError::NotFound { .. } => "no node configuration is offered any more".into(),
                error => format!("the node configuration cannot be read now ({error})"),
            };
            let text = format!("{text}; this node stays as it is");
            work.info(&text);
            work.system.milestone(&text);
            return Ok(None);
        }
        found => found,
    };
    let documents = |found: &Found| digest(found.documents.iter().map(|it| it.bytes.as_slice()));
    let inputs = found.as_ref().map(documents).unwrap_or_default();
    work.phase(Phase::Configuration, &inputs, |work| {
        let found = found?;
        let text = format!("node configuration from {} {}", found.source, found.origin);
        work.info(&text);
        work.system.milestone(&text);
        for ignored in &found.ignored {
            work.warn(&format!("not used: {ignored}"));
        }
        read(&found).map(Some)
    })
}

/// Makes a node of the machine.
fn join(
    work: &mut Work<'_>,
    config: NodeConfig,
    variables: &Variables,
    skips: &Skips,
) -> Result<(), Error> {
    let system = work.system;
    let facts = prepare::prepare(work, &config, variables)?;
    let described = cluster::establish(work, &config, &facts, variables)?;
    let config = cluster::filled(config, described.as_ref());
    let cloud = cloud::Aws::new(system, &config, variables);
    let cluster = described.map(|it| it.as_checks_see_it());
    let files = render::render(&config, &facts)?;
    for text in render::warnings(&config, &facts)? {
        work.warn(&text);
    }
    let node = Node {
        config: &config,
        provider: crate::credentials::provider(&config)?,
        facts: &facts,
        files: &files,
        variables,
        skips: &skips.clone().with_file(system)?,
        cluster: cluster.as_ref(),
        cloud: cluster.is_some().then_some(&cloud as &dyn Cloud),
    };
    for step in STEPS {
        let inputs = (step.inputs)(&node);
        system.status_line(step.phase.name());
        work.phase(step.phase, &inputs, |work| (step.act)(work, &node, &inputs))?;
    }
    Ok(())
}

/// Reads and checks what was found.
fn read(found: &Found) -> Result<NodeConfig, Error> {
    let parsed = found
        .load()
        .map_err(|problems| Error::Invalid { problems })?;
    let problems = parsed.check();
    if !problems.is_empty() {
        return Err(Error::Invalid { problems });
    }
    Ok(node_config::with_defaults(parsed.config))
}

#[cfg(test)]
mod tests;
