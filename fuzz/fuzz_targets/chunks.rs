//! A chunked body in pieces and at once: the same data, the same trailers, the same end.
#![no_main]

use bytes::{Bytes, BytesMut};
use http::header::TRANSFER_ENCODING;
use http::{HeaderMap, HeaderValue, Version};
use libfuzzer_sys::fuzz_target;
use portcullis::http1::framing::{Framing, Piece};

#[derive(Debug, Default, PartialEq)]
struct Read {
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Bytes behind the end; `None`: there is no end.
    behind: Option<usize>,
    failed: bool,
}

fn read(bytes: &[u8], size: usize) -> Read {
    let chunked = [(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))];
    let stated = Framing::stated(Version::HTTP_11, &HeaderMap::from_iter(chunked));
    let mut framing = stated.expect("it is chunked").expect("it is chunked");
    let (mut found, mut held) = (Read::default(), BytesMut::new());
    let mut come = 0;
    for piece in bytes.chunks(size) {
        come += piece.len();
        held.extend_from_slice(piece);
        let mut now: Bytes = held.split().freeze();
        loop {
            match framing.take(&mut now) {
                Ok(Piece::Data(data)) => found.data.extend_from_slice(&data),
                Ok(Piece::Trailers(fields)) => found.trailers = Some(fields),
                Ok(Piece::End) => {}
                Ok(Piece::More) => break,
                Err(_) => {
                    found.failed = true;
                    return found;
                }
            }
            if framing.is_over() {
                found.behind = Some(now.len() + bytes.len() - come);
                return found;
            }
        }
        held.extend_from_slice(&now);
    }
    found
}

fuzz_target!(|input: &[u8]| {
    let Some((&size, bytes)) = input.split_first() else {
        return;
    };
    let (whole, split) = (
        read(bytes, bytes.len().max(1)),
        read(bytes, usize::from(size).max(1)),
    );
    assert_eq!(whole.failed, split.failed);
    assert_eq!(whole, split);
});
