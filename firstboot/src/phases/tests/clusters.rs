//! Machines that ask EKS about their cluster.

use super::*;
use crate::system::{self, Ended, Response};
use crate::validation::{Outcome, Verdict};

const ASKED: &str = "GET https://eks.us-west-2.amazonaws.com/clusters/my-cluster";
pub(super) const HELPER: &str = "/usr/local/bin/aws_signing_helper credential-process";

fn ca() -> String {
    sample().spec.cluster.certificate_authority
}

fn description() -> serde_json::Value {
    serde_json::json!({"cluster": {
        "status": "ACTIVE",
        "endpoint": sample().spec.cluster.api_server_endpoint,
        "certificateAuthority": {"data": ca()},
        "kubernetesNetworkConfig": {"serviceIpv4Cidr": "10.100.0.0/16"},
        "version": "1.34",
        "remoteNetworkConfig": {"remoteNodeNetworks": [{"cidrs": ["10.0.0.0/16"]}]},
    }})
}

fn eks_answers(machine: &Pretended, status: u16, body: &serde_json::Value) {
    let answer = Response {
        status,
        headers: Vec::new(),
        body: body.to_string().into_bytes(),
    };
    machine
        .answers
        .borrow_mut()
        .insert(ASKED.into(), Ok(answer));
}

/// Gives keys to whoever runs the program of the AWS configuration.
fn give_keys(machine: &Pretended, line: &str) -> Option<Result<Ended, system::Error>> {
    if !line.starts_with(HELPER) {
        return None;
    }
    // As the file that was just written says, and no earlier.
    assert!(machine.text("/etc/aws/hybrid/config").is_some());
    Some(Ok(keys()))
}

pub(super) fn keys() -> Ended {
    Ended {
        success: true,
        output: r#"{"Version": 1, "AccessKeyId": "AKID", "SecretAccessKey": "s3cr3t",
                    "SessionToken": "t0ken"}"#
            .into(),
        errors: String::new(),
    }
}

/// The helper, whose certificate nobody trusts.
fn refuse_keys(_: &Pretended, line: &str) -> Option<Result<Ended, system::Error>> {
    line.starts_with(HELPER).then(|| {
        Ok(Ended {
            errors: "2026/11/29 20:00:00 operation error RolesAnywhere: CreateSession, https \
                     response error StatusCode: 403, RequestID: 1, AccessDeniedException: \
                     Untrusted certificate. Insufficient certificate\n"
                .into(),
            ..Ended::default()
        })
    })
}

fn asking_machine() -> Pretended {
    let machine = machine();
    machine.hook.set(Some(give_keys));
    machine.prints(
        "ip -json -4 address show",
        r#"[{"ifname":"eth0","addr_info":[{"local":"10.0.1.5","scope":"global"}]}]"#,
    );
    machine.prints(
        "ip -json -4 route show default",
        r#"[{"dst":"default","dev":"eth0","metric":100}]"#,
    );
    eks_answers(&machine, 200, &description());
    machine
}

fn short_sample() -> NodeConfig {
    let mut config = sample();
    config.spec.cluster.api_server_endpoint.clear();
    config.spec.cluster.certificate_authority.clear();
    config.spec.cluster.cidr.clear();
    config
}

fn times_asked(machine: &Pretended) -> usize {
    let requests = machine.requests.borrow();
    let asked = requests
        .iter()
        .map(|request| format!("{} {}", request.method, request.url));
    asked.filter(|asked| asked == ASKED).count()
}

fn cut_off_from_the_network(machine: &Pretended) {
    machine.listeners.borrow_mut().clear();
    machine.answers.borrow_mut().clear();
}

#[test]
fn what_the_node_config_leaves_out_is_asked_of_eks() {
    let machine = asking_machine();
    work_with(&machine, &short_sample()).unwrap();
    let full = super::machine();
    work_with(&full, &sample()).unwrap();
    let mut tree = machine.tree();
    let kept = tree.remove(cluster::REMEMBERED).unwrap();
    assert_eq!(kept.1, 0o600);
    assert_eq!(tree, full.tree());
    assert_eq!(times_asked(&machine), 1);
    let requests = machine.requests.borrow();
    let signed = requests.iter().any(|request| {
        let mut headers = request.headers.iter();
        headers.any(|(name, value)| name == "authorization" && value.contains("AKID/"))
    });
    assert!(signed);
    // What it says goes into the checks.
    let said = machine.said.borrow().join("\n");
    assert!(said.contains("10.0.1.5 is in 10.0.0.0/16"), "{said}");
    assert!(!said.contains("s3cr3t") && !said.contains("t0ken"));
}

