//! The calls, against answers as the services write them.

use std::time::Duration;

use super::credentials::Credentials;
use super::scripted::Scripted;
use super::*;
use crate::system::Variables;
use crate::system::pretended::Pretended;

const CLUSTER: &str = "GET https://eks.eu-central-1.amazonaws.com/clusters/blue";
const STS: &str = "POST https://sts.eu-central-1.amazonaws.com/";
const EC2: &str = "POST https://ec2.eu-central-1.amazonaws.com/";

fn with_client<T>(network: &Scripted, ask: impl FnOnce(&Client<'_>) -> T) -> T {
    let clock = Pretended::default();
    let variables = Variables::default();
    let credentials = Credentials {
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: "secret".into(),
        session_token: Some("t0ken".into()),
        expires: None,
    };
    let answer = ask(&Client {
        network,
        clock: &clock,
        variables: &variables,
        region: "eu-central-1",
        credentials: &credentials,
        budget: Budget::SERVICE,
    });
    network.assert_done();
    answer
}

fn described(status: &str, more: &str) -> String {
    format!(
        r#"{{"cluster":{{"name":"blue","status":"{status}","version":"1.34",
        "endpoint":"https://0A1B.gr7.eu-central-1.eks.amazonaws.com",
        "certificateAuthority":{{"data":"LS0tLS0="}},
        "kubernetesNetworkConfig":{{"serviceIpv4Cidr":"172.20.0.0/16","ipFamily":"ipv4"}}{more}}}}}"#
    )
}

#[test]
fn a_cluster_is_described() {
    let remote = r#","remoteNetworkConfig":{"remoteNodeNetworks":[{"cidrs":["10.1.0.0/16"]},
        {"cidrs":["10.2.0.0/16"]}],"remotePodNetworks":null}"#;
    let network = Scripted::default().then(CLUSTER, 200, &described("ACTIVE", remote));
    let cluster = with_client(&network, |it| it.describe_cluster("blue", true)).unwrap();
    assert_eq!(
        cluster.endpoint,
        "https://0A1B.gr7.eu-central-1.eks.amazonaws.com"
    );
    assert_eq!(cluster.certificate_authority, b"-----");
    assert_eq!(cluster.service_ipv4_cidr.as_deref(), Some("172.20.0.0/16"));
    assert_eq!(cluster.version.as_deref(), Some("1.34"));
    let remote = cluster.remote_networks.unwrap();
    assert_eq!(remote.nodes, ["10.1.0.0/16", "10.2.0.0/16"]);
    assert!(remote.pods.is_empty());
    let requests = network.requests.borrow();
    let authorization = &requests[0].headers.last().unwrap().1;
    assert!(authorization.contains(
        "/eu-central-1/eks/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token"
    ));
}

/// nodeadm wants it to be ACTIVE; its API server answers all the while.
#[test]
fn a_cluster_that_is_updated_can_be_joined() {
    let network = Scripted::default().then(CLUSTER, 200, &described("UPDATING", ""));
    with_client(&network, |it| it.describe_cluster("blue", false)).unwrap();
}

#[test]
fn a_cluster_that_cannot_be_joined_is_an_error_with_a_hint() {
    let network = Scripted::default().then(CLUSTER, 200, &described("DELETING", ""));
    let error = with_client(&network, |it| it.describe_cluster("blue", false)).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"cluster blue is not active, but "DELETING""#
    );
    assert!(error.hint().is_some() && !error.is_transient());
    let network = Scripted::default().then(CLUSTER, 200, &described("ACTIVE", ""));
    let error = with_client(&network, |it| it.describe_cluster("blue", true)).unwrap_err();
    assert!(error.to_string().contains("remoteNetworkConfig"));
    for body in [
        "",
        "[]",
        r#"{"cluster":{}}"#,
        r#"{"cluster":{"status":"ACTIVE"}}"#,
    ] {
        let network = Scripted::default().then(CLUSTER, 200, body);
        let error = with_client(&network, |it| it.describe_cluster("blue", false)).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("the answer to eks:DescribeCluster"),
            "{error}"
        );
    }
}

#[test]
fn busy_services_and_broken_connections_are_tried_again() {
    let network = Scripted::default()
        .silent(CLUSTER)
        .then(CLUSTER, 503, "<html>busy</html>")
        .then(
            CLUSTER,
            400,
            r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#,
        )
        .then(CLUSTER, 200, &described("ACTIVE", ""));
    with_client(&network, |it| it.describe_cluster("blue", false)).unwrap();
    let requests = network.requests.borrow();
    assert!(
        requests
            .iter()
            .all(|it| it.limit <= Duration::from_secs(10))
    );
    // Signed anew, so that the signature is never old.
    assert_ne!(requests[0].headers, requests[3].headers);
}

