use base64::Engine as _;

use super::super::pretended::Around;
use super::super::source::GUESTINFO;
use super::*;

const CONFIG: &str =
    "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {cluster: {name: a}}\n";
const DATA: &str = "vmware-rpctool info-get guestinfo.userdata";
const ENCODED: &str = "vmware-rpctool info-get guestinfo.userdata.encoding";

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn compressed(text: &str) -> Vec<u8> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    flate2::read::GzEncoder::new(text.as_bytes(), flate2::Compression::best())
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

/// A hypervisor that says this.
fn hypervisor(value: &str, encoding: Option<&str>) -> Around {
    let around = Around::default().program(DATA, true, &format!("{value}\n"), "");
    match encoding {
        Some(encoding) => around.program(ENCODED, true, &format!("{encoding}\n"), ""),
        None => around.program(ENCODED, false, "", "No value found\n"),
    }
}

fn unusable(around: &Around) -> (String, bool) {
    match ask(around) {
        Answer::Unusable {
            problem, may_pass, ..
        } => (problem, may_pass),
        other => panic!("{other:?}"),
    }
}

fn cluster(around: &Around) -> String {
    let Answer::Config { documents, .. } = ask(around) else {
        panic!("{:?}", ask(around))
    };
    let parsed = crate::node_config::load(&documents[0].bytes).unwrap();
    parsed.config.spec.cluster.name
}

#[test]
fn every_encoding_is_read() {
    let text = base64(CONFIG.as_bytes());
    let zipped = base64(&compressed(CONFIG));
    for (value, encoding) in [
        (CONFIG, None),
        (CONFIG, Some("")),
        (text.as_str(), Some("base64")),
        (&text, Some("b64")),
        // cloud-init would not decode this; here user data may be wrapped anyway.
        (&text, None),
        (&zipped, Some("gzip+base64")),
        (&zipped, Some("gz+b64")),
        (&zipped, Some("GZ+B64 ")),
    ] {
        assert_eq!(cluster(&hypervisor(value, encoding)), "a", "{encoding:?}");
    }
}

#[test]
fn a_wrong_encoding_is_told() {
    for (value, encoding, told) in [
        ("not base64!", "base64", "is no base64"),
        ("abc", "b64", "is no base64"),
        (&base64(CONFIG.as_bytes()), "gz+b64", "is not compressed"),
        (
            CONFIG,
            "rot13",
            "guestinfo.userdata.encoding is not known: rot13",
        ),
    ] {
        let (problem, may_pass) = unusable(&hypervisor(value, Some(encoding)));
        assert!(!may_pass && problem.contains(told), "{problem}");
    }
    let (problem, _) = unusable(&hypervisor("apiVersion: \u{fffd}", None));
    assert!(problem.ends_with("is no UTF-8 text"), "{problem}");
    let damaged = base64(&compressed(CONFIG)[..30]);
    let (problem, _) = unusable(&hypervisor(&damaged, Some("gz+b64")));
    assert!(problem.contains("gzip data is damaged"), "{problem}");
}

#[test]
fn no_value_is_nothing() {
    for around in [
        hypervisor("---", None),
        hypervisor("", None),
        Around::default().program(DATA, false, "", "No value found\n"),
        Around::default(),
        hypervisor("#cloud-config\n", None),
    ] {
        assert!(matches!(ask(&around), Answer::Nothing(_)));
    }
    let around = Around::default();
    let _ = ask(&around);
    let asked: Vec<String> = around.commands.borrow().iter().map(Task::line).collect();
    assert_eq!(asked, [DATA, "vmtoolsd --cmd info-get guestinfo.userdata"]);
}

#[test]
fn the_other_program_is_asked_when_one_fails_or_hangs() {
    let second = |around: Around| {
        around
            .program(
                "vmtoolsd --cmd info-get guestinfo.userdata",
                true,
                CONFIG,
                "",
            )
            .program(
                "vmtoolsd --cmd info-get guestinfo.userdata.encoding",
                false,
                "",
                "No value found",
            )
    };
    assert_eq!(cluster(&second(Around::default())), "a");
    let failing = Around::default().program(DATA, false, "", "Failed sending message\n");
    let (problem, may_pass) = unusable(&failing);
    assert!(may_pass);
    assert_eq!(problem, "vmware-rpctool fails: Failed sending message");
    assert_eq!(cluster(&second(failing)), "a");
    let mut hanging = second(Around::default());
    hanging.hanging.push("vmware-rpctool");
    assert_eq!(cluster(&hanging), "a");
    hanging.hanging.push("vmtoolsd");
    let (problem, may_pass) = unusable(&hanging);
    assert!(may_pass);
    assert_eq!(
        problem,
        "vmware-rpctool did not end within 5 s; vmtoolsd did not end within 5 s"
    );
    assert!(hanging.time.get() <= 2 * GUESTINFO);
}

#[test]
fn megabytes_of_output_are_refused_and_never_cut_off() {
    let most = MAXIMUM_FILE as usize;
    let padded = format!("{CONFIG}#{}", "x".repeat(most - CONFIG.len() - 1));
    let exact = Around::default().program(DATA, true, &padded, "").program(
        ENCODED,
        false,
        "",
        "No value found",
    );
    assert!(matches!(ask(&exact), Answer::Config { .. }));
    let (problem, may_pass) = unusable(&hypervisor(&format!("{padded}x"), None));
    assert!(!may_pass);
    assert_eq!(problem, "guestinfo.userdata is larger than 16 MiB");
}
