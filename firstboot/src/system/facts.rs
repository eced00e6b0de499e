//! What rendering has to know, read from a machine.

use std::time::Duration;

use super::{Error, System, Task, Variables, cpu, hardware};
use crate::render::{CREDENTIAL_PROVIDER, Facts, Version};

/// Longest file that is read for facts, in bytes.
const LIMIT: usize = 1 << 20;

/// Time that a program has to print its version. A large program takes seconds to
/// load on a slow machine.
const VERSION_LIMIT: Duration = Duration::from_secs(60);

/// Where the versions of the big programs stand beside them, so that they need
/// not be started to ask them.
const KUBELET_VERSION: &str = "/etc/eks/kubelet-version.txt";
const CONTAINERD_VERSION: &str = "/etc/eks/containerd-version.txt";

/// Names the pause image of this machine's image: a reference on one line.
const SANDBOX_IMAGE: &str = "/etc/nodekiln/sandbox-image";

/// Programs that make a difference when they lie in the image.
const NVIDIA_RUNTIME: &str = "/usr/bin/nvidia-container-runtime";
const SOCI_SNAPSHOTTER: &str = "/usr/bin/soci-snapshotter-grpc";

/// What a machine lacks to be a node.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// A program is not installed, or does not say its version.
    #[error("the version of {program} cannot be found out")]
    Version {
        /// Its name.
        program: &'static str,
        /// What was tried.
        source: Option<Error>,
    },
    /// A file cannot be read.
    #[error(transparent)]
    System(#[from] Error),
}

