//! Connections that become something else: WebSockets over both versions, other protocols, refusals.

use http::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;

use crate::harness::peer::RawUpstream;
use crate::harness::websocket::{ACCEPTED, CLOSE, HANDSHAKE, TEXT, bare, closing, code, masked};
use crate::harness::{Gateway, Peer, Setup, empty, soon, token};

async fn gateway(lines: &str) -> (RawUpstream, Gateway) {
    gateway_for("public", lines).await
}

async fn gateway_for(auth: &str, lines: &str) -> (RawUpstream, Gateway) {
    let upstream = RawUpstream::start().await;
    let setup = Setup::new()
        .issuer()
        .piece("[tokens]\nleeway = \"0s\"")
        .upstream(&upstream.url(), "")
        .guarded(auth, "/{*rest}", lines);
    let gateway = Gateway::start(&setup).await;
    (upstream, gateway)
}

fn handshake(more: &str) -> String {
    format!("GET /ws HTTP/1.1\r\nhost: here\r\n{HANDSHAKE}{more}\r\n")
}

/// A tunnel through `gateway`: the client's end and the upstream's.
pub async fn tunnel(upstream: &RawUpstream, gateway: &Gateway, more: &str) -> (Peer, Peer) {
    let mut client = gateway.client().await;
    client.send(handshake(more)).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send(ACCEPTED).await;
    let head = client.head().await;
    assert_eq!(head.status(), 101);
    (client, peer)
}

#[tokio::test]
async fn frames_pass_both_ways_and_so_does_the_closing_handshake() {
    let (upstream, gateway) = gateway("").await;
    let (mut client, mut peer) = tunnel(&upstream, &gateway, "").await;
    client.send(masked(TEXT, b"ping")).await;
    assert_eq!(peer.frame().await, (TEXT, b"ping".to_vec()));
    peer.send(bare(TEXT, b"pong")).await;
    assert_eq!(client.frame().await, (TEXT, b"pong".to_vec()));
    client.send(masked(CLOSE, &closing(1000, "bye"))).await;
    assert_eq!(peer.frame().await, (CLOSE, closing(1000, "bye")));
    peer.send(bare(CLOSE, &closing(1000, "bye"))).await;
    assert_eq!(client.frame().await, (CLOSE, closing(1000, "bye")));
    drop(peer);
    client.closed().await;
    let line = &gateway.lines(1).await[0];
    assert_eq!(
        (&line["status"], &line["kind"]),
        (&101.into(), &"websocket".into())
    );
    assert_eq!(line["end"], "finished");
}

#[tokio::test]
async fn bytes_that_come_early_are_not_lost() {
    let (upstream, gateway) = gateway("").await;
    let mut client = gateway.client().await;
    let early = [handshake("").into_bytes(), masked(TEXT, b"first")].concat();
    client.send(early).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send([ACCEPTED.as_bytes(), &bare(TEXT, b"hello")].concat())
        .await;
    assert_eq!(client.head().await.status(), 101);
    assert_eq!(client.frame().await.1, b"hello");
    assert_eq!(peer.frame().await.1, b"first");
}

#[tokio::test]
async fn an_upstream_that_does_not_switch_stays_http() {
    let (upstream, gateway) = gateway("").await;
    for status in ["403 Forbidden", "200 OK"] {
        let mut client = gateway.client().await;
        client.send(handshake("")).await;
        let mut peer = upstream.accept().await;
        peer.head().await;
        peer.send(format!(
            "HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
        ))
        .await;
        drop(peer);
        let answer = client.answer().await;
        assert_eq!(answer.status().to_string(), status[..3]);
        assert_eq!(answer.text(), "no");
        // Still HTTP: the next request is one.
        client.send("GET /b HTTP/1.1\r\nhost: here\r\n\r\n").await;
        let mut peer = upstream.accept().await;
        assert!(peer.head().await.line().starts_with("GET /b "));
        peer.send("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
            .await;
        assert_eq!(client.answer().await.status(), 204);
    }
}

#[tokio::test]
async fn a_route_without_websockets_refuses_them() {
    let (_upstream, gateway) = gateway("[route.websocket]\nenabled = false").await;
    let mut client = gateway.client().await;
    client.send(handshake("")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), &*answer.word()), (400, "upgrade_refused"));
}

const OTHER: &str =
    "GET /a HTTP/1.1\r\nhost: here\r\nconnection: upgrade\r\nupgrade: x-proto\r\n\r\n";

#[tokio::test]
async fn a_protocol_that_the_route_names_is_let_through_untouched() {
    let (upstream, gateway) = gateway("upgrades = [\"x-proto\"]").await;
    let mut client = gateway.client().await;
    client.send(OTHER).await;
    let mut peer = upstream.accept().await;
    assert_eq!(peer.head().await.get("upgrade"), Some("x-proto"));
    peer.send(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x-proto\r\n\r\nhi",
    )
    .await;
    assert_eq!(client.head().await.status(), 101);
    assert_eq!(client.take(2).await, b"hi");
    client.send("\0\x01raw").await;
    assert_eq!(peer.take(5).await, b"\0\x01raw");
    drop(client);
    peer.closed().await;
}

#[tokio::test]
async fn a_protocol_that_no_route_names_is_not_asked_for() {
    let (upstream, gateway) = gateway("").await;
    let mut client = gateway.client().await;
    client.send(OTHER).await;
    let mut peer = upstream.accept().await;
    let head = peer.head().await;
    assert_eq!((head.get("upgrade"), head.get("connection")), (None, None));
    peer.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 204);
}

