use bytes::{Bytes, BytesMut};
use http::{Method, Version};
use proptest::prelude::*;

use super::LIMITS;
use crate::http1::framing::Framing;
use crate::http1::link::Interim;
use crate::refusal::Refusal;
use crate::server::http1::request::{After, Asked, Limits, Reader, Takes, Wish};

/// What comes of the first head in `parts`, and what is left behind it.
fn read_within(limits: Limits, parts: &[&[u8]]) -> (Result<Option<Asked>, Refusal>, Vec<u8>) {
    let mut reader = Reader::within(limits);
    let mut read = BytesMut::new();
    for (index, part) in parts.iter().enumerate() {
        read.extend_from_slice(part);
        let mut bytes = Bytes::copy_from_slice(&read);
        let taken = reader.take(&mut bytes);
        if !matches!(taken, Ok(None)) {
            return (taken, [&bytes, &*parts[index + 1..].concat()].concat());
        }
    }
    (Ok(None), read.to_vec())
}

fn read(head: &str) -> Result<Option<Asked>, Refusal> {
    read_within(LIMITS, &[head.as_bytes()]).0
}

fn asked(fields: &str) -> Asked {
    read(&format!("GET / HTTP/1.1\r\n{fields}\r\n"))
        .unwrap()
        .unwrap()
}

#[test]
fn a_head_is_read_once_it_is_whole() {
    let whole =
        "POST /a?b=c HTTP/1.1\r\nHost: here\r\nX-A:  b \r\nx-a: c\r\ncontent-length: 5\r\n\r\n";
    for end in 0..whole.len() {
        assert!(read(&whole[..end]).unwrap().is_none(), "{end}");
    }
    let (asked, rest) = read_within(LIMITS, &[format!("{whole}hello").as_bytes()]);
    let asked = asked.unwrap().unwrap();
    assert_eq!(rest, b"hello");
    assert_eq!(asked.head.method(), Method::POST);
    assert_eq!(asked.head.uri(), "/a?b=c");
    assert_eq!(asked.head.version(), Version::HTTP_11);
    let values: Vec<_> = asked.head.headers().get_all("x-a").iter().collect();
    assert_eq!(values, ["b", "c"]);
    assert!(matches!(asked.framing, Framing::Length(5)));
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    use Refusal::{HeadersTooLarge, PathUnsafe, RequestMalformed, UriTooLong};
    let line = |line: &str| format!("{line}\r\nhost: a\r\n\r\n");
    let field = |field: &str| format!("GET / HTTP/1.1\r\n{field}\r\nhost: a\r\n\r\n");
    let table = [
        (line("GET /a#b HTTP/1.1"), PathUnsafe),
        (line("GET http://a/b#c HTTP/1.1"), PathUnsafe),
        (line("GET /a b HTTP/1.1"), RequestMalformed),
        (line("GET  / HTTP/1.1"), RequestMalformed),
        (line("GET\t/\tHTTP/1.1"), RequestMalformed),
        (line("GET /\0 HTTP/1.1"), RequestMalformed),
        (line("GET / HTTP/2.0"), RequestMalformed),
        (line("GET / HTTP/1.2"), RequestMalformed),
        (line("GET / http/1.1"), RequestMalformed),
        (line("GET /"), RequestMalformed),
        (line("GET HTTP/1.1"), RequestMalformed),
        (line(" GET / HTTP/1.1"), RequestMalformed),
        (line("G(T / HTTP/1.1"), RequestMalformed),
        (field("A : b"), RequestMalformed),
        (field(" A: b"), RequestMalformed),
        (field("A: b\r\n c"), RequestMalformed),
        (field(": b"), RequestMalformed),
        (field("A"), RequestMalformed),
        (field("A: b\0"), RequestMalformed),
        (field("A: b\rc: d"), RequestMalformed),
        (field("A: b\nc: d"), RequestMalformed),
        (field("A(: b"), RequestMalformed),
        ("GET / HTTP/1.1\nhost: a\n\n".into(), RequestMalformed),
        (
            "\nGET / HTTP/1.1\r\nhost: a\r\n\r\n".into(),
            RequestMalformed,
        ),
        ("\x16\x03\x01\x02".into(), RequestMalformed),
        (
            field("content-length: 1\r\ncontent-length: 1"),
            RequestMalformed,
        ),
        (field("content-length: 1, 1"), RequestMalformed),
        (field("content-length: +1"), RequestMalformed),
        (
            field("content-length: 18446744073709551616"),
            RequestMalformed,
        ),
        (
            field("transfer-encoding: chunked\r\ncontent-length: 1"),
            RequestMalformed,
        ),
        (field("transfer-encoding: gzip, chunked"), RequestMalformed),
        (field("transfer-encoding: identity"), RequestMalformed),
        (
            line("GET / HTTP/1.0\r\ntransfer-encoding: chunked"),
            RequestMalformed,
        ),
        (field(&"a: b\r\n".repeat(150)), HeadersTooLarge),
        (
            line(&format!("GET /{} HTTP/1.1", "a".repeat(65_534))),
            UriTooLong,
        ),
    ];
    for (head, refusal) in table {
        let told = read(&head).map(|asked| asked.is_some());
        assert_eq!(told, Err(refusal), "{head:?}");
    }
}

