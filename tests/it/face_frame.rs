//! What all faces share: where calls are found, what bodies are read, whose shape a refusal has.

use std::collections::BTreeSet;

use portcullis::config::{APP_PATHS, AUTH_PATHS, SESSIONS_PATHS};
use portcullis::faces::{app, session};
use serde_json::{Value, json};

use crate::harness::api::{Ask, PASSWORD, Site, Told};

#[test]
fn the_configuration_knows_the_paths_of_the_tables() {
    fn paths<O>(rows: &[portcullis::openapi::Row<O>]) -> BTreeSet<&str> {
        rows.iter().map(|row| row.path).collect()
    }
    assert_eq!(paths(&app::CALLS), BTreeSet::from(APP_PATHS));
    assert_eq!(
        paths(&session::calls::AUTH_CALLS),
        BTreeSet::from(AUTH_PATHS)
    );
    assert_eq!(
        paths(&session::calls::SESSIONS_CALLS),
        BTreeSet::from(SESSIONS_PATHS)
    );
}

/// A failure with this status, in the shape of its API.
fn is_in_shape(told: &Told, status: u16, path: &str) {
    assert_eq!(told.status, status, "{path}: {told:?}");
    match path.starts_with("/api/v1/base") {
        true => {
            assert_eq!(told.body["code"], status, "{told:?}");
            assert_eq!(told.body["data"], Value::Null);
            assert!(told.body["msg"].is_string());
            assert_eq!(told.body.as_object().unwrap().len(), 3);
        }
        false => {
            assert_eq!(told.body["success"], false, "{told:?}");
            assert!(told.body["error"].is_string());
            assert!(told.body.as_object().unwrap().len() <= 3);
        }
    }
    assert_eq!(told.head.get("cache-control"), Some("no-store"));
}

const WITH_BODIES: [&str; 3] = [
    "/api/v1/base/access_token",
    "/api/auth/register",
    "/api/auth/login",
];

#[tokio::test]
async fn a_body_that_is_wrong_is_told_so_in_the_shape_of_the_api() {
    let gateway = Site::start().await;
    let good =
        json!({"username": "ada", "email": "ada@mail.test", "password": PASSWORD}).to_string();
    for path in WITH_BODIES {
        for (kind, body, status) in [
            ("application/json", "", 400),
            ("application/json", "{", 400),
            ("application/json", "[]", 400),
            ("application/json", "null", 400),
            ("application/json", "\"text\"", 400),
            ("application/json", "{}", 400),
            (
                "application/json",
                r#"{"username":"a","username":"b","email":"c","password":"d"}"#,
                400,
            ),
            (
                "application/json",
                r#"{"username":{"$ne":""},"email":"c","password":{"$ne":""}}"#,
                400,
            ),
            (
                "application/json",
                r#"{"username":["a"],"email":"c","password":"d"}"#,
                400,
            ),
            (
                "application/json",
                r#"{"username":7,"email":"c","password":"d"}"#,
                400,
            ),
            ("application/json", "{\"username\":\"\u{0}", 400),
            ("application/json; charset=utf-16", &good, 415),
            ("text/plain", &good, 415),
            (
                "application/x-www-form-urlencoded",
                "username=a&password=b",
                415,
            ),
            ("multipart/form-data; boundary=x", "--x--", 415),
        ] {
            let told = Ask::new("POST", path)
                .raw(kind, body.as_bytes())
                .of(&gateway)
                .await;
            is_in_shape(&told, status, path);
        }
        let bare = Ask::new("POST", path).of(&gateway).await;
        is_in_shape(&bare, 415, path);
        let deep = format!("{{\"username\":{}", "[".repeat(30_000));
        let told = Ask::new("POST", path).raw("application/json", deep.as_bytes());
        is_in_shape(&told.of(&gateway).await, 400, path);
    }
}

