//! Images, each baked once by the command for all boots.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock};

use nodekiln::environment;
use nodekiln::profile::model::Architecture;
use nodekiln_tests::cluster::minor;
use nodekiln_tests::container_image;
use nodekiln_tests::debian_base;
use nodekiln_tests::network::POD_NETWORK;
use nodekiln_tests::program::run;
use nodekiln_tests::small_base::cut;
use nodekiln_tests::twins::{Role, Twin};
use nodekiln_tests::units::{self, Units};

/// The image in its folder.
pub struct Image {
    /// Holds the images and what describes them.
    pub folder: PathBuf,
    pub raw: PathBuf,
    pub qcow2: PathBuf,
}

/// The root of the sources.
fn workspace() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the sources are there")
}

/// A folder that outlives a run, so that the next one need not bake again.
pub fn scratch() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boot");
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    folder
}

/// The command that is tested.
pub fn command() -> Command {
    let path = std::env::var_os("NODEKILN_TEST_BINARY").map_or_else(
        || workspace().join("target/release/nodekiln"),
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "{} is missing: build it with `make build`, or name one with NODEKILN_TEST_BINARY",
        path.display()
    );
    let mut command = Command::new(path);
    command.arg("--progress=none").env("NO_COLOR", "1");
    command
}

/// What a command printed.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("the command starts");
    assert!(output.status.success(), "{command:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The version of Kubernetes that is tested for a minor version.
fn version(minor: &str) -> String {
    let modules = format!("tests/cluster/go-{minor}.mod");
    let modules = std::fs::read_to_string(workspace().join(modules)).expect("go.mod");
    let mut lines = modules.lines();
    let version = lines.find_map(|line| line.strip_prefix("\tk8s.io/kubernetes v"));
    version.expect("the version of Kubernetes").to_owned()
}

/// What the folder of components has, as variables of the demo's profile: all
/// but what `make components` could not obtain.
fn settings(minor: &str) -> Vec<String> {
    let folder = environment::cache_folder()
        .expect("HOME or XDG_CACHE_HOME is set")
        .join("components")
        .join(version(minor));
    let list = std::fs::read_to_string(folder.join("components.txt")).unwrap_or_else(|error| {
        unreachable!(
            "{} has no components ({error}): run `scripts/components {minor}`",
            folder.display()
        )
    });
    let missing = list.lines().filter_map(|line| {
        let (name, how) = line.split_once('\t')?;
        how.starts_with("left out").then(|| {
            assert_eq!(
                name, "aws_signing_helper",
                "without {name} there is nothing to test"
            );
            format!("{}=omit", name.replace(['-', '_'], ""))
        })
    });
    std::iter::once(format!("components={}", folder.display()))
        .chain(missing)
        .collect()
}

/// Locks, and bakes without network, what `make demo` does. Baked before from the
/// same inputs, the image is taken as it is.
pub fn demo() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let minor = minor();
        let profile = profile("debian-12-demo.yaml", &minor);
        baked("debian-12-demo", &profile, &settings(&minor))
    })
}

/// The demo's system for arm64, without its components: what it has are the base and
/// first boot. Baked as any other, on a machine that runs no program of it.
pub fn arm64() -> Image {
    let minor = minor();
    let profile = profile("debian-12-demo.yaml", &minor);
    let own = "\n  architecture: x86_64\n";
    assert!(profile.contains(own), "{profile}");
    let profile = profile.replace(own, "\n  architecture: arm64\n");
    let (name, own) = ("debian-12-arm64", "name: debian-12-demo\n");
    assert!(profile.contains(own), "{profile}");
    let profile = profile.replace(own, &format!("name: {name}\n"));
    let profile = over_image(&profile, &debian_base::path(Architecture::Arm64));
    let none: Vec<String> = COMPONENTS
        .map(|component| format!("{component}=omit"))
        .into();
    baked(
        name,
        &profile,
        &[none, vec!["components=/none".to_owned()]].concat(),
    )
}

/// The components of the demo's profile, as its variables are called.
const COMPONENTS: [&str; 6] = [
    "kubelet",
    "kubectl",
    "cniplugins",
    "ecrcredentialprovider",
    "awsiamauthenticator",
    "awssigninghelper",
];

/// A base whose images join.
pub struct Base {
    /// For the names of its images and of what tests write.
    pub name: &'static str,
    /// The profile that bakes it, a file of `profiles/`.
    profile: &'static str,
    /// The twin of a vendor's image that takes the place of the profile's base.
    twin: Option<&'static str>,
    image: OnceLock<Image>,
}

