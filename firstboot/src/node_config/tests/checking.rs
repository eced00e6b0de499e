use super::*;

/// The fields that are complained about once `from` stands as `to`.
fn complaints(from: &str, to: &str) -> Vec<String> {
    let text = hybrid();
    assert!(text.contains(from), "{from}");
    let parsed = parse(&text.replacen(from, to, 1)).unwrap();
    parsed
        .check()
        .into_iter()
        .map(|problem| {
            assert!(problem.hint.is_some(), "{problem}");
            assert!(problem.line > 0, "{problem}");
            problem.field
        })
        .collect()
}

#[test]
fn a_right_configuration_passes_with_defaults() {
    let config = with_defaults(parse(&hybrid()).unwrap().config);
    assert_eq!(check(&config), []);
    let anywhere = config.spec.hybrid.unwrap().iam_roles_anywhere.unwrap();
    assert_eq!(anywhere.aws_config_path, "/etc/aws/hybrid/config");
    assert_eq!(anywhere.certificate_path, "/etc/iam/pki/server.pem");
    assert_eq!(anywhere.private_key_path, "/etc/iam/pki/server.key");
}

#[test]
fn every_rule_for_hybrid_nodes_has_its_complaint() {
    let long = "n".repeat(65);
    for (from, to, field) in [
        ("name: farm", "name: ''", "spec.cluster.name"),
        ("name: farm", "name: 'a b'", "spec.cluster.name"),
        ("region: eu-central-1", "region: ''", "spec.cluster.region"),
        (
            "region: eu-central-1",
            "region: Frankfurt",
            "spec.cluster.region",
        ),
        ("https://ABC", "ABC", "spec.cluster.apiServerEndpoint"),
        (
            "https://ABC",
            "'https://A B' #",
            "spec.cluster.apiServerEndpoint",
        ),
        (
            "certificateAuthority: ",
            "certificateAuthority: '*' #",
            "spec.cluster.certificateAuthority",
        ),
        (
            "certificateAuthority: ",
            "certificateAuthority: aGVsbG8= #",
            "spec.cluster.certificateAuthority",
        ),
        ("10.100.0.0/16", "10.100.0.0", "spec.cluster.cidr"),
        ("10.100.0.0/16", "10.100.0.0/33", "spec.cluster.cidr"),
        ("10.100.0.0/16", "10.100.0.0/+8", "spec.cluster.cidr"),
        ("10.100.0.0/16", "10.100.0/16", "spec.cluster.cidr"),
        ("--v=2", "--hostname-override=a", "spec.kubelet.flags[0]"),
        ("--v=2", "--hostname-override a", "spec.kubelet.flags[0]"),
        ("--v=2", "-hostname-override=a", "spec.kubelet.flags[0]"),
        ("--v=2", "\"--v=2\\nA=b\"", "spec.kubelet.flags[0]"),
        (
            "nodeName: node-1",
            "nodeName: ''",
            "spec.hybrid.iamRolesAnywhere.nodeName",
        ),
        ("node-1", &long, "spec.hybrid.iamRolesAnywhere.nodeName"),
        ("node-1", "node_1", "spec.hybrid.iamRolesAnywhere.nodeName"),
        ("node-1", "node-", "spec.hybrid.iamRolesAnywhere.nodeName"),
        (
            "node-1",
            "'{{host}}'",
            "spec.hybrid.iamRolesAnywhere.nodeName",
        ),
        (
            "node-1",
            "'{{hostname'",
            "spec.hybrid.iamRolesAnywhere.nodeName",
        ),
        (
            "node-1",
            "'a_{{hostname}}'",
            "spec.hybrid.iamRolesAnywhere.nodeName",
        ),
        (
            "  kubelet:",
            "  containerd: {config: 'a = '}\n  kubelet:",
            "spec.containerd.config",
        ),
        (
            "  kubelet:",
            "    enableOutpost: true\n  kubelet:",
            "spec.cluster.id",
        ),
        ("  kubelet:", "    id: 'a b'\n  kubelet:", "spec.cluster.id"),
        (
            "trust-anchor/a",
            "profile/a",
            "spec.hybrid.iamRolesAnywhere.trustAnchorArn",
        ),
        (
            "profile/b",
            "profile/",
            "spec.hybrid.iamRolesAnywhere.profileArn",
        ),
        (
            "arn:aws:iam::",
            "arn:aws:sts::",
            "spec.hybrid.iamRolesAnywhere.roleArn",
        ),
        (
            "roleArn",
            "awsConfigPath: /a\n      roleArn: '' #",
            "spec.hybrid.iamRolesAnywhere.roleArn",
        ),
        (
            "nodeName",
            "privateKeyPath: ../key\n      nodeName",
            "spec.hybrid.iamRolesAnywhere.privateKeyPath",
        ),
        (
            "nodeName",
            "certificatePath: /a/../b\n      nodeName",
            "spec.hybrid.iamRolesAnywhere.certificatePath",
        ),
        (
            "nodeName",
            "awsConfigPath: '/a b'\n      nodeName",
            "spec.hybrid.iamRolesAnywhere.awsConfigPath",
        ),
        (
            "    iamRolesAnywhere:",
            "    ssm: {activationCode: aaaaaaaaaaaaaaaaaaaa, activationId: 01234567-89ab-cdef-0123-456789abcdef}\n    iamRolesAnywhere:",
            "spec.hybrid",
        ),
    ] {
        assert_eq!(complaints(from, to), [field], "{from} -> {to}");
    }
}