#[tokio::test]
async fn a_refused_handshake_can_say_why_over_the_socket() {
    let (_upstream, gateway) =
        gateway_for("required", "[route.websocket]\non_reject = \"close\"").await;
    let mut client = gateway.client().await;
    client.send(handshake("")).await;
    assert_eq!(client.head().await.status(), 101);
    let (opcode, text) = client.frame().await;
    let body: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((opcode, &body["error"]), (TEXT, &"token_missing".into()));
    let (opcode, payload) = client.frame().await;
    assert_eq!((opcode, code(&payload)), (CLOSE, 4401));
    assert_eq!(&payload[2..], b"token_missing");
    client.send(masked(CLOSE, &closing(4401, ""))).await;
    client.closed().await;
}

#[tokio::test]
async fn a_greeting_comes_first() {
    let (upstream, gateway) = gateway_for("required", "[route.websocket]\ngreeting = true").await;
    let bearer = format!("authorization: Bearer {}\r\n", token(600));
    let (mut client, mut peer) = tunnel(&upstream, &gateway, &bearer).await;
    peer.send(bare(TEXT, b"second")).await;
    let greeting: serde_json::Value = serde_json::from_slice(&client.frame().await.1).unwrap();
    assert_eq!(greeting["type"], "connected");
    assert_eq!(greeting["user_id"], "u1");
    assert_eq!(client.frame().await.1, b"second");
}

#[tokio::test]
async fn the_end_of_the_token_closes_both_sides() {
    let (upstream, gateway) = gateway_for("required", "").await;
    let bearer = format!("authorization: Bearer {}\r\n", token(2));
    let (mut client, mut peer) = tunnel(&upstream, &gateway, &bearer).await;
    let (_, warning) = client.frame().await;
    assert!(warning.starts_with(br#"{"type":"auth_expiring""#));
    for side in [&mut client, &mut peer] {
        let (opcode, payload) = side.frame().await;
        assert_eq!((opcode, code(&payload)), (CLOSE, 4401));
        assert_eq!(&payload[2..], b"auth_expired");
    }
    drop(peer);
    client.closed().await;
    assert_eq!(gateway.lines(1).await[0]["end"], "auth_expired");
}

type Answering = tokio::task::JoinHandle<hyper::Result<http::Response<hyper::body::Incoming>>>;

/// A WebSocket asked for over HTTP/2.
async fn ask_over_http2(gateway: &Gateway) -> Answering {
    let mut sender = super::downstream::http2(gateway.address).await;
    // Extended CONNECT may be used once the server has said that it may: before any answer.
    let other = Request::builder()
        .method("TRACE")
        .uri("http://here/")
        .body(empty());
    let answer = soon(sender.send_request(other.unwrap())).await.unwrap();
    assert_eq!(answer.status(), 405);
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri("http://here/ws")
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(empty())
        .unwrap();
    tokio::spawn(async move { sender.send_request(request).await })
}

/// The same, and the upstream's side of it before it has answered.
async fn over_http2(gateway: &Gateway, upstream: &RawUpstream) -> (Answering, Peer) {
    let answer = ask_over_http2(gateway).await;
    let mut peer = upstream.accept().await;
    let head = peer.head().await;
    assert!(head.line().starts_with("GET /ws HTTP/1.1"));
    assert_eq!(head.get("upgrade"), Some("websocket"));
    assert!(head.get("sec-websocket-key").is_some());
    (answer, peer)
}

#[tokio::test]
async fn a_websocket_over_http2_reaches_an_http1_upstream() {
    let (upstream, gateway) = gateway("").await;
    let (answer, mut peer) = over_http2(&gateway, &upstream).await;
    peer.send(ACCEPTED).await;
    let answer = soon(answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let switched = soon(hyper::upgrade::on(answer)).await.unwrap();
    let mut client = Peer::over(TokioIo::new(switched));
    client.send(masked(TEXT, b"ping")).await;
    assert_eq!(peer.frame().await.1, b"ping");
    peer.send(bare(TEXT, b"pong")).await;
    assert_eq!(client.frame().await.1, b"pong");
    drop(client);
    peer.closed().await;
}

#[tokio::test]
async fn a_websocket_over_http2_may_be_refused_by_the_upstream() {
    let (upstream, gateway) = gateway("").await;
    let (answer, mut peer) = over_http2(&gateway, &upstream).await;
    peer.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
        .await;
    let answer = soon(answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let body = http_body_util::BodyExt::collect(answer.into_body());
    assert_eq!(soon(body).await.unwrap().to_bytes(), "no");
}

#[tokio::test]
async fn over_http2_an_answer_that_opens_nothing_is_not_taken_for_a_tunnel() {
    // Any 2xx would tell the client that its tunnel is open (CVE-2024-23326).
    let (upstream, gateway) = gateway("").await;
    let (answer, mut peer) = over_http2(&gateway, &upstream).await;
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno")
        .await;
    let answer = soon(answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    peer.closed().await;
}

#[tokio::test]
async fn over_http2_a_refused_handshake_can_say_why_too() {
    let (_upstream, gateway) =
        gateway_for("required", "[route.websocket]\non_reject = \"close\"").await;
    let answer = soon(ask_over_http2(&gateway).await).await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let switched = soon(hyper::upgrade::on(answer)).await.unwrap();
    let mut client = Peer::over(TokioIo::new(switched));
    let (opcode, text) = client.frame().await;
    let body: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((opcode, &body["error"]), (TEXT, &"token_missing".into()));
    let (opcode, payload) = client.frame().await;
    assert_eq!((opcode, code(&payload)), (CLOSE, 4401));
    client.send(masked(CLOSE, &closing(4401, ""))).await;
    client.closed().await;
}
