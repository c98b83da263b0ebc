//! Section 6: WebSocket handshakes and event streams as a way in.

use serde_json::json;

use super::rawh2::Http2;
use super::{Received, Siege, get, is_from, is_sound, request, user};
use crate::harness::setup::token_with;
use crate::harness::websocket::HANDSHAKE;
use crate::harness::{Setup, soon};

fn setup(upstream: &str) -> Setup {
    super::setup(upstream)
        .guarded("required", "/ws/{*rest}", "")
        .guarded(
            "required",
            "/listed/{*rest}",
            "origins = [\"https://page.test\"]",
        )
        .guarded(
            "required",
            "/told/{*rest}",
            "[route.websocket]\non_reject = \"close\"\n[route.sse]\non_reject = \"event\"",
        )
        .guarded(
            "required",
            "/none/{*rest}",
            "[route.websocket]\nenabled = false",
        )
}

/// A handshake with these lines; the upstream answers 200, which opens nothing.
fn shake(target: &str, lines: &str) -> String {
    get(target, &format!("{}\r\n{lines}", HANDSHAKE.trim_end()))
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_use_a_cookie() {
    let siege = Siege::lay_with(setup).await;
    let cookie = format!("cookie: portcullis={}", user());
    let forbidden = "403 origin_forbidden";
    let mut rows = Vec::new();
    for (name, lines) in [
        ("none", String::new()),
        ("foreign", "origin: https://evil.test\r\n".to_owned()),
        ("null", "origin: null\r\n".to_owned()),
        ("empty", "origin:\r\n".to_owned()),
        (
            "twice",
            "origin: http://here\r\norigin: http://here\r\n".to_owned(),
        ),
        ("look-alike", "origin: http://here.evil.test\r\n".to_owned()),
        ("prefix", "origin: http://evil-here\r\n".to_owned()),
        ("userinfo", "origin: http://here@evil.test\r\n".to_owned()),
        ("other scheme", "origin: https://here\r\n".to_owned()),
        ("other port", "origin: http://here:81\r\n".to_owned()),
        ("path", "origin: http://here/\r\n".to_owned()),
        (
            "list",
            "origin: http://here, http://evil.test\r\n".to_owned(),
        ),
        (
            "forwarded host",
            "origin: http://evil.test\r\nx-forwarded-host: evil.test\r\n".to_owned(),
        ),
    ] {
        rows.push((name, shake("/ws/x", &format!("{lines}{cookie}")), forbidden));
    }
    rows.push((
        "not of the list",
        shake("/listed/x", &format!("origin: http://here\r\n{cookie}")),
        forbidden,
    ));
    rows.push((
        "another case",
        shake(
            "/listed/x",
            &format!("origin: https://PAGE.test\r\n{cookie}"),
        ),
        forbidden,
    ));
    rows.push((
        "suffix",
        shake(
            "/listed/x",
            &format!("origin: https://page.test.evil\r\n{cookie}"),
        ),
        forbidden,
    ));
    rows.push((
        "its own",
        shake("/ws/x", &format!("origin: http://here\r\n{cookie}")),
        "200 user",
    ));
    rows.push((
        "its own, with the port",
        shake("/ws/x", &format!("origin: http://here:80\r\n{cookie}")),
        "200 user",
    ));
    rows.push((
        "of the list",
        shake(
            "/listed/x",
            &format!("origin: https://page.test\r\n{cookie}"),
        ),
        "200 user",
    ));
    rows.push((
        "a header needs none",
        shake(
            "/ws/x",
            &format!("origin: https://other.test\r\ntoken: {}", user()),
        ),
        "200 user",
    ));
    siege.hold(&rows).await;
}

#[tokio::test]
async fn crippled_handshakes_open_nothing() {
    let siege = Siege::lay_with(setup).await;
    let t = format!("token: {}", user());
    let refused = "400 upgrade_refused";
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
    let with = |method: &str, lines: &str| {
        request(
            method,
            "/ws/x",
            &format!("{t}\r\nconnection: upgrade\r\n{lines}"),
        )
    };
    siege
        .hold(&[
            ("version 12", with("GET", &format!("upgrade: websocket\r\nsec-websocket-version: 12\r\n{key}")), "426 websocket_version"),
            ("two versions", with("GET", &format!("upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-version: 12\r\n{key}")), "426 websocket_version"),
            ("no version", with("GET", &format!("upgrade: websocket\r\n{key}")), "426 websocket_version"),
            ("no key", with("GET", "upgrade: websocket\r\nsec-websocket-version: 13"), refused),
            ("short key", with("GET", "upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAA"), refused),
            ("two keys", with("GET", &format!("upgrade: websocket\r\nsec-websocket-version: 13\r\n{key}\r\n{key}")), refused),
            ("POST", with("POST", &format!("upgrade: websocket\r\nsec-websocket-version: 13\r\n{key}")), refused),
            ("a body", with("GET", &format!("upgrade: websocket\r\nsec-websocket-version: 13\r\n{key}\r\nconnection: close\r\ncontent-length: 2")) + "hi", refused),
            ("beside h2c", with("GET", &format!("upgrade: h2c, websocket\r\nsec-websocket-version: 13\r\n{key}")), refused),
            ("on two lines", with("GET", &format!("upgrade: h2c\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n{key}")), refused),
            ("h2c is not heard", with("GET", "upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__"), "200 user"),
            ("unknown is not heard", with("GET", "upgrade: odd"), "200 user"),
            ("switched off", shake("/none/x", &t), refused),
            ("no token", shake("/ws/x", ""), "401 token_missing"),
            ("a bad one", shake("/ws/x?token=bad", ""), "401 token_malformed"),
            ("no right", shake("/admin/x", &t), "403 role_missing"),
            // The upstream answered 200: that is an answer, and no tunnel.
            ("a good one", shake("/ws/x", &t), "200 user"),
        ])
        .await;
}

#[tokio::test]
async fn a_token_among_subprotocols_is_neither_sent_nor_echoed() {
    let siege = Siege::lay_with(setup).await;
    let t = user();
    for (offer, left) in [
        (format!("bearer, {t}"), None),
        (format!("chat.v1, bearer, {t}"), Some("chat.v1")),
        (
            format!("bearer, {t}, chat.v1, chat.v2"),
            Some("chat.v1, chat.v2"),
        ),
        (format!("Bearer,{t},bearer,{t},a"), Some("a")),
    ] {
        let answer = siege
            .strike(shake("/ws/x", &format!("sec-websocket-protocol: {offer}")))
            .await
            .unwrap();
        assert!(
            answer.status() == 200 && !answer.head.0.contains("eyJ"),
            "{offer}"
        );
        let got = siege.take().await;
        assert_eq!(got[0].0.get("sec-websocket-protocol"), left, "{offer}");
        is_sound(&offer, &got[0].0);
        is_from(&offer, &got[0].0, "user");
    }
    siege.is_silent_in_the_log();
}

#[tokio::test]
async fn a_refusal_over_an_accepted_handshake_says_why_and_no_more() {
    let siege = Siege::lay_with(setup).await;
    let t = user();
    let expired = token_with(-3600, json!({}));
    for (name, lines, code, word) in [
        ("none", "x-a: b".to_owned(), 4401, "token_missing"),
        (
            "expired",
            format!("token: {expired}"),
            4401,
            "token_expired",
        ),
        (
            "foreign page",
            format!("origin: https://evil.test\r\ncookie: portcullis={t}"),
            4403,
            "origin_forbidden",
        ),
        (
            "expired in the offer",
            format!("sec-websocket-protocol: chat, bearer, {expired}"),
            4401,
            "token_expired",
        ),
    ] {
        let mut client = siege.gateway.client().await;
        // Frames that came too early, and a request behind: neither goes anywhere.
        client
            .send(shake("/told/x", &lines) + "GET /open/next HTTP/1.1\r\nhost: here\r\n\r\n")
            .await;
        let head = client.head().await;
        assert!(
            head.status() == 101 && !head.0.contains("eyJ"),
            "{name}: {head:?}"
        );
        let (_, text) = client.frame().await;
        let body: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(body["error"], word, "{name}");
        let (kind, reason) = client.frame().await;
        assert_eq!(
            (kind, crate::harness::websocket::code(&reason)),
            (8, code),
            "{name}"
        );
        drop(client);
        assert!(siege.take().await.is_empty(), "{name}");
    }
    // What is wrong with the request itself is said as a status.
    let answer = siege
        .strike(shake("/told/x?token=a", &format!("token: {t}")))
        .await
        .unwrap();
    assert_eq!(
        (answer.status(), &*answer.word()),
        (400, "credentials_conflict")
    );
    let answer = siege
        .strike(get("/told/x", "accept: text/event-stream"))
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert!(
        answer.text().contains("event: auth_error"),
        "{}",
        answer.text()
    );
    assert!(siege.take().await.is_empty());
}

#[tokio::test]
async fn early_bytes_of_a_switch_that_fails_are_judged_as_a_request() {
    let siege = Siege::lay_with(setup).await;
    let mut client = siege.gateway.client().await;
    let early = get("/api/early", "x-user-id: evil");
    client
        .send(shake("/ws/x", &format!("token: {}", user())) + &early)
        .await;
    // The upstream answers 200: HTTP goes on, and what follows has no credential of its own.
    assert_eq!(client.answer().await.status(), 200);
    if let Some(head) = client.try_until(b"\r\n\r\n").await {
        assert!(head.starts_with(b"HTTP/1.1 401"));
    }
    assert_eq!(siege.take().await.len(), 1);
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_no_answer() {
    let upstream = crate::harness::peer::RawUpstream::start().await;
    let gateway = crate::harness::Gateway::start(&setup(&upstream.url())).await;
    let mut client = gateway.client().await;
    client
        .send(super::as_user("/api/x", "") + &get("/api/next", ""))
        .await;
    let mut answering = upstream.accept().await;
    answering.head().await;
    answering.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil").await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), &*answer.word()), (502, "upstream_failed"));
    soon(answering.closed()).await;
}

#[tokio::test]
async fn a_preflight_opens_no_tunnel() {
    let received = Received::default();
    let url = received.listen().await;
    let gateway = crate::harness::Gateway::start(&super::setup(&url)).await;
    let mut client = gateway.client().await;
    let lines = "origin: https://a.test\r\naccess-control-request-method: GET\r\nconnection: upgrade\r\nupgrade: other";
    client.send(request("OPTIONS", "/api/x", lines)).await;
    assert_eq!(client.answer().await.status(), 401);
    assert!(received.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_handshake_over_http2_is_held_to_the_same_rules() {
    let siege = Siege::lay_with(setup).await;
    let t = user();
    let cookie = format!("portcullis={t}");
    let connect = |path: &'static str, protocol: &'static str| {
        vec![
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "http"),
            (":authority", "here"),
            (":path", path),
        ]
    };
    let version = ("sec-websocket-version", "13");
    for (name, mut fields, more, wanted) in [
        (
            "none",
            connect("/ws/x", "websocket"),
            vec![version],
            "401 token_missing",
        ),
        (
            "foreign page",
            connect("/ws/x", "websocket"),
            vec![version, ("origin", "http://evil.test"), ("cookie", &cookie)],
            "403 origin_forbidden",
        ),
        (
            "no origin",
            connect("/ws/x", "websocket"),
            vec![version, ("cookie", &cookie)],
            "403 origin_forbidden",
        ),
        (
            "no version",
            connect("/ws/x", "websocket"),
            vec![("token", &t)],
            "426 websocket_version",
        ),
        (
            "another protocol",
            connect("/ws/x", "connect-udp"),
            vec![version, ("token", &t)],
            "400 upgrade_refused",
        ),
        (
            "another case",
            connect("/ws/x", "WebSocket"),
            vec![version, ("token", &t)],
            "400 upgrade_refused",
        ),
        (
            "switched off",
            connect("/none/x", "websocket"),
            vec![version, ("token", &t)],
            "400 upgrade_refused",
        ),
        (
            "no right",
            connect("/admin/x", "websocket"),
            vec![version, ("token", &t)],
            "403 role_missing",
        ),
        (
            "dot segments",
            connect("/open/../ws/x", "websocket"),
            vec![version],
            "400 path_unsafe",
        ),
        (
            "conflict",
            connect("/ws/x?token=a", "websocket"),
            vec![version, ("token", &t)],
            "400 credentials_conflict",
        ),
        (
            "a plain CONNECT",
            vec![(":method", "CONNECT"), (":authority", "here:80")],
            vec![],
            "405 method_refused",
        ),
    ] {
        fields.extend(more);
        let mut client = Http2::connect(siege.gateway.address).await;
        client.headers(1, &fields, false).await;
        let told = client.told().await;
        siege.judge(name, &told, wanted).await;
    }
    siege.is_silent_in_the_log();
}
