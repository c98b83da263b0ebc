//! The app API: its table, row by row, with every failure.

use serde_json::{Value, json};

use crate::harness::api::{self, Ask, PASSWORD, Site, Told, app_token, register, session_token};
use crate::harness::{Gateway, Setup, setup, until};

const LOG_IN: &str = "/api/v1/base/access_token";
const REFRESH: &str = "/api/v1/base/refresh_token";
const USERINFO: &str = "/api/v1/base/userinfo";
const USERMENU: &str = "/api/v1/base/usermenu";

async fn gateway_of(setup: &Setup) -> Gateway {
    let gateway = Gateway::start(setup).await;
    register(&gateway, "ada").await;
    gateway
}

fn log_in(name: &str, password: &str) -> Ask {
    Ask::post(LOG_IN, &json!({"username": name, "password": password}))
}

fn with_token(method: &str, path: &str, token: &str) -> Ask {
    Ask::new(method, path).field("token", token)
}

#[track_caller]
fn says(told: &Told, status: u16, msg: &str) {
    told.is(status, &json!({"code": status, "data": null, "msg": msg}));
}

#[tokio::test]
async fn a_log_in_gives_a_token_that_opens_everything() {
    let gateway = Site::start().await;
    for name in ["ada", "ADA", "ada@mail.test", "Ada@MAIL.test"] {
        let told = log_in(name, PASSWORD).of(&gateway).await;
        let token = told.text("/data/access_token");
        let data = json!({"access_token": token, "token_type": "bearer"});
        told.is(200, &json!({"code": 200, "data": data, "msg": "success"}));
        assert_eq!(
            Ask::get("/proxied")
                .bearer(&token)
                .of(&gateway)
                .await
                .status,
            200
        );
    }
}

#[tokio::test]
async fn a_wrong_name_and_a_wrong_password_are_told_alike() {
    let gateway = Site::start().await;
    for (name, password) in [
        ("ada", "wrong horse"),
        ("ada", ""),
        ("nobody", PASSWORD),
        ("", PASSWORD),
        ("ada@elsewhere.test", PASSWORD),
        ("ada' OR '1'='1", PASSWORD),
        ("ada", "' OR '1'='1' --"),
        ("ada\u{0}", PASSWORD),
        ("ada", "correct horse\u{0}"),
        ("аda", PASSWORD),
        ("a@b@c", PASSWORD),
    ] {
        let ask = log_in(name, password);
        says(
            &ask.clone().chinese().of(&gateway).await,
            401,
            "用户名或密码错误",
        );
        let told = ask.of(&gateway).await;
        says(&told, 401, "Wrong username or password");
        assert_eq!(told.head.get("www-authenticate"), Some("Bearer"));
    }
    let long = "x".repeat(60_000);
    assert_eq!(log_in("ada", &long).of(&gateway).await.status, 401);
    assert_eq!(log_in(&long, PASSWORD).of(&gateway).await.status, 401);
}

#[tokio::test]
async fn names_that_read_the_same_are_the_same() {
    let gateway = Site::start().await;
    // Full-width letters are the same name to the eye and to PRECIS.
    let told = log_in("\u{ff41}\u{ff44}\u{ff41}", PASSWORD)
        .of(&gateway)
        .await;
    assert_eq!(told.status, 200, "{told:?}");
    let again = json!({"username": "\u{ff21}da", "email": "x@mail.test", "password": PASSWORD});
    let told = Ask::post("/api/auth/register", &again).of(&gateway).await;
    told.is(
        409,
        &json!({"success": false, "error": "Username already exists"}),
    );
}

#[tokio::test]
async fn userinfo_is_the_user_as_apps_read_it() {
    let gateway = Site::start().await;
    let token = app_token(&gateway, "ada").await;
    let told = with_token("GET", USERINFO, &token).of(&gateway).await;
    let id = told.text("/data/id");
    let data = json!({
        "id": id, "username": "ada", "email": "ada@mail.test", "avatar": null, "roles": [],
        "is_superuser": false, "is_active": true,
    });
    told.is(200, &json!({"code": 200, "data": data, "msg": "success"}));
    assert_eq!(id.len(), 36);
    let bearer = Ask::get(USERINFO).bearer(&token).of(&gateway).await;
    assert_eq!(bearer.body, told.body);
    let head = with_token("HEAD", USERINFO, &token).of(&gateway).await;
    assert_eq!(head.status, 200);
}

