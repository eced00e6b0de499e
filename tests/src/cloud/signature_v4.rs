//! AWS Signature Version 4, the verifying side: in the `Authorization` header and in
//! a presigned URL.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::canonical::{self, sha256};
use super::identity::Key;
use super::message::Asked;
use super::refusal::Refusal;
use super::state::{basic, parse_basic};
use super::{Service, State};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Seconds by which a date may differ from now.
const TOLERANCE: i64 = 5 * 60;
/// The longest that a presigned URL may be good for, in seconds.
const LONGEST: i64 = 7 * 24 * 3600;
/// Seconds that a presigned URL is good for with STS, whatever it says itself.
const WITH_STS: i64 = 15 * 60;

/// The parts of a signature, wherever it stands.
#[derive(Debug, PartialEq, Eq)]
pub struct Claim {
    /// `AWS4-…`.
    pub algorithm: String,
    /// Who signs: an access key, a serial number.
    pub signer: String,
    /// Day of the scope, `20260131`.
    pub day: String,
    /// Region of the scope.
    pub region: String,
    /// Service of the scope.
    pub service: String,
    /// Date, `20260131T120000Z`.
    pub date: String,
    /// Names of the signed headers.
    pub headers: Vec<String>,
    /// The signature.
    pub signature: String,
    /// Seconds for which a presigned URL is good.
    pub expires: Option<i64>,
    /// The session token.
    pub token: Option<String>,
}

impl Claim {
    /// What a request claims.
    pub fn read(asked: &Asked) -> Result<Self, Refusal> {
        if let Some(header) = asked.header("authorization") {
            return Self::from_header(asked, header);
        }
        if asked.parameter("X-Amz-Algorithm").is_some() {
            return Self::from_query(asked);
        }
        Err(Refusal::NoSignature)
    }

    fn from_header(asked: &Asked, header: &str) -> Result<Self, Refusal> {
        let (algorithm, rest) = header
            .split_once(' ')
            .ok_or_else(|| incomplete("Authorization header has no parameters."))?;
        let part = |name: &str| {
            rest.split(',')
                .filter_map(|part| part.trim().split_once('='))
                .find_map(|(key, value)| (key == name).then(|| value.to_owned()))
                .ok_or_else(|| {
                    incomplete(&format!(
                        "Authorization header requires '{name}' parameter."
                    ))
                })
        };
        let date = asked.header("x-amz-date").ok_or_else(|| {
            incomplete("Authorization header requires existence of a 'X-Amz-Date' header.")
        })?;
        let mut claim = Self::scoped(&part("Credential")?)?;
        claim.algorithm = algorithm.into();
        claim.date = date.into();
        claim.headers = part("SignedHeaders")?
            .split(';')
            .map(String::from)
            .collect();
        claim.signature = part("Signature")?;
        claim.token = asked.header("x-amz-security-token").map(String::from);
        Ok(claim)
    }

    fn from_query(asked: &Asked) -> Result<Self, Refusal> {
        let part = |name: &str| {
            asked.parameter(name).ok_or_else(|| {
                incomplete(&format!(
                    "AWS query-string parameters must include '{name}'."
                ))
            })
        };
        let mut claim = Self::scoped(&part("X-Amz-Credential")?)?;
        claim.algorithm = part("X-Amz-Algorithm")?;
        claim.date = part("X-Amz-Date")?;
        claim.headers = part("X-Amz-SignedHeaders")?
            .split(';')
            .map(String::from)
            .collect();
        claim.signature = part("X-Amz-Signature")?;
        let expires = part("X-Amz-Expires")?;
        let expires = expires
            .parse()
            .ok()
            .filter(|seconds| (0..=LONGEST).contains(seconds));
        claim.expires =
            Some(expires.ok_or_else(|| incomplete("X-Amz-Expires is no such number."))?);
        claim.token = asked.parameter("X-Amz-Security-Token");
        Ok(claim)
    }

    fn scoped(credential: &str) -> Result<Self, Refusal> {
        let parts: Vec<&str> = credential.split('/').collect();
        let [signer, day, region, service, "aws4_request"] = parts[..] else {
            return Err(incomplete(
                "Credential must have exactly 5 slash-delimited elements, the last 'aws4_request'.",
            ));
        };
        Ok(Self {
            algorithm: String::new(),
            signer: signer.into(),
            day: day.into(),
            region: region.into(),
            service: service.into(),
            date: String::new(),
            headers: Vec::new(),
            signature: String::new(),
            expires: None,
            token: None,
        })
    }

