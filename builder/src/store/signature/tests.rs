//! Keys and signatures by GnuPG, a program that is not ours.

use std::path::{Path, PathBuf};

use super::*;
use crate::error::Class;
use crate::task::Task;

const LIST: &[u8] = b"0000  one.img\n1111  *two.img\n";
const DAY: Duration = Duration::from_hours(24);

/// A GnuPG home of its own.
struct Gpg {
    home: tempfile::TempDir,
}

impl Gpg {
    fn new() -> Self {
        // Its sockets want a short path.
        let home = tempfile::Builder::new()
            .prefix("gpg")
            .tempdir_in("/tmp")
            .expect("temporary folder");
        Self { home }
    }

    fn run(&self, arguments: &[&str]) -> Vec<u8> {
        Task::new("gpg")
            .arg("--homedir")
            .arg(self.home.path())
            .args([
                "--batch",
                "--yes",
                "--quiet",
                "--pinentry-mode",
                "loopback",
                "--passphrase",
                "",
            ])
            .args(arguments)
            .output()
            .expect("gpg")
    }

    /// Makes a key and gives its fingerprint.
    fn key(&self, name: &str, algorithm: &str, usage: &str, expires: &str) -> String {
        self.run(&["--quick-generate-key", name, algorithm, usage, expires]);
        let listing = self.run(&["--with-colons", "--list-keys", &format!("={name}")]);
        String::from_utf8(listing)
            .expect("text")
            .lines()
            .find_map(|line| line.strip_prefix("fpr:"))
            .expect("a fingerprint")
            .trim_matches(':')
            .to_owned()
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, content).expect("own");
        path
    }

    fn sign(&self, key: &str, options: &[&str]) -> Vec<u8> {
        let list = self.file("list", LIST);
        let mut arguments = vec!["--local-user", key, "--output", "-"];
        arguments.extend(options);
        let path = list.display().to_string();
        arguments.push(&path);
        self.run(&arguments)
    }

    fn keyring(&self) -> Vec<u8> {
        self.run(&["--export", "--armor"])
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        Task::new("gpgconf")
            .arg("--homedir")
            .arg(self.home.path() as &Path)
            .args(["--kill", "all"])
            .run()
            .ok();
    }
}

fn check(list: &[u8], signature: Option<&[u8]>, keyring: &[u8]) -> Result<VerifiedList> {
    verify(list, signature, keyring, &[], SystemTime::now())
}

fn reason(result: Result<VerifiedList>) -> String {
    let error = result.expect_err("must not count");
    assert_eq!(error.class(), Class::Dependency);
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    format!("{error}: {}", cause.unwrap_or_default())
}

#[test]
fn takes_good_signatures_of_every_form() {
    let gpg = Gpg::new();
    let ed = gpg.key("ed", "ed25519", "sign", "1y");
    let rsa = gpg.key("rsa", "rsa2048", "sign", "never");
    let keyring = gpg.keyring();
    for key in [&ed, &rsa] {
        for options in [
            &["--detach-sign"][..],
            &["--detach-sign", "--armor"],
            &["--detach-sign", "--textmode"],
        ] {
            let signature = gpg.sign(key, options);
            let found = check(LIST, Some(&signature), &keyring).expect("good");
            assert_eq!(&found.fingerprint, key);
            assert_eq!(found.text.as_bytes(), LIST);
        }
        let clear = gpg.sign(key, &["--clear-sign"]);
        let found = check(&clear, None, &keyring).expect("good");
        assert_eq!(&found.fingerprint, key);
        assert_eq!(
            found.text.trim_end(),
            String::from_utf8_lossy(LIST).trim_end()
        );
    }
    let binary = gpg.run(&["--export"]);
    let signature = gpg.sign(&ed, &["--detach-sign"]);
    check(LIST, Some(&signature), &binary).expect("binary keyring");
}

#[test]
fn refuses_tampered_texts_and_signatures() {
    let gpg = Gpg::new();
    let key = gpg.key("signer", "ed25519", "sign", "never");
    let keyring = gpg.keyring();
    let signature = gpg.sign(&key, &["--detach-sign"]);
    let tampered = [LIST, b"2222  three.img\n"].concat();
    assert!(reason(check(&tampered, Some(&signature), &keyring)).contains("not its own"));
    let clear = String::from_utf8(gpg.sign(&key, &["--clear-sign"])).expect("text");
    let swapped = clear.replace("0000", "0001");
    reason(check(swapped.as_bytes(), None, &keyring));
    // What stands outside the armour was never signed.
    let around = format!("9999  evil.img\n{clear}");
    reason(check(around.as_bytes(), None, &keyring));
    let after = format!("{clear}\n9999  evil.img\n");
    if let Ok(found) = check(after.as_bytes(), None, &keyring) {
        assert!(!found.text.contains("evil"));
    }
    for position in 0..signature.len() {
        let mut damaged = signature.clone();
        damaged[position] ^= 0x10;
        // Only unhashed hints about the issuer may change without harm.
        if let Ok(found) = check(LIST, Some(&damaged), &keyring) {
            assert_eq!(found.fingerprint, key);
        }
    }
    for garbage in [&b""[..], b"garbage", &signature[..20]] {
        reason(check(LIST, Some(garbage), &keyring));
    }
    reason(check(LIST, None, &keyring));
}

