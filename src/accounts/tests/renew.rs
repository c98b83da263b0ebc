//! Refresh tokens, and the renewal of access tokens.

use std::time::Duration;

use crate::accounts::admin::{Access, AdminUser, Deletion};
use crate::accounts::sessions::Scope;
use crate::accounts::testing::{Bench, who};
use crate::accounts::{AccountError, SignedIn};
use crate::records::{Api, Client};

fn token(signed_in: &SignedIn) -> String {
    signed_in.refresh_token.as_ref().unwrap().expose().clone()
}

#[tokio::test]
async fn a_refresh_gives_the_next_token_of_the_same_session() {
    let bench = Bench::new().await;
    bench.ada().await;
    let first = bench.log_in(Api::Token).await;
    bench.pass(60);
    let second = bench.refresh(&token(&first)).await.unwrap();
    assert_eq!(second.session.id, first.session.id);
    assert_ne!(token(&second), token(&first));
    assert_ne!(second.access_token, first.access_token);
    assert_eq!(second.session.authentication, first.session.authentication);
    bench.pass(60);
    assert!(bench.refresh(&token(&second)).await.is_ok());
}

#[tokio::test]
async fn concurrent_refreshes_get_the_same_token() {
    let bench = Bench::new().await;
    bench.ada().await;
    let first = token(&bench.log_in(Api::Token).await);
    let race = (0..20).map(|_| bench.refresh(&first));
    let race = futures_util::future::join_all(race).await;
    let next: Vec<String> = race.iter().map(|it| token(it.as_ref().unwrap())).collect();
    assert!(next.iter().all(|it| *it == next[0] && *it != first));
}

