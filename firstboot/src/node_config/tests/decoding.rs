use std::io::Write as _;

use base64::Engine as _;

use super::*;

fn base64(bytes: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    lines.join("\n")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn mime(parts: &[&str]) -> String {
    let mut text =
        "MIME-Version: 1.0\nContent-Type: multipart/mixed;\n boundary=\"==B==\"\n\npreamble\n"
            .to_owned();
    for part in parts {
        text += &format!("--==B==\n{part}\n");
    }
    text + "--==B==--\nepilogue\n"
}

fn texts(bytes: &[u8]) -> Vec<String> {
    decode(bytes)
        .unwrap()
        .parts
        .into_iter()
        .map(|part| part.text)
        .collect()
}

#[test]
fn all_wrappings_give_the_same_text() {
    let text = hybrid();
    let plain = text.as_bytes();
    let part = format!("Content-Type: application/node.eks.aws\n\n{text}");
    let encoded = format!(
        "Content-Type: application/node.eks.aws; charset=utf-8\nContent-Transfer-Encoding: base64\n\n{}\n",
        base64(plain)
    );
    let printable = format!(
        "Content-Type: application/node.eks.aws\nContent-Transfer-Encoding: Quoted-Printable\n\n{}",
        text.replace('=', "=3D")
            .replace("farm", "fa=\nrm=20")
            .replace("farm=20", "farm")
    );
    let silent = format!(
        "Content-Type: Application/Node.EKS.aws\n\n{}\n",
        base64(&gzip(plain))
    );
    for (name, bytes) in [
        ("plain", plain.to_vec()),
        ("with a byte order mark", [b"\xef\xbb\xbf", plain].concat()),
        ("base64", base64(plain).into_bytes()),
        ("gzip", gzip(plain)),
        ("base64 of gzip", base64(&gzip(plain)).into_bytes()),
        ("gzip of base64", gzip(base64(plain).as_bytes())),
        ("MIME", mime(&[&part]).into_bytes()),
        (
            "MIME with CRLF",
            mime(&[&part]).replace('\n', "\r\n").into_bytes(),
        ),
        (
            "MIME after an mbox line",
            format!("From nobody Thu\n{}", mime(&[&part])).into_bytes(),
        ),
        ("MIME with base64", mime(&[&encoded]).into_bytes()),
        (
            "MIME with quoted-printable",
            mime(&[&printable]).into_bytes(),
        ),
        (
            "MIME with undeclared base64 and gzip",
            mime(&[&silent]).into_bytes(),
        ),
        ("gzip of MIME", gzip(mime(&[&part]).as_bytes())),
        ("one MIME part alone", part.clone().into_bytes()),
    ] {
        let config = load(&bytes)
            .unwrap_or_else(|problems| panic!("{name}: {problems:?}"))
            .config;
        assert_eq!(config.spec.cluster.region, "eu-central-1", "{name}");
        assert_eq!(config.spec.cluster.cidr, "10.100.0.0/16", "{name}");
        assert_eq!(texts(&bytes).len(), 1, "{name}");
    }
    assert_eq!(texts(plain), std::slice::from_ref(&text));
    assert_eq!(texts(base64(plain).as_bytes()), [text]);
}

#[test]
fn parts_keep_their_order_and_others_are_named() {
    let part = |spec: &str| {
        format!(
            "Content-Type: application/node.eks.aws\n\n{}",
            with_spec(spec)
        )
    };
    let inner = mime(&[&part("  cluster: {name: c}")]).replace("==B==", "inner");
    let message = mime(&[
        &part("  cluster: {name: a, region: eu-central-1}"),
        "Content-Type: text/cloud-config\n\n#cloud-config\n",
        "no header at all",
        &part("  cluster: {name: b}"),
        &inner,
    ]);
    // Without a header the first line of a part is taken for one, and is none.
    assert!(decode(message.as_bytes()).is_err());
    let message = message.replace("no header at all", "\nno header at all");
    let decoded = decode(message.as_bytes()).unwrap();
    let origins: Vec<&str> = decoded
        .parts
        .iter()
        .map(|part| part.origin.as_str())
        .collect();
    assert_eq!(origins, ["MIME part 1", "MIME part 4", "MIME part 5.1"]);
    assert_eq!(decoded.skipped, ["text/cloud-config", "(without a type)"]);
    assert_eq!(
        load(message.as_bytes()).unwrap().config.spec.cluster.name,
        "c"
    );
}

#[test]
fn other_user_data_is_named() {
    for (text, seen) in [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("#!/bin/sh\n", "it is a script"),
        (
            "#cloud-config\npackages: []\n",
            "it is a #cloud-config document",
        ),
        (
            "#cloud-config\nwrite_files:\n- content: |\n    kind: NodeConfig\n",
            "it is a #cloud-config document; a NodeConfig within it is for whoever runs it, and not read here",
        ),
        (
            "{\"ignition\": {\"version\": \"3.0.0\"}}",
            "it is text that has neither `apiVersion: node.eks.aws/v1alpha1` nor `kind: NodeConfig`",
        ),
    ] {
        assert_eq!(
            decode(text.as_bytes()),
            Err(DecodeError::NoNodeConfig(seen.to_owned())),
            "{text}"
        );
    }
    let message = mime(&["Content-Type: text/x-shellscript\n\n#!/bin/sh\n"]);
    assert_eq!(
        decode(message.as_bytes()).unwrap_err().to_string(),
        "no NodeConfig in the user data: its MIME parts are text/x-shellscript"
    );
    // A misspelt NodeConfig is not passed over.
    assert!(decode(b"apiVersion: node.eks.aws/v1\nkind: Nodeconfig\n").is_ok());
}

#[test]
fn damaged_messages_are_refused_and_no_part_is_lost() {
    let part = format!(
        "Content-Type: application/node.eks.aws\n\n{}",
        with_spec("  cluster: {}")
    );
    let good = mime(&[&part, &part]);
    assert_eq!(decode(good.as_bytes()).unwrap().parts.len(), 2);
    for (name, text, expected) in [
        (
            "cut off",
            good.replace("--==B==--", ""),
            "no closing boundary",
        ),
        (
            "closed early",
            good.replacen("--==B==\n", "--==B==--\n", 1),
            "after the closing boundary",
        ),
        (
            "a part behind the end",
            good.replace(
                "epilogue",
                "Content-Type: application/node.eks.aws\n\nkind: NodeConfig",
            ),
            "begins a part after the closing boundary",
        ),
        (
            "another boundary",
            good.replace(" boundary=\"==B==\"", " boundary=x"),
            "is not in its body",
        ),
        (
            "no boundary",
            good.replace(" boundary=\"==B==\"", " x=y"),
            "names no boundary",
        ),
        (
            "open quotation",
            good.replace("==B==\"\n", "==B==\n"),
            "open quotation",
        ),
        (
            "bad type",
            good.replace("application/node.eks.aws", "application"),
            "cannot be read",
        ),
        (
            "unknown encoding",
            good.replace(
                "node.eks.aws\n\n",
                "node.eks.aws\nContent-Transfer-Encoding: rot13\n\n",
            ),
            "`rot13` is not known",
        ),
        (
            "bad base64",
            good.replace(
                "node.eks.aws\n\n",
                "node.eks.aws\nContent-Transfer-Encoding: base64\n\n",
            ),
            "base64 is damaged",
        ),
        (
            "no text",
            good.replace("kind", "k\u{1}nd").replace('\u{1}', "\0"),
            "",
        ),
    ] {
        match decode(text.as_bytes()) {
            Err(error) => assert!(error.to_string().contains(expected), "{name}: {error}"),
            Ok(_) => assert_eq!(name, "no text"),
        }
    }
    assert!(matches!(
        decode(b"kind: NodeConfig\n\xff"),
        Err(DecodeError::Broken(_))
    ));
}

#[test]
fn bombs_and_floods_are_refused() {
    assert_eq!(
        decode(&vec![b'#'; MAXIMUM_USER_DATA + 1]),
        Err(DecodeError::TooLarge)
    );
    let zeros = gzip(&vec![0; MAXIMUM_USER_DATA + 1]);
    assert_eq!(decode(&zeros), Err(DecodeError::TooLarge));
    // Three million blanks in three thousand bytes.
    let blanks = gzip(&vec![b' '; 3 << 20]);
    assert_eq!(decode(&blanks), Err(DecodeError::TooLarge));
    let mut layers = hybrid().into_bytes();
    for _ in 0..5 {
        layers = gzip(&layers);
    }
    assert!(matches!(decode(&layers), Err(DecodeError::Broken(_))));
    let whole = gzip(hybrid().as_bytes());
    assert!(matches!(
        decode(&whole[..whole.len() / 2]),
        Err(DecodeError::Broken(_))
    ));
    let many = mime(&vec!["Content-Type: text/plain\n\nx"; 300]);
    assert!(matches!(
        decode(many.as_bytes()),
        Err(DecodeError::Broken(_))
    ));
    let problem: Problem = DecodeError::TooLarge.into();
    assert_eq!(problem.message, "the user data is larger than 16 MiB");
}
