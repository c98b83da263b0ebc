use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use proptest::prelude::*;

use crate::http1::Fault;
use crate::http1::framing::{Chunks, Framing, Piece};

/// What came out of a chunked body: data, trailers, and the bytes behind its end.
#[derive(Debug, Default, PartialEq)]
struct Taken {
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    behind: Vec<u8>,
}

/// Takes a chunked body that comes in these parts; `None`: it is not whole.
fn take(parts: &[&[u8]]) -> Result<Option<Taken>, Fault> {
    let mut framing = Framing::Chunked(Chunks::default());
    let mut taken = Taken::default();
    for (index, part) in parts.iter().enumerate() {
        let mut read = Bytes::copy_from_slice(part);
        loop {
            match framing.take(&mut read)? {
                Piece::Data(data) => taken.data.extend_from_slice(&data),
                Piece::Trailers(trailers) => taken.trailers = Some(trailers),
                Piece::More => break,
                Piece::End => {
                    assert!(framing.is_over());
                    taken.behind = [&read, &*parts[index + 1..].concat()].concat();
                    return Ok(Some(taken));
                }
            }
        }
        assert!(read.is_empty(), "bytes were left of a body that goes on");
    }
    Ok(None)
}

#[test]
fn chunks_are_read_in_every_allowed_spelling() {
    let table: &[(&[u8], &[u8])] = &[
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
        (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"2;a=b;c=\"d\"\r\nhi\r\n0;z\r\n\r\n", b"hi"),
        (b"2 \t;a\r\nhi\r\n0 \r\n\r\n", b"hi"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n", b"ab"),
    ];
    for (bytes, data) in table {
        let taken = take(&[bytes]).unwrap().unwrap();
        assert_eq!(taken.data, *data, "{:?}", Bytes::copy_from_slice(bytes));
        assert_eq!((taken.trailers, taken.behind), (None, Vec::new()));
    }
}

#[test]
fn a_malformed_chunk_is_an_error() {
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(1100));
    let zeros = format!("{}1\r\na\r\n0\r\n\r\n", "0".repeat(1100));
    let flood = format!("1;{}\r\na\r\n", "x".repeat(1000)).repeat(17) + "0\r\n\r\n";
    let table: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5g\r\nhello\r\n0\r\n\r\n",
        b"5,\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\rhello\r\n0\r\n\r\n",
        b"5\rhello\r\n0\r\n\r\n",
        b"5 5\r\nhello\r\n0\r\n\r\n",
        b"5 a\r\nhello\r\n0\r\n\r\n",
        b"5\0\r\nhello\r\n0\r\n\r\n",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"5;a\0b\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5\r\nhello\r\n\r\n0\r\n\r\n",
        b"0\n\r\n",
        b"fffffffffffffffff\r\n",
        b"10000000000000000\r\n",
        b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        long.as_bytes(),
        zeros.as_bytes(),
        flood.as_bytes(),
    ];
    for bytes in table {
        let taken = take(&[bytes]);
        let shown = Bytes::copy_from_slice(bytes);
        assert!(matches!(taken, Err(Fault::Chunk)), "{shown:?}: {taken:?}");
    }
}

#[test]
fn trailers_are_read_or_refused() {
    let taken = take(&[b"0\r\nA: b\r\nc:d\r\n\r\nX"]).unwrap().unwrap();
    let trailers = taken.trailers.unwrap();
    assert_eq!(
        (&trailers["a"], &trailers["c"]),
        (&"b".parse().unwrap(), &"d".parse().unwrap())
    );
    assert_eq!(taken.behind, b"X");

    let large = format!("A: {}\r\n\r\n", "x".repeat(17 * 1024));
    let many = "a: b\r\n".repeat(33) + "\r\n";
    let table = [
        "A\r\n\r\n",
        "A : b\r\n\r\n",
        ": b\r\n\r\n",
        "A: b\rc\r\n\r\n",
        "A: b\0\r\n\r\n",
        "A: b\r\n c\r\n\r\n",
        "A: b\n\nC: d\r\n\r\n",
        "\r\r\n\r\n",
        "A b: c\r\n\r\n",
        &large,
        &many,
    ];
    for trailers in table {
        let taken = take(&[b"0\r\n", trailers.as_bytes()]);
        assert!(
            matches!(taken, Err(Fault::Chunk | Fault::Head(_))),
            "{trailers:?}: {taken:?}"
        );
    }
    for cut in [
        "0",
        "0\r",
        "0\r\n",
        "0\r\n\r",
        "0\r\nA: b\r\n",
        "0\r\nA: b\r\n\r",
        "5\r\nhel",
    ] {
        assert_eq!(take(&[cut.as_bytes()]).unwrap(), None, "{cut:?}");
    }
}

prop_compose! {
    fn chunked()(
        chunks in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..40), "(;[a-z=]{0,9})?"), 0..5),
        trailer in prop::option::of("[a-z]{1,9}"),
        behind in prop::collection::vec(any::<u8>(), 0..9),
    ) -> (BytesMut, Taken) {
        let mut bytes = BytesMut::new();
        let mut taken = Taken { behind: behind.clone(), ..Taken::default() };
        for (data, extension) in chunks {
            bytes.extend_from_slice(format!("{:x}{extension}\r\n", data.len()).as_bytes());
            bytes.extend_from_slice(&data);
            bytes.extend_from_slice(b"\r\n");
            taken.data.extend(data);
        }
        bytes.extend_from_slice(b"0\r\n");
        if let Some(value) = trailer {
            bytes.extend_from_slice(format!("x-sum: {value}\r\n").as_bytes());
            let field = (http::HeaderName::from_static("x-sum"), value.parse().unwrap());
            taken.trailers = Some(HeaderMap::from_iter([field]));
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&behind);
        (bytes, taken)
    }
}

proptest! {
    #[test]
    fn no_split_changes_a_chunked_body((bytes, expected) in chunked(), size in 1_usize..20) {
        let parts: Vec<&[u8]> = bytes.chunks(size).collect();
        prop_assert_eq!(take(&parts).unwrap(), Some(expected));
    }
}
