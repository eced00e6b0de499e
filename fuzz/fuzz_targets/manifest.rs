//! Any bytes as a manifest: what is taken is written and read back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nodekiln::report::Manifest;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes) {
        let text = manifest.to_json();
        assert_eq!(Manifest::parse(text.as_bytes()).expect("reads back"), manifest);
    }
});
