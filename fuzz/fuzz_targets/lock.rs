//! Any text as a lock: what is taken is written and read back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nodekiln::lock::model::Lock;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(lock) = Lock::parse(&text, "nodekiln.lock") {
        let text = lock.to_text().expect("can be written");
        assert_eq!(Lock::parse(&text, "nodekiln.lock").expect("reads back"), lock);
    }
});
