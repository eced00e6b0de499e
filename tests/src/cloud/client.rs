//! A cloud of a test: the program started, told and asked.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;

use super::fault::Fault;
use super::state::Record;
use super::{Service, World};
use crate::program::dying_with_us;

/// See the module documentation. It ends with its owner.
#[derive(Debug)]
pub struct Cloud {
    child: Child,
    folder: TempDir,
    endpoints: Value,
}

impl Cloud {
    /// Starts a command, `nodekiln-cloud` or one that leads to it, with a world and
    /// further arguments, and waits until it serves. It ends with the thread that calls
    /// this.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(command: Command, world: &World, arguments: &[&str]) -> Self {
        let folder = TempDir::with_prefix("nodekiln-cloud-").expect("a temporary folder");
        let file = folder.path().join("world.json");
        let text = serde_json::to_vec_pretty(world).expect("JSON");
        fs::write(&file, text).expect("the world can be written");
        let mut child = dying_with_us(&command)
            .arg("--folder")
            .arg(folder.path())
            .arg("--world")
            .arg(file)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the cloud starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("it can be read");
        let endpoints = serde_json::from_str(&line)
            .unwrap_or_else(|error| unreachable!("the cloud does not serve: {error}: {line}"));
        Self {
            child,
            folder,
            endpoints,
        }
    }

    /// URL of a service.
    ///
    /// # Panics
    /// When it is not served.
    pub fn url(&self, service: Service) -> &str {
        self.endpoints[service.signing_name()]
            .as_str()
            .expect("all services are served")
    }

    /// Where the services answer to their own names of AWS, `ADDRESS:PORT`.
    ///
    /// # Panics
    /// When it was not started with `--names`.
    pub fn names(&self) -> &str {
        self.endpoints["names"].as_str().expect("--names was given")
    }

    /// A file that it wrote: `ca.pem`, `environment`, `control.sock`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The variables that send a program here.
    ///
    /// # Panics
    /// When the file cannot be read.
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.file("environment")).expect("it was written");
        text.lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// Says what goes wrong from now on, in place of all that was said before.
    pub fn faults(&self, faults: &[Fault]) {
        let body = serde_json::to_vec(faults).expect("JSON");
        let _: Value = control(&self.file("control.sock"), "PUT", "/faults", &body);
    }

    /// What the world holds now.
    pub fn world(&self) -> World {
        control(&self.file("control.sock"), "GET", "/world", &[])
    }

    /// Changes the world.
    pub fn change(&self, change: impl FnOnce(&mut World)) {
        let mut world = self.world();
        change(&mut world);
        let body = serde_json::to_vec(&world).expect("JSON");
        let _: Value = control(&self.file("control.sock"), "PUT", "/world", &body);
    }

    /// What was asked until now; forgotten with it.
    pub fn record(&self) -> Vec<Record> {
        let socket = self.file("control.sock");
        let record = control(&socket, "GET", "/record", &[]);
        let _: Value = control(&socket, "DELETE", "/record", &[]);
        record
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks the control socket.
///
/// # Panics
/// When it does not answer with success.
fn control<T: DeserializeOwned>(socket: &Path, method: &str, path: &str, body: &[u8]) -> T {
    let mut stream = UnixStream::connect(socket).expect("the control socket listens");
    let limit = Some(Duration::from_secs(30));
    stream.set_read_timeout(limit).expect("a time limit");
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: cloud\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it can be asked");
    stream.write_all(body).expect("it can be asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("HTTP");
    assert!(
        head.starts_with("HTTP/1.1 200"),
        "{method} {path}: {answer}"
    );
    serde_json::from_str(body).unwrap_or_else(|error| unreachable!("{error}: {body}"))
}
