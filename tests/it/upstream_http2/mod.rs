//! HTTP/2 towards upstreams: interim answers, resets on both sides, windows. `connections.rs` has what a connection carries.

mod connections;

use std::future::poll_fn;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Request};

use crate::attacks::rawh2::{
    DATA, END_HEADERS, END_STREAM, HEADERS, Http2, SETTINGS, block, frame,
};
use crate::harness::peer::RawUpstream;
use crate::harness::service::{Asked, Serving};
use crate::harness::setup::token;
use crate::harness::{Gateway, Peer, Service, Setup, soon};

const GET: &str = "GET /a HTTP/1.1\r\nhost: here\r\n\r\n";

async fn scene(lines: &str) -> (Service, Gateway) {
    let service = Service::start().await;
    let gateway = Gateway::start(&service.setup(lines)).await;
    (service, gateway)
}

/// A request as its service sees it, over a new connection.
async fn sent(service: &Service, gateway: &Gateway, bytes: &str) -> (Peer, Serving, Asked) {
    let mut client = gateway.client().await;
    client.send(bytes).await;
    let mut serving = service.accept().await;
    let asked = serving.asked().await;
    (client, serving, asked)
}

/// The service's side of a connection of which each frame is the test's, up to the first request.
async fn raw(service: &Service) -> Http2 {
    let mut peer = service.accept_raw().await;
    assert!(peer.take(24).await.starts_with(b"PRI * HTTP/2.0"));
    let mut raw = Http2 { peer };
    raw.frame(SETTINGS, 0, 0, &[]).await;
    while raw.next().await.expect("a request comes").kind != HEADERS {}
    raw
}

const OK: &[(&str, &str)] = &[(":status", "200")];

#[tokio::test]
async fn a_caller_is_told_the_same_over_both_protocols_whoever_waits() {
    let get = format!(
        "GET /a HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {}\r\nx-user-id: evil\r\n\r\n",
        token(60)
    );
    for more in ["", "on_disconnect = \"finish\""] {
        let setup = |url: &str, upstream: &str| {
            let setup = Setup::new().issuer().upstream(url, upstream);
            setup.guarded("required", "/{*rest}", more)
        };
        let service = Service::start().await;
        let gateway = Gateway::start(&setup(&service.url(), "protocol = \"http2\"")).await;
        let (_client, _serving, asked) = sent(&service, &gateway, &get).await;
        let values = asked.request.headers().get_all("x-user-id");
        assert_eq!(values.iter().collect::<Vec<_>>(), ["u1"]);
        let upstream = RawUpstream::start().await;
        let gateway = Gateway::start(&setup(&upstream.url(), "")).await;
        let mut client = gateway.client().await;
        client.send(&get).await;
        let head = upstream.accept().await.head().await;
        assert_eq!(head.all("x-user-id"), ["u1"]);
    }
}

#[tokio::test]
async fn hints_reach_a_client_of_http1_before_the_answer() {
    for lines in ["", "on_disconnect = \"finish\""] {
        let (service, gateway) = scene(lines).await;
        let (mut client, mut serving, mut asked) = sent(&service, &gateway, GET).await;
        asked.hint(100, &[]);
        asked.hint(103, &[("link", "</a.css>; rel=preload")]);
        let hint = client.head().await;
        assert_eq!(hint.line(), "HTTP/1.1 103 Early Hints");
        assert_eq!(hint.get("link"), Some("</a.css>; rel=preload"));
        asked.hint(102, &[]);
        assert_eq!(client.head().await.status(), 102);
        asked.answer("ok");
        assert_eq!(client.answer().await.text(), "ok");
        // The connections are in step.
        client.send(GET).await;
        serving.asked().await.answer("again");
        assert_eq!(client.answer().await.text(), "again");
    }
}

