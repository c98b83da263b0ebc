//! A configuration: problems, or one that has everything; never a panic.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use portcullis::config;

fuzz_target!(|text: &str| {
    // Files that it names are looked for where there are none.
    let _ = config::parse(text, Path::new("/nonexistent/fuzz.toml"), &|_| None);
});
