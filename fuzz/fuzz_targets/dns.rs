//! A message of DNS, read as the answer to a question that was asked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nodekiln_firstboot::system::dns::message::{Kind, Name, answer};

fuzz_target!(|input: &[u8]| {
    if let Some(name) = Name::new("a.example") {
        let _ = answer(input, 0x1234, &name, Kind::V4);
        let _ = answer(input, 0x1234, &name, Kind::V6);
    }
});