#[test]
fn errors_say_what_to_do() {
    for (status, kind, message, hint) in [
        (
            404,
            "ResourceNotFoundException",
            "No cluster found for name: blue.",
            "there is no cluster blue in eu-central-1",
        ),
        (
            403,
            "AccessDeniedException",
            "User: x is not authorized",
            "must be allowed eks:DescribeCluster",
        ),
        (
            403,
            "ExpiredTokenException",
            "The security token is expired",
            "credentials have expired",
        ),
        (
            403,
            "UnrecognizedClientException",
            "The security token is invalid",
            "not known in eu-central-1",
        ),
        (
            403,
            "InvalidSignatureException",
            "Signature expired: 20260101",
            "the service's says 1994-11-06T08:49:37.000Z",
        ),
        (
            403,
            "InvalidSignatureException",
            "The request signature does not match",
            "secret access key",
        ),
    ] {
        let body = format!(r#"{{"message":"{message}"}}"#);
        let network = Scripted::default()
            .then(CLUSTER, status, &body)
            .with(
                "x-amzn-errortype",
                &format!("{kind}:http://internal.amazon.com/"),
            )
            .with("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let error = with_client(&network, |it| it.describe_cluster("blue", false)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("eks:DescribeCluster was refused: {kind}: {message}")
        );
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
        assert!(!error.is_transient());
    }
}

#[test]
fn a_session_token_that_a_service_repeats_is_left_out() {
    let body = "<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code><Message>No match.\n\n\
                The Canonical String for this request should have been 'x-amz-security-token:t0ken'\
                </Message></Error></ErrorResponse>";
    let network = Scripted::default().then(STS, 403, body);
    let error = with_client(&network, |it| it.caller()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sts:GetCallerIdentity was refused: SignatureDoesNotMatch: No match."
    );
    assert!(!format!("{error:?}").contains("t0ken"));
}

#[test]
fn access_entries_are_read_page_by_page_and_not_forever() {
    let first = format!("{CLUSTER}/access-entries?maxResults=100");
    let second = format!("{first}&nextToken=a%2Fb%3D");
    let page = r#"{"accessEntries":["arn:1"],"nextToken":"a/b="}"#;
    let network = Scripted::default().then(&first, 200, page).then(
        &second,
        200,
        r#"{"accessEntries":["arn:2"],"nextToken":null}"#,
    );
    let entries = with_client(&network, |it| it.list_access_entries("blue")).unwrap();
    assert_eq!(entries, ["arn:1", "arn:2"]);
    let network = Scripted::default()
        .then(&first, 200, page)
        .then(&second, 200, page);
    let error = with_client(&network, |it| it.list_access_entries("blue")).unwrap_err();
    assert!(error.to_string().ends_with("leads to the same page again"));
}

#[test]
fn the_caller_and_its_role() {
    let body = r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
        <GetCallerIdentityResult><Arn>arn:aws:sts::123456789012:assumed-role/node/mi-1</Arn>
        <UserId>AROA:mi-1</UserId><Account>123456789012</Account></GetCallerIdentityResult>
        </GetCallerIdentityResponse>"#;
    let network = Scripted::default().then(STS, 200, body);
    let caller = with_client(&network, |it| it.caller()).unwrap();
    assert_eq!(caller.role(), Some("node"));
    assert_eq!(caller.account, "123456789012");
    let requests = network.requests.borrow();
    assert_eq!(
        requests[0].body,
        b"Action=GetCallerIdentity&Version=2011-06-15"
    );
}

#[test]
fn xml_that_defines_entities_is_refused() {
    let body = r#"<!DOCTYPE a [<!ENTITY b "cccccccccc">]><a>&b;&b;</a>"#;
    let network = Scripted::default().then(STS, 200, body);
    let error = with_client(&network, |it| it.caller()).unwrap_err();
    assert!(error.to_string().ends_with("is no XML that can be read"));
}

#[test]
fn the_name_of_an_instance() {
    let body = |id: &str, name: &str| {
        format!(
            "<DescribeInstancesResponse><reservationSet><item><groupSet><item><groupId>sg</groupId>\
             </item></groupSet><instancesSet><item><instanceId>{id}</instanceId>\
             <privateDnsName>{name}</privateDnsName></item></instancesSet></item></reservationSet>\
             </DescribeInstancesResponse>"
        )
    };
    let name = "ip-10-0-0-7.eu-central-1.compute.internal";
    let network = Scripted::default()
        .then(EC2, 200, &body("i-1", name))
        .then(EC2, 200, &body("i-1", ""))
        .then(
            EC2,
            400,
            "<Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code>\
             <Message>no</Message></Error></Errors></Response>",
        )
        .then(EC2, 200, &body("i-2", name));
    with_client(&network, |it| {
        assert_eq!(it.private_dns_name("i-1").unwrap().as_deref(), Some(name));
        assert_eq!(it.private_dns_name("i-1").unwrap(), None);
        assert_eq!(it.private_dns_name("i-1").unwrap(), None);
        let error = it.private_dns_name("i-1").unwrap_err();
        assert!(error.to_string().ends_with("is about another instance"));
    });
}

#[test]
fn the_limits_of_a_type_are_those_of_its_default_card() {
    let body = "<DescribeInstanceTypesResponse><instanceTypeSet><item><networkInfo>\
        <defaultNetworkCardIndex>0</defaultNetworkCardIndex>\
        <ipv4AddressesPerInterface>50</ipv4AddressesPerInterface>\
        <maximumNetworkInterfaces>60</maximumNetworkInterfaces><networkCards>\
        <item><networkCardIndex>1</networkCardIndex><maximumNetworkInterfaces>1</maximumNetworkInterfaces></item>\
        <item><networkCardIndex>0</networkCardIndex><maximumNetworkInterfaces>15</maximumNetworkInterfaces></item>\
        </networkCards></networkInfo></item></instanceTypeSet></DescribeInstanceTypesResponse>";
    let network = Scripted::default().then(EC2, 200, body);
    let limits = with_client(&network, |it| it.interface_limits("p4d.24xlarge")).unwrap();
    assert_eq!((limits.interfaces, limits.ipv4_addresses), (15, 50));
}
