//! Signature Version 4 of AWS, in headers (IAM user guide, "Create a signed AWS API
//! request").

use std::time::SystemTime;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::credentials::Credentials;
use crate::system::{Request, rfc3339};

/// For whom a request is signed.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Such as `eu-central-1`.
    pub region: &'a str,
    /// The service's name in signatures, such as `eks`.
    pub service: &'a str,
}

/// Signs a request as it stands: method, URL, headers and body. The URL's path is
/// encoded already, and is encoded once more for the signature, as every service but
/// S3 wants it.
pub fn sign(
    request: Request,
    host: &str,
    target: &str,
    credentials: &Credentials,
    scope: Scope<'_>,
    now: SystemTime,
) -> Request {
    let time = compact(now);
    let mut request = request.header("x-amz-date", time.clone());
    if let Some(token) = &credentials.session_token {
        request = request.header("x-amz-security-token", token.clone());
    }
    let (names, canonical) = canonical(&request, host, target);
    let scope_text = format!(
        "{}/{}/{}/aws4_request",
        &time[..8],
        scope.region,
        scope.service
    );
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{time}\n{scope_text}\n{}",
        hex(&Sha256::digest(canonical))
    );
    let key = [scope.region, scope.service, "aws4_request"].iter().fold(
        keyed(
            format!("AWS4{}", credentials.secret_access_key).as_bytes(),
            &time[..8],
        ),
        |key, part| keyed(&key, part),
    );
    let signature = hex(&keyed(&key, &to_sign));
    request.header(
        "authorization",
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope_text}, SignedHeaders={names}, \
             Signature={signature}",
            credentials.access_key_id
        ),
    )
}

/// The signed headers' names, and the canonical request.
fn canonical(request: &Request, host: &str, target: &str) -> (String, String) {
    let mut headers: Vec<(String, String)> = request
        .headers
        .iter()
        .map(|(name, value)| {
            let words: Vec<&str> = value.split_whitespace().collect();
            (name.to_ascii_lowercase(), words.join(" "))
        })
        .collect();
    headers.push(("host".into(), host.into()));
    // Stable: values of one name stay in their order.
    headers.sort_by(|one, other| one.0.cmp(&other.0));
    let mut joined: Vec<(String, String)> = Vec::new();
    for (name, value) in headers {
        match joined.last_mut() {
            Some((last, values)) if *last == name => {
                values.push(',');
                values.push_str(&value);
            }
            _ => joined.push((name, value)),
        }
    }
    let names: Vec<&str> = joined.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let lines: String = joined
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut pairs: Vec<(&str, &str)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    pairs.sort_unstable();
    let query: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let text = format!(
        "{}\n{}\n{}\n{lines}\n{names}\n{}",
        request.method,
        encode_path(path),
        query.join("&"),
        hex(&Sha256::digest(&request.body))
    );
    (names, text)
}

/// Encodes everything but unreserved characters (RFC 3986, 2.3), for a part of a path
/// or a query.
pub fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn encode_path(path: &str) -> String {
    path.split('/').map(encode).collect::<Vec<_>>().join("/")
}

fn keyed(key: &[u8], text: &str) -> Vec<u8> {
    // A key of any length is taken.
    let Ok(mut code) = Hmac::<Sha256>::new_from_slice(key) else {
        return Vec::new();
    };
    code.update(text.as_bytes());
    code.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `20150830T123600Z`.
fn compact(time: SystemTime) -> String {
    let text = rfc3339(time);
    let seconds = text.split('.').next().unwrap_or_default();
    format!("{}Z", seconds.replace(['-', ':'], ""))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// Method, target, headers, body and signature of AWS's own test suite
    /// (aws-sig-v4-test-suite): key, secret, time, region and service are the same in
    /// all of them.
    #[allow(clippy::type_complexity)]
    const VECTORS: [(&str, &str, &[(&str, &str)], &str, &str); 8] = [
        (
            "GET",
            "/",
            &[],
            "",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "GET",
            "/?Param2=value2&Param1=value1",
            &[],
            "",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "GET",
            "/?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            &[],
            "",
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        ),
        (
            "GET",
            "/",
            &[("My-Header1", " value1"), ("My-Header2", " \"a   b   c\"")],
            "",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        (
            "GET",
            "/",
            &[
                ("My-Header1", "value4"),
                ("My-Header1", "value1"),
                ("My-Header1", "value3"),
                ("My-Header1", "value2"),
            ],
            "",
            "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
        ),
        (
            "POST",
            "/",
            &[],
            "",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "POST",
            "/?Param1=value1",
            &[],
            "",
            "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
        ),
        (
            "POST",
            "/",
            &[("Content-Type", "application/x-www-form-urlencoded")],
            "Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ];

    fn credentials(token: Option<&str>) -> Credentials {
        Credentials {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: token.map(Into::into),
            expires: None,
        }
    }

    fn signed(method: &'static str, target: &str, credentials: &Credentials) -> Request {
        with_headers(method, target, &[], "", credentials)
    }

    fn with_headers(
        method: &'static str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
        credentials: &Credentials,
    ) -> Request {
        let mut request = Request::new(method, format!("https://example.amazonaws.com{target}"));
        request.body = body.into();
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let scope = Scope {
            region: "us-east-1",
            service: "service",
        };
        // 2015-08-30T12:36:00Z.
        let now = UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        sign(
            request,
            "example.amazonaws.com",
            target,
            credentials,
            scope,
            now,
        )
    }

    fn authorization(request: &Request) -> &str {
        &request
            .headers
            .iter()
            .find(|it| it.0 == "authorization")
            .unwrap()
            .1
    }

    #[test]
    fn signatures_are_those_of_the_published_vectors() {
        for (method, target, headers, body, signature) in VECTORS {
            let request = with_headers(method, target, headers, body, &credentials(None));
            let header = authorization(&request);
            assert!(
                header.ends_with(&format!("Signature={signature}")),
                "{method} {target} {headers:?}: {header}"
            );
        }
        let request = signed("GET", "/", &credentials(None));
        assert_eq!(
            authorization(&request),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
    }

    #[test]
    fn a_session_token_is_sent_and_signed() {
        let request = signed("GET", "/", &credentials(Some("t0ken")));
        assert!(
            request
                .headers
                .contains(&("x-amz-security-token".into(), "t0ken".into()))
        );
        assert!(
            authorization(&request).contains("SignedHeaders=host;x-amz-date;x-amz-security-token,")
        );
    }

    #[test]
    fn no_secret_is_ever_shown() {
        let credentials = credentials(Some("t0ken"));
        let request = signed("GET", "/", &credentials);
        let shown = format!("{credentials:?} {request:?}");
        assert!(shown.contains("AKIDEXAMPLE"));
        assert!(
            !shown.contains("wJalr") && !shown.contains("t0ken"),
            "{shown}"
        );
    }

    #[test]
    fn a_path_is_encoded_twice() {
        assert_eq!(encode("a b/ü"), "a%20b%2F%C3%BC");
        assert_eq!(encode_path("/clusters/a%20b"), "/clusters/a%2520b");
    }
}
