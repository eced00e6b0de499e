//! Values in the little languages of the files.

/// Whether a text means itself everywhere: no shell, INI, YAML or unit file reads
/// anything into it.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._:=@+-".contains(c))
}

/// One word of a shell's command line. The AWS SDKs hand `credential_process` to
/// a shell.
pub(super) fn shell_word(text: &str) -> String {
    if is_plain(text) {
        text.into()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// One word of `ExecStart=` (systemd.service, "Command lines").
pub(super) fn unit_word(text: &str) -> String {
    if is_plain(text) {
        return text.into();
    }
    let mut word = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => word.extend(['\\', character]),
            '%' | '$' => word.extend([character, character]),
            _ => word.push(character),
        }
    }
    word.push('"');
    word
}

/// `NAME=value` as the value of `Environment=` (systemd.exec): in double quotes,
/// with C escapes and doubled percent signs, which are specifiers there.
pub(super) fn unit_assignment(name: &str, value: &str) -> String {
    let mut text = format!("\"{name}=");
    for character in value.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            '%' => text.push_str("%%"),
            _ => text.push(character),
        }
    }
    text.push('"');
    text
}

/// A value of an `EnvironmentFile=` without quotes: a backslash is the only thing
/// that systemd would take for something else there.
pub(super) fn environment_words(text: &str) -> String {
    text.replace('\\', r"\\")
}

/// A value of an `EnvironmentFile=`: within double quotes systemd, like a shell,
/// takes these four characters literally after a backslash (systemd.exec).
pub(super) fn environment_value(text: &str) -> String {
    let mut value = String::from("\"");
    for character in text.chars() {
        if matches!(character, '"' | '\\' | '`' | '$') {
            value.push('\\');
        }
        value.push(character);
    }
    value.push('"');
    value
}

/// A YAML scalar in double quotes: JSON's strings are YAML's.
pub(super) fn yaml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A YAML scalar, without quotes where it reads as the same string without.
pub(super) fn yaml_url(text: &str) -> String {
    let url = ["https://", "http://"]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    if url && is_plain(text) && !text.ends_with(':') {
        text.into()
    } else {
        yaml_string(text)
    }
}

/// A TOML basic string; JSON's escapes are a subset of TOML's.
pub(super) fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_values_stay_as_they_are() {
        for text in [
            "/etc/iam/pki/server.pem",
            "arn:aws:iam::1:role/a",
            "node-1.example",
            "a@b+c=d",
        ] {
            assert_eq!(shell_word(text), text);
            assert_eq!(unit_word(text), text);
        }
        assert_eq!(
            yaml_url("https://x.eks.amazonaws.com:443"),
            "https://x.eks.amazonaws.com:443"
        );
        assert_eq!(yaml_url("https://x #y"), r#""https://x #y""#);
        assert_eq!(unit_word("50% $HOME \"x\""), r#""50%% $$HOME \"x\"""#);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        // A shell is the independent reader: it reads both notations.
        #[test]
        fn a_shell_reads_back_what_was_quoted(text in "[ -~äß]{1,40}") {
            let script = format!("A={}\nB={}\nprintf '%s\\n%s' \"$A\" \"$B\"",
                shell_word(&text), environment_value(&text));
            let output = std::process::Command::new("/bin/sh").arg("-c").arg(script).output().unwrap();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{text}\n{text}"));
        }

        #[test]
        fn yaml_reads_back_what_was_quoted(text in "\\PC{0,40}") {
            for written in [yaml_string(&text), yaml_url(&text)] {
                prop_assert_eq!(&serde_yaml::from_str::<String>(&written).unwrap(), &text);
            }
            let url = format!("https://{text}");
            prop_assert_eq!(serde_yaml::from_str::<String>(&yaml_url(&url)).unwrap(), url);
        }
    }
}
