//! HTTP/2 towards clients, where it differs from HTTP/1.1 on the socket: interim answers as frames, windows, resets.

use std::future::poll_fn;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use crate::harness::peer::RawUpstream;
use crate::harness::upstream::channel;
use crate::harness::{Gateway, Peer, Setup, Upstream, soon};

/// A client that sees each frame's worth.
struct Client(SendRequest<Bytes>);

impl Client {
    async fn connect(gateway: &Gateway) -> Self {
        Self::with(gateway, &h2::client::Builder::new()).await
    }

    async fn with(gateway: &Gateway, builder: &h2::client::Builder) -> Self {
        let socket = soon(tokio::net::TcpStream::connect(gateway.address)).await;
        let (sender, connection) = soon(builder.handshake(socket.unwrap())).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    /// Sends a head; `ends`: that is all.
    async fn send(
        &mut self,
        request: http::request::Builder,
        ends: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        self.0 = soon(self.0.clone().ready()).await.unwrap();
        self.0
            .send_request(request.body(()).unwrap(), ends)
            .unwrap()
    }
}

fn get() -> http::request::Builder {
    Request::get("http://here/a")
}

fn post() -> http::request::Builder {
    Request::post("http://here/a")
}

/// The next interim answer; `None`: the final one is next.
async fn interim(answer: &mut ResponseFuture) -> Option<Response<()>> {
    let next = soon(poll_fn(|cx| answer.poll_informational(cx))).await;
    next.map(Result::unwrap)
}

async fn text(answer: Response<RecvStream>) -> String {
    let mut body = answer.into_body();
    let mut all = Vec::new();
    while let Some(data) = soon(body.data()).await {
        let data = data.unwrap();
        all.extend(&data);
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    String::from_utf8(all).unwrap()
}

async fn scene(lines: &str) -> (RawUpstream, Gateway, Client) {
    let upstream = RawUpstream::start().await;
    let setup = Setup::new()
        .issuer()
        .upstream(&upstream.url(), "")
        .guarded("required", "/closed/{*rest}", "")
        .route("/{*rest}", lines);
    let gateway = Gateway::start(&setup).await;
    let client = Client::connect(&gateway).await;
    (upstream, gateway, client)
}

/// The upstream's side of the next request.
async fn asked(upstream: &RawUpstream) -> Peer {
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn hints_of_the_upstream_come_before_the_answer() {
    for lines in ["", "on_disconnect = \"finish\""] {
        let (upstream, _gateway, mut client) = scene(lines).await;
        let (mut answer, _) = client.send(get(), true).await;
        let mut peer = asked(&upstream).await;
        peer.send(
            "HTTP/1.1 100 Continue\r\n\r\n\
             HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nconnection: x-b\r\nx-b: c\r\n\
             content-length: 7\r\ntransfer-encoding: chunked\r\nkeep-alive: timeout=5\r\n\r\n",
        )
        .await;
        let hint = interim(&mut answer).await.unwrap();
        assert_eq!(hint.status(), StatusCode::EARLY_HINTS);
        assert_eq!(hint.headers()["link"], "</a.css>; rel=preload");
        assert_eq!(hint.headers().len(), 1, "{:?}", hint.headers());
        peer.send(format!("HTTP/1.1 102 Processing\r\n\r\n{OK}"))
            .await;
        let hint = interim(&mut answer).await.unwrap();
        assert_eq!(hint.status(), StatusCode::PROCESSING);
        assert!(interim(&mut answer).await.is_none());
        let answer = soon(answer).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.headers().contains_key("date"));
        assert_eq!(text(answer).await, "ok");
    }
}

#[tokio::test]
async fn hints_reach_the_stream_that_asked_and_no_other() {
    let (upstream, _gateway, mut client) = scene("").await;
    let (mut first, _) = client.send(get(), true).await;
    let mut one = asked(&upstream).await;
    let (mut second, _) = client.send(get(), true).await;
    let mut two = asked(&upstream).await;
    two.send(format!("HTTP/1.1 103 Early Hints\r\nlink: 2\r\n\r\n{OK}"))
        .await;
    assert_eq!(interim(&mut second).await.unwrap().headers()["link"], "2");
    assert_eq!(text(soon(second).await.unwrap()).await, "ok");
    one.send(OK).await;
    assert!(interim(&mut first).await.is_none());
    assert_eq!(text(soon(first).await.unwrap()).await, "ok");
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on_only_when_it_may() {
    let (upstream, _gateway, mut client) = scene("").await;
    let expects = |path: &str| {
        let request = Request::post(format!("http://here{path}"));
        request
            .header("expect", "100-continue")
            .header("content-length", "3")
    };
    let (mut answer, mut body) = client.send(expects("/a"), false).await;
    let hint = interim(&mut answer).await.unwrap();
    assert_eq!(hint.status(), StatusCode::CONTINUE);
    body.send_data(Bytes::from_static(b"abc"), true).unwrap();
    let mut peer = upstream.accept().await;
    let head = peer.head().await;
    assert_eq!(head.get("expect"), None);
    assert_eq!(peer.body(head).await.body, b"abc");
    peer.send(OK).await;
    assert!(interim(&mut answer).await.is_none());
    assert_eq!(text(soon(answer).await.unwrap()).await, "ok");

    let (mut answer, _body) = client.send(expects("/closed/a"), false).await;
    assert!(interim(&mut answer).await.is_none());
    assert_eq!(soon(answer).await.unwrap().status(), 401);
}

#[tokio::test]
async fn trailers_pass_between_http2_and_http1_without_what_could_be_an_identity() {
    let (upstream, _gateway, mut client) = scene("").await;
    let (answer, mut body) = client.send(post().header("te", "trailers"), false).await;
    body.send_data(Bytes::from_static(b"ab"), false).unwrap();
    let mut trailers = HeaderMap::new();
    for (name, value) in [
        ("digest", "sha-256=x"),
        ("x-user-id", "evil"),
        ("x_auth_status", "evil"),
    ] {
        trailers.insert(name, HeaderValue::from_static(value));
    }
    body.send_trailers(trailers).unwrap();
    let mut peer = upstream.accept().await;
    let head = peer.head().await;
    assert_eq!(head.get("te"), Some("trailers"));
    let request = peer.body(head).await;
    assert_eq!(request.body, b"ab");
    assert!(
        request.trailers.contains("digest: sha-256=x"),
        "{}",
        request.trailers
    );
    assert!(!request.trailers.contains("evil"), "{}", request.trailers);
    peer.send(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n",
    )
    .await;
    let mut answer = soon(answer).await.unwrap().into_body();
    assert_eq!(soon(answer.data()).await.unwrap().unwrap(), "ok");
    assert!(soon(answer.data()).await.is_none());
    let trailers = soon(answer.trailers()).await.unwrap().unwrap();
    assert_eq!(trailers["x-sum"], "7");
}

#[tokio::test]
async fn an_answer_to_head_has_no_body_and_says_how_long_it_would_be() {
    let (upstream, _gateway, mut client) = scene("").await;
    let head = |path: &str| Request::head(format!("http://here{path}"));
    let (answer, _) = client.send(head("/a"), true).await;
    let mut peer = asked(&upstream).await;
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n")
        .await;
    let answer = soon(answer).await.unwrap();
    assert_eq!(answer.headers()["content-length"], "12");
    assert!(answer.body().is_end_stream());
    // One of the gateway's own, which has a body.
    let (answer, _) = client.send(head("/closed/a"), true).await;
    let answer = soon(answer).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(text(answer).await, "");
}

#[tokio::test]
async fn an_upload_that_its_client_breaks_off_is_never_whole() {
    for reason in [Reason::CANCEL, Reason::NO_ERROR] {
        let (upstream, _gateway, mut client) = scene("").await;
        let (_answer, mut body) = client.send(post(), false).await;
        body.send_data(Bytes::from_static(b"ab"), false).unwrap();
        let mut peer = asked(&upstream).await;
        assert_eq!(peer.chunk().await, b"ab");
        body.send_reset(reason);
        assert!(peer.chunks().await.is_none(), "{reason:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_breaks_off_resets_the_stream_alone() {
    let (upstream, _gateway, mut client) = scene("").await;
    let (answer, _) = client.send(get(), true).await;
    let mut peer = asked(&upstream).await;
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
        .await;
    let mut body = soon(answer).await.unwrap().into_body();
    assert_eq!(soon(body.data()).await.unwrap().unwrap(), "abc");
    drop(peer);
    let error = soon(body.data()).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    let (answer, _) = client.send(get(), true).await;
    asked(&upstream).await.send(OK).await;
    assert_eq!(text(soon(answer).await.unwrap()).await, "ok");
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_asks_the_client_to_stop() {
    let (_upstream, _gateway, mut client) = scene("").await;
    let (answer, mut body) = client
        .send(Request::post("http://here/closed/a"), false)
        .await;
    let answer = soon(answer).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert!(text(answer).await.contains("token_missing"));
    let reason = soon(poll_fn(|cx| body.poll_reset(cx))).await.unwrap();
    assert_eq!(reason, Reason::NO_ERROR);
}

#[tokio::test]
async fn a_client_that_takes_nothing_stops_the_upstream_and_is_given_up() {
    const PIECE: usize = 64 * 1024;
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
    let lines = "send_timeout = \"300ms\"\nmin_body_rate = \"0B\"";
    let setup = Setup::simple(&upstream.url).server(lines);
    let gateway = Gateway::start(&setup).await;
    let mut client = Client::connect(&gateway).await;
    let (answer, _) = client.send(get(), true).await;
    let pieces = soon(hear.recv()).await.unwrap();
    let mut sent = 0;
    while pieces.send(vec![b'x'; PIECE]).await {
        sent += PIECE;
    }
    // What sockets and HTTP libraries hold on the way.
    assert!(sent < 32 << 20, "the gateway took {sent} bytes");
    let mut body = soon(answer).await.unwrap().into_body();
    let error = loop {
        if let Err(error) = soon(body.data()).await.unwrap() {
            break error;
        }
    };
    assert_eq!(error.reason(), Some(Reason::CANCEL));
}

#[tokio::test]
async fn a_connect_with_a_length_is_reset_and_the_connection_goes_on() {
    let (upstream, _gateway, mut client) = scene("").await;
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri("here:80")
        .header("content-length", "5");
    let (answer, _body) = client.send(request, false).await;
    let error = soon(answer).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR));
    let (answer, _) = client.send(get(), true).await;
    asked(&upstream).await.send(OK).await;
    assert_eq!(text(soon(answer).await.unwrap()).await, "ok");
}
