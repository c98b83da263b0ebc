//! Section 8: too much, too slowly, too often. The gateway ends it and goes on serving.

use super::rawh2::{
    self, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Http2, PING, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE,
};
use serde_json::json;

use super::{Siege, as_user, get, request, setup};
use crate::harness::setup::token_with;

#[tokio::test]
async fn too_large_a_head_is_refused_and_the_connection_closed() {
    let siege = Siege::lay().await;
    let many: String = (0..150).map(|at| format!("x-{at}: a\r\n")).collect();
    for (name, bytes, statuses) in [
        (
            "headers",
            get("/open/x", &format!("x-a: {}", "a".repeat(70_000))),
            &[431][..],
        ),
        ("header lines", get("/open/x", many.trim_end()), &[431]),
        (
            "target",
            get(&format!("/open/{}", "a".repeat(20_000)), ""),
            &[414],
        ),
        (
            "query",
            get(&format!("/open/x?{}", "a".repeat(20_000)), ""),
            &[414],
        ),
        (
            "host",
            format!(
                "GET /open/x HTTP/1.1\r\nconnection: close\r\nhost: {}\r\n\r\n",
                "a".repeat(300)
            ),
            &[400],
        ),
        (
            "an endless target",
            format!("GET /{}", "a".repeat(100_000)),
            &[414, 431],
        ),
        ("an endless method", "A".repeat(100_000), &[400, 414, 431]),
        (
            "an endless name",
            format!("GET / HTTP/1.1\r\n{}", "a".repeat(100_000)),
            &[431],
        ),
        (
            "spaces",
            format!("GET / HTTP/1.1\r\nhost:{}", " ".repeat(100_000)),
            &[431],
        ),
        ("empty lines", "\r\n".repeat(50_000), &[400, 431]),
        (
            "a large handshake",
            get(
                "/open/x",
                &format!(
                    "{}x-a: {}",
                    crate::harness::websocket::HANDSHAKE,
                    "a".repeat(70_000)
                ),
            ),
            &[431],
        ),
    ] {
        let mut client = siege.gateway.client().await;
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.io, bytes.as_bytes()).await;
        let answer = String::from_utf8(client.rest().await).unwrap();
        // The rest of a flood may reset the connection before the answer is read.
        let fits = statuses
            .iter()
            .any(|status| answer.starts_with(&format!("HTTP/1.1 {status} ")));
        assert!(
            fits || (answer.is_empty() && bytes.len() > 66_000),
            "{name}: {answer:?}"
        );
        assert!(siege.take().await.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn too_large_a_body_is_refused() {
    let siege = Siege::lay().await;
    let big = "a".repeat(70_000);
    let announced =
        as_user("/api/x", &format!("content-length: {}", big.len())).replacen("GET", "POST", 1);
    let answer = siege.strike(announced + &big).await.unwrap();
    assert_eq!((answer.status(), &*answer.word()), (413, "body_too_large"));
    assert!(siege.take().await.is_empty());
    let chunked = as_user("/api/x", "transfer-encoding: chunked").replacen("GET", "POST", 1);
    let answer = siege
        .strike(format!("{chunked}{:x}\r\n{big}\r\n0\r\n\r\n", big.len()))
        .await
        .unwrap();
    assert_eq!((answer.status(), &*answer.word()), (413, "body_too_large"));
    // The upstream has seen a head, and never the end of a body.
    assert!(siege.take().await.iter().all(|(_, body)| body.is_empty()));
}

#[tokio::test]
async fn a_client_that_dribbles_is_cut_off() {
    let siege = Siege::lay_with(|url| {
        setup(url).server("header_timeout = \"1s\"\nbody_timeout = \"1s\"\nidle_timeout = \"2s\"")
    })
    .await;
    for bytes in [
        "G",
        "GET /open/x HTTP/1.1\r\nhost: here\r\nx-a:",
        "PRI * HT",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut client = siege.gateway.client().await;
        client.send(bytes).await;
        client.closed().await;
        assert!(siege.take().await.is_empty(), "{bytes:?}");
    }
    // Over HTTP/2: a head that does not end.
    let mut client = Http2::connect(siege.gateway.address).await;
    client.frame(HEADERS, END_STREAM, 1, &head("/open/x")).await;
    client.closed().await;
    assert!(siege.take().await.is_empty());
    let mut client = siege.gateway.client().await;
    client
        .send(request("POST", "/open/x", "content-length: 5") + "he")
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), &*answer.word()), (408, "body_timeout"));
    client.closed().await;
}

#[tokio::test]
async fn connections_are_bounded_and_probes_still_answered() {
    let siege = Siege::lay_with(|url| setup(url).server("max_connections = 4")).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut client = siege.gateway.client().await;
        assert_eq!(client.get("/open/x").await.status(), 200);
        held.push(client);
    }
    let mut late = siege.gateway.client().await;
    let _ = tokio::io::AsyncWriteExt::write_all(&mut late.io, get("/open/x", "").as_bytes()).await;
    assert!(late.rest().await.is_empty());
    assert_eq!(siege.gateway.page("/healthz").await.status(), 200);
    drop(held);
    crate::harness::until(async || {
        let mut client = siege.gateway.client().await;
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.io, get("/open/x", "").as_bytes())
            .await;
        client.try_until(b"\r\n\r\n").await.is_some()
    })
    .await;
}

