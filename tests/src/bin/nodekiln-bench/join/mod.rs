//! From power-on to a node that is ready: first boot beside cloud-init and a script that
//! takes the same steps, on the same image in QEMU, at a site with a control plane of the
//! real programs.

mod image;

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nodekiln_qemu::{BootOptions, Format, Observer, Part, Report, Seed, boot};
use nodekiln_tests::cloud::World;
use nodekiln_tests::cloud::certificates::{Authority, Issued};
use nodekiln_tests::cluster::MINOR;
use nodekiln_tests::container_image::PAUSE;
use nodekiln_tests::first_boot::Rendered;
use nodekiln_tests::joining::{ROLES_ANYWHERE, TRUST_ANCHOR, hybrid};
use nodekiln_tests::network::Place;
use nodekiln_tests::program::run;
use nodekiln_tests::surroundings::Surroundings;
use serde_json::json;

use crate::subjects::Bench;

/// What is measured, each from power-on. The first are milestones of `nodekiln boot`.
pub const PHASES: [&str; 7] = [
    "kernel",
    "systemd",
    "firstboot",
    "containerd",
    "kubelet",
    REGISTERED,
    READY,
];
const REGISTERED: &str = "registered";
const READY: &str = "Ready";

/// The ways of making a node, as the results name them.
pub const WAYS: [(&str, Way); 2] = [
    ("first boot", Way::FirstBoot),
    ("cloud-init and a script", Way::Script),
];

/// A way of making a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The image's own program.
    FirstBoot,
    /// cloud-init, and a script of a person.
    Script,
}

impl Way {
    /// The end of the name of the console's log.
    fn log(self) -> &'static str {
        match self {
            Self::FirstBoot => "first-boot.log",
            Self::Script => "script.log",
        }
    }
}

const SCRIPT: &str = include_str!("script.sh");
/// Where the script finds the node's files.
const FILES: &str = "/var/lib/join-files.tar.gz";
const NODE: &str = "node-1";
const SITE: Place = Place {
    tap: "site",
    mac: "52:54:00:10:01:11",
    address: Ipv4Addr::new(10, 1, 1, 11),
};
/// A guest without hardware virtualisation is slow.
const LIMIT: &str = "--timeout=900s";
const SCALE: f64 = 4.0;

/// Boots a machine in each way, `rounds` times in turn; gives the seconds of each phase,
/// by way and round.
pub fn measure(bench: &Bench<'_>, rounds: usize) -> Vec<Vec<Vec<f64>>> {
    let image = image::baked(bench.settings);
    let mut seconds = vec![Vec::new(); WAYS.len()];
    for round in 1..=rounds {
        for ((name, way), seconds) in WAYS.iter().zip(&mut seconds) {
            // A site of its own: no node is known there yet.
            let times = Site::new(&bench.settings.firstboot).boot(*way, &image);
            let told = times.iter().map(|time| format!("{time:.1}"));
            eprintln!(
                "    round {round}: {name:<24} {} s",
                told.collect::<Vec<_>>().join(" ")
            );
            seconds.push(times);
        }
    }
    seconds
}

/// What is around the machine, and what it is given.
struct Site {
    around: Surroundings,
    papers: Issued,
    /// The NodeConfig.
    config: String,
    /// The node's files, for the script.
    files: Vec<u8>,
}

impl Site {
    fn new(firstboot: &Path) -> Self {
        let authority = Authority::new("the site");
        let papers = authority.node_for_a_month(NODE);
        let mut world = World::sample();
        world.trust(TRUST_ANCHOR, &authority);
        let itself = std::env::current_exe().expect("the program knows its path");
        let cloud = itself.with_file_name("nodekiln-cloud");
        let around = Surroundings::new(&cloud, &world, &[SITE], MINOR);
        let control_plane = &around.control_plane;
        let cluster = format!(
            "    apiServerEndpoint: {}\n    certificateAuthority: {}\n    cidr: 10.100.0.0/16\n",
            control_plane.endpoint(),
            STANDARD.encode(control_plane.ca_pem())
        );
        let config = hybrid(&cluster, ROLES_ANYWHERE);
        let files = files(firstboot, &config, control_plane.version());
        Self {
            around,
            papers,
            config,
            files,
        }
    }