    /// The scope.
    pub fn scope(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.day, self.region, self.service)
    }

    /// Checks what holds for every algorithm: scope, date, and that what matters is
    /// signed.
    pub fn check(&self, asked: &Asked, state: &State, service: Service) -> Result<(), Refusal> {
        let wanted = service.signing_name();
        if self.service != wanted {
            let text = format!("Credential should be scoped to correct service: '{wanted}'.");
            return Err(Refusal::Signature(text));
        }
        if self.region != state.lock().world.region {
            let text = "Credential should be scoped to a valid region.";
            return Err(Refusal::Signature(text.into()));
        }
        self.check_date(state.now(), service)?;
        self.check_headers(asked)
    }

    fn check_date(&self, now: i64, service: Service) -> Result<(), Refusal> {
        let date = parse_basic(&self.date)
            .ok_or_else(|| incomplete("Date must be in ISO-8601 'basic format'."))?;
        if !self.date.starts_with(&self.day) {
            let text =
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date.";
            return Err(Refusal::Signature(text.into()));
        }
        let good = match self.expires {
            None => TOLERANCE,
            Some(_) if service == Service::Sts => WITH_STS,
            Some(seconds) => seconds.max(TOLERANCE),
        };
        let (said, here) = (&self.date, basic(now));
        if date < now - good {
            let limit = basic(now - good);
            return Err(Refusal::Clock(format!(
                "Signature expired: {said} is now earlier than {limit} ({here} - {} min.)",
                good / 60
            )));
        }
        if date > now + TOLERANCE {
            let limit = basic(now + TOLERANCE);
            return Err(Refusal::Clock(format!(
                "Signature not yet current: {said} is still later than {limit} ({here} + 5 min.)"
            )));
        }
        Ok(())
    }

    fn check_headers(&self, asked: &Asked) -> Result<(), Refusal> {
        if !self.headers.is_sorted() || self.headers.iter().any(|name| *name != name.to_lowercase())
        {
            return Err(incomplete(
                "SignedHeaders must be sorted and in lower case.",
            ));
        }
        let is_signed = |name: &str| self.headers.iter().any(|signed| signed == name);
        if !is_signed("host") {
            let text = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.";
            return Err(Refusal::Signature(text.into()));
        }
        for name in &self.headers {
            if !asked.headers.iter().any(|(key, _)| key == name) {
                return Err(Refusal::Signature(format!(
                    "the signed header {name} is missing."
                )));
            }
        }
        for (name, _) in &asked.headers {
            if name.starts_with("x-amz-") && !is_signed(name) {
                let text = format!("the header {name} was sent but not signed.");
                return Err(Refusal::Signature(text));
            }
        }
        let sent = asked.header("x-amz-content-sha256");
        if sent.is_some_and(|sent| sent != sha256(&asked.body)) {
            let text = "The value of x-amz-content-sha256 is not the digest of the body.";
            return Err(Refusal::Signature(text.into()));
        }
        Ok(())
    }

    /// The string that has to be signed.
    pub fn string_to_sign(&self, asked: &Asked) -> String {
        let names: Vec<&str> = self.headers.iter().map(String::as_str).collect();
        let without = self.expires.map(|_| "X-Amz-Signature");
        let request = canonical::request(asked, &names, without, &sha256(&asked.body));
        canonical::string_to_sign(&self.algorithm, &self.date, &self.scope(), &request)
    }
}

fn incomplete(text: &str) -> Refusal {
    Refusal::Incomplete(text.into())
}

