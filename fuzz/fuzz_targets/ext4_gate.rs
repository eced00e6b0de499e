//! Any bytes as an ext4 superblock.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nodekiln::volume::Access;
use nodekiln::volume::ext4::gate::judge;

fuzz_target!(|data: &[u8]| {
    for partition in [0, 1 << 20, 1 << 40] {
        let _ = judge(data, partition, Access::Read);
        let _ = judge(data, partition, Access::Write);
    }
});
