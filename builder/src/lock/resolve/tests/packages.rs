//! Packages: their sums, and who signed them.

use super::*;
use crate::profile::model::PackageSource;

const URL: &str = "https://example.org/agent.rpm";

fn with_packages(packages: &[PackageSource]) -> Profile {
    let mut profile = profile(BASE, &[]);
    profile.spec.packages = packages.to_vec();
    profile
}

fn remote(content: &str) -> PackageSource {
    PackageSource {
        url: Some(URL.to_owned()),
        sha256: Some(digest(content.as_bytes()).to_string()),
        ..PackageSource::default()
    }
}

#[test]
fn a_debian_package_is_pinned_by_its_sum_alone() {
    let package = PackageSource {
        path: Some("agent.deb".into()),
        ..PackageSource::default()
    };
    let fake = fake().with("/p/agent.deb", "deb").with(URL, "deb");
    let listed = with_packages(&[package.clone(), remote("deb")]);
    let locked = run(&listed, None, &fake).expect("resolves");
    let trusts: Vec<&str> = locked
        .packages
        .iter()
        .map(|pin| pin.trust.as_str())
        .collect();
    assert_eq!(trusts, ["local file", "sha256 in the profile"]);
    fake.called();
    assert_eq!(run(&listed, Some(&locked), &fake).expect("same"), locked);
    assert_eq!(
        fake.called_outside(),
        [""; 0],
        "what is pinned is not fetched"
    );
    let upgrade = Upgrade::of_names(["packages"]).expect("known");
    run_upgrade(&listed, Some(&locked), &upgrade, &fake).expect("resolves");
    assert_eq!(fake.called_outside(), [format!("download {URL}")]);
    // Locks and digests from before packages stay as they are.
    let without = with_packages(&[]);
    let error = run_upgrade(&without, None, &upgrade, &fake).expect_err("none");
    assert!(error.to_string().contains("does not pin it"), "{error}");
    assert_eq!(
        crate::lock::inputs_digest(&without),
        crate::lock::inputs_digest(&profile(BASE, &[]))
    );

    let keys = vec!["keys.asc".into()];
    let asked = with_packages(&[PackageSource { keys, ..package }]);
    let error = run(&asked, None, &fake).expect_err("no signature in the format");
    assert!(
        error.to_string().contains("no signature of its own"),
        "{error}"
    );
}

#[test]
fn an_rpm_needs_a_signer_or_a_word_that_it_needs_none() {
    let mut fake = fake().with(URL, "rpm");
    let error = run(&with_packages(&[remote("rpm")]), None, &fake).expect_err("nobody");
    assert!(error.to_string().contains("whose signature"), "{error}");
    let unsigned = PackageSource {
        allow_unsigned: true,
        ..remote("rpm")
    };
    let unsigned = with_packages(&[unsigned]);
    let before = run(&unsigned, None, &fake).expect("resolves");
    assert_eq!(before.packages[0].trust, "sha256 in the profile");
    let signed = PackageSource {
        keys: vec!["keys.asc".into()],
        ..remote("rpm")
    };
    let signed = with_packages(&[signed]);
    // The pin of before does not do: nobody had looked at the signature.
    run(&signed, Some(&before), &fake).expect_err("not signed");
    fake.signed_by = Some("ABCD");
    let locked = run(&signed, Some(&before), &fake).expect("resolves");
    assert_eq!(
        locked.packages[0].trust,
        "sha256 in the profile, signed by ABCD"
    );
    fake.called();
    assert_eq!(run(&signed, Some(&locked), &fake).expect("same"), locked);
    assert!(fake.called().contains(&"signer".to_owned()));
}
