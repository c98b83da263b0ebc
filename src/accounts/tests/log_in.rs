//! Getting in.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::accounts::AccountError;
use crate::accounts::admin::{Access, AdminUser, Ban, NewPassword};
use crate::accounts::testing::{Bench, NOW, PASSWORD, login, secret};
use crate::accounts::users::Registration;
use crate::records::{Api, Client, Object};
use crate::store::Unique;

fn claims(token: &str) -> Value {
    use base64::Engine;
    let payload = token.split('.').nth(1).unwrap();
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload);
    serde_json::from_slice(&payload.unwrap()).unwrap()
}

#[tokio::test]
async fn whoever_registers_logs_in_by_name_and_address_in_any_spelling() {
    let bench = Bench::new().await;
    let user = bench.ada().await;
    assert_eq!(&*user.username.unwrap().shown, "ada");
    for name in ["ada", " ADA ", "Ada@MAIL.example", "ａｄａ"] {
        let signed_in = bench.try_log_in(Api::Token, name, PASSWORD).await.unwrap();
        assert_eq!(signed_in.user.id, user.id, "{name}");
    }
}

#[tokio::test]
async fn a_log_in_gives_tokens_as_its_api_has_them() {
    let bench = Bench::new().await;
    let user = bench.ada().await;
    for (api, ttl, refreshes) in [
        (Api::App, 3600, false),
        (Api::Token, 900, true),
        (Api::Supabase, 3600, true),
    ] {
        let signed_in = bench.log_in(api).await;
        assert_eq!(signed_in.expires_in, ttl);
        assert_eq!(signed_in.expires_at, NOW + ttl);
        assert_eq!(signed_in.refresh_token.is_some(), refreshes, "{api:?}");
        let claims = claims(signed_in.access_token.expose());
        assert_eq!(claims["sub"], user.id.to_string());
        assert_eq!(claims["session_id"], signed_in.session.id.to_string());
        assert_eq!(claims["exp"], NOW + ttl);
        assert_eq!(
            claims["amr"],
            json!([{"method": "password", "timestamp": NOW}])
        );
    }
}

#[tokio::test]
async fn unknown_users_and_wrong_passwords_are_answered_alike() {
    let bench = Bench::new().await;
    bench.ada().await;
    for (name, password) in [
        ("ada", "wrong password"),
        ("ada", ""),
        ("ada", &*"x".repeat(100_000)),
        ("eve", PASSWORD),
        ("", PASSWORD),
        ("a@b@c", PASSWORD),
        ("ada\0", PASSWORD),
        ("' OR 1=1 --", PASSWORD),
    ] {
        let refused = bench.try_log_in(Api::Token, name, password).await;
        assert_eq!(
            refused.err(),
            Some(AccountError::InvalidCredentials),
            "{name:?}"
        );
    }
}

#[tokio::test]
async fn guesses_are_slowed_for_users_and_nobodies_alike_and_the_owner_elsewhere_is_not() {
    let bench = Bench::new().await;
    bench.ada().await;
    let from = |address: &str| Client {
        address: Some(address.parse::<IpAddr>().unwrap()),
        ..Client::default()
    };
    for name in ["ada", "nobody"] {
        for _ in 0..5 {
            let wrong = login(name, "wrong password");
            let refused = bench
                .accounts
                .log_in(Api::Token, wrong, &from("10.0.0.1"))
                .await;
            assert_eq!(refused.err(), Some(AccountError::InvalidCredentials));
        }
        let right = login(name, PASSWORD);
        let slowed = bench
            .accounts
            .log_in(Api::Token, right, &from("10.0.0.1"))
            .await;
        assert!(
            matches!(slowed.err(), Some(AccountError::TooMany { .. })),
            "{name}"
        );
    }
    let home = from("192.0.2.7");
    let owner = bench
        .accounts
        .log_in(Api::Token, login("ada", PASSWORD), &home);
    assert!(owner.await.is_ok());
}

