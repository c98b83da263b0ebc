//! Section 8: clients that wait for ever, on HTTP/2, where a stream can stand still while its connection lives.

use http::Response;

use super::rawh2::{DATA, HEADERS, Http2, RST_STREAM, SETTINGS};
use crate::harness::peer::RawUpstream;
use crate::harness::upstream::{Pieces, channel};
use crate::harness::{Gateway, Peer, Setup, Upstream};

/// SETTINGS_INITIAL_WINDOW_SIZE: nothing of an answer's body may be sent.
const NO_WINDOW: &[u8] = &[0, 4, 0, 0, 0, 0];

struct Scene {
    _upstream: Upstream,
    gateway: Gateway,
    /// The bodies of the answers.
    bodies: tokio::sync::mpsc::UnboundedReceiver<Pieces>,
}

async fn scene(lines: &str) -> Scene {
    let (told, bodies) = tokio::sync::mpsc::unbounded_channel();
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
    Scene {
        _upstream: upstream,
        gateway,
        bodies,
    }
}

/// The next frame of stream 1 of one of these kinds.
async fn next(client: &mut Http2, kinds: &[u8]) -> u8 {
    loop {
        let frame = client.next().await.expect("the connection lives");
        if frame.stream == 1 && kinds.contains(&frame.kind) {
            return frame.kind;
        }
    }
}

#[tokio::test]
async fn a_stream_without_a_window_is_reset_and_its_upstream_let_go() {
    let mut scene = scene("send_timeout = \"300ms\"").await;
    let mut client = Http2::connect(scene.gateway.address).await;
    client.frame(SETTINGS, 0, 0, NO_WINDOW).await;
    client.get("/a", &[]).await;
    let pieces = scene.bodies.recv().await.unwrap();
    assert!(pieces.send("piece").await);
    assert_eq!(next(&mut client, &[HEADERS]).await, HEADERS);
    // The connection itself goes on.
    assert_eq!(next(&mut client, &[DATA, RST_STREAM]).await, RST_STREAM);
    pieces.unwanted().await;
    let line = &scene.gateway.lines(1).await[0];
    assert_eq!(
        (&line["status"], &line["end"]),
        (&200.into(), &"client_left".into())
    );
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_refused() {
    let upstream = RawUpstream::start().await;
    // Faster than anybody sends: each byte earns next to nothing, however soon it follows the last.
    let lines = "body_timeout = \"500ms\"\nmin_body_rate = \"1GiB\"\nmax_body = \"1GiB\"";
    let gateway = Gateway::start(&Setup::simple(&upstream.url()).server(lines)).await;
    let mut client = gateway.client().await;
    client
        .send("POST /a HTTP/1.1\r\nhost: here\r\ncontent-length: 1000000000\r\n\r\n")
        .await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    let (mut read, mut write) = tokio::io::split(client.io);
    let dribble = async {
        loop {
            tokio::io::AsyncWriteExt::write_all(&mut write, b"a")
                .await
                .unwrap();
            if peer.try_take(1).await.is_none() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut start = [0; 12];
    tokio::select! {
        () = dribble => {}
        read = crate::harness::soon(tokio::io::AsyncReadExt::read_exact(&mut read, &mut start)) => {
            read.unwrap();
        }
    }
    assert_eq!(&start, b"HTTP/1.1 408");
}

#[tokio::test]
async fn clients_that_stall_keep_nobody_from_the_admin_listener() {
    let gateway = Gateway::start(&Setup::simple("http://127.0.0.1:9")).await;
    let mut stalled = Vec::new();
    // Some say nothing, some never end their head, some take none of what they asked for.
    for at in 0..200 {
        let mut client = Peer::connect(gateway.admin).await;
        let words = match at % 3 {
            0 => String::new(),
            1 => "GET /metrics HTTP/1.1\r\nhost: localhost\r\n".to_owned(),
            _ => "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(20),
        };
        client.send(words).await;
        stalled.push(client);
        assert_eq!(gateway.page("/healthz").await.status(), 200, "{at}");
    }
}

#[tokio::test]
async fn hints_for_a_client_that_reads_none_fill_nothing() {
    const HINTS: usize = 32 * 1024;
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url())).await;
    let mut client = Http2::connect(gateway.address).await;
    client.get("/a", &[]).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    let link = "a".repeat(1000);
    let hint = format!("HTTP/1.1 103 Early Hints\r\nlink: {link}\r\n\r\n");
    // All of them are taken, and most are dropped: beyond sockets nothing holds them.
    for _ in 0..HINTS / 32 {
        peer.send(hint.repeat(32)).await;
    }
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .await;
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
async fn the_last_piece_of_an_answer_is_not_held_for_ever_either() {
    // More than the window of a client that never opens it again, and no more follows.
    const LENGTH: usize = 100_000;
    for lines in ["", "transfer-encoding: chunked\r\n"] {
        let upstream = RawUpstream::start().await;
        let setup = Setup::simple(&upstream.url())
            .server("send_timeout = \"300ms\"\nmin_body_rate = \"0B\"");
        let gateway = Gateway::start(&setup).await;
        let mut client = Http2::connect(gateway.address).await;
        client.get("/a", &[]).await;
        let mut peer = upstream.accept().await;
        peer.head().await;
        let body = "x".repeat(LENGTH);
        let answer = match lines {
            "" => format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n{body}"),
            _ => format!("HTTP/1.1 200 OK\r\n{lines}\r\n{LENGTH:x}\r\n{body}\r\n0\r\n\r\n"),
        };
        peer.send(answer).await;
        assert_eq!(next(&mut client, &[RST_STREAM]).await, RST_STREAM);
    }
}
