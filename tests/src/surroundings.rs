//! What is around machines that join: the network of their site, the cloud by the names
//! of AWS, and a real control plane.

use std::path::Path;

use crate::cloud::World;
use crate::cloud::client::Cloud;
use crate::cluster::ControlPlane;
use crate::network::{AWS, CLUSTER, Network, Place};

/// See the module documentation.
#[derive(Debug)]
pub struct Surroundings {
    // Dropped in this order: who asks before who answers.
    /// The cluster.
    pub control_plane: ControlPlane,
    /// AWS.
    pub cloud: Cloud,
    /// In which all of it is.
    pub network: Network,
}

impl Surroundings {
    /// Makes them around places for machines. `cloud` is the program `nodekiln-cloud`,
    /// `minor` a version of Kubernetes such as `1.34`.
    ///
    /// Its processes end with the thread that calls this.
    ///
    /// # Panics
    /// When something does not start.
    pub fn new(cloud: &Path, world: &World, places: &[Place], minor: &str) -> Self {
        let network = Network::new(&world.region, places);
        let names = format!("{AWS}:443");
        let served = ["--imds", "169.254.169.254:80", "--names", &names];
        let cloud = Cloud::start(network.command(cloud), world, &served);
        let place = |program: &Path| network.command(program);
        let control_plane = ControlPlane::start(place, CLUSTER, minor, &cloud);
        Self {
            control_plane,
            cloud,
            network,
        }
    }
}
