//! Images, baked by the command and booted as machines of a site or of EC2 would be:
//! UEFI firmware, a seed, real components, to a node of a real control plane that is
//! ready and runs pods. A site that gets it wrong is told so on the console.
//!
//! The command is `target/release/nodekiln`, or what `NODEKILN_TEST_BINARY` names.

use std::path::Path;
use std::time::{Duration, Instant};

use nodekiln_qemu::{
    Architecture, BootOptions, Milestones, Network, Observer, Report, Standing, boot,
};
use nodekiln_tests::cluster::CPUS;

#[path = "boot/breakages.rs"]
mod breakages;
#[path = "boot/expected.rs"]
mod expected;
#[path = "boot/failures.rs"]
mod failures;
#[path = "boot/guest.rs"]
mod guest;
#[path = "boot/image.rs"]
mod image;
#[path = "boot/join.rs"]
mod join;
#[path = "boot/running.rs"]
mod running;
#[path = "boot/site.rs"]
mod site;
#[path = "boot/surroundings.rs"]
mod surroundings;
#[path = "boot/upgrade.rs"]
mod upgrade;

use expected::{DISK_SIZE, MEMORY_MIB};
use site::Site;

/// Machines that run tests are loaded; what does not come at all fails anyhow.
const PATIENCE: f64 = 4.0;

/// Keeps the console.
#[derive(Default)]
struct Lines {
    all: Vec<String>,
    /// Ends a guest that was to be kept, when it has said this, or at that time.
    until: Option<(&'static str, Instant)>,
    is_kept: bool,
}

impl Observer for Lines {
    fn on_line(&mut self, _: Duration, line: &str) {
        self.all.push(line.to_owned());
    }

    fn on_keep(&mut self, _: &Report) {
        self.is_kept = true;
    }

    fn stopped(&self) -> bool {
        self.is_kept
            && self.until.is_some_and(|(text, limit)| {
                Instant::now() > limit || self.all.iter().any(|line| line.contains(text))
            })
    }
}

fn machine(image: &Path, log: &str) -> BootOptions {
    BootOptions {
        cpus: CPUS,
        memory_mib: MEMORY_MIB,
        disk_size: Some(DISK_SIZE),
        timeout_scale: PATIENCE,
        // The site is cut off: nothing of a first boot may need the world.
        network: Network::User {
            forwards: Vec::new(),
            restricted: true,
        },
        console_log: Some(image::scratch().join(log)),
        ..BootOptions::of_image(image)
    }
}

fn assert_milestones_in_order(report: &Report) {
    let times: Vec<f64> = report
        .milestones
        .iter()
        // Where one was not seen, a later one implied it.
        .filter(|milestone| milestone.standing != Standing::Implied)
        .map(|milestone| {
            milestone
                .seconds
                .unwrap_or_else(|| unreachable!("{milestone:?}"))
        })
        .collect();
    assert!(times.is_sorted(), "{:#?}", report.milestones);
    assert!(times.len() >= 9, "{:#?}", report.milestones);
}

#[test]
fn without_a_seed_the_console_says_what_was_tried_and_the_machine_comes_up() {
    without_a_seed(machine(&image::demo().qcow2, "no-seed.log"));
}

#[test]
#[ignore = "takes long: make e2e"]
fn a_machine_of_arm64_boots_an_image_that_was_baked_on_x86_64() {
    let image = image::arm64();
    without_a_seed(BootOptions {
        architecture: Architecture::Aarch64,
        // Another processor is emulated, and no kernel here helps with it.
        timeout_scale: 3.0 * PATIENCE,
        ..machine(&image.qcow2, "arm64.log")
    });
    image.assert_unchanged();
}

fn without_a_seed(options: BootOptions) {
    const TOLD: &str = "nodekiln-firstboot: failed: ";
    let patience = Duration::from_secs_f64(100.0 * options.timeout_scale);
    // The prompt and the message come in any order: the guest is kept until both
    // are there.
    let options = BootOptions {
        milestones: Milestones::login(),
        keep: true,
        ..options
    };
    let mut lines = Lines {
        until: Some((TOLD, Instant::now() + patience)),
        ..Lines::default()
    };
    let outcome = boot(&options, &mut lines);
    let report = outcome.unwrap_or_else(|error| unreachable!("{error}\n{}", lines.all.join("\n")));
    assert!(report.passed);
    let failed = "nodekiln-firstboot: failed: no NodeConfig was found";
    let line = lines.all.iter().find(|line| line.contains(failed));
    let line = line.unwrap_or_else(|| unreachable!("not told:\n{}", lines.all.join("\n")));
    for tried in [
        "/etc/nodekiln/nodeconfig.yaml",
        "/etc/nodekiln/nodeconfig.d",
        "cloud-init",
        "cidata",
        "config-2",
        "hint: ",
    ] {
        assert!(line.contains(tried), "'{tried}' is not in: {line}");
    }
}

#[test]
fn a_broken_node_config_ends_the_boot_with_line_and_column() {
    let image = image::demo();
    let site = Site {
        cluster: "demo",
        region: "us-west-2",
        endpoint: "https://10.0.2.2:6443",
        cidr: "10.100.0.0/16",
        node: "demo-node",
        more: "",
    };
    let papers = site.papers();
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let node_config = write("node-config.yaml", &papers.node_config);
    // The command refuses to hand out a broken NodeConfig. One that cloud-init
    // lays down goes past it, and before the seed's.
    let broken = papers.node_config.replace("    region:", "    regoin:");
    let broken = write("broken.yaml", &broken);
    let encoded = nodekiln_tests::program::run("base64", &["-w0", broken.to_str().expect("UTF-8")]);
    let entry = site::file("/etc/nodekiln/nodeconfig.yaml", "0600", &encoded);
    let cloud_config = write("cloud-config.yaml", &(papers.cloud_config + &entry));

    let output = image::command()
        .arg("boot")
        .arg(&image.qcow2)
        .arg("--node-config")
        .arg(&node_config)
        .arg("--cloud-config")
        .arg(&cloud_config)
        .args(["--timeout-scale", "4", "--console-log"])
        .arg(image::scratch().join("broken.log"))
        .output()
        .expect("the command starts");
    let told = image::stderr(&output);
    assert_eq!(output.status.code(), Some(7), "{told}");
    let (_, console) = told
        .split_once("the console ended with:")
        .unwrap_or_else(|| unreachable!("no console:\n{told}"));
    let line = console
        .lines()
        .find(|line| line.contains("nodekiln-firstboot: failed: "))
        .unwrap_or_else(|| unreachable!("not told:\n{told}"));
    for part in ["line 6, column 5", "regoin", "region"] {
        assert!(line.contains(part), "'{part}' is not in: {line}");
    }
    image.assert_unchanged();
}
