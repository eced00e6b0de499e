//! User data of any kind: decoded, parsed, merged and checked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nodekiln_firstboot::node_config;

fuzz_target!(|input: &[u8]| {
    if let Ok(parsed) = node_config::load(input) {
        parsed.check();
    }
    let _ = node_config::read_certificates(input);
});