#[tokio::test]
async fn a_field_that_is_missing_or_wrong_is_named_in_the_clients_language() {
    let gateway = Site::start().await;
    let path = "/api/v1/base/access_token";
    let text = async |body: Value, chinese: bool| {
        let ask = Ask::post(path, &body);
        let ask = if chinese { ask.chinese() } else { ask };
        ask.of(&gateway).await.text("/msg")
    };
    assert_eq!(
        text(json!({"username": "a"}), false).await,
        "Missing field: password"
    );
    assert_eq!(
        text(json!({"username": "a"}), true).await,
        "缺少字段：password"
    );
    let wrong = json!({"username": 1, "password": "b"});
    assert_eq!(text(wrong.clone(), false).await, "Invalid field: username");
    assert_eq!(text(wrong, true).await, "字段无效：username");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_there() {
    let gateway = Site::start().await;
    for path in WITH_BODIES {
        let mut client = gateway.client().await;
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\n");
        client
            .send(format!("{head}content-length: 10485760\r\n\r\n{{"))
            .await;
        let answer = client.answer().await;
        is_in_shape(&Told::of(answer.head.clone(), &answer.body), 413, path);
        assert_eq!(answer.head.get("connection"), Some("close"));
        client.closed().await;

        let mut client = gateway.client().await;
        client
            .send(format!("{head}transfer-encoding: chunked\r\n\r\n"))
            .await;
        let chunk = "x".repeat(40_000);
        for _ in 0..2 {
            client
                .send(format!("{:x}\r\n{chunk}\r\n", chunk.len()))
                .await;
        }
        let answer = client.answer().await;
        is_in_shape(&Told::of(answer.head, &answer.body), 413, path);
        client.closed().await;
    }
}

#[tokio::test]
async fn another_method_is_told_which_there_are() {
    let gateway = Site::start().await;
    for (method, path, allow) in [
        ("GET", "/api/v1/base/access_token", "POST, OPTIONS"),
        ("POST", "/api/v1/base/userinfo", "GET, HEAD, OPTIONS"),
        ("DELETE", "/api/auth/me", "GET, HEAD, PATCH, OPTIONS"),
        ("GET", "/api/sessions/new", "POST, OPTIONS"),
        (
            "PUT",
            "/api/sessions/7",
            "GET, HEAD, PATCH, DELETE, OPTIONS",
        ),
        ("POST", "/api/sessions", "GET, HEAD, OPTIONS"),
    ] {
        let told = Ask::new(method, path).of(&gateway).await;
        is_in_shape(&told, 405, path);
        assert_eq!(told.head.get("allow"), Some(allow), "{method} {path}");
        let options = Ask::new("OPTIONS", path).of(&gateway).await;
        assert_eq!(
            (options.status, options.head.get("allow")),
            (204, Some(allow))
        );
    }
    let head = Ask::new("HEAD", "/api/auth/verify").of(&gateway).await;
    assert_eq!(head.status, 401);
    assert!(head.head.get("content-length").is_some());
}

#[tokio::test]
async fn refusals_of_the_gate_have_the_shape_of_the_api() {
    let gateway = Site::start().await;
    for path in ["/api/v1/base/userinfo", "/api/auth/me", "/api/sessions"] {
        let twice = Ask::get(path)
            .bearer("one")
            .field("authorization", "Bearer two");
        is_in_shape(&twice.of(&gateway).await, 400, path);
        let upgrade = Ask::get(path)
            .field("connection", "upgrade")
            .field("upgrade", "websocket")
            .field("sec-websocket-version", "13")
            .field("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let told = upgrade.of(&gateway).await;
        assert!(told.status >= 400 && told.status < 500, "{told:?}");
        let events = Ask::get(path).field("accept", "text/event-stream");
        is_in_shape(&events.of(&gateway).await, 401, path);
    }
}

#[tokio::test]
async fn what_is_no_call_is_a_route_like_any_other() {
    let gateway = Site::start().await;
    for path in [
        "/api/v1/base",
        "/api/v1/base/",
        "/api/v1/base/nothing",
        "/api/auth/nothing",
    ] {
        let told = Ask::get(path).of(&gateway).await;
        assert_eq!(
            (told.status, &told.body["error"]),
            (401, &json!("token_missing")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_document_and_its_page_are_on_the_admin_port() {
    let gateway = Site::start().await;
    let document = gateway.page("/openapi.json").await;
    let document: Value = serde_json::from_slice(&document.body).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    for (path, method) in [
        ("/api/v1/base/access_token", "post"),
        ("/api/auth/me", "patch"),
        ("/api/sessions", "get"),
        ("/api/sessions/{id}", "delete"),
        ("/api/sessions/current/jobs", "get"),
    ] {
        let responses = &paths[path][method]["responses"];
        assert!(responses.as_object().unwrap().len() > 3, "{path}");
    }
    let page = gateway.page("/docs").await;
    assert!(page.text().contains("/docs/swagger-ui.js"));
    for file in ["/docs/swagger-ui.js", "/docs/swagger-ui.css"] {
        let file = gateway.page(file).await;
        assert_eq!(file.head.get("content-encoding"), Some("gzip"));
        assert!(file.body.len() > 10_000);
    }
    assert_eq!(Ask::get("/openapi.json").of(&gateway).await.status, 401);
}