#[tokio::test]
async fn hints_reach_the_stream_of_a_client_of_http2_that_asked() {
    let (service, gateway) = scene("").await;
    let socket = tokio::net::TcpStream::connect(gateway.address).await;
    let (mut sender, connection) = h2::client::handshake(socket.unwrap()).await.unwrap();
    tokio::spawn(connection);
    let mut ask = |path: &str| {
        let request = Request::get(format!("http://here{path}")).body(());
        sender.send_request(request.unwrap(), true).unwrap().0
    };
    let (mut first, mut second) = (ask("/1"), ask("/2"));
    let mut serving = service.accept().await;
    let mut one = serving.asked().await;
    let mut two = serving.asked().await;
    if one.path() == "/2" {
        std::mem::swap(&mut one, &mut two);
    }
    two.hint(103, &[("link", "2")]);
    two.hint(102, &[]);
    two.answer("ok");
    for status in [103, 102] {
        let hint = soon(poll_fn(|cx| second.poll_informational(cx))).await;
        assert_eq!(hint.unwrap().unwrap().status(), status);
    }
    assert_eq!(soon(second).await.unwrap().status(), 200);
    one.answer("ok");
    assert!(
        soon(poll_fn(|cx| first.poll_informational(cx)))
            .await
            .is_none()
    );
    assert_eq!(soon(first).await.unwrap().status(), 200);
}

#[tokio::test]
async fn hints_for_a_client_that_reads_none_fill_nothing() {
    const HINTS: usize = 32 * 1024;
    let (service, gateway) = scene("").await;
    let mut client = Http2::connect(gateway.address).await;
    client.get("/a", &[]).await;
    let mut raw = raw(&service).await;
    let link = "a".repeat(1000);
    let hint = block(&[(":status", "103"), ("link", &link)]);
    let hints = frame(HEADERS, END_HEADERS, 1, &hint).repeat(32);
    for _ in 0..HINTS / 32 {
        assert!(raw.try_frames(&hints).await);
    }
    raw.headers(1, OK, false).await;
    raw.data(1, b"ok", true).await;
    let (mut heads, mut bytes) = (0, 0);
    loop {
        let frame = client.next().await.expect("the connection lives");
        match frame.kind {
            HEADERS if frame.stream == 1 => {
                (heads, bytes) = (heads + 1, bytes + frame.payload.len())
            }
            DATA if frame.stream == 1 => break,
            _ => {}
        }
    }
    assert!(heads > 1, "some of them came");
    assert!(bytes < HINTS * 1000 / 2, "{heads} heads, {bytes} bytes");
}

#[tokio::test]
async fn hints_without_end_do_not_make_up_for_an_answer() {
    let service = Service::start().await;
    let lines = "first_byte_timeout = \"300ms\"";
    let gateway = Gateway::start(&service.setup_with(lines, "")).await;
    let mut client = gateway.client().await;
    client.send(GET).await;
    let mut raw = raw(&service).await;
    let hints = frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "102")])).repeat(32);
    let flood = async { while raw.try_frames(&hints).await {} };
    let answer = async {
        loop {
            let head = client.head().await;
            if head.status() != 102 {
                break client.body(head).await;
            }
        }
    };
    let answer = tokio::select! {
        answer = soon(answer) => answer,
        () = flood => unreachable!("the connection goes on"),
    };
    assert_eq!(
        (answer.status(), &*answer.word()),
        (504, "upstream_timeout")
    );
}

#[tokio::test]
async fn a_switch_of_protocols_is_no_answer() {
    let (service, gateway) = scene("").await;
    let mut client = gateway.client().await;
    client.send(GET).await;
    let mut raw = raw(&service).await;
    raw.headers(1, &[(":status", "101")], false).await;
    assert_eq!(client.answer().await.status(), 502);
}

#[tokio::test]
async fn a_client_that_leaves_has_its_stream_reset_and_no_other() {
    let (service, gateway) = scene("").await;
    let (_stays, mut serving, kept) = sent(&service, &gateway, GET).await;
    let mut stays = gateway.client().await;
    stays.send(GET).await;
    let kept_too = serving.asked().await;
    // Before the first byte.
    let mut leaves = gateway.client().await;
    leaves.send(GET).await;
    let mut asked = serving.asked().await;
    drop(leaves);
    assert_eq!(asked.left().await, Reason::CANCEL);
    // Within the answer.
    let mut leaves = gateway.client().await;
    leaves.send(GET).await;
    let mut asked = serving.asked().await;
    let mut body = asked.begin(200, &[]);
    body.send_data(Bytes::from_static(b"part"), false).unwrap();
    leaves.until("part").await;
    drop(leaves);
    let reset = soon(poll_fn(|cx| body.poll_reset(cx))).await.unwrap();
    assert_eq!(reset, Reason::CANCEL);
    // Within the request.
    let mut leaves = gateway.client().await;
    leaves
        .send("POST /a HTTP/1.1\r\nhost: here\r\ncontent-length: 9\r\n\r\npart")
        .await;
    let mut asked = serving.asked().await;
    drop(leaves);
    let error = asked.body().await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::CANCEL));
    kept_too.answer("ok");
    assert_eq!(stays.answer().await.text(), "ok");
    drop(kept);
}

