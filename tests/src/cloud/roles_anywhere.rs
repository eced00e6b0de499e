//! IAM Roles Anywhere: credentials for who has a certificate and its key. The
//! signature is one of version 4 whose key is the certificate's.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use serde_json::{Value, json};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::canonical::from_hex;
use super::message::{Answer, Asked};
use super::refusal::Refusal;
use super::signature_v4::Claim;
use super::state::iso;
use super::world::World;
use super::{Service, State};

/// Answers a request.
pub fn answer(state: &State, asked: &Asked) -> Result<Answer, Refusal> {
    if asked.method != "POST" || asked.path != "/sessions" {
        return Err(Refusal::UnknownAction(format!(
            "{} {}",
            asked.method, asked.path
        )));
    }
    let claim = Claim::read(asked)?;
    claim.check(asked, state, Service::RolesAnywhere)?;
    let certificate = asked
        .header("x-amz-x509")
        .ok_or_else(|| denied("Certificate is missing"))?;
    let certificate = STANDARD
        .decode(certificate)
        .map(CertificateDer::from)
        .map_err(|_| denied("Untrusted certificate. Certificate is no base64"))?;
    let entity = EndEntityCert::try_from(&certificate)
        .map_err(|_| denied("Untrusted certificate. Certificate cannot be read"))?;
    verify_signature(&claim, asked, &entity)?;
    let body: Value = serde_json::from_slice(&asked.body)
        .map_err(|_| Refusal::own(400, "ValidationException", "the body is no JSON"))?;
    let world = state.lock().world.clone();
    verify_chain(asked, &body, &world, &entity, state.now())?;
    session(state, asked, &body, &world, &entity)
}

fn denied(text: &str) -> Refusal {
    Refusal::own(403, "AccessDeniedException", text)
}

fn verify_signature(
    claim: &Claim,
    asked: &Asked,
    entity: &EndEntityCert<'_>,
) -> Result<(), Refusal> {
    let algorithms: &[&dyn SignatureVerificationAlgorithm] = match claim.algorithm.as_str() {
        "AWS4-X509-RSA-SHA256" => &[webpki::ring::RSA_PKCS1_2048_8192_SHA256],
        "AWS4-X509-ECDSA-SHA256" => &[
            webpki::ring::ECDSA_P256_SHA256,
            webpki::ring::ECDSA_P384_SHA256,
        ],
        other => {
            let text = format!("Unsupported AWS 'algorithm': '{other}'.");
            return Err(Refusal::Incomplete(text));
        }
    };
    let serial = decimal(entity.serial());
    let signature = from_hex(&claim.signature).unwrap_or_default();
    let message = claim.string_to_sign(asked);
    let is_right = claim.signer == serial
        && algorithms.iter().any(|algorithm| {
            entity
                .verify_signature(*algorithm, message.as_bytes(), &signature)
                .is_ok()
        });
    if is_right {
        return Ok(());
    }
    let text = "The request signature we calculated does not match the signature you provided.";
    Err(Refusal::Signature(text.into()))
}

/// What was said in the URL or else in the body.
fn said(asked: &Asked, body: &Value, name: &str) -> Result<String, Refusal> {
    asked
        .parameter(name)
        .or_else(|| body[name].as_str().map(String::from))
        .ok_or_else(|| Refusal::own(400, "ValidationException", format!("{name} is missing")))
}

