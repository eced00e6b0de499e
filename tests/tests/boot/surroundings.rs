//! Machines that boot in what is around them, and join.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nodekiln_qemu::{BootOptions, Format, Part, Seed};
use nodekiln_tests::cloud::state::Record;
use nodekiln_tests::cloud::{Service, World};
use nodekiln_tests::cluster::minor;
use nodekiln_tests::network::Place;
use nodekiln_tests::surroundings::Surroundings;
use nodekiln_tests::unmet::Met;

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

/// Makes surroundings with places for machines.
pub fn around(world: &World, places: &[Place]) -> Surroundings {
    around_of(world, places, &minor())
}

/// The same with a cluster of a minor version of Kubernetes.
pub fn around_of(world: &World, places: &[Place], minor: &str) -> Surroundings {
    let cloud = Path::new(env!("CARGO_BIN_EXE_nodekiln-cloud"));
    Surroundings::new(cloud, world, places, minor)
}

/// Machines in their surroundings.
pub trait Machines {
    /// A cloud-config by which the machine trusts who answers to the names of AWS, and
    /// gets further files.
    fn trust(&self, files: &str) -> Part;

    /// Switches a machine on in its place.
    fn start(&self, place: &Place, options: BootOptions) -> Running;

    /// Boots a machine and asks it everything.
    ///
    /// # Errors
    /// When it does not come up, with what it was asked and said meanwhile.
    fn join(
        &self,
        place: &Place,
        seed: (Seed, Format),
        options: BootOptions,
        log: &str,
    ) -> Met<Joined>;
}

impl Machines for Surroundings {
    fn trust(&self, files: &str) -> Part {
        let authority = std::fs::read(self.cloud.file("ca.pem")).expect("it was written");
        let authority = STANDARD.encode(authority);
        let bundle = site::file("/etc/ssl/certs/ca-certificates.crt", "0644", &authority);
        let config = format!("#cloud-config\nwrite_files:\n{bundle}    append: true\n{files}");
        Part::of_cloud_init(config).expect("cloud-config")
    }

    fn start(&self, place: &Place, options: BootOptions) -> Running {
        let options = BootOptions {
            network: nodekiln_qemu::Network::Tap {
                name: place.tap.to_owned(),
                mac: Some(place.mac.to_owned()),
            },
            ..options
        };
        Running::start(&self.network, options)
    }

    fn join(
        &self,
        place: &Place,
        seed: (Seed, Format),
        options: BootOptions,
        log: &str,
    ) -> Met<Joined> {
        let options = BootOptions {
            seed: Some(seed),
            guest_commands: guest::questions(),
            guest_limit: Duration::from_secs(180),
            ..options
        };
        let machine = self.start(place, options);
        let report = machine.until_up().map_err(|unmet| {
            let asked = format!("{:#?}", self.cloud.record());
            unmet.with([asked, self.network.log()])
        })?;
        let text = serde_json::to_string_pretty(&report).expect("JSON");
        std::fs::write(image::scratch().join(format!("{log}.json")), text).expect("written");
        Ok(Joined {
            answers: Answers(report),
            record: self.cloud.record(),
            machine,
        })
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
