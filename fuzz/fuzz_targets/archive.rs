//! Any bytes as an archive: no panic, no endless loop, no unbounded memory.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nodekiln::lock::MemberSelection;
use nodekiln::progress::Silent;
use nodekiln::store::{Store, archive};

static STORE: LazyLock<Store> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("nodekiln-fuzz-{}", std::process::id()));
    Store::open(folder).expect("the temporary folder can be written")
});

fuzz_target!(|bytes: &[u8]| {
    let limits = archive::Limits {
        entries: 1000,
        unpacked: 1 << 20,
        path: 256,
    };
    let selection = MemberSelection::Programs("bin".to_owned());
    archive::unpack(&STORE, bytes, &selection, &limits, &Silent).ok();
});
