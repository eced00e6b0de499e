use super::samples::{ENDPOINT, Sample};
use super::*;
use crate::node_config::model::Ssm;
use crate::render::Version;
use crate::system::{NetworkError, Space};

/// The one outcome of a check.
fn outcome(sample: &Sample, name: &str) -> Outcome {
    let check = CHECKS.iter().find(|check| check.name == name).unwrap();
    carry_out(check, &sample.subject())
}

fn assert_outcome(sample: &Sample, name: &str, verdict: Verdict, detail: &str) {
    let found = outcome(sample, name);
    assert_eq!(
        (found.verdict, found.detail.as_str()),
        (verdict, detail),
        "{name}"
    );
    if matches!(verdict, Verdict::Warning | Verdict::Failed) {
        assert!(found.hint.is_some(), "{name} gives no hint");
    }
}

use Verdict::{CouldNotRun, Failed, Ok as Fine, Skipped, Warning};

/// A right hybrid node on which one thing is changed.
fn but(change: impl FnOnce(&mut Sample)) -> Sample {
    let mut sample = Sample::hybrid();
    change(&mut sample);
    sample
}

fn with_ssm(sample: &mut Sample) {
    let hybrid = sample.config.spec.hybrid.as_mut().unwrap();
    hybrid.iam_roles_anywhere = None;
    hybrid.ssm = Some(Ssm::default());
}

#[test]
fn a_right_machine_passes_every_check() {
    let sample = Sample::hybrid();
    let subject = sample.subject();
    let report = run(&subject, Moment::Before, &Skips::default());
    let report = report.and(run(&subject, Moment::Written, &Skips::default()));
    assert_eq!(report.outcomes.len(), CHECKS.len());
    for it in &report.outcomes {
        assert!(matches!(it.verdict, Fine | Skipped), "{it:?}");
    }
    report.verdict().unwrap();
    assert!(report.remarks().is_empty());
    assert_eq!(report.json()["valid"], true);
}

#[test]
fn an_ec2_node_asks_nobody() {
    let sample = but(|it| it.config.spec.hybrid = None);
    let subject = sample.subject();
    let report = run(&subject, Moment::Before, &Skips::default());
    let report = report.and(run(&subject, Moment::Written, &Skips::default()));
    report.verdict().unwrap();
    assert!(sample.system.requests.borrow().is_empty());
}

#[test]
fn the_table_for_people_and_the_document_for_programs() {
    let sample = but(|it| {
        it.facts.kubelet = Version::new(1, 35, 0);
        it.system.put("/sys/class/net/eth0/mtu", b"1600\n", 0o444);
        it.system.listeners.borrow_mut().clear();
        it.config.spec.hybrid = None;
    });
    let skips = Skips::new(["limits-validation"]).unwrap();
    let mut report = run(&sample.subject(), Moment::Before, &skips);
    for it in &mut report.outcomes {
        it.milliseconds = 0;
    }
    insta::assert_snapshot!("table", report.table());
    let refusal = report.verdict().unwrap_err();
    assert_eq!(refusal.exit_code(), 4);
    assert_eq!(
        refusal.to_string(),
        "a check before joining failed: kubelet-version-skew-validation: the kubelet is newer \
         than the cluster: kubelet 1.35.0, cluster 1.34"
    );
    assert!(
        refusal
            .hint()
            .ends_with("--skip kubelet-version-skew-validation goes on without the check")
    );
    let json = report.json();
    assert_eq!(json["valid"], false);
    let skew = &json["checks"].as_array().unwrap()[7];
    assert_eq!(skew["verdict"], "failed");
    assert_eq!(skew["mayPass"], false);
}

