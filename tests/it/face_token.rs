//! The token API: each call, and each failure.

use serde_json::json;

use crate::harness::caller::{Ask, Told, accounts};
use crate::harness::{Gateway, Setup};

const PASSWORD: &str = "correct horse battery";

async fn start() -> Gateway {
    Gateway::start(&setup("")).await
}

fn setup(lines: &str) -> Setup {
    accounts(lines).piece("[api.token]\nmount = \"/auth\"")
}

async fn register(gateway: &Gateway, name: &str) -> Told {
    let email = format!("{name}@mail.example");
    let body = json!({"username": name, "email": email, "password": PASSWORD});
    Ask::line("POST /auth/register")
        .json(&body)
        .to(gateway)
        .await
}

async fn log_in(gateway: &Gateway, name: &str) -> (String, String) {
    let body = json!({"username": name, "password": PASSWORD});
    let told = Ask::line("POST /auth/login").json(&body).to(gateway).await;
    assert_eq!(told.status(), 200, "{}", told.json);
    let tokens = ["access_token", "refresh_token"].map(|name| told.text(name).to_owned());
    assert_eq!(told.text("token_type"), "bearer");
    tokens.into()
}

async fn refresh(gateway: &Gateway, token: &str) -> Told {
    let body = json!({"refresh_token": token});
    Ask::line("POST /auth/refresh")
        .json(&body)
        .to(gateway)
        .await
}

async fn me(gateway: &Gateway, token: &str) -> Told {
    Ask::line("GET /auth/me").bearer(token).to(gateway).await
}

/// A failure: its status and its text; a 401 says how to log in.
fn failed(told: &Told) -> (u16, &str) {
    assert_eq!(
        told.json.as_object().map(|it| it.len()),
        Some(1),
        "{}",
        told.json
    );
    let challenge = (told.status() == 401).then_some("Bearer");
    assert_eq!(told.field("www-authenticate"), challenge);
    (told.status(), told.text("detail"))
}

#[tokio::test]
async fn a_user_registers_logs_in_and_is_greeted() {
    let gateway = start().await;
    let told = register(&gateway, "ada").await;
    let user = json!({"id": 1, "username": "ada", "email": "ada@mail.example", "is_active": true});
    assert_eq!((told.status(), &told.json), (201, &user));
    let (access, _) = log_in(&gateway, "ada").await;
    let told = me(&gateway, &access).await;
    assert_eq!((told.status(), &told.json), (200, &user));
    assert_eq!(told.field("cache-control"), Some("no-store"));
    let told = Ask::line("GET /auth/protected")
        .bearer(&access)
        .to(&gateway)
        .await;
    let greeting = json!({"message": "Hello, ada! You are authenticated.", "user": user});
    assert_eq!((told.status(), &told.json), (200, &greeting));
}

#[tokio::test]
async fn names_and_addresses_are_taken_once_however_they_are_written() {
    let gateway = start().await;
    register(&gateway, "ada").await;
    for (username, email, detail) in [
        ("ada", "new@mail.example", "Username already registered"),
        ("ADA", "new@mail.example", "Username already registered"),
        (
            "\u{ff41}da",
            "new@mail.example",
            "Username already registered",
        ),
        ("new", "Ada@Mail.Example", "Email already registered"),
    ] {
        let body = json!({"username": username, "email": email, "password": PASSWORD});
        let told = Ask::line("POST /auth/register")
            .json(&body)
            .to(&gateway)
            .await;
        assert_eq!(failed(&told), (400, detail), "{username} {email}");
    }
}

