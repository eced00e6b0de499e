//! A small sound btrfs with patches, done with all that a build does in its process.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nodekiln::volume::{panics_are_errors, btrfs};

static IMAGE: LazyLock<Vec<u8>> =
    LazyLock::new(|| zstd::decode_all(&include_bytes!("../fixtures/btrfs.zst")[..]).expect("zstd"));

fuzz_target!(init: {
    // A panic of the driver is an error of the volume; every other one counts.
    let counts = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panics_are_errors() {
            counts(panic);
        }
    }));
}, |input: &[u8]| btrfs::fuzz::edit(&IMAGE, input));
