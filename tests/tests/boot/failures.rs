//! Joins in which something goes wrong: each machine says what, at the console, in its
//! journal and by `firstboot status`, and joins by itself once it is mended. They take
//! long: `make e2e` runs them.

use std::time::Duration;

use nodekiln_qemu::{BootOptions, Format, Milestones, Part, Seed};
use nodekiln_tests::cloud::certificates::Authority;
use nodekiln_tests::cloud::fault::{Fault, Kind};
use nodekiln_tests::cloud::{Service, World};
use nodekiln_tests::cluster::{MINOR, Node};
use nodekiln_tests::joining::{ROLES_ANYWHERE, TRUST_ANCHOR, hybrid};
use nodekiln_tests::surroundings::Surroundings;

use super::running::Running;
use super::surroundings::{self, Machines as _, SITE};
use super::{image, machine, site};

/// The longest that a machine may take to say what is wrong, once it can tell. A minute,
/// and a guest without hardware virtualisation is slow.
const SOON: Duration = Duration::from_secs(180);
/// The longest that a machine may take to come so far that something can go wrong.
const LONG: Duration = Duration::from_secs(600);

/// Keeps saying at the console what the journal and `firstboot status` have.
/// It begins before first boot does; a getty that starts hangs up a terminal, but not
/// the console.
const SAY_ALL: &str = "#cloud-config
bootcmd:
  - - systemd-run
    - --no-block
    - sh
    - -c
    - |
      journalctl -f -n all -o cat -u nodekiln-firstboot | sed -u 's/^/journal: /' >/dev/console
  - - systemd-run
    - --no-block
    - sh
    - -c
    - |
      while sleep 3; do firstboot status 2>&1; done | sed -u 's/^/status: /' >/dev/console
";

/// Something that goes wrong.
struct Failure {
    /// For the files of the test.
    name: &'static str,
    /// The line of the console at which it happens; before power-on where there is none.
    when: Option<&'static str>,
    /// What goes wrong.
    strike: fn(&mut Surroundings),
    /// The guest's clock, in seconds from the right one.
    clock: i64,
    /// What the machine says about it; nothing where it may not even notice.
    told: &'static [&'static str],
    /// What mends it; none where nothing can from outside.
    mend: Option<fn(&mut Surroundings)>,
}

impl Failure {
    const NONE: Self = Self {
        name: "",
        when: None,
        strike: |_| {},
        clock: 0,
        told: &[],
        mend: None,
    };

    fn run(&self) {
        let image = image::join();
        let mut scene = Scene::new();
        if self.when.is_none() {
            (self.strike)(&mut scene.around);
        }
        let options = machine(&image.qcow2, &format!("failure-{}.log", self.name));
        let options = BootOptions {
            clock: (self.clock != 0).then(|| clock(self.clock)),
            ..options
        };
        let machine = scene.start(options);
        if let Some(when) = self.when {
            until(&machine, when, LONG);
            (self.strike)(&mut scene.around);
        }
        for told in self.told {
            for from in ["nodekiln-firstboot: ", "journal: ", "status: "] {
                let limit = if from == "status: " { SOON } else { LONG };
                let has = |line: &str| line.find(from).is_some_and(|at| line[at..].contains(told));
                let line = machine.until_line(has, limit);
                line.unwrap_or_else(|error| unreachable!("no '{from}' has '{told}': {error}"));
            }
        }
        if let Some(mend) = self.mend {
            mend(&mut scene.around);
            let node = scene.node();
            node.until_ready().expect("it joins");
            assert_eq!(node.registrations(), 1);
        }
        image.assert_unchanged();
    }
}

/// A machine of a site with Roles Anywhere, in its surroundings.
struct Scene {
    around: Surroundings,
    seed: Seed,
}

impl Scene {
    fn new() -> Self {
        let site = Authority::new("the site");
        let mut world = World::sample();
        world.trust(TRUST_ANCHOR, &site);
        let around = surroundings::around(&world, &[SITE]);
        let say_all = Part::of_cloud_init(SAY_ALL).expect("cloud-config");
        let seed = Seed {
            parts: vec![
                around.trust(&site::node_certificate(&site.node_for_a_month("node-1"))),
                say_all,
            ],
            ..Seed::of_node_config(hybrid("", ROLES_ANYWHERE))
        };
        Self { around, seed }
    }

    /// Switches the machine on.
    fn start(&self, options: BootOptions) -> Running {
        let options = BootOptions {
            seed: Some((self.seed.clone(), Format::NoCloud)),
            // What fails does not end the boot.
            milestones: Milestones::login(),
            ..options
        };
        self.around.start(&SITE, options)
    }

    fn node(&self) -> Node<'_> {
        Node::hybrid(&self.around.control_plane, "node-1", SITE.address)
    }
}

/// Waits for a line with a text.
fn until(machine: &Running, text: &str, limit: Duration) {
    let line = machine.until_line(|line| line.contains(text), limit);
    line.unwrap_or_else(|error| unreachable!("not told '{text}': {error}"));
}

