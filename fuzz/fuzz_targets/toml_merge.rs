//! Two TOML texts as one: what comes out is TOML, and merging it again changes
//! nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nodekiln_firstboot::node_config::toml::merge_texts;

fuzz_target!(|input: &str| {
    let (earlier, later) = input.split_once("\n===\n").unwrap_or((input, ""));
    if let Ok(merged) = merge_texts(earlier, later) {
        assert_eq!(merge_texts(&merged, later).as_ref(), Ok(&merged));
    }
});