    /// Boots a machine until its node is ready; gives the seconds of each phase.
    fn boot(&self, way: Way, image: &Path) -> Vec<f64> {
        let is_over = Arc::new(AtomicBool::new(false));
        let (sender, up) = mpsc::channel();
        let mut watch = Watch {
            is_over: Arc::clone(&is_over),
            up: sender,
        };
        let options = BootOptions {
            seed: Some((self.seed(way), Format::NoCloud)),
            network: nodekiln_qemu::Network::Tap {
                name: SITE.tap.to_owned(),
                mac: Some(SITE.mac.to_owned()),
            },
            timeout_scale: SCALE,
            keep: true,
            console_log: Some(image.with_extension(way.log())),
            ..BootOptions::of_image(image)
        };
        let machine = self.around.network.spawn(move || {
            if let Err(error) = boot(&options, &mut watch) {
                // Its node would be waited for in vain.
                eprintln!("error: the machine: {error}");
                std::process::exit(1);
            }
        });
        let node = format!("node/{NODE}");
        let wait_for = |what: &str| {
            let waited = self.around.control_plane.wait(&[what, LIMIT, &node]);
            waited.expect("it joins");
            Instant::now()
        };
        let registered = wait_for("--for=create");
        let ready = wait_for("--for=condition=Ready");
        // It may be ready before its last milestone is told.
        let up = up.recv();
        is_over.store(true, Ordering::Relaxed);
        machine.join().expect("the thread of the machine");
        let up = up.expect("one that booted said so");
        self.around.cloud.record();
        let since = |moment: Instant| (moment - up.power_on).as_secs_f64();
        let milestone = |name: &str| {
            let reached = up.report.milestone(name);
            let seconds = reached.and_then(|reached| reached.seconds);
            seconds.unwrap_or_else(|| panic!("{name} was not told"))
        };
        PHASES
            .into_iter()
            .map(|phase| match phase {
                REGISTERED => since(registered),
                READY => since(ready),
                name => milestone(name),
            })
            .collect()
    }

    fn seed(&self, way: Way) -> Seed {
        let authority = std::fs::read(self.around.cloud.file("ca.pem")).expect("it was written");
        let bundle = file("/etc/ssl/certs/ca-certificates.crt", "0644", &authority);
        let mut config = format!("#cloud-config\nwrite_files:\n{bundle}    append: true\n");
        for (name, mode, text) in [
            ("pem", "0644", &self.papers.certificate),
            ("key", "0600", &self.papers.key),
        ] {
            let path = format!("/etc/iam/pki/server.{name}");
            config += &file(&path, mode, text.as_bytes());
        }
        let part = |body: String| Part::of_cloud_init(body).expect("a part for cloud-init");
        let hostname = Some("machine-17".to_owned());
        match way {
            Way::FirstBoot => Seed {
                hostname,
                parts: vec![part(config)],
                ..Seed::of_node_config(&*self.config)
            },
            Way::Script => {
                // cloud-init takes an entry without content for an error.
                config += &file("/etc/nodekiln/disabled", "0644", b"a script joins\n");
                config += &file(FILES, "0600", &self.files);
                let (_, script) = SCRIPT.split_once('\n').expect("a first line");
                let World { region, .. } = World::sample();
                let endpoint = self.around.control_plane.endpoint();
                let head = format!("cluster=farm region={region} endpoint={endpoint}");
                Seed {
                    instance_id: "join-by-a-script".to_owned(),
                    hostname,
                    parts: vec![part(config), part(format!("#!/bin/bash\n{head}\n{script}"))],
                    ..Seed::default()
                }
            }
        }
    }
}

/// An entry of cloud-config's `write_files`.
fn file(path: &str, mode: &str, content: &[u8]) -> String {
    let encoded = STANDARD.encode(content);
    format!(
        "  - path: {path}\n    permissions: '{mode}'\n    encoding: b64\n    content: {encoded}\n"
    )
}

/// The node's files as first boot renders them, packed: a person would bring such files
/// along, made by hand.
fn files(firstboot: &Path, config: &str, kubernetes: &str) -> Vec<u8> {
    let facts = json!({
        "os": "debian",
        "kubelet": kubernetes,
        "containerd": "1.6.20",
        "logicalCpus": 2,
        "memoryKib": 2 << 20,
        "onlineMemoryKib": 2 << 20,
        "sandboxImage": PAUSE,
        "credentialProvider": "/etc/eks/image-credential-provider/ecr-credential-provider",
    });
    let rendered = Rendered::by(Command::new(firstboot), config, &facts);
    let root = rendered.root();
    let archive = root.with_file_name("files.tar.gz");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let owner = ["--owner=0", "--group=0"];
    let names = ["-C", &text(&root), "-czf", &text(&archive), "."];
    run("tar", &[&owner[..], &names].concat());
    std::fs::read(archive).expect("tar wrote it")
}

/// A machine that has passed its last milestone.
struct Up {
    power_on: Instant,
    report: Report,
}

struct Watch {
    is_over: Arc<AtomicBool>,
    up: mpsc::Sender<Up>,
}

impl Observer for Watch {
    fn on_keep(&mut self, report: &Report) {
        let since = Duration::from_secs_f64(report.seconds);
        let power_on = Instant::now().checked_sub(since);
        let up = Up {
            power_on: power_on.expect("it was switched on after this machine"),
            report: report.clone(),
        };
        // Who waits for it may have given up.
        let _ = self.up.send(up);
    }

    fn stopped(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}