#[test]
fn trusts_only_the_keys_that_may_sign() {
    let gpg = Gpg::new();
    let good = gpg.key("good", "ed25519", "sign", "never");
    let other = gpg.key("other", "ed25519", "sign", "never");
    let keyring = gpg.keyring();
    let by_other = gpg.sign(&other, &["--detach-sign"]);
    let now = SystemTime::now();
    let spaced = format!("{} {}", &good[..20], good[20..].to_lowercase());
    let result = verify(
        LIST,
        Some(&by_other),
        &keyring,
        std::slice::from_ref(&spaced),
        now,
    );
    reason(result);
    let by_good = gpg.sign(&good, &["--detach-sign"]);
    verify(LIST, Some(&by_good), &keyring, &[spaced], now).expect("good");
    for bad in ["DEADBEEF", "0123456789ABCDEF", "", &"0".repeat(40)] {
        let error = verify(LIST, Some(&by_good), &keyring, &[bad.to_owned()], now)
            .expect_err("no such key");
        assert_eq!(error.class(), Class::Input, "{bad}");
    }
    let stranger = Gpg::new();
    stranger.key("stranger", "ed25519", "sign", "never");
    reason(check(LIST, Some(&by_good), &stranger.keyring()));
    let error = check(LIST, Some(&by_good), b"no keys").expect_err("no keyring");
    assert_eq!(error.class(), Class::Input);
}

#[test]
fn watches_the_clock() {
    let gpg = Gpg::new();
    let short = gpg.key("short", "ed25519", "sign", "10d");
    let long = gpg.key("long", "ed25519", "sign", "never");
    let keyring = gpg.keyring();
    let now = SystemTime::now();
    let at = |signature: &[u8], time| verify(LIST, Some(signature), &keyring, &[], time);
    let by_short = gpg.sign(&short, &["--detach-sign"]);
    at(&by_short, now + DAY * 9).expect("not yet expired");
    assert!(reason(at(&by_short, now + DAY * 11)).contains("expired"));
    let limited = gpg.sign(&long, &["--detach-sign", "--default-sig-expire", "5d"]);
    at(&limited, now + DAY * 4).expect("not yet expired");
    assert!(reason(at(&limited, now + DAY * 6)).contains("expired"));
    assert!(reason(at(&limited, now - DAY * 3)).contains("future"));
}

#[test]
fn refuses_revoked_keys_and_weak_hashes() {
    let gpg = Gpg::new();
    let key = gpg.key("signer", "rsa2048", "sign", "never");
    let before = gpg.keyring();
    let weak = gpg.sign(&key, &["--digest-algo", "SHA1", "--detach-sign"]);
    assert!(reason(check(LIST, Some(&weak), &before)).contains("too weak"));
    let signature = gpg.sign(&key, &["--detach-sign"]);
    check(LIST, Some(&signature), &before).expect("not revoked yet");
    let revocation = gpg.home.path().join(format!("openpgp-revocs.d/{key}.rev"));
    // GnuPG puts a colon in front so that nobody imports it by mistake.
    let text = std::fs::read_to_string(&revocation)
        .expect("made with the key")
        .replace(":-----BEGIN", "-----BEGIN");
    let path = gpg.file("revocation", text.as_bytes());
    gpg.run(&["--import", &path.display().to_string()]);
    assert!(reason(check(LIST, Some(&signature), &gpg.keyring())).contains("revoked"));
}

#[test]
fn takes_subkeys_for_what_they_are_bound_for() {
    let gpg = Gpg::new();
    let primary = gpg.key("primary", "ed25519", "cert", "never");
    gpg.run(&["--quick-add-key", &primary, "ed25519", "sign", "20d"]);
    let signature = gpg.sign(&primary, &["--detach-sign"]);
    let found = check(LIST, Some(&signature), &gpg.keyring()).expect("by the subkey");
    assert_eq!(found.fingerprint, primary);
    let late = SystemTime::now() + DAY * 21;
    let result = verify(LIST, Some(&signature), &gpg.keyring(), &[], late);
    assert!(reason(result).contains("expired"));
}
