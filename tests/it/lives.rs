//! Streams live as long as their session: renewals, tickets, ends.

use serde_json::{Value, json};

use crate::harness::api::{self, Ask, PASSWORD, register};
use crate::harness::peer::{Answer, RawUpstream};
use crate::harness::setup::token_with;
use crate::harness::websocket::{ACCEPTED, CLOSE, HANDSHAKE, TEXT, code};
use crate::harness::{Gateway, Peer, Setup};

const ADMIN: &str = "0d5b1f7a9c3e4d2b8f60a1c7e5d94b32";
const EVENTS: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

async fn gateway_with(lines: &str) -> (RawUpstream, Gateway) {
    let upstream = RawUpstream::start().await;
    let setup = Setup::new()
        .issuer()
        .upstream(&upstream.url(), "")
        .guarded("required", "/{*rest}", "")
        .guarded("public", "/open/{*rest}", "")
        .piece(lines);
    let gateway = Gateway::start(&setup).await;
    (upstream, gateway)
}

async fn gateway() -> (RawUpstream, Gateway) {
    gateway_with("").await
}

fn of_session(session: &str, seconds: i64) -> String {
    token_with(seconds, json!({ "session_id": session }))
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

/// A request for events, on a connection of its own.
async fn asking(gateway: &Gateway, target: &str, fields: &str) -> Peer {
    let mut client = gateway.client().await;
    let ask =
        format!("GET {target} HTTP/1.1\r\nhost: here\r\naccept: text/event-stream\r\n{fields}\r\n");
    client.send(ask).await;
    client
}

/// An event stream that has begun: the client's end, the upstream's, and what the upstream was asked.
async fn events(
    (upstream, gateway): (&RawUpstream, &Gateway),
    target: &str,
    fields: &str,
) -> (Peer, Peer, String) {
    let mut client = asking(gateway, target, fields).await;
    let mut peer = upstream.accept().await;
    let asked = peer.until("\r\n\r\n").await;
    peer.send(EVENTS).await;
    let head = client.head().await;
    assert_eq!(head.status(), 200);
    client.until(": ok\n\n").await;
    (client, peer, asked)
}

async fn tunnel(
    (upstream, gateway): (&RawUpstream, &Gateway),
    target: &str,
    fields: &str,
) -> (Peer, Peer) {
    let mut client = gateway.client().await;
    let ask = format!("GET {target} HTTP/1.1\r\nhost: here\r\n{HANDSHAKE}{fields}\r\n");
    client.send(ask).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send(ACCEPTED).await;
    assert_eq!(client.head().await.status(), 101);
    (client, peer)
}

async fn post(gateway: &Gateway, path: &str, (token, body): (&str, Value)) -> Answer {
    let mut client = gateway.client().await;
    let body = body.to_string();
    let ask = format!(
        "POST {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n{}\r\n{body}",
        body.len(),
        bearer(token)
    );
    client.send(ask).await;
    client.answer().await
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

async fn ticket(gateway: &Gateway, token: &str, path: &str) -> String {
    let told = post(
        gateway,
        "/_portcullis/tickets",
        (token, json!({ "path": path })),
    )
    .await;
    assert_eq!(told.status(), 200, "{}", told.text());
    let told = json_of(&told);
    assert_eq!(told["expires_in"], 30);
    told["ticket"].as_str().unwrap().to_owned()
}

async fn refused(gateway: &Gateway, target: &str, fields: &str) -> (u16, String) {
    let answer = asking(gateway, target, &format!("connection: close\r\n{fields}"))
        .await
        .answer()
        .await;
    (answer.status(), answer.word())
}

#[tokio::test]
async fn a_renewal_extends_the_streams_of_its_session() {
    let (upstream, gateway) = gateway().await;
    let site = (&upstream, &gateway);
    let old = bearer(&of_session("s", 300));
    let (mut client, _peer, _) = events(site, "/a", &old).await;
    let _other = events(site, "/a", &bearer(&of_session("t", 300))).await;
    let (_socket, _end) = tunnel(site, "/b", &old).await;
    let newer = of_session("s", 900);
    for _ in 0..2 {
        let told = post(&gateway, "/_portcullis/streams/renew", (&newer, json!({}))).await;
        assert_eq!(json_of(&told)["extended"], 2, "{}", told.text());
    }
    // An older token extends nothing, one without a session neither.
    for token in [of_session("s", 600), token_with(900, json!({}))] {
        let told = post(&gateway, "/_portcullis/streams/renew", (&token, json!({}))).await;
        assert_eq!(json_of(&told)["extended"], 0);
    }
    let told = post(&gateway, "/_portcullis/streams/renew", ("none", json!({}))).await;
    assert_eq!(told.status(), 401);
    // A token that lost what the route asks for ends them; see `streams`. Here none is asked for: they live.
    drop(_peer);
    client.until("event: error").await;
}

#[tokio::test]
async fn a_ticket_opens_one_stream_and_stays_out_of_sight() {
    let (upstream, gateway) = gateway().await;
    let site = (&upstream, &gateway);
    let token = of_session("s", 300);
    let ticket = ticket(&gateway, &token, "/events/a").await;
    let target = format!("/events/a?x=%20y&ticket={ticket}&ticket=mine");
    // Not another path, and not beside another credential.
    let other = format!("/events/b?ticket={ticket}");
    assert_eq!(
        refused(&gateway, &other, "").await,
        (401, "ticket_invalid".into())
    );
    let twice = refused(&gateway, &target, &bearer(&token)).await;
    assert_eq!(twice, (400, "credentials_conflict".into()));
    let mut client = asking(&gateway, &target, "").await;
    let mut peer = upstream.accept().await;
    let asked = peer.until("\r\n\r\n").await;
    assert!(
        asked.starts_with("GET /events/a?x=%20y&ticket=mine HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(asked.contains("x-user-id: u1\r\n") && !asked.contains("pt_"));
    peer.send(EVENTS).await;
    let head = client.head().await;
    assert_eq!(head.get("cache-control"), Some("no-store"));
    assert_eq!(head.get("referrer-policy"), Some("no-referrer"));
    // While it lives nobody else gets in by it; when it has ended it is resumed.
    told_to_come_again(&gateway, &target).await;
    let plain = Ask::get(&target).answer(&gateway).await;
    assert_eq!(
        (plain.status(), plain.word()),
        (401, "ticket_in_use".into())
    );
    drop(client);
    gateway
        .figure_becomes("portcullis_streams{route=\"rest\",kind=\"sse\"}", 0.0)
        .await;
    drop(peer);
    let (client, _peer, _) = events(site, &target, "").await;
    drop(client);
    assert!(!gateway.log().contains("pt_"), "{}", gateway.log());
    let stripped = format!("/open/x?ticket={ticket}&y");
    let mut client = asking(&gateway, &stripped, "").await;
    let mut peer = upstream.accept().await;
    assert!(peer.until("\r\n").await.starts_with("GET /open/x?y HTTP"));
    drop((client.try_take(0).await, peer));
}

/// What an `EventSource` does not give up after: nothing but the time to ask again.
async fn told_to_come_again(gateway: &Gateway, target: &str) {
    let mut client = asking(gateway, target, "connection: close\r\n").await;
    let told = client.answer().await;
    assert_eq!((told.status(), &*told.text()), (200, "retry: 2000\n\n"));
    assert_eq!(told.head.get("content-type"), Some("text/event-stream"));
    assert_eq!(told.head.get("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn a_ticket_in_use_makes_no_guest() {
    let lines = "\n[[route]]\nname = \"guests\"\npath = \"/guests/{*rest}\"\nupstream = \"app\"\nauth = \"optional\"\n";
    let (upstream, gateway) = gateway_with(lines).await;
    let ticket = ticket(&gateway, &of_session("s", 300), "/guests/a").await;
    let target = format!("/guests/a?ticket={ticket}");
    let (_client, _peer, asked) = events((&upstream, &gateway), &target, "").await;
    assert!(asked.contains("x-user-id: u1\r\n"), "{asked}");
    told_to_come_again(&gateway, &target).await;
}

#[tokio::test]
async fn a_ticket_for_a_websocket_is_good_once() {
    let (upstream, gateway) = gateway().await;
    let token = of_session("s", 300);
    let ticket = ticket(&gateway, &token, "/ws").await;
    let target = format!("/ws?ticket={ticket}");
    let (client, _peer) = tunnel((&upstream, &gateway), &target, "").await;
    drop(client);
    assert_eq!(
        refused(&gateway, &target, "").await,
        (401, "ticket_invalid".into())
    );
}

#[tokio::test]
async fn an_answer_that_is_no_stream_uses_the_ticket_up() {
    let (upstream, gateway) = gateway().await;
    let target = format!(
        "/a?ticket={}",
        ticket(&gateway, &of_session("s", 300), "/a").await
    );
    let mut client = asking(&gateway, &target, "").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .await;
    assert_eq!(client.answer().await.text(), "ok");
    assert_eq!(
        refused(&gateway, &target, "").await,
        (401, "ticket_invalid".into())
    );
}

#[tokio::test]
async fn a_ticket_is_asked_for_properly() {
    let (_upstream, gateway) = gateway_with("[tickets]\nper_user = 2").await;
    let token = of_session("s", 300);
    for (body, status, word) in [
        (json!({}), 400, "body_invalid"),
        (json!({"path": 7}), 400, "body_invalid"),
        (json!({"path": "/a/../b"}), 400, "path_unsafe"),
        (json!({"path": "/a?b=c"}), 400, "path_unsafe"),
        (json!({"path": "a"}), 400, "path_unsafe"),
        (json!({"path": "/a", "method": "G T"}), 400, "body_invalid"),
        (json!({"path": "/a", "method": "POST"}), 200, ""),
        (json!({"path": "/a"}), 200, ""),
        (json!({"path": "/a"}), 429, "tickets_exceeded"),
    ] {
        let told = post(&gateway, "/_portcullis/tickets", (&token, body.clone())).await;
        assert_eq!(told.status(), status, "{body}");
        if status != 200 {
            assert_eq!(told.word(), word, "{body}");
        }
    }
    let told = post(
        &gateway,
        "/_portcullis/tickets",
        ("bad", json!({"path": "/a"})),
    )
    .await;
    assert_eq!(told.status(), 401);
    let asked = Ask::get("/_portcullis/tickets")
        .bearer(&token)
        .of(&gateway)
        .await;
    assert_eq!((asked.status, asked.head.get("allow")), (405, Some("POST")));
}

#[tokio::test]
async fn without_tickets_the_parameter_is_the_upstreams() {
    let (upstream, gateway) = gateway_with("[tickets]\nenabled = false").await;
    let told = post(
        &gateway,
        "/_portcullis/tickets",
        (&of_session("s", 300), json!({"path": "/a"})),
    )
    .await;
    assert_eq!(told.status(), 404);
    let fields = bearer(&of_session("s", 300));
    let (_client, _peer, asked) = events((&upstream, &gateway), "/a?ticket=pt_x", &fields).await;
    assert!(asked.starts_with("GET /a?ticket=pt_x HTTP"));
}

/// What the admin listener answers.
async fn admin(gateway: &Gateway, line: &str, (token, body): (&str, &str)) -> (u16, Value) {
    let mut client = Peer::connect(gateway.admin).await;
    let ask = format!(
        "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.send(ask).await;
    let answer = client.answer().await;
    (answer.status(), json_of(&answer))
}

#[tokio::test]
async fn an_operator_sees_streams_and_ends_them_with_their_tokens() {
    let upstream = RawUpstream::start().await;
    let setup = Setup::new()
        .issuer()
        .upstream(&upstream.url(), "")
        .guarded("required", "/{*rest}", "");
    let text = setup
        .text()
        .replace("[admin]\n", &format!("[admin]\ntoken = \"{ADMIN}\"\n"));
    let gateway = Gateway::start(&setup).await;
    let unserved = admin(&gateway, "GET /streams", (ADMIN, "")).await;
    assert_eq!(unserved.0, 404, "no token is configured");
    gateway.reload_text(&text).await.unwrap();
    let site = (&upstream, &gateway);
    let token = of_session("s", 300);
    let (mut client, mut peer, _) = events(site, "/a", &bearer(&token)).await;
    let (mut socket, mut end) = tunnel(site, "/b", &bearer(&token)).await;
    let _other = events(site, "/a", &bearer(&of_session("t", 300))).await;
    for bad in ["", "none", &ADMIN[1..]] {
        assert_eq!(admin(&gateway, "GET /streams", (bad, "")).await.0, 401);
    }
    let (status, told) = admin(&gateway, "GET /streams?session=s&kind=sse", (ADMIN, "")).await;
    assert_eq!((status, &told["count"]), (200, &json!(1)));
    assert_eq!(told["streams"][0]["user_id"], "u1");
    assert_eq!(told["streams"][0]["path"], "/a");
    for body in [
        "",
        "{}",
        r#"{"who":"x"}"#,
        r#"{"route":"rest","revoke":true}"#,
    ] {
        assert_eq!(
            admin(&gateway, "POST /streams/end", (ADMIN, body)).await.0,
            400,
            "{body}"
        );
    }
    let body = r#"{"session":"s","revoke":true}"#;
    let (status, told) = admin(&gateway, "POST /streams/end", (ADMIN, body)).await;
    // Kept nowhere: it has no store.
    let expected = json!({"ended": 2, "revoked": true, "kept": false});
    assert_eq!((status, told), (200, expected));
    client.until("event: auth_revoked").await;
    peer.closed().await;
    for side in [&mut socket, &mut end] {
        let (opcode, payload) = side.frame().await;
        assert_eq!((opcode, code(&payload)), (CLOSE, 4401));
        assert_eq!(&payload[2..], b"auth_revoked");
    }
    // Also a newer token of that session is none.
    for token in [token, of_session("s", 900)] {
        let told = refused(&gateway, "/a", &bearer(&token)).await;
        assert_eq!(told, (401, "token_revoked".into()));
    }
    let line = gateway.line_with("streams_revoke").await;
    assert!(
        line.contains("\"session_id\":\"s\"") && line.contains("\"by\":\"admin\""),
        "{line}"
    );
}

/// What ends the streams of `ada`.
enum Cause {
    LogOut,
    LogOutEverywhere,
    Theft,
}

#[tokio::test]
async fn the_end_of_a_session_ends_its_streams_and_a_new_log_in_opens_new_ones() {
    for cause in [Cause::LogOut, Cause::LogOutEverywhere, Cause::Theft] {
        let upstream = RawUpstream::start().await;
        let setup = api::setup(&upstream.url());
        let gateway = Gateway::start(&setup).await;
        let strict = "[accounts]\nrefresh_reuse = \"0s\"\n";
        let text = setup.text().replace("[accounts]\n", strict);
        gateway.reload_text(&text).await.unwrap();
        register(&gateway, "ada").await;
        let site = (&upstream, &gateway);
        let asked = json!({"email": "ada@mail.test", "password": PASSWORD});
        let log_in = Ask::post("/auth/v1/token?grant_type=password", &asked);
        let told = log_in.of(&gateway).await;
        let token = told.text("/access_token");
        let (mut client, _peer, _) = events(site, "/a", &bearer(&token)).await;
        let (mut socket, _end) = tunnel(site, "/b", &bearer(&token)).await;
        match cause {
            Cause::LogOut => {
                let out = Ask::new("POST", "/auth/v1/logout?scope=local").bearer(&token);
                assert_eq!(out.of(&gateway).await.status, 204);
            }
            Cause::LogOutEverywhere => {
                let out = Ask::new("POST", "/auth/v1/logout?scope=global").bearer(&token);
                assert_eq!(out.of(&gateway).await.status, 204);
            }
            Cause::Theft => {
                let first = told.text("/refresh_token");
                let second = refreshed(&gateway, &first).await.text("/refresh_token");
                refreshed(&gateway, &second).await;
                assert_eq!(refreshed(&gateway, &first).await.status, 400);
            }
        }
        client.until("event: auth_revoked").await;
        let (_, payload) = socket.frame().await;
        assert_eq!(&payload[2..], b"auth_revoked");
        let again = log_in.of(&gateway).await.text("/access_token");
        let (_client, mut peer, _) = events(site, "/a", &bearer(&again)).await;
        peer.send("4\r\n: x\n\r\n").await;
    }
}

async fn refreshed(gateway: &Gateway, refresh: &str) -> api::Told {
    let asked = json!({ "refresh_token": refresh });
    Ask::post("/auth/v1/token?grant_type=refresh_token", &asked)
        .of(gateway)
        .await
}

#[tokio::test]
async fn a_refresh_at_our_own_api_extends_the_streams_at_once() {
    let upstream = RawUpstream::start().await;
    let setup =
        api::setup(&upstream.url()).piece("access_ttl = \"61s\"\n[tokens]\nleeway = \"0s\"");
    let gateway = Gateway::start(&setup).await;
    register(&gateway, "ada").await;
    let site = (&upstream, &gateway);
    let asked = json!({"email": "ada@mail.test", "password": PASSWORD});
    let told = Ask::post("/auth/v1/token?grant_type=password", &asked)
        .of(&gateway)
        .await;
    let fields = bearer(&told.text("/access_token"));
    let (mut client, _peer) = tunnel(site, "/b", &fields).await;
    // The first warning comes a second after the start; one of a later deadline only after a refresh.
    let expires = |payload: &[u8]| -> u64 {
        let warning: Value = serde_json::from_slice(payload).unwrap();
        assert_eq!(warning["type"], "auth_expiring");
        warning["expires_at"].as_u64().unwrap()
    };
    let (opcode, first) = client.frame().await;
    assert_eq!(opcode, TEXT);
    assert_eq!(
        refreshed(&gateway, &told.text("/refresh_token"))
            .await
            .status,
        200
    );
    let (_, second) = client.frame().await;
    assert!(expires(&second) > expires(&first));
}

const SERVICE: &str = "sb_secret_of_these_tests_only";

/// What an administrator does to `ada`, who has the role `team` and streams on a route that asks for it.
const DONE: [(&str, &str); 4] = [
    ("PUT", r#"{"ban_duration":"1h"}"#),
    ("DELETE", ""),
    ("PUT", r#"{"app_metadata":{"roles":["guest"]}}"#),
    // Not to her but to the route.
    ("RELOAD", ""),
];

#[tokio::test]
async fn what_an_administrator_takes_from_a_user_ends_her_streams() {
    for (method, body) in DONE {
        let upstream = RawUpstream::start().await;
        let team = "roles = [\"team\"]";
        let setup = api::setup(&upstream.url()).guarded("required", "/team/{*rest}", team);
        let gateway = Gateway::start(&setup).await;
        let keys = format!("[api.supabase]\nservice_keys = [\"{SERVICE}\"]\n");
        let text = setup.text().replace("[api.supabase]\n", &keys);
        gateway.reload_text(&text).await.unwrap();
        register(&gateway, "ada").await;
        let asked = json!({"email": "ada@mail.test", "password": PASSWORD});
        let log_in = Ask::post("/auth/v1/token?grant_type=password", &asked);
        let log_in = log_in.field("apikey", SERVICE);
        let id = log_in.of(&gateway).await.text("/user/id");
        let admin = |method: &str| {
            let ask = Ask::new(method, &format!("/auth/v1/admin/users/{id}"));
            ask.field("apikey", SERVICE).bearer(SERVICE)
        };
        let roles = json!({"app_metadata": {"roles": ["team"]}});
        assert_eq!(admin("PUT").json(&roles).of(&gateway).await.status, 200);
        let token = bearer(&log_in.of(&gateway).await.text("/access_token"));
        let site = (&upstream, &gateway);
        let (mut client, mut peer, _) = events(site, "/team/a", &token).await;
        let (mut socket, mut end) = tunnel(site, "/team/b", &token).await;
        match method {
            "RELOAD" => {
                let other = text.replace(team, "roles = [\"board\"]");
                gateway.reload_text(&other).await.unwrap();
            }
            "DELETE" => assert_eq!(admin(method).of(&gateway).await.status, 200),
            _ => {
                let ask = admin(method).raw("application/json", body.as_bytes());
                assert_eq!(ask.of(&gateway).await.status, 200, "{body}");
            }
        }
        client.until("event: auth_revoked").await;
        peer.closed().await;
        for side in [&mut socket, &mut end] {
            let (opcode, payload) = side.frame().await;
            assert_eq!((opcode, code(&payload)), (CLOSE, 4401), "{method} {body}");
            assert_eq!(&payload[2..], b"auth_revoked");
        }
    }
}
