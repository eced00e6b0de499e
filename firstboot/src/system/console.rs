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
    // Without a list, there is still `/dev/console`.
    let active = read_to_string(ACTIVE).unwrap_or_default();
    let told = names(&active).filter(|name| tell(name, line)).count();
    if told == 0 {
        // So in a container, which sees the list of its host and has none of these devices.
        tell("console", line);
    }
}

/// Writes a line to a device of `/dev`; says whether that is there and took it.
fn tell(name: &str, line: &str) -> bool {
    let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
    let console = OpenOptions::new()
        .append(true)
        .custom_flags(flags.bits().cast_signed())
        .open(format!("/dev/{name}"));
    console.is_ok_and(|mut console| console.write_all(line.as_bytes()).is_ok())
}

/// The names of devices in the kernel's list.
fn names(active: &str) -> impl Iterator<Item = &str> {
    let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    active.split_whitespace().filter(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices_are_taken_and_paths_are_not() {
        for (active, wanted) in [
            ("tty0 ttyS0\n", &["tty0", "ttyS0"][..]),
            ("ttyAMA0\n", &["ttyAMA0"]),
            ("", &[]),
            ("\n", &[]),
            ("../../etc/passwd\n", &[]),
        ] {
            let found: Vec<&str> = names(active).collect();
            assert_eq!(found, wanted);
        }
    }
}
