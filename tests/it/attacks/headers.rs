//! Section 3: identity, forwarding and hop-by-hop headers in every spelling.

use super::{IDENTITY, Siege, as_user, get, user};
use crate::harness::setup::token_with;
use serde_json::json;

/// The ways to write a name that somebody could read as the same.
fn spellings(name: &str) -> Vec<String> {
    let title: Vec<String> = name
        .split('-')
        .map(|word| word[..1].to_uppercase() + &word[1..])
        .collect();
    vec![
        name.to_owned(),
        title.join("-"),
        name.to_uppercase(),
        name.replace('-', "_"),
        name.to_uppercase().replace('-', "_"),
        name.replacen('-', "_", 1),
        name.replace('-', "."),
        name.replace('-', "~"),
        name.replace('-', "!"),
    ]
}

#[tokio::test]
async fn no_spelling_of_an_identity_header_passes_on_any_route() {
    let siege = Siege::lay().await;
    let bearer = format!("authorization: Bearer {}", user());
    let mut rows = Vec::new();
    for name in IDENTITY {
        for spelling in spellings(name) {
            let line = format!("{spelling}: evil\r\n{spelling}: evil2");
            for (target, lines, whom) in [
                ("/open/x", line.clone(), "200 guest"),
                ("/pass/x", line.clone(), "200 guest"),
                ("/maybe/x", line.clone(), "200 guest"),
                (
                    "/maybe/x",
                    format!("token: bad\r\n{line}"),
                    "200 invalid_token",
                ),
                ("/api/x", format!("{line}\r\n{bearer}"), "200 user"),
            ] {
                rows.push((*name, get(target, &lines), whom));
            }
        }
    }
    siege.hold(&rows).await;
}

#[tokio::test]
async fn a_claim_that_is_not_there_leaves_no_room_for_the_clients() {
    let siege = Siege::lay().await;
    for claims in [
        json!({}),
        json!({"email": null, "role": null, "session_id": null}),
    ] {
        let bare = token_with(600, claims);
        let lines = "x-user-email: evil\r\nx-user-role: evil\r\nx_session_id: evil\r\nx-user-anonymous: evil";
        let bytes = get("/api/x", &format!("token: {bare}\r\n{lines}"));
        assert_eq!(siege.strike(bytes).await.unwrap().status(), 200);
        let got = siege.take().await;
        assert_eq!(got[0].0.get("x-user-id"), Some("u1"));
        assert!(!got[0].0.0.contains("evil"), "{got:?}");
    }
}

#[tokio::test]
async fn connection_names_nothing_of_ours_away() {
    let siege = Siege::lay().await;
    let mut rows = Vec::new();
    for line in [
        "connection: x-user-id",
        "connection: close, X-User-Id, x-auth-status, host, content-length, x-forwarded-for",
        "Connection: x-user-id\r\nconnection: x-user-role",
        "connection: x_user_id,x-session-id,,",
        "connection: keep-alive, authorization\r\nkeep-alive: timeout=5",
        "proxy-connection: x-user-id",
        "connection: transfer-encoding, te\r\nte: gzip",
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__",
    ] {
        rows.push((line, as_user("/api/x", line), "200 user"));
    }
    siege.hold(&rows).await;
    let answer = siege
        .strike(as_user(
            "/api/x",
            "connection: x-forwarded-for, host, x-forwarded-host",
        ))
        .await;
    assert_eq!(answer.unwrap().status(), 200);
    let got = siege.take().await;
    for name in ["x-forwarded-for", "x-forwarded-host", "host"] {
        assert_eq!(got[0].0.all(name).len(), 1, "{got:?}");
    }
}

#[tokio::test]
async fn forwarding_headers_of_strangers_are_replaced() {
    let siege = Siege::lay().await;
    let mut rows = Vec::new();
    for name in [
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-uri",
        "x-forwarded-client-cert",
        "x-real-ip",
        "forwarded",
        "x-original-url",
        "x-rewrite-url",
        "true-client-ip",
    ] {
        for spelling in spellings(name) {
            rows.push((
                name,
                get("/open/x", &format!("{spelling}: evil")),
                "200 guest",
            ));
            rows.push((
                name,
                as_user("/api/x", &format!("{spelling}: evil")),
                "200 user",
            ));
        }
    }
    // Never an input to a decision.
    for line in [
        "x-original-url: /open/x",
        "x-rewrite-url: /open/x",
        "x-forwarded-uri: /open/x",
        "x-http-method-override: OPTIONS",
        "user-agent: kube-probe/1.30",
        "x-middleware-subrequest: middleware",
        "x-forwarded-for: 127.0.0.1",
    ] {
        rows.push((line, get("/api/x", line), "401 token_missing"));
    }
    siege.hold(&rows).await;
}

#[tokio::test]
async fn a_claim_cannot_break_out_of_its_header() {
    let siege = Siege::lay().await;
    for (name, claim) in [
        ("line break", "a\r\nx-evil: 1"),
        ("nul", "a\0b"),
        ("del", "a\u{7f}"),
        ("truncates to a line feed", "a\u{10a}b"),
        ("wide", "用户"),
        ("comma", "a,b"),
    ] {
        let bad = token_with(
            600,
            json!({"sub": claim, "email": claim, "role": claim, "session_id": claim}),
        );
        let answer = siege
            .strike(get("/api/x", &format!("token: {bad}")))
            .await
            .unwrap();
        let got = siege.take().await;
        if answer.status() == 401 {
            assert!(got.is_empty(), "{name}");
            continue;
        }
        let head = &got[0].0;
        let id = head.all("x-user-id");
        assert!(
            id.len() == 1 && id[0].bytes().all(|byte| byte.is_ascii_graphic()),
            "{name}: {id:?}"
        );
        assert!(
            head.get("x-evil").is_none() && !head.all("x-user-role").concat().contains(','),
            "{name}: {head:?}"
        );
    }
    for (name, role) in [
        ("list", json!(["member", "admin"])),
        ("object", json!({"a": 1})),
        ("number", json!(7)),
    ] {
        let odd = token_with(600, json!({"role": role}));
        let answer = siege
            .strike(get("/api/x", &format!("token: {odd}")))
            .await
            .unwrap();
        let got = siege.take().await;
        assert!(matches!(answer.status(), 200 | 401), "{name}");
        assert!(
            got.iter()
                .all(|(head, _)| !head.all("x-user-role").concat().contains(',')),
            "{name} {got:?}"
        );
    }
}

#[tokio::test]
async fn trailers_carry_no_identity() {
    let siege = Siege::lay().await;
    for (target, lines) in [
        ("/open/x", String::new()),
        ("/api/x", format!("token: {}\r\n", user())),
    ] {
        let bytes = format!(
            "POST {target} HTTP/1.1\r\nhost: here\r\n{lines}transfer-encoding: chunked\r\ntrailer: x-user-id\r\n\r\n\
             2\r\nhi\r\n0\r\nX-User-Id: evil\r\nx_user_role: evil\r\nauthorization: Bearer evil\r\nx-auth-status: evil\r\n\r\n"
        );
        assert_eq!(siege.strike(bytes).await.unwrap().status(), 200);
        let got = siege.take().await;
        assert_eq!(got[0].1, "hi");
        assert!(
            !got[0].0.0.contains("evil") && got[0].0.get("trailer").is_none(),
            "{got:?}"
        );
    }
}
