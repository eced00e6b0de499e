//! The metadata service of an EC2 instance, version 2 only: no token, no answer.

use serde_json::json;

use super::message::{Answer, Asked};
use super::state::{State, iso, random};
use super::world::{Instance, World};

const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aws-ec2-metadata-token";
/// The longest that a token may be good for, in seconds.
const LONGEST: i64 = 21_600;
/// How long the role's credentials are good for, in seconds.
const HOURS: i64 = 6 * 3600;

/// Answers a request.
pub fn answer(state: &State, asked: &Asked) -> Answer {
    // A proxy in between would give the credentials to everybody behind it.
    if asked.header("x-forwarded-for").is_some() {
        return error(403, "Forbidden");
    }
    if asked.path == "/latest/api/token" {
        return token(state, asked);
    }
    if asked.method != "GET" {
        return error(405, "Method Not Allowed");
    }
    let now = state.now();
    let known = asked
        .header(TOKEN)
        .and_then(|token| state.lock().tokens.get(token).copied());
    if known.is_none_or(|end| end <= now) {
        return error(401, "Unauthorized");
    }
    let world = state.lock().world.clone();
    let Some(instance) = &world.instance else {
        return error(404, "Not Found");
    };
    let body = read(state, &world, instance, &asked.path);
    body.map_or_else(|| error(404, "Not Found"), |text| Answer::text(200, &text))
}

fn error(status: u16, reason: &str) -> Answer {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<html><head><title>{status} - {reason}\
         </title></head><body><h1>{status} - {reason}</h1></body></html>\n"
    );
    Answer::of(status, "text/html", body)
}

fn token(state: &State, asked: &Asked) -> Answer {
    if asked.method != "PUT" {
        return error(405, "Method Not Allowed");
    }
    let seconds = asked.header(TTL).and_then(|text| text.parse::<i64>().ok());
    let Some(seconds) = seconds.filter(|seconds| (1..=LONGEST).contains(seconds)) else {
        return error(400, "Bad Request");
    };
    let token = format!("{}==", random());
    let end = state.now() + seconds;
    state.lock().tokens.insert(token.clone(), end);
    Answer::text(200, &token).with(TTL, seconds.to_string())
}

/// What lies at a path, below any version of the service.
fn read(state: &State, world: &World, instance: &Instance, path: &str) -> Option<String> {
    if path == "/" {
        return Some("1.0\n2021-01-03\nlatest".into());
    }
    let (version, rest) = path.strip_prefix('/')?.split_once('/')?;
    let is_dated = version.len() == 10 && version.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    if version != "latest" && version != "1.0" && !is_dated {
        return None;
    }
    match rest {
        "" => Some("dynamic\nmeta-data\nuser-data".into()),
        "user-data" => instance.user_data.clone(),
        "dynamic" | "dynamic/" => Some("instance-identity/".into()),
        "dynamic/instance-identity" | "dynamic/instance-identity/" => Some("document".into()),
        "dynamic/instance-identity/document" => Some(document(world, instance)),
        _ => metadata(state, world, instance, rest.strip_prefix("meta-data/")?),
    }
}

fn metadata(state: &State, world: &World, instance: &Instance, path: &str) -> Option<String> {
    let of_interface = format!("network/interfaces/macs/{}/", instance.mac);
    if let Some(key) = path.strip_prefix(&of_interface) {
        return match key {
            "" => Some(
                "device-number\ninterface-id\nlocal-ipv4s\nmac\nowner-id\n\
                 subnet-ipv4-cidr-block\nvpc-id\nvpc-ipv4-cidr-block\nvpc-ipv4-cidr-blocks"
                    .into(),
            ),
            "vpc-id" => Some("vpc-0123456789abcdef0".into()),
            "mac" => Some(instance.mac.clone()),
            "device-number" => Some("0".into()),
            "interface-id" => Some("eni-0123456789abcdef0".into()),
            "local-ipv4s" => Some(instance.local_ipv4.clone()),
            "owner-id" => Some(world.account.clone()),
            "subnet-ipv4-cidr-block" | "vpc-ipv4-cidr-block" | "vpc-ipv4-cidr-blocks" => {
                Some("10.1.0.0/16".into())
            }
            _ => None,
        };
    }
    let value = match path {
        "" => {
            "ami-id\nhostname\niam/\ninstance-id\ninstance-type\nlocal-hostname\nlocal-ipv4\n\
               mac\nnetwork/\nplacement/\nservices/"
        }
        "iam/" => "security-credentials/",
        "network/" => "interfaces/",
        "network/interfaces/" => "macs/",
        "placement/" => "availability-zone\nregion",
        "services/" => "domain\npartition",
        "ami-id" => "ami-0123456789abcdef0",
        "instance-id" => &instance.id,
        "instance-type" => &instance.instance_type,
        "hostname" | "local-hostname" => {
            let own = instance.host_name.as_ref();
            own.unwrap_or(&instance.private_dns_name)
        }
        "local-ipv4" => &instance.local_ipv4,
        "mac" => &instance.mac,
        "placement/availability-zone" => &instance.availability_zone,
        "placement/region" => &world.region,
        "services/domain" => "amazonaws.com",
        "services/partition" => "aws",
        "network/interfaces/macs/" | "network/interfaces/macs" => {
            return Some(format!("{}/", instance.mac));
        }
        "iam/security-credentials/" | "iam/security-credentials" => instance.role.as_ref()?,
        _ => return credentials(state, world, instance, path),
    };
    Some(value.to_owned())
}

fn credentials(state: &State, world: &World, instance: &Instance, path: &str) -> Option<String> {
    let role = path.strip_prefix("iam/security-credentials/")?;
    if instance.role.as_deref() != Some(role) {
        return None;
    }
    // As long as they are good, the same are given again.
    let soon = state.now() + 300;
    let session = format!(":{}", instance.id);
    let has = world
        .keys
        .iter()
        .find(|key| key.user_id.ends_with(&session) && key.expires.is_some_and(|end| end > soon));
    let key = has.map_or_else(|| state.give(role, &instance.id, HOURS), Clone::clone);
    let value = json!({
        "Code": "Success",
        "LastUpdated": iso(state.now()),
        "Type": "AWS-HMAC",
        "AccessKeyId": key.access_key_id,
        "SecretAccessKey": key.secret_access_key,
        "Token": key.session_token,
        "Expiration": iso(key.expires.unwrap_or_default()),
    });
    Some(format!("{value:#}"))
}

fn document(world: &World, instance: &Instance) -> String {
    let value = json!({
        "accountId": world.account,
        "architecture": "x86_64",
        "availabilityZone": instance.availability_zone,
        "billingProducts": null,
        "devpayProductCodes": null,
        "marketplaceProductCodes": null,
        "imageId": "ami-0123456789abcdef0",
        "instanceId": instance.id,
        "instanceType": instance.instance_type,
        "kernelId": null,
        "pendingTime": "2026-01-31T12:00:00Z",
        "privateIp": instance.local_ipv4,
        "ramdiskId": null,
        "region": world.region,
        "version": "2017-09-30",
    });
    format!("{value:#}")
}
