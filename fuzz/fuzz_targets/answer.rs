//! An upstream's bytes: the head of an answer, and where its body ends.
#![no_main]

use bytes::Bytes;
use http::Method;
use libfuzzer_sys::fuzz_target;
use portcullis::forward::http1::head;

fuzz_target!(|input: &[u8]| {
    let bytes = Bytes::copy_from_slice(input);
    let Ok(Some((answer, length))) = head::read(&bytes) else {
        return;
    };
    assert!(length <= bytes.len());
    let _ = answer.keeps_alive();
    for method in [Method::GET, Method::HEAD] {
        let Ok(mut framing) = answer.framing(&method) else {
            continue;
        };
        let mut body = bytes.slice(length..);
        while !body.is_empty() && !framing.is_over() {
            let before = body.len();
            if framing.take(&mut body).is_err() || body.len() == before {
                break;
            }
        }
    }
});
