//! What checks find out about AWS, the cluster and the way there.

use super::*;
use crate::system;

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

#[test]
fn who_the_node_is_to_aws() {
    let name = "aws-auth-validation";
    let answer = |error| but(|it| it.cloud.caller = Err(error));
    let denied = answer(CloudError::Credentials("InvalidClientTokenId".into()));
    let detail = "AWS does not accept the node's credentials: InvalidClientTokenId";
    assert_outcome(&denied, name, Failed, detail);
    let away = answer(CloudError::Unreachable("no route".into()));
    assert_outcome(&away, name, CouldNotRun, "STS cannot be reached: no route");
    // A site where the NodeConfig says all: a machine that joins asks nobody.
    let sample = Sample::hybrid();
    let alone = Subject {
        cloud: None,
        ..sample.subject()
    };
    let check = CHECKS.iter().find(|check| check.name == name).unwrap();
    assert_eq!(carry_out(check, &alone).verdict, Skipped);
    assert_eq!(outcome(&but(|it| it.cluster = None), name).verdict, Fine);
    let detail = "AWS was not asked about the cluster";
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
fn what_eks_says_of_the_cluster() {
    let name = "cluster-description-validation";
    let detail = "EKS describes cluster c of 1.34";
    assert_outcome(&Sample::hybrid(), name, Fine, detail);
    let detail = "the NodeConfig says all of the cluster";
    assert_outcome(&but(|it| it.cluster = None), name, Skipped, detail);
    let refused = but(|it| it.undescribed = Some(Finding::failed("no", "allow it")));
    assert_outcome(&refused, name, Failed, "no");
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
            );
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
    // Before EKS was asked.
    assert_eq!(outcome(&endpoint(""), name).verdict, Skipped);
    for bad in [
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
            .fails(program, "could not get token: expired\nmore\n");
    });
    let detail =
        "/usr/local/bin/aws-iam-authenticator makes no token: could not get token: expired; more";
    assert_outcome(&sample, name, Failed, detail);
    assert!(outcome(&sample, name).may_pass);
    // It counted as a check that could not be run, and the kubelet was started.
    let silent = but(|it| {
        it.system.hook.set(Some(|_, line| {
            let is_it = line.contains("aws-iam-authenticator token");
            is_it.then(|| {
                Err(system::Error::Deadline {
                    program: "aws-iam-authenticator".into(),
                    limit: std::time::Duration::from_secs(20),
                })
            })
        }));
    });
    let detail = "aws-iam-authenticator did not end within 20 s";
    assert_outcome(&silent, name, Failed, detail);
    assert!(outcome(&silent, name).may_pass);
    let refused = but(|it| {
        it.system.fails(
            program,
            "operation error RolesAnywhere: CreateSession, https response error StatusCode: 403, \
             RequestID: 1, AccessDeniedException: Untrusted certificate\ncould not get token: no\n",
        );
    });
    let detail =
        "IAM Roles Anywhere gives no session: AccessDeniedException: Untrusted certificate";
    assert_outcome(&refused, name, Failed, detail);
    assert!(!outcome(&refused, name).may_pass);
    sample.system.prints(program, "t0ken in no JSON");
    assert!(!outcome(&sample, name).detail.contains("t0ken"));
}