#[tokio::test]
async fn the_menu_is_that_of_the_users_roles() {
    let setup = api::setup("http://127.0.0.1:9");
    let gateway = gateway_of(&setup).await;
    let token = app_token(&gateway, "ada").await;
    let menu = async || with_token("GET", USERMENU, &token).of(&gateway).await.body["data"].clone();
    assert_eq!(menu().await, json!([]));
    let menus = "[api.app.menu]\nauthenticated = [{ name = \"Studio\", path = \"/studio\" }]\n\
                 admin = [{ name = \"Users\" }]\n";
    gateway.reload(&setup.piece(menus)).await.unwrap();
    assert_eq!(menu().await, json!([{"name": "Studio", "path": "/studio"}]));
}

#[tokio::test]
async fn without_a_good_token_there_is_neither_userinfo_nor_menu_nor_another_token() {
    let gateway = Site::start().await;
    let good = app_token(&gateway, "ada").await;
    let (head, signature) = good.rsplit_once('.').unwrap();
    let flipped: String = signature.chars().rev().collect();
    let forged = format!("{head}.{flipped}");
    for (method, path) in [("GET", USERINFO), ("GET", USERMENU), ("POST", REFRESH)] {
        let told = Ask::new(method, path).of(&gateway).await;
        says(&told, 401, "A token is needed");
        for token in [
            forged.as_str(),
            "x",
            "a.b.c",
            "00000000-0000-4000-8000-000000000000",
            &setup::token(3600),
        ] {
            let told = with_token(method, path, token).of(&gateway).await;
            assert_eq!(
                (told.status, &told.body["code"]),
                (401, &json!(401)),
                "{token}"
            );
            assert_eq!(told.body["data"], Value::Null);
        }
    }
}

#[tokio::test]
async fn a_token_of_an_outside_issuer_is_nobody_here() {
    let issuer = format!(
        "[[issuer]]\nname = \"test\"\niss = \"https://issuer.test\"\naudience = []\n\
         algorithms = [\"HS256\"]\nsecret = \"{}\"",
        setup::SECRET
    );
    let gateway = Site::with(&issuer).await;
    let user = "7e0c0c6e-5b1f-4e55-9d7e-111111111111";
    let claims = json!({"sub": user, "session_id": user, "role": "authenticated"});
    let outside = setup::token_with(3600, claims);
    assert_eq!(
        Ask::get("/proxied")
            .bearer(&outside)
            .of(&gateway)
            .await
            .status,
        200
    );
    for (method, path) in [("GET", USERINFO), ("GET", USERMENU), ("POST", REFRESH)] {
        let told = with_token(method, path, &outside).of(&gateway).await;
        assert_eq!(told.status, 401, "{path}");
    }
}

#[tokio::test]
async fn every_one_of_several_refreshes_gets_a_working_token() {
    let gateway = Site::start().await;
    let token = app_token(&gateway, "ada").await;
    let ask = with_token("POST", REFRESH, &token);
    let (one, two, three, four) = tokio::join!(
        ask.of(&gateway),
        ask.of(&gateway),
        ask.of(&gateway),
        ask.of(&gateway)
    );
    for told in [one, two, three, four] {
        let renewed = told.text("/data/access_token");
        assert_eq!(told.text("/data/token_type"), "bearer");
        assert_eq!(
            with_token("GET", USERINFO, &renewed)
                .of(&gateway)
                .await
                .status,
            200
        );
    }
    // The old one is not spent: requests with it are under way.
    assert_eq!(
        with_token("GET", USERINFO, &token)
            .of(&gateway)
            .await
            .status,
        200
    );
    // A body and its type make no difference.
    let told = ask.raw("text/plain", b"x").of(&gateway).await;
    assert_eq!(told.status, 200);
}

