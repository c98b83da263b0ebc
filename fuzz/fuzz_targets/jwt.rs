//! A token in its compact form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::identity::jwt::{self, Jws};

fuzz_target!(|token: &str| {
    let read = jwt::read(token);
    if let Ok(jws) = Jws::read(token) {
        let _ = jws.claims();
        // What is one by its claims is one by its form.
    } else {
        assert!(read.is_err());
    }
});