/// The time so many seconds from now, as the guest's clock takes it.
fn clock(seconds: i64) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    let time = time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
    time.format(format).expect("a time of these years")
}

#[test]
#[ignore = "takes long: make e2e"]
fn an_api_server_that_is_down_is_waited_for() {
    Failure {
        name: "api-server",
        strike: |around| around.control_plane.stop_api_server(),
        told: &["api-server-endpoint-resolution-validation"],
        mend: Some(|around| around.control_plane.start_api_server()),
        ..Failure::NONE
    }
    .run();
}

#[test]
#[ignore = "takes long: make e2e"]
fn a_cable_that_is_pulled_for_half_a_minute_is_survived() {
    Failure {
        name: "network",
        when: Some("nodekiln-firstboot: started"),
        strike: |around| {
            around.network.cut(&SITE, true);
            // This is the failure; nothing tells when it is over.
            std::thread::sleep(Duration::from_secs(30));
            around.network.cut(&SITE, false);
        },
        mend: Some(|_| {}),
        ..Failure::NONE
    }
    .run();
}

#[test]
#[ignore = "takes long: make e2e"]
fn name_servers_that_are_dead_are_told_and_waited_for() {
    Failure {
        name: "names",
        when: Some("nodekiln-firstboot: started"),
        strike: |around| around.network.stop_names(),
        told: &["credential_process of profile default"],
        mend: Some(|around| around.network.start_names()),
        ..Failure::NONE
    }
    .run();
}

#[test]
#[ignore = "takes long: make e2e"]
fn an_authority_of_another_cluster_is_told() {
    Failure {
        name: "authority",
        strike: |around| {
            let other = Authority::new("another cluster").certificate;
            around
                .cloud
                .change(|world| world.clusters[0].certificate_authority = Some(other));
        },
        told: &["k8s-authentication-validation", "certificate"],
        ..Failure::NONE
    }
    .run();
}

#[test]
#[ignore = "takes long: make e2e"]
fn a_role_without_an_access_entry_joins_once_it_has_one() {
    Failure {
        name: "role",
        strike: |around| {
            around
                .cloud
                .change(|world| world.clusters[0].access_entries.clear());
        },
        told: &["the cluster has no access entry for the role hybrid-node"],
        mend: Some(|around| {
            let role = "arn:aws:iam::111122223333:role/hybrid-node".to_owned();
            around
                .cloud
                .change(|world| world.clusters[0].access_entries.push(role));
        }),
        ..Failure::NONE
    }
    .run();
}

#[test]
#[ignore = "takes long: make e2e"]
fn a_kubelet_that_is_newer_than_its_cluster_is_refused() {
    Failure {
        name: "skew",
        strike: |around| set_version(around, "1.33"),
        told: &["kubelet-version-skew-validation"],
        mend: Some(|around| set_version(around, MINOR)),
        ..Failure::NONE
    }
    .run();
}

fn set_version(around: &Surroundings, version: &str) {
    let version = version.to_owned();
    around
        .cloud
        .change(|world| world.clusters[0].version = version);
}

#[test]
#[ignore = "takes long: make e2e"]
fn a_clock_that_is_an_hour_behind_is_told() {
    Failure {
        name: "clock",
        clock: -3600,
        told: &["Signature expired"],
        ..Failure::NONE
    }
    .run();
}

#[test]
#[ignore = "takes long: make e2e"]
fn credentials_that_are_not_given_for_a_while_are_waited_for() {
    Failure {
        name: "credentials",
        strike: |around| {
            let down = Fault::of(Service::RolesAnywhere, Kind::Status(503), 0);
            around.cloud.faults(&[down]);
        },
        told: &["gives no session"],
        mend: Some(|around| around.cloud.faults(&[])),
        ..Failure::NONE
    }
    .run();
}

/// How often the power is cut.
const CUTS: u32 = 10;

#[test]
#[ignore = "takes long: make e2e"]
fn a_machine_joins_whenever_its_power_is_cut() {
    let image = image::join();
    let scene = Scene::new();
    let folder = tempfile::tempdir().expect("a folder");
    let options = |log: &str| BootOptions {
        overlay: Some(folder.path().join("disk.qcow2")),
        ..machine(&image.qcow2, log)
    };
    for cut in 0..CUTS {
        let machine = scene.start(options(&format!("power-{cut}.log")));
        let limit = Duration::from_secs_f64(150.0 * random());
        let never = machine.until_line(|_| false, limit);
        assert!(never.is_err());
        let seconds = limit.as_secs_f64();
        println!("cut {cut} after {seconds:.1} s: {:?}", machine.last_line());
        machine.cut_power();
    }
    let machine = scene.start(options("power-last.log"));
    until(&machine, "nodekiln-firstboot: done in ", LONG);
    let node = scene.node();
    node.until_ready().expect("it joins");
    assert_eq!(node.registrations(), 1);
}

/// A number from 0 to 1.
fn random() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    f64::from(RandomState::new().hash_one(0) as u32) / f64::from(u32::MAX)
}
