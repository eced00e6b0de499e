//! HTTP and TLS around the services, and the ways in which they misbehave.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::certificates::Issued;
use super::fault::Kind;
use super::message::{Answer, Asked};
use super::state::{Record, http_date};
use super::{Service, State, control};

/// The largest body that is read, in bytes.
const LARGEST: usize = 1 << 20;

/// Where a service listens.
#[derive(Debug)]
pub struct Listener {
    /// Which.
    pub service: Service,
    /// The socket.
    pub socket: TcpListener,
}

/// Binds all services to an address: those with TLS to one port each, from `first`
/// on, or to free ports where that is 0; the metadata service to its own address.
pub async fn bind(
    address: IpAddr,
    first: u16,
    imds: SocketAddr,
) -> io::Result<(Vec<Listener>, HashMap<Service, String>)> {
    let mut listeners = Vec::new();
    let mut endpoints = HashMap::new();
    for (index, service) in (0..).zip(Service::ALL) {
        let wanted = match service {
            Service::Imds => imds,
            _ => SocketAddr::new(address, if first == 0 { 0 } else { first + index }),
        };
        let socket = TcpListener::bind(wanted).await.map_err(|error| {
            io::Error::new(error.kind(), format!("{service:?} at {wanted}: {error}"))
        })?;
        let scheme = if service == Service::Imds {
            "http"
        } else {
            "https"
        };
        endpoints.insert(service, format!("{scheme}://{}", socket.local_addr()?));
        listeners.push(Listener { service, socket });
    }
    Ok((listeners, endpoints))
}