/// Who asks, when the signature is right.
pub fn verify(state: &State, asked: &Asked, service: Service) -> Result<Key, Refusal> {
    let claim = Claim::read(asked)?;
    if claim.algorithm != ALGORITHM {
        let text = format!("Unsupported AWS 'algorithm': '{}'.", claim.algorithm);
        return Err(Refusal::Incomplete(text));
    }
    claim.check(asked, state, service)?;
    let key = {
        let inner = state.lock();
        let keys = &inner.world.keys;
        let known = keys.iter().find(|key| key.access_key_id == claim.signer);
        known.cloned().ok_or(Refusal::UnknownKey)?
    };
    if key.session_token != claim.token {
        return Err(Refusal::UnknownKey);
    }
    if !signs(&key.secret_access_key, &claim, &claim.string_to_sign(asked)) {
        let text = "The request signature we calculated does not match the signature you provided. \
                    Check your AWS Secret Access Key and signing method.";
        return Err(Refusal::Signature(text.into()));
    }
    if key.expires.is_some_and(|end| end <= state.now()) {
        return Err(Refusal::ExpiredToken);
    }
    Ok(key)
}

fn mac(key: &[u8], text: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(text.as_bytes());
    Some(mac)
}

/// Whether a claim's signature is the one that the secret makes of the text.
fn signs(secret: &str, claim: &Claim, text: &str) -> bool {
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [&claim.day, &claim.region, &claim.service, "aws4_request"] {
        let Some(next) = mac(&key, part) else {
            return false;
        };
        key = next.finalize().into_bytes().to_vec();
    }
    let (Some(mac), Some(given)) = (mac(&key, text), canonical::from_hex(&claim.signature)) else {
        return false;
    };
    // In constant time, as whoever checks a secret should.
    claim
        .signature
        .bytes()
        .all(|byte| !byte.is_ascii_uppercase())
        && mac.verify_slice(&given).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    /// The secret of AWS's published test suite.
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn asked(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Asked {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let more = [
            ("host", "example.amazonaws.com"),
            ("x-amz-date", "20150830T123600Z"),
        ];
        Asked {
            method: method.into(),
            path: path.into(),
            query: query.into(),
            headers: headers
                .iter()
                .chain(&more)
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: body.into(),
            from: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    fn claim(asked: &mut Asked, service: &str, names: &str, signature: &str) -> Claim {
        let header = format!(
            "{ALGORITHM} Credential=AKIDEXAMPLE/20150830/us-east-1/{service}/aws4_request, \
             SignedHeaders={names}, Signature={signature}"
        );
        asked.headers.push(("authorization".into(), header));
        Claim::read(asked).unwrap()
    }

    #[test]
    fn the_published_test_vectors_are_accepted() {
        let plain = "host;x-amz-date";
        let vanilla = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        let form = "application/x-www-form-urlencoded";
        for (method, target, headers, body, names, signature) in [
            ("GET", "/", &[][..], "", plain, vanilla),
            ("GET", "/example/..", &[], "", plain, vanilla),
            ("GET", "/./", &[], "", plain, vanilla),
            ("GET", "//", &[], "", plain, vanilla),
            (
                "GET",
                "/?Param2=value2&Param1=value1",
                &[],
                "",
                plain,
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "GET",
                "/?%E1%88%B4=bar",
                &[],
                "",
                plain,
                "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            ),
            (
                "POST",
                "/",
                &[],
                "",
                plain,
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "POST",
                "/",
                &[("content-type", form)],
                "Param1=value1",
                "content-type;host;x-amz-date",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                "GET",
                "/",
                &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
                "",
                "host;my-header1;my-header2;x-amz-date",
                "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            ),
        ] {
            let mut asked = asked(method, target, headers, body);
            let mut claim = claim(&mut asked, "service", names, signature);
            let text = claim.string_to_sign(&asked);
            assert!(signs(SECRET, &claim, &text), "{method} {target}");
            assert!(!signs("another", &claim, &text), "{method} {target}");
            claim.signature = claim.signature.to_uppercase();
            assert!(!signs(SECRET, &claim, &text), "{method} {target}");
        }
        // The example of AWS's documentation.
        let target = "/?Action=ListUsers&Version=2010-05-08";
        let mut asked = asked(
            "GET",
            target,
            &[(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            )],
            "",
        );
        asked.headers.retain(|(name, _)| name != "host");
        asked
            .headers
            .push(("host".into(), "iam.amazonaws.com".into()));
        let signature = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        let names = "content-type;host;x-amz-date";
        let claim = claim(&mut asked, "iam", names, signature);
        assert!(signs(SECRET, &claim, &claim.string_to_sign(&asked)));
    }
}
