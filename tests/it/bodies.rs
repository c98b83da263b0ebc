//! Bodies, both ways: what passes, what waits, and what is cut off.

use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;

use crate::harness::peer::RawUpstream;
use crate::harness::upstream::{Pieces, channel};
use crate::harness::{Gateway, Peer, Setup, Upstream, empty, full, soon, token};

/// A gateway before a raw upstream, and a client of it that has sent `request`.
async fn raw(request: &str, lines: &str) -> (Gateway, Peer, Peer, RawUpstream) {
    let upstream = RawUpstream::start().await;
    let setup = Setup::new()
        .upstream(&upstream.url(), "")
        .route("/{*rest}", lines);
    let gateway = Gateway::start(&setup).await;
    let mut client = gateway.client().await;
    client.send(request).await;
    let peer = upstream.accept().await;
    (gateway, client, peer, upstream)
}

const CHUNKED: &str = "POST /a HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_large_body_passes_both_ways_whole() {
    let upstream = Upstream::http1(async |request| {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full(body))
    })
    .await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url)).await;
    let mut client = gateway.client().await;
    let body: Vec<u8> = (0..1 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
    let head = "POST /a HTTP/1.1\r\nhost: here\r\ncontent-length: 1048576\r\n\r\n";
    client.send(head).await;
    client.send(&body).await;
    assert!(client.answer().await.body == body);
}

/// An upstream whose answers are sent by the test, before a gateway and a client of it that has asked.
async fn answering(lines: &str) -> (Upstream, Gateway, Peer, Pieces) {
    let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::http1(move |_| {
        let told = told.clone();
        async move {
            let (pieces, body) = channel();
            told.send(pieces).unwrap();
            Response::new(body)
        }
    })
    .await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url).server(lines)).await;
    let mut client = gateway.client().await;
    client.send("GET /a HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let pieces = soon(hear.recv()).await.unwrap();
    (upstream, gateway, client, pieces)
}

const PIECE: usize = 64 * 1024;

#[tokio::test]
async fn a_reader_that_stops_makes_the_upstream_stop() {
    // Beyond what sockets and HTTP libraries hold on the way.
    const MUCH: usize = 64 * 1024 * 1024 / PIECE;
    let lines = "send_timeout = \"500ms\"";
    let (_upstream, _gateway, _client, pieces) = answering(lines).await;
    let mut sent = 0;
    // It ends when the client has taken nothing for so long that it is given up.
    while pieces.send(vec![b'x'; PIECE]).await {
        sent += 1;
        assert!(sent < MUCH, "the gateway took everything");
    }
}

#[tokio::test]
async fn a_reader_that_is_slow_gets_everything() {
    // More than the way holds: the upstream has to wait for the reader.
    const MANY: usize = 16 * 1024 * 1024 / PIECE;
    let (_upstream, _gateway, mut client, pieces) = answering("").await;
    let sending = tokio::spawn(async move {
        for _ in 0..MANY {
            assert!(pieces.send(vec![b'x'; PIECE]).await);
        }
    });
    assert_eq!(client.head().await.status(), 200);
    let (body, _) = client.chunks().await.unwrap();
    assert!(body.len() == MANY * PIECE && body.iter().all(|&byte| byte == b'x'));
    soon(sending).await.unwrap();
}

#[tokio::test]
async fn chunks_pass_as_they_come_both_ways() {
    let (_gateway, mut client, mut upstream, _) = raw(CHUNKED, "").await;
    let head = upstream.head().await;
    assert_eq!(head.get("transfer-encoding"), Some("chunked"));
    assert_eq!(head.get("content-length"), None);
    client.send("3\r\nabc\r\n").await;
    assert_eq!(upstream.chunk().await, b"abc");
    // The answer may begin while the request goes on.
    upstream
        .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nxy\r\n")
        .await;
    assert_eq!(client.head().await.status(), 200);
    assert_eq!(client.chunk().await, b"xy");
    client.send("2;ext=1\r\nde\r\n0\r\n\r\n").await;
    assert_eq!(upstream.chunk().await, b"de");
    assert_eq!(upstream.until("\r\n\r\n").await, "0\r\n\r\n");
    upstream.send("1\r\nz\r\n0\r\n\r\n").await;
    assert_eq!(client.chunks().await.unwrap().0, b"z");
}

