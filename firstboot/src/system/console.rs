//! The consoles of the machine, where a person sees what becomes of it.
//!
//! The kernel writes to all of them, `/dev/console` is the last one alone: on an image for
//! many boards often a serial port that nobody looks at, or that is not there.

use std::fs::{OpenOptions, read_to_string};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::OFlags;

/// The names of all consoles, in the kernel's order (`Documentation/ABI/testing/sysfs-tty`).
const ACTIVE: &str = "/sys/class/tty/console/active";

/// Writes a line to each console. One that is stopped, or not there, must not stop the
/// machine.
pub(super) fn write(line: &str) {
    let active = read_to_string(ACTIVE).unwrap_or_default();
    for name in names(&active) {
        let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
        let console = OpenOptions::new()
            .append(true)
            .custom_flags(flags.bits().cast_signed())
            .open(format!("/dev/{name}"));
        if let Ok(mut console) = console {
            let _ = console.write_all(line.as_bytes());
        }
    }
}

/// The devices of `/dev` that are written to.
fn names(active: &str) -> Vec<&str> {
    let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let names: Vec<&str> = active.split_whitespace().filter(is_name).collect();
    if names.is_empty() {
        return vec!["console"];
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_console_is_written_to() {
        assert_eq!(names("tty0 ttyS0\n"), ["tty0", "ttyS0"]);
        assert_eq!(names("ttyAMA0\n"), ["ttyAMA0"]);
    }

    #[test]
    fn without_names_there_is_still_the_console() {
        for active in ["", "\n", "../../etc/passwd\n"] {
            assert_eq!(names(active), ["console"]);
        }
    }
}
