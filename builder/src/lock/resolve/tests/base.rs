//! Bases by a signed list, and bootstrapped ones.

use super::*;

#[test]
fn verifies_a_base_by_a_signed_list() {
    let image = "https://example.org/noble.img";
    let sums = "https://example.org/SHA256SUMS";
    let list = format!(
        "{} *noble.img\n{} *other.img\n",
        digest(b"noble"),
        digest(b"other")
    );
    let base = format!(
        "{{url: '{image}', checksums: {{url: '{sums}', keyring: keys.asc, fingerprints: ['{}']}}}}",
        "ab".repeat(20)
    );
    let profile = profile(&base, &[]);
    let mut fake = fake()
        .with(image, "noble")
        .with(sums, &list)
        .with(&format!("{sums}.gpg"), "signature");
    let error = run(&profile, None, &fake).expect_err("not signed");
    assert_eq!(error.class(), Class::Dependency);
    assert!(!fake.called().contains(&format!("download {image}")));

    fake.signed_by = Some("ABCD");
    let locked = run(&profile, None, &fake).expect("resolves");
    assert_eq!(locked.base.trust, "SHA256SUMS signed by ABCD");
    assert_eq!(locked.base.sha256, digest(b"noble"));
    let verified = format!("verify detached {}", "AB".repeat(20));
    assert!(fake.called().contains(&verified));

    let clear = format!("-----BEGIN PGP SIGNED MESSAGE-----\n\n{list}");
    let fake = fake.with(sums, clear);
    run(&profile, None, &fake).expect("resolves");
    assert!(
        fake.called()
            .iter()
            .any(|call| call.starts_with("verify clear"))
    );

    let fake = fake.with(image, "tampered");
    let error = run(&profile, None, &fake).expect_err("tampered");
    assert_eq!(error.class(), Class::Dependency);
    let bare = self::profile(&format!("{{url: '{image}'}}"), &[]);
    let error = run(&bare, None, &fake).expect_err("nothing vouches");
    assert!(error.hint_text().expect("hint").contains("checksums"));
}

#[test]
fn bootstraps_only_when_the_base_changes() {
    let base =
        |packages: &str| format!("{{bootstrap: {{suite: bookworm, packages: [{packages}]}}}}");
    let fake = fake();
    let first = profile(&base("runc"), &[]);
    let locked = run(&first, None, &fake).expect("resolves");
    assert_eq!(locked.base.trust, "bootstrapped");
    assert!(
        fake.called()
            .contains(&"bootstrap bookworm X86_64".to_owned())
    );
    let other = profile(&base("runc"), &[("kubectl", "{omit: true}")]);
    run(&other, Some(&locked), &fake).expect("resolves");
    assert_eq!(fake.called_outside(), Vec::<String>::new());
    let more = profile(&base("runc, containerd"), &[]);
    run(&more, Some(&locked), &fake).expect("resolves");
    assert_eq!(fake.called_outside(), ["bootstrap bookworm X86_64"]);
}
