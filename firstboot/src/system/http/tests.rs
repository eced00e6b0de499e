//! Against real servers on this machine, in threads.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::*;

/// Takes connections and serves each in a thread; gives the port.
fn serve(work: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let work = Arc::new(work);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let work = Arc::clone(&work);
            thread::spawn(move || work(stream));
        }
    });
    port
}

/// The head of a request.
fn head(stream: &mut dyn io::Read) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

/// Answers every request with these bytes and closes.
fn answers(bytes: &'static [u8]) -> u16 {
    serve(move |mut stream| {
        head(&mut stream);
        let _ = stream.write_all(bytes);
    })
}

fn get(port: u16) -> Request {
    let mut request = Request::new("GET", format!("http://127.0.0.1:{port}/path"));
    request.limit = Duration::from_millis(700);
    request.most = 1000;
    request
}

fn send(request: &Request) -> Result<Response, NetworkError> {
    Client::new(&Variables::default()).send(request)
}

fn body(bytes: &'static [u8]) -> Vec<u8> {
    send(&get(answers(bytes))).unwrap().body
}

fn failure(bytes: &'static [u8]) -> String {
    let text = send(&get(answers(bytes))).unwrap_err().to_string();
    let (_, text) = text.split_once(' ').unwrap_or_default();
    text.to_owned()
}

