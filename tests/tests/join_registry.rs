//! Images of ECR, as a node gets at them: AWS's own credential provider, started as the
//! kubelet starts it with what first boot wrote, and its password shown to a registry
//! by a client of others.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nodekiln_tests::cloud::canonical::sha256;
use nodekiln_tests::cloud::world::Repository;
use nodekiln_tests::cloud::{Service, World};
use nodekiln_tests::joining::{BY_NAME, Machine, ROLES_ANYWHERE, hybrid};
use nodekiln_tests::judges::judge;
use serde_json::{Value, json};
use tempfile::TempDir;

const PROGRAMS: (&str, &str) = (
    env!("CARGO_BIN_EXE_nodekiln-cloud"),
    env!("CARGO_BIN_EXE_ssm-agent-stand-in"),
);
/// The registry of the world's own account.
const REGISTRY: &str = "111122223333.dkr.ecr.us-west-2.amazonaws.com";
const PROVIDERS: &str = "etc/eks/image-credential-provider";

/// An OCI layout with one image of one layer, `app:1`; gives the image's digest.
fn layout(folder: &Path) -> String {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("a folder");
    let lay = |kind: &str, content: &[u8]| {
        let hex = sha256(content);
        fs::write(blobs.join(&hex), content).expect("written");
        json!({ "mediaType": kind, "digest": format!("sha256:{hex}"), "size": content.len() })
    };
    // An empty archive: two blocks of nothing.
    let archive = [0; 1024];
    let layer = lay("application/vnd.oci.image.layer.v1.tar", &archive);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
    });
    let kind = "application/vnd.oci.image.config.v1+json";
    let config = lay(kind, config.to_string().as_bytes());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer],
    });
    let mut image = lay(kind, manifest.to_string().as_bytes());
    image["annotations"] = json!({ "org.opencontainers.image.ref.name": "1" });
    let index = json!({ "schemaVersion": 2, "manifests": [image] });
    fs::write(folder.join("index.json"), index.to_string()).expect("written");
    let marker = r#"{"imageLayoutVersion": "1.0.0"}"#;
    fs::write(folder.join("oci-layout"), marker).expect("written");
    image["digest"].as_str().expect("a digest").to_owned()
}

/// A node with the real provider, and a registry with an image.
struct Node {
    machine: Machine,
    images: TempDir,
    digest: String,
}

impl Node {
    /// One that has joined, with a NodeConfig that is made for it.
    fn new(config: impl FnOnce(&Machine) -> String) -> Self {
        let machine = Machine::new(PROGRAMS, &World::sample(), &["--names", "127.0.0.1:443"]);
        let images = TempDir::new().expect("a folder");
        let digest = layout(images.path());
        machine.cloud.change(|world| {
            world.repositories = vec![Repository {
                registry: world.account.clone(),
                name: "team/app".into(),
                layout: images.path().into(),
            }];
        });
        let services = [
            Service::RolesAnywhere,
            Service::Ecr,
            Service::Eks,
            Service::Sts,
            Service::Ec2,
        ];
        machine.name(&services);
        let hosts = machine.read("etc/hosts") + &format!("127.0.0.1 {REGISTRY}\n");
        machine.write("etc/hosts", &hosts, 0o644);
        machine.certify();
        machine.install(&judge("signing-helper"), "usr/local/bin/aws_signing_helper");
        let provider = judge("ecr-credential-provider");
        machine.install(&provider, &format!("{PROVIDERS}/ecr-credential-provider"));
        machine.install(&skopeo(), "usr/bin/skopeo");
        let config = config(&machine);
        machine.write("etc/nodekiln/nodeconfig.yaml", &config, 0o600);
        let ran = machine.boot(&BY_NAME);
        assert_eq!(ran.code, Some(0), "{}\n{}", ran.console, ran.journal);
        machine.cloud.record();
        Self {
            machine,
            images,
            digest,
        }
    }

    /// Starts the provider as the kubelet does for an image, and gives its answer.
    fn credentials(&self, image: &str) -> Result<Value, String> {
        let config = self.machine.read(&format!("{PROVIDERS}/config.json"));
        let config: Value = serde_json::from_str(&config).expect("JSON");
        let provider = &config["providers"][0];
        let name = provider["name"].as_str().expect("a name");
        let variables = provider["env"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let variables: Vec<(String, String)> = variables
            .iter()
            .map(|one| (text(&one["name"]), text(&one["value"])))
            .collect();
        let request = json!({
            "apiVersion": provider["apiVersion"],
            "kind": "CredentialProviderRequest",
            "image": image,
        });
        let program = format!("/{PROVIDERS}/{name}");
        let output = self.run(&[&program], &variables, &request.to_string());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            return Err(said);
        }
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(answer["kind"], "CredentialProviderResponse", "{said}");
        assert_eq!(answer["apiVersion"], provider["apiVersion"], "{said}");
        Ok(answer)
    }

