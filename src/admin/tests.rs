use http::Version;
use http_body::Body as _;

use super::*;

fn admin() -> Admin {
    Admin {
        board: Board::default(),
        metrics: Metrics::new(1),
    }
}

/// A document without calls.
fn nothing() -> serde_json::Value {
    crate::openapi::document::Document::new().finish()
}

fn get(target: &str) -> http::request::Builder {
    Request::get(target).header(header::HOST, "127.0.0.1:9901")
}

fn status(admin: &Admin, request: http::request::Builder) -> u16 {
    let request = request.body(()).expect("a request");
    respond(admin, &request, &nothing).status().as_u16()
}

/// The body of a response that is whole.
fn text(response: Response<Body>) -> String {
    match response.into_body() {
        Body::Full(Some(bytes)) => String::from_utf8(bytes.to_vec()).expect("UTF-8"),
        _ => String::new(),
    }
}

#[test]
fn health_is_said_whatever_the_board_says() {
    let admin = admin();
    let _waiting = admin.board.part("issuer:project");
    assert_eq!(status(&admin, get("/healthz")), 200);
    assert_eq!(status(&admin, get("/healthz?verbose")), 200);
}

#[test]
fn readiness_names_each_part() {
    let admin = admin();
    let upstream = admin.board.part("upstream:app");
    upstream.not_ready("no endpoint is up");
    let request = get("/readyz").body(()).expect("a request");
    let response = respond(&admin, &request, &nothing);
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        text(response),
        r#"{"ready":false,"parts":[{"name":"upstream:app","ready":false,"reason":"no endpoint is up"}]}"#
    );
    upstream.ready();
    assert_eq!(status(&admin, get("/readyz")), 200);
}

#[test]
fn metrics_are_one_page_that_ends_as_it_must() {
    let request = get("/metrics").body(()).expect("a request");
    let response = respond(&admin(), &request, &nothing);
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        exposition::CONTENT_TYPE
    );
    assert!(text(response).ends_with("# EOF\n"));
}

#[test]
fn head_has_the_length_and_no_body() {
    let request = Request::head("/healthz")
        .header(header::HOST, "localhost")
        .body(())
        .expect("a request");
    let response = respond(&admin(), &request, &nothing);
    assert_eq!(response.headers()[header::CONTENT_LENGTH], "15");
    assert!(response.body().is_end_stream());
}

#[test]
fn nothing_else_is_there() {
    for target in [
        "/",
        "/healthz/",
        "/HEALTHZ",
        "//healthz",
        "/metrics/x",
        "/debug/pprof",
    ] {
        assert_eq!(status(&admin(), get(target)), 404, "{target}");
    }
    assert_eq!(status(&admin(), get("/readyz").method("POST")), 405);
    assert_eq!(status(&admin(), get("/metrics").method("DELETE")), 405);
}

#[test]
fn only_addresses_and_localhost_are_served() {
    for (host, expected) in [
        ("127.0.0.1", 200),
        ("10.1.2.3:9901", 200),
        ("[::1]:9901", 200),
        ("localhost:9901", 200),
        ("LOCALHOST", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:9901", 421),
        ("127.0.0.1@evil.example", 421),
        ("evil.example@127.0.0.1", 421),
        ("2130706433", 421),
        ("", 400),
        ("a b", 400),
    ] {
        let request = Request::get("/healthz").header(header::HOST, host);
        assert_eq!(status(&admin(), request), expected, "{host:?}");
    }
    assert_eq!(status(&admin(), Request::get("/healthz")), 400);
    let doubled = get("/healthz").header(header::HOST, "127.0.0.1");
    assert_eq!(status(&admin(), doubled), 400);
    // Named twice, good once.
    assert_eq!(status(&admin(), get("http://evil.example/healthz")), 421);
    let http2 = Request::get("http://127.0.0.1:9901/healthz").version(Version::HTTP_2);
    assert_eq!(status(&admin(), http2), 200);
}

#[test]
fn a_page_of_any_origin_is_refused() {
    for origin in ["http://127.0.0.1:9901", "null", "https://evil.example", ""] {
        let request = get("/metrics").header(header::ORIGIN, origin);
        assert_eq!(status(&admin(), request), 403, "{origin:?}");
    }
}
