//! Answers that could be read in two ways, or in none: 502, and their connection is not used again.

use crate::harness::peer::RawUpstream;
use crate::harness::{Gateway, Setup};

/// What comes of an upstream that answers this to a POST, and that the next request has a connection of its
/// own.
async fn answer_to(bytes: &[u8]) -> (u16, String) {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url())).await;
    let mut client = gateway.client().await;
    client
        .send("POST /a HTTP/1.1\r\nhost: here\r\ncontent-length: 0\r\n\r\n")
        .await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    // It may be hung up on before all is said.
    let _ = tokio::io::AsyncWriteExt::write_all(&mut peer.io, bytes).await;
    let head = client.head().await;
    if head.status() != 502 {
        return (head.status(), head.0);
    }
    let answer = client.body(head).await;
    client.send("GET /b HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut fresh = upstream.accept().await;
    assert!(fresh.head().await.line().starts_with("GET /b "));
    (answer.status(), answer.word())
}

#[tokio::test]
async fn an_ambiguous_or_broken_answer_is_502_and_poisons_nothing() {
    let huge = format!("HTTP/1.1 200 OK\r\nx-big: {}\r\n\r\n", "a".repeat(2 << 20));
    let mut passed = Vec::new();
    for bytes in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "HTTP/1.1 two hundred\r\n\r\n",
        "HTTP/1.1 99 Early\r\n\r\n",
        "SSH-2.0-OpenSSH_9.9\r\n",
        "HTTP/1.1 200 OK\r\nx-a: b\0c\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx a: b\r\ncontent-length: 0\r\n\r\n",
        &huge,
    ] {
        let start = &bytes[..bytes.len().min(80)];
        let answer = answer_to(bytes.as_bytes()).await;
        if answer != (502, "upstream_failed".into()) {
            passed.push((start, answer));
        }
    }
    assert!(passed.is_empty(), "{passed:#?}");
}

#[tokio::test]
async fn bytes_behind_an_answer_are_nobodys_answer() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url())).await;
    let mut client = gateway.client().await;
    client.send("GET /a HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok\
         HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    )
    .await;
    assert_eq!(client.answer().await.text(), "ok");
    client.send("GET /b HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut fresh = upstream.accept().await;
    fresh.head().await;
    fresh
        .send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood")
        .await;
    assert_eq!(client.answer().await.text(), "good");
}
