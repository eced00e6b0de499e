//! The profiles that come along.

use super::*;

/// A version of Kubernetes for each minor one of the catalogue.
fn versions() -> impl Iterator<Item = String> {
    (crate::catalog::OLDEST_MINOR..=crate::catalog::NEWEST_MINOR).map(|minor| {
        let defaults = crate::catalog::defaults(&format!("1.{minor}.0"));
        defaults.expect("in the catalogue").kubernetes.to_string()
    })
}

#[test]
fn the_profile_that_init_writes_is_good() {
    let text = include_str!("../../../../profiles/example.yaml");
    let profile = parse(text, "example.yaml", &Overrides::default())
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(profile.spec.base.checksums.is_some());
    assert!(!text.contains("../"));
}

#[test]
fn the_profiles_of_ubuntu_are_good_for_every_version_and_architecture() {
    for text in [
        include_str!("../../../../profiles/ubuntu-20.04.yaml"),
        include_str!("../../../../profiles/ubuntu-22.04.yaml"),
        include_str!("../../../../profiles/ubuntu-24.04.yaml"),
    ] {
        for version in versions() {
            for (arch, of_ubuntu) in [("x86_64", "-amd64.img"), ("arm64", "-arm64.img")] {
                let words = [
                    format!("arch={arch}"),
                    format!("kubernetes={version}"),
                    "credentials=ssm".to_owned(),
                ];
                let overrides = Overrides::from_words(words.iter().map(String::as_str));
                let profile = parse(text, "ubuntu.yaml", &overrides.expect("words"))
                    .unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(profile.spec.architecture.name(), arch);
                assert_eq!(profile.spec.kubernetes.version, version);
                let url = profile.spec.base.url.expect("a URL");
                assert!(url.ends_with(of_ubuntu), "{url}");
            }
        }
    }
}

#[test]
fn the_profiles_of_amazon_and_red_hat_are_good_for_every_version_and_architecture() {
    for (name, text) in [
        ("al2023", include_str!("../../../../profiles/al2023.yaml")),
        ("rhel-8", include_str!("../../../../profiles/rhel-8.yaml")),
        ("rhel-9", include_str!("../../../../profiles/rhel-9.yaml")),
    ] {
        for version in versions() {
            for (arch, sha256) in [("x86_64", String::new()), ("arm64", "a".repeat(64))] {
                let words = [
                    format!("arch={arch}"),
                    format!("kubernetes={version}"),
                    "credentials=ssm".to_owned(),
                    "image=/srv/base.qcow2".to_owned(),
                    format!("sha256={sha256}"),
                ];
                let overrides = Overrides::from_words(words.iter().map(String::as_str));
                let profile = parse(text, name, &overrides.expect("words"))
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(profile.metadata.name, name);
                assert_eq!(profile.spec.architecture.name(), arch);
                assert_eq!(profile.spec.kubernetes.version, version);
                let base = profile.spec.base;
                assert_eq!(base.path.expect("a path"), Path::new("/srv/base.qcow2"));
                assert_eq!(base.sha256.unwrap_or_default(), sha256);
            }
        }
        let error = parse(text, name, &Overrides::default()).expect_err("no image");
        assert!(error.to_string().contains("image"), "{error}");
    }
}

/// What a system boots into by itself, its profile says otherwise where the kubelet of a
/// later version would not start.
#[test]
fn every_profile_of_a_system_with_cgroups_v1_asks_for_v2() {
    for (system, version, text) in [
        (
            "rhel",
            "8",
            include_str!("../../../../profiles/rhel-8.yaml"),
        ),
        (
            "rhel",
            "9",
            include_str!("../../../../profiles/rhel-9.yaml"),
        ),
        (
            "amzn",
            "2023",
            include_str!("../../../../profiles/al2023.yaml"),
        ),
        (
            "ubuntu",
            "20.04",
            include_str!("../../../../profiles/ubuntu-20.04.yaml"),
        ),
    ] {
        let overrides = Overrides::from_words(["image=x"]);
        let known = text.contains("    image:");
        let overrides = if known {
            overrides.expect("words")
        } else {
            Overrides::default()
        };
        let profile = parse(text, "p.yaml", &overrides).unwrap_or_else(|error| panic!("{error}"));
        let release = crate::os::System::of(system).and_then(|it| it.release(version));
        let by_itself = release.expect("supported").cgroups;
        let arguments = profile.spec.kernel.command_line.iter().map(String::as_str);
        assert_eq!(
            by_itself.with_arguments(arguments),
            crate::os::Cgroups::V2,
            "{system} {version}"
        );
    }
}