/// Every base that there is: its images take each way of joining. What goes wrong in a
/// join does so with the first one.
pub static BASES: [Base; 1] = [Base {
    name: "debian-12",
    profile: "debian-12-demo.yaml",
    twin: None,
    image: OnceLock::new(),
}];

/// Bases in the layouts of vendors' images, around the same userland: they join in one
/// way, the others are the same.
pub static LAYOUTS: [Base; 6] = [
    twin("ubuntu-20.04"),
    twin("ubuntu-22.04"),
    twin("ubuntu-24.04"),
    twin("al2023"),
    twin("rhel-8"),
    twin("rhel-9"),
];

const fn twin(name: &'static str) -> Base {
    Base {
        name,
        profile: "debian-12-demo.yaml",
        twin: Some(name),
        image: OnceLock::new(),
    }
}

/// First and last sector of the root of a bootstrapped base.
const BOOTSTRAPPED_ROOT: (u64, u64) = (227_328, debian_base::SIZE / 512 - 34);

impl Base {
    /// Where the kubelet is told that pods learn of name servers: nodeadm leaves it to the
    /// kubelet on the systems with rpm.
    pub fn resolver(&self) -> Option<&'static str> {
        match self.twin {
            Some("al2023" | "rhel-8" | "rhel-9") => None,
            _ => Some("/run/systemd/resolve/resolv.conf"),
        }
    }

    /// The file system of its root, and where it begins on the disk, in bytes.
    pub fn root(&self) -> (&'static str, u64) {
        let is_xfs = self.twin.is_some_and(|name| Twin::named(name).is_xfs());
        let kind = if is_xfs { "xfs" } else { "ext4" };
        (kind, self.root_sectors().0 * 512)
    }

    /// First and last sector of its root.
    fn root_sectors(&self) -> (u64, u64) {
        self.twin.map_or(BOOTSTRAPPED_ROOT, |name| {
            let root = Twin::named(name).partition(|role| matches!(role, Role::Root(_)));
            (root.first, root.last)
        })
    }

    /// The units of its image that joins, before any boot.
    pub fn units(&self) -> Units {
        let (first, last) = self.root_sectors();
        let (start, size) = (first * 512, (last - first + 1) * 512);
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("root");
        cut(&self.join().raw, start, size, &root);
        units::of_root(&root)
    }

    /// The system with all checks before joining, with all programs that sign, and with
    /// what a site adds: a network for pods, the image that they start with and one for
    /// their containers, and the stand-in of the SSM agent.
    pub fn join(&self) -> &Image {
        let name = format!("{}-join", self.name);
        self.image
            .get_or_init(|| joining(self, &name, &minor(), &[]))
    }

    /// A name for a file of a test with this base.
    pub fn named(&self, file: &str) -> String {
        format!("{}-{file}", self.name)
    }
}

/// An image of the first base that joins.
pub fn join() -> &'static Image {
    BASES[0].join()
}

/// The same with a minor version of Kubernetes, for a machine with a disk that keeps its
/// state.
pub fn keeping(minor: &str) -> Image {
    let name = format!("{}-keep-{minor}", BASES[0].name);
    joining(&BASES[0], &name, minor, &["kept-state"])
}

/// An image that joins, with further overlays.
fn joining(base: &Base, name: &str, minor: &str, overlays: &[&str]) -> Image {
    const LEFT_OUT: &str = "    # Nobody answers the demo's node: what asks AWS and the cluster is \
        left out.\n    - demo\n";
    let settings = settings(minor);
    assert!(
        !settings.contains(&"awssigninghelper=omit".to_owned()),
        "without aws_signing_helper no machine of a site joins: see what `make components` says"
    );
    let profile = profile(base.profile, minor);
    let profile = match base.twin {
        // The packages of the profile, made into a base once for all tests.
        None => over_image(&profile, &debian_base::path(Architecture::X86_64)),
        // With cgroups v2, as the profiles of the older systems ask for.
        Some(twin) => over_image(&profile, &Twin::named(twin).path()).replace(
            "  kernel:\n",
            "  kernel:\n    commandLine: [systemd.unified_cgroup_hierarchy=1]\n",
        ),
    };
    assert!(profile.contains(LEFT_OUT), "{profile}");
    // Another image may be made of it at the same time.
    static OVERLAY: OnceLock<PathBuf> = OnceLock::new();
    let overlay = OVERLAY.get_or_init(|| {
        let overlay = scratch().join("join-overlay");
        write_overlay(&overlay);
        overlay
    });
    let mut lines = format!("    - {}\n", overlay.display());
    for overlay in overlays {
        lines += &format!("    - {overlay}\n");
    }
    let profile = profile.replace(LEFT_OUT, &lines);
    let own = format!("name: {}\n", base.profile.trim_end_matches(".yaml"));
    assert!(profile.contains(&own), "{profile}");
    let profile = profile.replace(&own, &format!("name: {name}\n"));
    baked(name, &profile, &settings)
}

