//! EKS: the two reads that a node makes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::message::{Answer, Asked, decode};
use super::refusal::Refusal;
use super::world::{Cluster, World};
use super::{Service, State, signature_v4};

/// Answers a request.
pub fn answer(state: &State, asked: &Asked) -> Result<Answer, Refusal> {
    let key = signature_v4::verify(state, asked, Service::Eks)?;
    let segments: Vec<&str> = asked.path.split('/').skip(1).collect();
    let (name, action) = match segments[..] {
        ["clusters", name] => (name, "eks:DescribeCluster"),
        ["clusters", name, "access-entries"] => (name, "eks:ListAccessEntries"),
        _ => return Err(Refusal::UnknownAction(asked.path.clone())),
    };
    if asked.method != "GET" {
        return Err(Refusal::UnknownAction(format!(
            "{} {}",
            asked.method, asked.path
        )));
    }
    let name = decode(name, false);
    let world = state.lock().world.clone();
    let arn = arn(&world, &name);
    state.permit(&key, action, &arn)?;
    let cluster = world.clusters.iter().find(|cluster| cluster.name == name);
    let cluster = cluster.ok_or_else(|| {
        let text = format!("No cluster found for name: {name}.");
        Refusal::own(404, "ResourceNotFoundException", text)
    })?;
    if action == "eks:DescribeCluster" {
        let body = json!({ "cluster": describe(state, cluster, &arn) });
        return Ok(Answer::json(200, &body));
    }
    list(cluster, asked)
}

fn arn(world: &World, name: &str) -> String {
    format!(
        "arn:aws:eks:{}:{}:cluster/{name}",
        world.region, world.account
    )
}

fn describe(state: &State, cluster: &Cluster, arn: &str) -> Value {
    let own = state.endpoints.get(&Service::Cluster);
    let endpoint = cluster.endpoint.as_ref().or(own);
    let authority = cluster
        .certificate_authority
        .as_ref()
        .unwrap_or(&state.authority);
    let mut value = json!({
        "name": cluster.name,
        "arn": arn,
        "createdAt": 1_750_000_000.5,
        "version": cluster.version,
        "status": cluster.status,
        "platformVersion": "eks.1",
        "kubernetesNetworkConfig": {
            "serviceIpv4Cidr": cluster.service_ipv4_cidr,
            "ipFamily": "ipv4",
        },
        "tags": {},
    });
    // A cluster that is still being made has neither.
    if cluster.status != "CREATING" {
        value["endpoint"] = json!(endpoint);
        value["certificateAuthority"] = json!({ "data": STANDARD.encode(authority) });
    }
    if !cluster.remote_node_networks.is_empty() {
        value["remoteNetworkConfig"] = json!({
            "remoteNodeNetworks": [{ "cidrs": cluster.remote_node_networks }],
        });
    }
    value
}

/// The access entries, in pages as large as was asked for.
fn list(cluster: &Cluster, asked: &Asked) -> Result<Answer, Refusal> {
    let invalid = |text: &str| Refusal::own(400, "InvalidParameterException", text);
    let number = |name: &str, otherwise: usize| match asked.parameter(name) {
        None => Ok(otherwise),
        Some(text) => text
            .parse()
            .map_err(|_| invalid(&format!("{name} is no number"))),
    };
    let most: usize = number("maxResults", 100)?;
    let from: usize = number("nextToken", 0)?;
    if !(1..=100).contains(&most) {
        return Err(invalid("maxResults must be between 1 and 100"));
    }
    let page: Vec<&String> = cluster
        .access_entries
        .iter()
        .skip(from)
        .take(most)
        .collect();
    let next = from + page.len();
    let mut body = json!({ "accessEntries": page });
    if next < cluster.access_entries.len() {
        body["nextToken"] = json!(next.to_string());
    }
    Ok(Answer::json(200, &body))
}