/// TLS with a certificate.
pub fn tls(issued: &Issued) -> io::Result<TlsAcceptor> {
    let failed = |error: String| io::Error::other(error);
    let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes())
        .map_err(|error| failed(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes())
        .map_err(|error| failed(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
        })
        .map_err(|error| failed(error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Whom a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    /// A service.
    Of(Service),
    /// The service that the request names as its host.
    OfNames,
    /// Who tells and asks the world.
    OfControl,
}

/// Serves all services at one socket, each by its name of AWS, until the program
/// ends.
pub async fn serve_names(state: Arc<State>, socket: TcpListener, tls: TlsAcceptor) {
    loop {
        let Ok((stream, from)) = socket.accept().await else {
            continue;
        };
        let (state, tls) = (Arc::clone(&state), tls.clone());
        tokio::spawn(async move {
            if let Ok(stream) = tls.accept(stream).await {
                connection(stream, state, Door::OfNames, from.ip()).await;
            }
        });
    }
}

/// Serves a service until the program ends.
pub async fn serve(state: Arc<State>, listener: Listener, tls: TlsAcceptor) {
    let Listener { service, socket } = listener;
    loop {
        // One connection that fails is no reason to stop.
        let Ok((stream, from)) = socket.accept().await else {
            continue;
        };
        let (state, tls) = (Arc::clone(&state), tls.clone());
        tokio::spawn(async move {
            let from = from.ip();
            if service == Service::Imds {
                let limit = state
                    .lock()
                    .world
                    .instance
                    .as_ref()
                    .map_or(1, |one| one.hop_limit);
                // Without it the answer only travels farther than it should.
                let _ = stream.set_ttl(limit);
                connection(stream, state, Door::Of(service), from).await;
            } else if let Ok(stream) = tls.accept(stream).await {
                connection(stream, state, Door::Of(service), from).await;
            }
        });
    }
}

/// Makes the control socket.
pub fn bind_control(path: &Path) -> io::Result<UnixListener> {
    UnixListener::bind(path)
}

/// Serves the control socket until the program ends.
pub async fn serve_control(state: Arc<State>, socket: UnixListener) {
    loop {
        let Ok((stream, _)) = socket.accept().await else {
            continue;
        };
        let state = Arc::clone(&state);
        let from = IpAddr::from([127, 0, 0, 1]);
        tokio::spawn(connection(stream, state, Door::OfControl, from));
    }
}

async fn connection<S>(mut stream: S, state: Arc<State>, door: Door, from: IpAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let is_nonsense = matches!(door, Door::Of(service) if peek_nonsense(&state, service));
    if is_nonsense {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await;
        let _ = stream.shutdown().await;
        return;
    }
    let handle = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { respond(&state, door, from, request).await }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    // The world has a clock of its own.
    builder.auto_date_header(false);
    // What a client does wrong here it finds out itself.
    let _ = builder.serve_connection(TokioIo::new(stream), handle).await;
}

/// Takes a fault that replaces the whole protocol, which no request comes before.
fn peek_nonsense(state: &State, service: Service) -> bool {
    let is_next = state
        .lock()
        .faults
        .iter()
        .any(|fault| fault.service == service && fault.kind == Kind::Nonsense);
    is_next && state.fault(service, "").is_some()
}

async fn respond(
    state: &State,
    door: Door,
    from: IpAddr,
    request: Request<Incoming>,
) -> io::Result<Response<Outgoing>> {
    let asked = read(request, from).await?;
    let service = match door {
        Door::Of(service) => Ok(service),
        Door::OfNames => named(state, &asked),
        Door::OfControl => Err(control::answer(state, &asked)),
    };
    let service = match service {
        Ok(service) => service,
        Err(answer) => return Ok(outgoing(&answer, state.now(), End::Whole)),
    };
    let kind = state.fault(service, &asked.path);
    let mut answer = match kind {
        Some(Kind::Status(status)) => Answer {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        },
        Some(Kind::Throttle) => throttled(service),
        _ => service.answer(state, &asked),
    };
    let end = match kind {
        Some(Kind::HalfBody) => End::Broken,
        Some(Kind::StalledBody) => End::Stalled,
        Some(Kind::EndlessBody) => End::Never,
        _ => End::Whole,
    };
    let silent = matches!(kind, Some(Kind::Hang | Kind::Close));
    if silent {
        answer.status = 0;
    }
    record(state, service, &asked, &answer);
    match kind {
        Some(Kind::Hang) => std::future::pending().await,
        Some(Kind::Close) => Err(io::Error::other("told to close")),
        _ => Ok(outgoing(&answer, state.now(), end)),
    }
}

/// The service whose name of AWS a request is for.
fn named(state: &State, asked: &Asked) -> Result<Service, Answer> {
    let region = state.lock().world.region.clone();
    let host = asked.header("host").unwrap_or_default();
    let host = host.strip_suffix(":443").unwrap_or(host);
    Service::named(host, &region).ok_or_else(|| Answer::text(421, "nobody here has that name"))
}

fn throttled(service: Service) -> Answer {
    let (status, code) = match service {
        Service::Ec2 => (503, "RequestLimitExceeded"),
        Service::Eks => (429, "TooManyRequestsException"),
        Service::Imds | Service::Cluster | Service::Registry => (429, "Throttling"),
        Service::Sts => (400, "Throttling"),
        Service::Ssm | Service::Ecr | Service::RolesAnywhere => (400, "ThrottlingException"),
    };
    let refusal = super::refusal::Refusal::own(status, code, "Rate exceeded");
    service.dialect().answer(&refusal)
}

async fn read(request: Request<Incoming>, from: IpAddr) -> io::Result<Asked> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, LARGEST)
        .collect()
        .await
        .map_err(io::Error::other)?;
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| {
            (
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    Ok(Asked {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers,
        body: body.to_bytes().to_vec(),
        from,
    })
}

/// Keeps what was asked and answered.
pub fn record(state: &State, service: Service, asked: &Asked, answer: &Answer) {
    let code = (answer.status >= 400).then(|| {
        let header = answer
            .headers
            .iter()
            .find(|(name, _)| name == "x-amzn-errortype");
        header.map_or_else(|| code_in(&answer.body), |(_, code)| code.clone())
    });
    let target = asked.header("x-amz-target");
    let action = target
        .and_then(|target| target.rsplit('.').next())
        .map(String::from);
    let action = match service {
        Service::Sts | Service::Ec2 => asked.field("Action"),
        _ => action,
    };
    state.lock().record.push(Record {
        service,
        method: asked.method.clone(),
        path: asked.path.clone(),
        action,
        status: answer.status,
        code,
    });
}

/// The code within an error of one of the other dialects.
fn code_in(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let between = |start: &str, end: &str| {
        let (_, rest) = text.split_once(start)?;
        rest.split_once(end).map(|(code, _)| code.to_owned())
    };
    between("<Code>", "</Code>")
        .or_else(|| between("\"__type\":\"", "\""))
        .unwrap_or_default()
}

fn outgoing(answer: &Answer, now: i64, end: End) -> Response<Outgoing> {
    let mut response = Response::builder()
        .status(answer.status)
        .header("date", http_date(now))
        .header("x-amzn-requestid", "00000000-0000-0000-0000-000000000000");
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    let mut body = answer.body.clone();
    if end != End::Never {
        // Told by hand, or a body that breaks off would be shorter, not broken.
        response = response.header("content-length", body.len().to_string());
    }
    if end != End::Whole {
        body.truncate(body.len() / 2);
    }
    let body = Outgoing {
        parts: VecDeque::from([Bytes::from(body)]),
        end,
        is_sent: false,
    };
    response.body(body).unwrap_or_else(|_| {
        Response::new(Outgoing {
            parts: VecDeque::new(),
            end: End::Broken,
            is_sent: true,
        })
    })
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Broken,
    Stalled,
    Never,
}

/// A body that can end wrongly.
#[derive(Debug)]
struct Outgoing {
    parts: VecDeque<Bytes>,
    end: End,
    /// Whether a body that breaks off had its chance to be sent until there.
    is_sent: bool,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(part) = self.parts.pop_front()
            && !part.is_empty()
        {
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        match self.end {
            End::Whole => Poll::Ready(None),
            // What came before goes out first, or there would be no answer at all.
            End::Broken if !self.is_sent => {
                self.is_sent = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            End::Broken => Poll::Ready(Some(Err(io::Error::other("told to break off")))),
            End::Stalled => Poll::Pending,
            End::Never => {
                let filler = Bytes::from_static(&[b'x'; 4096]);
                Poll::Ready(Some(Ok(Frame::data(filler))))
            }
        }
    }
}