/// Checks that the certificate comes from the trust anchor, and its dates.
fn verify_chain(
    asked: &Asked,
    body: &Value,
    world: &World,
    entity: &EndEntityCert<'_>,
    now: i64,
) -> Result<(), Refusal> {
    let arn = said(asked, body, "trustAnchorArn")?;
    let anchor = world.trust_anchors.iter().find(|anchor| anchor.arn == arn);
    let anchor = anchor
        .ok_or_else(|| Refusal::own(404, "ResourceNotFoundException", "Trust anchor not found"))?;
    if !anchor.enabled {
        return Err(denied("Trust anchor is disabled"));
    }
    let chain: Vec<CertificateDer<'_>> = asked
        .header("x-amz-x509-chain")
        .into_iter()
        .flat_map(|chain| chain.split(','))
        .filter_map(|one| STANDARD.decode(one.trim()).ok())
        .map(CertificateDer::from)
        .collect();
    let root = CertificateDer::from_pem_slice(anchor.certificate.as_bytes())
        .map_err(|_| denied("Trust anchor is no certificate"))?;
    let root =
        anchor_from_trusted_cert(&root).map_err(|_| denied("Trust anchor cannot be read"))?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now.max(0).unsigned_abs()));
    entity
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &[root],
            &chain,
            time,
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map(|_| ())
        .map_err(|error| match error {
            webpki::Error::CertExpired { .. } => {
                denied("Untrusted certificate. Certificate is expired")
            }
            webpki::Error::CertNotValidYet { .. } => {
                denied("Untrusted certificate. Certificate is not valid yet")
            }
            _ => denied("Untrusted certificate. Insufficient certificate"),
        })
}

fn session(
    state: &State,
    asked: &Asked,
    body: &Value,
    world: &World,
    entity: &EndEntityCert<'_>,
) -> Result<Answer, Refusal> {
    let (profile, role) = (
        said(asked, body, "profileArn")?,
        said(asked, body, "roleArn")?,
    );
    let profile = world.profiles.iter().find(|one| one.arn == profile);
    let profile = profile
        .ok_or_else(|| Refusal::own(404, "ResourceNotFoundException", "Profile not found"))?;
    if !profile.roles.contains(&role) {
        return Err(denied("Role is not in the profile"));
    }
    let seconds = match &body["durationSeconds"] {
        Value::Null => 3600,
        value => value
            .as_i64()
            .filter(|seconds| (900..=43_200).contains(seconds))
            .ok_or_else(|| {
                Refusal::own(
                    400,
                    "ValidationException",
                    "durationSeconds is out of range",
                )
            })?,
    };
    let serial = decimal(entity.serial());
    let name = body["roleSessionName"].as_str();
    if name.is_some() && !profile.accepts_session_name {
        return Err(denied("Profile does not accept a role session name"));
    }
    let name = name.map_or_else(|| serial.clone(), String::from);
    let role_name = role.rsplit('/').next().unwrap_or_default();
    let key = state.give(role_name, &name, seconds);
    let body = json!({
        "credentialSet": [{
            "assumedRoleUser": { "arn": key.principal, "assumedRoleId": key.user_id },
            "credentials": {
                "accessKeyId": key.access_key_id,
                "secretAccessKey": key.secret_access_key,
                "sessionToken": key.session_token,
                "expiration": iso(key.expires.unwrap_or_default()),
            },
            "packedPolicySize": 1,
            "roleArn": role,
            "sourceIdentity": name,
        }],
        "subjectArn": format!(
            "arn:aws:rolesanywhere:{}:{}:subject/{serial}", world.region, world.account
        ),
    });
    Ok(Answer::json(201, &body))
}

/// A big-endian number in decimal digits.
pub fn decimal(bytes: &[u8]) -> String {
    let mut digits: Vec<u8> = vec![0];
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += u32::from(*digit) * 256;
            *digit = (carry % 10) as u8;
            carry /= 10;
        }
        while carry > 0 {
            digits.push((carry % 10) as u8);
            carry /= 10;
        }
    }
    digits
        .iter()
        .rev()
        .map(|digit| char::from(b'0' + digit))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_written_in_decimal() {
        assert_eq!(decimal(&[]), "0");
        assert_eq!(decimal(&[0]), "0");
        assert_eq!(decimal(&[0x01, 0x00]), "256");
        assert_eq!(decimal(&[0xff; 8]), u64::MAX.to_string());
        assert_eq!(decimal(&[0xff; 16]), u128::MAX.to_string());
    }
}