#[tokio::test]
async fn trailers_of_a_request_pass_without_what_could_be_an_identity() {
    let (_gateway, mut client, mut upstream, _) = raw(
        "POST /a HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\
         trailer: digest\r\n\r\n2\r\nab\r\n0\r\ndigest: sha-256=x\r\n\
         x-user-id: evil\r\nx_auth_status: authenticated\r\n\r\n",
        "",
    )
    .await;
    let head = upstream.head().await;
    let request = upstream.body(head).await;
    assert_eq!(request.body, b"ab");
    assert!(!request.trailers.contains("evil"), "{}", request.trailers);
    assert!(!request.trailers.contains("auth"), "{}", request.trailers);
    assert!(request.trailers.contains("digest"), "{}", request.trailers);
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 204);
}

#[tokio::test]
async fn trailers_of_an_answer_reach_a_client_that_wants_them() {
    let (_gateway, mut client, mut upstream, _) = raw(
        "GET /a HTTP/1.1\r\nhost: here\r\nte: trailers\r\nconnection: te\r\n\r\n",
        "",
    )
    .await;
    assert_eq!(upstream.head().await.get("te"), Some("trailers"));
    upstream
        .send(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
             2\r\nab\r\n0\r\nx-sum: 7\r\n\r\n",
        )
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.text(), "ab");
    assert!(answer.trailers.contains("x-sum: 7"), "{answer:?}");
}

#[tokio::test]
async fn trailers_pass_from_http2_to_http2() {
    let upstream = Upstream::http2(async |request| {
        let trailers = request.into_body().collect().await.unwrap();
        let seen = format!("{:?}", trailers.trailers());
        let (pieces, body) = channel();
        tokio::spawn(async move {
            pieces.send(seen).await;
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("7"));
            pieces.trailers(trailers).await;
        });
        Response::new(body)
    })
    .await;
    let setup = Setup::new()
        .upstream(&upstream.url, "protocol = \"http2\"")
        .route("/{*rest}", "");
    let gateway = Gateway::start(&setup).await;
    let mut sender = super::downstream::http2(gateway.address).await;
    let (pieces, body) = channel();
    let request = http::Request::post("http://here/a").body(body).unwrap();
    let answer = tokio::spawn(sender.send_request(request));
    let mut trailers = HeaderMap::new();
    trailers.insert("digest", HeaderValue::from_static("d"));
    trailers.insert("x-user-id", HeaderValue::from_static("evil"));
    pieces.send("ab").await;
    pieces.trailers(trailers).await;
    drop(pieces);
    let answer = answer.await.unwrap().unwrap().into_body().collect().await;
    let answer = answer.unwrap();
    assert_eq!(answer.trailers().unwrap()["x-sum"], "7");
    let seen = String::from_utf8(answer.to_bytes().to_vec()).unwrap();
    assert!(seen.contains("digest") && !seen.contains("evil"), "{seen}");
}

#[tokio::test]
async fn answers_without_a_body_keep_the_connection_in_step() {
    let upstream = Upstream::http1(async |request| {
        let mut answer = Response::new(empty());
        match request.uri().path() {
            "/none" => *answer.status_mut() = StatusCode::NO_CONTENT,
            "/same" => {
                *answer.status_mut() = StatusCode::NOT_MODIFIED;
                answer
                    .headers_mut()
                    .insert("etag", HeaderValue::from_static("\"1\""));
            }
            _ => *answer.body_mut() = full("twelve bytes"),
        }
        answer
    })
    .await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url)).await;
    let mut client = gateway.client().await;
    client.send("HEAD /a HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(head.get("content-length"), Some("12"));
    assert_eq!(client.get("/none").await.status(), 204);
    let same = client.get("/same").await;
    assert_eq!((same.status(), same.head.get("etag")), (304, Some("\"1\"")));
    assert_eq!(client.get("/a").await.text(), "twelve bytes");
}