#[test]
fn names_of_nodeadm_are_taken_and_unknown_ones_are_not() {
    let skips = Skips::new(["ssm-api-network-validation", "proxy-validation"]).unwrap();
    assert!(skips.contains("ssm-api-network") && skips.contains("proxy-validation"));
    assert_eq!(
        skips.remarks,
        ["the check ssm-api-network-validation is called ssm-api-network"]
    );
    let unknown = Skips::new(["proxy"]).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no check \"proxy\"");
    assert!(unknown.hint().contains("cluster-access-validation, "));
    let phase = Skips::new(["preprocess"]).unwrap_err();
    assert!(phase.hint().starts_with("phases cannot be skipped"));
}

#[test]
fn an_image_can_do_without_checks() {
    let sample = Sample::hybrid();
    let text = b"# not here\nmtu-validation # known\n\nfrom-a-later-version\n";
    sample.system.put(SKIP_FILE, text, 0o644);
    let skips = Skips::default().with_file(&sample.system).unwrap();
    assert!(skips.contains("mtu-validation"));
    assert_eq!(
        skips.remarks,
        ["/etc/nodekiln/skip-validations: there is no check \"from-a-later-version\""]
    );
    let report = run(&sample.subject(), Moment::Before, &skips);
    let mtu = report.outcomes.last().unwrap();
    assert_eq!((mtu.name, mtu.verdict), ("mtu-validation", Skipped));
}

#[test]
fn failures_that_may_mend_themselves_are_told_from_others() {
    let report = |findings: Vec<Finding>| Report {
        outcomes: findings
            .into_iter()
            .map(|it| Outcome::new("x", it, Duration::ZERO))
            .collect(),
    };
    let code = |findings| report(findings).verdict().unwrap_err().exit_code();
    assert_eq!(
        code(vec![Finding::failed_for_now("a", "b"), Finding::ok("c")]),
        6
    );
    assert_eq!(
        code(vec![
            Finding::failed_for_now("a", "b"),
            Finding::failed("c", "d")
        ]),
        4
    );
    let lines = report(vec![Finding::warning("one\ntwo", "do")]);
    assert_eq!(lines.remarks(), ["x: warning: one two; hint: do"]);
    report(vec![
        Finding::could_not_run("a"),
        Finding::warning("b", "c"),
    ])
    .verdict()
    .unwrap();
}

#[test]
fn what_cannot_be_found_out_stops_nothing_and_says_why() {
    // No systemctl that answers.
    let sample = but(|it| it.system.fails("systemctl is-active kubelet.service", ""));
    sample
        .system
        .programs
        .borrow_mut()
        .remove("ip -json -4 route show default");
    assert_eq!(outcome(&sample, "mtu-validation").verdict, CouldNotRun);
}

#[test]
fn when_time_is_over_nobody_waits() {
    let sample = but(|it| it.system.listeners.borrow_mut().clear());
    sample.without_time();
    let before = crate::system::Clock::elapsed(&sample.system);
    assert_eq!(outcome(&sample, "iam-ra-api-network").verdict, Failed);
    let after = crate::system::Clock::elapsed(&sample.system);
    assert!(
        after - before < Duration::from_secs(1),
        "{before:?} {after:?}"
    );
}

#[test]
fn install_and_node_inactive() {
    let name = "install-validation";
    let sample = but(|it| drop(it.system.files.borrow_mut().remove("/usr/bin/kubelet")));
    assert_outcome(&sample, name, Failed, "/usr/bin/kubelet is not installed");
    let shown = "systemctl show --property=LoadState,ActiveState containerd.service";
    for (said, verdict, may_pass) in [
        ("LoadState=loaded\nActiveState=failed\n", Failed, true),
        ("LoadState=masked\nActiveState=inactive\n", Failed, false),
        ("LoadState=loaded\nActiveState=active\n", Fine, false),
    ] {
        let found = outcome(&but(|it| it.system.prints(shown, said)), name);
        assert_eq!(
            (found.verdict, found.may_pass),
            (verdict, may_pass),
            "{said}"
        );
    }
    let name = "node-inactive-validation";
    let environment = "/etc/eks/kubelet/environment";
    let sample = but(|it| it.system.put(environment, b"", 0o644));
    assert_outcome(
        &sample,
        name,
        Warning,
        "/etc/eks/kubelet/environment is there already",
    );
    let journal = format!("{{\"files\":{{\"{environment}\":\"\"}}}}");
    sample
        .system
        .put(crate::phases::JOURNAL, journal.as_bytes(), 0o600);
    assert_eq!(outcome(&sample, name).verdict, Fine);
    let sample = but(|it| {
        it.system
            .prints("systemctl is-active kubelet.service", "active\n")
    });
    assert_outcome(&sample, name, Warning, "the kubelet is running already");
}

