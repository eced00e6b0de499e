use super::*;

fn place(line: &str) -> Option<Result<Place, String>> {
    let field = |name: &str| match name {
        "product_serial" => Some("SN/0 1".to_owned()),
        "product_uuid" => Some("6b8a".to_owned()),
        _ => None,
    };
    SeedLine::read(line).map(|line| line.place(&field))
}

fn url(text: &str) -> Option<Result<Place, String>> {
    Some(Ok(Place::Url(text.into())))
}

fn file(text: &str) -> Option<Result<Place, String>> {
    Some(Ok(Place::File(text.into())))
}

#[test]
fn lines_of_boot_loaders_and_hypervisors() {
    for (line, expected) in [
        ("", None),
        ("quiet ds=ec2", None),
        ("ds=nocloudy;s=/a", None),
        ("xds=nocloud;s=/a", None),
        ("quiet ds=nocloud ro\n", Some(Ok(Place::Volume))),
        ("ds=nocloud-net", Some(Ok(Place::Volume))),
        ("ds=NoCloud;h=node-1;i=iid-1", Some(Ok(Place::Volume))),
        ("ds=nocloud;s=", Some(Ok(Place::Volume))),
        ("ds=nocloud;h;;=;s=/seed", file("/seed/user-data")),
        ("ds=nocloud;s=/seed/;h=a", file("/seed/user-data")),
        ("ds=nocloud;seedfrom=file:///seed", file("/seed/user-data")),
        ("\"ds=nocloud;s=/my seeds/\"", file("/my seeds/user-data")),
        ("ds=nocloud;s=/a/%s.txt", file("/a/user-data.txt")),
        ("ds=nocloud;s=/a?b", file("/a?b/user-data")),
        // As with cloud-init, the last counts, also behind what is for init.
        ("ds=nocloud;s=/a -- ds=nocloud;s=/b", file("/b/user-data")),
        (
            "ds=nocloud-net;s=http://10.0.2.2:8000",
            url("http://10.0.2.2:8000/user-data"),
        ),
        (
            "ds=nocloud;s=HTTPS://[::1]/x/",
            url("HTTPS://[::1]/x/user-data"),
        ),
        (
            "ds=nocloud;s=https://h/?file=",
            url("https://h/?file=user-data"),
        ),
        (
            "ds=nocloud;s=https://h/%s?node=__dmi.system-uuid__",
            url("https://h/user-data?node=6b8a"),
        ),
    ] {
        assert_eq!(place(line), expected, "{line}");
    }
}

#[test]
fn what_the_firmware_says_leads_to_no_other_place() {
    assert_eq!(
        place("ds=nocloud;s=http://h/__dmi.system-serial-number__/"),
        url("http://h/SN%2F0%201/user-data")
    );
    assert_eq!(
        place("ds=nocloud;s=/seeds/__dmi.system-serial-number__"),
        file("/seeds/SN_0 1/user-data")
    );
    // Unknown names stay, known ones that are not set are empty.
    assert_eq!(
        place("ds=nocloud;s=/__dmi.what__/__dmi.bios-vendor__x"),
        file("/__dmi.what__/x/user-data")
    );
}

#[test]
fn other_places_are_refused_without_their_secrets() {
    for seed_from in [
        "ftp://me:s3cr3t@h/",
        "seed",
        "file://seed/",
        "\u{e9}\u{e9}\u{e9}\u{e9}",
    ] {
        let problem = place(&format!("ds=nocloud;s={seed_from}"))
            .unwrap()
            .unwrap_err();
        assert!(problem.starts_with("`s=` names neither"), "{problem}");
        assert!(!problem.contains("s3cr3t"), "{problem}");
    }
    assert_eq!(
        shown("https://me:s3cr3t@h:1/a/b?c=s3cr3t#d"),
        "https://h:1/a/b"
    );
    assert_eq!(shown("https://h?c=s3cr3t"), "https://h");
    assert_eq!(shown("/a\u{1b}b"), "/a?b");
}