    /// Copies the image out of the registry with a password; gives what the client says
    /// where it cannot.
    fn pull(&self, password: &str) -> Result<(), String> {
        let auth = STANDARD.encode(format!("AWS:{password}"));
        let auth = json!({ "auths": { REGISTRY: { "auth": auth } } });
        self.machine
            .write("etc/registry-auth.json", &auth.to_string(), 0o600);
        let _ = fs::remove_dir_all(self.machine.path("tmp/copy"));
        let image = format!("docker://{REGISTRY}/team/app:1");
        let words = ["/usr/bin/skopeo", "--insecure-policy", "copy", "--quiet"];
        let files = [
            "--preserve-digests",
            "--src-authfile=/etc/registry-auth.json",
            &image,
            "oci:/tmp/copy:1",
        ];
        let output = self.run(&[&words[..], &files].concat(), &[], "");
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn run(&self, words: &[&str], variables: &[(String, String)], input: &str) -> Output {
        let mut child = self
            .machine
            .other_command(words)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("chroot must be installed");
        let mut stdin = child.stdin.take().expect("it is piped");
        // It may end without reading all.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("it was started")
    }

    /// What ECR and the registry were asked, and how they answered.
    fn asked(&self) -> Vec<(Service, String, u16)> {
        let record = self.machine.cloud.record().into_iter();
        let of = |service| [Service::Ecr, Service::Registry].contains(&service);
        record
            .filter(|one| of(one.service))
            .map(|one| {
                (
                    one.service,
                    format!("{} {}", one.method, one.path),
                    one.status,
                )
            })
            .collect()
    }
}

fn skopeo() -> PathBuf {
    let path = PathBuf::from("/usr/bin/skopeo");
    assert!(path.exists(), "skopeo must be installed");
    path
}

fn site() -> Node {
    Node::new(|machine| hybrid(&machine.described(), ROLES_ANYWHERE))
}

fn password(answer: &Value) -> String {
    let auth = &answer["auth"][REGISTRY];
    assert_eq!(auth["username"], "AWS", "{answer}");
    auth["password"].as_str().expect("a password").to_owned()
}

/// The provider gives a password with which all of the image is pulled.
fn assert_pulls(node: &Node) {
    let answer = node.credentials(&format!("{REGISTRY}/team/app:1"));
    let password = password(&answer.expect("credentials"));
    node.pull(&password).expect("an image");
    let index = node.machine.read("tmp/copy/index.json");
    let index: Value = serde_json::from_str(&index).expect("JSON");
    assert_eq!(index["manifests"][0]["digest"], *node.digest);
    let blobs = |folder: &Path| {
        let names = fs::read_dir(folder.join("blobs/sha256")).expect("blobs");
        let mut names: Vec<_> = names.map(|it| it.expect("a name").file_name()).collect();
        names.sort();
        names
    };
    let copy = node.machine.path("tmp/copy");
    assert_eq!(blobs(&copy), blobs(node.images.path()));
    let asked = node.asked();
    let (_, _, status) = &asked[0];
    assert_eq!((asked[0].0, *status), (Service::Ecr, 200), "{asked:?}");
    let manifest = "GET /v2/team/app/manifests/1".to_owned();
    assert!(
        asked.contains(&(Service::Registry, manifest, 200)),
        "{asked:?}"
    );
}

#[test]
fn a_node_of_a_site_pulls_from_ecr_with_what_first_boot_wrote() {
    assert_pulls(&site());
}

#[test]
fn an_instance_pulls_from_ecr_with_its_role() {
    let node = Node::new(|machine| {
        format!(
            "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster:\n    \
             name: farm\n{}",
            machine.described()
        )
    });
    assert_pulls(&node);
}

#[test]
fn a_password_that_is_missing_wrong_or_old_is_refused_as_ecr_refuses_it() {
    let node = site();
    let answer = node.credentials(&format!("{REGISTRY}/team/app:1"));
    let good = password(&answer.expect("credentials"));
    node.asked();
    let wrong = good.chars().rev().collect::<String>();
    let said = node.pull(&wrong).expect_err("it is wrong");
    assert!(said.contains("denied"), "{said}");
    for (service, what, status) in node.asked() {
        let is_challenge = what == "GET /v2/" && status == 401;
        assert!(
            is_challenge || status == 400,
            "{service:?} {what}: {status}"
        );
    }
    // Twelve hours and more.
    node.machine
        .cloud
        .change(|world| world.clock_ahead = 13 * 3600);
    let said = node.pull(&good).expect_err("it is old");
    assert!(said.contains("authorization token has expired"), "{said}");
    node.machine.cloud.change(|world| world.clock_ahead = 0);
    node.pull(&good).expect("it is good again");
}

#[test]
fn what_a_role_may_not_and_what_is_not_there_is_told() {
    let node = site();
    let image = format!("{REGISTRY}/team/app:1");
    let good = password(&node.credentials(&image).expect("credentials"));
    let forbid = |actions: &[&str]| {
        let actions = actions.iter().map(ToString::to_string).collect();
        node.machine.cloud.change(|world| world.forbidden = actions);
    };
    forbid(&["ecr:BatchGetImage"]);
    let said = node.pull(&good).expect_err("it may not");
    let told = "is not authorized to perform: ecr:BatchGetImage";
    assert!(said.contains(told), "{said}");
    // Of a blob that is refused this client repeats only the status.
    forbid(&["ecr:GetDownloadUrlForLayer"]);
    let said = node.pull(&good).expect_err("it may not");
    assert!(said.contains("403"), "{said}");
    forbid(&["ecr:GetAuthorizationToken"]);
    let said = node.credentials(&image).expect_err("it may not");
    assert!(said.contains("AccessDeniedException"), "{said}");
    forbid(&[]);
    let name = |name: &str| {
        let name = name.to_owned();
        node.machine
            .cloud
            .change(|world| world.repositories[0].name = name);
    };
    name("team/other");
    let said = node.pull(&good).expect_err("it is not there");
    assert!(said.contains("'team/app' does not exist"), "{said}");
    name("team/app");
    fs::write(node.images.path().join("index.json"), "{}").expect("written");
    let said = node.pull(&good).expect_err("it is not there");
    assert!(said.contains("Requested image not found"), "{said}");
}