#[test]
fn nobody_is_asked_where_the_node_config_says_all() {
    let machine = asking_machine();
    work_with(&machine, &sample()).unwrap();
    assert_eq!(times_asked(&machine), 0);
    assert!(machine.text(cluster::REMEMBERED).is_none());
}

#[test]
fn only_what_is_missing_is_filled() {
    let machine = asking_machine();
    let mut config = short_sample();
    config.spec.cluster.cidr = "172.20.0.0/16".into();
    work_with(&machine, &config).unwrap();
    let kubelet = machine.text("/etc/kubernetes/kubelet/config.json").unwrap();
    assert!(kubelet.contains("172.20.0.10"), "{kubelet}");
}

#[test]
fn a_node_that_asked_starts_again_without_a_network() {
    let machine = asking_machine();
    work_with(&machine, &short_sample()).unwrap();
    machine.reboot();
    cut_off_from_the_network(&machine);
    let before = machine.files.borrow().clone();
    work_with(&machine, &short_sample()).unwrap();
    assert_eq!(*machine.files.borrow(), before);
    assert_eq!(times_asked(&machine), 1);
    // Another NodeConfig is another question.
    let mut config = short_sample();
    config.spec.kubelet.flags.push("--v=4".into());
    let error = work_with(&machine, &config).unwrap_err();
    assert_eq!(error.exit_code(), 6, "{error:?}");
}

#[test]
fn a_new_kubelet_is_checked_against_what_eks_says_now() {
    let machine = asking_machine();
    work_with(&machine, &short_sample()).unwrap();
    let newer = |machine: &Pretended| {
        let version = b"Kubernetes v1.35.4\n";
        machine.put("/etc/eks/kubelet-version.txt", version, 0o644);
        machine.reboot();
    };
    newer(&machine);
    let error = work_with(&machine, &short_sample()).unwrap_err();
    let told = error.chain();
    assert!(told.contains("kubelet-version-skew-validation"), "{told}");
    let mut upgraded = description();
    upgraded["cluster"]["version"] = "1.35".into();
    eks_answers(&machine, 200, &upgraded);
    machine.reboot();
    work_with(&machine, &short_sample()).unwrap();

    // Upgraded in time, it is known at once.
    let machine = asking_machine();
    work_with(&machine, &short_sample()).unwrap();
    eks_answers(&machine, 200, &upgraded);
    newer(&machine);
    work_with(&machine, &short_sample()).unwrap();
    assert_eq!(times_asked(&machine), 2);
}

#[test]
fn a_cluster_that_cannot_be_joined_is_told_clearly() {
    let changed = |pointer: &str, value: serde_json::Value| {
        let mut description = description();
        *description.pointer_mut(pointer).unwrap() = value;
        description
    };
    let refusal = |code: &str| serde_json::json!({"__type": code, "message": "no"});
    let table = [
        (
            200,
            changed("/cluster/status", "DELETING".into()),
            4,
            "not active",
            "ACTIVE",
        ),
        (
            200,
            changed("/cluster/status", "CREATING".into()),
            6,
            "not active",
            "ACTIVE",
        ),
        (
            200,
            changed("/cluster/remoteNetworkConfig", serde_json::Value::Null),
            4,
            "remoteNetworkConfig",
            "remoteNetworkConfig",
        ),
        (
            200,
            changed("/cluster/kubernetesNetworkConfig", serde_json::json!({})),
            4,
            "no IPv4 addresses",
            "ipv4",
        ),
        (
            403,
            refusal("AccessDeniedException"),
            4,
            "refused",
            "eks:DescribeCluster",
        ),
        (
            404,
            refusal("ResourceNotFoundException"),
            2,
            "refused",
            "spec.cluster.name",
        ),
        (403, refusal("RequestExpired"), 4, "refused", "clock"),
        (200, serde_json::json!({}), 4, "eks:DescribeCluster", ""),
    ];
    for (status, body, code, problem, hint) in table {
        let machine = asking_machine();
        eks_answers(&machine, status, &body);
        let error = work_with(&machine, &short_sample()).unwrap_err();
        assert_eq!(error.exit_code(), code, "{error:?}");
        assert!(error.chain().contains(problem), "{}", error.chain());
        let told = error.hint().unwrap_or_default();
        assert!(told.contains(hint), "{told}");
        assert!(machine.text("/var/lib/kubelet/kubeconfig").is_none());
        assert!(machine.text(cluster::REMEMBERED).is_none());
        assert!(machine.active.borrow().is_empty());
        // Mended there, the machine joins.
        eks_answers(&machine, 200, &description());
        work_with(&machine, &short_sample()).unwrap();
    }
}