fn head(path: &str) -> Vec<u8> {
    rawh2::block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "here"),
        (":path", path),
    ])
}

#[tokio::test]
async fn http2_floods_end_the_connection_and_nothing_else() {
    let siege = Siege::lay().await;
    let open = head("/open/x");
    let reset = [0, 0, 0, 8];
    let streams = |from: u32, count: u32| (0..count).map(move |at| from + 2 * at);
    let rapid: Vec<u8> = streams(1, 2000)
        .flat_map(|stream| {
            [
                rawh2::frame(HEADERS, END_HEADERS | END_STREAM, stream, &open),
                rawh2::frame(RST_STREAM, 0, stream, &reset),
            ]
            .concat()
        })
        .collect();
    // Makes the server reset: a window that overflows (CVE-2025-8671).
    let made: Vec<u8> = streams(1, 2000)
        .flat_map(|stream| {
            [
                rawh2::frame(HEADERS, END_HEADERS, stream, &open),
                rawh2::frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]),
                rawh2::frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]),
            ]
            .concat()
        })
        .collect();
    let mut continued = rawh2::frame(HEADERS, END_STREAM, 1, &open);
    for at in 0..2000 {
        let field = rawh2::block(&[("x-a", &at.to_string())]);
        continued.extend(rawh2::frame(CONTINUATION, 0, 1, &field));
    }
    let mut empty = rawh2::frame(HEADERS, END_STREAM, 1, &open);
    for _ in 0..20_000 {
        empty.extend(rawh2::frame(CONTINUATION, 0, 1, &[]));
    }
    // One entry of the table, named again and again.
    let mut bomb = open.clone();
    bomb.push(0x40);
    bomb.extend([3]);
    bomb.extend(b"x-a");
    bomb.extend([0x7f, 0x81, 0x1e]);
    bomb.extend("a".repeat(4000).as_bytes());
    bomb.extend([0xbe; 10_000]);
    let bomb = rawh2::frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb);
    for (name, frames) in [
        ("rapid reset", rapid),
        ("made you reset", made),
        ("continuation", continued),
        ("empty continuation", empty),
    ] {
        let mut client = Http2::connect(siege.gateway.address).await;
        let _ = client.try_frames(&frames).await;
        client.closed().await;
        let reached = siege.take().await.len();
        assert!(
            reached <= 256,
            "{name}: {reached} requests reached the upstream"
        );
    }
    let mut client = Http2::connect(siege.gateway.address).await;
    let _ = client.try_frames(&bomb).await;
    assert!(client.told().await != "200");
    assert!(siege.take().await.is_empty());
}

#[tokio::test]
async fn http2_noise_is_borne() {
    let siege = Siege::lay().await;
    let repeat = |frame: Vec<u8>, count: usize| frame.repeat(count);
    let body = rawh2::block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "here"),
        (":path", "/api/x"),
    ]);
    for frames in [
        repeat(rawh2::frame(PING, 0, 0, &[0; 8]), 5000),
        repeat(rawh2::frame(SETTINGS, 0, 0, &[]), 5000),
        repeat(rawh2::frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 16]), 5000),
        repeat(rawh2::frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), 5000),
        [
            rawh2::frame(HEADERS, END_HEADERS, 1, &body),
            repeat(rawh2::frame(DATA, 0, 1, &[]), 20_000),
        ]
        .concat(),
    ] {
        let mut client = Http2::connect(siege.gateway.address).await;
        let _ = client.try_frames(&frames).await;
        assert!(siege.take().await.is_empty());
        drop(client);
    }
}

