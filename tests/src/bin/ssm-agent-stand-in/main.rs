//! A stand-in for amazon-ssm-agent in tests; it is not the agent. It takes the
//! agent's arguments for registering, leaves the agent's registration file, and, run as
//! the service, asks for the machine's credentials and writes them where the agent
//! does.
//!
//! Unlike the agent's, its key is of an elliptic curve, and it gets credentials once.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nodekiln_tests::cloud::canonical;
use nodekiln_tests::cloud::message::Asked;
use nodekiln_tests::cloud::state::basic;
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};

/// Where the agent's configuration is; it can name another endpoint.
const CONFIGURATION: &str = "/etc/amazon/ssm/amazon-ssm-agent.json";
/// Whom everybody on the machine trusts.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Where the agent keeps what it is registered as.
const REGISTRATION: &str = "/var/lib/amazon/ssm/registration";
/// Where this program keeps its key.
const KEY: &str = "/var/lib/amazon/ssm/stand-in.key";
/// Where the agent writes credentials.
const CREDENTIALS: &str = "/root/.aws/credentials";
/// What stands for the hardware.
const FINGERPRINT: &str = "00000000-0000-4000-8000-000000000000";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| {
            if arguments.iter().any(|argument| argument == "-register") {
                runtime.block_on(register(&arguments))
            } else {
                runtime.block_on(serve())
            }
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The agent's words; whoever calls it looks for the code in them.
            let _ = writeln!(
                io::stderr(),
                "Failed to register with AWS Systems Manager: {error}"
            );
            ExitCode::FAILURE
        }
    }
}

/// The value that follows an argument.
fn value<'a>(arguments: &'a [String], name: &str) -> Result<&'a str, String> {
    let index = arguments.iter().position(|argument| argument == name);
    let value = index.and_then(|index| arguments.get(index + 1));
    value
        .map(String::as_str)
        .ok_or_else(|| format!("{name} is missing"))
}

async fn register(arguments: &[String]) -> Result<(), String> {
    if Path::new(REGISTRATION).exists() && !arguments.iter().any(|argument| argument == "-y") {
        return Err("the instance is registered already".into());
    }
    let region = value(arguments, "-region")?;
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let body = json!({
        "ActivationCode": value(arguments, "-code")?,
        "ActivationId": value(arguments, "-id")?,
        "PublicKey": STANDARD.encode(key.subject_public_key_info()),
        "PublicKeyType": "Ecdsa",
        "Fingerprint": FINGERPRINT,
    });
    let answer = ask("RegisterManagedInstance", &body, None).await?;
    let id = answer["InstanceId"].as_str().ok_or("no InstanceId")?;
    write(KEY, &key.serialize_pem(), 0o600)?;
    let registration = json!({ "ManagedInstanceID": id, "Region": region });
    write(REGISTRATION, &registration.to_string(), 0o600)?;
    let _ = writeln!(
        io::stdout(),
        "Successfully registered the instance with AWS SSM using Managed instance-id: {id}"
    );
    Ok(())
}

async fn serve() -> Result<(), String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let registration: Value =
        serde_json::from_str(&read(REGISTRATION)?).map_err(|error| error.to_string())?;
    let text = |name: &str| registration[name].as_str().unwrap_or_default().to_owned();
    let (id, region) = (text("ManagedInstanceID"), text("Region"));
    let key = KeyPair::from_pem(&read(KEY)?).map_err(|error| error.to_string())?;
    let body = json!({ "Fingerprint": FINGERPRINT });
    let answer = ask(
        "RequestManagedInstanceRoleToken",
        &body,
        Some((&key, &id, &region)),
    )
    .await?;
    let part = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let credentials = format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\naws_session_token = {}\n",
        part("AccessKeyId"),
        part("SecretAccessKey"),
        part("SessionToken"),
    );
    write(CREDENTIALS, &credentials, 0o600)
}

/// Writes a file of a mode, its folder first.
fn write(path: &str, content: &str, mode: u32) -> Result<(), String> {
    let failed = |error: io::Error| format!("{path}: {error}");
    if let Some(folder) = Path::new(path).parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .map_err(failed)?;
    file.set_permissions(fs::Permissions::from_mode(mode))
        .and_then(|()| file.write_all(content.as_bytes()))
        .map_err(failed)
}

/// Calls an operation; signed with the machine's key where one is given.
async fn ask(
    operation: &str,
    body: &Value,
    signed: Option<(&KeyPair, &str, &str)>,
) -> Result<Value, String> {
    let configuration =
        fs::read(CONFIGURATION).map_err(|error| format!("{CONFIGURATION}: {error}"))?;
    let configuration: Value =
        serde_json::from_slice(&configuration).map_err(|error| error.to_string())?;
    let url = configuration["Ssm"]["Endpoint"]
        .as_str()
        .ok_or("no endpoint")?
        .to_owned();
    let host = url.split("://").nth(1).unwrap_or_default();
    let host = host.trim_end_matches('/').to_owned();
    let mut headers = vec![
        (
            "content-type".to_owned(),
            "application/x-amz-json-1.1".to_owned(),
        ),
        ("host".to_owned(), host),
        ("x-amz-target".to_owned(), format!("AmazonSSM.{operation}")),
    ];
    let body = body.to_string();
    if let Some((key, id, region)) = signed {
        let authorization = authorization(key, id, region, &mut headers, &body)?;
        headers.push(("authorization".to_owned(), authorization));
    }
    let mut request = client()?
        .post(format!("{}/", url.trim_end_matches('/')))
        .body(body);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
    let success = answer.status().is_success();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if success {
        return Ok(answer);
    }
    let part = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    Err(format!("{}: {}", part("__type"), part("message")))
}

/// A signature of version 4 with the machine's key in place of a secret.
fn authorization(
    key: &KeyPair,
    id: &str,
    region: &str,
    headers: &mut Vec<(String, String)>,
    body: &str,
) -> Result<String, String> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|error| error.to_string())?;
    let date = basic(i64::try_from(now.as_secs()).unwrap_or_default());
    headers.push(("x-amz-date".to_owned(), date.clone()));
    headers.sort();
    let scope = format!("{}/{region}/ssm/aws4_request", &date[..8]);
    let asked = Asked {
        method: "POST".into(),
        path: "/".into(),
        query: String::new(),
        headers: headers.clone(),
        body: body.as_bytes().to_vec(),
        from: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let request = canonical::request(&asked, &names, None, &canonical::sha256(&asked.body));
    let text = canonical::string_to_sign("AWS4-HMAC-SHA256", &date, &scope, &request);
    let signature = key
        .sign(text.as_bytes())
        .map_err(|error| error.to_string())?;
    Ok(format!(
        "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={}, Signature={}",
        names.join(";"),
        STANDARD.encode(signature)
    ))
}

/// A client that trusts the machine's authorities.
fn client() -> Result<reqwest::Client, String> {
    // Another thread's choice would do as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bundle = fs::read(AUTHORITIES).map_err(|error| format!("{AUTHORITIES}: {error}"))?;
    let roots =
        reqwest::Certificate::from_pem_bundle(&bundle).map_err(|error| error.to_string())?;
    reqwest::Client::builder()
        .tls_certs_only(roots)
        .no_proxy()
        .timeout(std::time::Duration::from_secs(20))
        .build()
        .map_err(|error| error.to_string())
}
