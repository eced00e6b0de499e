//! What the command line takes, and how it tells what is wrong.

use std::fs;

use nodekiln_tests::first_boot::program;
use serde_json::Value;
use tempfile::TempDir;

use crate::{firstboot, node_config, pipe, text};

#[test]
fn checking_tells_all_problems_with_their_places() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("config.yaml");
    let bad = node_config("--hostname-override=x").replace("    name: farm\n", "    nmae: farm\n");
    fs::write(&config, bad).unwrap();
    let output = firstboot(&["check", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("line 5, column 5: "), "{said}");
    assert!(output.stdout.is_empty());

    let output = firstboot(&["check", "--json", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["valid"], false);
    assert_eq!(value["problems"][0]["line"], 5);

    let output = pipe(
        program().to_str().unwrap(),
        &["check", "--config", "-"],
        node_config("--v=4").as_bytes(),
    );
    assert_eq!(
        text(&output.stdout),
        "the NodeConfig is valid\n",
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn wrong_usage_is_told() {
    for (arguments, said) in [
        (&[][..], "no command is given"),
        (&["jion"], "there is no command \"jion\""),
        (&["check"], "--config FILE is missing"),
        (&["check", "--config"], "--config needs a value"),
        (
            &["check", "--config=a", "--config=b"],
            "--config is given twice",
        ),
        (&["check", "--root=/"], "check does not take \"--root\""),
        (&["status", "--json=yes"], "--json takes no value"),
        (
            &["check", "--config", "/no/such/file"],
            "reading /no/such/file: ",
        ),
    ] {
        let output = firstboot(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            text(&output.stderr).starts_with(&format!("error: {said}")),
            "{}",
            text(&output.stderr)
        );
    }
    for arguments in [&["--help"][..], &["run", "--help"], &["--version"]] {
        assert!(firstboot(arguments).status.success(), "{arguments:?}");
    }
    let help = text(&firstboot(&["--help"]).stdout);
    assert!(help.lines().all(|line| line.chars().count() <= 80));
}