#[test]
fn bodies_have_a_length_or_chunks_or_end_with_the_connection() {
    assert_eq!(
        body(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndatamore"),
        b"data"
    );
    assert_eq!(body(b"HTTP/1.0 200 OK\r\n\r\ndata"), b"data");
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndat\r\n1;x=y\r\na\r\n0\r\nx: y\r\n\r\n";
    assert_eq!(body(chunked), b"data");
    assert_eq!(
        body(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n"),
        b""
    );
    for (status, bytes) in [
        (401, &b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"[..]),
        (404, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
        (503, b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"),
        (
            302,
            b"HTTP/1.1 302 No\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        ),
    ] {
        assert_eq!(send(&get(answers(bytes))).unwrap().status, status);
    }
}

#[test]
fn answers_that_are_cut_or_wrong_or_too_large_are_errors() {
    for (bytes, expected) in [
        (&b""[..], "it closed the connection without an answer"),
        (b"HTTP/1.1 200 O", "the connection broke off in the head"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
            "broke off in 4 of 9 bytes",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
            "broke off in 4 of 9",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "size of a chunk",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "not asked for",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "is unclear",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "is unclear",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
            "is larger than 1000 bytes",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not begin with HTTP/"),
    ] {
        let text = failure(bytes);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn what_never_ends_is_cut_off() {
    let endless = |first: &'static [u8], again: &'static [u8]| {
        serve(move |mut stream| {
            head(&mut stream);
            let _ = stream.write_all(first);
            while stream.write_all(again).is_ok() {}
        })
    };
    let error = send(&get(endless(b"HTTP/1.1 200 OK\r\n\r\n", b"data"))).unwrap_err();
    assert!(matches!(error, NetworkError::TooLarge { .. }), "{error}");
    let error = send(&get(endless(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"))).unwrap_err();
    assert!(error.to_string().contains("larger than 32 KiB"), "{error}");
}

#[test]
fn hanging_and_dripping_servers_are_left_at_the_deadline() {
    let hanging = serve(|mut stream| {
        head(&mut stream);
        // Until the other side hangs up.
        let _ = stream.read(&mut [0]);
    });
    let dripping = serve(|mut stream| {
        head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    for port in [hanging, dripping] {
        let started = Instant::now();
        let error = send(&get(port)).unwrap_err();
        assert!(matches!(error, NetworkError::Deadline { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(3));
    }
}

/// A server behind TLS, and its authority in PEM.
fn secure(name: &str, is_expired: bool) -> (u16, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    // A name of its own, or it would pass for another with a wrong signature.
    let own = format!("{:?}", authority_key.public_key_raw());
    authority.distinguished_name.push(
        rcgen::DnType::CommonName,
        own.chars().take(60).collect::<String>(),
    );
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if is_expired {
        leaf.not_after = rcgen::date_time_ymd(2020, 1, 2);
    }
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let chain = vec![CertificateDer::from(leaf.der().to_vec())];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let configuration = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    let configuration = Arc::new(configuration);
    let port = serve(move |stream| {
        let session = rustls::ServerConnection::new(Arc::clone(&configuration)).unwrap();
        let mut stream = rustls::StreamOwned::new(session, stream);
        if !head(&mut stream).is_empty() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndata");
        }
    });
    (port, pem)
}

fn get_secure(port: u16, pem: &str) -> Request {
    let mut request = get(port);
    request.limit = Duration::from_secs(10);
    request.url = format!("https://127.0.0.1:{port}/");
    request.authorities = Some(pem.into());
    request
}

#[test]
fn servers_are_trusted_for_their_name_their_time_and_their_authority() {
    let (port, pem) = secure("127.0.0.1", false);
    assert_eq!(send(&get_secure(port, &pem)).unwrap().body, b"data");
    let (_, other) = secure("127.0.0.1", false);
    let distrust = |port, pem: &str| match send(&get_secure(port, pem)) {
        Err(NetworkError::Tls { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(distrust(port, &other).ends_with("signed by no authority that is given for it"));
    let (port, pem) = secure("a.example", false);
    assert!(distrust(port, &pem).starts_with("its certificate is for others"));
    let (port, pem) = secure("127.0.0.1", true);
    let reason = distrust(port, &pem);
    assert!(
        reason.contains("not valid after 2020-01-02T00:00:00"),
        "{reason}"
    );
    assert!(reason.contains("the clock of this machine says"));
    let plain = answers(b"HTTP/1.1 200 OK\r\n\r\n");
    let plain = serve(move |mut stream| {
        let _ = (plain, stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        let _ = stream.read(&mut [0]);
    });
    assert_eq!(distrust(plain, &pem), "it does not speak TLS");
    assert!(distrust(port, "").ends_with("there is no certificate in it"));
}

#[test]
fn a_private_authority_is_trusted_besides_the_systems() {
    let (port, pem) = secure("127.0.0.1", false);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, &pem).unwrap();
    let mut request = get_secure(port, &pem);
    request.authorities = None;
    let mut client = Client::new(&Variables::default());
    client.trust = client.trust.with_private(&path);
    assert_eq!(client.send(&request).unwrap().status, 200);
    let bundle = Variables::default().with("AWS_CA_BUNDLE", path.to_str().unwrap());
    assert_eq!(Client::new(&bundle).send(&request).unwrap().status, 200);
    let absent = Variables::default().with("SSL_CERT_FILE", "/absent.pem");
    let error = Client::new(&absent).send(&request).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("/absent.pem is not there, which SSL_CERT_FILE names")
    );
}

#[test]
fn a_proxy_makes_a_tunnel_and_its_refusals_are_told_without_the_password() {
    let (target, pem) = secure("cluster.test", false);
    let proxy = serve(move |mut stream| {
        let asked = head(&mut stream);
        let line = asked.lines().next().unwrap_or_default();
        let status = match line {
            "CONNECT cluster.test:443 HTTP/1.1" if asked.contains("Basic bWU6czNjcjN0") => "200",
            "CONNECT cluster.test:443 HTTP/1.1" => "407",
            _ => "403",
        };
        let _ = write!(stream, "HTTP/1.1 {status} x\r\n\r\n");
        if status == "200" {
            let mut far = TcpStream::connect(("127.0.0.1", target)).unwrap();
            let (mut one, mut other) = (stream.try_clone().unwrap(), far.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut one, &mut other));
            let _ = io::copy(&mut far, &mut stream);
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    });
    let ask = |user: &str, url: &str| {
        let variables = Variables::default()
            .with("HTTPS_PROXY", &format!("http://{user}127.0.0.1:{proxy}"))
            .with("NO_PROXY", "direct.test");
        let mut request = get_secure(0, &pem);
        request.url = url.into();
        Client::new(&variables).send(&request)
    };
    assert_eq!(
        ask("me:s3cr3t@", "https://cluster.test/").unwrap().body,
        b"data"
    );
    for (user, url, expected) in [
        ("", "https://cluster.test/", "wants a user and a password"),
        (
            "me:wr0ng@",
            "https://cluster.test/",
            "does not take the user and password",
        ),
        (
            "me:wr0ng@",
            "https://other.test/",
            "does not allow this host (status 403)",
        ),
    ] {
        let error = ask(user, url).unwrap_err();
        assert!(matches!(error, NetworkError::Proxy { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!format!("{error}{error:?}").contains("wr0ng"));
    }
}

#[test]
fn plain_requests_go_to_the_proxy_whole_unless_they_are_direct() {
    let proxy = serve(|mut stream| {
        let asked = head(&mut stream);
        let line = asked.lines().next().unwrap_or_default();
        let _ = write!(
            stream,
            "HTTP/1.1 200 x\r\nContent-Length: {}\r\n\r\n{line}",
            line.len()
        );
    });
    let variables = Variables::default().with("HTTP_PROXY", &format!("127.0.0.1:{proxy}"));
    let client = Client::new(&variables);
    let mut request = Request::new("GET", "http://a.test/b?c");
    let answer = client.send(&request).unwrap();
    assert_eq!(answer.body, b"GET http://a.test/b?c HTTP/1.1");
    // 192.0.2.1 is nobody's: a direct request cannot be answered by the proxy.
    request.url = "http://192.0.2.1/".into();
    request.route = Route::Direct;
    request.limit = Duration::from_millis(300);
    assert!(client.send(&request).is_err());
}

#[test]
fn nothing_that_would_end_a_header_is_sent() {
    let request = get(1).header("x", "a\r\nb: c");
    let error = send(&request).unwrap_err();
    assert!(error.to_string().contains("cannot be sent"), "{error}");
    let mut request = get(1);
    request.url = "http://me:s3cr3t@127.0.0.1/".into();
    let error = send(&request).unwrap_err();
    assert!(!format!("{error}{error:?}").contains("s3cr3t"));
}

#[test]
fn connections_are_tried_and_closed() {
    let port = answers(b"");
    let client = Client::new(&Variables::default());
    let limit = Duration::from_secs(2);
    assert_eq!(client.connect("127.0.0.1", port, limit), Ok(()));
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = client.connect("127.0.0.1", closed, limit).unwrap_err();
    assert!(matches!(error, NetworkError::Connection { .. }), "{error}");
}
