//! What is looked at before a machine joins: one file a check, and this list.
//!
//! The checks with a counterpart in nodeadm have the name by which nodeadm's code
//! knows it (`aws/eks-hybrid`, `internal/validation` and the packages that use
//! it). All are run, those that wait for the network at once; one that failed
//! stops the join, and says what to do.

mod api_server_endpoint;
mod aws_authentication;
mod aws_network;
mod cgroup;
mod clock;
mod cloud;
mod cluster_access;
mod cluster_description;
mod cni;
mod containerd_version;
mod disk_space;
mod finding;
mod install;
mod interfaces;
mod kernel;
mod kubelet_certificate;
mod kubernetes_authentication;
mod limits;
mod mtu;
mod names;
mod node_inactive;
mod node_ip;
mod proxy;
mod report;
mod subject;
mod version_skew;

use std::time::Duration;

pub use cloud::{Cloud, CloudError};
pub use finding::{Finding, Verdict};
pub use names::{SKIP_FILE, Skips, UnknownName};
pub use report::{Outcome, Refusal, Report};
pub use subject::{Cluster, Subject};

use crate::system;

/// The most time that all checks of a moment may take together.
pub const LIMIT: Duration = Duration::from_secs(45);

/// The check that needs an answer of EKS; skipped, EKS is not asked.
pub(crate) const DESCRIPTION: &str = "cluster-description-validation";

/// When a check is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before anything is written.
    Before,
    /// When the kubelet's files are written, and before it starts.
    Written,
}

/// A check.
pub struct Check {
    /// The name by which it is skipped.
    pub name: &'static str,
    /// Names that nodeadm's help gives, but its code does not know.
    aliases: &'static [&'static str],
    /// When it is run.
    pub moment: Moment,
    /// Whether it waits for others, so that it is worth a thread.
    waits: bool,
    /// Looks, and changes nothing.
    look: fn(&Subject<'_>) -> Result<Finding, system::Error>,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

/// A check of this machine alone.
const fn here(
    name: &'static str,
    look: fn(&Subject<'_>) -> Result<Finding, system::Error>,
) -> Check {
    Check {
        name,
        aliases: &[],
        moment: Moment::Before,
        waits: false,
        look,
    }
}

/// A check that asks others.
const fn remote(
    name: &'static str,
    aliases: &'static [&'static str],
    look: fn(&Subject<'_>) -> Result<Finding, system::Error>,
) -> Check {
    Check {
        name,
        aliases,
        moment: Moment::Before,
        waits: true,
        look,
    }
}

/// All checks, in the order in which they are told.
pub const CHECKS: &[Check] = &[
    here("install-validation", install::look),
    here("cni-validation", cni::look),
    remote(
        "ssm-api-network",
        &["ssm-api-network-validation"],
        aws_network::look_at_ssm,
    ),
    remote(
        "iam-ra-api-network",
        &["iam-ra-api-network-validation"],
        aws_network::look_at_roles_anywhere,
    ),
    remote(
        "aws-auth-validation",
        &["credentials-validation"],
        aws_authentication::look,
    ),
    here(DESCRIPTION, cluster_description::look),
    remote("node-ip-validation", &[], node_ip::look),
    here("kubelet-cert-validation", kubelet_certificate::look),
    here("kubelet-version-skew-validation", version_skew::look),
    remote(
        "api-server-endpoint-resolution-validation",
        &["k8s-endpoint-network-validation"],
        api_server_endpoint::look,
    ),
    here("proxy-validation", proxy::look),
    here("node-inactive-validation", node_inactive::look),
    remote("cluster-access-validation", &[], cluster_access::look),
    remote("clock-validation", &[], clock::look),
    here("cgroup-validation", cgroup::look),
    here("kernel-validation", kernel::look),
    here("containerd-version-validation", containerd_version::look),
    here("disk-space-validation", disk_space::look),
    here("limits-validation", limits::look),
    here("mtu-validation", mtu::look),
    Check {
        moment: Moment::Written,
        ..remote(
            "k8s-authentication-validation",
            &[],
            kubernetes_authentication::look,
        )
    },
];

/// Runs all checks of a moment that are not skipped.
///
/// Those that wait get a thread each; none waits longer than [`LIMIT`].
pub fn run(subject: &Subject<'_>, moment: Moment, skips: &Skips) -> Report {
    let chosen: Vec<&Check> = CHECKS.iter().filter(|it| it.moment == moment).collect();
    let mut outcomes: Vec<Option<Outcome>> = chosen.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        let mut own = Vec::new();
        for (index, check) in chosen.iter().copied().enumerate() {
            if skips.contains(check.name) {
                let finding = Finding::skipped("skipped as asked");
                outcomes[index] = Some(Outcome::new(check.name, finding, Duration::ZERO));
                continue;
            }
            let thread = std::thread::Builder::new().name(check.name.into());
            let started = check
                .waits
                .then(|| thread.spawn_scoped(scope, move || carry_out(check, subject)));
            match started {
                Some(Ok(thread)) => threads.push((index, check, thread)),
                // Where no thread is to be had, it is done here.
                Some(Err(_)) | None => own.push((index, check)),
            }
        }
        for (index, check) in own {
            outcomes[index] = Some(carry_out(check, subject));
        }
        for (index, check, thread) in threads {
            outcomes[index] = Some(thread.join().unwrap_or_else(|_| {
                let finding = Finding::could_not_run("the check itself failed");
                Outcome::new(check.name, finding, Duration::ZERO)
            }));
        }
    });
    Report {
        outcomes: outcomes.into_iter().flatten().collect(),
    }
}

fn carry_out(check: &Check, subject: &Subject<'_>) -> Outcome {
    let started = subject.system.elapsed();
    let finding = (check.look)(subject).unwrap_or_else(|error| {
        let mut text = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            text.push_str(": ");
            text.push_str(&cause.to_string());
        }
        Finding::could_not_run(text)
    });
    let took = subject.system.elapsed().saturating_sub(started);
    Outcome::new(check.name, finding, took)
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
