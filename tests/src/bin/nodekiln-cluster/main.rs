//! A cluster to try a join with, on this machine alone: a control plane of the real
//! programs, the cloud of the tests by the names of AWS, and a network for a machine
//! that boots in QEMU. See `nodekiln_tests::cluster`.

mod machine;

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use nodekiln_tests::cluster::MINOR;
use nodekiln_tests::container_image::busybox_of_ecr;
use nodekiln_tests::surroundings::Surroundings;

/// Runs a cluster without an AWS account, until Ctrl-C.
///
/// Everything is in a network of its own, which a machine is booted into; without root
/// that is one of a user namespace. What a machine needs lies in FOLDER, and two
/// commands: `inside`, which runs a command in the network, and `kubectl`.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where its files go; made if it is missing
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// Minor version of Kubernetes
    #[arg(long, value_name = "VERSION", default_value = MINOR)]
    kubernetes: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(4)
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return become_root();
    }
    std::fs::create_dir_all(&arguments.folder)?;
    let folder = arguments.folder.canonicalize()?;
    let doing = "starting the network, the cloud and the control plane";
    writeln!(io::stderr(), "==> {doing}")?;
    let site = machine::Site::new(&folder.join("images"));
    let program = std::env::current_exe()?.with_file_name("nodekiln-cloud");
    let places = [machine::PLACE];
    let around = Surroundings::new(&program, &site.world, &places, &arguments.kubernetes);
    site.write(&folder, &around.cloud.file("ca.pem"))?;
    // Whoever enters mounts is at their root.
    let inside = around.network.command(Path::new("env"));
    machine::write_script(&folder.join("inside"), &inside, "--chdir=\"$PWD\" \"$@\"")?;
    let kubectl = around.control_plane.command(&[]);
    machine::write_script(&folder.join("kubectl"), &kubectl, "\"$@\"")?;
    explain(
        &folder,
        around.control_plane.version(),
        &busybox_of_ecr(&site.world),
    )?;
    until_interrupted()
}

/// Starts this program again as the root of a user namespace.
fn become_root() -> io::Result<()> {
    let error = Command::new("unshare")
        .args(["--user", "--map-root-user", "--"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .exec();
    Err(io::Error::new(
        error.kind(),
        format!("unshare cannot be started: {error}; install util-linux"),
    ))
}

fn until_interrupted() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
        Ok(())
    })
}

/// What can be done now.
fn explain(folder: &Path, version: &str, image: &str) -> io::Result<()> {
    let folder = folder.display();
    let place = machine::PLACE;
    let mut out = io::stdout();
    writeln!(
        out,
        "
A cluster of Kubernetes {version} waits for the machine {node}.

Boot an image into it (that of `make demo` will do; it takes a terminal of its own):

  IMAGE=$(ls out/debian-12-demo/*/*.qcow2)
  {folder}/inside target/release/nodekiln boot $IMAGE --keep --console \\
    --tap {tap},mac={mac} \\
    --node-config {folder}/node-config.yaml --cloud-config {folder}/cloud-config.yaml

See it come:

  {folder}/kubectl get nodes --watch

Run a pod, of an image in the account's own registry (no scheduler is needed to name a node):

  {folder}/kubectl run hello --image={image} --restart=Never \\
    --overrides='{{\"spec\":{{\"nodeName\":\"{node}\"}}}}' --command -- echo hello
  {folder}/kubectl logs --follow hello

Ctrl-C ends all of it.",
        node = machine::NAME,
        tap = place.tap,
        mac = place.mac,
    )
}