#[tokio::test]
async fn the_parent_is_good_at_any_age_and_anything_older_ends_the_session() {
    let bench = Bench::new().await;
    bench.ada().await;
    let signed_in = bench.log_in(Api::Token).await;
    let first = token(&signed_in);
    bench.pass(100);
    let second = token(&bench.refresh(&first).await.unwrap());
    bench.pass(100);
    assert_eq!(
        token(&bench.refresh(&first).await.unwrap()),
        second,
        "the parent"
    );
    bench.pass(100);
    let third = token(&bench.refresh(&second).await.unwrap());
    bench.pass(5);
    assert_eq!(
        token(&bench.refresh(&first).await.unwrap()),
        third,
        "a race"
    );
    assert!(bench.is_alive(who(&signed_in)).await);
    bench.pass(5);
    let version = bench.revocations.version();
    let reused = bench.refresh(&first).await.err();
    assert_eq!(reused, Some(AccountError::RefreshReused));
    assert!(
        bench.revocations.version() > version,
        "everybody hears of it"
    );
    assert!(!bench.is_alive(who(&signed_in)).await);
    let newest = bench.refresh(&third).await.err();
    assert_eq!(newest, Some(AccountError::RefreshUnknown), "for everybody");
    assert!(
        bench
            .try_log_in(Api::Token, "ada", "correct horse")
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn tokens_of_other_kinds_and_apis_are_none() {
    let bench = Bench::new().await;
    bench.ada().await;
    let ours = bench.log_in(Api::Token).await;
    let theirs = bench.log_in(Api::Supabase).await;
    let conversation = bench.conversation().await;
    for (text, expected) in [
        (
            ours.access_token.expose().as_str(),
            AccountError::RefreshMalformed,
        ),
        (conversation.token.expose(), AccountError::RefreshMalformed),
        ("", AccountError::RefreshMalformed),
        ("abcdefghijk1", AccountError::RefreshUnknown),
        (&token(&theirs), AccountError::RefreshUnknown),
    ] {
        assert_eq!(bench.refresh(text).await.err(), Some(expected), "{text}");
    }
    let client = Client::default();
    let crossed = bench
        .accounts
        .refresh(Api::Supabase, &token(&ours), &client)
        .await;
    assert_eq!(crossed.err(), Some(AccountError::RefreshUnknown));
    let theirs = bench
        .accounts
        .refresh(Api::Supabase, &token(&theirs), &client)
        .await;
    assert!(theirs.is_ok());
}

#[tokio::test]
async fn what_has_ended_is_not_refreshed() {
    let bench = Bench::new().await;
    let user = bench.ada().await;
    let client = Client::default();
    let out = bench.log_in(Api::Token).await;
    let scope = (Scope::Local, &client);
    bench
        .accounts
        .log_out(Api::Token, who(&out), scope)
        .await
        .unwrap();
    let refused = bench.refresh(&token(&out)).await.err();
    assert_eq!(refused, Some(AccountError::RefreshUnknown));

    let kept = bench.log_in(Api::Token).await;
    let access = |access| AdminUser {
        access: Some(access),
        ..AdminUser::default()
    };
    let set = |it| bench.accounts.admin_update(user.id, access(it));
    set(Access::Disabled).await.unwrap();
    let refused = bench.refresh(&token(&kept)).await.err();
    assert_eq!(refused, Some(AccountError::UserDisabled));
    set(Access::Enabled).await.unwrap();
    let kept = bench.refresh(&token(&kept)).await.unwrap();
    bench
        .accounts
        .admin_delete(user.id, Deletion::Hard)
        .await
        .unwrap();
    let refused = bench.refresh(&token(&kept)).await.err();
    assert_eq!(refused, Some(AccountError::RefreshUnknown));
}

#[tokio::test]
async fn refresh_tokens_and_sessions_grow_old() {
    let bench = Bench::new().await;
    bench.ada().await;
    let first = token(&bench.log_in(Api::Token).await);
    bench.pass(7 * 86_400 - 1);
    let second = token(&bench.refresh(&first).await.unwrap());
    bench.pass(7 * 86_400);
    let refused = bench.refresh(&second).await.err();
    assert_eq!(refused, Some(AccountError::SessionExpired));
    let boxed = Bench::with(|config| {
        config.session_lifetime = Some(Duration::from_secs(3600));
    })
    .await;
    boxed.ada().await;
    let first = token(&boxed.log_in(Api::Token).await);
    boxed.pass(1800);
    let second = token(&boxed.refresh(&first).await.unwrap());
    boxed.pass(1800);
    let refused = boxed.refresh(&second).await.err();
    assert_eq!(refused, Some(AccountError::SessionExpired));
}

#[tokio::test]
async fn overload_says_busy_and_spends_nothing() {
    let bench = Bench::with(|config| config.attempts.refreshes_per_address = 1).await;
    bench.ada().await;
    let first = token(&bench.log_in(Api::Token).await);
    let client = Client {
        address: Some("192.0.2.1".parse().unwrap()),
        ..Client::default()
    };
    let refresh = || bench.accounts.refresh(Api::Token, &first, &client);
    assert!(refresh().await.is_ok());
    let refused = refresh().await.err();
    assert!(matches!(refused, Some(AccountError::Busy { .. })));
}

#[tokio::test]
async fn the_app_api_renews_sessions_of_its_own_that_are_alive() {
    let bench = Bench::new().await;
    bench.ada().await;
    let client = Client::default();
    let phone = bench.log_in(Api::App).await;
    bench.pass(7200);
    let renew = |it: &SignedIn| {
        let who = who(it);
        let accounts = bench.accounts.clone();
        async move { accounts.renew(who, &Client::default()).await }
    };
    let renewed = renew(&phone).await.unwrap();
    assert_eq!(renewed.session.id, phone.session.id);
    assert_ne!(renewed.access_token, phone.access_token);
    let other = bench.log_in(Api::Token).await;
    assert_eq!(renew(&other).await.err(), Some(AccountError::SessionGone));
    let scope = (Scope::Local, &client);
    bench
        .accounts
        .log_out(Api::App, who(&phone), scope)
        .await
        .unwrap();
    assert_eq!(renew(&phone).await.err(), Some(AccountError::SessionGone));
}

#[tokio::test]
async fn an_expired_access_token_is_renewed_for_so_long() {
    let bench = Bench::new().await;
    bench.ada().await;
    let client = Client::default();
    let phone = bench.log_in(Api::App).await;
    let text = phone.access_token.expose();
    let week = Duration::from_secs(7 * 86_400);
    let renew = |text: String| {
        let accounts = bench.accounts.clone();
        async move {
            accounts
                .renew_expired(&text, week, &Client::default())
                .await
        }
    };
    bench.pass(3600 + 7 * 86_400);
    assert!(renew(text.clone()).await.is_ok());
    let (head, signature) = text.rsplit_once('.').unwrap();
    let other = bench.log_in(Api::App).await;
    let (_, other) = other.access_token.expose().rsplit_once('.').unwrap();
    for forged in [
        format!("{head}.{other}"),
        head.to_owned(),
        signature.to_owned(),
        String::new(),
    ] {
        let refused = renew(forged).await.err();
        assert_eq!(refused, Some(AccountError::RefreshUnknown));
    }
    bench.pass(1);
    assert_eq!(
        renew(text.clone()).await.err(),
        Some(AccountError::SessionExpired)
    );
    let phone = bench.log_in(Api::App).await;
    let scope = (Scope::Local, &client);
    bench
        .accounts
        .log_out(Api::App, who(&phone), scope)
        .await
        .unwrap();
    let ended = renew(phone.access_token.expose().clone()).await.err();
    assert_eq!(ended, Some(AccountError::SessionGone));
}
