//! A volume of ISO 9660: opened, and the paths of user data read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nodekiln_firstboot::datasource::iso9660::Iso9660;

fuzz_target!(|input: &[u8]| {
    if let Ok(Some(volume)) = Iso9660::open(input) {
        let _ = volume.read("user-data", 1 << 20);
        let _ = volume.read("openstack/latest/user_data", 1 << 20);
    }
});
