//! Resolving against sources that are made up.

mod packages;

use std::cell::RefCell;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::*;
use crate::lock::{
    Bootstrapped, LocalBase, MemberSelection, Signer, StoredMember, Unpacked, VerifiedList,
    is_current,
};
use crate::profile::model::{Architecture, Bootstrap, ComponentName};
use crate::profile::{Overrides, parse};

fn digest(content: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(content).into())
}

fn stored(content: &[u8]) -> Stored {
    Stored {
        sha256: digest(content),
        size: content.len() as u64,
    }
}

/// Files by URL or path, archives by the text of their file, and a record of
/// every call.
#[derive(Default)]
struct Fake {
    files: BTreeMap<String, Vec<u8>>,
    archives: BTreeMap<Digest, Vec<(&'static str, u32)>>,
    signed_by: Option<&'static str>,
    calls: RefCell<Vec<String>>,
}

impl Fake {
    fn with(mut self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.files
            .insert(name.to_owned(), content.as_ref().to_vec());
        self
    }

    /// A file with a checksum file beside it, in GNU's shape.
    fn published(self, url: &str, content: &str) -> Self {
        let name = crate::lock::file_name_of_url(url).to_owned();
        let line = format!("{}  {name}\n", digest(content.as_bytes()));
        self.with(url, content).with(&format!("{url}.sha256"), line)
    }