#[tokio::test]
async fn trailers_and_te_pass_between_http1_and_http2() {
    let (service, gateway) = scene("").await;
    let post = "POST /a HTTP/1.1\r\nhost: here\r\nte: trailers\r\nconnection: te\r\n\
                transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\ndigest: d\r\nx-user-id: evil\r\n\r\n";
    let (mut client, _serving, mut asked) = sent(&service, &gateway, post).await;
    let headers = asked.request.headers();
    assert_eq!(headers["te"], "trailers");
    assert!(!headers.contains_key("transfer-encoding") && !headers.contains_key("connection"));
    let (body, trailers) = asked.body().await.unwrap();
    assert_eq!(body, "hi");
    let trailers = trailers.unwrap();
    assert_eq!(
        (trailers.len(), &trailers["digest"]),
        (1, &"d".parse().unwrap())
    );
    let mut answer = asked.begin(200, &[("trailer", "x-sum")]);
    answer.send_data(Bytes::from_static(b"ok"), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("7"));
    answer.send_trailers(trailers).unwrap();
    let answer = client.answer().await;
    assert_eq!(answer.text(), "ok");
    assert!(answer.trailers.contains("x-sum: 7"), "{}", answer.trailers);
}

#[tokio::test]
async fn lengths_are_told_as_they_are() {
    let (service, gateway) = scene("").await;
    let (mut client, mut serving, mut asked) =
        sent(&service, &gateway, "HEAD /a HTTP/1.1\r\nhost: here\r\n\r\n").await;
    assert!(!asked.request.headers().contains_key("content-length"));
    asked.bare(200, &[("content-length", "12")]);
    let head = client.head().await;
    assert_eq!(
        (head.status(), head.get("content-length")),
        (200, Some("12"))
    );
    for (method, stated, told) in [
        ("POST", "content-length: 0\r\n", Some("0")),
        ("POST", "", Some("0")),
        ("GET", "", None),
        ("PUT", "content-length: 2\r\n", Some("2")),
        ("PUT", "transfer-encoding: chunked\r\n", None),
    ] {
        let body = match stated {
            "content-length: 2\r\n" => "hi",
            "transfer-encoding: chunked\r\n" => "2\r\nhi\r\n0\r\n\r\n",
            _ => "",
        };
        client
            .send(format!(
                "{method} /a HTTP/1.1\r\nhost: here\r\n{stated}\r\n{body}"
            ))
            .await;
        let mut asked = serving.asked().await;
        let length = asked.request.headers().get("content-length").cloned();
        assert_eq!(
            length.as_ref().map(|it| it.to_str().unwrap()),
            told,
            "{method} {stated}"
        );
        let (seen, _) = asked.body().await.unwrap();
        assert_eq!(seen, if body.is_empty() { "" } else { "hi" });
        asked.answer("ok");
        assert_eq!(client.answer().await.text(), "ok");
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_is_never_taken_for_the_whole() {
    for reason in [Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR] {
        let (service, gateway) = scene("").await;
        let (mut client, _serving, mut asked) = sent(&service, &gateway, GET).await;
        let mut body = asked.begin(200, &[]);
        body.send_data(Bytes::from_static(b"part"), false).unwrap();
        client.until("part").await;
        body.send_reset(reason);
        let rest = client.rest().await;
        assert!(!rest.ends_with(b"0\r\n\r\n"), "{reason:?}: {rest:?}");
    }
}

#[tokio::test]
async fn an_answer_that_belies_its_length_is_cut() {
    let long = |raw: Vec<u8>| [raw, frame(DATA, END_STREAM, 1, b"more than five")].concat();
    let short = |raw: Vec<u8>| [raw, frame(DATA, END_STREAM, 1, b"hey")].concat();
    let head = || {
        let block = block(&[(":status", "200"), ("content-length", "5")]);
        frame(HEADERS, END_HEADERS, 1, &block)
    };
    for frames in [long(head()), short(head())] {
        let (service, gateway) = scene("").await;
        let mut client = gateway.client().await;
        client.send(GET).await;
        let mut raw = raw(&service).await;
        raw.peer.send(frames).await;
        let head = client.head().await;
        assert_eq!(head.get("content-length"), Some("5"));
        assert!(client.rest().await.len() < 5);
    }
}

#[tokio::test]
async fn a_head_is_read_up_to_a_bound() {
    let (service, gateway) = scene("").await;
    for (size, status) in [(40_000, 200), (70_000, 502)] {
        let mut client = gateway.client().await;
        client.send(GET).await;
        let mut raw = raw(&service).await;
        let value = "a".repeat(size);
        let block = block(&[(":status", "200"), ("x-large", &value)]);
        let (first, rest) = block.split_at(16_000);
        let mut frames = frame(HEADERS, END_STREAM, 1, first);
        let mut pieces = rest.chunks(16_000).peekable();
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() {
                END_HEADERS
            } else {
                0
            };
            frames.extend(frame(crate::attacks::rawh2::CONTINUATION, flags, 1, piece));
        }
        raw.peer.send(frames).await;
        assert_eq!(client.answer().await.status(), status, "{size}");
        // The next one opens its own.
        drop(raw);
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_stops_its_stream_and_no_other() {
    const PIECE: usize = 16 * 1024;
    let service = Service::start().await;
    let gateway = Gateway::start(&service.setup("")).await;
    let (_client, mut serving, mut asked) = sent(&service, &gateway, GET).await;
    let mut body = asked.begin(200, &[]);
    // Until the gateway opens no more window: what it holds, and what sockets do.
    let mut sent = 0;
    loop {
        body.reserve_capacity(PIECE);
        let room = poll_fn(|cx| body.poll_capacity(cx));
        match tokio::time::timeout(std::time::Duration::from_secs(1), room).await {
            Err(_) => break,
            Ok(room) => {
                let room = room.unwrap().unwrap().min(PIECE);
                body.send_data(vec![b'x'; room].into(), false).unwrap();
                sent += room;
            }
        }
        assert!(sent < 32 << 20, "the gateway took {sent} bytes");
    }
    for _ in 0..3 {
        let mut other = gateway.client().await;
        other.send(GET).await;
        let mut asked = serving.asked().await;
        let mut body = asked.begin(200, &[("content-length", "300000")]);
        body.send_data(vec![b'y'; 300_000].into(), true).unwrap();
        assert_eq!(other.answer().await.body.len(), 300_000);
    }
}

#[tokio::test]
async fn an_upload_waits_for_its_upstream_to_take_it() {
    let (service, gateway) = scene("max_body = \"1GiB\"").await;
    let mut client = gateway.client().await;
    client
        .send("POST /a HTTP/1.1\r\nhost: here\r\ncontent-length: 100000000\r\n\r\n")
        .await;
    let mut serving = service.accept().await;
    let mut asked = serving.asked().await;
    let piece = vec![b'x'; 64 * 1024];
    let (read, mut write) = tokio::io::split(client.io);
    let mut sent = 0;
    let flood = async {
        loop {
            tokio::io::AsyncWriteExt::write_all(&mut write, &piece)
                .await
                .unwrap();
            sent += piece.len();
        }
    };
    let stuck = tokio::time::timeout(std::time::Duration::from_secs(1), flood).await;
    assert!(stuck.is_err());
    assert!(sent < 32 << 20, "the gateway took {sent} bytes");
    // Its answer is heard all the same, and what is left of the upload is not wanted.
    asked.bare(413, &[]);
    let mut client = Peer::over(tokio::io::join(read, write));
    assert_eq!(client.head().await.status(), 413);
    while let Some(Ok(data)) = soon(asked.request.body_mut().data()).await {
        let flow = asked.request.body_mut().flow_control();
        flow.release_capacity(data.len()).unwrap();
    }
}

/// The stream of the next frame of this kind, of one of these streams.
async fn until(raw: &mut Http2, kind: u8, is_meant: impl Fn(u32) -> bool) -> u32 {
    loop {
        let frame = raw.next().await.expect("the connection lives");
        if frame.kind == kind && is_meant(frame.stream) {
            return frame.stream;
        }
    }
}
