//! Section 4: where a request ends, and what its head may hold.

use super::{Siege, as_user, get, request, user};

/// A POST with these lines and what follows them.
fn post(lines: &str, rest: &str) -> String {
    format!("{}{rest}", request("POST", "/open/x", lines))
}

const NEXT: &str = "GET /open/next HTTP/1.1\r\nhost: here\r\n\r\n";
const CHUNKED: &str = "transfer-encoding: chunked";

#[tokio::test]
async fn what_could_be_framed_in_two_ways_is_refused_and_the_connection_closed() {
    let siege = Siege::lay().await;
    for (name, bytes) in [
        (
            "two lengths",
            post("content-length: 5\r\ncontent-length: 6", "hello"),
        ),
        (
            "the same length twice",
            post("content-length: 5\r\ncontent-length: 5", "hello"),
        ),
        (
            "a length and chunks",
            post(
                "content-length: 3\r\ntransfer-encoding: chunked",
                "2\r\nhi\r\n0\r\n\r\n",
            ),
        ),
        (
            "chunks and a length",
            post(
                "transfer-encoding: chunked\r\ncontent-length: 3",
                "2\r\nhi\r\n0\r\n\r\n",
            ),
        ),
        ("bare line feed", post("x-a: b\ncontent-length: 5", "hello")),
        (
            "bare line feeds",
            "GET /open/x HTTP/1.1\nhost: here\n\n".to_owned(),
        ),
        ("fragment", get("/open/x#/../api", "")),
        ("a list of lengths", post("content-length: 5, 5", "hello")),
        ("plus", post("content-length: +5", "hello")),
        ("minus", post("content-length: -5", "hello")),
        ("hex", post("content-length: 0x5", "hello")),
        ("trailing letter", post("content-length: 5x", "hello")),
        ("empty", post("content-length:", "hello")),
        ("space within", post("content-length: 5 5", "hello")),
        (
            "2^64",
            post("content-length: 18446744073709551616", "hello"),
        ),
        (
            "2^64 + 5",
            post("content-length: 18446744073709551621", "hello"),
        ),
        ("folded", post("content-length:\r\n 5", "hello")),
        (
            "two encodings",
            post("transfer-encoding: gzip, chunked", "0\r\n\r\n"),
        ),
        (
            "chunked twice",
            post("transfer-encoding: chunked, chunked", "0\r\n\r\n"),
        ),
        (
            "two lines",
            post(
                "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
                "0\r\n\r\n",
            ),
        ),
        ("identity", post("transfer-encoding: identity", "0\r\n\r\n")),
        (
            "identity too",
            post(
                "transfer-encoding: identity\r\ntransfer-encoding: chunked",
                "0\r\n\r\n",
            ),
        ),
        (
            "vertical tab",
            post("transfer-encoding: \u{b}chunked", "0\r\n\r\n"),
        ),
        (
            "quotes",
            post("transfer-encoding: \"chunked\"", "0\r\n\r\n"),
        ),
        (
            "parameter",
            post("transfer-encoding: chunked;q=1", "0\r\n\r\n"),
        ),
        ("comma", post("transfer-encoding: chunked,", "0\r\n\r\n")),
        (
            "leading comma",
            post("transfer-encoding: ,chunked", "0\r\n\r\n"),
        ),
        ("unknown", post("transfer-encoding: xchunked", "0\r\n\r\n")),
        ("empty encoding", post("transfer-encoding:", "0\r\n\r\n")),
        (
            "on an old version",
            post(CHUNKED, "0\r\n\r\n").replace("HTTP/1.1", "HTTP/1.0"),
        ),
        ("folded field", post("x-a: b\r\n c: d", "")),
        ("folded by a tab", post("x-a: b\r\n\tc", "")),
        ("space before the colon", post("x-a : b", "")),
        (
            "space before the colon of a length",
            post("content-length : 5", "hello"),
        ),
        ("empty name", post(": b", "")),
        ("space before the name", post(" x-a: b", "")),
        ("nul in a value", post("x-a: b\0c", "")),
        ("nul in a name", post("x\0a: b", "")),
        ("bare cr", post("x-a: b\rc: d", "")),
        ("no colon", post("x-a", "")),
        ("odd name", post("x(a): b", "")),
        ("8-bit name", post("x\u{e9}: b", "")),
        (
            "words in the line",
            "GET /open/x y HTTP/1.1\r\nhost: here\r\n\r\n".to_owned(),
        ),
        (
            "a tab in the target",
            "GET /open/x\ty HTTP/1.1\r\nhost: here\r\n\r\n".to_owned(),
        ),
        (
            "nul in the target",
            "GET /open/\0 HTTP/1.1\r\nhost: here\r\n\r\n".to_owned(),
        ),
        (
            "a version to come",
            "GET /open/x HTTP/2.0\r\nhost: here\r\n\r\n".to_owned(),
        ),
        (
            "no such version",
            "GET /open/x HTTP/1.2\r\nhost: here\r\n\r\n".to_owned(),
        ),
        (
            "a line within",
            "GET /open/x HTTP/1.1\rGET /api/x HTTP/1.1\r\nhost: here\r\n\r\n".to_owned(),
        ),
        (
            "no method",
            " /open/x HTTP/1.1\r\nhost: here\r\n\r\n".to_owned(),
        ),
        (
            "two words for a method",
            "GE T /open/x HTTP/1.1\r\nhost: here\r\n\r\n".to_owned(),
        ),
        (
            "TLS",
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\r\n\r\n".to_owned(),
        ),
    ] {
        let mut client = siege.gateway.client().await;
        // What stands behind is no request of anybody's.
        client.send(bytes.clone() + NEXT).await;
        let answer = String::from_utf8(client.rest().await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{name}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer:?}");
        let got = siege.take().await;
        assert!(got.is_empty(), "{name}: the upstream received {got:?}");
    }
}