#[test]
fn firewalls_of_cni() {
    let name = "cni-validation";
    let ufw = |rules: &str| {
        but(|it| {
            it.system.put("/usr/sbin/ufw", b"", 0o755);
            it.system
                .prints("ufw status", &format!("Status: active\n{rules}\n"));
        })
    };
    assert_outcome(
        &ufw("4789/udp ALLOW Anywhere"),
        name,
        Fine,
        "ufw lets 4789/udp through",
    );
    let closed = "ufw lets neither 8472/udp (Cilium) nor 4789/udp (Calico) through";
    assert_outcome(&ufw("22/tcp ALLOW Anywhere"), name, Failed, closed);
    assert_outcome(&ufw("").clone_inactive(), name, Fine, "no firewall runs");
}

impl Sample {
    fn clone_inactive(self) -> Self {
        self.system.prints("ufw status", "Status: inactive\n");
        self
    }
}

#[test]
fn services_that_give_credentials() {
    let closed = |it: &mut Sample| it.system.listeners.borrow_mut().clear();
    let sample = but(closed);
    let found = outcome(&sample, "iam-ra-api-network");
    assert_eq!((found.verdict, found.may_pass), (Failed, true));
    assert_eq!(outcome(&sample, "ssm-api-network").verdict, Skipped);
    let sample = but(with_ssm);
    let detail = "ssm.us-west-2.amazonaws.com:443 takes connections";
    assert_outcome(&sample, "ssm-api-network", Fine, detail);
    let sample = but(|it| {
        with_ssm(it);
        it.config.spec.cluster.region = "cn-north-1".into();
    });
    assert_eq!(outcome(&sample, "ssm-api-network").verdict, Failed);
    let elsewhere = |url: &str| {
        let url = url.to_owned();
        but(|it| {
            it.variables = Variables::default().with("AWS_ENDPOINT_URL_ROLESANYWHERE", &url);
            it.system.listeners.borrow_mut().push("::1:8443".into());
        })
    };
    let detail = "::1:8443 takes connections";
    assert_outcome(
        &elsewhere("http://[::1]:8443/"),
        "iam-ra-api-network",
        Fine,
        detail,
    );
    assert_eq!(
        outcome(&elsewhere("nonsense"), "iam-ra-api-network").verdict,
        Failed
    );
}

use crate::system::Variables;

#[test]
fn who_the_node_is_to_aws() {
    let name = "aws-auth-validation";
    let answer = |error| but(|it| it.cloud.caller = Err(error));
    let denied = answer(CloudError::Credentials("InvalidClientTokenId".into()));
    let detail = "AWS does not accept the node's credentials: InvalidClientTokenId";
    assert_outcome(&denied, name, Failed, detail);
    let away = answer(CloudError::Unreachable("no route".into()));
    assert_outcome(&away, name, CouldNotRun, "STS cannot be reached: no route");
    // A site where the NodeConfig says all: nobody but the cluster is asked.
    let detail = "AWS was not asked about the cluster";
    assert_outcome(&but(|it| it.cluster = None), name, Skipped, detail);
    let name = "cluster-access-validation";
    assert_outcome(&but(|it| it.cluster = None), name, Skipped, detail);
    let other = but(|it| it.cloud.entries = Ok(vec!["arn:aws:iam::1:role/other".into()]));
    let detail = "the cluster has no access entry for the role node";
    assert_outcome(&other, name, Failed, detail);
    let forbidden = but(|it| it.cloud.entries = Err(CloudError::Forbidden("no".into())));
    assert_eq!(outcome(&forbidden, name).verdict, CouldNotRun);
    let user = but(|it| it.cloud.caller = Ok("arn:aws:iam::1:user/me".into()));
    assert_eq!(outcome(&user, name).verdict, CouldNotRun);
}

