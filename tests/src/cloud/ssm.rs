//! Systems Manager, as far as a managed instance needs it: registration with an
//! activation, which is not signed, and credentials for the machine's own key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use serde_json::{Value, json};
use webpki::RawPublicKeyEntity;

use super::message::{Answer, Asked};
use super::refusal::Refusal;
use super::signature_v4::Claim;
use super::state::{Machine, random};
use super::{Service, State, signature_v4};

const PREFIX: &str = "AmazonSSM.";
/// How long a machine's credentials are good for, in seconds.
const HOUR: i64 = 3600;

/// Answers a request.
pub fn answer(state: &State, asked: &Asked) -> Result<Answer, Refusal> {
    let target = asked.header("x-amz-target").unwrap_or_default();
    if asked.method != "POST" || asked.path != "/" {
        return Err(Refusal::UnknownAction(target.into()));
    }
    let body: Value = serde_json::from_slice(&asked.body)
        .map_err(|_| Refusal::own(400, "SerializationException", "the body is no JSON"))?;
    let value = match target.strip_prefix(PREFIX) {
        Some("RegisterManagedInstance") => register(state, &body)?,
        Some("RequestManagedInstanceRoleToken") => role_token(state, asked, &body)?,
        Some("DescribeInstanceInformation") => {
            let key = signature_v4::verify(state, asked, Service::Ssm)?;
            state.permit(&key, "ssm:DescribeInstanceInformation", "*")?;
            let inner = state.lock();
            let list: Vec<Value> = inner
                .machines
                .iter()
                .map(|machine| json!({ "InstanceId": machine.id, "PingStatus": "Online" }))
                .collect();
            json!({ "InstanceInformationList": list })
        }
        Some("DeregisterManagedInstance") => {
            let key = signature_v4::verify(state, asked, Service::Ssm)?;
            state.permit(&key, "ssm:DeregisterManagedInstance", "*")?;
            let id = text(&body, "InstanceId")?;
            let mut inner = state.lock();
            let before = inner.machines.len();
            inner.machines.retain(|machine| machine.id != id);
            if inner.machines.len() == before {
                return Err(Refusal::own(400, "InvalidInstanceId", ""));
            }
            json!({})
        }
        _ => return Err(Refusal::UnknownAction(target.into())),
    };
    Ok(Answer::of(
        200,
        "application/x-amz-json-1.1",
        value.to_string(),
    ))
}

fn text<'a>(body: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    body[name]
        .as_str()
        .filter(|text| !text.is_empty())
        .ok_or_else(|| {
            let text = format!("1 validation error detected: Value at '{name}' must not be null");
            Refusal::own(400, "ValidationException", text)
        })
}

fn register(state: &State, body: &Value) -> Result<Value, Refusal> {
    let (id, code) = (text(body, "ActivationId")?, text(body, "ActivationCode")?);
    let key = STANDARD.decode(text(body, "PublicKey")?);
    let key =
        key.map_err(|_| Refusal::own(400, "ValidationException", "PublicKey is no base64"))?;
    let fingerprint = text(body, "Fingerprint")?.to_owned();
    text(body, "PublicKeyType")?;
    let now = state.now();
    let mut inner = state.lock();
    let known = inner
        .world
        .activations
        .iter()
        .find(|one| one.id == id && one.code == code);
    let activation = known.cloned().ok_or_else(|| {
        Refusal::own(
            400,
            "InvalidActivation",
            "Activation code and ID do not match an activation of this account and region.",
        )
    })?;
    let used = inner
        .machines
        .iter()
        .filter(|one| one.activation == id)
        .count();
    if activation.expires.is_some_and(|end| end <= now) || used >= activation.limit {
        return Err(Refusal::own(
            400,
            "ActivationExpired",
            "The activation is expired or used up.",
        ));
    }
    let machine = Machine {
        id: format!("mi-{}", &random()[..17]),
        role: activation.role,
        activation: activation.id,
        key,
        fingerprint,
    };
    let answer = json!({ "InstanceId": machine.id });
    inner.machines.push(machine);
    Ok(answer)
}

/// Credentials for a machine that proves to have its key and its hardware.
fn role_token(state: &State, asked: &Asked, body: &Value) -> Result<Value, Refusal> {
    let claim = Claim::read(asked)?;
    claim.check(asked, state, Service::Ssm)?;
    let machine = {
        let inner = state.lock();
        let known = inner
            .machines
            .iter()
            .find(|machine| machine.id == claim.signer);
        known.cloned().ok_or(Refusal::UnknownKey)?
    };
    let spki = SubjectPublicKeyInfoDer::from(machine.key.as_slice());
    let signature = STANDARD.decode(&claim.signature).unwrap_or_default();
    let message = claim.string_to_sign(asked);
    let is_right = RawPublicKeyEntity::try_from(&spki).is_ok_and(|key| {
        [
            webpki::ring::ECDSA_P256_SHA256,
            webpki::ring::RSA_PKCS1_2048_8192_SHA256,
        ]
        .iter()
        .any(|algorithm| {
            key.verify_signature(*algorithm, message.as_bytes(), &signature)
                .is_ok()
        })
    });
    if !is_right {
        let text = "The request signature we calculated does not match the signature you provided.";
        return Err(Refusal::Signature(text.into()));
    }
    if text(body, "Fingerprint")? != machine.fingerprint {
        let text = "Fingerprint does not match";
        return Err(Refusal::own(400, "MachineFingerprintDoesNotMatch", text));
    }
    let key = state.give(&machine.role, &machine.id, HOUR);
    Ok(json!({
        "AccessKeyId": key.access_key_id,
        "SecretAccessKey": key.secret_access_key,
        "SessionToken": key.session_token,
        "TokenExpirationDate": key.expires,
        "UpdateKeyPair": false,
    }))
}
