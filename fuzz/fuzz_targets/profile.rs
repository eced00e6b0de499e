//! A profile: read, rendered and checked; and the texts that a lock reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nodekiln::lock;
use nodekiln::profile::{self, Overrides};

fuzz_target!(|input: &[u8]| {
    let _ = lock::checksum_in(input, "kubelet");
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = profile::parse(text, "profile.yaml", &Overrides::default());
        let _ = lock::model::Lock::parse(text, "nodekiln.lock");
    }
});
