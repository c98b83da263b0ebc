//! HTTP/1.1 with clients: what stands before and behind a request, what is said before an answer, who leaves.

use crate::harness::peer::RawUpstream;
use crate::harness::websocket::{ACCEPTED, HANDSHAKE, TEXT, bare, masked};
use crate::harness::{Gateway, Peer, Setup, soon};

const GET: &str = "GET /a HTTP/1.1\r\nhost: here\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn setup(lines: &str) -> (RawUpstream, Gateway) {
    let upstream = RawUpstream::start().await;
    let setup = Setup::new()
        .issuer()
        .upstream(&upstream.url(), "")
        .guarded("required", "/guarded", "")
        .route("/{*rest}", lines);
    let gateway = Gateway::start(&setup).await;
    (upstream, gateway)
}

/// A client that has sent `request`, and the upstream's side of it.
async fn sent(upstream: &RawUpstream, gateway: &Gateway, request: &str) -> (Peer, Peer) {
    let mut client = gateway.client().await;
    client.send(request).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    (client, peer)
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_though_more_of_its_requests_wait() {
    let early = format!("GET /ws HTTP/1.1\r\nhost: here\r\n{HANDSHAKE}\r\n");
    for behind in ["GET /b HTTP/1.1\r\nhost: here\r\n\r\n", "GET /b HT"] {
        let (upstream, gateway) = setup("").await;
        let (client, mut peer) = sent(&upstream, &gateway, &format!("{GET}{behind}")).await;
        drop(client);
        peer.closed().await;
        assert_eq!(gateway.lines(1).await[0]["end"], "client_left");
    }
    // Early frames behind a handshake that is not answered.
    let (upstream, gateway) = setup("").await;
    let (mut client, mut peer) = sent(&upstream, &gateway, &early).await;
    client.send(masked(TEXT, b"early")).await;
    drop(client);
    peer.closed().await;
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_is_noticed_though_a_request_waits() {
    let (upstream, gateway) = setup("").await;
    let (mut client, mut peer) = sent(&upstream, &gateway, &format!("{GET}{GET}")).await;
    peer.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
        .await;
    client.until("data: 1\n\n").await;
    drop(client);
    peer.closed().await;
    assert_eq!(gateway.lines(1).await[0]["end"], "client_left");
}

#[tokio::test]
async fn hints_of_the_upstream_come_before_the_answer() {
    for lines in ["", "on_disconnect = \"finish\""] {
        let (upstream, gateway) = setup(lines).await;
        let (mut client, mut peer) = sent(&upstream, &gateway, GET).await;
        peer.send(
            "HTTP/1.1 100 Continue\r\n\r\n\
             HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nconnection: x-b\r\nx-b: c\r\n\
             content-length: 7\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await;
        let hint = client.head().await;
        assert_eq!(hint.line(), "HTTP/1.1 103 Early Hints");
        assert_eq!(hint.get("link"), Some("</a.css>; rel=preload"));
        for name in ["x-b", "connection", "content-length", "transfer-encoding"] {
            assert_eq!(hint.get(name), None, "{name}");
        }
        peer.send(format!("HTTP/1.1 102 Processing\r\n\r\n{OK}"))
            .await;
        assert_eq!(client.head().await.status(), 102);
        let head = client.head().await;
        assert_eq!(client.body(head).await.text(), "ok");
        // The connection is in step.
        client.send(GET).await;
        peer.head().await;
        peer.send(OK).await;
        assert_eq!(client.head().await.status(), 200);
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_no_hints_and_no_chunks() {
    let (upstream, gateway) = setup("").await;
    let old = "GET /a HTTP/1.0\r\nhost: here\r\nconnection: keep-alive\r\n\r\n";
    let (mut client, mut peer) = sent(&upstream, &gateway, old).await;
    peer.send(format!("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n{OK}"))
        .await;
    let head = client.head().await;
    assert_eq!(head.status(), 200);
    assert_eq!(head.get("connection"), Some("keep-alive"));
    assert_eq!(client.body(head).await.text(), "ok");
    client.send(old).await;
    peer.head().await;
    peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
        .await;
    let head = client.head().await;
    assert_eq!(head.get("transfer-encoding"), None);
    assert_eq!(head.get("connection"), Some("close"));
    assert_eq!(client.rest().await, b"hi");
}

#[tokio::test]
async fn a_client_of_http_1_0_sees_that_an_answer_was_cut() {
    let (upstream, gateway) = setup("").await;
    let (mut client, mut peer) =
        sent(&upstream, &gateway, "GET /a HTTP/1.0\r\nhost: here\r\n\r\n").await;
    peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")
        .await;
    client.until("hi").await;
    drop(peer);
    let mut byte = [0];
    let read = soon(tokio::io::AsyncReadExt::read(&mut client.io, &mut byte)).await;
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test]
async fn a_small_body_that_nobody_reads_is_passed_over_and_the_next_request_answered() {
    let (_upstream, gateway) = setup("").await;
    let next = "GET /guarded HTTP/1.1\r\nhost: here\r\n\r\n";
    for (fields, body) in [
        ("content-length: 5", "hello"),
        (
            "transfer-encoding: chunked",
            "5\r\nhello\r\n0\r\na: b\r\n\r\n",
        ),
    ] {
        let mut client = gateway.client().await;
        let post = format!("POST /guarded HTTP/1.1\r\nhost: here\r\n{fields}\r\n\r\n");
        client.send(format!("{post}{body}{next}")).await;
        assert_eq!(client.answer().await.status(), 401);
        assert_eq!(client.answer().await.status(), 401);
        // Also where it comes later, in pieces.
        client.send(&post).await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status(), answer.head.get("connection")),
            (401, None)
        );
        client.send(&body[..3]).await;
        client.send(&body[3..]).await;
        client.send(next).await;
        assert_eq!(client.answer().await.status(), 401);
    }
}

#[tokio::test]
async fn a_large_body_that_nobody_reads_ends_the_connection_behind_a_readable_answer() {
    let (_upstream, gateway) = setup("").await;
    let mut client = gateway.client().await;
    let post = "POST /guarded HTTP/1.1\r\nhost: here\r\ncontent-length: 1000000\r\n\r\n";
    client.send(post).await;
    // More than anybody reads for nothing; its reader closes in the midst of it.
    let _ = tokio::io::AsyncWriteExt::write_all(&mut client.io, &[b'x'; 300_000]).await;
    let answer = client.answer().await;
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.head.get("connection"), Some("close"));
    client.closed().await;
}

#[tokio::test]
async fn a_chunked_body_without_end_is_not_read_for_nothing_for_ever() {
    let (_upstream, gateway) = setup("").await;
    let mut client = gateway.client().await;
    client
        .send("POST /guarded HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status(), 401);
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    // It fails when the gateway has closed.
    soon(async {
        while tokio::io::AsyncWriteExt::write_all(&mut client.io, chunk.as_bytes())
            .await
            .is_ok()
        {}
    })
    .await;
}

#[tokio::test]
async fn bytes_behind_a_handshake_are_passed_on_only_when_the_upstream_has_switched() {
    let (upstream, gateway) = setup("").await;
    let handshake = format!("GET /ws HTTP/1.1\r\nhost: here\r\n{HANDSHAKE}\r\n");
    let mut early = handshake.clone().into_bytes();
    early.extend(masked(TEXT, b"early"));
    let mut client = gateway.client().await;
    client.send(&early).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    client.send(masked(TEXT, b"bird")).await;
    peer.send(ACCEPTED).await;
    assert_eq!(client.head().await.status(), 101);
    assert_eq!(peer.frame().await.1, b"early");
    assert_eq!(peer.frame().await.1, b"bird");
    peer.send(bare(TEXT, b"worm")).await;
    assert_eq!(client.frame().await.1, b"worm");

    // Refused: what stands behind is no request.
    let mut client = gateway.client().await;
    client.send(format!("{handshake}{GET}")).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
        .await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status(), answer.head.get("connection")),
        (403, Some("close"))
    );
    client.closed().await;
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_refused_in_words_and_told() {
    let (_upstream, gateway) = setup("").await;
    for (bytes, status, word) in [
        ("NONSENSE\r\n\r\n".to_owned(), 400, "request_malformed"),
        (
            "GET /a#b HTTP/1.1\r\nhost: here\r\n\r\n".to_owned(),
            400,
            "path_unsafe",
        ),
        (
            format!("GET /{} HTTP/1.1\r\n", "a".repeat(70_000)),
            431,
            "headers_too_large",
        ),
        (format!("GET /{}", "a".repeat(70_000)), 414, "uri_too_long"),
    ] {
        let mut client = gateway.client().await;
        client.send(bytes).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), &*answer.word()), (status, word));
        assert_eq!(answer.head.get("connection"), Some("close"));
        client.closed().await;
    }
    let lines = gateway.lines(4).await;
    assert_eq!(lines[0]["reason"], "request_malformed");
    assert_eq!(lines[0]["status"], 400);
    let refused = "portcullis_refusals_total{reason=\"uri_too_long\"}";
    gateway.figure_becomes(refused, 1.0).await;
}

