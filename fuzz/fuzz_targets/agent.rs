//! Any bytes as what nodekiln and its agent tell each other.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| nodekiln_agent::fuzz(input));
