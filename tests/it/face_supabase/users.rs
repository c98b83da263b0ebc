//! What users may do with what is theirs.

use serde_json::{Value, json};

use super::{ANON, LEGACY_SERVICE, PASSWORD, SERVICE, ask, failed, sign_up, start};

#[tokio::test]
async fn a_user_call_needs_a_live_token_of_a_user() {
    let gateway = start().await;
    let told = sign_up(&gateway, "ada@mail.example").await;
    let token = told.text("access_token").to_owned();
    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    for line in [
        "GET /user",
        "PUT /user",
        "POST /logout",
        "GET /reauthenticate",
    ] {
        let bare = || match line {
            "PUT /user" => ask(line).json(&json!({})),
            line => ask(line).field("content-type", "application/json;charset=UTF-8"),
        };
        assert_eq!(
            failed(&bare().to(&gateway).await),
            (401, "no_authorization"),
            "{line}"
        );
        for bad in ["nonsense", &*forged, ANON, SERVICE, LEGACY_SERVICE] {
            let told = bare().bearer(bad).to(&gateway).await;
            assert_eq!(failed(&told), (403, "bad_jwt"), "{line} {bad}");
        }
    }
    // A type and no body, as the clients send it.
    let get = ask("GET /user")
        .field("content-type", "application/json;charset=UTF-8")
        .bearer(&token);
    let told = get.to(&gateway).await;
    assert_eq!(
        (told.status(), told.text("email")),
        (200, "ada@mail.example")
    );
    let put = |body: Value| ask("PUT /user").bearer(&token).json(&body);
    for (body, status, code) in [
        (
            json!({"app_metadata": {"roles": ["admin"]}}),
            403,
            "not_admin",
        ),
        (json!({"password": PASSWORD}), 422, "same_password"),
        (json!({"password": "short"}), 422, "weak_password"),
        (json!({"email": "no address"}), 400, "validation_failed"),
        (json!({"data": "text"}), 400, "validation_failed"),
    ] {
        assert_eq!(
            failed(&put(body.clone()).to(&gateway).await),
            (status, code),
            "{body}"
        );
    }
    assert_eq!(put(json!({})).to(&gateway).await.status(), 200);
    let told = ask("POST /logout?scope=sideways")
        .bearer(&token)
        .to(&gateway)
        .await;
    assert_eq!(failed(&told), (400, "validation_failed"));
    let told = ask("POST /logout").bearer(&token).to(&gateway).await;
    assert_eq!((told.status(), &told.json), (204, &Value::Null));
    assert_eq!(told.field("access-control-allow-origin"), Some("*"));
    for line in ["GET /user", "POST /logout"] {
        let told = ask(line).bearer(&token).to(&gateway).await;
        assert_eq!(failed(&told), (403, "session_not_found"), "{line}");
    }
}
