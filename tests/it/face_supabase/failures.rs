//! What sign-ups, sign-ins, refreshes and codes are refused for.

use serde_json::json;

use super::{PASSWORD, ask, failed, limited, setup, sign_up, start};
use crate::harness::Gateway;
use crate::harness::caller::Ask;

#[tokio::test]
async fn requests_that_are_none_are_told_which() {
    let gateway = start().await;
    sign_up(&gateway, "taken@mail.example").await;
    let address = "new@mail.example";
    for (line, body, status, code) in [
        (
            "POST /signup",
            json!({"email": "taken@mail.example", "password": PASSWORD}),
            422,
            "user_already_exists",
        ),
        (
            "POST /signup",
            json!({"email": "TAKEN@mail.example", "password": PASSWORD}),
            422,
            "user_already_exists",
        ),
        (
            "POST /signup",
            json!({"email": address, "password": ""}),
            400,
            "validation_failed",
        ),
        (
            "POST /signup",
            json!({"email": address}),
            400,
            "validation_failed",
        ),
        (
            "POST /signup",
            json!({"email": "no address", "password": PASSWORD}),
            400,
            "validation_failed",
        ),
        (
            "POST /signup",
            json!({"email": address, "password": "x".repeat(2000)}),
            400,
            "validation_failed",
        ),
        (
            "POST /signup",
            json!({"email": address, "password": "NUL \0 inside"}),
            400,
            "validation_failed",
        ),
        (
            "POST /signup",
            json!({"email": 7, "password": PASSWORD}),
            400,
            "validation_failed",
        ),
        (
            "POST /signup",
            json!({"email": address, "password": PASSWORD, "data": []}),
            400,
            "validation_failed",
        ),
        (
            "POST /signup",
            json!({"phone": "+491234", "password": PASSWORD}),
            400,
            "phone_provider_disabled",
        ),
        (
            "POST /signup",
            json!({"email": address, "phone": "+491234", "password": PASSWORD}),
            400,
            "validation_failed",
        ),
        ("POST /token", json!({}), 400, "invalid_credentials"),
        (
            "POST /token?grant_type=pkce",
            json!({"auth_code": "a"}),
            400,
            "invalid_credentials",
        ),
        (
            "POST /token?grant_type=password",
            json!({"password": PASSWORD}),
            400,
            "validation_failed",
        ),
        (
            "POST /token?grant_type=password",
            json!({"email": "taken@mail.example"}),
            400,
            "invalid_credentials",
        ),
        (
            "POST /token?grant_type=password",
            json!({"email": "' OR 1=1 --", "password": "' OR 1=1 --"}),
            400,
            "invalid_credentials",
        ),
        (
            "POST /token?grant_type=refresh_token",
            json!({}),
            400,
            "validation_failed",
        ),
        (
            "POST /token?grant_type=refresh_token",
            json!({"refresh_token": "short"}),
            400,
            "validation_failed",
        ),
        (
            "POST /token?grant_type=refresh_token",
            json!({"refresh_token": "ABCDEFGHIJ12"}),
            400,
            "validation_failed",
        ),
        (
            "POST /token?grant_type=refresh_token",
            json!({"refresh_token": "abcdefghij12"}),
            400,
            "refresh_token_not_found",
        ),
        ("POST /recover", json!({}), 400, "validation_failed"),
        (
            "POST /resend",
            json!({"type": "sideways", "email": address}),
            400,
            "validation_failed",
        ),
        (
            "POST /verify",
            json!({"type": "recovery"}),
            400,
            "validation_failed",
        ),
        (
            "POST /verify",
            json!({"type": "sideways", "email": address, "token": "123456"}),
            400,
            "validation_failed",
        ),
        (
            "POST /verify",
            json!({"type": "recovery", "email": "taken@mail.example", "token": "123456"}),
            403,
            "otp_expired",
        ),
        (
            "POST /verify",
            json!({"type": "recovery", "email": address, "token": "123456"}),
            403,
            "otp_expired",
        ),
        (
            "POST /verify",
            json!({"type": "recovery", "email": "no address", "token": "123456"}),
            422,
            "validation_failed",
        ),
        (
            "POST /verify",
            json!({"type": "recovery", "token_hash": "x"}),
            403,
            "otp_expired",
        ),
    ] {
        let told = ask(line).json(&body).to(&gateway).await;
        assert_eq!(failed(&told), (status, code), "{line} {body}");
    }
    let told = ask("POST /signup")
        .field("content-type", "application/json")
        .body("{")
        .to(&gateway)
        .await;
    assert_eq!(failed(&told), (400, "bad_json"));
    let told = ask("POST /signup")
        .field("content-type", "text/plain")
        .body("{}")
        .to(&gateway)
        .await;
    assert_eq!(failed(&told).0, 415);
    let large = "x".repeat(100_000);
    let told = ask("POST /signup")
        .field("content-type", "application/json")
        .body(&large)
        .to(&gateway)
        .await;
    assert_eq!(failed(&told), (413, "request_entity_too_large"));
    for line in ["POST /recover", "POST /otp", "POST /magiclink"] {
        for email in ["taken@mail.example", "nobody@mail.example"] {
            let body = json!({"email": email, "create_user": false, "code_challenge": null});
            let told = ask(line).json(&body).to(&gateway).await;
            assert_eq!(
                (told.status(), &told.json),
                (200, &json!({})),
                "{line} {email}"
            );
        }
    }
}