/// It was tried again for four minutes.
#[test]
fn a_certificate_that_is_refused_stops_at_once() {
    let machine = asking_machine();
    machine.hook.set(Some(refuse_keys));
    let error = work_with(&machine, &short_sample()).unwrap_err();
    assert_eq!(error.exit_code(), 4);
    let told = "IAM Roles Anywhere gives no session: AccessDeniedException: Untrusted certificate";
    assert!(error.chain().starts_with(told), "{}", error.chain());
    assert!(error.hint().unwrap().contains("trust anchor"));
    let Status::Failed { phase, journal, .. } = status(&machine).unwrap() else {
        panic!("not failed")
    };
    assert_eq!((phase, journal.phases[&phase].retries), (Phase::Cluster, 0));
    // Trusted there, the machine joins.
    machine.hook.set(Some(give_keys));
    work_with(&machine, &short_sample()).unwrap();
}

#[test]
fn a_network_that_comes_up_slowly_is_waited_for() {
    let machine = asking_machine();
    cut_off_from_the_network(&machine);
    let error = work_with(&machine, &short_sample()).unwrap_err();
    assert_eq!(error.exit_code(), 6);
    let Status::Failed { phase, journal, .. } = status(&machine).unwrap() else {
        panic!("not failed")
    };
    assert_eq!(phase, Phase::Cluster);
    assert!(journal.phases[&phase].retries >= 3);
}

#[test]
fn an_answer_is_asked_anew_until_the_checks_pass() {
    let machine = asking_machine();
    let mut elsewhere = description();
    elsewhere["cluster"]["remoteNetworkConfig"]["remoteNodeNetworks"][0]["cidrs"][0] =
        "192.168.0.0/16".into();
    eks_answers(&machine, 200, &elsewhere);
    let error = work_with(&machine, &short_sample()).unwrap_err();
    assert!(
        error.chain().contains("node-ip-validation"),
        "{}",
        error.chain()
    );
    eks_answers(&machine, 200, &description());
    work_with(&machine, &short_sample()).unwrap();
}

#[test]
fn cut_off_at_any_change_an_asking_machine_converges() {
    let whole = asking_machine();
    work_with(&whole, &short_sample()).unwrap();
    for lives in 0..whole.changes.get() {
        let machine = asking_machine();
        machine.lives.set(Some(lives));
        work_with(&machine, &short_sample()).unwrap_err();
        machine.lives.set(None);
        work_with(&machine, &short_sample()).unwrap();
        assert_eq!(machine.tree(), whole.tree(), "cut off after {lives}");
        machine.reboot();
        cut_off_from_the_network(&machine);
        work_with(&machine, &short_sample()).unwrap();
        assert_eq!(machine.tree(), whole.tree(), "cut off after {lives}");
    }
}

/// What `check --live` finds out; it changes nothing.
fn looked_at(machine: &Pretended, config: &NodeConfig) -> BTreeMap<&'static str, Outcome> {
    let before = machine.files.borrow().clone();
    machine.changes.set(0);
    machine.lives.set(Some(0));
    let config = node_config::with_defaults(config.clone());
    let report = look(machine, config, &Variables::default(), &Skips::default()).unwrap();
    machine.lives.set(None);
    assert_eq!(machine.changes.get(), 0);
    assert_eq!(*machine.files.borrow(), before);
    let outcomes = report.outcomes.into_iter();
    outcomes.map(|outcome| (outcome.name, outcome)).collect()
}

const DESCRIPTION: &str = "cluster-description-validation";

fn live_machine() -> Pretended {
    let machine = asking_machine();
    machine
        .hook
        .set(Some(|_, line| line.starts_with(HELPER).then(|| Ok(keys()))));
    let answer = Response {
        status: 200,
        headers: Vec::new(),
        body: "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>1</Account>\
               <Arn>arn:aws:sts::1:assumed-role/node/node-1</Arn></GetCallerIdentityResult>\
               </GetCallerIdentityResponse>"
            .into(),
    };
    let asked = "POST https://sts.us-west-2.amazonaws.com/";
    machine
        .answers
        .borrow_mut()
        .insert(asked.into(), Ok(answer));
    machine
}

