//! An event stream in pieces and at once: the same bytes, cut at the same events.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use portcullis::forward::sse::framer::Framer;

fn passed(bytes: &[u8], size: usize) -> Vec<u8> {
    let (mut framer, mut out) = (Framer::default(), Vec::new());
    for piece in bytes.chunks(size) {
        out.extend_from_slice(&framer.take_in(Bytes::copy_from_slice(piece), |_| None));
    }
    out.extend_from_slice(&framer.take_tail().unwrap_or_default());
    out
}

/// A byte order mark at the beginning is not passed on.
fn unmarked(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

fuzz_target!(|input: &[u8]| {
    let Some((&size, bytes)) = input.split_first() else {
        return;
    };
    let split = passed(bytes, usize::from(size).max(1));
    assert!(split == bytes || split == unmarked(bytes));
});
