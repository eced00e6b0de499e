//! What a hostile guest writes to its console.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| nodekiln_qemu::console::check(bytes));
