//! Swap, which the kubelet refuses to run with.

/// An area in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapArea {
    /// Device or file.
    pub path: String,
    /// Whether it is a file, which can be turned off for good, or a partition
    /// (zram counts as one), which others may turn on again.
    pub is_file: bool,
}

/// Reads /proc/swaps: a heading, then one area a line.
pub fn active_swap(text: &str) -> Vec<SwapArea> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (path, kind) = (fields.next()?, fields.next()?);
            Some(SwapArea {
                path: unescape_octal(path),
                is_file: kind == "file",
            })
        })
        .collect()
}

/// The kernel writes blanks and backslashes of a path as three octal digits.
pub fn unescape_octal(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|digits| {
            first == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit))
        });
        if let Some(digits) = octal {
            let value = digits
                .iter()
                .fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0'));
            bytes.push(value as u8);
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The text of /etc/fstab without its swap areas; `None` when it has none.
/// Comments and lines that are not understood stay as they are.
pub fn fstab_without_swap(text: &str) -> Option<String> {
    let is_swap = |line: &&str| {
        let line = line.trim_start();
        !line.starts_with('#') && line.split_whitespace().nth(2) == Some("swap")
    };
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    if !lines.iter().any(is_swap) {
        return None;
    }
    Some(lines.into_iter().filter(|line| !is_swap(line)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_read() {
        let text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
                    /swap\\040file                           file\t\t1048572\t\t0\t\t-2\n\
                    /dev/zram0                              partition\t4194300\t\t0\t\t100\n";
        assert_eq!(
            active_swap(text),
            [
                SwapArea {
                    path: "/swap file".into(),
                    is_file: true
                },
                SwapArea {
                    path: "/dev/zram0".into(),
                    is_file: false
                },
            ]
        );
        assert_eq!(active_swap("Filename Type Size Used Priority\n"), []);
        assert_eq!(active_swap(""), []);
        assert_eq!(unescape_octal("/a\\04"), "/a\\04");
    }

    #[test]
    fn swap_lines_go_and_nothing_else() {
        let text = "# / was on /dev/vda2\nUUID=1 / ext4 defaults 0 1\n\n/swapfile none swap sw 0 0\n\
                    # /old none swap sw 0 0\nlabel\n  UUID=2\tnone\tswap\tsw 0 0\n/data /swap xfs swap 0 0";
        assert_eq!(
            fstab_without_swap(text).unwrap(),
            "# / was on /dev/vda2\nUUID=1 / ext4 defaults 0 1\n\n\
             # /old none swap sw 0 0\nlabel\n/data /swap xfs swap 0 0"
        );
        assert_eq!(fstab_without_swap("UUID=1 / ext4 defaults 0 1\n"), None);
        assert_eq!(fstab_without_swap(""), None);
        assert_eq!(fstab_without_swap("/s none swap sw 0 0").unwrap(), "");
    }
}
