//! The kernel command line as the kernel parts it.

/// Its words: parted at blanks, with quotation marks as the kernel allows them
/// (`lib/cmdline.c`).
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            blank if blank.is_whitespace() && !quoted => words.push(String::new()),
            other => {
                if let Some(word) = words.last_mut() {
                    word.push(other);
                }
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The last value of a parameter, as the kernel takes the last too; an empty one
/// is none. All after ` -- ` is for init.
pub(super) fn parameter(line: &str, name: &str) -> Option<String> {
    words(line)
        .iter()
        .take_while(|word| *word != "--")
        .filter_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .filter(|value| !value.is_empty())
        .last()
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_taken_as_the_kernel_would() {
        for (line, path) in [
            ("", None),
            ("quiet nodekiln.config=/a", Some("/a")),
            ("nodekiln.config=/a nodekiln.config=/b\n", Some("/b")),
            ("nodekiln.config=\"/a b\" x", Some("/a b")),
            ("\"nodekiln.config=/a b\"", Some("/a b")),
            ("nodekiln.config=", None),
            ("nodekiln.config", None),
            ("xnodekiln.config=/a", None),
            ("a -- nodekiln.config=/a", None),
        ] {
            assert_eq!(
                parameter(line, "nodekiln.config").as_deref(),
                path,
                "{line}"
            );
        }
    }
}
