//! Any bytes as a signed list: clear-signed, or with a detached signature behind a
//! line `---`; and as a keyring.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nodekiln::store::signature;

fuzz_target!(|bytes: &[u8]| {
    signature::fuzz::verify_all(include_bytes!("../fixtures/keyring.gpg"), bytes);
});
