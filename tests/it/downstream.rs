//! Clients: what they may speak, and over what.

use http::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::harness::gateway::Folder;
use crate::harness::tls::{self, Authority};
use crate::harness::{Gateway, Peer, Setup, Upstream, empty, full, soon, until};

/// Answers the request's path.
async fn echo() -> Upstream {
    Upstream::http1(async |request| http::Response::new(full(request.uri().path().to_owned())))
        .await
}

pub type Http2 = hyper::client::conn::http2::SendRequest<crate::harness::upstream::Sent>;

/// A client that speaks HTTP/2 on an open connection.
async fn http2_over(io: impl crate::harness::peer::Duplex + 'static) -> Http2 {
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = soon(builder.handshake(TokioIo::new(io))).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A client that speaks HTTP/2 with prior knowledge.
pub async fn http2(address: std::net::SocketAddr) -> Http2 {
    let socket = soon(tokio::net::TcpStream::connect(address)).await;
    http2_over(socket.unwrap()).await
}

/// A request over HTTP/2, and its answer's body.
async fn ask(sender: &mut Http2, path: &str) -> String {
    let request = Request::get(format!("http://here{path}")).body(empty());
    let answer = soon(sender.send_request(request.unwrap())).await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    let body = http_body_util::BodyExt::collect(answer.into_body());
    String::from_utf8(soon(body).await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn one_connection_carries_many_requests_and_uses_one_upstream_connection() {
    let upstream = echo().await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url)).await;
    let mut client = gateway.client().await;
    for path in ["/a", "/b", "/c"] {
        assert_eq!(client.get(path).await.text(), path);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let upstream = echo().await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url)).await;
    let mut client = gateway.client().await;
    let requests: String = ["/a", "/b", "/c"]
        .map(|path| format!("GET {path} HTTP/1.1\r\nhost: here\r\n\r\n"))
        .concat();
    client.send(requests).await;
    for path in ["/a", "/b", "/c"] {
        assert_eq!(client.answer().await.text(), path);
    }
}

#[tokio::test]
async fn each_pipelined_request_is_judged_on_its_own() {
    let upstream = echo().await;
    let setup = Setup::new()
        .issuer()
        .upstream(&upstream.url, "")
        .guarded("required", "/{*rest}", "");
    let gateway = Gateway::start(&setup).await;
    let token = crate::harness::token(60);
    let mut client = gateway.client().await;
    client
        .send(format!(
            "GET /a HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {token}\r\n\r\n\
             GET /b HTTP/1.1\r\nhost: here\r\n\r\n"
        ))
        .await;
    assert_eq!(client.answer().await.text(), "/a");
    let refused = client.answer().await;
    assert_eq!((refused.status(), &*refused.word()), (401, "token_missing"));
}

#[tokio::test]
async fn http2_is_told_from_http1_by_its_first_bytes() {
    let upstream = echo().await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url)).await;
    let mut client = http2(gateway.address).await;
    assert_eq!(ask(&mut client, "/a").await, "/a");
    assert_eq!(gateway.get("/b").await.text(), "/b");
}

#[tokio::test]
async fn a_head_that_begins_like_http2_is_still_http1() {
    let upstream = echo().await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url)).await;
    let mut client = gateway.client().await;
    client.send("PR").await;
    client
        .send("OPFIND /a HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.text(), "/a");
}

#[tokio::test]
async fn an_old_client_without_keep_alive_is_served() {
    let upstream = echo().await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url)).await;
    let mut client = gateway.client().await;
    client.send("GET /a HTTP/1.0\r\nhost: here\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.text(), "/a");
    client.closed().await;
}

#[tokio::test]
async fn a_unix_socket_is_listened_on() {
    let upstream = echo().await;
    let folder = Folder::new();
    let place = folder.path("gate.sock");
    let setup = Setup::simple(&upstream.url).listen(&format!("unix:{}", place.display()));
    let _gateway = Gateway::start_in(folder, &setup).await;
    let mut client = Peer::unix(&place).await;
    assert_eq!(client.get("/a").await.text(), "/a");
}

