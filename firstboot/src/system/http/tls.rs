//! Whom we trust, and what is said when we do not.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::stream::{Deadline, Stream};
use super::{broken, read_bounded};
use crate::system::{NetworkError, Variables, rfc3339};

/// Where the distributions keep the certificates that they trust: Debian and Ubuntu;
/// Amazon Linux and RHEL, new and old; SUSE; Alpine.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Authorities of a site, trusted besides those.
const PRIVATE: &str = "/etc/nodekiln/ca.pem";

/// Largest file of certificates, in bytes. Distributions' have about 220 KiB.
const LARGEST: usize = 4 << 20;

type Configured = Result<Arc<ClientConfig>, String>;

/// Whom we trust. Read when the first connection over TLS is made.
#[derive(Debug)]
pub struct Trust {
    /// A file that stands in place of the system's, and the variable that names it.
    bundle: Option<(&'static str, PathBuf)>,
    private: PathBuf,
    configured: OnceLock<Configured>,
}

impl Trust {
    pub fn new(variables: &Variables) -> Self {
        let bundle = ["AWS_CA_BUNDLE", "SSL_CERT_FILE"]
            .into_iter()
            .find_map(|name| Some((name, variables.get(name)?.into())));
        Self {
            bundle,
            private: PRIVATE.into(),
            configured: OnceLock::new(),
        }
    }

    #[cfg(test)]
    pub fn with_private(mut self, path: &Path) -> Self {
        self.private = path.into();
        self
    }

    /// Speaks TLS over a stream; who answers is known when this returns.
    pub fn wrap(
        &self,
        stream: Box<dyn Stream>,
        host: &str,
        authorities: Option<&[u8]>,
        deadline: Deadline,
    ) -> Result<Box<dyn Stream>, NetworkError> {
        let distrusted = |reason: String| NetworkError::Tls {
            host: host.into(),
            reason,
        };
        let configured = match authorities {
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                add_all(&mut roots, pem)
                    .map_err(|reason| format!("the authorities given for it: {reason}"))
                    .and_then(|()| configuration(roots))
            }
            None => self.configured.get_or_init(|| self.configure()).clone(),
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| distrusted("no certificate can hold this name".into()))?;
        let session = ClientConnection::new(configured.map_err(&distrusted)?, name)
            .map_err(|error| distrust(host, &error))?;
        let mut stream = StreamOwned::new(session, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|error| {
                // The peer hung up, which is no verdict on anybody's certificate.
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    NetworkError::Connection {
                        host: host.into(),
                        reason: "it closed the connection while TLS was agreed upon".into(),
                    }
                } else if authorities.is_some() && is_of_nobody(&error) {
                    distrusted(
                        "its certificate is signed by no authority that is given for it".into(),
                    )
                } else {
                    broken(host, deadline, &error)
                }
            })?;
        }
        Ok(Box::new(Tls(stream)))
    }

    fn configure(&self) -> Configured {
        let mut roots = RootCertStore::empty();
        if let Some((variable, path)) = &self.bundle {
            let pem = read(path)?.ok_or_else(|| {
                format!("{} is not there, which {variable} names", path.display())
            })?;
            add_all(&mut roots, &pem).map_err(|why| format!("{}: {why}", path.display()))?;
        } else {
            for path in BUNDLES {
                if let Some(pem) = read(Path::new(path))? {
                    // One that is out of the ordinary does not make the others bad.
                    let known = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
                    roots.add_parsable_certificates(known);
                    break;
                }
            }
        }
        if let Some(pem) = read(&self.private)? {
            add_all(&mut roots, &pem)
                .map_err(|why| format!("{}: {why}", self.private.display()))?;
        }
        if roots.is_empty() {
            return Err(format!(
                "this machine has no certificates of authorities; install ca-certificates, or \
                 give them in {PRIVATE}"
            ));
        }
        configuration(roots)
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    read_bounded(path, LARGEST).map_err(|error| format!("reading {}: {error}", path.display()))
}

/// Takes all certificates of a file that somebody gave; each has to be one.
fn add_all(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), String> {
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let number = roots.len() - before + 1;
        certificate
            .ok()
            .and_then(|it| roots.add(it).ok())
            .ok_or_else(|| format!("certificate {number} cannot be read"))?;
    }
    if roots.len() == before {
        return Err("there is no certificate in it".into());
    }
    Ok(())
}

fn configuration(roots: RootCertStore) -> Configured {
    let provider = Arc::new(super::provider::provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| error.to_string())?;
    let mut configuration = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_webpki_verifier(verifier)
        .with_no_client_auth();
    configuration.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(configuration))
}

/// A stream over TLS, which says farewell when it is dropped no more than the peers
/// of a closed connection need: nothing.
struct Tls(StreamOwned<ClientConnection, Box<dyn Stream>>);

impl Read for Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Whether nobody who is trusted has signed the peer's certificate.
fn is_of_nobody(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|it| it.downcast_ref());
    let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
    inner == Some(&unknown)
}

/// What an error of TLS means to whoever has to mend it.
pub fn distrust(host: &str, error: &rustls::Error) -> NetworkError {
    let reason = match error {
        rustls::Error::InvalidCertificate(error) => certificate(error),
        rustls::Error::InvalidMessage(_) => "it does not speak TLS".into(),
        rustls::Error::AlertReceived(alert) => format!("it ends TLS with the alert {alert:?}"),
        other => other.to_string(),
    };
    NetworkError::Tls {
        host: host.into(),
        reason,
    }
}

fn certificate(error: &CertificateError) -> String {
    let date = |time: &UnixTime| rfc3339(UNIX_EPOCH + Duration::from_secs(time.as_secs()));
    match error {
        CertificateError::UnknownIssuer => format!(
            "its certificate is signed by nobody whom this machine trusts; the authority of a \
             private network belongs in {PRIVATE}"
        ),
        CertificateError::ExpiredContext { time, not_after } => format!(
            "its certificate is not valid after {}, and the clock of this machine says {}",
            date(not_after),
            date(time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "its certificate is not valid before {}, and the clock of this machine says {}",
            date(not_before),
            date(time)
        ),
        CertificateError::NotValidForNameContext { presented, .. } => {
            format!("its certificate is for others ({})", presented.join(", "))
        }
        other => format!("its certificate is not valid: {other}"),
    }
}
