//! Against a server of our own that does exactly what each test scripts.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;
use crate::progress::Silent;
use crate::store::tests::{Stopped, empty};

const CONTENT: &[u8] = b"0123456789abcdefghij";

/// A request as it came: first line and headers, lower-case.
type Request = Vec<String>;

struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers the first connection with the first of `answers`, and so on; the
    /// last one is used again.
    fn new(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let url = format!(
            "http://{}/file?token=secret",
            listener.local_addr().expect("bound")
        );
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for (index, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { return };
                let answer = &answers[index.min(answers.len() - 1)];
                serve(stream, answer, &seen);
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("unpoisoned").clone()
    }
}

/// Notes the request before it answers: who has the answer may look at once.
fn serve(stream: TcpStream, answer: &[u8], seen: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream);
    let mut request = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        request.push(line.trim_end().to_lowercase());
    }
    seen.lock().expect("unpoisoned").push(request);
    // A client that hung up early is part of some tests.
    reader.get_mut().write_all(answer).ok();
}

fn answer(status: &str, headers: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn whole() -> Vec<u8> {
    answer("200 OK", "ETag: \"one\"\r\n", CONTENT.len(), CONTENT)
}

fn part(from: usize) -> Vec<u8> {
    let rest = &CONTENT[from..];
    let range = format!("Content-Range: bytes {from}-19/20\r\nETag: \"one\"\r\n");
    answer("206 Partial Content", &range, rest.len(), rest)
}

fn digest() -> Digest {
    Digest::from_bytes(Sha256::digest(CONTENT).into())
}

fn fetcher() -> Fetcher {
    Fetcher::new(&FetchOptions {
        first_wait: Duration::from_millis(1),
        ..FetchOptions::default()
    })
    .expect("no network is needed")
}

fn get(server: &Server, store: &Store, expected: Option<Digest>) -> Result<(Digest, u64)> {
    fetcher().download(store, &server.url, expected, 1000, &Silent)
}

fn partial_files(store: &Store) -> usize {
    std::fs::read_dir(store.folder().join("partial"))
        .expect("exists")
        .count()
}

#[test]
fn downloads_once() {
    let (_folder, store) = empty();
    let server = Server::new(vec![whole()]);
    for _ in 0..2 {
        assert_eq!(
            get(&server, &store, Some(digest())).expect("good"),
            (digest(), 20)
        );
    }
    assert_eq!(server.requests().len(), 1);
    let agent = format!("user-agent: nodekiln/{}", env!("CARGO_PKG_VERSION"));
    assert!(server.requests()[0].contains(&agent));
    store.verified_path(&digest()).expect("stored");
    assert_eq!(partial_files(&store), 0);
}

#[test]
fn goes_on_where_the_connection_broke() {
    let (_folder, store) = empty();
    let broken = answer("200 OK", "ETag: \"one\"\r\n", 20, &CONTENT[..8]);
    let server = Server::new(vec![broken, part(8)]);
    assert_eq!(get(&server, &store, None).expect("good"), (digest(), 20));
    let second = &server.requests()[1];
    assert!(second.contains(&"range: bytes=8-".to_owned()), "{second:?}");
    assert!(
        second.contains(&"if-range: \"one\"".to_owned()),
        "{second:?}"
    );
}

#[test]
fn goes_on_where_an_earlier_run_stopped() {
    let (_folder, store) = empty();
    let broken = answer("200 OK", "ETag: \"one\"\r\n", 20, &CONTENT[..8]);
    let server = Server::new(vec![broken, answer("404 Not Found", "", 0, b""), part(8)]);
    get(&server, &store, Some(digest())).expect_err("gone for a moment");
    assert_eq!(partial_files(&store), 2);
    assert_eq!(get(&server, &store, Some(digest())).expect("good").1, 20);
    assert!(server.requests()[2].contains(&"range: bytes=8-".to_owned()));
}

#[test]
fn starts_anew_when_the_file_changed() {
    let (_folder, store) = empty();
    let broken = answer("200 OK", "ETag: \"old\"\r\n", 20, b"OLD CONT");
    let server = Server::new(vec![broken, whole()]);
    assert_eq!(get(&server, &store, None).expect("good"), (digest(), 20));
}

#[test]
fn starts_anew_when_an_earlier_part_does_not_fit() {
    let (_folder, store) = empty();
    // Without a validator, only the digest can tell.
    let broken = answer("200 OK", "", 20, b"OLD CONT");
    let gone = answer("404 Not Found", "", 0, b"");
    let server = Server::new(vec![broken, gone, part(8), whole()]);
    get(&server, &store, Some(digest())).expect_err("gone for a moment");
    assert_eq!(get(&server, &store, Some(digest())).expect("good").1, 20);
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn takes_no_part_that_it_did_not_ask_for() {
    let (_folder, store) = empty();
    let broken = answer("200 OK", "ETag: \"one\"\r\n", 20, &CONTENT[..8]);
    let server = Server::new(vec![broken, part(4), whole()]);
    assert_eq!(get(&server, &store, None).expect("good"), (digest(), 20));
}

#[test]
fn tries_again_after_what_may_pass() {
    let (_folder, store) = empty();
    let server = Server::new(vec![
        answer("503 Service Unavailable", "", 0, b""),
        answer("429 Too Many Requests", "Retry-After: 0\r\n", 0, b""),
        Vec::new(),
        whole(),
    ]);
    assert_eq!(get(&server, &store, None).expect("good"), (digest(), 20));
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn gives_up_on_what_does_not_pass() {
    let (_folder, store) = empty();
    let server = Server::new(vec![answer("500 Internal Server Error", "", 0, b"")]);
    let error = get(&server, &store, None).expect_err("always");
    assert_eq!(error.class(), Class::Transient);
    assert_eq!(server.requests().len(), 5);
    let server = Server::new(vec![answer("404 Not Found", "", 0, b"")]);
    let error = get(&server, &store, None).expect_err("absent");
    assert_eq!(error.class(), Class::Dependency);
    assert!(error.hint_text().is_some());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn refuses_other_bytes_and_names_both_digests() {
    let (_folder, store) = empty();
    let server = Server::new(vec![whole()]);
    let wanted = Digest::from_bytes([7; 32]);
    let error = get(&server, &store, Some(wanted)).expect_err("other bytes");
    assert_eq!(error.class(), Class::Dependency);
    let cause = std::error::Error::source(&error)
        .expect("cause")
        .to_string();
    assert!(cause.contains(&wanted.to_string()) && cause.contains(&digest().to_string()));
    assert_eq!(partial_files(&store), 0);
    assert!(!store.contains(&digest()));
}

#[test]
fn refuses_what_is_too_large_however_it_says_so() {
    let (_folder, store) = empty();
    let announced = answer("200 OK", "", 5000, b"x");
    let streamed = [
        &b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"[..],
        &vec![b'x'; 5000],
    ]
    .concat();
    for body in [announced, streamed] {
        let server = Server::new(vec![body]);
        let error = get(&server, &store, None).expect_err("too large");
        assert_eq!(error.class(), Class::Dependency);
        let error = fetcher()
            .text(&server.url, 1000, &Silent)
            .expect_err("too large");
        assert!(matches!(
            error.class(),
            Class::Dependency | Class::Transient
        ));
    }
}

#[test]
fn follows_no_redirect_away_from_https() {
    let (_folder, store) = empty();
    let moved = answer(
        "302 Found",
        "Location: http://example.invalid/x\r\n",
        0,
        b"",
    );
    let server = Server::new(vec![moved]);
    let error = get(&server, &store, None).expect_err("not https");
    assert_eq!(error.class(), Class::Dependency);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn keeps_secrets_of_urls_out_of_errors() {
    let (_folder, store) = empty();
    for status in ["404 Not Found", "500 Internal Server Error"] {
        let server = Server::new(vec![answer(status, "", 0, b"")]);
        let error = get(&server, &store, None).expect_err(status);
        let mut text = String::new();
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(current) = cause {
            text.push_str(&current.to_string());
            cause = current.source();
        }
        assert!(!text.contains("secret"), "{text}");
        assert!(text.contains("/file"), "{text}");
    }
}

#[test]
fn offline_names_what_is_missing() {
    let (_folder, store) = empty();
    let fetcher = Fetcher::new(&FetchOptions {
        offline: true,
        ..FetchOptions::default()
    })
    .expect("nothing to prepare");
    let url = "https://host.example/kubelet";
    let error = fetcher
        .download(&store, url, Some(digest()), 1000, &Silent)
        .expect_err("offline");
    assert_eq!(error.class(), Class::Environment);
    assert!(error.to_string().contains(url));
    assert!(
        error
            .hint_text()
            .is_some_and(|hint| hint.contains("nodekiln fetch"))
    );
    store
        .add_reader(&mut &CONTENT[..], None, 100)
        .expect("added");
    fetcher
        .download(&store, url, Some(digest()), 1000, &Silent)
        .expect("it is there");
}

#[test]
fn stops_on_request() {
    let (_folder, store) = empty();
    // This server never answers: only the request to stop ends the wait.
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let error = fetcher()
        .download(&store, &url, None, 1000, &Stopped)
        .expect_err("stopped");
    assert_eq!(error.class(), Class::Interrupted);
}

#[test]
fn reads_authorities_from_a_file_of_certificates_only() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("ca.pem");
    let open = || {
        Fetcher::new(&FetchOptions {
            ca_file: Some(path.clone()),
            ..FetchOptions::default()
        })
    };
    assert_eq!(open().expect_err("absent").class(), Class::Input);
    std::fs::write(&path, "no certificate").expect("own");
    assert_eq!(open().expect_err("empty").class(), Class::Input);
}
