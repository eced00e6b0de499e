//! One HTTP request at a time: the part of downloads that touches the network.

use std::sync::Once;
use std::time::Duration;

use reqwest::header::{
    CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};

use super::download::FetchOptions;
use super::retry;
use crate::error::{Class, Context as _, Error, Result};
use crate::progress::Progress;

/// Redirects that are followed.
const REDIRECTS: usize = 10;
/// Between two looks whether the user wants to stop.
const LOOK: Duration = Duration::from_millis(200);

/// A client with connections that are kept.
#[derive(Debug)]
pub(super) struct Client {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

/// The rest of a file.
#[derive(Debug, Clone)]
pub(super) struct Range {
    /// First byte wanted.
    pub(super) from: u64,
    /// What the file must still be; if it is not, all of it comes.
    pub(super) validator: Option<String>,
}

/// What the head of a response says.
#[derive(Debug)]
pub(super) struct Head {
    /// First byte of the body within the file, for a part of it.
    pub(super) starts_at: Option<u64>,
    /// Bytes of the body.
    pub(super) length: Option<u64>,
    /// What `If-Range` may name later.
    pub(super) validator: Option<String>,
}

/// The pieces of a response.
pub(super) enum Reply<'a> {
    /// It begins.
    Begin(&'a Head),
    /// More of the body.
    Bytes(&'a [u8]),
    /// The range that was asked for lies behind the end of the file.
    NothingLeft,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It would fail again.
    Final(Error),
    /// It may work the next time.
    Transient {
        /// What happened.
        error: Error,
        /// Seconds that the server wants to be left alone.
        retry_after: Option<u64>,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if error.class() == Class::Transient {
            Self::Transient {
                error,
                retry_after: None,
            }
        } else {
            Self::Final(error)
        }
    }
}

impl Client {
    pub(super) fn new(options: &FetchOptions) -> Result<Self> {
        static PROVIDER: Once = Once::new();
        // It fails when the embedding program chose one before: that serves, too.
        PROVIDER.call_once(|| {
            rustls::crypto::ring::default_provider()
                .install_default()
                .ok();
        });
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("nodekiln/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.read_timeout)
            .redirect(Policy::custom(|attempt| {
                if attempt.previous().len() > REDIRECTS {
                    attempt.error("too many redirects")
                } else if let Err(error) = check_scheme(attempt.url()) {
                    attempt.error(error)
                } else {
                    attempt.follow()
                }
            }));
        if let Some(path) = &options.ca_file {
            let doing = || format!("read certificate authorities from {}", path.display());
            let pem = std::fs::read(path).doing(doing)?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| Error::input(doing()).caused_by(error))?;
            if certificates.is_empty() {
                return Err(Error::input(format!("{}: there is none", doing()))
                    .hint("the file must hold certificates in PEM (BEGIN CERTIFICATE)"));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let client = builder.build().map_err(|error| {
            Error::environment("prepare TLS")
                .caused_by(error)
                .hint("install ca-certificates, or name a file of authorities with --ca-file")
        })?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .doing(|| "start the network runtime".to_owned())?;
        Ok(Self { runtime, client })
    }

    /// Sends one GET request and hands the response on piece by piece.
    pub(super) fn get(
        &self,
        url: &str,
        range: Option<&Range>,
        progress: &dyn Progress,
        take: &mut dyn FnMut(Reply<'_>) -> Result<()>,
    ) -> Result<(), Failure> {
        let url = parse(url)?;
        self.runtime.block_on(async {
            let exchange = self.exchange(url, range, take);
            tokio::pin!(exchange);
            loop {
                tokio::select! {
                    result = &mut exchange => return result,
                    () = tokio::time::sleep(LOOK) => progress.check()?,
                }
            }
        })
    }

    async fn exchange(
        &self,
        url: Url,
        range: Option<&Range>,
        take: &mut dyn FnMut(Reply<'_>) -> Result<()>,
    ) -> Result<(), Failure> {
        let mut request = self.client.get(url);
        if let Some(range) = range {
            request = request.header(RANGE, format!("bytes={}-", range.from));
            if let Some(validator) = &range.validator {
                request = request.header(IF_RANGE, validator);
            }
        }
        let mut response = request.send().await.map_err(network)?;
        match response.status() {
            StatusCode::RANGE_NOT_SATISFIABLE if range.is_some() => {
                return Ok(take(Reply::NothingLeft)?);
            }
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
            status => return Err(refusal(status, response.headers())),
        }
        let head = head(
            response.status(),
            response.headers(),
            response.content_length(),
        )?;
        if range.is_none() && head.starts_at.is_some_and(|start| start > 0) {
            return Err(Error::dependency("the server sent a part that nobody asked for").into());
        }
        take(Reply::Begin(&head))?;
        while let Some(bytes) = response.chunk().await.map_err(network)? {
            take(Reply::Bytes(&bytes))?;
        }
        Ok(())
    }
}

/// The URL without what may be secret: user, password, query and fragment.
pub(crate) fn shown(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut parsed) => {
            parsed.set_username("").ok();
            parsed.set_password(None).ok();
            parsed.set_query(None);
            parsed.set_fragment(None);
            parsed.into()
        }
        // Nothing of it is known to be harmless.
        Err(_) => "a URL that cannot be read".to_owned(),
    }
}

fn parse(url: &str) -> Result<Url> {
    let parsed =
        Url::parse(url).map_err(|error| Error::input("read a URL").caused_by(error.to_string()))?;
    check_scheme(&parsed).map_err(|problem| Error::input(problem).hint("use an https URL"))?;
    Ok(parsed)
}

/// https, or http to this machine itself, where nobody listens in.
fn check_scheme(url: &Url) -> Result<(), &'static str> {
    let loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        _ => Err("the URL is not https"),
    }
}

fn head(status: StatusCode, headers: &HeaderMap, length: Option<u64>) -> Result<Head> {
    let text = |value: &HeaderValue| value.to_str().ok().map(ToOwned::to_owned);
    let starts_at = if status == StatusCode::PARTIAL_CONTENT {
        let start = headers
            .get(CONTENT_RANGE)
            .and_then(text)
            .and_then(|range| {
                let (first, _) = range.strip_prefix("bytes ")?.split_once('-')?;
                first.parse().ok()
            })
            .ok_or_else(|| Error::dependency("the server sent a part without its place"))?;
        Some(start)
    } else {
        None
    };
    // A weak entity tag does not promise the same bytes (RFC 9110, 8.8.1).
    let strong = headers
        .get(ETAG)
        .and_then(text)
        .filter(|tag| !tag.starts_with("W/"));
    Ok(Head {
        starts_at,
        length,
        validator: strong.or_else(|| headers.get(LAST_MODIFIED).and_then(text)),
    })
}

fn refusal(status: StatusCode, headers: &HeaderMap) -> Failure {
    let code = status.as_u16();
    let reason = status.canonical_reason().unwrap_or("unknown status");
    let message = format!("the server says {code} {reason}");
    if retry::is_transient(code) {
        return Failure::Transient {
            error: Error::new(Class::Transient, message),
            retry_after: headers
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok()),
        };
    }
    let error = Error::dependency(message);
    Failure::Final(match code {
        404 | 410 => error.hint("check the URL and the version: the file is not there (any more)"),
        401 | 403 => error.hint("the server wants credentials, or does not have the file"),
        407 => error.hint("the proxy of HTTPS_PROXY wants credentials"),
        _ => error,
    })
}

fn network(error: reqwest::Error) -> Failure {
    // The URL may hold secrets.
    let error = error.without_url();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    let mut certificate = false;
    while let Some(current) = cause {
        certificate |= matches!(
            current.downcast_ref::<rustls::Error>(),
            Some(rustls::Error::InvalidCertificate(_))
        );
        // An I/O error hides what it carries from `source`.
        cause = match current.downcast_ref::<std::io::Error>() {
            Some(error) => error
                .get_ref()
                .map(|inner| inner as &(dyn std::error::Error + 'static)),
            None => current.source(),
        };
    }
    if certificate {
        return Failure::Final(
            Error::dependency("the server's certificate is not trusted")
                .caused_by(error)
                .hint("behind a proxy that inspects TLS, name its authority with --ca-file"),
        );
    }
    if error.is_redirect() || error.is_builder() {
        return Failure::Final(Error::dependency("the server redirects").caused_by(error));
    }
    let message = if error.is_timeout() {
        "the server does not answer in time"
    } else if error.is_connect() {
        "no connection to the server"
    } else {
        "the connection broke"
    };
    Failure::Transient {
        error: Error::new(Class::Transient, message).caused_by(error),
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_https_and_loopback_only() {
        for good in [
            "https://example.com/a",
            "http://127.0.0.1:8/a",
            "http://[::1]/a",
            "http://localhost/",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "http://example.com/a",
            "http://127.0.0.1.example.com/",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
            "kubelet",
        ] {
            let error = parse(bad).expect_err(bad);
            assert_eq!(error.class(), Class::Input, "{bad}");
        }
    }

    #[test]
    fn shows_no_secrets() {
        assert_eq!(
            shown("https://user:secret@host/path?X-Amz-Signature=secret#secret"),
            "https://host/path"
        );
        assert!(!shown("://secret").contains("secret"));
    }
}
