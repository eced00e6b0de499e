//! The real server of aws-iam-authenticator: it asks STS whom a token speaks for, and
//! EC2 for the name of an instance, and knows which roles are nodes.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::identities::Identities;
use super::process::{Place, Process};
use crate::cloud::client::Cloud;
use crate::cloud::world::{Cluster, World};
use crate::judges::judge;

/// Where it answers reviews of tokens.
pub(super) const URL: &str = "https://127.0.0.1:21362/authenticate";
/// Where it says that it does.
pub(super) const HEALTH: &str = "https://127.0.0.1:21362/healthz";

/// Starts it.
pub(super) fn start(
    place: &Place,
    cloud: &Cloud,
    identities: &Identities,
    folder: &Path,
) -> Process {
    let world = cloud.world();
    let cluster = world.clusters.first().expect("the world has a cluster");
    let config = identities.file("authenticator/config.json");
    let settings = json!({
        "clusterID": cluster.name,
        "server": {
            "stateDir": identities.file("authenticator"),
            "kubeconfigPregenerated": true,
            "backendMode": ["MountedFile"],
            "mapRoles": mappings(&world, cluster),
        },
    });
    fs::write(&config, settings.to_string()).expect("the folder can be written");
    let key = world.keys.iter().find(|key| key.expires.is_none());
    let key = key.expect("the world has a key");
    let mut command = place.command(&judge("authenticator"));
    command
        .arg("server")
        .arg("--config")
        .arg(config)
        // Whom it trusts, and who it is itself where it asks EC2.
        .env("SSL_CERT_FILE", cloud.file("ca.pem"))
        .env("AWS_REGION", &world.region)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", &key.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &key.secret_access_key);
    if let Some(token) = &key.session_token {
        command.env("AWS_SESSION_TOKEN", token);
    }
    Process::start("aws-iam-authenticator", command, folder)
}

/// What access entries of the types `EC2_LINUX` and `HYBRID_LINUX` are to EKS.
fn mappings(world: &World, cluster: &Cluster) -> Vec<Value> {
    let instance = world.instance.as_ref().and_then(|one| one.role.as_deref());
    let entries = cluster.access_entries.iter();
    entries
        .map(|role| {
            let is_instance = role.rsplit('/').next() == instance;
            let name = if is_instance {
                "{{EC2PrivateDNSName}}"
            } else {
                "{{SessionName}}"
            };
            json!({
                "roleARN": role,
                "username": format!("system:node:{name}"),
                "groups": ["system:bootstrappers", "system:nodes"],
            })
        })
        .collect()
}
