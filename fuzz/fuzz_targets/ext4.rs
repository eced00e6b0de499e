//! A small sound ext4 with patches, done with all that a build does. The first
//! byte chooses the image: without checksums, or with all of them.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nodekiln::volume::{ext4, panics_are_errors};

static IMAGES: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let unpack = |packed: &[u8]| zstd::decode_all(packed).expect("zstd");
    [
        unpack(include_bytes!("../fixtures/ext4-plain.zst")),
        unpack(include_bytes!("../fixtures/ext4-checksums.zst")),
    ]
});

fuzz_target!(init: {
    // A panic of the driver is an error of the volume; every other one counts.
    let counts = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panics_are_errors() {
            counts(panic);
        }
    }));
}, |input: &[u8]| {
    if let Some((which, patches)) = input.split_first() {
        ext4::fuzz::edit(&IMAGES[usize::from(which & 1)], patches);
    }
});
