//! A client that leaves takes its work with it, unless the route lets it finish.

use http::Response;
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use crate::harness::peer::RawUpstream;
use crate::harness::upstream::{Pieces, channel};
use crate::harness::{Gateway, Setup, Upstream, empty, soon};

const GET: &str = "GET /a HTTP/1.1\r\nhost: here\r\n\r\n";
const FINISH: &str = "on_disconnect = \"finish\"";

async fn setup(lines: &str) -> (RawUpstream, Gateway) {
    let upstream = RawUpstream::start().await;
    let setup = Setup::new()
        .upstream(&upstream.url(), "")
        .route("/{*rest}", lines);
    let gateway = Gateway::start(&setup).await;
    (upstream, gateway)
}

#[tokio::test]
async fn leaving_before_the_first_byte_closes_the_upstream_connection() {
    let (upstream, gateway) = setup("").await;
    let mut client = gateway.client().await;
    client.send(GET).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    drop(client);
    peer.closed().await;
}

#[tokio::test]
async fn leaving_within_the_answer_closes_the_upstream_connection() {
    for kind in ["application/octet-stream", "text/event-stream"] {
        let (upstream, gateway) = setup("").await;
        let mut client = gateway.client().await;
        client.send(GET).await;
        let mut peer = upstream.accept().await;
        peer.head().await;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n\
             9\r\ndata: 1\n\n\r\n"
        );
        peer.send(head).await;
        client.until("data: 1\n\n").await;
        drop(client);
        peer.closed().await;
    }
}

/// An upstream over HTTP/2 whose answers are sent by the test.
async fn pieces_over_http2() -> (Upstream, mpsc::UnboundedReceiver<Pieces>) {
    let (told, hear) = mpsc::unbounded_channel();
    let upstream = Upstream::http2(move |_| {
        let told = told.clone();
        async move {
            let (pieces, body) = channel();
            told.send(pieces).unwrap();
            Response::new(body)
        }
    })
    .await;
    (upstream, hear)
}

#[tokio::test]
async fn leaving_resets_the_stream_of_an_http2_upstream() {
    let (upstream, mut hear) = pieces_over_http2().await;
    let setup = Setup::new()
        .upstream(&upstream.url, "protocol = \"http2\"")
        .route("/{*rest}", "");
    let gateway = Gateway::start(&setup).await;
    let mut client = gateway.client().await;
    client.send(GET).await;
    let pieces = soon(hear.recv()).await.unwrap();
    pieces.send("ab").await;
    client.until("ab").await;
    drop(client);
    pieces.unwanted().await;
}

#[tokio::test]
async fn resetting_a_stream_cancels_its_request_and_no_other() {
    let (upstream, gateway) = setup("").await;
    let mut sender = super::downstream::http2(gateway.address).await;
    let ask = || http::Request::get("http://here/a").body(empty()).unwrap();
    let first = tokio::spawn(sender.send_request(ask()));
    let mut left = upstream.accept().await;
    left.head().await;
    let second = tokio::spawn(sender.send_request(ask()));
    let mut kept = upstream.accept().await;
    kept.head().await;
    first.abort();
    left.closed().await;
    kept.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .await;
    let answer = soon(second).await.unwrap().unwrap().into_body().collect();
    assert_eq!(soon(answer).await.unwrap().to_bytes(), "ok");
}

#[tokio::test]
async fn a_route_that_finishes_sees_its_request_through_before_the_first_byte() {
    let (upstream, gateway) = setup(FINISH).await;
    let mut client = gateway.client().await;
    client.send(GET).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    drop(client);
    // The line is written when the gateway has seen it leave.
    gateway.lines(1).await;
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .await;
    // The answer was read whole: the connection is kept, and used for the next request.
    let mut next = gateway.client().await;
    next.send("GET /b HTTP/1.1\r\nhost: here\r\n\r\n").await;
    assert!(peer.head().await.line().starts_with("GET /b "));
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert_eq!(next.answer().await.status(), 200);
}

#[tokio::test]
async fn a_route_that_finishes_reads_the_body_to_its_end() {
    let (told, mut hear) = mpsc::unbounded_channel();
    let upstream = Upstream::http1(move |_| {
        let told = told.clone();
        async move {
            let (pieces, body) = channel();
            told.send(pieces).unwrap();
            Response::new(body)
        }
    })
    .await;
    for path in ["/a", "/b"] {
        let setup = Setup::new()
            .upstream(&upstream.url, "")
            .route("/{*rest}", FINISH);
        let gateway = Gateway::start(&setup).await;
        let mut client = gateway.client().await;
        client
            .send(format!("GET {path} HTTP/1.1\r\nhost: here\r\n\r\n"))
            .await;
        let pieces = soon(hear.recv()).await.unwrap();
        pieces.send("first").await;
        client.until("first").await;
        drop(client);
        gateway.lines(1).await;
        // More than any buffer on the way: somebody reads.
        for _ in 0..256 {
            assert!(pieces.send(vec![b'x'; 65536]).await);
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_within_its_body_leaves_no_half_request_behind() {
    for lines in ["", FINISH] {
        let (upstream, gateway) = setup(lines).await;
        let mut client = gateway.client().await;
        client
            .send("POST /a HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
            .await;
        let mut peer = upstream.accept().await;
        peer.head().await;
        assert_eq!(peer.chunk().await, b"ab");
        drop(client);
        assert!(peer.chunks().await.is_none());
    }
}