#[tokio::test]
async fn whoever_is_kept_out_is_told_so_with_the_right_password_only() {
    let bench = Bench::new().await;
    let user = bench.ada().await;
    let until = i64::try_from(NOW).unwrap() * 1000 + 60_000;
    for (change, expected) in [
        (
            AdminUser {
                access: Some(Access::Disabled),
                ..AdminUser::default()
            },
            AccountError::UserDisabled,
        ),
        (
            AdminUser {
                access: Some(Access::Enabled),
                ban: Some(Ban::Until(until)),
                ..AdminUser::default()
            },
            AccountError::UserBanned,
        ),
    ] {
        bench.accounts.admin_update(user.id, change).await.unwrap();
        let right = bench.try_log_in(Api::Token, "ada", PASSWORD).await;
        assert_eq!(right.err(), Some(expected));
        let wrong = bench.try_log_in(Api::Token, "ada", "wrong password").await;
        assert_eq!(wrong.err(), Some(AccountError::InvalidCredentials));
    }
    bench.pass(61);
    bench.log_in(Api::Token).await;
}

#[tokio::test]
async fn one_of_two_gets_a_name_however_it_is_spelt() {
    let bench = Bench::new().await;
    let race = tokio::join!(
        bench.register("ada", "one@mail.example"),
        bench.register("ＡＤＡ", "two@mail.example"),
    );
    let errors: Vec<_> = [race.0.err(), race.1.err()].into_iter().flatten().collect();
    assert_eq!(errors, [AccountError::UserExists(Unique::Username)]);
    bench.register("bob", "Bob@mail.example").await.unwrap();
    let taken = bench.register("rob", "bob@MAIL.example").await;
    assert_eq!(taken.err(), Some(AccountError::UserExists(Unique::Email)));
}

#[tokio::test]
async fn nobody_registers_as_an_admin() {
    let bench = Bench::new().await;
    let said = json!({"is_admin": true, "roles": ["admin"], "name": "Eve", "username": "Eve"});
    let new = Registration {
        username: None,
        email: Some("eve@mail.example".to_owned()),
        password: secret(PASSWORD),
        user_metadata: said.as_object().unwrap().clone(),
        redirect_to: None,
    };
    let client = Client::default();
    let user = bench
        .accounts
        .register(Api::Supabase, new, &client)
        .await
        .unwrap();
    assert!(!user.app_metadata.contains_key("roles"));
    assert!(!user.user_metadata.contains_key("is_admin"));
    // A name that nobody has is the user's, and unique from then on.
    assert_eq!(&*user.username.unwrap().key, "eve");
    let signed_in = bench
        .try_log_in(Api::Supabase, "eve", PASSWORD)
        .await
        .unwrap();
    let claims = claims(signed_in.access_token.expose());
    assert_eq!(claims["user_metadata"]["username"], "Eve");
    assert_ne!(claims["user_metadata"]["is_admin"], json!(true));
}

#[tokio::test]
async fn registrations_that_break_a_rule_are_refused() {
    let bench = Bench::new().await;
    let tried = |username: &str, email: &str, password: &str| {
        let new = Registration {
            username: Some(username.to_owned()),
            email: Some(email.to_owned()),
            password: secret(password),
            user_metadata: Object::new(),
            redirect_to: None,
        };
        let accounts = bench.accounts.clone();
        async move {
            let client = Client::default();
            let refused = accounts.register(Api::Token, new, &client).await;
            refused.err().map(|error| error.word())
        }
    };
    for (username, email, password, expected) in [
        ("a b", "a@mail.example", PASSWORD, "invalid_username"),
        ("a@b", "a@mail.example", PASSWORD, "invalid_username"),
        ("ada", "mail.example", PASSWORD, "invalid_email"),
        ("ada", "a@mail.example", "short", "weak_password"),
        ("ada", "a@mail.example", "correct\0horse", "password_unfit"),
        (
            "ada",
            "a@mail.example",
            &*"x".repeat(1025),
            "password_too_long",
        ),
    ] {
        let refused = tried(username, email, password).await;
        assert_eq!(refused, Some(expected), "{username} {email}");
    }
    let closed = Bench::with(|config| config.sign_up = false).await;
    let refused = closed.register("ada", "ada@mail.example").await;
    assert_eq!(refused.err(), Some(AccountError::SignUpsOff));
}

