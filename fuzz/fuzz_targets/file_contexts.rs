//! Any bytes as the file contexts of an SELinux policy, and paths to look up.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| nodekiln::os::selinux::replay(bytes));
