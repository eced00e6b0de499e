//! The private registries of ECR: images out of OCI layouts, for who shows a password
//! that ECR gave and that is still good (OCI distribution specification 1.1, as far as
//! pulling goes). Layers come from here, where AWS sends to S3.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::message::{Answer, Asked};
use super::refusal::{Dialect, Refusal};
use super::state::Password;
use super::world::Repository;
use super::{State, World};

/// The user of every password.
pub const USER: &str = "AWS";

/// The annotation of a layout's index that holds a tag.
pub const TAG: &str = "org.opencontainers.image.ref.name";

/// How the registry says no.
struct Denied {
    status: u16,
    code: &'static str,
    message: String,
}

fn denied(status: u16, code: &'static str, message: impl Into<String>) -> Denied {
    Denied {
        status,
        code,
        message: message.into(),
    }
}

/// Answers a request.
pub fn answer(state: &State, asked: &Asked) -> Answer {
    let world = state.lock().world.clone();
    let registry = registry(asked, &world);
    let answer = match enter(state, asked) {
        Ok(password) => pull(state, asked, &world, &registry, &password),
        Err(refused) => Err(refused),
    };
    let answer = answer.unwrap_or_else(|denied| {
        let error = json!({ "code": denied.code, "message": denied.message });
        let answer = Answer::json(denied.status, &json!({ "errors": [error] }));
        if denied.status == 401 {
            let host = format!("{registry}.dkr.ecr.{}.amazonaws.com", world.region);
            let challenge =
                format!("Basic realm=\"https://{host}/\",service=\"ecr.amazonaws.com\"");
            return answer.with("www-authenticate", challenge);
        }
        answer
    });
    answer.with("docker-distribution-api-version", "registry/2.0")
}

/// The account whose registry is asked: that of the name, else the world's own.
fn registry(asked: &Asked, world: &World) -> String {
    let host = asked.header("host").unwrap_or_default();
    let of_name = host.split_once(".dkr.ecr.").map(|(account, _)| account);
    of_name.unwrap_or(&world.account).to_owned()
}

/// The password that is shown, if ECR gave it and it is still good.
fn enter(state: &State, asked: &Asked) -> Result<Password, Denied> {
    let Some(shown) = asked.header("authorization") else {
        return Err(denied(401, "UNAUTHORIZED", "Not Authorized"));
    };
    let password = shown.strip_prefix("Basic ").and_then(|encoded| {
        let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        (user == USER).then(|| state.lock().passwords.get(password).cloned())?
    });
    match password {
        None => Err(denied(
            400,
            "DENIED",
            "Your Authorization Token is invalid.",
        )),
        Some(password) if password.end <= state.now() => Err(denied(
            403,
            "DENIED",
            "Your authorization token has expired. Reauthenticate and try again.",
        )),
        Some(password) => Ok(password),
    }
}

/// What lies at a path.
fn pull(
    state: &State,
    asked: &Asked,
    world: &World,
    registry: &str,
    password: &Password,
) -> Result<Answer, Denied> {
    if !matches!(asked.method.as_str(), "GET" | "HEAD") {
        let message = "The operation is unsupported.";
        return Err(denied(405, "UNSUPPORTED", message));
    }
    if matches!(asked.path.as_str(), "/v2" | "/v2/") {
        return Ok(Answer::json(200, &json!({})));
    }
    let unknown = || denied(404, "NAME_INVALID", "there is no such path");
    let rest = asked.path.strip_prefix("/v2/").ok_or_else(unknown)?;
    let (name, kind, wanted) = parts(rest).ok_or_else(unknown)?;
    let action = match kind {
        "manifests" => "ecr:BatchGetImage",
        "blobs" => "ecr:GetDownloadUrlForLayer",
        _ => "ecr:ListImages",
    };
    let resource = format!("arn:aws:ecr:{}:{registry}:repository/{name}", world.region);
    state
        .permit(&password.key, action, &resource)
        .map_err(|refusal| denied(403, "DENIED", message(&refusal)))?;
    let repository = world
        .repositories
        .iter()
        .find(|one| one.registry == registry && one.name == name)
        .ok_or_else(|| {
            let message = format!(
                "The repository with name '{name}' does not exist in the registry with id '{registry}'"
            );
            denied(404, "NAME_UNKNOWN", message)
        })?;
    match kind {
        "manifests" => manifest(repository, wanted)
            .ok_or_else(|| denied(404, "MANIFEST_UNKNOWN", "Requested image not found")),
        "blobs" => blob(&repository.layout, wanted)
            .map(|body| Answer::of(200, "application/octet-stream", body).with(DIGEST, wanted))
            .ok_or_else(|| denied(404, "BLOB_UNKNOWN", "blob unknown to registry")),
        _ => {
            let tags: Vec<String> = tagged(repository).filter_map(|(tag, _)| tag).collect();
            Ok(Answer::json(200, &json!({ "name": name, "tags": tags })))
        }
    }
}

const DIGEST: &str = "docker-content-digest";

/// `NAME/manifests/REFERENCE`, where the name may have slashes.
fn parts(rest: &str) -> Option<(&str, &'static str, &str)> {
    let (before, wanted) = rest.rsplit_once('/')?;
    let (name, kind) = before.rsplit_once('/')?;
    let kind = ["manifests", "blobs", "tags"]
        .into_iter()
        .find(|one| *one == kind)?;
    (kind != "tags" || wanted == "list").then_some((name, kind, wanted))
}

/// The sentence of a refusal, as the services of AWS write it.
fn message(refusal: &Refusal) -> String {
    let answer = Dialect::RestJson.answer(refusal);
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body["message"].as_str().unwrap_or_default().to_owned()
}

/// Tags and digests of a layout's images.
fn tagged(repository: &Repository) -> impl Iterator<Item = (Option<String>, String)> + use<> {
    let text = std::fs::read(repository.layout.join("index.json")).unwrap_or_default();
    let index: Value = serde_json::from_slice(&text).unwrap_or_default();
    let manifests = index["manifests"].as_array().cloned().unwrap_or_default();
    manifests.into_iter().filter_map(|one| {
        let tag = one["annotations"][TAG].as_str().map(String::from);
        Some((tag, one["digest"].as_str()?.to_owned()))
    })
}

/// A manifest or an index, by tag or digest.
fn manifest(repository: &Repository, wanted: &str) -> Option<Answer> {
    let digest = match tagged(repository).find(|(tag, _)| tag.as_deref() == Some(wanted)) {
        Some((_, digest)) => digest,
        None => wanted.to_owned(),
    };
    let body = blob(&repository.layout, &digest)?;
    let read: Value = serde_json::from_slice(&body).ok()?;
    // What says no type is a configuration, or another blob.
    let kind = read["mediaType"].as_str()?;
    Some(Answer::of(200, kind, body).with(DIGEST, digest))
}

fn blob(layout: &Path, digest: &str) -> Option<Vec<u8>> {
    std::fs::read(place(layout, digest)?).ok()
}

/// Where a blob lies. Nothing else of the folder is ever named by a digest.
fn place(layout: &Path, digest: &str) -> Option<PathBuf> {
    let hex = digest.strip_prefix("sha256:")?;
    let is_hex = hex.len() == 64
        && hex
            .bytes()
            .all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| layout.join("blobs/sha256").join(hex))
}