#[tokio::test]
async fn a_token_is_renewed_after_its_end_but_not_for_ever() {
    let brief = api::ACCOUNTS.replace(
        "mount = \"/api/v1/base\"\n",
        "mount = \"/api/v1/base\"\naccess_ttl = \"1s\"\n",
    );
    let setup = |within: &str| {
        let piece = brief.replace(
            "access_ttl",
            &format!("renew_within = \"{within}\"\naccess_ttl"),
        );
        Setup::new()
            .piece("[tokens]\nleeway = \"0s\"\n")
            .upstream("http://127.0.0.1:9", "")
            .guarded("required", "/{*rest}", "")
            .piece(&piece)
    };
    let gateway = gateway_of(&setup("7d")).await;
    let token = app_token(&gateway, "ada").await;
    until(async || {
        with_token("GET", USERINFO, &token)
            .of(&gateway)
            .await
            .status
            == 401
    })
    .await;
    let told = with_token("GET", USERINFO, &token).of(&gateway).await;
    says(&told, 401, "The token has expired");
    let told = with_token("POST", REFRESH, &token).of(&gateway).await;
    assert_eq!(told.status, 200, "{told:?}");
    // A forged one is not renewed for being old.
    let forged = format!("{}x", &token[..token.len() - 1]);
    assert_eq!(
        with_token("POST", REFRESH, &forged)
            .of(&gateway)
            .await
            .status,
        401
    );
    gateway.reload(&setup("1s")).await.unwrap();
    let refresh = with_token("POST", REFRESH, &token);
    until(async || refresh.of(&gateway).await.status == 401).await;
    let told = refresh.of(&gateway).await;
    says(
        &told,
        401,
        "The token expired more than 1 second ago; log in again",
    );
    gateway.reload(&setup("7d")).await.unwrap();
    assert_eq!(refresh.of(&gateway).await.status, 200);
}

#[tokio::test]
async fn a_session_that_has_ended_is_not_renewed() {
    let gateway = Site::start().await;
    let token = app_token(&gateway, "ada").await;
    let other = app_token(&gateway, "ada").await;
    let told = Ask::new("POST", "/api/auth/logout")
        .bearer(&token)
        .of(&gateway)
        .await;
    assert_eq!(told.status, 200, "{told:?}");
    for (method, path) in [("GET", USERINFO), ("GET", USERMENU), ("POST", REFRESH)] {
        let told = with_token(method, path, &token).of(&gateway).await;
        assert_eq!(told.status, 401, "{path}");
    }
    assert_eq!(
        Ask::get("/proxied")
            .bearer(&token)
            .of(&gateway)
            .await
            .status,
        401
    );
    assert_eq!(
        with_token("POST", REFRESH, &other)
            .of(&gateway)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_session_token_is_known_here_but_not_renewed() {
    let gateway = Site::start().await;
    let token = session_token(&gateway, "ada").await;
    assert_eq!(
        with_token("GET", USERINFO, &token)
            .of(&gateway)
            .await
            .status,
        200
    );
    let told = with_token("POST", REFRESH, &token).of(&gateway).await;
    assert_eq!(told.status, 401);
}

#[tokio::test]
async fn guessing_is_slowed_in_the_words_of_the_api() {
    let slow = api::ACCOUNTS.replace("free = 1000", "free = 1\ndelay = \"60s\"");
    let setup = Setup::new()
        .upstream("http://127.0.0.1:9", "")
        .guarded("required", "/{*rest}", "")
        .piece(&slow);
    let gateway = gateway_of(&setup).await;
    let ask = log_in("ada", "wrong horse").chinese();
    until(async || ask.of(&gateway).await.status == 429).await;
    let told = ask.of(&gateway).await;
    says(&told, 429, "请求过于频繁，请稍后再试");
    assert!(told.head.get("retry-after").is_some());
}