#[tokio::test]
async fn chunks_are_read_in_their_one_form() {
    let siege = Siege::lay().await;
    for (name, chunks) in [
        ("a sign", "+2\r\nhi\r\n0\r\n\r\n".to_owned()),
        ("a minus", "-2\r\nhi\r\n0\r\n\r\n".to_owned()),
        ("0x", "0x2\r\nhi\r\n0\r\n\r\n".to_owned()),
        (
            "overflow",
            "10000000000000002\r\nhi\r\n0\r\n\r\n".to_owned(),
        ),
        ("nothing", "\r\nhi\r\n0\r\n\r\n".to_owned()),
        ("no end of its data", "2\r\nhi0\r\n\r\n".to_owned()),
        ("bare line feed", "2\nhi\n0\n\n".to_owned()),
        (
            "a bare cr in an extension",
            "2;a\rb\r\nhi\r\n0\r\n\r\n".to_owned(),
        ),
        (
            "an extension without end",
            format!("2;{}\r\nhi\r\n0\r\n\r\n", "a".repeat(100 * 1024)),
        ),
        (
            "trailers without end",
            format!("2\r\nhi\r\n0\r\n{}\r\n", "a: b\r\n".repeat(64 * 1024)),
        ),
    ] {
        let mut client = siege.gateway.client().await;
        let bytes = post(CHUNKED, &chunks) + NEXT;
        // A flood may be cut before it is over.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.io, bytes.as_bytes()).await;
        let answer = String::from_utf8(client.rest().await).unwrap();
        assert!(!answer.contains("HTTP/1.1 5"), "{name}: {answer:?}");
        assert!(
            answer.matches("HTTP/1.1 200").count() <= 1,
            "{name}: {answer:?}"
        );
        let got = siege.take().await;
        assert!(
            got.iter()
                .all(|(head, body)| head.line().contains("/open/x") && body.is_empty()),
            "{name}: {got:?}"
        );
    }
}

#[tokio::test]
async fn extensions_and_disguised_framing_are_not_passed_on() {
    let siege = Siege::lay().await;
    let t = user();
    let lines = format!(
        "{CHUNKED}\r\ntransfer_encoding: gzip\r\ncontent_length: 9\r\nContent.Length: 9\r\nexpect: 100-continue\r\ntoken: {t}"
    );
    let bytes = format!(
        "{}2;evil=1\r\nhi\r\n0\r\n\r\n",
        request("POST", "/api/x", &lines)
    );
    let mut client = siege.gateway.client().await;
    client.send(bytes).await;
    assert_eq!(client.answer().await.status(), 200);
    let got = siege.take().await;
    assert_eq!((got.len(), &*got[0].1), (1, "hi"));
    for name in [
        "transfer_encoding",
        "content_length",
        "content.length",
        "expect",
        "content-length",
    ] {
        assert_eq!(got[0].0.get(name), None, "{name}");
    }
}