    fn archive(mut self, content: &str, members: &[(&'static str, u32)]) -> Self {
        self.archives
            .insert(digest(content.as_bytes()), members.to_vec());
        self
    }

    fn called(&self) -> Vec<String> {
        self.calls.take()
    }

    /// What was called, but for looks at local files that had not changed, and
    /// for what was told.
    fn called_outside(&self) -> Vec<String> {
        let mut calls = self.called();
        calls.retain(|call| !call.starts_with("local ") && !call.starts_with("note "));
        calls
    }

    fn get(&self, call: &str, name: &str) -> Result<&[u8]> {
        self.calls.borrow_mut().push(format!("{call} {name}"));
        if name.contains("unreachable") {
            return Err(Error::new(Class::Transient, format!("fetch {name}")));
        }
        self.files
            .get(name)
            .map(Vec::as_slice)
            .ok_or_else(|| Error::dependency(format!("fetch {name}: 404 Not Found")))
    }

    fn checked(&self, call: &str, name: &str, expected: Option<Digest>) -> Result<Stored> {
        let stored = stored(self.get(call, name)?);
        match expected {
            Some(expected) if expected != stored.sha256 => Err(Error::dependency(format!(
                "verify {name}: its sha256 is {}, not {expected}",
                stored.sha256
            ))),
            _ => Ok(stored),
        }
    }
}

impl Sources for Fake {
    fn download(&self, url: &str, expected: Option<Digest>) -> Result<Stored> {
        self.checked("download", url, expected)
    }

    fn text(&self, url: &str, limit: u64) -> Result<Vec<u8>> {
        let text = self.get("text", url)?;
        assert!(text.len() as u64 <= limit);
        Ok(text.to_vec())
    }

    fn local(&self, path: &Path, expected: Option<Digest>) -> Result<Stored> {
        let path = Path::new("/p").join(path);
        self.checked("local", &path.to_string_lossy(), expected)
    }

    fn note(&self, text: &str) {
        self.calls.borrow_mut().push(format!("note {text}"));
    }

    fn is_present(&self, path: &Path) -> bool {
        let path = Path::new("/p").join(path);
        self.files.contains_key(&*path.to_string_lossy())
    }

    fn local_base(
        &self,
        path: &Path,
        expected: Option<Digest>,
        allow_backing_file: bool,
    ) -> Result<LocalBase> {
        let image = self.local(path, expected)?;
        let is_rewritten = allow_backing_file || path.extension() == Some("raw".as_ref());
        Ok(LocalBase {
            image,
            is_rewritten,
        })
    }

    fn members(&self, archive: &Digest, selection: &MemberSelection) -> Result<Unpacked> {
        self.calls.borrow_mut().push("members".to_owned());
        let mut unpacked = Unpacked::default();
        for (path, mode) in &self.archives[archive] {
            if selection.takes(path, *mode) {
                let member = StoredMember {
                    content: stored(path.as_bytes()),
                    mode: *mode,
                };
                unpacked.members.insert((*path).to_owned(), member);
            } else {
                unpacked.others.push((*path).to_owned());
            }
        }
        Ok(unpacked)
    }

    fn verify_checksums(
        &self,
        list: &[u8],
        signature: Option<&[u8]>,
        keyring: &Path,
        fingerprints: &[String],
    ) -> Result<VerifiedList> {
        assert_eq!(keyring, Path::new("keys.asc"));
        self.calls.borrow_mut().push(format!(
            "verify {} {}",
            if signature.is_some() {
                "detached"
            } else {
                "clear"
            },
            fingerprints.join(",")
        ));
        let Some(fingerprint) = self.signed_by else {
            return Err(Error::dependency("no good signature"));
        };
        Ok(VerifiedList {
            text: String::from_utf8_lossy(list).into_owned(),
            fingerprint: fingerprint.to_owned(),
        })
    }

    fn signer(&self, package: &Digest, keyrings: &[PathBuf]) -> Result<Signer> {
        if *package == digest(b"deb") {
            return Ok(Signer::NotInFormat);
        }
        if keyrings.is_empty() {
            return Ok(Signer::NotAsked);
        }
        self.calls.borrow_mut().push("signer".to_owned());
        let signer = self.signed_by.map(|key| Signer::Key(key.to_owned()));
        signer.ok_or_else(|| Error::dependency("no good signature"))
    }

    fn bootstrap(&self, wish: &Bootstrap, architecture: Architecture) -> Result<Bootstrapped> {
        let call = format!("bootstrap {} {architecture:?}", wish.suite);
        self.calls.borrow_mut().push(call);
        Ok(Bootstrapped {
            image: stored(wish.packages.join(" ").as_bytes()),
            packages: BTreeMap::from([("base-files".to_owned(), "12.4".to_owned())]),
        })
    }
}

/// Local components, all but the one that a test is about.
const LOCAL: [&str; 6] = [
    "kubectl",
    "runc",
    "ecr-credential-provider",
    "aws-iam-authenticator",
    "aws-signing-helper",
    "kubelet",
];

fn profile(base: &str, components: &[(&str, &str)]) -> Profile {
    let given = |name: &str| components.iter().any(|(other, _)| *other == name);
    // An empty source leaves the component to the catalogue.
    let named = components
        .iter()
        .filter(|(_, source)| !source.is_empty())
        .map(|(name, source)| format!("      {name}: {source}\n"));
    let local = LOCAL
        .into_iter()
        .filter(|name| !given(name))
        .map(|name| format!("      {name}: {{path: parts/{name}}}\n"));
    let in_base = ["containerd", "cni-plugins"]
        .into_iter()
        .filter(|name| !given(name))
        .map(|name| format!("      {name}: {{fromBase: true}}\n"));
    let components: String = named.chain(local).chain(in_base).collect();
    let text = format!(
        "apiVersion: nodekiln.dev/v1alpha1\nkind: ImageProfile\nmetadata: {{name: demo}}\nspec:\n  \
         base: {base}\n  credentialProvider: iam-ra\n  kubernetes:\n    version: 1.34.9\n    \
         components:\n{components}"
    );
    parse(&text, "p.yaml", &Overrides::default()).unwrap_or_else(|error| panic!("{text}{error}"))
}

fn fake() -> Fake {
    let fake = Fake::default().with("/p/base.qcow2", "base");
    LOCAL.iter().fold(fake, |fake, name| {
        fake.with(&format!("/p/parts/{name}"), *name)
    })
}

const BASE: &str = "{path: base.qcow2}";

fn run(profile: &Profile, previous: Option<&LockedProfile>, fake: &Fake) -> Result<LockedProfile> {
    run_upgrade(profile, previous, &Upgrade::Nothing, fake)
}

fn run_upgrade(
    profile: &Profile,
    previous: Option<&LockedProfile>,
    upgrade: &Upgrade,
    fake: &Fake,
) -> Result<LockedProfile> {
    resolve(profile, Path::new("/p"), previous, upgrade, fake)
}

#[test]
fn pins_local_files_once() {
    let (profile, fake) = (profile(BASE, &[]), fake());
    let locked = run(&profile, None, &fake).expect("resolves");
    assert_eq!(fake.called().len(), LOCAL.len() + 1);
    assert_eq!(locked.base.origin, Origin::Path("base.qcow2".to_owned()));
    assert_eq!(locked.base.trust, "local file");
    let kubelet = &locked.components[&ComponentName::Kubelet];
    assert_eq!(kubelet.file.sha256, digest(b"kubelet"));
    let member = &kubelet.members["kubelet"];
    assert_eq!(member.destination.as_str(), Some("/usr/bin/kubelet"));
    assert_eq!((member.mode.as_str(), member.size), ("0755", 7));
    assert!(!locked.components.contains_key(&ComponentName::Containerd));
    assert!(!locked.components.contains_key(&ComponentName::SsmSetupCli));
    assert!(is_current(&profile, &locked));

    assert_eq!(run(&profile, Some(&locked), &fake).expect("same"), locked);
    assert_eq!(fake.called_outside(), Vec::<String>::new());
    // Once they are pinned, the store has them.
    let gone = Fake::default();
    assert_eq!(run(&profile, Some(&locked), &gone).expect("same"), locked);
    assert_eq!(gone.called(), Vec::<String>::new());
}

#[test]
fn touches_only_what_changed() {
    let fake = fake()
        .published("https://example.org/kubelet", "new kubelet")
        .with("/p/other.qcow2", "other");
    let before = run(&profile(BASE, &[]), None, &fake).expect("resolves");
    fake.called();
    let changed = profile(BASE, &[("kubelet", "{url: 'https://example.org/kubelet'}")]);
    assert!(!is_current(&changed, &before));
    let after = run(&changed, Some(&before), &fake).expect("resolves");
    assert_eq!(
        fake.called_outside(),
        [
            "text https://example.org/kubelet.sha256",
            "download https://example.org/kubelet"
        ]
    );
    assert_eq!(after.base, before.base);
    assert_eq!(
        after.components[&ComponentName::Kubelet].file.trust,
        "checksum file https://example.org/kubelet.sha256"
    );

    let rebased = profile("{path: other.qcow2}", &[]);
    let after = run(&rebased, Some(&before), &fake).expect("resolves");
    assert!(fake.called().contains(&"local /p/other.qcow2".to_owned()));
    assert_eq!(after.components, before.components);
}

#[test]
fn upgrades_what_is_named() {
    let (profile, fake) = (profile(BASE, &[]), fake());
    let before = run(&profile, None, &fake).expect("resolves");
    fake.called();
    let fake = fake.with("/p/parts/runc", "newer runc");
    let runc = Upgrade::of_names(["runc"]).expect("known");
    let after = run_upgrade(&profile, Some(&before), &runc, &fake).expect("resolves");
    assert!(fake.called().contains(&"local /p/parts/runc".to_owned()));
    assert_eq!(
        after.components[&ComponentName::Runc].file.sha256,
        digest(b"newer runc")
    );
    let all = run_upgrade(&profile, Some(&before), &Upgrade::All, &fake).expect("resolves");
    assert_eq!(all, after);
    let containerd = Upgrade::of_names(["containerd"]).expect("known");
    let error = run_upgrade(&profile, Some(&before), &containerd, &fake).expect_err("from base");
    assert!(
        error
            .hint_text()
            .expect("hint")
            .contains("it pins: base, kubelet"),
        "{error}"
    );
}

#[test]
fn asks_the_catalogue() {
    let s3 = "https://s3.us-west-2.amazonaws.com/amazon-eks/1.34.9/2026-07-05/bin/linux/amd64";
    let runc = "https://github.com/opencontainers/runc/releases/download/v1.3.5";
    let ctr = "https://github.com/containerd/containerd/releases/download/v2.2.4/containerd-2.2.4-linux-amd64.tar.gz";
    let fake = fake()
        .published(&format!("{s3}/kubelet"), "eks kubelet")
        .with(&format!("{runc}/runc.amd64"), "upstream runc")
        .with(
            &format!("{runc}/runc.sha256sum"),
            format!(
                "{}  runc.arm64\n{}  runc.amd64\n",
                digest(b"x"),
                digest(b"upstream runc")
            ),
        )
        .with(ctr, "containerd.tgz")
        .with(
            &format!("{ctr}.sha256sum"),
            format!(
                "{}  containerd-2.2.4-linux-amd64.tar.gz\n",
                digest(b"containerd.tgz")
            ),
        )
        .archive(
            "containerd.tgz",
            &[
                ("bin/containerd", 0o755),
                ("bin/ctr", 0o755),
                ("README", 0o644),
            ],
        );
    let profile = profile(BASE, &[("kubelet", ""), ("runc", ""), ("containerd", "")]);
    let locked = run(&profile, None, &fake).expect("resolves");
    let containerd = &locked.components[&ComponentName::Containerd];
    assert_eq!(
        containerd.members.keys().collect::<Vec<_>>(),
        ["bin/containerd", "bin/ctr"]
    );
    assert_eq!(
        containerd.members["bin/ctr"].destination.as_str(),
        Some("/usr/bin/ctr")
    );
    assert_eq!(containerd.members["bin/ctr"].sha256, digest(b"bin/ctr"));

    // A pin of an older release stays until it is upgraded.
    let mut older = locked.clone();
    older.inputs = digest(b"changed");
    if let Some(runc) = older.components.get_mut(&ComponentName::Runc) {
        runc.file.origin = Origin::Url(
            "https://github.com/opencontainers/runc/releases/download/v1.2.0/runc.amd64".to_owned(),
        );
        runc.file.trust = "checksum file https://github.com/older".to_owned();
    }
    fake.called();
    let kept = run(&profile, Some(&older), &fake).expect("resolves");
    assert_eq!(fake.called_outside(), Vec::<String>::new());
    assert_eq!(kept.components, older.components);
    let upgraded = run_upgrade(&profile, Some(&older), &Upgrade::All, &fake).expect("resolves");
    assert_eq!(upgraded.components, locked.components);
}

#[test]
fn takes_members() {
    let members = [
        ("kubernetes/node/bin/kubelet", 0o755),
        ("kubernetes/LICENSE", 0o644),
    ];
    let fake = fake()
        .with("/p/node.tar.gz", "node")
        .archive("node", &members)
        .with("/p/cni.tgz", "cni")
        .archive(
            "cni",
            &[("usr/lib/cni/bridge", 0o755), ("usr/lib/cni/doc", 0o644)],
        );
    let source = |member: &str| format!("{{path: node.tar.gz, member: {member}}}");
    let good = source("./kubernetes/node/bin/kubelet");
    let cni = "{path: cni.tgz, member: usr/lib/cni/}";
    let good = profile(BASE, &[("kubelet", &good), ("cni-plugins", cni)]);
    let locked = run(&good, None, &fake).expect("resolves");
    let kubelet = &locked.components[&ComponentName::Kubelet];
    assert_eq!(kubelet.file.sha256, digest(b"node"));
    let member = &kubelet.members["kubernetes/node/bin/kubelet"];
    assert_eq!(member.destination.as_str(), Some("/usr/bin/kubelet"));
    let cni = &locked.components[&ComponentName::CniPlugins];
    assert_eq!(cni.members.len(), 1);
    assert_eq!(
        cni.members["usr/lib/cni/bridge"].destination.as_str(),
        Some("/opt/cni/bin/bridge")
    );

    // Another member of the same archive is another wish.
    let wrong = source("kubernetes/node/bin/kublet");
    let wrong = profile(BASE, &[("kubelet", &wrong)]);
    let error = run(&wrong, Some(&locked), &fake).expect_err("no such member");
    assert_eq!(error.class(), Class::Dependency);
    assert!(error.to_string().contains("from node.tar.gz"), "{error}");
    let hint = error.hint_text().expect("hint");
    assert!(hint.contains("kubernetes/node/bin/kubelet"), "{hint}");
}

#[test]
fn refuses_what_nothing_vouches_for() {
    let url = "https://example.org/kubelet";
    let other = digest(b"other");
    let first = digest(b"1");
    let second = digest(b"2");
    for (checksums, class, message) in [
        (None, Class::Dependency, "find the checksum"),
        (
            Some(format!("{other}\n")),
            Class::Dependency,
            "lock kubelet",
        ),
        (
            Some(format!("{other}  kubectl\n")),
            Class::Dependency,
            "find the checksum",
        ),
        (
            Some(format!("{first}\n{second}\n")),
            Class::Dependency,
            "find the checksum",
        ),
        (
            Some(format!("{first}  kubelet\n{second}  kubelet\n")),
            Class::Dependency,
            "find the checksum",
        ),
        (
            Some("<html>".to_owned()),
            Class::Dependency,
            "find the checksum",
        ),
    ] {
        let mut fake = fake().with(url, "kubelet");
        if let Some(text) = &checksums {
            fake = fake.with(&format!("{url}.sha256"), text);
        }
        let profile = profile(BASE, &[("kubelet", &format!("{{url: '{url}'}}"))]);
        let error = run(&profile, None, &fake).expect_err("not verified");
        assert_eq!(error.class(), class);
        assert!(error.message().contains(message), "{checksums:?}: {error}");
    }
    // A checksum file that cannot be reached is no missing one: trying again may
    // help, and the other components are not tried.
    let unreachable = profile(BASE, &[("kubelet", "{url: 'https://unreachable/kubelet'}")]);
    let error = run(&unreachable, None, &fake()).expect_err("unreachable");
    assert_eq!(error.class(), Class::Transient);
}

#[test]
fn reports_all_that_lack_a_checksum() {
    let source = |name: &str| format!("{{url: 'https://example.org/{name}'}}");
    let profile = profile(
        BASE,
        &[("kubelet", &source("kubelet")), ("runc", &source("runc"))],
    );
    let error = run(&profile, None, &fake()).expect_err("not verified");
    assert_eq!(error.others().len(), 1);
    let hint = error.hint_text().expect("hint");
    assert!(
        hint.contains("components.kubelet") && hint.contains("sha256"),
        "{hint}"
    );
}

#[test]
fn checks_digests_of_the_profile() {
    let url = "https://example.org/kubelet";
    let sha256 = digest(b"kubelet");
    let source = format!("{{url: '{url}', sha256: {sha256}}}");
    let good = profile(BASE, &[("kubelet", &source)]);
    let fake_good = fake().with(url, "kubelet");
    let locked = run(&good, None, &fake_good).expect("resolves");
    let file = &locked.components[&ComponentName::Kubelet].file;
    assert_eq!(file.trust, "sha256 in the profile");
    assert!(
        !fake_good
            .called()
            .iter()
            .any(|call| call.starts_with("text"))
    );
    let error = run(&good, None, &fake().with(url, "tampered")).expect_err("tampered");
    assert_eq!(error.class(), Class::Dependency);

    let without = profile(BASE, &[("kubelet", &format!("{{url: '{url}'}}"))]);
    run(&without, Some(&locked), &fake_good).expect_err("the profile vouches no more");
}

#[test]
fn refuses_http_before_it_asks() {
    // A profile that was not checked, as other callers might make it.
    let mut plain = profile(BASE, &[("kubelet", "{url: 'https://example.org/kubelet'}")]);
    let components = &mut plain.spec.kubernetes.components;
    if let Some(source) = components.get_mut(&ComponentName::Kubelet) {
        source.url = Some("http://example.org/kubelet".to_owned());
    }
    let fake = fake().published("http://example.org/kubelet", "kubelet");
    let error = run(&plain, None, &fake).expect_err("http");
    assert!(!fake.called().iter().any(|call| call.contains("http:")));
    assert_eq!(error.class(), Class::Input);
}

#[test]
fn needs_a_digest_for_what_has_none() {
    let mut profile = profile(BASE, &[("aws-signing-helper", "{omit: true}")]);
    profile.spec.credential_provider = crate::profile::model::CredentialProvider::Ssm;
    let error = run(&profile, None, &fake()).expect_err("no checksum");
    assert!(error.message().contains("ssm-setup-cli"), "{error}");
    assert!(
        error
            .hint_text()
            .expect("hint")
            .contains("`sha256sum` prints; for a base of Ubuntu or Debian take debian_")
    );
}

mod base;
mod local;
