//! A server of files on the loopback, over HTTP and over TLS, that answers as the
//! test says.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::program::run;

/// A certificate that is its own issuer, but no authority: what a client is told
/// to trust is the server itself.
const OPENSSL: &str = "[req]
distinguished_name = name
x509_extensions = server
prompt = no
[name]
CN = localhost
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1
";

/// What the server says to a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The whole file.
    File(Vec<u8>),
    /// The head for the whole file and its first bytes; then the connection ends.
    BreakOff(Vec<u8>, usize),
}

/// See the module documentation. It listens until the test ends.
#[derive(Debug)]
pub struct Server {
    /// Where its files are: `http://127.0.0.1:PORT` or the same with https.
    pub url: String,
    requests: Arc<AtomicUsize>,
}

impl Server {
    /// Serves `answers` by their paths over HTTP; anything else is a 404.
    ///
    /// # Panics
    /// When the loopback cannot be used.
    pub fn start<const N: usize>(answers: [(&str, Answer); N]) -> Self {
        Self::listen(answers, None)
    }

    /// As [`Server::start`], over TLS with a certificate of its own, which lies in
    /// `folder`; gives the path of the certificate, too.
    ///
    /// # Panics
    /// When openssl is missing, or the loopback cannot be used.
    pub fn start_tls<const N: usize>(
        folder: &Path,
        answers: [(&str, Answer); N],
    ) -> (Self, PathBuf) {
        let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let [out, keyout] = [text(&certificate), text(&key)];
        let config = folder.join("server.cnf");
        std::fs::write(&config, OPENSSL).expect("writes");
        let config = text(&config);
        let fixed = "req -x509 -newkey rsa:2048 -nodes -days 2";
        let mut arguments: Vec<&str> = fixed.split_whitespace().collect();
        arguments.extend(["-config", &config, "-out", &out, "-keyout", &keyout]);
        run("openssl", &arguments);
        let chain = CertificateDer::from_pem_file(&certificate).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("known versions")
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .expect("they fit");
        (Self::listen(answers, Some(Arc::new(config))), certificate)
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn listen<const N: usize>(
        answers: [(&str, Answer); N],
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback");
        let address = listener.local_addr().expect("an address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let requests = Arc::new(AtomicUsize::new(0));
        let answers: BTreeMap<String, Answer> = answers
            .into_iter()
            .map(|(path, answer)| (path.to_owned(), answer))
            .collect();
        let counter = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away in between is no failure of the test.
                match &tls {
                    None => serve(stream, &answers, &counter).ok(),
                    Some(config) => serve_tls(stream, config, &answers, &counter).ok(),
                };
            }
        });
        Self {
            url: format!("{scheme}://{address}"),
            requests,
        }
    }
}

fn serve_tls(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
    answers: &BTreeMap<String, Answer>,
    requests: &AtomicUsize,
) -> std::io::Result<()> {
    let connection = ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
    serve(StreamOwned::new(connection, stream), answers, requests)
}

/// Answers one request, and closes.
fn serve(
    stream: impl Read + Write,
    answers: &BTreeMap<String, Answer>,
    requests: &AtomicUsize,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
    }
    requests.fetch_add(1, Ordering::SeqCst);
    let path = first.split(' ').nth(1).unwrap_or_default();
    let (status, length, body) = match answers.get(path) {
        Some(Answer::File(content)) => ("200 OK", content.len(), &content[..]),
        Some(Answer::BreakOff(content, at)) => ("200 OK", content.len(), &content[..*at]),
        None => ("404 Not Found", 0, &[][..]),
    };
    let stream = stream.get_mut();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(body)?;
    stream.flush()
}
