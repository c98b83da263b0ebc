//! Paths: what is taken is in its one form, and holds nothing that could be read in two ways.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::request::path;

fuzz_target!(|text: &str| {
    let _ = path::percent_decode(text);
    let _ = path::loosen(text);
    let Ok(normal) = path::normalize(text) else {
        return;
    };
    assert_eq!(path::normalize(&normal).as_deref(), Ok(&*normal));
    for segment in normal.split('/') {
        assert!(segment != "." && segment != "..", "{normal}");
    }
    assert!(!normal.contains("//") && !normal.contains('\\'), "{normal}");
    assert!(
        normal.bytes().all(|byte| byte.is_ascii_graphic()),
        "{normal}"
    );
});
