//! The session API: its tables, row by row, with every failure.

use serde_json::{Value, json};

use crate::harness::api::{Ask, PASSWORD, Site, Told, app_token, register, session_token};
use crate::harness::{Gateway, Setup, Upstream, full, setup};

#[track_caller]
fn fails(told: &Told, status: u16, error: &str) {
    told.is(status, &json!({"success": false, "error": error}));
}

#[track_caller]
fn is_time(told: &Told, pointer: &str) {
    let text = told.text(pointer);
    assert!(
        text.len() >= 20 && text.ends_with('Z') && &text[10..11] == "T",
        "{text}"
    );
}

/// The body without what differs each time.
fn without(told: &Told, pointers: &[&str]) -> Value {
    let mut body = told.body.clone();
    for pointer in pointers {
        *body
            .pointer_mut(pointer)
            .unwrap_or_else(|| panic!("{pointer} of {told:?}")) = Value::Null;
    }
    body
}

#[tokio::test]
async fn a_user_is_registered_once() {
    let gateway = Site::start().await;
    let asked =
        |name: &str, email: &str| json!({"username": name, "email": email, "password": PASSWORD});
    let post = async |body: &Value| Ask::post("/api/auth/register", body).of(&gateway).await;
    let told = post(&asked("Grace", "Grace@Mail.TEST")).await;
    assert_eq!(told.status, 201);
    is_time(&told, "/user/created_at");
    let user =
        json!({"id": 2, "username": "Grace", "email": "grace@mail.test", "created_at": null});
    let expected =
        json!({"success": true, "message": "User registered successfully", "user": user});
    assert_eq!(without(&told, &["/user/created_at"]), expected);
    fails(
        &post(&asked("grace", "other@mail.test")).await,
        409,
        "Username already exists",
    );
    fails(
        &post(&asked("other", "GRACE@mail.test")).await,
        409,
        "Email already exists",
    );
    let extra = json!({
        "username": "eve", "email": "eve@mail.test", "password": PASSWORD,
        "role": "service_role", "is_admin": true, "roles": ["admin"], "id": 1,
        "app_metadata": {"roles": ["admin"]},
    });
    assert_eq!(post(&extra).await.status, 201);
    let token = app_token(&gateway, "eve").await;
    let told = Ask::get("/api/v1/base/userinfo")
        .bearer(&token)
        .of(&gateway)
        .await;
    assert_eq!(
        (
            &told.body["data"]["roles"],
            &told.body["data"]["is_superuser"]
        ),
        (&json!([]), &json!(false))
    );
}

#[tokio::test]
async fn names_addresses_and_passwords_that_cannot_be_are_refused() {
    let gateway = Site::start().await;
    for (name, email, password) in [
        ("", "x@mail.test", PASSWORD),
        ("a b\u{0}", "x@mail.test", PASSWORD),
        ("x\u{202e}y", "x@mail.test", PASSWORD),
        ("x@y.test", "x@mail.test", PASSWORD),
        ("grace", "", PASSWORD),
        ("grace", "a@b@c", PASSWORD),
        ("grace", "no address", PASSWORD),
        ("grace", "x@mail.test\r\nbcc: y@mail.test", PASSWORD),
        ("grace", "x@mail.test", ""),
        ("grace", "x@mail.test", "short"),
        ("grace", "x@mail.test", "nul in \u{0} password"),
        ("grace", "x@mail.test", &"x".repeat(5000)),
    ] {
        let asked = json!({"username": name, "email": email, "password": password});
        let told = Ask::post("/api/auth/register", &asked).of(&gateway).await;
        assert_eq!(told.status, 400, "{name:?} {email:?} {told:?}");
        assert_eq!(told.body["success"], false);
    }
    // No more than a name to the store.
    let sql = "robert'); DROP TABLE users;--";
    for (name, email) in [(sql, "r@mail.test"), ("robert", "r'--@mail.test")] {
        let asked = json!({"username": name, "email": email, "password": PASSWORD});
        let told = Ask::post("/api/auth/register", &asked).of(&gateway).await;
        assert!(matches!(told.status, 201 | 400), "{told:?}");
    }
    session_token(&gateway, "ada").await;
}

#[tokio::test]
async fn a_race_for_a_name_has_one_winner() {
    let gateway = Site::start().await;
    let asked = json!({"username": "grace", "email": "grace@mail.test", "password": PASSWORD});
    let ask = Ask::post("/api/auth/register", &asked);
    let (one, two, three) = tokio::join!(ask.of(&gateway), ask.of(&gateway), ask.of(&gateway));
    let mut statuses = [one.status, two.status, three.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409]);
}