/// A gateway with TLS and these lines, and its authority; the certificate's files are `chain.pem` and `key.pem`.
async fn with_tls(upstream: &Upstream, lines: &str) -> (Gateway, Authority) {
    let (folder, authority) = (Folder::new(), Authority::new());
    let certificate = authority.issue("localhost");
    folder.write("chain.pem", &certificate.chain);
    folder.write("key.pem", &certificate.key);
    let setup = Setup::simple(&upstream.url).server(&format!("{lines}\n{TLS}"));
    (Gateway::start_in(folder, &setup).await, authority)
}

const TLS: &str = "[server.tls]\ncertificate = \"chain.pem\"\nkey = \"key.pem\"\n";

#[tokio::test]
async fn tls_serves_what_the_client_prefers() {
    let upstream = echo().await;
    let (gateway, authority) = with_tls(&upstream, "watch = false").await;
    let plain = tls::connect(gateway.address, &authority, b"http/1.1").await;
    assert_eq!(Peer::over(plain.unwrap()).get("/a").await.text(), "/a");
    let modern = tls::connect(gateway.address, &authority, b"h2").await;
    let mut modern = http2_over(modern.unwrap()).await;
    assert_eq!(ask(&mut modern, "/b").await, "/b");
}

#[tokio::test]
async fn a_client_that_never_ends_its_handshake_is_cut_off() {
    let upstream = echo().await;
    let (gateway, authority) = with_tls(
        &upstream,
        "watch = false\nheader_timeout = \"1s\"\nidle_timeout = \"1s\"",
    )
    .await;
    // Nothing at all, a part of a record's head, and a record whose hello does not come.
    for words in [
        &b""[..],
        b"\x16\x03\x01",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ] {
        let mut client = Peer::connect(gateway.address).await;
        client.send(words).await;
        client.closed().await;
    }
    // Nor is anybody waited for who says nothing behind it.
    for protocol in [&b"http/1.1"[..], b"h2"] {
        let client = tls::connect(gateway.address, &authority, protocol).await;
        Peer::over(client.unwrap()).closed().await;
    }
    let plain = tls::connect(gateway.address, &authority, b"http/1.1").await;
    assert_eq!(Peer::over(plain.unwrap()).get("/a").await.text(), "/a");
}

#[tokio::test]
async fn a_reload_brings_a_new_certificate() {
    let upstream = echo().await;
    let (gateway, before) = with_tls(&upstream, "watch = false").await;
    let mut kept = tls::connect(gateway.address, &before, b"http/1.1")
        .await
        .map(Peer::over)
        .unwrap();
    let after = Authority::new();
    let certificate = after.issue("localhost");
    gateway.folder.write("chain.pem", &certificate.chain);
    gateway.folder.write("key.pem", &certificate.key);
    let setup = Setup::simple(&upstream.url).server(TLS);
    gateway.reload(&setup).await.unwrap();
    let fresh = tls::connect(gateway.address, &after, b"http/1.1").await;
    assert_eq!(Peer::over(fresh.unwrap()).get("/a").await.text(), "/a");
    let stale = tls::connect(gateway.address, &before, b"http/1.1").await;
    assert!(stale.is_err());
    assert_eq!(kept.get("/b").await.text(), "/b");
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_its_key_keeps_the_old_one() {
    let upstream = echo().await;
    let (gateway, authority) = with_tls(&upstream, "watch = false").await;
    let other = authority.issue("localhost");
    gateway.folder.write("chain.pem", &other.chain);
    let setup = Setup::simple(&upstream.url).server(TLS);
    assert!(gateway.reload(&setup).await.is_err());
    let client = tls::connect(gateway.address, &authority, b"http/1.1").await;
    assert_eq!(Peer::over(client.unwrap()).get("/a").await.text(), "/a");
}

#[tokio::test]
async fn a_watched_certificate_is_read_again_when_it_changes() {
    let upstream = echo().await;
    let (gateway, _before) = with_tls(&upstream, "watch = true").await;
    let after = Authority::new();
    let certificate = after.issue("localhost");
    gateway.folder.write("key.pem", &certificate.key);
    gateway.folder.write("chain.pem", &certificate.chain);
    until(async || {
        let fresh = tls::connect(gateway.address, &after, b"http/1.1").await;
        fresh.is_ok()
    })
    .await;
}
