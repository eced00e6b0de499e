//! Any text as `SHA256SUMS`: no name leads out of its folder, and what is taken is
//! written and read back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nodekiln::report::{is_plain_name, parse_sha256sums, sha256sums};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(files) = parse_sha256sums(&text) {
        assert!(files.keys().all(|name| is_plain_name(name)));
        if let Ok(text) = sha256sums(&files) {
            assert_eq!(parse_sha256sums(&text).expect("reads back"), files);
        }
    }
});