#[tokio::test]
async fn http2_heads_are_bounded() {
    let siege = Siege::lay().await;
    let many: Vec<(String, String)> = (0..150)
        .map(|at| (format!("x-{at}"), "a".to_owned()))
        .collect();
    let crumbs: Vec<(String, String)> = (0..3000)
        .map(|at| ("cookie".to_owned(), format!("a{at}=b")))
        .collect();
    let long = "a".repeat(15_000);
    for (name, path, fields) in [
        ("many", "/open/x".to_owned(), many),
        ("crumbs", "/open/x".to_owned(), crumbs),
        (
            "target",
            format!("/open/x?{}", "a".repeat(16_400)),
            Vec::new(),
        ),
        (
            "large",
            "/open/x".to_owned(),
            (0..5).map(|at| (format!("x-{at}"), long.clone())).collect(),
        ),
    ] {
        let mut all = vec![
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "here"),
            (":path", &*path),
        ];
        all.extend(fields.iter().map(|(name, value)| (&**name, &**value)));
        let block = rawh2::block(&all);
        let mut client = Http2::connect(siege.gateway.address).await;
        let mut parts = block.chunks(16_000).peekable();
        let mut frames = Vec::new();
        let mut kind = (HEADERS, END_STREAM);
        while let Some(part) = parts.next() {
            let last = if parts.peek().is_none() {
                END_HEADERS
            } else {
                0
            };
            frames.extend(rawh2::frame(kind.0, kind.1 | last, 1, part));
            kind = (CONTINUATION, 0);
        }
        let _ = client.try_frames(&frames).await;
        let told = client.told().await;
        assert!(
            matches!(
                &*told,
                "reset" | "431 headers_too_large" | "414 uri_too_long"
            ),
            "{name}: {told}"
        );
        assert!(siege.take().await.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn labels_name_no_client() {
    let siege = Siege::lay().await;
    for bytes in [
        get(
            "/open/PATHMARK?token=QUERYMARK",
            "x-request-id: IDMARK\r\nuser-agent: AGENTMARK",
        ),
        request("METHODMARK", "/open/x", ""),
        get("/nothing/PATHMARK", "host: hostmark"),
        as_user("/api/PATHMARK", ""),
    ] {
        siege.strike(bytes).await;
    }
    // A token in each of its places, good and bad.
    let mark = token_with(
        600,
        json!({"sub": "SUBMARK", "email": "MAILMARK@example.test", "session_id": "SESSIONMARK", "role": "ROLEMARK"}),
    );
    for token in [&*mark, "TOKENMARK", "TOKENMARK.TOKENMARK.TOKENMARK"] {
        for path in [
            "/open/PATHMARK",
            "/api/PATHMARK",
            "/maybe/PATHMARK",
            "/PATHMARK",
        ] {
            for bytes in [
                get(&format!("{path}?token={token}"), ""),
                get(&format!("{path}?access_token={token}"), ""),
                get(&format!("{path}?ticket=pt_{token}"), ""),
                get(path, &format!("authorization: Bearer {token}")),
                get(path, &format!("token: {token}")),
                get(path, &format!("x-session-token: {token}")),
                get(
                    path,
                    &format!("cookie: portcullis={token}; other=COOKIEMARK"),
                ),
                get(path, &format!("sec-websocket-protocol: bearer, {token}")),
            ] {
                siege.strike(bytes).await;
            }
        }
    }
    let page = siege.gateway.page("/metrics").await.text();
    for mark in ["MARK", "u1", "example.test", "hostmark", "eyJ"] {
        assert!(!page.contains(mark), "{mark}");
    }
    // What stands in quotes is known beforehand, whatever clients say.
    let labels = page.lines().filter(|line| !line.starts_with('#'));
    for value in labels.flat_map(|line| line.split('"').skip(1).step_by(2)) {
        let word = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        let method = value.len() <= 7 && value.bytes().all(|byte| byte.is_ascii_uppercase());
        let known = value.bytes().all(word)
            || method
            || value == "+Inf"
            || value == env!("CARGO_PKG_VERSION")
            || value.parse::<f64>().is_ok()
            || value.starts_with("127.0.0.1:");
        assert!(known, "{value}");
    }
}

#[tokio::test]
async fn pages_in_a_browser_do_not_reach_the_admin_listener() {
    let siege = Siege::lay().await;
    for (name, lines, status) in [
        ("rebinding", "host: evil.test", 421),
        (
            "rebinding to a look-alike",
            "host: localhost.evil.test",
            421,
        ),
        ("userinfo", "host: localhost@evil.test", 421),
        ("two", "host: localhost\r\nhost: localhost", 400),
        ("none", "x-a: b", 400),
        ("origin", "host: localhost\r\norigin: http://localhost", 403),
        ("origin null", "host: localhost\r\norigin: null", 403),
        ("ours", "host: localhost", 200),
    ] {
        for path in ["/metrics", "/readyz", "/healthz"] {
            let mut client = crate::harness::Peer::connect(siege.gateway.admin).await;
            client
                .send(format!(
                    "GET {path} HTTP/1.1\r\n{lines}\r\nconnection: close\r\n\r\n"
                ))
                .await;
            assert_eq!(client.answer().await.status(), status, "{name} {path}");
        }
        // Who may not ask is not told whether there is anything.
        for path in ["/streams", "/openapi.json", "/docs", "/nothing"] {
            let mut client = crate::harness::Peer::connect(siege.gateway.admin).await;
            client
                .send(format!(
                    "GET {path} HTTP/1.1\r\n{lines}\r\nconnection: close\r\n\r\n"
                ))
                .await;
            let known = status != 200 || matches!(path, "/openapi.json" | "/docs");
            let status = if known { status } else { 404 };
            assert_eq!(client.answer().await.status(), status, "{name} {path}");
        }
    }
    for path in [
        "/metrics",
        "/healthz",
        "/readyz",
        "/debug/pprof",
        "/_portcullis/metrics",
    ] {
        assert_eq!(
            siege.gateway.get(path).await.status(),
            404,
            "{path} on the public listener"
        );
    }
}

#[test]
fn a_panic_stays_with_its_task() {
    // Every request and connection is a task of its own; a release that aborts would end them all.
    let manifest =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    assert!(
        !manifest.contains("panic ="),
        "a profile changes what a panic does"
    );
}
