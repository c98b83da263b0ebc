//! Reload and drain: nobody is dropped who may stay, and everybody is told who must go.

use crate::harness::gateway::is_refused;
use crate::harness::peer::RawUpstream;
use crate::harness::setup::{SECRET, token};
use crate::harness::websocket::{CLOSE, TEXT, bare, code};
use crate::harness::{Gateway, Peer, Setup, soon, until};

const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    transfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// An event stream under way: the client's end and the upstream's.
async fn stream(upstream: &RawUpstream, gateway: &Gateway, more: &str) -> (Peer, Peer) {
    let mut client = gateway.client().await;
    client
        .send(format!("GET /events HTTP/1.1\r\nhost: here\r\n{more}\r\n"))
        .await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send(EVENTS).await;
    client.until("data: 1\n\n").await;
    (client, peer)
}

fn base(upstream: &RawUpstream) -> Setup {
    Setup::new().upstream(&upstream.url(), "")
}

#[tokio::test]
async fn a_reload_keeps_streams_and_brings_routes() {
    let upstream = RawUpstream::start().await;
    let before = base(&upstream).route("/events", "");
    let gateway = Gateway::start(&before).await;
    let (mut client, mut peer) = stream(&upstream, &gateway, "").await;
    assert_eq!(gateway.get("/new").await.status(), 404);
    gateway.reload(&before.route("/new", "")).await.unwrap();
    let mut other = gateway.client().await;
    other.send("GET /new HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut fresh = upstream.accept().await;
    fresh.head().await;
    fresh.send(OK).await;
    assert_eq!(other.answer().await.status(), 200);
    peer.send("9\r\ndata: 2\n\n\r\n").await;
    client.until("data: 2\n\n").await;
}

#[tokio::test]
async fn a_reload_that_brings_a_token_its_key_lets_it_in_however_often_it_was_refused() {
    let upstream = RawUpstream::start().await;
    let right = base(&upstream).issuer();
    let right = right.guarded("required", "/private", "");
    let other = "another secret of thirty-two byt";
    let gateway = Gateway::start(&right).await;
    gateway
        .reload_text(&right.text().replace(SECRET, other))
        .await
        .unwrap();
    let ask = format!(
        "GET /private HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {}\r\n\r\n",
        token(60)
    );
    let mut client = gateway.client().await;
    for _ in 0..3 {
        client.send(&ask).await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status(), answer.word()),
            (401, "token_signature_invalid".into())
        );
    }
    gateway
        .figure_becomes("portcullis_token_cache_misses_total", 2.0)
        .await;

    gateway.reload(&right).await.unwrap();
    client.send(&ask).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send(OK).await;
    assert_eq!(client.answer().await.status(), 200);
}

#[tokio::test]
async fn a_route_that_is_gone_ends_its_streams() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::start(&base(&upstream).route("/events", "")).await;
    let (mut client, mut peer) = stream(&upstream, &gateway, "").await;
    gateway
        .reload(&base(&upstream).route("/new", ""))
        .await
        .unwrap();
    client.until("event: auth_revoked\n").await;
    client.until("0\r\n\r\n").await;
    peer.closed().await;
}

#[tokio::test]
async fn an_issuer_that_is_gone_ends_the_streams_of_its_users_and_no_others() {
    let upstream = RawUpstream::start().await;
    let routes = |setup: Setup| setup.guarded("optional", "/events", "");
    let gateway = Gateway::start(&routes(base(&upstream).issuer())).await;
    let bearer = format!("authorization: Bearer {}\r\n", token(600));
    let (mut user, _peer) = stream(&upstream, &gateway, &bearer).await;
    let (mut guest, mut peer) = stream(&upstream, &gateway, "").await;
    let other = "[[issuer]]\nname = \"other\"\niss = \"https://other.test\"\naudience = []\n\
                 algorithms = [\"HS256\"]\nsecret = \"Zs4WnY8bHc6JpDg1RavJ3kQ7fT2XmL9r\"";
    gateway
        .reload(&routes(base(&upstream).piece(other)))
        .await
        .unwrap();
    user.until("event: auth_revoked\n").await;
    peer.send("9\r\ndata: 2\n\n\r\n").await;
    guest.until("data: 2\n\n").await;
}