#[tokio::test]
async fn every_answer_has_one_date() {
    let (upstream, gateway) = setup("").await;
    let (mut client, mut peer) = sent(&upstream, &gateway, GET).await;
    peer.send(OK).await;
    let answer = client.answer().await;
    assert!(answer.head.get("date").unwrap().ends_with(" GMT"));
    client.send(GET).await;
    peer.head().await;
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    peer.send(format!("HTTP/1.1 204 No Content\r\ndate: {date}\r\n\r\n"))
        .await;
    assert_eq!(client.answer().await.head.all("date"), [date]);
}

#[tokio::test]
async fn the_last_answer_before_a_drain_says_so() {
    let (upstream, gateway) = setup("").await;
    let (mut client, mut peer) = sent(&upstream, &gateway, GET).await;
    let stopped = gateway.stop();
    crate::harness::until(async || gateway.page("/readyz").await.status() == 503).await;
    crate::harness::until(async || crate::harness::gateway::is_refused(gateway.address).await)
        .await;
    peer.send(OK).await;
    assert_eq!(client.answer().await.head.get("connection"), Some("close"));
    client.closed().await;
    soon(stopped).await.unwrap();
}

#[tokio::test]
async fn empty_lines_before_a_request_are_passed_over() {
    let (upstream, gateway) = setup("").await;
    let (mut client, mut peer) = sent(&upstream, &gateway, &format!("\r\n\r\n{GET}")).await;
    peer.send(OK).await;
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test]
async fn a_small_body_that_does_not_come_is_not_waited_for() {
    let (_upstream, gateway) = setup("").await;
    let mut client = gateway.client().await;
    client
        .send("POST /guarded HTTP/1.1\r\nhost: here\r\ncontent-length: 5\r\n\r\nhe")
        .await;
    assert_eq!(client.answer().await.status(), 401);
    client.closed().await;
}
