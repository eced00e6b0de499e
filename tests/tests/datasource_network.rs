//! Data sources over the network and by programs: real sockets on the loopback
//! interface, real programs, and everything that goes wrong with them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use nodekiln_firstboot::datasource::{FindError, Found, LinuxMachine, Options, Source, find};
use nodekiln_firstboot::system::{
    Clock, Ended, Error, Linux, Network, NetworkError, Programs, Request, Response, Task, Variables,
};
use tempfile::TempDir;

const CONFIG: &str = "apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster: {name: farm, region: eu-central-1}
  hybrid: {}
";
const LIMIT: usize = 16 << 20;

/// The real network and real programs, on a clock that runs ten times as fast: what
/// is given up after half a minute is given up after three seconds.
struct Hurried {
    system: Linux,
    /// The folder where the programs of the hypervisor lie.
    programs: Option<String>,
}

const HASTE: u32 = 10;

impl Hurried {
    fn new(variables: &Variables) -> Self {
        Self {
            system: Linux::new().with_variables(variables),
            programs: None,
        }
    }
}

impl Network for Hurried {
    fn send(&self, request: &Request) -> Result<Response, NetworkError> {
        let mut request = request.clone();
        request.limit /= HASTE;
        self.system.send(&request)
    }

    fn lookup(&self, host: &str, limit: Duration) -> Result<Vec<IpAddr>, NetworkError> {
        self.system.lookup(host, limit)
    }

    fn connect(&self, host: &str, port: u16, limit: Duration) -> Result<(), NetworkError> {
        self.system.connect(host, port, limit)
    }
}

impl Programs for Hurried {
    fn run(&self, task: &Task) -> Result<Ended, Error> {
        let mut task = task.clone();
        if let Some(folder) = &self.programs {
            task.program = format!("{folder}/{}", task.program);
        }
        self.system.run(&task)
    }

    fn waited(&self) -> Duration {
        self.system.waited()
    }
}

impl Clock for Hurried {
    fn now(&self) -> SystemTime {
        self.system.now()
    }

    fn elapsed(&self) -> Duration {
        self.system.elapsed() * HASTE
    }

    fn pause(&self, time: Duration) {
        self.system.pause(time / HASTE);
    }
}

/// What a server does with a connection after it has read the request.
type Behaviour = Arc<dyn Fn(&str, &mut TcpStream) + Send + Sync>;

/// A server on the loopback interface that runs until the test ends.
struct Server {
    address: SocketAddr,
    /// First lines of all requests.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(behaviour: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let behaviour: Behaviour = Arc::new(behaviour);
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (behaviour, log) = (Arc::clone(&behaviour), Arc::clone(&log));
                std::thread::spawn(move || {
                    let head = read_head(&mut stream);
                    let first = head.lines().next().unwrap_or_default().to_owned();
                    log.lock().unwrap().push(first);
                    behaviour(&head, &mut stream);
                });
            }
        });
        Self { address, asked }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A request up to the empty line; none of ours has a body.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Answers; that the other side has gone away is its right.
fn answer(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 {status} Status\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
}

/// Says nothing until the other side gives up.
fn hang(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 16]);
}

/// Half of what it promises.
fn half(stream: &mut TcpStream) {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
        CONFIG.len()
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&CONFIG.as_bytes()[..CONFIG.len() / 2]);
}

/// A body without end.
fn endless(stream: &mut TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
    while stream.write_all(&[b'#'; 8192]).is_ok() {}
}