#[tokio::test]
async fn a_hash_from_elsewhere_is_renewed_at_the_first_good_log_in() {
    let bench = Bench::new().await;
    let hash = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
    let new = AdminUser {
        username: Some("old".to_owned()),
        password: Some(NewPassword::Hash(secret(hash))),
        ..AdminUser::default()
    };
    let user = bench.accounts.admin_create(new).await.unwrap();
    assert_eq!(user.password, Some(secret(hash)));
    assert!(bench.try_log_in(Api::Token, "old", "wrong").await.is_err());
    let signed_in = bench.try_log_in(Api::Token, "old", "U*U").await.unwrap();
    assert!(
        !signed_in.weaknesses.is_empty(),
        "a password that is too short by now"
    );
    let renewed = bench.store.user(user.id).await.unwrap().unwrap();
    assert!(renewed.password.unwrap().expose().starts_with("$argon2id$"));
    assert!(bench.try_log_in(Api::Token, "old", "U*U").await.is_ok());
}

#[tokio::test]
async fn no_password_is_none_also_where_its_hash_is_kept() {
    let bench = Bench::new().await;
    // Of nothing at all: a vector of crypt_blowfish.
    let hash = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy";
    let new = AdminUser {
        username: Some("open".to_owned()),
        password: Some(NewPassword::Hash(secret(hash))),
        ..AdminUser::default()
    };
    bench.accounts.admin_create(new).await.unwrap();
    let refused = bench.try_log_in(Api::Token, "open", "").await;
    assert_eq!(refused.err(), Some(AccountError::InvalidCredentials));
}

#[tokio::test]
async fn anonymous_users_get_in_without_credentials_and_keep_their_id_when_they_get_a_name() {
    use crate::accounts::testing::who;
    use crate::accounts::users::UserUpdate;
    let bench = Bench::new().await;
    let client = Client::default();
    let said = json!({"theme": "dark"}).as_object().unwrap().clone();
    let signed_in = bench
        .accounts
        .sign_in_anonymously(Api::Supabase, said, &client)
        .await;
    let signed_in = signed_in.unwrap();
    assert!(signed_in.user.anonymous && signed_in.user.app_metadata.is_empty());
    let claims = claims(signed_in.access_token.expose());
    assert_eq!(claims["is_anonymous"], true);
    assert_eq!(claims["amr"][0]["method"], "anonymous");
    let nameless = UserUpdate {
        password: Some(secret(PASSWORD)),
        ..UserUpdate::default()
    };
    let update = |update| {
        bench
            .accounts
            .change_user(Api::Supabase, who(&signed_in), (update, &client))
    };
    assert_eq!(
        update(nameless.clone()).await.err(),
        Some(AccountError::NameMissing)
    );
    let named = UserUpdate {
        email: Some("ada@mail.example".to_owned()),
        ..nameless
    };
    let user = update(named).await.unwrap();
    assert_eq!(user.id, signed_in.user.id);
    assert!(!user.anonymous && user.email_confirmed_at.is_some());
    assert_eq!(user.user_metadata["theme"], "dark");
    assert_eq!(user.app_metadata["provider"], "email");
    assert!(
        bench
            .try_log_in(Api::Token, "ada@mail.example", PASSWORD)
            .await
            .is_ok()
    );
    let off = Bench::with(|config| config.anonymous = false).await;
    let refused = off
        .accounts
        .sign_in_anonymously(Api::Supabase, Object::new(), &client)
        .await;
    assert_eq!(refused.err(), Some(AccountError::AnonymousOff));
}

#[tokio::test]
async fn a_store_that_is_gone_is_no_wrong_password() {
    let bench = Bench::new().await;
    bench.ada().await;
    let files: Vec<_> = std::fs::read_dir(bench.folder.file("")).unwrap().collect();
    assert!(files.len() >= 2, "the secret and the store");
    // Too many at once: the hashing queue refuses what it cannot take.
    let busy = Bench::with(|config| config.password.queue = 1).await;
    busy.ada().await;
    let flood = (0..64).map(|n| {
        let accounts = busy.accounts.clone();
        async move {
            let client = Client::default();
            let tried = login(&format!("user{n}"), PASSWORD);
            accounts.log_in(Api::Token, tried, &client).await.err()
        }
    });
    let refused = futures_util::future::join_all(flood).await;
    let is_busy = |error: &Option<AccountError>| matches!(error, Some(AccountError::Busy { .. }));
    assert!(refused.iter().any(is_busy));
    let known = |error: &Option<AccountError>| {
        is_busy(error) || *error == Some(AccountError::InvalidCredentials)
    };
    assert!(refused.iter().all(known));
}