#[test]
fn the_address_of_the_node() {
    let name = "node-ip-validation";
    assert_outcome(&Sample::hybrid(), name, Fine, "10.0.1.5 is in 10.0.0.0/16");
    let networks = |given: &[&str]| {
        let given = given.iter().map(ToString::to_string).collect();
        but(|it| it.cluster.as_mut().unwrap().remote_node_networks = given)
    };
    let detail = "10.0.1.5 is in none of the remote node networks 10.1.0.0/16, 10.0.0.0/24";
    assert_outcome(
        &networks(&["10.1.0.0/16", "10.0.0.0/24"]),
        name,
        Failed,
        detail,
    );
    assert_eq!(outcome(&networks(&["0.0.0.0/0"]), name).verdict, Fine);
    assert_eq!(
        outcome(&networks(&["10.0.1.5/33", "x/8", "10.0.1.5"]), name).verdict,
        Failed
    );
    assert_outcome(
        &networks(&[]),
        name,
        Failed,
        "the cluster has no remote node networks",
    );
    let flag = |value: &str| {
        let flags = vec![
            "--node-ip=10.9.9.9".to_owned(),
            format!("--node-ip={value}"),
        ];
        but(|it| it.config.spec.kubelet.flags = flags)
    };
    assert_outcome(&flag("10.0.3.3"), name, Fine, "10.0.3.3 is in 10.0.0.0/16");
    for value in ["::1", "10.0.0.1,10.0.0.2", ""] {
        let detail = "the kubelet's flag --node-ip is not one IPv4 address";
        assert_outcome(&flag(value), name, Failed, detail);
    }
    // The node's name counts only where it is the machine's own address.
    let named = |address: &str| {
        let address = address.parse().unwrap();
        but(|it| {
            drop(
                it.system
                    .names
                    .borrow_mut()
                    .insert("node-1".into(), vec![address]),
            )
        })
    };
    assert_eq!(outcome(&named("192.168.7.7"), name).verdict, Failed);
    assert_eq!(outcome(&named("10.200.0.1"), name).verdict, Fine);
    let without = but(|it| it.system.prints("ip -json -4 route show default", "[]"));
    let found = outcome(&without, name);
    assert_eq!((found.verdict, found.may_pass), (Failed, true));
}

#[test]
fn versions_of_kubelet_and_cluster() {
    let name = "kubelet-version-skew-validation";
    for (kubelet, cluster, verdict) in [
        ((1, 34), "1.34", Fine),
        ((1, 31), "1.34", Fine),
        ((1, 30), "1.34", Failed),
        ((1, 35), "1.34", Failed),
        ((1, 34), "v1.34.1-eks", Fine),
        ((1, 34), "2.0", Failed),
        ((1, 34), "new", CouldNotRun),
    ] {
        let sample = but(|it| {
            it.facts.kubelet = Version::new(kubelet.0, kubelet.1, 0);
            it.cluster.as_mut().unwrap().version = Some(cluster.into());
        });
        assert_eq!(
            outcome(&sample, name).verdict,
            verdict,
            "{kubelet:?} {cluster}"
        );
    }
    assert_eq!(outcome(&but(|it| it.cluster = None), name).verdict, Skipped);
}

#[test]
fn the_endpoint_of_the_cluster() {
    let name = "api-server-endpoint-resolution-validation";
    let endpoint = |url: &str| {
        let url = url.to_owned();
        but(|it| it.config.spec.cluster.api_server_endpoint = url)
    };
    for bad in [
        "",
        "ftp://x",
        "https://",
        "https://h:0",
        "https://h:99999",
        "https://u@h",
        "https://[::1",
    ] {
        let found = outcome(&endpoint(bad), name);
        assert_eq!((found.verdict, found.may_pass), (Failed, false), "{bad}");
    }
    let found = outcome(&endpoint("https://nobody.example:6443"), name);
    assert_eq!((found.verdict, found.may_pass), (Failed, true));
}

