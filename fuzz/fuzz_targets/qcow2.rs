//! Any bytes as a qcow2 image: opening and reading must end, without a panic
//! and within bounded memory.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use nodekiln::disk::Storage;
use nodekiln::disk::memory::Memory;
use nodekiln::disk::qcow2::Qcow2;

/// Enough to have met every place of a small image.
const READS: usize = 4096;

fuzz_target!(|bytes: &[u8]| {
    let Ok(image) = Qcow2::open_storage(Arc::new(Memory::new(bytes.to_vec()))) else {
        return;
    };
    let mut buffer = vec![0; 8192];
    let mut at = 0;
    for _ in 0..READS {
        let Ok(Some(data)) = image.next_data(at) else {
            return;
        };
        assert!(data.start >= at && data.end > data.start && data.end <= image.size());
        let length = (data.end - data.start).min(8192);
        image
            .read_at(&mut buffer[..length as usize], data.start)
            .ok();
        at = data.start + length;
    }
});