#[tokio::test]
async fn a_log_in_is_json_or_a_form_by_name_or_address() {
    let gateway = start().await;
    register(&gateway, "ada").await;
    for name in ["ada", "ADA", "ada@mail.example", "Ada@MAIL.example"] {
        log_in(&gateway, name).await;
    }
    let form = "grant_type=password&username=ada&password=correct+horse%20battery&scope=";
    let told = Ask::line("POST /auth/login")
        .field("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .to(&gateway)
        .await;
    assert_eq!(told.status(), 200, "{}", told.json);
    for (name, password) in [
        ("ada", "not this one"),
        ("nobody", PASSWORD),
        ("", ""),
        ("ada", ""),
    ] {
        let body = json!({"username": name, "password": password});
        let told = Ask::line("POST /auth/login").json(&body).to(&gateway).await;
        assert_eq!(failed(&told), (401, "Invalid credentials"), "{name}");
    }
}

#[tokio::test]
async fn bad_bodies_are_told_apart() {
    let gateway = start().await;
    let json_type = "application/json";
    let large = format!("{{\"username\":\"{}\"}}", "a".repeat(70_000));
    for (path, kind, body, status) in [
        ("/auth/login", json_type, "{", 400),
        ("/auth/login", json_type, "[]", 400),
        ("/auth/login", json_type, "{\"username\":\"a\"}", 400),
        (
            "/auth/login",
            json_type,
            "{\"username\":{\"$ne\":\"\"},\"password\":\"b\"}",
            400,
        ),
        (
            "/auth/login",
            json_type,
            "{\"username\":\"a\",\"username\":\"b\",\"password\":\"c\"}",
            400,
        ),
        (
            "/auth/login",
            "text/plain",
            "{\"username\":\"a\",\"password\":\"b\"}",
            415,
        ),
        (
            "/auth/register",
            "application/x-www-form-urlencoded",
            "username=a&password=b",
            415,
        ),
        (
            "/auth/register",
            json_type,
            "{\"username\":\"a\",\"password\":\"b\"}",
            400,
        ),
        ("/auth/login", json_type, &large, 413),
        ("/auth/refresh", json_type, "{\"refresh_token\":7}", 400),
    ] {
        let told = Ask::line(&format!("POST {path}"))
            .field("content-type", kind)
            .body(body);
        assert_eq!(failed(&told.to(&gateway).await).0, status, "{path} {kind}");
    }
    for (username, email, password) in [
        ("", "a@mail.example", PASSWORD),
        ("a", "no address", PASSWORD),
        ("a", "a@mail.example", "short"),
        ("a", "a@mail.example", "with a NUL \0 inside"),
        ("a\u{202e}b", "a@mail.example", PASSWORD),
    ] {
        let body = json!({"username": username, "email": email, "password": password});
        let told = Ask::line("POST /auth/register")
            .json(&body)
            .to(&gateway)
            .await;
        assert_eq!(failed(&told).0, 400, "{username:?} {email:?}");
    }
}

#[tokio::test]
async fn a_refresh_token_is_spent_by_its_use() {
    let gateway = Gateway::start(&setup("refresh_reuse = \"0s\"")).await;
    register(&gateway, "ada").await;
    let (access, first) = log_in(&gateway, "ada").await;
    // As bearer, as many clients send it.
    let told = Ask::line("POST /auth/refresh")
        .bearer(&first)
        .to(&gateway)
        .await;
    assert_eq!(told.status(), 200, "{}", told.json);
    let second = told.text("refresh_token").to_owned();
    assert_ne!(second, first);
    assert_eq!(me(&gateway, told.text("access_token")).await.status(), 200);
    // Its answer may have been lost.
    let told = refresh(&gateway, &first).await;
    assert_eq!((told.status(), told.text("refresh_token")), (200, &*second));
    let third = refresh(&gateway, &second)
        .await
        .text("refresh_token")
        .to_owned();
    // But this is theft: all of the session ends.
    assert_eq!(
        failed(&refresh(&gateway, &first).await),
        (401, "Invalid refresh token")
    );
    assert_eq!(
        failed(&refresh(&gateway, &third).await),
        (401, "Invalid refresh token")
    );
    assert_eq!(
        failed(&me(&gateway, &access).await),
        (401, "Token has been revoked")
    );
}

#[tokio::test]
async fn what_is_no_refresh_token_refreshes_nothing() {
    let gateway = start().await;
    register(&gateway, "ada").await;
    let (access, token) = log_in(&gateway, "ada").await;
    for bad in [
        &*access,
        "nonsense",
        "abcdefghij12",
        &token[1..],
        &format!("{token}A"),
    ] {
        let told = refresh(&gateway, bad).await;
        assert_eq!(failed(&told), (401, "Invalid refresh token"), "{bad}");
        let told = Ask::line("POST /auth/refresh")
            .bearer(bad)
            .to(&gateway)
            .await;
        assert_eq!(failed(&told), (401, "Invalid refresh token"), "{bad}");
    }
    assert_eq!(
        failed(&Ask::line("POST /auth/refresh").to(&gateway).await).0,
        401
    );
    let none = Ask::line("POST /auth/refresh").json(&json!({"refresh_token": null}));
    assert_eq!(failed(&none.to(&gateway).await).0, 401);
    let two = Ask::line("POST /auth/refresh")
        .bearer(&access)
        .json(&json!({"refresh_token": token}));
    assert_eq!(failed(&two.to(&gateway).await).0, 400);
    let same = Ask::line("POST /auth/refresh")
        .bearer(&token)
        .json(&json!({"refresh_token": token}));
    assert_eq!(same.to(&gateway).await.status(), 200);
}

#[tokio::test]
async fn a_log_out_ends_the_session_at_once() {
    let gateway = start().await;
    register(&gateway, "ada").await;
    let (access, token) = log_in(&gateway, "ada").await;
    let (other, _) = log_in(&gateway, "ada").await;
    assert_eq!(me(&gateway, &access).await.status(), 200);
    let told = Ask::line("POST /auth/logout")
        .bearer(&access)
        .to(&gateway)
        .await;
    let said = json!({"message": "Successfully logged out"});
    assert_eq!((told.status(), &told.json), (200, &said));
    for path in ["GET /auth/me", "GET /auth/protected", "POST /auth/logout"] {
        let told = Ask::line(path).bearer(&access).to(&gateway).await;
        assert_eq!(failed(&told), (401, "Token has been revoked"), "{path}");
    }
    assert_eq!(
        failed(&refresh(&gateway, &token).await),
        (401, "Invalid refresh token")
    );
    assert_eq!(me(&gateway, &other).await.status(), 200);
}

#[tokio::test]
async fn calls_of_a_user_need_a_token_of_one() {
    let gateway = start().await;
    register(&gateway, "ada").await;
    let (access, token) = log_in(&gateway, "ada").await;
    let forged = format!("{}AAAA", &access[..access.len() - 4]);
    for path in ["GET /auth/me", "GET /auth/protected", "POST /auth/logout"] {
        assert_eq!(
            failed(&Ask::line(path).to(&gateway).await),
            (401, "Not authenticated")
        );
        for bad in ["nonsense", &*token, &*forged] {
            let told = Ask::line(path).bearer(bad).to(&gateway).await;
            assert_eq!(failed(&told), (401, "Invalid token"), "{path} {bad}");
        }
    }
}

#[tokio::test]
async fn other_methods_and_mounts_are_told_so() {
    let gateway = start().await;
    let told = Ask::line("GET /auth/login").to(&gateway).await;
    assert_eq!(failed(&told).0, 405);
    assert_eq!(told.field("allow"), Some("POST, OPTIONS"));
    let root = accounts("").piece("[api.token]\nmount = \"/\"");
    let gateway = Gateway::start(&root).await;
    assert_eq!(failed(&Ask::line("GET /me").to(&gateway).await).0, 401);
    assert_eq!(gateway.get("/auth/me").await.status(), 404);
}

#[tokio::test]
async fn sign_ups_can_be_off() {
    let gateway = Gateway::start(&setup("sign_up = false")).await;
    let told = register(&gateway, "ada").await;
    assert_eq!(failed(&told), (403, "Registration is disabled"));
}