#[tokio::test]
async fn a_log_in_resumes_the_conversation_with_a_token_of_its_own() {
    let gateway = Site::start().await;
    let by_name = json!({"username": "ada", "password": PASSWORD});
    let first = Ask::post("/api/auth/login", &by_name).of(&gateway).await;
    is_time(&first, "/session/created_at");
    let changing = [
        "/session/created_at",
        "/session/token",
        "/session/id",
        "/session/name",
    ];
    let expected = json!({
        "success": true,
        "message": "Login successful",
        "session": {"id": null, "token": null, "name": null, "created_at": null},
        "user": {"id": 1, "username": "ada", "email": "ada@mail.test"},
    });
    assert_eq!((first.status, without(&first, &changing)), (200, expected));
    let by_email = json!({"email": "ada@mail.test", "password": PASSWORD});
    let second = Ask::post("/api/auth/login", &by_email).of(&gateway).await;
    assert_eq!(second.body["session"]["id"], first.body["session"]["id"]);
    let (one, two) = (first.text("/session/token"), second.text("/session/token"));
    assert_ne!(one, two);
    for token in [&one, &two] {
        assert_eq!(token.len(), 36);
        assert_eq!(&token[14..15], "4", "a UUID of version 4");
        assert_eq!(
            Ask::get("/proxied").bearer(token).of(&gateway).await.status,
            200
        );
    }
    // A log-out ends the token in hand and no other.
    let told = Ask::new("POST", "/api/auth/logout")
        .field("x-session-token", &one)
        .of(&gateway)
        .await;
    told.is(
        200,
        &json!({"success": true, "message": "Logged out successfully"}),
    );
    assert_eq!(
        Ask::get("/proxied").bearer(&one).of(&gateway).await.status,
        401
    );
    assert_eq!(
        Ask::get("/proxied").bearer(&two).of(&gateway).await.status,
        200
    );
    let told = Ask::new("POST", "/api/auth/logout")
        .bearer(&one)
        .of(&gateway)
        .await;
    fails(&told, 401, "Invalid session");
}

#[tokio::test]
async fn a_wrong_log_in_is_told_nothing_more() {
    let gateway = Site::start().await;
    for asked in [
        json!({"username": "ada", "password": "wrong horse"}),
        json!({"username": "nobody", "password": PASSWORD}),
        json!({"email": "nobody@mail.test", "password": PASSWORD}),
        json!({"username": "", "password": ""}),
        json!({"username": "ada' --", "password": PASSWORD}),
    ] {
        let told = Ask::post("/api/auth/login", &asked).of(&gateway).await;
        fails(&told, 401, "Invalid credentials");
    }
    let nameless = json!({"password": PASSWORD});
    let told = Ask::post("/api/auth/login", &nameless).of(&gateway).await;
    fails(&told, 400, "Missing field: username");
}

#[tokio::test]
async fn verify_and_me_say_who_and_where() {
    let gateway = Site::start().await;
    let token = session_token(&gateway, "ada").await;
    for ask in [
        Ask::get("/api/auth/verify").bearer(&token),
        Ask::get("/api/auth/verify").field("X-Session-Token", &token),
    ] {
        let told = ask.of(&gateway).await;
        let times = [
            "/user/created_at",
            "/session/created_at",
            "/session/last_used_at",
        ];
        times.iter().for_each(|time| is_time(&told, time));
        let expected = json!({
            "success": true,
            "valid": true,
            "user": {"id": 1, "username": "ada", "email": "ada@mail.test", "created_at": null},
            "session": {
                "id": 1, "name": "Session 1", "created_at": null, "last_used_at": null, "is_active": true,
            },
        });
        assert_eq!((told.status, without(&told, &times)), (200, expected));
    }
    let told = Ask::get("/api/auth/me").bearer(&token).of(&gateway).await;
    let times = ["/user/created_at", "/current_session/created_at"];
    let expected = json!({
        "success": true,
        "user": {"id": 1, "username": "ada", "email": "ada@mail.test", "created_at": null},
        "current_session": {"id": 1, "name": "Session 1", "created_at": null},
    });
    assert_eq!((told.status, without(&told, &times)), (200, expected));
}

#[tokio::test]
async fn nobody_gets_anything() {
    let gateway = Site::start().await;
    let outside = setup::token(3600);
    let calls = [
        ("POST", "/api/auth/logout"),
        ("GET", "/api/auth/me"),
        ("PATCH", "/api/auth/me"),
        ("POST", "/api/sessions/new"),
        ("GET", "/api/sessions"),
        ("GET", "/api/sessions/1"),
        ("GET", "/api/sessions/current/jobs"),
        ("PATCH", "/api/sessions/1"),
        ("DELETE", "/api/sessions/1"),
    ];
    for token in [
        "",
        "x",
        "a.b.c",
        "00000000-0000-4000-8000-000000000000",
        &outside,
    ] {
        let ask = |method, path| match token {
            "" => Ask::new(method, path),
            token => Ask::new(method, path).bearer(token),
        };
        for (method, path) in calls {
            fails(
                &ask(method, path).of(&gateway).await,
                401,
                "Invalid session",
            );
        }
        let told = ask("GET", "/api/auth/verify").of(&gateway).await;
        told.is(
            401,
            &json!({"success": false, "valid": false, "error": "Invalid session"}),
        );
    }
}

