//! Joins of which one link is broken on purpose: the checks by which every join is judged
//! have to notice, and to say which link it is. `docs/verification.md` lists them, out of
//! the same table.

use std::time::Duration;

use nodekiln_qemu::{BootOptions, Failure, Format, Milestones, Part, Pattern, Seed};
use nodekiln_tests::cloud::World;
use nodekiln_tests::cloud::certificates::{Authority, Issued};
use nodekiln_tests::cluster::{Node, PlayedKubelet};
use nodekiln_tests::joining::{ROLES_ANYWHERE, TRUST_ANCHOR, hybrid};
use nodekiln_tests::surroundings::Surroundings;
use nodekiln_tests::unmet::Met;

use super::surroundings::{self, Machines as _, SITE};
use super::{image, machine, site};

/// The name of the node that joins.
const NODE: &str = "node-1";

/// A link that is broken.
struct Breakage {
    /// The link, of the chain from an image to a pod.
    link: &'static str,
    /// What is done to it.
    broken: &'static str,
    /// How the join is tried then.
    trial: Trial,
    /// What a line of what is told has to have; `*` stands for anything.
    told: &'static str,
}

enum Trial {
    /// A machine boots.
    Machine(fn(&mut Join)),
    /// No machine is needed to see it.
    Cluster(fn(&mut Surroundings) -> Met),
}