#[tokio::test]
async fn members_that_are_not_known_change_nothing() {
    let gateway = start().await;
    let body = json!({
        "email": "ada@mail.example", "password": PASSWORD, "data": null, "role": "service_role",
        "is_admin": true, "app_metadata": {"roles": ["admin"]}, "gotrue_meta_security": {"captcha_token": null},
        "code_challenge": "x", "code_challenge_method": "s256",
    });
    let told = ask("POST /signup").json(&body).to(&gateway).await;
    assert_eq!(told.status(), 200, "{}", told.json);
    let user = &told.json["user"];
    assert_eq!(user["role"], "authenticated");
    assert_eq!(
        user["app_metadata"],
        json!({"provider": "email", "providers": ["email"]})
    );
    assert_eq!(told.field("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn overload_of_refreshes_is_never_429() {
    let setup = limited("refreshes_per_address = 1\nanonymous_per_address = 1", "");
    let gateway = Gateway::start(&setup).await;
    let told = ask("POST /signup").json(&json!({})).to(&gateway).await;
    let refresh = json!({"refresh_token": told.text("refresh_token")});
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let told = ask("POST /token?grant_type=refresh_token")
            .json(&refresh)
            .to(&gateway)
            .await;
        if told.status() != 200 {
            assert!(told.field("retry-after").is_some());
        }
        statuses.push(told.status());
    }
    assert_eq!(statuses[0], 200);
    assert!(
        statuses[1..].iter().all(|status| *status == 503),
        "{statuses:?}"
    );
    let told = ask("POST /signup").json(&json!({})).to(&gateway).await;
    assert_eq!(failed(&told), (429, "over_request_rate_limit"));
}

#[tokio::test]
async fn a_token_of_another_api_opens_what_is_the_users_and_refreshes_nothing() {
    let gateway = Gateway::start(&setup("").piece("[api.token]\nmount = \"/plain\"")).await;
    let told = sign_up(&gateway, "ada@mail.example").await;
    let body = json!({"username": "ada@mail.example", "password": PASSWORD});
    let plain = Ask::line("POST /plain/login")
        .json(&body)
        .to(&gateway)
        .await;
    assert_eq!(plain.status(), 200, "{}", plain.json);
    let user = ask("GET /user")
        .bearer(plain.text("access_token"))
        .to(&gateway)
        .await;
    assert_eq!(user.json["id"], told.json["user"]["id"]);
    let me = Ask::line("GET /plain/me")
        .bearer(told.text("access_token"))
        .to(&gateway)
        .await;
    assert_eq!((me.status(), me.text("email")), (200, "ada@mail.example"));
    let refresh = json!({"refresh_token": plain.text("refresh_token")});
    let ours = ask("POST /token?grant_type=refresh_token")
        .json(&refresh)
        .to(&gateway)
        .await;
    assert_eq!(failed(&ours), (400, "refresh_token_not_found"));
    let refresh = json!({"refresh_token": told.text("refresh_token")});
    let theirs = Ask::line("POST /plain/refresh")
        .json(&refresh)
        .to(&gateway)
        .await;
    assert_eq!(
        (theirs.status(), theirs.text("detail")),
        (401, "Invalid refresh token")
    );
}

#[tokio::test]
async fn a_page_can_read_what_the_gate_refuses_in_its_place() {
    let gateway = start().await;
    let told = ask("GET /user")
        .bearer("a.b.c")
        .bearer("d.e.f")
        .to(&gateway)
        .await;
    assert_eq!(told.status(), 400);
    let line = &gateway.lines(1).await[0];
    assert_eq!(line["reason"], "credentials_conflict", "{line}");
    assert_eq!(told.field("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn the_lines_of_a_call_tell_its_size_and_belong_together() {
    let gateway = start().await;
    sign_up(&gateway, "ada@mail.example").await;
    let body = json!({"email": "ada@mail.example", "password": PASSWORD});
    let told = ask("POST /token?grant_type=password")
        .json(&body)
        .to(&gateway)
        .await;
    assert_eq!(told.status(), 200);
    let line = &gateway.lines(2).await[1];
    assert_eq!(line["bytes_in"], body.to_string().len());
    let log = gateway.log();
    let read = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let audit = log.lines().map(read).find(|line| line["audit"] == "log_in");
    assert_eq!(audit.unwrap()["request_id"], line["request_id"]);
}