#[test]
fn the_clock() {
    let name = "clock-validation";
    let url = format!("{ENDPOINT}/readyz");
    let at = |date: &str| {
        let date = date.to_owned();
        but(|it| it.answers("GET", &url, &date))
    };
    assert_eq!(
        outcome(&at("Fri, 15 Jan 2027 08:02:00 GMT"), name).verdict,
        Warning
    );
    let found = outcome(&at("Fri, 15 Jan 2027 09:00:00 GMT"), name);
    assert_eq!((found.verdict, found.may_pass), (Failed, true));
    assert!(
        found.detail.contains(" s behind that of 0123."),
        "{}",
        found.detail
    );
    assert_eq!(outcome(&at("today"), name).verdict, CouldNotRun);
    let untrusted = but(|it| {
        let error = NetworkError::Tls {
            host: "h".into(),
            reason: "expired".into(),
        };
        it.system
            .answers
            .borrow_mut()
            .insert(format!("GET {url}"), Err(error));
    });
    let detail = "h cannot be trusted: expired; is the clock right?";
    assert_outcome(&untrusted, name, CouldNotRun, detail);
}

#[test]
fn cgroups_and_kernels() {
    let name = "cgroup-validation";
    let first = |minor, fail: Option<bool>| {
        but(|it| {
            it.system
                .files
                .borrow_mut()
                .remove("/sys/fs/cgroup/cgroup.controllers");
            it.system.put("/sys/fs/cgroup/memory/tasks", b"", 0o644);
            it.facts.kubelet = Version::new(1, minor, 0);
            if let Some(fail) = fail {
                it.config
                    .spec
                    .kubelet
                    .config
                    .insert("failCgroupV1".into(), fail.into());
            }
        })
    };
    assert_eq!(outcome(&first(30, None), name).verdict, Fine);
    assert_eq!(outcome(&first(31, None), name).verdict, Warning);
    assert_eq!(outcome(&first(35, None), name).verdict, Failed);
    assert_eq!(outcome(&first(35, Some(false)), name).verdict, Warning);
    let path = "/sys/fs/cgroup/cgroup.controllers";
    let sample = but(|it| it.system.put(path, b"cpu pids\n", 0o444));
    assert_outcome(
        &sample,
        name,
        Failed,
        "cgroups v2 without the controllers memory",
    );

    let name = "kernel-validation";
    for (release, minor, verdict) in [
        ("4.18.0-553.el8_10.x86_64", 32, Warning),
        ("4.18.0-553.el8_10.x86_64", 31, Warning),
        ("5.4.0-200-generic", 34, Warning),
        ("5.10.0", 34, Fine),
        ("6.1.155-176.282.amzn2023.x86_64", 34, Fine),
        ("unknown", 34, CouldNotRun),
    ] {
        let sample = but(|it| {
            it.system
                .put("/proc/sys/kernel/osrelease", release.as_bytes(), 0o444);
            it.facts.kubelet = Version::new(1, minor, 0);
        });
        assert_eq!(outcome(&sample, name).verdict, verdict, "{release} {minor}");
    }
}

#[test]
fn containerd_on_ubuntu() {
    let name = "containerd-version-validation";
    let on = |version: &str, containerd| {
        let text = format!("ID=ubuntu\nVERSION_ID=\"{version}\"\n");
        but(|it| {
            it.system.put("/etc/os-release", text.as_bytes(), 0o644);
            it.facts.containerd = containerd;
        })
    };
    assert_eq!(
        outcome(&on("24.04", Version::new(1, 7, 12)), name).verdict,
        Warning
    );
    assert_eq!(
        outcome(&on("24.04", Version::new(1, 7, 19)), name).verdict,
        Fine
    );
    assert_eq!(
        outcome(&on("22.04", Version::new(1, 7, 12)), name).verdict,
        Fine
    );
}