/// Reads the facts.
pub fn gather(system: &dyn System, variables: &Variables) -> Result<Facts, Missing> {
    let text = |path: &str| -> Result<Option<String>, Error> {
        Ok(system
            .read(path, LIMIT)?
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    let os_release = match text("/etc/os-release")? {
        Some(text) => text,
        None => text("/usr/lib/os-release")?.unwrap_or_default(),
    };
    let soci_snapshotter = system.resolve(SOCI_SNAPSHOTTER).is_some();
    Ok(Facts {
        os: os_release_id(&os_release),
        kubelet: version(system, "kubelet", "/usr/bin/kubelet", KUBELET_VERSION)?,
        containerd: version(
            system,
            "containerd",
            "/usr/bin/containerd",
            CONTAINERD_VERSION,
        )?,
        logical_cpus: cpu::count(
            system,
            variables
                .get("CPU_DIR")
                .unwrap_or("/sys/devices/system/cpu"),
            variables
                .get("NODE_DIR")
                .unwrap_or("/sys/devices/system/node"),
        ),
        memory_kib: memory(&text("/proc/meminfo")?.unwrap_or_default()),
        proxied: variables.proxied(),
        fips: text("/proc/sys/crypto/fips_enabled")?.is_some_and(|text| text.trim() == "1"),
        resolver_stub: resolver_stub(
            system.resolve("/etc/resolv.conf").as_deref(),
            &text("/etc/resolv.conf").ok().flatten().unwrap_or_default(),
        ),
        sandbox_image: text(SANDBOX_IMAGE)?
            .map(|text| text.trim().to_owned())
            .filter(|image| !image.is_empty() && !image.contains(char::is_whitespace)),
        credential_provider: {
            let path = variables
                .get("ECR_CREDENTIAL_PROVIDER_BIN_PATH")
                .unwrap_or(CREDENTIAL_PROVIDER);
            system.resolve(path).map(|_| path.to_owned())
        },
        managed_instance_id: None,
        instance: None,
        names: hardware::names(system),
        // Only the SOCI snapshotter depends on it, and there may be thousands of blocks.
        online_memory_kib: if soci_snapshotter {
            hardware::online_memory_kib(system)
        } else {
            0
        },
        nvidia_gpu: hardware::has_nvidia_gpu(system),
        nvidia_runtime: system.resolve(NVIDIA_RUNTIME).is_some(),
        soci_snapshotter,
        api_server_addresses: Vec::new(),
    })
}

/// The version of a program: from the file beside it unless the program is newer
/// than that file, else from the program.
fn version(
    system: &dyn System,
    program: &'static str,
    path: &str,
    beside: &str,
) -> Result<Version, Missing> {
    let modified = |path: &str| -> Result<_, Error> {
        let path = system.resolve(path).unwrap_or_else(|| path.into());
        Ok(system.status(&path)?.map(|status| status.modified))
    };
    if let (Some(noted), Some(installed)) = (modified(beside)?, modified(path)?)
        && noted >= installed
        && let Some(text) = system.read(beside, LIMIT)?
        && let Some(version) = Version::find(&String::from_utf8_lossy(&text))
    {
        return Ok(version);
    }
    match system.run(&Task::new(program, &["--version"], VERSION_LIMIT)) {
        Ok(ended) => Version::find(&ended.output).ok_or(Missing::Version {
            program,
            source: None,
        }),
        Err(source) => Err(Missing::Version {
            program,
            source: Some(source),
        }),
    }
}

/// `ID=` of os-release; `linux` when it says nothing (os-release, "ID=").
fn os_release_id(text: &str) -> String {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("ID="))
        .next_back()
        .map(|value| value.trim_matches(['"', '\'']).to_owned())
        .filter(|value| !value.is_empty())
        .unwrap_or_else(|| "linux".into())
}

/// `MemTotal` of /proc/meminfo, in KiB; 0 when it is not there.
fn memory(text: &str) -> u64 {
    text.lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(0)
}

/// Whether name resolution goes to systemd-resolved's stub alone.
fn resolver_stub(target: Option<&str>, text: &str) -> bool {
    let mut servers = text
        .lines()
        .filter_map(|line| {
            line.trim()
                .strip_prefix("nameserver")?
                .split_whitespace()
                .next()
        })
        .peekable();
    target == Some("/run/systemd/resolve/stub-resolv.conf")
        || (servers.peek().is_some() && servers.all(|server| server == "127.0.0.53"))
}

#[cfg(test)]
mod tests {
    use super::super::Files as _;
    use super::super::pretended::Pretended;
    use super::*;

    #[test]
    fn os_release() {
        assert_eq!(
            os_release_id("NAME=\"Ubuntu\"\nVERSION_ID=24.04\nID=ubuntu\nID_LIKE=debian\n"),
            "ubuntu"
        );
        assert_eq!(os_release_id("ID=\"rhel\"\n"), "rhel");
        assert_eq!(os_release_id(""), "linux");
    }

    #[test]
    fn memory_and_resolver() {
        assert_eq!(
            memory("MemTotal:       24688664 kB\nMemFree: 1 kB\n"),
            24_688_664
        );
        assert_eq!(memory("nonsense"), 0);
        assert!(resolver_stub(
            None,
            "# stub\nnameserver 127.0.0.53\noptions edns0\n"
        ));
        assert!(resolver_stub(
            Some("/run/systemd/resolve/stub-resolv.conf"),
            ""
        ));
        assert!(!resolver_stub(
            None,
            "nameserver 127.0.0.53\nnameserver 10.0.0.1\n"
        ));
        assert!(!resolver_stub(None, ""));
    }

    #[test]
    fn versions_come_from_the_programs_unless_noted_beside_them() {
        let system = Pretended::node();
        let facts = gather(&system, &Variables::default()).unwrap();
        assert_eq!(facts.kubelet, Version::new(1, 34, 1));
        assert_eq!(facts.containerd, Version::new(1, 6, 20));
        assert_eq!(system.ran("kubelet --version"), 1);
        system
            .write(KUBELET_VERSION, b"Kubernetes v1.33.3-eks-1\n", 0o644)
            .unwrap();
        let facts = gather(&system, &Variables::default()).unwrap();
        assert_eq!(facts.kubelet, Version::new(1, 33, 3));
        assert_eq!(system.ran("kubelet --version"), 1);
        // The kubelet was replaced after the note was made.
        system.write("/usr/bin/kubelet", b"newer", 0o755).unwrap();
        assert_eq!(
            gather(&system, &Variables::default()).unwrap().kubelet,
            Version::new(1, 34, 1)
        );
    }

    #[test]
    fn a_machine_without_kubelet_is_told_so() {
        let system = Pretended::default();
        let error = gather(&system, &Variables::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the version of kubelet cannot be found out"
        );
    }
}