#[tokio::test]
async fn a_range_and_its_part_pass() {
    let (_gateway, mut client, mut upstream, _) = raw(
        "GET /a HTTP/1.1\r\nhost: here\r\nrange: bytes=2-3\r\nif-range: \"v\"\r\n\r\n",
        "",
    )
    .await;
    let head = upstream.head().await;
    assert_eq!(head.get("range"), Some("bytes=2-3"));
    assert_eq!(head.get("if-range"), Some("\"v\""));
    upstream
        .send(
            "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 2-3/9\r\n\
             accept-ranges: bytes\r\ncontent-length: 2\r\n\r\ncd",
        )
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), &*answer.text()), (206, "cd"));
    assert_eq!(answer.head.get("content-range"), Some("bytes 2-3/9"));
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on_only_when_it_may() {
    let upstream = Upstream::http1(async |request| {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full(body))
    })
    .await;
    let setup = Setup::new()
        .issuer()
        .upstream(&upstream.url, "")
        .guarded("required", "/{*rest}", "");
    let gateway = Gateway::start(&setup).await;
    let ask = "POST /a HTTP/1.1\r\nhost: here\r\nexpect: 100-continue\r\ncontent-length: 3\r\n";
    let mut client = gateway.client().await;
    client
        .send(format!("{ask}authorization: Bearer {}\r\n\r\n", token(60)))
        .await;
    assert_eq!(client.head().await.status(), 100);
    client.send("abc").await;
    assert_eq!(client.answer().await.text(), "abc");

    let mut stranger = gateway.client().await;
    stranger.send(format!("{ask}\r\n")).await;
    // No 100 before: the body is not wanted, and what follows is no request.
    assert_eq!(stranger.head().await.status(), 401);
    stranger.closed().await;
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_refused_before_the_upstream() {
    let upstream = RawUpstream::start().await;
    let setup = Setup::simple(&upstream.url()).server("max_body = \"8B\"");
    let gateway = Gateway::start(&setup).await;
    let mut client = gateway.client().await;
    client
        .send("POST /a HTTP/1.1\r\nhost: here\r\ncontent-length: 9\r\n\r\n123456789")
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), &*answer.word()), (413, "body_too_large"));
    // The first that the upstream hears is the next request.
    let mut next = gateway.client().await;
    next.send("GET /b HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    assert!(peer.head().await.line().starts_with("GET /b "));
}

#[tokio::test]
async fn a_body_that_grows_too_large_is_refused_and_cut_off() {
    let (_gateway, mut client, mut upstream, _) = raw(CHUNKED, "max_body = \"8B\"").await;
    upstream.head().await;
    client.send("4\r\nabcd\r\n").await;
    assert_eq!(upstream.chunk().await, b"abcd");
    client.send("5\r\nefghi\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), &*answer.word()), (413, "body_too_large"));
    assert!(upstream.chunks().await.is_none());
}

#[tokio::test]
async fn a_body_that_falls_silent_is_408() {
    let upstream = RawUpstream::start().await;
    let setup = Setup::simple(&upstream.url()).server("body_timeout = \"200ms\"");
    let gateway = Gateway::start(&setup).await;
    let mut client = gateway.client().await;
    client.send(CHUNKED).await;
    client.send("2\r\nab\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), &*answer.word()), (408, "body_timeout"));
    assert!(peer.chunks().await.is_none());
}

#[tokio::test]
async fn a_body_whose_framing_breaks_is_400_and_ends_without_a_last_chunk() {
    let (_gateway, mut client, mut upstream, _) = raw(CHUNKED, "").await;
    upstream.head().await;
    client.send("2\r\nab\r\n").await;
    assert_eq!(upstream.chunk().await, b"ab");
    client.send("zz\r\nGET /evil HTTP/1.1\r\n\r\n").await;
    assert!(upstream.chunks().await.is_none());
    let answer = client.answer().await;
    assert_eq!(
        (answer.status(), &*answer.word()),
        (400, "request_malformed")
    );
    client.closed().await;
}

#[tokio::test]
async fn an_answer_that_is_cut_short_is_seen_to_be() {
    let (_gateway, mut client, mut upstream, _) =
        raw("GET /a HTTP/1.1\r\nhost: here\r\n\r\n", "").await;
    upstream.head().await;
    upstream
        .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
        .await;
    drop(upstream);
    assert_eq!(client.head().await.status(), 200);
    assert!(client.chunks().await.is_none());
}

#[tokio::test]
async fn an_answer_shorter_than_it_said_is_seen_to_be() {
    let (_gateway, mut client, mut upstream, _) =
        raw("GET /a HTTP/1.1\r\nhost: here\r\n\r\n", "").await;
    upstream.head().await;
    upstream
        .send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
        .await;
    drop(upstream);
    assert_eq!(client.head().await.get("content-length"), Some("9"));
    assert_eq!(client.rest().await, b"abc");
}

#[tokio::test]
async fn over_http2_an_answer_that_is_cut_short_is_a_reset() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url())).await;
    let mut sender = super::downstream::http2(gateway.address).await;
    let request = http::Request::get("http://here/a").body(empty()).unwrap();
    let answer = tokio::spawn(sender.send_request(request));
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
        .await;
    let mut body = answer.await.unwrap().unwrap().into_body();
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "ab");
    drop(peer);
    assert!(body.frame().await.unwrap().is_err());
}
