//! Users administered with a service key.

use serde_json::json;

use super::{ANON, LEGACY_SERVICE, SERVICE, admin, failed, sign_up, start};
use crate::harness::caller::{Ask, Told};

#[tokio::test]
async fn users_are_administered_with_a_service_key_alone() {
    let gateway = start().await;
    let told = sign_up(&gateway, "ada@mail.example").await;
    let (token, id) = (
        told.text("access_token"),
        told.json["user"]["id"].as_str().unwrap(),
    );
    let list = |key: &str| {
        Ask::line("GET /auth/v1/admin/users")
            .field("apikey", key)
            .field("x-supabase-api-version", "2024-01-01")
    };
    for (name, ask, answer) in [
        ("an anon key", list(ANON), (403, "not_admin")),
        (
            "an anon key twice",
            list(ANON).bearer(ANON),
            (403, "not_admin"),
        ),
        ("a user", list(ANON).bearer(token), (403, "not_admin")),
        (
            "a user with a service key acts as the user",
            list(SERVICE).bearer(token),
            (403, "not_admin"),
        ),
        (
            "an opaque key as bearer is an echo",
            list(ANON).bearer(SERVICE),
            (403, "not_admin"),
        ),
        (
            "nonsense",
            list(SERVICE).bearer("nonsense"),
            (403, "bad_jwt"),
        ),
    ] {
        assert_eq!(failed(&ask.to(&gateway).await), answer, "{name}");
    }
    for (name, ask) in [
        ("a service key alone", list(SERVICE)),
        ("a service key twice", list(SERVICE).bearer(SERVICE)),
        (
            "a key of the project",
            list(LEGACY_SERVICE).bearer(LEGACY_SERVICE),
        ),
        (
            "a key of the project as bearer",
            list(ANON).bearer(LEGACY_SERVICE),
        ),
    ] {
        assert_eq!(ask.to(&gateway).await.status(), 200, "{name}");
    }
    let nobody = "/admin/users/11111111-2222-4333-8444-555555555555";
    let own = format!("/admin/users/{id}");
    for (method, path, body, status, code) in [
        ("GET", nobody, None, 404, "user_not_found"),
        ("GET", "/admin/users/7", None, 404, "validation_failed"),
        ("PUT", nobody, Some(json!({})), 404, "user_not_found"),
        ("DELETE", nobody, Some(json!({})), 404, "user_not_found"),
        (
            "POST",
            "/admin/users",
            Some(json!({})),
            400,
            "validation_failed",
        ),
        (
            "POST",
            "/admin/users",
            Some(json!({"email": "ada@mail.example"})),
            422,
            "email_exists",
        ),
        (
            "POST",
            "/admin/users",
            Some(json!({"email": "x"})),
            400,
            "validation_failed",
        ),
        (
            "POST",
            "/admin/users",
            Some(json!({"email": "b@mail.example", "password": "a", "password_hash": "b"})),
            400,
            "validation_failed",
        ),
        (
            "POST",
            "/admin/users",
            Some(json!({"email": "b@mail.example", "password_hash": "nonsense"})),
            400,
            "validation_failed",
        ),
        (
            "POST",
            "/admin/users",
            Some(json!({"email": "b@mail.example", "ban_duration": "soon"})),
            400,
            "validation_failed",
        ),
        (
            "PUT",
            &own,
            Some(json!({"password": "short"})),
            422,
            "weak_password",
        ),
        (
            "PUT",
            &own,
            Some(json!({"ban_duration": "-1h"})),
            400,
            "validation_failed",
        ),
        ("GET", "/admin/users?page=0", None, 400, "validation_failed"),
        (
            "GET",
            "/admin/users?per_page=x",
            None,
            400,
            "validation_failed",
        ),
        (
            "GET",
            "/admin/users?sort=password",
            None,
            400,
            "validation_failed",
        ),
    ] {
        let ask = admin(&format!("{method} {path}"));
        let ask = body.iter().fold(ask, |ask, body| ask.json(body));
        assert_eq!(
            failed(&ask.to(&gateway).await),
            (status, code),
            "{method} {path} {body:?}"
        );
    }
}

#[tokio::test]
async fn lists_tell_their_pages_as_the_client_reads_them() {
    let gateway = start().await;
    for number in 0..5 {
        let body = json!({"email": format!("u{number}@mail.example")});
        let told = admin("POST /admin/users").json(&body).to(&gateway).await;
        assert_eq!(told.status(), 200, "{}", told.json);
    }
    let emails = |told: &Told| -> Vec<String> {
        let users = told.json["users"].as_array().unwrap();
        users
            .iter()
            .map(|user| user["email"].as_str().unwrap()[..2].to_owned())
            .collect()
    };
    let told = admin("GET /admin/users?page=1&per_page=2")
        .to(&gateway)
        .await;
    assert_eq!(emails(&told), ["u4", "u3"]);
    assert_eq!(told.json["aud"], "authenticated");
    assert_eq!(told.field("x-total-count"), Some("5"));
    let link = "</admin/users?page=2&per_page=2>; rel=\"next\", </admin/users?page=3&per_page=2>; rel=\"last\"";
    assert_eq!(told.field("link"), Some(link));
    let told = admin("GET /admin/users?page=&per_page=").to(&gateway).await;
    assert_eq!(emails(&told).len(), 5);
    assert_eq!(
        told.field("link"),
        Some("</admin/users?page=1&per_page=50>; rel=\"last\"")
    );
    let told = admin("GET /admin/users?sort=created_at+asc&per_page=1")
        .to(&gateway)
        .await;
    assert_eq!(emails(&told), ["u0"]);
    let told = admin("GET /admin/users?filter=U3%40mail")
        .to(&gateway)
        .await;
    assert_eq!(emails(&told), ["u3"]);
    assert_eq!(told.field("x-total-count"), Some("1"));
}