#[tokio::test]
async fn a_body_is_never_read_as_a_request() {
    let siege = Siege::lay().await;
    for (name, bytes, passes) in [
        (
            "of a GET",
            format!(
                "{}{NEXT}",
                as_user("/api/x", &format!("content-length: {}", NEXT.len()))
            ),
            1,
        ),
        (
            "of a HEAD",
            format!(
                "{}{NEXT}",
                request(
                    "HEAD",
                    "/open/x",
                    &format!("connection: close\r\ncontent-length: {}", NEXT.len())
                )
            ),
            1,
        ),
        (
            "chunked, of a GET",
            format!(
                "{}{:x}\r\n{NEXT}\r\n0\r\n\r\n",
                get("/open/x", CHUNKED),
                NEXT.len()
            ),
            1,
        ),
        (
            "of a refused request",
            format!(
                "{}{NEXT}",
                request("POST", "/api/x", &format!("content-length: {}", NEXT.len()))
            ),
            0,
        ),
        (
            "chunked, of a refused one",
            format!(
                "{}{:x}\r\n{NEXT}\r\n0\r\n\r\n",
                request("POST", "/api/x", CHUNKED),
                NEXT.len()
            ),
            0,
        ),
        (
            "of one without a route",
            format!(
                "{}{NEXT}",
                request(
                    "POST",
                    "/nothing",
                    &format!("content-length: {}", NEXT.len())
                )
            ),
            0,
        ),
        (
            "expected, of a refused one",
            format!(
                "{}{NEXT}",
                request(
                    "POST",
                    "/api/x",
                    &format!("expect: 100-continue\r\ncontent-length: {}", NEXT.len())
                )
            ),
            0,
        ),
    ] {
        let mut client = siege.gateway.client().await;
        client.send(&bytes).await;
        if name != "of a HEAD" {
            client.answer().await;
        } else {
            client.closed().await;
        }
        let got = siege.take().await;
        assert_eq!(got.len(), passes, "{name}: {got:?}");
        assert!(
            got.iter()
                .all(|(head, _)| !head.line().contains("/open/next")),
            "{name}: {got:?}"
        );
        if let Some((_, body)) = got.first() {
            assert!(body.is_empty() || body == NEXT, "{name}: {body:?}");
        }
    }
}

#[tokio::test]
async fn each_request_on_a_connection_is_judged_for_itself() {
    let siege = Siege::lay().await;
    let t = user();
    let mut client = siege.gateway.client().await;
    let all = [
        as_user("/api/a", ""),
        get("/api/b", ""),
        get("/maybe/c", ""),
        get("/api/d", "token: bad"),
        get("/admin/e", &format!("token: {t}")),
        get("/maybe/f", "x-user-id: evil"),
        as_user("/api/g", ""),
    ];
    client.send(all.concat()).await;
    let mut statuses = Vec::new();
    for _ in &all {
        statuses.push(client.answer().await.status());
    }
    assert_eq!(statuses, [200, 401, 200, 401, 403, 200, 200]);
    let got = siege.take().await;
    let seen: Vec<_> = got
        .iter()
        .map(|(head, _)| (head.get("x-user-id"), head.get("x-auth-status")))
        .collect();
    let (known, guest) = ((Some("u1"), Some("authenticated")), (None, Some("guest")));
    assert_eq!(seen, [known, guest, guest, known]);
}

#[tokio::test]
async fn the_body_of_a_get_arrives_and_a_silent_upstream_is_given_up() {
    let upstream = crate::harness::peer::RawUpstream::start().await;
    let setup = super::setup(&upstream.url()).route("/soon/{*rest}", "first_byte_timeout = \"1s\"");
    let gateway = crate::harness::Gateway::start(&setup).await;
    let mut client = gateway.client().await;
    client
        .send(get("/soon/x", CHUNKED) + "2\r\nhi\r\n0\r\n\r\n")
        .await;
    let mut silent = upstream.accept().await;
    let head = silent.head().await;
    assert_eq!(silent.body(head).await.body, b"hi");
    let answer = client.answer().await;
    assert_eq!(
        (answer.status(), &*answer.word()),
        (504, "upstream_timeout")
    );
}