#[tokio::test]
async fn a_bad_configuration_changes_nothing() {
    let upstream = RawUpstream::start().await;
    let good = base(&upstream).route("/events", "");
    let gateway = Gateway::start(&good).await;
    let (mut client, mut peer) = stream(&upstream, &gateway, "").await;
    let bad = good.piece("nonsense = 1");
    let told = gateway.reload(&bad).await.unwrap_err();
    assert!(told.contains("nonsense"), "{told}");
    peer.send("9\r\ndata: 2\n\n\r\n").await;
    client.until("data: 2\n\n").await;
    assert_eq!(gateway.get("/other").await.status(), 404);
}

#[tokio::test]
async fn a_request_under_way_keeps_the_configuration_that_it_began_with() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::start(&base(&upstream).route("/a", "")).await;
    let mut client = gateway.client().await;
    client.send("GET /a HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    gateway
        .reload(&base(&upstream).route("/b", ""))
        .await
        .unwrap();
    peer.send(OK).await;
    assert_eq!(client.answer().await.text(), "ok");
    assert_eq!(client.get("/a").await.status(), 404);
}

#[tokio::test]
async fn a_drain_lets_requests_finish_and_takes_no_new_connection() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::start(&base(&upstream).route("/a", "")).await;
    let mut idle = gateway.client().await;
    assert_eq!(idle.get("/").await.status(), 404);
    let mut silent = gateway.client().await;
    let mut client = gateway.client().await;
    client.send("GET /a HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    let stopped = gateway.stop();
    idle.closed().await;
    silent.closed().await;
    until(async || is_refused(gateway.address).await).await;
    assert_eq!(gateway.page("/readyz").await.status(), 503);
    assert_eq!(gateway.page("/healthz").await.status(), 200);
    peer.send(OK).await;
    let answer = client.answer().await;
    assert_eq!(answer.text(), "ok");
    client.closed().await;
    soon(stopped).await.unwrap();
}

#[tokio::test]
async fn a_drain_says_goodbye_to_streams_and_websockets() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::start(&base(&upstream).route("/{*rest}", "")).await;
    let (mut reader, mut source) = stream(&upstream, &gateway, "").await;
    let (mut client, mut peer) = super::switching::tunnel(&upstream, &gateway, "").await;
    peer.send(bare(TEXT, b"hi")).await;
    assert_eq!(client.frame().await.1, b"hi");
    let stopped = gateway.stop();
    let goodbye = reader.until("event: draining\n").await;
    assert!(goodbye.contains("retry: "), "{goodbye}");
    reader.until("0\r\n\r\n").await;
    source.closed().await;
    for side in [&mut client, &mut peer] {
        let (opcode, payload) = side.frame().await;
        assert_eq!((opcode, code(&payload)), (CLOSE, 1012));
    }
    drop((client, peer));
    soon(stopped).await.unwrap();
    let lines = gateway.lines(2).await;
    assert!(
        lines.iter().all(|line| line["end"] == "draining"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn an_http2_client_is_told_to_go_elsewhere_and_its_requests_finish() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::start(&base(&upstream).route("/{*rest}", "")).await;
    let mut sender = super::downstream::http2(gateway.address).await;
    let request = http::Request::get("http://here/a").body(crate::harness::empty());
    let answer = tokio::spawn(sender.send_request(request.unwrap()));
    let mut peer = upstream.accept().await;
    peer.head().await;
    let stopped = gateway.stop();
    until(async || sender.is_closed() || is_refused(gateway.address).await).await;
    peer.send(OK).await;
    let answer = soon(answer).await.unwrap().unwrap();
    let body = http_body_util::BodyExt::collect(answer.into_body());
    assert_eq!(soon(body).await.unwrap().to_bytes(), "ok");
    soon(stopped).await.unwrap();
}

#[tokio::test]
async fn a_drain_has_an_end() {
    let upstream = RawUpstream::start().await;
    let setup = base(&upstream)
        .server("drain_timeout = \"200ms\"")
        .route("/{*rest}", "");
    let gateway = Gateway::start(&setup).await;
    let mut client = gateway.client().await;
    client.send("GET /a HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    soon(gateway.stop()).await.unwrap();
    client.closed().await;
    peer.closed().await;
}
