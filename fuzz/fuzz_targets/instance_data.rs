//! What cloud-init keeps of an instance: the user data in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nodekiln_firstboot::datasource::cloud_init;

fuzz_target!(|input: &[u8]| {
    if let Ok(Some(user_data)) = cloud_init::user_data_of(input) {
        assert!(user_data.len() <= input.len());
    }
});
