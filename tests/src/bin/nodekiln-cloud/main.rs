//! The AWS services that a node talks to, on this machine: for tests, and for a person
//! who wants to try a join without an AWS account. See `nodekiln_tests::cloud`.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use nodekiln_tests::cloud::certificates::Authority;
use nodekiln_tests::cloud::{Service, State, World, serve};
use time::OffsetDateTime;
use tokio::net::TcpListener;

/// Plays the AWS services that a node talks to.
///
/// Writes into FOLDER: ca.pem, the authority of its certificates; `environment`, the
/// variables that send a node here; control.sock, where the world is changed and asked
/// (curl --unix-socket FOLDER/control.sock http://cloud/record). Prints a line of JSON
/// with all addresses when it is ready.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where its files go; made if it is missing
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// What the world holds, JSON [default: a small sample]
    #[arg(long, value_name = "FILE")]
    world: Option<PathBuf>,
    /// Print the sample world and end
    #[arg(long)]
    print_world: bool,
    /// The address to listen at
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// The first port; 0 takes free ones
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where the metadata service listens [default: a free port of the address]
    #[arg(long, value_name = "ADDRESS:PORT")]
    imds: Option<SocketAddr>,
    /// Where all services but that of metadata answer too, each to its own name of
    /// AWS: for a network in which these names lead here
    #[arg(long, value_name = "ADDRESS:PORT")]
    names: Option<SocketAddr>,
    /// An address by which others reach this machine, for the certificate and the
    /// variables [default: where it listens]
    #[arg(long, value_name = "ADDRESS")]
    reached_at: Option<IpAddr>,
    /// Give servers a certificate that is good only this many seconds from now
    #[arg(long, value_name = "SECONDS", default_value_t = -3600, allow_negative_numbers = true)]
    certificate_from: i64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.print_world {
        let text = serde_json::to_string_pretty(&World::sample()).unwrap_or_default();
        let _ = writeln!(io::stdout(), "{text}");
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime.and_then(|runtime| runtime.block_on(run(&arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(4)
        }
    }
}

async fn run(arguments: &Arguments) -> io::Result<()> {
    fs::create_dir_all(&arguments.folder)?;
    let world = match &arguments.world {
        None => World::sample(),
        Some(path) => serde_json::from_slice(&fs::read(path)?)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?,
    };
    let imds = arguments
        .imds
        .unwrap_or(SocketAddr::new(arguments.address, arguments.port));
    let (listeners, mut endpoints) = serve::bind(arguments.address, arguments.port, imds).await?;
    let address = arguments.reached_at.unwrap_or(arguments.address);
    for (service, endpoint) in &mut endpoints {
        if *service != Service::Imds {
            *endpoint = endpoint.replace(&arguments.address.to_string(), &address.to_string());
        }
    }
    let authority = Authority::new("the cloud of tests");
    let from = OffsetDateTime::now_utc() + time::Duration::seconds(arguments.certificate_from);
    let hosts: Vec<String> = Service::ALL
        .iter()
        .filter_map(|service| service.host(&world.region))
        .chain(["localhost".to_owned()])
        .collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let issued = authority.server(&[address, arguments.address], &hosts, from);
    let tls = serve::tls(&issued)?;
    let folder = fs::canonicalize(&arguments.folder)?;
    let ca = folder.join("ca.pem");
    fs::write(&ca, &authority.certificate)?;
    fs::write(folder.join("environment"), environment(&endpoints, &ca))?;
    let state = Arc::new(State::new(world, endpoints, authority.certificate));
    for listener in listeners {
        tokio::spawn(serve::serve(Arc::clone(&state), listener, tls.clone()));
    }
    let mut names = None;
    if let Some(address) = arguments.names {
        let socket = TcpListener::bind(address).await?;
        names = Some(socket.local_addr()?.to_string());
        tokio::spawn(serve::serve_names(Arc::clone(&state), socket, tls));
    }
    let socket = folder.join("control.sock");
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let control = serve::bind_control(&socket)?;
    let ready: serde_json::Map<_, _> = state
        .endpoints
        .iter()
        .map(|(service, url)| (service.signing_name().to_owned(), url.clone().into()))
        .chain(names.map(|address| ("names".to_owned(), address.into())))
        .collect();
    writeln!(io::stdout(), "{}", serde_json::Value::Object(ready))?;
    serve::serve_control(state, control).await;
    Ok(())
}

/// The variables that send an SDK to these services.
fn environment(endpoints: &std::collections::HashMap<Service, String>, ca: &Path) -> String {
    let mut text = format!("AWS_CA_BUNDLE={}\n", ca.display());
    for service in Service::ALL {
        if let (Some(variable), Some(url)) = (service.variable(), endpoints.get(&service)) {
            text += &format!("{variable}={url}\n");
        }
    }
    text
}