#[test]
fn who_looks_asks_eks_and_sts_and_changes_nothing() {
    let machine = live_machine();
    let found = looked_at(&machine, &short_sample());
    for (name, detail) in [
        (DESCRIPTION, "EKS describes cluster my-cluster of 1.34"),
        (
            "aws-auth-validation",
            "the node is arn:aws:sts::1:assumed-role/node/node-1",
        ),
        ("node-ip-validation", "10.0.1.5 is in 10.0.0.0/16"),
        (
            "api-server-endpoint-resolution-validation",
            "example.gr7.us-west-2.eks.amazonaws.com:443 takes connections",
        ),
    ] {
        assert_eq!(
            (found[name].verdict, found[name].detail.as_str()),
            (Verdict::Ok, detail)
        );
    }
    // Where the NodeConfig says all, only whether the credentials are good is asked.
    let found = looked_at(&machine, &sample());
    assert_eq!(found[DESCRIPTION].verdict, Verdict::Skipped);
    assert_eq!(found["aws-auth-validation"].verdict, Verdict::Ok);
    assert_eq!(times_asked(&machine), 1);
}

#[test]
fn who_looks_is_told_what_eks_refuses() {
    let machine = live_machine();
    let refusal = serde_json::json!({"__type": "AccessDeniedException", "message": "no"});
    eks_answers(&machine, 403, &refusal);
    let found = looked_at(&machine, &short_sample());
    let described = &found[DESCRIPTION];
    assert_eq!(
        (described.verdict, described.may_pass),
        (Verdict::Failed, false)
    );
    assert!(
        described
            .hint
            .as_ref()
            .unwrap()
            .contains("eks:DescribeCluster")
    );
    for name in [
        "node-ip-validation",
        "api-server-endpoint-resolution-validation",
    ] {
        assert_eq!(found[name].verdict, Verdict::Skipped, "{name}");
    }
    machine.answers.borrow_mut().remove(ASKED);
    let found = looked_at(&machine, &short_sample());
    assert_eq!(
        (found[DESCRIPTION].verdict, found[DESCRIPTION].may_pass),
        (Verdict::Failed, true)
    );
    machine.hook.set(Some(refuse_keys));
    let found = looked_at(&machine, &short_sample());
    for name in [DESCRIPTION, "aws-auth-validation"] {
        assert_eq!(
            (found[name].verdict, found[name].may_pass),
            (Verdict::Failed, false),
            "{name}"
        );
        assert!(
            found[name].detail.contains("Untrusted certificate"),
            "{}",
            found[name].detail
        );
    }
}

#[test]
fn who_looks_at_a_machine_that_is_not_registered_yet_asks_nobody() {
    let machine = live_machine();
    let mut config = short_sample();
    config.spec.hybrid = samples::ssm().spec.hybrid;
    let found = looked_at(&machine, &config);
    assert_eq!(found[DESCRIPTION].verdict, Verdict::Skipped);
    assert!(found[DESCRIPTION].detail.contains("no credentials yet"));
    assert_eq!(found["aws-auth-validation"].verdict, Verdict::Skipped);
    let sent = machine
        .requests
        .borrow()
        .iter()
        .any(|it| it.url.contains("amazonaws.com/clusters"));
    assert!(!sent);
    machine.put(
        "/root/.aws/credentials",
        b"[default]\naws_access_key_id = AKID\naws_secret_access_key = s3cr3t\n",
        0o600,
    );
    let found = looked_at(&machine, &config);
    assert_eq!(
        found[DESCRIPTION].verdict,
        Verdict::Ok,
        "{:?}",
        found[DESCRIPTION]
    );
}

/// Each ran the helper, and asked IAM Roles Anywhere for a session.
#[test]
fn checks_that_ask_at_once_look_for_credentials_once() {
    const ASKING: usize = 8;
    let machine = machine();
    machine.hook.set(Some(|_, line| {
        // Time for the others to come here, if nothing holds them.
        std::thread::yield_now();
        line.starts_with(HELPER).then(|| Ok(keys()))
    }));
    let (config, variables) = (sample(), Variables::default());
    let settings = "[default]\ncredential_process = /usr/local/bin/aws_signing_helper \
                    credential-process\n";
    let cloud = cloud::Aws::new(&machine, &config, &variables);
    let cloud = cloud.with_settings(Some(settings.as_bytes()));
    let start = std::sync::Barrier::new(ASKING);
    std::thread::scope(|scope| {
        for _ in 0..ASKING {
            scope.spawn(|| {
                start.wait();
                // Nobody answers: it is about the credentials alone.
                cloud.caller().unwrap_err();
            });
        }
    });
    let commands = machine.commands.borrow();
    let ran = commands.iter().filter(|line| line.starts_with(HELPER));
    assert_eq!(ran.count(), 1, "{commands:?}");
}
