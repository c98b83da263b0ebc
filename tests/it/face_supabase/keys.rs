//! What stands before every call: the key, the origin, the shape of a failure.

use serde_json::json;

use super::{ANON, LEGACY_SERVICE, PASSWORD, SERVICE, ask, failed, sign_up, start};
use crate::harness::Gateway;
use crate::harness::caller::{Ask, accounts};

#[tokio::test]
async fn a_key_is_asked_for_where_there_are_keys() {
    let gateway = start().await;
    let token = sign_up(&gateway, "ada@mail.example").await;
    let user_token = token.text("access_token");
    let health = |key: Option<&str>| {
        let ask = Ask::line("GET /auth/v1/health");
        key.map_or(ask.clone(), |key| ask.field("apikey", key))
    };
    for (key, status, message) in [
        (None, 401, "No API key found in request"),
        (Some(""), 401, "No API key found in request"),
        (Some("nonsense"), 401, "Invalid API key"),
        (Some(&ANON[1..]), 401, "Invalid API key"),
        (Some(user_token), 401, "Invalid API key"),
        (Some(ANON), 200, ""),
        (Some(LEGACY_SERVICE), 200, ""),
    ] {
        let told = health(key).to(&gateway).await;
        assert_eq!(
            (told.status(), told.text("message")),
            (status, message),
            "{key:?}"
        );
        assert_eq!(told.field("access-control-allow-origin"), Some("*"));
        if status == 401 {
            assert_eq!(told.json, json!({"message": message}));
        }
    }
    let query = Ask::line(&format!("GET /auth/v1/health?apikey={ANON}"))
        .to(&gateway)
        .await;
    assert_eq!(query.status(), 200);
    let two = health(Some(ANON))
        .field("apikey", SERVICE)
        .to(&gateway)
        .await;
    assert_eq!(two.status(), 401);
    // The key comes first: whoever has none learns nothing of what there is.
    assert_eq!(
        Ask::line("GET /auth/v1/nothing")
            .to(&gateway)
            .await
            .status(),
        401
    );
    let keys = Ask::line("GET /auth/v1/.well-known/jwks.json")
        .to(&gateway)
        .await;
    assert_eq!(
        (keys.status(), keys.field("cache-control")),
        (200, Some("public, max-age=600"))
    );

    let open = accounts("").piece("[api.supabase]\nmount = \"/auth/v1\"");
    let gateway = Gateway::start(&open).await;
    assert_eq!(health(None).to(&gateway).await.status(), 200);
    let told = Ask::line("GET /auth/v1/admin/users").to(&gateway).await;
    assert_eq!((told.status(), told.text("error_code")), (403, "not_admin"));
}

#[tokio::test]
async fn pages_of_other_origins_may_ask_and_read() {
    let gateway = start().await;
    for path in [
        "/token?grant_type=password",
        "/user",
        "/admin/users/x",
        "/nothing",
    ] {
        let told = Ask::line(&format!("OPTIONS /auth/v1{path}"))
            .field("origin", "https://app.example")
            .field("access-control-request-method", "PUT")
            .field(
                "access-control-request-headers",
                "apikey,authorization,x-client-info",
            )
            .to(&gateway)
            .await;
        assert_eq!(told.status(), 204, "{path}");
        assert_eq!(told.field("access-control-allow-origin"), Some("*"));
        let allowed = told.field("access-control-allow-headers").unwrap();
        assert!(allowed.contains("apikey") && allowed.contains("x-supabase-api-version"));
        assert!(
            told.field("access-control-allow-methods")
                .unwrap()
                .contains("PUT")
        );
    }
    let told = ask("GET /health")
        .field("origin", "https://app.example")
        .to(&gateway)
        .await;
    let exposed = told.field("access-control-expose-headers").unwrap();
    for name in ["x-supabase-api-version", "link", "x-total-count"] {
        assert!(exposed.contains(name), "{name}");
    }
    assert_eq!(told.field("access-control-allow-credentials"), None);

    let named = accounts("")
        .piece("[api.supabase]\nmount = \"/auth/v1\"\ncors_origins = [\"https://app.example\"]");
    let gateway = Gateway::start(&named).await;
    for (origin, allowed) in [
        ("https://app.example", true),
        ("https://app.example.evil.example", false),
        ("null", false),
    ] {
        let told = Ask::line("GET /auth/v1/health")
            .field("origin", origin)
            .to(&gateway)
            .await;
        assert_eq!(
            told.field("access-control-allow-origin"),
            allowed.then_some(origin)
        );
        assert_eq!(told.field("vary"), Some("Origin"));
    }
}

