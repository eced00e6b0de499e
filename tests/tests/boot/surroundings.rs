//! What is around a machine that joins: the network of its site, the cloud by the names
//! of AWS, and a real control plane.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nodekiln_qemu::{BootOptions, Format, Part, Seed};
use nodekiln_tests::cloud::client::Cloud;
use nodekiln_tests::cloud::state::Record;
use nodekiln_tests::cloud::{Service, World};
use nodekiln_tests::cluster::{ControlPlane, minor};
use nodekiln_tests::network::{AWS, CLUSTER, Network, Place};

use super::guest::{self, Answers};
use super::running::Running;
use super::{image, site};

/// A machine of a site.
pub const SITE: Place = Place {
    tap: "site",
    mac: "52:54:00:10:01:11",
    address: Ipv4Addr::new(10, 1, 1, 11),
};
/// Another machine of the site.
pub const OTHER: Place = Place {
    tap: "other",
    mac: "52:54:00:10:01:12",
    address: Ipv4Addr::new(10, 1, 1, 12),
};
/// The instance of the sample world.
pub const INSTANCE: Place = Place {
    tap: "instance",
    mac: "0a:ff:11:22:33:44",
    address: Ipv4Addr::new(10, 1, 2, 3),
};

/// See the module documentation.
pub struct Surroundings {
    // Dropped in this order: who asks before who answers.
    pub control_plane: ControlPlane,
    pub cloud: Cloud,
    pub network: Network,
}

impl Surroundings {
    /// Makes them around machines.
    pub fn new(world: &World, places: &[Place]) -> Self {
        let network = Network::new(&world.region, places);
        let cloud = network.command(Path::new(env!("CARGO_BIN_EXE_nodekiln-cloud")));
        let names = format!("{AWS}:443");
        let served = ["--imds", "169.254.169.254:80", "--names", &names];
        let cloud = Cloud::start(cloud, world, &served);
        let command = |program: &Path| network.command(program);
        let control_plane = ControlPlane::start(command, CLUSTER, &minor(), &cloud);
        Self {
            control_plane,
            cloud,
            network,
        }
    }

    /// A cloud-config by which the machine trusts who answers to the names of AWS, and
    /// gets further files.
    pub fn trust(&self, files: &str) -> Part {
        let authority = std::fs::read(self.cloud.file("ca.pem")).expect("it was written");
        let authority = STANDARD.encode(authority);
        let bundle = site::file("/etc/ssl/certs/ca-certificates.crt", "0644", &authority);
        let config = format!("#cloud-config\nwrite_files:\n{bundle}    append: true\n{files}");
        Part::of_cloud_init(config).expect("cloud-config")
    }

    /// Switches a machine on in its place.
    pub fn start(&self, place: &Place, options: BootOptions) -> Running {
        let options = BootOptions {
            network: nodekiln_qemu::Network::Tap {
                name: place.tap.to_owned(),
                mac: Some(place.mac.to_owned()),
            },
            ..options
        };
        Running::start(&self.network, options)
    }

    /// Boots a machine and asks it everything.
    pub fn join(
        &self,
        place: &Place,
        seed: (Seed, Format),
        options: BootOptions,
        log: &str,
    ) -> Joined {
        let options = BootOptions {
            seed: Some(seed),
            guest_commands: guest::questions(),
            guest_limit: Duration::from_secs(180),
            ..options
        };
        let machine = self.start(place, options);
        let report = machine.until_up().unwrap_or_else(|told| {
            let asked = self.cloud.record();
            unreachable!("{told}\n{asked:#?}\n{}", self.network.log())
        });
        let text = serde_json::to_string_pretty(&report).expect("JSON");
        std::fs::write(image::scratch().join(format!("{log}.json")), text).expect("written");
        Joined {
            answers: Answers(report),
            record: self.cloud.record(),
            machine,
        }
    }
}

/// A machine that has joined, and what was asked of the world meanwhile.
pub struct Joined {
    pub answers: Answers,
    pub record: Vec<Record>,
    pub machine: Running,
}

impl Joined {
    /// Statuses of what a service was asked, by how and for what.
    pub fn statuses(&self, service: Service, method: &str, path: &str) -> Vec<u16> {
        let of = |one: &&Record| one.service == service && one.method == method && one.path == path;
        self.record
            .iter()
            .filter(of)
            .map(|one| one.status)
            .collect()
    }

    /// Nobody was refused anything by AWS, and the cluster had STS judge the token that
    /// the kubelet showed.
    pub fn assert_nothing_refused(&self) {
        let judged = self.statuses(Service::Sts, "GET", "/");
        assert!(judged.contains(&200), "{:#?}", self.record);
        let refused = self.record.iter().filter(|one| one.status >= 400);
        let refused: Vec<&Record> = refused.collect();
        assert!(refused.is_empty(), "{refused:#?}");
    }
}