#[test]
fn room_limits_and_mtu() {
    let name = "disk-space-validation";
    let room = |free: u64, total: u64| {
        but(|it| {
            let room = Space {
                free: free << 30,
                total: total << 30,
            };
            it.system
                .spaces
                .borrow_mut()
                .insert("/var/lib".into(), room);
        })
    };
    assert_outcome(
        &room(0, 50),
        name,
        Failed,
        "only 0.0 GiB of 50.0 GiB free for /var/lib/containerd",
    );
    assert_eq!(outcome(&room(8, 20), name).verdict, Warning);
    assert_eq!(outcome(&room(70, 500), name).verdict, Warning);
    assert_eq!(outcome(&room(100, 500), name).verdict, Fine);
    assert_eq!(outcome(&room(0, 0), name).verdict, CouldNotRun);

    let name = "limits-validation";
    let limits = |files: &str, processes: &str| {
        let text = format!("Max processes {processes} x\nMax open files {files} x\n");
        but(|it| it.system.put("/proc/self/limits", text.as_bytes(), 0o444))
    };
    assert_outcome(
        &limits("unlimited", "4096"),
        name,
        Fine,
        "nofile unlimited, nproc 4096",
    );
    assert_outcome(
        &limits("1023", "4096"),
        name,
        Warning,
        "nofile is 1023, less than 1024",
    );
    assert_outcome(
        &limits("1024", "100"),
        name,
        Warning,
        "nproc is 100, less than 4096",
    );

    let name = "mtu-validation";
    for (mtu, verdict) in [
        ("1450", Fine),
        ("9001", Fine),
        ("1501", Warning),
        ("9216", Warning),
    ] {
        let sample = but(|it| {
            it.system
                .put("/sys/class/net/eth0/mtu", mtu.as_bytes(), 0o444)
        });
        assert_eq!(outcome(&sample, name).verdict, verdict, "{mtu}");
    }
}

#[test]
fn a_proxy_is_set_for_all_or_for_none() {
    let name = "proxy-validation";
    let set = |pairs: &[(&str, &str)]| {
        let variables = pairs
            .iter()
            .fold(Variables::default(), |all, (name, value)| {
                all.with(name, value)
            });
        but(|it| it.variables = variables)
    };
    assert_outcome(&set(&[("NO_PROXY", "x")]), name, Skipped, "no proxy is set");
    let secret = "http://me:s3cret@proxy:3128";
    let sample = set(&[("HTTPS_PROXY", secret), ("https_proxy", "http://other")]);
    assert_outcome(&sample, name, Failed, "HTTPS_PROXY and https_proxy differ");
    let sample = set(&[("https_proxy", secret)]);
    let detail = "containerd.service does not have the HTTPS_PROXY of this program";
    assert_outcome(&sample, name, Failed, detail);
    assert!(!outcome(&sample, name).hint.unwrap().contains("s3cret"));
    let text = format!("[Manager]\nDefaultEnvironment=\"HTTPS_PROXY={secret}\"\n");
    sample.system.put(
        "/etc/systemd/system.conf.d/environment.conf",
        text.as_bytes(),
        0o644,
    );
    let detail = "/etc/apt/apt.conf.d/proxy.conf names no proxy";
    assert_outcome(&sample, name, Warning, detail);
    let text = b"Acquire::http::Proxy \"http://proxy\";\n";
    sample
        .system
        .put("/etc/apt/apt.conf.d/proxy.conf", text, 0o644);
    assert_outcome(&sample, name, Fine, "the proxy is set for all services");
    let sample = set(&[("HTTP_PROXY", "http://p")]);
    for unit in ["containerd", "kubelet"] {
        let path = format!("/etc/systemd/system/{unit}.service.d/http-proxy.conf");
        sample.system.put(
            &path,
            b"[Service]\nEnvironment=HTTP_PROXY=http://p\n",
            0o644,
        );
    }
    assert_eq!(outcome(&sample, name).verdict, Warning);
}