#[tokio::test]
async fn failures_have_the_shape_that_the_client_asked_for() {
    let gateway = start().await;
    let body = json!({"email": "nobody@mail.example", "password": PASSWORD});
    let message = "Invalid login credentials";
    let dated = json!({"code": "invalid_credentials", "message": message});
    let old = json!({"code": 400, "error_code": "invalid_credentials", "msg": message});
    for (version, shape) in [
        (Some("2024-01-01"), &dated),
        (Some("2030-12-31"), &dated),
        (Some("2023-12-31"), &old),
        (Some("2024-13-01"), &old),
        (Some("2024-1-1"), &old),
        (Some("latest"), &old),
        (None, &old),
    ] {
        let ask = Ask::line("POST /auth/v1/token?grant_type=password")
            .field("apikey", ANON)
            .json(&body);
        let ask = version.map_or(ask.clone(), |version| {
            ask.field("x-supabase-api-version", version)
        });
        let told = ask.to(&gateway).await;
        assert_eq!((told.status(), &told.json), (400, shape), "{version:?}");
        let answered = (*shape == dated).then_some("2024-01-01");
        assert_eq!(told.field("x-supabase-api-version"), answered);
    }
    let weak = json!({"email": "a@mail.example", "password": "short"});
    let told = ask("POST /signup").json(&weak).to(&gateway).await;
    assert_eq!(failed(&told), (422, "weak_password"));
    assert_eq!(told.json["weak_password"], json!({"reasons": ["length"]}));
    let told = Ask::line("POST /auth/v1/signup")
        .field("apikey", ANON)
        .json(&weak)
        .to(&gateway)
        .await;
    assert_eq!(told.json["weak_password"], json!({"reasons": ["length"]}));
    assert_eq!(told.text("error_code"), "weak_password");
}

#[tokio::test]
async fn what_is_not_there_is_json_too() {
    let gateway = start().await;
    for line in [
        "GET /nothing",
        "GET /",
        "POST /sso",
        "GET /admin/users/a/factors",
        "GET /user/",
    ] {
        let told = ask(line).to(&gateway).await;
        assert_eq!(failed(&told), (404, "not_found"), "{line}");
    }
    let told = ask("DELETE /user").to(&gateway).await;
    assert_eq!(failed(&told).0, 405);
    assert_eq!(told.field("allow"), Some("GET, HEAD, PUT, OPTIONS"));
}

#[tokio::test]
async fn public_calls_look_at_no_bearer() {
    let gateway = start().await;
    let told = sign_up(&gateway, "ada@mail.example").await;
    let dead = told.text("access_token").to_owned();
    ask("POST /logout").bearer(&dead).to(&gateway).await;
    let credentials = json!({"email": "ada@mail.example", "password": PASSWORD});
    for bearer in [&*dead, "nonsense", "a b c"] {
        let told = ask("POST /token?grant_type=password")
            .bearer(bearer)
            .json(&credentials)
            .to(&gateway)
            .await;
        assert_eq!(told.status(), 200, "{}", told.json);
        let refresh = json!({"refresh_token": told.text("refresh_token")});
        let told = ask("POST /token?grant_type=refresh_token")
            .bearer(bearer)
            .json(&refresh)
            .to(&gateway)
            .await;
        assert_eq!(told.status(), 200, "{}", told.json);
        for line in ["GET /health", "GET /settings", "GET /.well-known/jwks.json"] {
            assert_eq!(
                ask(line).bearer(bearer).to(&gateway).await.status(),
                200,
                "{line}"
            );
        }
        let told = ask("POST /signup")
            .bearer(bearer)
            .json(&json!({"data": {}}))
            .to(&gateway)
            .await;
        assert_eq!(told.json["user"]["is_anonymous"], true);
    }
}