#[test]
fn what_is_right_in_other_ways_passes() {
    for (from, to) in [
        (
            "arn:aws:iam::123456789012:role/c",
            "arn:aws-us-gov:iam::123456789012:role/path/c",
        ),
        ("10.100.0.0/16", "fd00:10::/108"),
        (
            "https://ABC.gr7.eu-central-1.eks.amazonaws.com",
            "https://[fd00::1]:6443",
        ),
        ("--v=2", "--node-labels=a=b,hostname-override=c"),
        ("node-1", "'{{hostname}}'"),
        ("node-1", "'edge-{{ smbios.uuid }}'"),
        ("node-1", "'{{mac}}.{{smbios.serial}}'"),
        (
            "  kubelet:",
            "    enableOutpost: true\n    id: 6d1f0c1e-0000\n  kubelet:",
        ),
        (
            "  kubelet:",
            "  containerd: {config: \"version = 2\\n[debug]\\nlevel = 'debug'\\n\"}\n  kubelet:",
        ),
        (
            "    apiServerEndpoint: https://ABC.gr7.eu-central-1.eks.amazonaws.com\n",
            "",
        ),
        ("    cidr: 10.100.0.0/16\n", ""),
        ("region: eu-central-1", "region: us-gov-west-1"),
    ] {
        assert_eq!(complaints(from, to), [""; 0], "{from} -> {to}");
    }
}

#[test]
fn systems_manager_has_its_rules() {
    let good =
        "activationCode: aaaaaaaaaaaaaaaaaaaa, activationId: 01234567-89ab-cdef-0123-456789abcdef";
    for (ssm, expected) in [
        (good.to_owned(), vec![]),
        (
            String::new(),
            vec![
                "spec.hybrid.ssm.activationCode",
                "spec.hybrid.ssm.activationId",
            ],
        ),
        (
            good.replace("aaaaaaaaaaaaaaaaaaaa", "short"),
            vec!["spec.hybrid.ssm.activationCode"],
        ),
        (
            good.replace("aaaaaaaaaaaaaaaaaaaa", &"a".repeat(251)),
            vec!["spec.hybrid.ssm.activationCode"],
        ),
        (
            good.replace("cdef", "CDEF"),
            vec!["spec.hybrid.ssm.activationId"],
        ),
    ] {
        let spec = format!("  cluster: {{name: a, region: b}}\n  hybrid: {{ssm: {{{ssm}}}}}");
        let problems = parse(&with_spec(&spec)).unwrap().check();
        let fields: Vec<&str> = problems
            .iter()
            .map(|problem| problem.field.as_str())
            .collect();
        assert_eq!(fields, expected, "{ssm}");
    }
    let problems = parse(&with_spec("  cluster: {name: a, region: b}\n  hybrid: {}"))
        .unwrap()
        .check();
    assert_eq!(
        lines(&problems),
        ["5:11 spec.hybrid: a hybrid node needs `iamRolesAnywhere` or `ssm`"]
    );
}

#[test]
fn ec2_nodes_have_their_rules() {
    for (spec, expected) in [
        (
            "  cluster: {}",
            vec![
                "spec.cluster.name",
                "spec.cluster.apiServerEndpoint",
                "spec.cluster.certificateAuthority",
                "spec.cluster.cidr",
            ],
        ),
        (
            "  cluster: {name: a, apiServerEndpoint: 'https://a', cidr: 10.0.0.0/8, certificateAuthority: CA, enableOutpost: true}",
            vec!["spec.cluster.id"],
        ),
        (
            "  cluster: {name: a, apiServerEndpoint: 'https://a', cidr: 10.0.0.0/8, certificateAuthority: CA}
  instance: {localStorage: {strategy: raid5, disabledMounts: [PodLogs, Podlog]}}",
            vec![
                "spec.instance.localStorage.strategy",
                "spec.instance.localStorage.disabledMounts[1]",
            ],
        ),
        (
            "  cluster: {name: a, apiServerEndpoint: 'https://a', cidr: 10.0.0.0/8, certificateAuthority: CA}
  instance: {environment: {default: {A: b, _c1: ''}, 'a b': {A: b}, kubelet: {A: \"b\\nC=d\", 1a: b}}}",
            vec!["spec.instance.environment"; 3],
        ),
        (
            "  cluster: {name: a, apiServerEndpoint: 'https://a', cidr: 10.0.0.0/8, certificateAuthority: CA}
  instance: {localStorage: {strategy: Mount, mountPath: ../x}, network: {nameservers: [10.0.0.2, 'a b'], domains: ['']}}",
            vec![
                "spec.instance.localStorage.mountPath",
                "spec.instance.network.nameservers[1]",
                "spec.instance.network.domains[0]",
            ],
        ),
        (
            "  cluster: {name: a, apiServerEndpoint: 'https://a', cidr: 10.0.0.0/8, certificateAuthority: CA}
  instance: {localStorage: {strategy: raid0}}
  kubelet: {flags: [--hostname-override=a]}",
            vec![],
        ),
    ] {
        use base64::Engine as _;
        let authority = base64::engine::general_purpose::STANDARD
            .encode(include_bytes!("../testdata/ca.pem"));
        let problems = parse(&with_spec(&spec.replace("CA", &authority))).unwrap().check();
        let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, expected, "{spec}");
    }
}
