//! What rendering has to know about the machine.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A version as the kubelet and containerd print it, without what follows the
/// three numbers: all gates depend on these alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub patch: u32,
}

impl Version {
    /// A version from its three numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// The first version within a longer text, such as `Kubernetes v1.34.1-eks-1`
    /// or `containerd github.com/containerd/containerd 1.6.20~ds1 …`.
    pub fn find(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| word.parse().ok())
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("{text:?} is not a version such as 1.34.1");
        let mut rest = text.strip_prefix('v').unwrap_or(text);
        let mut numbers = [0; 3];
        for (index, number) in numbers.iter_mut().enumerate() {
            if index > 0 {
                rest = rest.strip_prefix('.').ok_or_else(refuse)?;
            }
            let end = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            *number = rest[..end].parse().map_err(|_| refuse())?;
            rest = &rest[end..];
        }
        Ok(Self::new(numbers[0], numbers[1], numbers[2]))
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// What rendering has to know about the machine. The default is a machine to
/// show files for when nothing is known, not a guess that a node is started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Facts {
    /// `ID` of os-release.
    pub os: String,
    /// Version of the kubelet.
    pub kubelet: Version,
    /// Version of containerd.
    pub containerd: Version,
    /// Logical processors that are online; 0 when they cannot be counted.
    pub logical_cpus: u32,
    /// `MemTotal` of /proc/meminfo in KiB; 0 when it cannot be read.
    pub memory_kib: u64,
    /// Whether a proxy is set for this program (`HTTP_PROXY`, `HTTPS_PROXY`).
    pub proxied: bool,
    /// Whether the kernel runs in FIPS mode.
    pub fips: bool,
    /// Whether /etc/resolv.conf names only systemd-resolved's stub listener, which
    /// pods cannot reach.
    pub resolver_stub: bool,
    /// The pause image that lies in this machine's image, if one does.
    pub sandbox_image: Option<String>,
    /// The image credential provider's program; none when it is not installed.
    pub credential_provider: Option<String>,
    /// `mi-…` of a machine that is registered with SSM.
    pub managed_instance_id: Option<String>,
    /// The EC2 instance that this machine is; none for hybrid nodes.
    pub instance: Option<Instance>,
    /// What the machine is called by those who made and run it.
    pub names: Names,
    /// Memory that is online, in KiB: the sum of the memory blocks that the kernel
    /// uses, reserved parts included; 0 when it cannot be told.
    pub online_memory_kib: u64,
    /// Whether a PCI device of NVIDIA (vendor 0x10de) is in the machine.
    pub nvidia_gpu: bool,
    /// Whether NVIDIA's container runtime lies in the image
    /// (`/usr/bin/nvidia-container-runtime`).
    pub nvidia_runtime: bool,
    /// Whether the SOCI snapshotter lies in the image
    /// (`/usr/bin/soci-snapshotter-grpc`).
    pub soci_snapshotter: bool,
    /// Addresses of the host in `spec.cluster.apiServerEndpoint`; only asked for
    /// when the cluster is a local one on an Outpost.
    pub api_server_addresses: Vec<IpAddr>,
}

/// What a machine is called by those who made and run it: what templates in the
/// name of a node are filled with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Names {
    /// The kernel's host name.
    pub host_name: Option<String>,
    /// UUID of the system in the firmware's tables (SMBIOS type 1).
    pub smbios_uuid: Option<String>,
    /// Serial number of the system in the firmware's tables (SMBIOS type 1).
    pub smbios_serial: Option<String>,
    /// Address of the first network interface that is a device, such as `0a:ff:…`.
    pub mac: Option<String>,
}

/// What an EC2 instance says of itself: its identity document and metadata, and
/// EC2's API for what those lack.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Instance {
    /// `i-…`.
    pub id: String,
    /// Its region, such as `us-west-2`.
    pub region: String,
    /// Its availability zone, such as `us-west-2a`.
    pub availability_zone: String,
    /// Its type, such as `m5.large`.
    pub instance_type: String,
    /// Address of its primary interface, such as `0a:ff:…`.
    pub mac: String,
    /// Its private DNS name, where the node is named after it.
    pub private_dns_name: Option<String>,
    /// First private IPv4 address.
    pub local_ipv4: Option<String>,
    /// First IPv6 address of the primary interface.
    pub local_ipv6: Option<String>,
    /// Interfaces of its default network card, and IPv4 addresses of each, as EC2
    /// says; only asked for when the type is newer than our own table.
    pub interface_limits: Option<InterfaceLimits>,
}

/// How many interfaces an instance type can have, and addresses on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InterfaceLimits {
    /// Interfaces of the default network card.
    pub interfaces: u32,
    /// IPv4 addresses of each interface.
    pub ipv4_per_interface: u32,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            os: "ubuntu".into(),
            kubelet: Version::new(1, 34, 0),
            containerd: Version::new(2, 0, 0),
            logical_cpus: 2,
            memory_kib: 4 << 20,
            proxied: false,
            fips: false,
            resolver_stub: true,
            sandbox_image: None,
            credential_provider: Some(super::CREDENTIAL_PROVIDER.into()),
            managed_instance_id: None,
            instance: None,
            names: Names::default(),
            online_memory_kib: 0,
            nvidia_gpu: false,
            nvidia_runtime: false,
            soci_snapshotter: false,
            api_server_addresses: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_print() {
        let cases = [
            (
                "Kubernetes v1.34.1-eks-5e0fdde\n",
                Some(Version::new(1, 34, 1)),
            ),
            (
                "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1",
                Some(Version::new(1, 6, 20)),
            ),
            (
                "containerd containerd.io v2.1.4 75cb2b7193e4e490e9fbdc236c0e811ccaba3376",
                Some(Version::new(2, 1, 4)),
            ),
            ("Kubernetes v1.34", None),
            ("v1.99999999999.0", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Version::find(text), expected, "{text:?}");
        }
    }

    #[test]
    fn facts_survive_json() {
        let facts = Facts {
            sandbox_image: Some("localhost/pause:1".into()),
            ..Facts::default()
        };
        let text = serde_json::to_string(&facts).unwrap();
        assert!(text.contains(r#""kubelet":"1.34.0""#), "{text}");
        assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
        assert!(serde_json::from_str::<Facts>(r#"{"kubelet":"new"}"#).is_err());
        assert!(serde_json::from_str::<Facts>(r#"{"cpu":1}"#).is_err());
    }
}