/// A chain made by OpenSSL: an authority in PEM, and what it signed, with its key.
fn certificates(folder: &std::path::Path, days: &str) -> (Vec<u8>, Vec<u8>) {
    let script = "set -e; for it in ca other; do openssl req -x509 -newkey ec -pkeyopt \
        ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=kubernetes -keyout $it.key \
        -out $it.pem; done
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=node \
        -keyout node.key -out node.csr
        printf 'subjectAltName=DNS:node\\nextendedKeyUsage=serverAuth\\n' > ext
        openssl x509 -req -in node.csr -CA ca.pem -CAkey ca.key -CAcreateserial \
        -days $0 -extfile ext -out node.pem; cat node.key >> node.pem";
    let output = std::process::Command::new("sh")
        .args(["-c", script, days])
        .current_dir(folder)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    (read("ca.pem"), read("node.pem"))
}

#[test]
fn a_certificate_that_the_kubelet_has_from_before() {
    use base64::Engine as _;
    let name = "kubelet-cert-validation";
    let folder = tempfile::tempdir().unwrap();
    let (authority, node) = certificates(folder.path(), "1");
    let other = std::fs::read(folder.path().join("other.pem")).unwrap();
    let with = |authority: &[u8], node: &[u8]| {
        but(|it| {
            let text = base64::engine::general_purpose::STANDARD.encode(authority);
            it.config.spec.cluster.certificate_authority = text;
            let path = "/var/lib/kubelet/pki/kubelet-server-current.pem";
            it.system.put(path, node, 0o600);
        })
    };
    let detail = "the kubelet's certificate is of this cluster";
    assert_outcome(&with(&authority, &node), name, Fine, detail);
    let both = [other.clone(), authority.clone()].concat();
    assert_eq!(outcome(&with(&both, &node), name).verdict, Fine);
    let found = outcome(&with(&other, &node), name);
    assert_eq!(found.verdict, Failed);
    assert!(found.hint.unwrap().starts_with("rm /var/lib/kubelet/pki/"));
    assert_eq!(
        outcome(&with(&authority, b"nonsense"), name).verdict,
        CouldNotRun
    );
    assert_eq!(outcome(&with(b"nonsense", &node), name).verdict, Failed);
    assert_outcome(
        &Sample::hybrid(),
        name,
        Fine,
        "the kubelet has no certificate yet",
    );
}

#[test]
fn what_the_cluster_says_to_the_nodes_token() {
    let name = "k8s-authentication-validation";
    for (status, verdict, may_pass) in [
        (200, Fine, false),
        (401, Failed, false),
        (403, Failed, false),
        (503, Failed, true),
    ] {
        let sample = but(|it| it.cluster_answers(status));
        let found = outcome(&sample, name);
        assert_eq!(
            (found.verdict, found.may_pass),
            (verdict, may_pass),
            "{status}"
        );
        let requests = sample.system.requests.borrow();
        assert_eq!(requests[0].headers[0].1, "Bearer t0ken");
        assert_eq!(requests[0].authorities.as_deref(), Some(&b"ca"[..]));
        assert!(!sample.system.said.borrow().concat().contains("t0ken"));
    }
    let program = "/usr/local/bin/aws-iam-authenticator token --cluster-id c --region us-west-2";
    let sample = but(|it| {
        it.system
            .fails(program, "could not get token: expired\nmore\n")
    });
    let detail =
        "/usr/local/bin/aws-iam-authenticator makes no token: could not get token: expired";
    assert_outcome(&sample, name, Failed, detail);
    sample.system.prints(program, "t0ken in no JSON");
    assert!(!outcome(&sample, name).detail.contains("t0ken"));
}

#[test]
fn every_check_has_a_name_of_its_own() {
    let mut names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
    names.extend(CHECKS.iter().flat_map(|check| check.aliases));
    let number = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), number);
}
