//! What every subject puts into an image: about 400 MB in 3,000 files.

use std::fs;
use std::path::Path;

use nodekiln_tests::volumes::bytes;

/// Files in the payload.
pub const FILES: u64 = 3000;

/// Makes the payload below `root`, the same on every machine: three large
/// programs, sixty files of a megabyte and small ones in sixty folders. About
/// two thirds of it is noise, the rest compresses well, as with real programs.
pub fn make(root: &Path) {
    for number in 0..FILES {
        let folder = root.join(format!("opt/payload/part-{:02}", number % 60));
        fs::create_dir_all(&folder).expect("make a folder of the payload");
        let size = match number {
            0 => 130 << 20,
            1 => 80 << 20,
            2 => 50 << 20,
            3..63 => 1 << 20,
            _ => 2_000 + (number * 7919 % 40_000) as usize,
        };
        fs::write(
            folder.join(format!("file-{number:04}")),
            bytes(number, size),
        )
        .expect("write a file of the payload");
    }
}