#[test]
fn a_head_that_does_not_end_is_given_up_by_its_size() {
    let limits = Limits {
        bytes: 100,
        fields: 10,
    };
    let long = "a".repeat(101);
    for (head, refusal) in [
        (format!("GET /{long}"), Refusal::UriTooLong),
        (
            format!("GET / HTTP/1.1\r\nb: {long}"),
            Refusal::HeadersTooLarge,
        ),
        (
            format!("GET / HTTP/1.1\r\n{long}"),
            Refusal::HeadersTooLarge,
        ),
        ("\r\n".repeat(51), Refusal::HeadersTooLarge),
    ] {
        let (told, _) = read_within(limits, &[head.as_bytes()]);
        assert_eq!(told.map(|asked| asked.is_some()), Err(refusal), "{head}");
        let bytes: Vec<&[u8]> = head.as_bytes().chunks(1).collect();
        let (told, _) = read_within(limits, &bytes);
        assert_eq!(told.map(|asked| asked.is_some()), Err(refusal), "{head}");
    }
    // As many lines as are allowed, and one more, which `Head::read` refuses in words.
    for (count, is_whole) in [(10, true), (11, true), (12, false)] {
        let head = format!("GET / HTTP/1.1\r\n{}\r\n", "a:\r\n".repeat(count));
        let (told, _) = read_within(limits, &[head.as_bytes()]);
        assert_eq!(told.is_ok(), is_whole, "{count}");
    }
}

#[test]
fn many_lines_are_read_where_they_are_allowed() {
    let limits = Limits {
        bytes: 64 * 1024,
        fields: 1000,
    };
    let head = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(900));
    let (asked, _) = read_within(limits, &[head.as_bytes()]);
    assert_eq!(asked.unwrap().unwrap().head.headers().len(), 900);
}

#[test]
fn what_becomes_of_the_connection_is_what_the_client_says() {
    let of = |line: &str| {
        read(&format!("{line}\r\n\r\n"))
            .unwrap()
            .unwrap()
            .manner
            .after
    };
    for (line, after) in [
        ("GET / HTTP/1.1", After::Keep),
        ("GET / HTTP/1.1\r\nconnection: close", After::Close),
        ("GET / HTTP/1.1\r\nconnection: x, Close", After::Close),
        ("GET / HTTP/1.1\r\nconnection: keep-alive", After::Keep),
        ("GET / HTTP/1.0", After::Close),
        ("GET / HTTP/1.0\r\nconnection: Keep-Alive", After::Keep),
        (
            "GET / HTTP/1.0\r\nconnection: keep-alive, close",
            After::Close,
        ),
    ] {
        assert_eq!(of(line), after, "{line}");
    }
}

#[test]
fn what_the_client_takes_is_what_it_asks_for() {
    assert_eq!(asked("").manner.takes, Takes::Body);
    assert_eq!(
        asked("te: gzip, Trailers\r\n").manner.takes,
        Takes::Trailers
    );
    let head = read("HEAD / HTTP/1.1\r\nte: trailers\r\n\r\n")
        .unwrap()
        .unwrap();
    assert_eq!(head.manner.takes, Takes::Head);
    assert_eq!(asked("upgrade: websocket\r\n").manner.wish, Wish::Switch);
    assert_eq!(asked("").interim, Interim::Hints);
    assert_eq!(asked("expect: 100-Continue\r\n").interim, Interim::Continue);
    let old = read("GET / HTTP/1.0\r\nexpect: 100-continue\r\n\r\n")
        .unwrap()
        .unwrap();
    assert_eq!(old.interim, Interim::Nothing);
}

proptest! {
    #[test]
    fn no_split_changes_what_a_head_is_read_as(
        fields in prop::collection::vec(("[a-z-]{1,9}", "[ -~]{0,20}"), 0..6),
        behind in prop::collection::vec(any::<u8>(), 0..9),
        size in 1_usize..30,
    ) {
        let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let mut bytes = format!("GET /a HTTP/1.1\r\n{fields}\r\n").into_bytes();
        bytes.extend(&behind);
        let (whole, rest) = read_within(LIMITS, &[&bytes]);
        let parts: Vec<&[u8]> = bytes.chunks(size).collect();
        let (split, split_rest) = read_within(LIMITS, &parts);
        match (whole, split) {
            (Ok(Some(whole)), Ok(Some(split))) => {
                prop_assert_eq!(whole.head.headers(), split.head.headers());
                prop_assert_eq!((rest, split_rest), (behind.clone(), behind));
            }
            (whole, split) => prop_assert_eq!(whole.map(|_| ()), split.map(|_| ())),
        }
    }
}