/// The profile with an image as its base, in the place of packages.
fn over_image(profile: &str, image: &Path) -> String {
    let (start, rest) = profile
        .split_once("    bootstrap:\n")
        .expect("a base of packages");
    let (_, end) = rest
        .split_once("  credentialProvider:")
        .expect("it follows");
    format!(
        "{start}    path: {}\n  credentialProvider:{end}",
        image.display()
    )
}

/// A stand-in of the agent for one service manager: it asks once and ends.
const AGENT_UNIT: &str = "[Unit]
Description=Stand-in of the SSM agent, for tests
After=network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/amazon-ssm-agent
[Install]
WantedBy=multi-user.target
";
const AGENT_CONFIG: &str = r#"{"Ssm": {"Endpoint": "https://ssm.us-west-2.amazonaws.com"}}"#;

fn write_overlay(folder: &Path) {
    let place = |path: &str| {
        let path = folder.join(path);
        let parent = path.parent().expect("a path below the folder");
        std::fs::create_dir_all(parent).expect("the target folder can be written");
        path
    };
    for (path, text) in [
        ("etc/cni/net.d/10-bridge.conflist", POD_NETWORK),
        ("etc/nodekiln/sandbox-image", container_image::PAUSE),
        ("etc/systemd/system/amazon-ssm-agent.service", AGENT_UNIT),
        ("etc/amazon/ssm/amazon-ssm-agent.json", AGENT_CONFIG),
    ] {
        std::fs::write(place(path), text).expect("written");
    }
    container_image::write(&place("etc/nodekiln/sandbox-image.tar"));
    let agent = place("usr/bin/amazon-ssm-agent");
    let agent = agent.to_str().expect("a path in UTF-8");
    run(
        "strip",
        &["-o", agent, env!("CARGO_BIN_EXE_ssm-agent-stand-in")],
    );
}

fn profile(file: &str, minor: &str) -> String {
    let path = workspace().join("profiles").join(file);
    let text = std::fs::read_to_string(path).expect("the profile can be read");
    let pinned = "\n    version: 1.34.4\n";
    assert!(text.contains(pinned), "{text}");
    text.replace(pinned, &format!("\n    version: {}\n", version(minor)))
}

/// Bakes a profile in a folder of its own, where its lock lies too.
fn baked(name: &str, profile: &str, settings: &[String]) -> Image {
    // The base of all is made once, by who comes first.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().expect("the other images were baked");
    let folder = scratch().join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("profile.yaml");
    std::fs::write(&path, profile).expect("the profile can be written");
    let settings: Vec<&str> = settings
        .iter()
        .flat_map(|setting| ["--set", setting])
        .collect();
    succeed(command().arg("lock").arg(&path).args(&settings));
    let printed = succeed(
        command()
            .arg("build")
            .arg(&path)
            .args(&settings)
            .args(["--offline", "--format", "json", "--output"])
            .arg(folder.join("out")),
    );
    let built: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    let folder = PathBuf::from(built["folder"].as_str().expect("a folder"));
    Image {
        raw: folder.join(format!("{name}.raw")),
        qcow2: folder.join(format!("{name}.qcow2")),
        folder,
    }
}

impl Image {
    /// Checks that no boot has changed the images: the qcow2 by the checksum that
    /// the build wrote, the raw one by comparing it with the other.
    pub fn assert_unchanged(&self) {
        let sums = std::fs::read_to_string(self.folder.join("SHA256SUMS")).expect("SHA256SUMS");
        let name = self.qcow2.file_name().and_then(|name| name.to_str());
        let wanted = sums
            .lines()
            .filter_map(|line| line.split_once("  "))
            .find_map(|(sum, file)| (Some(file) == name).then_some(sum))
            .unwrap_or_else(|| unreachable!("{name:?} is not in SHA256SUMS:\n{sums}"));
        let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let (raw, qcow2) = (path(&self.raw), path(&self.qcow2));
        let found = run("sha256sum", &[&qcow2]);
        assert_eq!(found.split(' ').next(), Some(wanted), "a boot changed it");
        run("qemu-img", &["compare", "-q", &raw, &qcow2]);
    }
}