/// Makes the table, and a test of each breakage.
macro_rules! breakages {
    ($($(#[$attribute:meta])* $name:ident: $breakage:expr,)*) => {
        const BREAKAGES: &[Breakage] = &[$($breakage),*];
        $(
            $(#[$attribute])*
            #[test]
            fn $name() {
                $breakage.prove(stringify!($name));
            }
        )*
    };
}

breakages! {
    #[ignore = "takes long: make e2e"]
    a_first_boot_that_cannot_run: Breakage {
        link: "first boot's program",
        broken: "it is empty",
        trial: Trial::Machine(|join| join.before(": >/usr/libexec/nodekiln/firstboot")),
        told: "Failed to start nodekiln-",
    },
    #[ignore = "takes long: make e2e"]
    a_kubelet_of_another_architecture: Breakage {
        link: "the kubelet",
        broken: "its file is marked as one of arm64",
        trial: Trial::Machine(|join| {
            // The field e_machine of ELF.
            join.before(r"printf '\267' | dd of=/usr/bin/kubelet bs=1 seek=18 conv=notrunc");
        }),
        told: "the version of kubelet cannot be found out",
    },
    #[ignore = "takes long: make e2e"]
    a_containerd_that_does_not_stay: Breakage {
        link: "containerd",
        broken: "it says its version, and does no more",
        trial: Trial::Machine(|join| {
            join.before(
                "mv /usr/bin/containerd /usr/bin/containerd.real
                 echo '#!/bin/sh' >/usr/bin/containerd
                 echo 'exec /usr/bin/containerd.real --version' >>/usr/bin/containerd
                 chmod 755 /usr/bin/containerd",
            );
        }),
        told: "nodekiln-firstboot: failed: *containerd.service",
    },
    #[ignore = "takes long: make e2e"]
    a_runtime_without_runc: Breakage {
        link: "runc",
        broken: "it is missing",
        trial: Trial::Machine(|join| join.before("rm /usr/sbin/runc")),
        told: "event: *runc",
    },
    #[ignore = "takes long: make e2e"]
    pods_without_a_network: Breakage {
        link: "the network of pods",
        broken: "the CNI configuration is missing",
        trial: Trial::Machine(|join| join.before("rm /etc/cni/net.d/10-bridge.conflist")),
        told: "the node: *cni plugin not initialized",
    },
    #[ignore = "takes long: make e2e"]
    a_pause_image_that_is_not_there: Breakage {
        link: "the pause image",
        broken: "the image names another than it brings",
        trial: Trial::Machine(|join| {
            join.before("echo localhost/nodekiln-tests/pause:2 >/etc/nodekiln/sandbox-image");
        }),
        told: "event: *sandbox image*nodekiln-tests/pause:2",
    },
    #[ignore = "takes long: make e2e"]
    a_key_of_another_certificate: Breakage {
        link: "the machine's key",
        broken: "it does not fit its certificate",
        trial: Trial::Machine(|join| {
            let other = Authority::new("the site").node_for_a_month(NODE);
            join.certificate.key = other.key;
        }),
        told: "nodekiln-firstboot: *gives no session*signature",
    },
    #[ignore = "takes long: make e2e"]
    a_trust_anchor_of_another_authority: Breakage {
        link: "the trust anchor of IAM Roles Anywhere",
        broken: "it is the authority of another site",
        trial: Trial::Machine(|join| {
            let other = Authority::new("another site");
            join.around.cloud.change(|world| {
                world.trust_anchors.clear();
                world.trust(TRUST_ANCHOR, &other);
            });
        }),
        told: "nodekiln-firstboot: *Untrusted certificate",
    },
    #[ignore = "takes long: make e2e"]
    a_role_that_may_not_join: Breakage {
        link: "the cluster's access entries",
        broken: "there is none for the node's role",
        trial: Trial::Machine(|join| {
            let change = |world: &mut World| world.clusters[0].access_entries.clear();
            join.around.cloud.change(change);
        }),
        told: "nodekiln-firstboot: *no access entry for the role hybrid-node",
    },
    #[ignore = "takes long: make e2e"]
    a_machine_that_trusts_nobody: Breakage {
        link: "the authorities that the machine trusts",
        broken: "that of the services of AWS is not among them",
        trial: Trial::Machine(|join| join.trusts_aws = false),
        told: "nodekiln-firstboot: *certificate signed by unknown authority",
    },
    #[ignore = "takes long: make e2e"]
    a_kubelet_that_cannot_be_asked: Breakage {
        link: "the way from the API server to the kubelet",
        broken: "the machine refuses connections to port 10250",
        trial: Trial::Machine(|join| {
            join.before("iptables -I INPUT -p tcp --dport 10250 -j REJECT");
        }),
        told: "kubectl logs probe: *:10250: connect: connection refused",
    },
    tokens_that_nobody_judges: Breakage {
        link: "aws-iam-authenticator's server, which judges tokens",
        broken: "it does not run",
        trial: Trial::Cluster(|around| {
            around.control_plane.kill("aws-iam-authenticator");
            kubelet(around).create_node(NODE);
            node(around, NODE, PLAYED).until_ready()
        }),
        told: "aws-iam-authenticator does not run",
    },
    a_node_under_the_name_of_another: Breakage {
        link: "the node's name",
        broken: "it is not the one that its role's session has",
        trial: Trial::Cluster(|around| {
            kubelet(around).create_node("node-2");
            node(around, "node-2", PLAYED).until_ready()
        }),
        told: "refused: create *is not allowed to modify node",
    },
    a_serving_certificate_that_nobody_approves: Breakage {
        link: "the approval of serving certificates",
        broken: "who approves them does not run",
        trial: Trial::Cluster(|around| serving_certificate(around, "kubelet-serving-approver")),
        told: "the serving certificate of node-1 was approved by nobody",
    },
    a_serving_certificate_that_nobody_signs: Breakage {
        link: "the signing of serving certificates",
        broken: "kube-controller-manager does not run",
        trial: Trial::Cluster(|around| serving_certificate(around, "kube-controller-manager")),
        told: "the serving certificate of node-1 was approved, and signed by nobody",
    },
}

impl Breakage {
    fn prove(&self, name: &str) {
        let outcome = match self.trial {
            Trial::Machine(break_it) => {
                let mut join = Join::new();
                break_it(&mut join);
                join.run(name, self.told)
            }
            Trial::Cluster(act) => {
                let mut world = World::sample();
                world.add_session(&format!("hybrid-node/{NODE}"));
                act(&mut surroundings::around(&world, &[]))
            }
        };
        let unmet = outcome.expect_err("the checks notice nothing").to_string();
        let told = Pattern::new(self.told);
        let is_told = unmet.lines().any(|line| told.find(line).is_some());
        assert!(is_told, "'{}' is not told: {unmet}", self.told);
    }
}

/// The join of a machine of a site, before it is switched on.
struct Join {
    around: Surroundings,
    certificate: Issued,
    trusts_aws: bool,
    /// Runs on the machine before first boot does.
    script: &'static str,
}

impl Join {
    fn new() -> Self {
        let authority = Authority::new("the site");
        let mut world = World::sample();
        world.trust(TRUST_ANCHOR, &authority);
        Self {
            around: surroundings::around(&world, &[SITE]),
            certificate: authority.node_for_a_month(NODE),
            trusts_aws: true,
            script: "",
        }
    }

    /// Has a script run on the machine before first boot does.
    fn before(&mut self, script: &'static str) {
        self.script = script;
    }

    /// Switches the machine on, and judges it as every machine that joins; ends it as soon
    /// as its console tells what is awaited.
    fn run(&self, name: &str, told: &str) -> Met {
        let image = image::join();
        let mut milestones = Milestones::node();
        milestones.failures.push(Failure {
            pattern: Pattern::new(told),
            meaning: "this was awaited".to_owned(),
            hint: None,
        });
        let options = BootOptions {
            seed: Some((self.seed(), Format::NoCloud)),
            milestones,
            ..machine(&image.qcow2, &format!("broken-{name}.log"))
        };
        let machine = self.around.start(&SITE, options);
        let outcome = machine
            .until_up()
            .and_then(|_| node(&self.around, NODE, MACHINE).check());
        image.assert_unchanged();
        outcome
    }

    fn seed(&self) -> Seed {
        let papers = site::node_certificate(&self.certificate);
        let files = if self.trusts_aws {
            self.around.trust(&papers)
        } else {
            let config = format!("#cloud-config\nwrite_files:\n{papers}");
            Part::of_cloud_init(config).expect("cloud-config")
        };
        // JSON is YAML.
        let commands = serde_json::json!({ "bootcmd": [["sh", "-exc", self.script]] });
        let commands = Part::of_cloud_init(format!("#cloud-config\n{commands}\n"));
        Seed {
            parts: vec![files, commands.expect("cloud-config")],
            ..Seed::of_node_config(hybrid("", ROLES_ANYWHERE))
        }
    }
}

/// How long a machine that is up has for each thing that it will not do.
const MACHINE: Duration = Duration::from_secs(60);
/// The same of a kubelet that is played.
const PLAYED: Duration = Duration::from_secs(5);

/// What a node of these tests would have to be.
fn node<'a>(around: &'a Surroundings, name: &'a str, patience: Duration) -> Node<'a> {
    Node {
        patience,
        ..Node::hybrid(&around.control_plane, name, SITE.address)
    }
}

fn kubelet(around: &Surroundings) -> PlayedKubelet<'_> {
    let session = format!("hybrid-node/{NODE}");
    PlayedKubelet::new(&around.control_plane, &around.cloud, &session, "farm")
}

/// A kubelet asks for its serving certificate while a program does not run.
fn serving_certificate(around: &mut Surroundings, dead: &str) -> Met {
    around.control_plane.kill(dead);
    let kubelet = kubelet(around);
    kubelet.create_node(NODE);
    kubelet.set_address(NODE, SITE.address)?;
    let names = format!("IP:{},DNS:{NODE}", SITE.address);
    kubelet.request_certificate("serving", NODE, &names);
    node(around, NODE, PLAYED).check_serving_certificate()
}

/// The table as the documentation has it.
fn list() -> String {
    let head = "| link | broken: | told: |\n| --- | --- | --- |\n".to_owned();
    BREAKAGES.iter().fold(head, |text, one| {
        let told = one.told.replace('*', "…");
        text + &format!("| {} | {} | `{told}` |\n", one.link, one.broken)
    })
}

#[test]
fn the_documentation_lists_every_breakage() {
    let documentation = include_str!("../../../docs/verification.md");
    let list = list();
    assert!(documentation.contains(&list), "it does not have:\n{list}");
}