#[tokio::test]
async fn users_change_what_is_theirs() {
    let gateway = Site::start().await;
    register(&gateway, "grace").await;
    let (token, other) = (
        session_token(&gateway, "ada").await,
        session_token(&gateway, "ada").await,
    );
    let jwt = app_token(&gateway, "ada").await;
    let patch = async |body: Value| {
        Ask::new("PATCH", "/api/auth/me")
            .bearer(&token)
            .json(&body)
            .of(&gateway)
            .await
    };
    fails(&patch(json!({})).await, 400, "Nothing to change");
    fails(
        &patch(json!({"username": 1})).await,
        400,
        "Invalid field: username",
    );
    fails(
        &patch(json!({"username": "Grace"})).await,
        409,
        "Username already exists",
    );
    fails(
        &patch(json!({"email": "grace@mail.test"})).await,
        409,
        "Email already exists",
    );
    fails(
        &patch(json!({"email": "x"})).await,
        400,
        "The email is not valid",
    );
    let new = "another horse";
    fails(
        &patch(json!({"password": new})).await,
        400,
        "Missing field: current_password",
    );
    let wrong = json!({"password": new, "current_password": "wrong horse"});
    fails(&patch(wrong).await, 403, "The current password is wrong");
    let weak = json!({"password": "short", "current_password": PASSWORD});
    assert_eq!(patch(weak).await.status, 400);

    let told = patch(json!({"username": "Lovelace", "email": "lovelace@mail.test"})).await;
    let user = json!({
        "id": 1, "username": "Lovelace", "email": "lovelace@mail.test", "created_at": told.text("/user/created_at"),
    });
    told.is(
        200,
        &json!({"success": true, "message": "User updated", "user": user}),
    );

    // A new password ends every other token of the user, in every API; the one in hand lives on.
    let told = patch(json!({"password": new, "current_password": PASSWORD})).await;
    assert_eq!(told.status, 200, "{told:?}");
    for (token, status) in [(&token, 200), (&other, 401), (&jwt, 401)] {
        let told = Ask::get("/api/auth/me").bearer(token).of(&gateway).await;
        assert_eq!(told.status, status);
        assert_eq!(
            Ask::get("/proxied").bearer(token).of(&gateway).await.status,
            status
        );
    }
    let asked = json!({"username": "lovelace", "password": new});
    assert_eq!(
        Ask::post("/api/auth/login", &asked)
            .of(&gateway)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn sessions_are_made_named_listed_and_deleted() {
    let gateway = Site::start().await;
    let token = session_token(&gateway, "ada").await;
    let ask = |method: &str, path: &str| Ask::new(method, path).bearer(&token);
    let made = ask("POST", "/api/sessions/new")
        .json(&json!({"name": "Bilder"}))
        .of(&gateway)
        .await;
    assert_eq!(
        (made.status, made.text("/message")),
        (201, "New session created".to_owned())
    );
    assert_eq!(
        (made.text("/session/name"), &made.body["session"]["id"]),
        ("Bilder".to_owned(), &json!(2))
    );
    is_time(&made, "/session/created_at");
    let theirs = made.text("/session/token");
    assert_eq!(
        Ask::get("/proxied")
            .bearer(&theirs)
            .of(&gateway)
            .await
            .status,
        200
    );
    for nameless in [
        ask("POST", "/api/sessions/new"),
        ask("POST", "/api/sessions/new").json(&json!({})),
    ] {
        assert_eq!(nameless.of(&gateway).await.status, 201);
    }
    for bad in [
        json!({"name": ""}),
        json!({"name": "a\nb"}),
        json!({"name": 1}),
        json!({"name": "x".repeat(300)}),
    ] {
        assert_eq!(
            ask("POST", "/api/sessions/new")
                .json(&bad)
                .of(&gateway)
                .await
                .status,
            400,
            "{bad}"
        );
    }

    let list = ask("GET", "/api/sessions").of(&gateway).await;
    let sessions = list.body["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 4);
    let members: Vec<&String> = sessions[0].as_object().unwrap().keys().collect();
    assert_eq!(
        members,
        [
            "created_at",
            "id",
            "is_active",
            "job_count",
            "last_used_at",
            "name"
        ]
    );

    let shown = ask("GET", "/api/sessions/2").of(&gateway).await;
    assert_eq!(
        (shown.text("/session/name"), &shown.body["jobs"]),
        ("Bilder".to_owned(), &json!([]))
    );
    let jobs = ask("GET", "/api/sessions/current/jobs").of(&gateway).await;
    jobs.is(200, &json!({"success": true, "jobs": []}));

    let told = ask("PATCH", "/api/sessions/2")
        .json(&json!({"name": "Robert'); --"}))
        .of(&gateway)
        .await;
    assert_eq!(
        (told.status, told.text("/message")),
        (200, "Session updated".to_owned())
    );
    assert_eq!(told.text("/session/name"), "Robert'); --");
    let told = ask("PATCH", "/api/sessions/2")
        .json(&json!({"name": "  "}))
        .of(&gateway)
        .await;
    assert_eq!(told.status, 400);

    let told = ask("DELETE", "/api/sessions/2").of(&gateway).await;
    told.is(200, &json!({"success": true, "message": "Session deleted"}));
    assert_eq!(
        Ask::get("/proxied")
            .bearer(&theirs)
            .of(&gateway)
            .await
            .status,
        401
    );
    fails(
        &ask("DELETE", "/api/sessions/2").of(&gateway).await,
        404,
        "Session not found",
    );
    fails(
        &ask("GET", "/api/sessions/2").of(&gateway).await,
        404,
        "Session not found",
    );
    // Its own too: then the token in hand is none any more.
    assert_eq!(
        ask("DELETE", "/api/sessions/1").of(&gateway).await.status,
        200
    );
    fails(
        &ask("GET", "/api/sessions").of(&gateway).await,
        401,
        "Invalid session",
    );
}

#[tokio::test]
async fn a_session_of_another_is_one_that_is_not_there() {
    let gateway = Site::start().await;
    register(&gateway, "eve").await;
    session_token(&gateway, "ada").await;
    let eve = session_token(&gateway, "eve").await;
    for number in [
        "1",
        "99",
        "0",
        "-1",
        "x",
        "1.0",
        "99999999999999999999",
        "1'--",
        "%31%27",
    ] {
        let path = format!("/api/sessions/{number}");
        for method in ["GET", "DELETE", "PATCH"] {
            let ask = Ask::new(method, &path).bearer(&eve);
            let ask = if method == "PATCH" {
                ask.json(&json!({"name": "mine"}))
            } else {
                ask
            };
            fails(&ask.of(&gateway).await, 404, "Session not found");
        }
    }
    let list = Ask::get("/api/sessions").bearer(&eve).of(&gateway).await;
    assert_eq!(list.body["sessions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_access_token_is_as_good_as_a_session_token_and_its_session_a_row_like_any() {
    let gateway = Site::start().await;
    let jwt = app_token(&gateway, "ada").await;
    let token = session_token(&gateway, "ada").await;
    for (path, status) in [
        ("/api/auth/verify", 200),
        ("/api/auth/me", 200),
        ("/api/sessions", 200),
        ("/api/sessions/current/jobs", 200),
    ] {
        assert_eq!(
            Ask::get(path).bearer(&jwt).of(&gateway).await.status,
            status,
            "{path}"
        );
    }
    let id = Ask::get("/api/auth/me")
        .bearer(&jwt)
        .of(&gateway)
        .await
        .body["current_session"]["id"]
        .clone();
    let told = Ask::new("POST", "/api/auth/logout")
        .bearer(&jwt)
        .of(&gateway)
        .await;
    assert_eq!(told.status, 200);
    fails(
        &Ask::get("/api/auth/me").bearer(&jwt).of(&gateway).await,
        401,
        "Invalid session",
    );
    assert_eq!(
        Ask::get("/proxied").bearer(&jwt).of(&gateway).await.status,
        401
    );
    let list = Ask::get("/api/sessions").bearer(&token).of(&gateway).await;
    let sessions = list.body["sessions"].as_array().unwrap();
    let ended = sessions.iter().find(|session| session["id"] == id).unwrap();
    assert_eq!(ended["is_active"], false);
    let path = format!("/api/sessions/{id}");
    let shown = Ask::get(&path).bearer(&token).of(&gateway).await;
    assert_eq!(
        (shown.status, &shown.body["session"]["is_active"]),
        (200, &json!(false))
    );
    assert_eq!(
        Ask::new("DELETE", &path)
            .bearer(&token)
            .of(&gateway)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn what_is_not_mounted_is_proxied() {
    let upstream = Upstream::http1(async |_| http::Response::new(full("upstream"))).await;
    let setup = Setup::simple(&upstream.url).piece(
        "[accounts]\nissuer = \"https://gw.test/auth/v1\"\n[accounts.password]\nthreads = 1\n",
    );
    let gateway = Gateway::start(&setup).await;
    assert_eq!(gateway.get("/api/auth/verify").await.text(), "upstream");
}
