//! A kernel command line or a serial number: is there a seed in it, and where. The
//! same text stands for what the firmware says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nodekiln_firstboot::datasource::seed_line::{Place, SeedLine, shown};

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let Some(line) = SeedLine::read(&text) else {
        return;
    };
    let firmware = |_: &str| Some(text.chars().take(64).collect());
    match line.place(&firmware) {
        Ok(Place::File(path)) => assert!(path.starts_with('/')),
        Ok(Place::Url(url)) => assert!(shown(&url).contains("://")),
        Ok(Place::Volume) | Err(_) => {}
    }
});
