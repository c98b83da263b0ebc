//! Services behind the gateway: how they are reached, and what happens when they are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::{Response, StatusCode, Version};
use http_body_util::BodyExt;

use crate::harness::gateway::Folder;
use crate::harness::peer::RawUpstream;
use crate::harness::tls::Authority;
use crate::harness::upstream::Speaks;
use crate::harness::{Gateway, Setup, Upstream, full, until};

/// An address where nobody listens.
async fn nowhere() -> String {
    RawUpstream::start().await.url()
}

async fn named(name: &'static str) -> Upstream {
    Upstream::http1(move |_| async move { Response::new(full(name)) }).await
}

#[tokio::test]
async fn http2_goes_to_the_upstream_with_the_clients_host() {
    let upstream = Upstream::http2(async |request| {
        assert_eq!(request.version(), Version::HTTP_2);
        let authority = request.uri().authority().map(ToString::to_string);
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full(format!("{authority:?} {}", body.len())))
    })
    .await;
    let setup = Setup::new()
        .upstream(&upstream.url, "protocol = \"http2\"")
        .route("/{*rest}", "");
    let gateway = Gateway::start(&setup).await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/a").await.text(), "Some(\"here\") 0");
    client
        .send("POST /a HTTP/1.1\r\nhost: here\r\ncontent-length: 3\r\n\r\nabc")
        .await;
    assert_eq!(client.answer().await.text(), "Some(\"here\") 3");
}

/// What a gateway that trusts `authority` answers for an upstream with `certificate`.
async fn over_tls(speaks: Speaks, name: &str, known: bool) -> u16 {
    let (folder, authority) = (Folder::new(), Authority::new());
    let alpn: &[u8] = match speaks {
        Speaks::Http1 => b"http/1.1",
        Speaks::Http2 => b"h2",
    };
    let config = authority.issue(name).server(alpn);
    let upstream = Upstream::tls(speaks, config, async |_| Response::new(full("ok"))).await;
    let trusted = if known { authority } else { Authority::new() };
    folder.write("ca.pem", &trusted.pem);
    let protocol = match speaks {
        Speaks::Http1 => "http1",
        Speaks::Http2 => "http2",
    };
    let lines = format!("protocol = \"{protocol}\"\n[upstream.tls]\nca_file = \"ca.pem\"");
    let setup = Setup::new()
        .upstream(&upstream.url, &lines)
        .route("/{*rest}", "");
    let gateway = Gateway::start_in(folder, &setup).await;
    gateway.get("/a").await.status()
}

#[tokio::test]
async fn tls_to_the_upstream_wants_a_known_authority_and_the_right_name() {
    assert_eq!(over_tls(Speaks::Http1, "localhost", true).await, 200);
    assert_eq!(over_tls(Speaks::Http2, "localhost", true).await, 200);
    assert_eq!(over_tls(Speaks::Http1, "elsewhere.test", true).await, 503);
    assert_eq!(over_tls(Speaks::Http1, "localhost", false).await, 503);
    assert_eq!(over_tls(Speaks::Http2, "localhost", false).await, 503);
}

#[tokio::test]
async fn an_upgrade_asks_an_http2_upstream_for_http1_over_tls_too() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let config = authority.issue("localhost").server(b"http/1.1");
    let upstream = Upstream::tls(Speaks::Http1, config, async |request| {
        assert_eq!(request.headers()["upgrade"], "websocket");
        Response::new(full("not here"))
    })
    .await;
    folder.write("ca.pem", &authority.pem);
    let lines = "protocol = \"http2\"\n[upstream.tls]\nca_file = \"ca.pem\"";
    let setup = Setup::new()
        .upstream(&upstream.url, lines)
        .route("/{*rest}", "");
    let gateway = Gateway::start_in(folder, &setup).await;
    let mut client = gateway.client().await;
    let fields = crate::harness::websocket::HANDSHAKE;
    client
        .send(format!("GET /ws HTTP/1.1\r\nhost: here\r\n{fields}\r\n"))
        .await;
    assert_eq!(client.answer().await.text(), "not here");
}

#[tokio::test]
async fn a_unix_socket_is_reached() {
    let folder = Folder::new();
    let place = folder.path("app.sock");
    let upstream = Upstream::unix(&place, async |_| Response::new(full("ok"))).await;
    let gateway = Gateway::start_in(folder, &Setup::simple(&upstream.url)).await;
    assert_eq!(gateway.get("/a").await.text(), "ok");
}

#[tokio::test]
async fn endpoints_take_turns() {
    let (one, two) = (named("one").await, named("two").await);
    let setup = Setup::new()
        .upstreams(&[&one.url, &two.url], "")
        .route("/{*rest}", "");
    let gateway = Gateway::start(&setup).await;
    let mut client = gateway.client().await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(client.get("/a").await.text());
    }
    assert_eq!(seen, ["one", "two", "one", "two"]);
}

#[tokio::test]
async fn what_one_endpoint_refuses_goes_to_another_whatever_the_method() {
    let one = named("one").await;
    let setup = Setup::new()
        .upstreams(&[&nowhere().await, &one.url], "")
        .route("/{*rest}", "");
    let gateway = Gateway::start(&setup).await;
    let mut client = gateway.client().await;
    for _ in 0..4 {
        client
            .send("POST /a HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n\r\nhi")
            .await;
        assert_eq!(client.answer().await.text(), "one");
    }
    let retries = gateway.figure("portcullis_upstream_retries_total ").await;
    assert!(retries > 0.0);
}

