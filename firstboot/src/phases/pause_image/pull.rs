//! The pause image out of ECR, before the kubelet and its credential provider run.
//!
//! `ctr` takes a password as an argument, which everybody on the machine could read,
//! or from a terminal. So the token goes into a private file that says how the
//! registry is asked (containerd, `docs/hosts.md`), and the file goes with the pull.

use std::time::Duration;

use super::super::cloud::Aws;
use super::{Node, Work, must, run, task};
use crate::system::{System, Task};

/// Holds the token while it is used; in memory.
const FOLDER: &str = "/run/nodekiln/pause-image";

/// Where a site says how registries are asked, as containerd's configuration has it.
const SITE: [&str; 2] = ["/etc/containerd/certs.d", "/etc/docker/certs.d"];

/// Time for one attempt: the image is smaller than 1 MiB.
const LIMIT: Duration = Duration::from_secs(60);

/// Attempts, and the pause after the first; the next is twice as long. As nodeadm.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

/// Whether an image can be pulled here: out of ECR, on a hybrid node that joins, if
/// containerd is to use it and the site has no mirror of its own for it. A node that
/// joined before starts without a network.
pub(super) fn is_possible(work: &Work<'_>, node: &Node<'_>, image: &str) -> bool {
    let Some((host, _)) = registry(image) else {
        return false;
    };
    let has_mirror = SITE.iter().any(|folder| {
        [host, "_default"]
            .iter()
            .any(|name| work.system.resolve(&format!("{folder}/{name}")).is_some())
    });
    let is_used = node.files.iter().any(|file| {
        file.path == "/etc/containerd/config.toml"
            && String::from_utf8_lossy(&file.content).contains(image)
    });
    node.config.spec.hybrid.is_some() && is_used && !has_mirror && !work.journal.is_complete()
}

/// Host and region of an image in ECR (`ACCOUNT.dkr.ecr.REGION.DOMAIN/…`).
fn registry(image: &str) -> Option<(&str, &str)> {
    let (host, _) = image.split_once('/')?;
    let mut labels = host.split('.');
    let is_account = labels.next()?.bytes().all(|byte| byte.is_ascii_digit());
    let is_ecr = labels.next()? == "dkr" && matches!(labels.next()?, "ecr" | "ecr-fips");
    let region = labels.next()?;
    (is_account && is_ecr && labels.next().is_some()).then_some((host, region))
}

/// Pulls it.
pub(super) fn pull(work: &Work<'_>, node: &Node<'_>, image: &str) -> Result<(), String> {
    let Some((host, region)) = registry(image) else {
        return Err(format!("{image} is not in ECR"));
    };
    let cloud = Aws::new(work.system, node.config, node.variables);
    let token = cloud
        .ask_in(region, |client| client.authorization_token())
        .map_err(|error| {
            let error = super::Error::from(error);
            let hint = error.hint().unwrap_or_default();
            format!("{}; hint: {hint}", error.chain())
        })?;
    let path = format!("{FOLDER}/{host}/hosts.toml");
    let text = format!(
        "server = \"https://{host}\"\n\n[host.\"https://{host}\"]\ncapabilities = [\"pull\", \
         \"resolve\"]\n\n[host.\"https://{host}\".header]\nauthorization = \"Basic {token}\"\n"
    );
    let system = work.system;
    let outcome = system
        .write(&path, text.as_bytes(), 0o600)
        .map_err(|error| error.to_string())
        .and_then(|()| {
            let task = task(&["images", "pull", "--hosts-dir", FOLDER, image]);
            let proxies = node.variables.proxies();
            let task = Task {
                limit: LIMIT,
                ..task
            };
            let task = proxies.fold(task, |task, (name, value)| task.with_variable(name, value));
            attempts(system, &task)
        });
    // Whatever came of it, the token is not to stay.
    outcome.and(clean(system))
}

/// Removes what a pull that was cut off has left.
pub(super) fn clean(system: &dyn System) -> Result<(), String> {
    let left = system.names(FOLDER).map_err(|error| error.to_string())?;
    if left.is_empty() {
        return Ok(());
    }
    system.empty(FOLDER).map_err(|error| error.to_string())
}

fn attempts(system: &dyn System, task: &Task) -> Result<(), String> {
    let mut pause = PAUSE;
    for _ in 1..ATTEMPTS {
        if run(system, task)?.success {
            return Ok(());
        }
        system.pause(pause);
        pause *= 2;
    }
    must(run(system, task)?, "pulling it").map(drop)
}

#[cfg(test)]
mod tests {
    use super::registry;

    #[test]
    fn only_registries_of_ecr_are_asked_with_its_token() {
        for (image, expected) in [
            (
                "602401143452.dkr.ecr.us-west-2.amazonaws.com/eks/pause:3.5",
                Some(("602401143452.dkr.ecr.us-west-2.amazonaws.com", "us-west-2")),
            ),
            (
                "1.dkr.ecr-fips.us-gov-west-1.amazonaws.com/p",
                Some((
                    "1.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
                    "us-gov-west-1",
                )),
            ),
            ("localhost/kubernetes/pause:latest", None),
            ("public.ecr.aws/eks-distro/kubernetes/pause:3.10", None),
            ("pause:3.5", None),
            ("a.dkr.ecr.us-west-2.amazonaws.com/p", None),
            ("1.dkr.ecr.us-west-2/p", None),
        ] {
            assert_eq!(registry(image), expected, "{image}");
        }
    }
}
