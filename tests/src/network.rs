//! A network with machines in it: a bridge, an interface of kind tap for each machine,
//! and what any site has: DHCP, DNS, a router, which leads to the metadata service, to
//! AWS and to the cluster, and nowhere else. So a guest needs nothing that its image
//! would not need at a real site. Needs root, iproute2 and dnsmasq.
//!
//! Everything is in a network namespace of its own: 10.1.0.0/16 is that of the sample
//! world's instance.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::cloud::Service;
use crate::namespace::Namespace;

/// The router, which is the DHCP and DNS server too.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
/// Where the names of AWS lead.
pub const AWS: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);
/// Where the API server of the cluster is, and where its name leads.
pub const CLUSTER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);

/// A CNI configuration with which pods have addresses of their own and reach others by
/// that of their node: that, and no more, makes a node ready. It belongs into
/// `/etc/cni/net.d`.
pub const POD_NETWORK: &str = r#"{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "isGateway": true,
      "ipMasq": true,
      "ipam": {
        "type": "host-local",
        "ranges": [[{ "subnet": "10.85.0.0/16" }]],
        "routes": [{ "dst": "0.0.0.0/0" }]
      }
    }
  ]
}
"#;

/// A machine's place in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its interface outside; at most 15 characters.
    pub tap: &'static str,
    /// Address of its network card.
    pub mac: &'static str,
    /// The address that DHCP gives it.
    pub address: Ipv4Addr,
}

/// See the module documentation. It ends with its owner.
#[derive(Debug)]
pub struct Network {
    namespace: Namespace,
    names: Option<Child>,
    places: Vec<Place>,
    region: String,
    log: Arc<Mutex<String>>,
    folder: TempDir,
}

/// What prepares it: loopback with the addresses of all that is served, and the bridge.
const PREPARE: &str = "
ip link set lo up
ip address add 169.254.169.254/32 dev lo
ip address add 10.2.0.1/32 dev lo
ip address add 10.2.0.2/32 dev lo
ip link add br0 type bridge
ip address add 10.1.0.1/16 dev br0
ip link set br0 up
mount --bind \"$0\" /etc/resolv.conf
";

impl Network {
    /// Makes one with places for machines, in a region of AWS.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(region: &str, places: &[Place]) -> Self {
        let folder = TempDir::with_prefix("nodekiln-network-").expect("a folder");
        let servers = folder.path().join("resolv.conf");
        fs::write(&servers, format!("nameserver {ROUTER}\n")).expect("written");
        let namespace = Namespace::prepared(PREPARE, &[&servers]);
        let mut network = Self {
            namespace,
            names: None,
            places: places.to_vec(),
            region: region.to_owned(),
            log: Arc::default(),
            folder,
        };
        for Place { tap, .. } in places {
            network.ip(&["tuntap", "add", tap, "mode", "tap"]);
            network.ip(&["link", "set", tap, "master", "br0", "up"]);
        }
        network.start_names();
        network
    }

    /// A command that runs in it.
    pub fn command(&self, program: &Path) -> Command {
        self.namespace.command(program)
    }

    /// Does something on a thread of its own that is in the network: a QEMU that it
    /// starts finds the interfaces.
    ///
    /// # Panics
    /// When the namespace is gone; the thread does when this process may not enter it.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let network = fs::File::open(self.namespace.network()).expect("the namespace is there");
        thread::spawn(move || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(network.as_fd(), kind).expect("this needs root");
            work()
        })
    }

    /// Cuts a machine off, as if its cable were pulled, or ends that.
    ///
    /// # Panics
    /// When there is no such interface.
    pub fn cut(&self, place: &Place, is_cut: bool) {
        let state = if is_cut { "down" } else { "up" };
        self.ip(&["link", "set", place.tap, state]);
    }

    /// Starts DHCP and DNS, again if [`Network::stop_names`] ended them, and waits until
    /// they serve.
    ///
    /// # Panics
    /// When dnsmasq is not installed.
    pub fn start_names(&mut self) {
        let mut child = self
            .names_command()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter must be installed");
        let stderr = child.stderr.take().expect("it is piped");
        self.names = Some(child);
        let log = Arc::clone(&self.log);
        let (started, starts) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if line.contains("started, version") {
                    // Nobody waits for it twice.
                    let _ = started.send(());
                }
                let mut log = log.lock().expect("no holder panics");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let serves = starts.recv();
        assert!(serves.is_ok(), "dnsmasq does not start: {}", self.log());
    }

    fn names_command(&self) -> Command {
        // Not even a test that is killed leaves it behind.
        let mut command = self.command(Path::new("setpriv"));
        command
            .args(["--pdeathsig=KILL", "--", "dnsmasq"])
            .args([
                // It stays in the foreground and remains who it is: the root of a user
                // namespace may not change its groups.
                "--no-daemon",
                "--conf-file=/dev/null",
            ])
            .args(["--no-hosts", "--no-resolv", "--no-poll", "--pid-file="])
            .args([
                "--bind-interfaces",
                "--interface=br0",
                "--except-interface=lo",
            ])
            .args([
                "--dhcp-authoritative",
                "--dhcp-range=10.1.0.0,static,255.255.0.0",
            ])
            .args(["--log-facility=-", "--log-dhcp"])
            .arg(format!(
                "--dhcp-leasefile={}",
                self.folder.path().join("leases").display()
            ))
            // All other names are not there, and that is known at once.
            .arg("--address=/#/");
        for Place { mac, address, .. } in &self.places {
            command.arg(format!("--dhcp-host={mac},{address}"));
        }
        for service in Service::ALL {
            let address = if service == Service::Cluster {
                CLUSTER
            } else {
                AWS
            };
            if let Some(host) = service.host(&self.region) {
                command.arg(format!("--address=/{host}/{address}"));
            }
        }
        command
    }

    /// Ends DHCP and DNS. Machines keep the addresses that they have.
    ///
    /// # Panics
    /// When they cannot be ended.
    pub fn stop_names(&mut self) {
        if let Some(mut names) = self.names.take() {
            names.kill().expect("it can be killed");
            names.wait().expect("it was started");
        }
    }

    /// What DHCP and DNS said until now.
    ///
    /// # Panics
    /// Never: who writes it does not.
    pub fn log(&self) -> String {
        self.log.lock().expect("no holder panics").clone()
    }

    fn ip(&self, arguments: &[&str]) {
        let output = self.command(Path::new("ip")).args(arguments).output();
        let output = output.expect("nsenter must be installed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {arguments:?}: {said}");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop_names();
    }
}
