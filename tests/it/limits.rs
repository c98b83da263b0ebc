//! What a client may take: time, space, connections.

use http::Response;

use crate::harness::peer::RawUpstream;
use crate::harness::upstream::channel;
use crate::harness::{Gateway, Peer, Setup, Upstream, full, until};

async fn with(lines: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::http1(async |_| Response::new(full("ok"))).await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url).server(lines)).await;
    (upstream, gateway)
}

#[tokio::test]
async fn a_head_that_dribbles_in_is_hung_up_on() {
    let (_upstream, gateway) = with("header_timeout = \"300ms\"").await;
    for start in ["", "G", "PRI * HT", "GET /a HTTP/1.1\r\nhost: he"] {
        let mut client = gateway.client().await;
        client.send(start).await;
        client.closed().await;
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let (_upstream, gateway) = with("idle_timeout = \"300ms\"").await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/a").await.status(), 200);
    client.closed().await;
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed() {
    let (_upstream, gateway) = with("idle_timeout = \"300ms\"").await;
    let mut sender = super::downstream::http2(gateway.address).await;
    let request = http::Request::get("http://here/a").body(full("")).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    drop(answer);
    until(async || sender.is_closed()).await;
}

#[tokio::test]
async fn a_client_that_stops_reading_is_given_up() {
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
    let setup = Setup::simple(&upstream.url).server("send_timeout = \"300ms\"");
    let gateway = Gateway::start(&setup).await;
    let mut client = gateway.client().await;
    client.send("GET /a HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let pieces = hear.recv().await.unwrap();
    while pieces.send(vec![b'x'; 65536]).await {}
    let line = &gateway.lines(1).await[0];
    assert_eq!(
        (&line["status"], &line["end"]),
        (&200.into(), &"client_left".into())
    );
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_places_come_free() {
    let (_upstream, gateway) = with("max_connections = 2").await;
    let mut kept = [gateway.client().await, gateway.client().await];
    for client in &mut kept {
        assert_eq!(client.get("/a").await.status(), 200);
    }
    gateway.client().await.closed().await;
    let [one, _two] = kept;
    drop(one);
    until(async || {
        let mut client = gateway.client().await;
        let ask = b"GET /a HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.io, ask).await;
        client.rest().await.starts_with(b"HTTP/1.1 200")
    })
    .await;
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let lines = "max_headers = 10\nmax_header_bytes = \"8KiB\"\nmax_uri = \"1KiB\"";
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url()).server(lines)).await;
    let many: String = (0..10).map(|n| format!("x-{n}: 1\r\n")).collect();
    let far_too_many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let large = format!("x-large: {}\r\n", "a".repeat(9000));
    let long = "a".repeat(2000);
    for (path, fields, status) in [
        ("a", many, 431),
        ("a", far_too_many, 431),
        ("a", large, 431),
        (&*long, String::new(), 414),
    ] {
        let mut client = gateway.client().await;
        let request = format!("GET /{path} HTTP/1.1\r\nhost: here\r\n{fields}\r\n");
        client.send(request).await;
        assert_eq!(client.head().await.status(), status);
    }
    // Nothing of it went on: the first that arrives is the next.
    let mut client = gateway.client().await;
    client
        .send("GET /next HTTP/1.1\r\nhost: here\r\n\r\n")
        .await;
    let mut peer: Peer = upstream.accept().await;
    assert!(peer.head().await.line().starts_with("GET /next "));
}

#[tokio::test]
async fn an_upstream_that_takes_nothing_of_a_body_is_given_up() {
    let upstream = RawUpstream::start().await;
    let lines = "first_byte_timeout = \"100ms\"\nidle_timeout = \"300ms\"";
    let setup = Setup::new()
        .upstream(&upstream.url(), lines)
        .route("/{*rest}", "");
    let gateway = Gateway::start(&setup).await;
    let client = gateway.client().await;
    let (mut read, mut write) = tokio::io::split(client.io);
    let sending = tokio::spawn(async move {
        let head = "POST /a HTTP/1.1\r\nhost: here\r\ncontent-length: 60000000\r\n\r\n";
        let _ = tokio::io::AsyncWriteExt::write_all(&mut write, head.as_bytes()).await;
        let _ = tokio::io::AsyncWriteExt::write_all(&mut write, &vec![0; 60_000_000]).await;
        write
    });
    let _peer = upstream.accept().await;
    let mut start = [0; 12];
    crate::harness::soon(tokio::io::AsyncReadExt::read_exact(&mut read, &mut start))
        .await
        .unwrap();
    assert_eq!(&start, b"HTTP/1.1 504");
    drop(read);
    sending.abort();
}