/// Plays the metadata service: a token for a PUT with a lifetime, user data by
/// `data` for whoever brings it.
fn metadata(data: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Server {
    Server::new(move |head, stream| {
        let has = |text: &str| head.to_ascii_lowercase().contains(text);
        if head.starts_with("PUT /latest/api/token ")
            && has("\r\nx-aws-ec2-metadata-token-ttl-seconds: ")
            && !has("\r\nx-forwarded-for:")
        {
            answer(stream, 200, "", b"AQAEAtoken==");
        } else if head.starts_with("GET /latest/user-data ")
            && has("\r\nx-aws-ec2-metadata-token: aqaeatoken==\r\n")
        {
            data(stream);
        } else {
            answer(stream, 401, "", b"");
        }
    })
}

/// A machine with this kernel command line and vendor.
fn machine(folder: &TempDir, command_line: &str, vendor: &str) -> LinuxMachine {
    let root = folder.path();
    for path in ["sys/class/block", "sys/class/dmi/id", "dev", "proc"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    fs::write(root.join("proc/cmdline"), format!("{command_line}\n")).unwrap();
    fs::write(
        root.join("sys/class/dmi/id/sys_vendor"),
        format!("{vendor}\n"),
    )
    .unwrap();
    LinuxMachine::new(root)
}

/// Asks an instance of EC2 whose service is this one.
fn on_ec2(server: &Server) -> Result<Found, FindError> {
    let folder = TempDir::new().unwrap();
    // A proxy that nobody may be sent to.
    let variables = Variables::default()
        .with("AWS_EC2_METADATA_SERVICE_ENDPOINT", &server.url())
        .with("HTTP_PROXY", "http://127.0.0.1:9");
    let options = Options {
        variables: variables.clone(),
        ..Options::default()
    };
    let machine = machine(&folder, "quiet", "Amazon EC2");
    find(&options, &machine, &Hurried::new(&variables))
}

/// Asks a machine whose kernel command line names this place.
fn from_seed(place: &str, variables: &Variables) -> Result<Found, FindError> {
    let folder = TempDir::new().unwrap();
    let machine = machine(&folder, &format!("quiet ds=nocloud;s={place}"), "QEMU");
    find(&Options::default(), &machine, &Hurried::new(variables))
}

fn cluster(found: Result<Found, FindError>) -> String {
    let found = found.unwrap_or_else(|error| unreachable!("{error:?}"));
    found.load().unwrap().config.spec.cluster.name
}

#[test]
fn user_data_of_ec2_is_found_with_a_token_and_without_a_proxy() {
    let server = metadata(|stream| answer(stream, 200, "", CONFIG.as_bytes()));
    let found = on_ec2(&server).unwrap();
    assert_eq!(found.source, Source::Ec2);
    assert_eq!(cluster(Ok(found)), "farm");
    let asked = server.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
}

#[test]
fn a_metadata_service_that_fails_for_now_is_tried_again_within_its_time() {
    type Failure = (&'static str, fn(&mut TcpStream));
    let broken: [Failure; 3] = [
        ("hangs", hang),
        ("half a body", half),
        ("503", |stream| answer(stream, 503, "", b"")),
    ];
    for (name, data) in broken {
        let started = SystemTime::now();
        let error = on_ec2(&metadata(data)).unwrap_err();
        assert!(error.may_pass(), "{name}: {error}");
        let took = started.elapsed().unwrap();
        assert!(took < Duration::from_secs(30), "{name}: {took:?}");
    }
    // It mends itself.
    let tries = Mutex::new(0);
    let server = metadata(move |stream| {
        let mut tries = tries.lock().unwrap();
        *tries += 1;
        match *tries {
            1 => answer(stream, 503, "", b""),
            2 => half(stream),
            _ => answer(stream, 200, "", CONFIG.as_bytes()),
        }
    });
    assert_eq!(cluster(on_ec2(&server)), "farm");
}

#[test]
fn a_metadata_service_that_refuses_is_told_at_once() {
    let error = on_ec2(&metadata(|stream| answer(stream, 401, "", b""))).unwrap_err();
    assert!(!error.may_pass(), "{error}");
    let error = on_ec2(&metadata(endless)).unwrap_err();
    assert!(
        !error.may_pass() && error.to_string().contains("larger"),
        "{error}"
    );
    let error = on_ec2(&metadata(|stream| answer(stream, 404, "", b""))).unwrap_err();
    let FindError::NotFound { tried } = error else {
        unreachable!("{error}")
    };
    assert_eq!(
        tried.last().unwrap().to_string(),
        "EC2 user data: this instance has no user data"
    );
    let off = Server::new(|_, stream| answer(stream, 403, "", b""));
    assert!(matches!(on_ec2(&off), Err(FindError::NotFound { .. })));
}

#[test]
fn a_seed_is_fetched_and_redirects_are_followed() {
    let server = Server::new(|head, stream| match head.split(' ').nth(1) {
        Some("/n1/user-data") => answer(stream, 302, "location: /real\r\n", b""),
        Some("/real") => answer(stream, 200, "", CONFIG.as_bytes()),
        Some("/round/user-data") => {
            answer(stream, 307, "location: /round/user-data\r\n", b"");
        }
        _ => answer(stream, 404, "", b""),
    });
    let variables = Variables::default();
    let found = from_seed(&format!("{}/n1/", server.url()), &variables);
    assert_eq!(found.as_ref().unwrap().source, Source::NoCloud);
    assert_eq!(cluster(found), "farm");
    let round = format!("{}/round", server.url());
    let error = from_seed(&round, &variables).unwrap_err();
    assert!(
        error.to_string().ends_with("redirects more than 5 times"),
        "{error}"
    );
    let error = from_seed(&format!("{}/other/", server.url()), &variables).unwrap_err();
    assert!(
        !error.may_pass() && error.to_string().ends_with("answers 404"),
        "{error}"
    );
}

#[test]
fn sixteen_megabytes_of_a_seed_are_taken_and_one_byte_more_is_not() {
    for (length, fits) in [(LIMIT, true), (LIMIT + 1, false)] {
        let server = Server::new(move |_, stream| {
            let mut body = CONFIG.as_bytes().to_vec();
            body.resize(length, b'\n');
            answer(stream, 200, "", &body);
        });
        let found = from_seed(&server.url(), &Variables::default());
        match found {
            Ok(found) => assert!(fits && found.documents[0].bytes.len() == LIMIT),
            Err(error) => {
                assert!(!fits && !error.may_pass(), "{error}");
                assert!(error.to_string().ends_with("larger than 16 MiB"), "{error}");
            }
        }
    }
    let server = Server::new(|_, stream| endless(stream));
    let error = from_seed(&server.url(), &Variables::default()).unwrap_err();
    assert!(error.to_string().ends_with("larger than 16 MiB"), "{error}");
}

#[test]
fn a_seed_out_of_reach_is_given_up_in_time_and_may_pass() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let hanging = Server::new(|_, stream| hang(stream));
    let proxy = Server::new(|_, stream| answer(stream, 407, "", b""));
    let proxied = Variables::default().with("HTTP_PROXY", &proxy.url());
    let direct = Variables::default();
    for (place, variables) in [
        (format!("http://{closed}/"), &direct),
        (hanging.url(), &direct),
        // RFC 6761: no name below `invalid` ever has an address.
        ("http://seeds.invalid/".to_owned(), &direct),
        ("http://seeds.invalid/".to_owned(), &proxied),
    ] {
        let started = SystemTime::now();
        let error = from_seed(&place, variables).unwrap_err();
        assert!(error.may_pass(), "{place}: {error}");
        let took = started.elapsed().unwrap();
        assert!(took < Duration::from_secs(40), "{place}: {took:?}");
    }
    assert!(proxy.asked().iter().all(|it| it.contains("seeds.invalid")));
    assert!(!proxy.asked().is_empty());
}

/// A virtual machine whose programs are these scripts.
fn on_vmware(scripts: &[(&str, &str)]) -> Result<Found, FindError> {
    let folder = TempDir::new().unwrap();
    let programs = folder.path().join("programs");
    fs::create_dir(&programs).unwrap();
    for (name, script) in scripts {
        let path = programs.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let system = Hurried {
        programs: Some(text(&programs)),
        ..Hurried::new(&Variables::default())
    };
    let machine = machine(&folder, "quiet", "VMware, Inc.");
    find(&Options::default(), &machine, &system)
}

fn text(path: &Path) -> String {
    path.to_str().expect("a temporary path is UTF-8").to_owned()
}

#[test]
fn a_hypervisor_is_asked_by_either_program() {
    let value = "case \"$*\" in *encoding) echo 'No value found' >&2; exit 1;; esac\nprintf \
                 'apiVersion: node.eks.aws/v1alpha1\\nkind: NodeConfig\\nspec: {cluster: {name: \
                 farm}}\\n'";
    assert_eq!(cluster(on_vmware(&[("vmware-rpctool", value)])), "farm");
    let script = format!("[ \"$1\" = --cmd ] || exit 9\n{value}");
    let found = on_vmware(&[("vmtoolsd", &script)]).unwrap();
    assert_eq!(found.source, Source::VMware);
    let none = on_vmware(&[("vmware-rpctool", "echo 'No value found' >&2; exit 1")]);
    assert!(matches!(none, Err(FindError::NotFound { .. })));
}

#[test]
fn programs_that_hang_or_print_megabytes_are_cut_short() {
    let error = on_vmware(&[("vmware-rpctool", "sleep 60")]).unwrap_err();
    assert!(error.may_pass(), "{error}");
    assert!(
        error.to_string().contains("did not end within 5 s"),
        "{error}"
    );
    let error = on_vmware(&[("vmtoolsd", "head -c 40000000 /dev/zero | tr '\\0' '#'")]);
    let error = error.unwrap_err();
    assert!(!error.may_pass());
    assert!(error.to_string().ends_with("larger than 16 MiB"), "{error}");
}