#[tokio::test]
async fn nobody_there_is_503_with_a_time_to_come_back() {
    let setup = Setup::new()
        .upstreams(&[&nowhere().await, &nowhere().await], "")
        .route("/{*rest}", "");
    let gateway = Gateway::start(&setup).await;
    let answer = gateway.get("/a").await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.word(), "upstream_unavailable");
    assert!(answer.head.get("retry-after").is_some());
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_kept_connection_that_closes_on_a_request_is_tried_again_for_get() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url())).await;
    let mut client = gateway.client().await;
    client.send("GET /a HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut kept = upstream.accept().await;
    kept.head().await;
    kept.send(OK).await;
    assert_eq!(client.answer().await.text(), "ok");
    client.send("GET /b HTTP/1.1\r\nhost: here\r\n\r\n").await;
    kept.head().await;
    drop(kept);
    let mut fresh = upstream.accept().await;
    assert!(fresh.head().await.line().starts_with("GET /b "));
    fresh.send(OK).await;
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test]
async fn a_post_that_may_have_been_read_is_not_sent_twice() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url())).await;
    let mut client = gateway.client().await;
    client.send("GET /a HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut kept = upstream.accept().await;
    kept.head().await;
    kept.send(OK).await;
    assert_eq!(client.answer().await.text(), "ok");
    client
        .send("POST /b HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n\r\nhi")
        .await;
    let head = kept.head().await;
    kept.body(head).await;
    drop(kept);
    let answer = client.answer().await;
    assert_eq!(answer.status(), 502);
    // The next one shows that nothing came in between.
    client.send("GET /c HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut fresh = upstream.accept().await;
    assert!(fresh.head().await.line().starts_with("GET /c "));
}

#[tokio::test]
async fn an_endpoint_that_fails_is_ejected_and_comes_back() {
    let flaky = RawUpstream::start().await;
    let address = flaky.address;
    let good = named("good").await;
    drop(flaky);
    let lines = "retries = 0\n[upstream.eject]\nfailures = 1\nduration = \"1s\"";
    let setup = Setup::new()
        .upstreams(&[&format!("http://{address}"), &good.url], lines)
        .route("/{*rest}", "");
    let gateway = Gateway::start(&setup).await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/a").await.status(), 503);
    // Ejected: every turn is the other's.
    for _ in 0..4 {
        assert_eq!(client.get("/a").await.text(), "good");
    }
    // It listens again, and gets requests again when its time is over.
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let mut peer = crate::harness::Peer::over(socket);
            peer.head().await;
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nback")
                .await;
        }
    });
    until(async || gateway.get("/a").await.text() == "back").await;
}

#[tokio::test]
async fn health_checks_take_an_endpoint_out_and_bring_it_back() {
    let well = Arc::new(AtomicBool::new(true));
    let served = Arc::new(AtomicUsize::new(0));
    let upstream = {
        let (well, served) = (Arc::clone(&well), Arc::clone(&served));
        Upstream::http1(move |request| {
            let (well, served) = (Arc::clone(&well), Arc::clone(&served));
            async move {
                let mut answer = Response::new(full("ok"));
                if request.uri().path() != "/health" {
                    served.fetch_add(1, Ordering::SeqCst);
                } else if !well.load(Ordering::SeqCst) {
                    *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                }
                answer
            }
        })
        .await
    };
    let lines = "[upstream.health]\npath = \"/health\"\ninterval = \"50ms\"\ntimeout = \"5s\"\n\
                 healthy = 2\nunhealthy = 2";
    let setup = Setup::new()
        .upstream(&upstream.url, lines)
        .route("/{*rest}", "");
    let gateway = Gateway::start(&setup).await;
    assert_eq!(gateway.get("/a").await.status(), 200);
    well.store(false, Ordering::SeqCst);
    until(async || gateway.get("/a").await.status() == 503).await;
    until(async || gateway.page("/readyz").await.status() == 503).await;
    let before = served.load(Ordering::SeqCst);
    let refused = gateway.get("/a").await;
    assert_eq!(refused.status(), 503);
    assert!(refused.head.get("retry-after").is_some());
    assert_eq!(served.load(Ordering::SeqCst), before);
    well.store(true, Ordering::SeqCst);
    until(async || gateway.get("/a").await.status() == 200).await;
    until(async || gateway.page("/readyz").await.status() == 200).await;
}

#[tokio::test]
async fn an_old_upstream_is_understood() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url())).await;
    let mut client = gateway.client().await;
    client.send("GET /a HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
    drop(peer);
    assert_eq!(client.answer().await.text(), "until the end");
}

#[tokio::test]
async fn informational_answers_do_not_end_the_wait() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url())).await;
    let mut client = gateway.client().await;
    client.send("GET /a HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n")
        .await;
    peer.send("HTTP/1.1 102 Processing\r\n\r\n").await;
    peer.send(OK).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), &*answer.text()), (200, "ok"));
}

#[tokio::test]
async fn silence_before_the_first_byte_is_504() {
    let upstream = RawUpstream::start().await;
    let setup = Setup::new()
        .upstream(&upstream.url(), "first_byte_timeout = \"200ms\"")
        .route("/{*rest}", "");
    let gateway = Gateway::start(&setup).await;
    let mut client = gateway.client().await;
    client.send("GET /a HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status(), &*answer.word()),
        (504, "upstream_timeout")
    );
    peer.closed().await;
}

#[tokio::test]
async fn silence_within_a_body_ends_it_without_its_last_chunk() {
    let upstream = RawUpstream::start().await;
    let setup = Setup::new()
        .upstream(&upstream.url(), "idle_timeout = \"200ms\"")
        .route("/{*rest}", "");
    let gateway = Gateway::start(&setup).await;
    let mut client = gateway.client().await;
    client.send("GET /a HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
        .await;
    assert_eq!(client.head().await.status(), 200);
    assert!(client.chunks().await.is_none());
    peer.closed().await;
}
