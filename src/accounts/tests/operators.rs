//! What operators do: users, keys, upkeep.

use serde_json::json;

use crate::accounts::admin::{AdminUser, Ban, Confirmed, Deletion, NewPassword};
use crate::accounts::testing::{Bench, NOW, PASSWORD, secret, who};
use crate::accounts::{AccountError, keys};
use crate::config::FirstAdmin;
use crate::identity::access_token::is_admin;
use crate::records::{Api, UnixMillis};
use crate::store::{OldestFirst, Unique, UserQuery};

fn new(username: &str) -> AdminUser {
    AdminUser {
        username: Some(username.to_owned()),
        password: Some(NewPassword::Unchecked(secret("short"))),
        ..AdminUser::default()
    }
}

#[tokio::test]
async fn operators_make_users_with_roles_and_short_passwords() {
    let bench = Bench::new().await;
    let roles = json!({"roles": ["admin"]}).as_object().unwrap().clone();
    let user = AdminUser {
        email: Some("Root@mail.example".to_owned()),
        phone: Some("+49 30 123456".to_owned()),
        email_confirmed: Some(Confirmed::Yes),
        app_metadata: Some(roles),
        ..new("root")
    };
    let user = bench.accounts.admin_create(user).await.unwrap();
    assert!(is_admin(&user) && user.email_confirmed_at.is_some());
    assert_eq!(user.app_metadata["provider"], "email");
    assert_eq!(user.phone.as_deref(), Some("4930123456"));
    assert!(bench.try_log_in(Api::Token, "root", "short").await.is_ok());
    let again = bench.accounts.admin_create(new("ROOT")).await;
    assert_eq!(
        again.err(),
        Some(AccountError::UserExists(Unique::Username))
    );
    let weak = AdminUser {
        password: Some(NewPassword::Checked(secret("short"))),
        ..new("other")
    };
    let weak = bench.accounts.admin_create(weak).await.unwrap_err();
    assert_eq!(weak.word(), "weak_password");
    let no_hash = AdminUser {
        password: Some(NewPassword::Hash(secret("plain"))),
        ..new("other")
    };
    let no_hash = bench.accounts.admin_create(no_hash).await.err();
    assert_eq!(no_hash, Some(AccountError::PasswordUnfit));
}

#[tokio::test]
async fn an_operators_new_password_ends_everything() {
    let bench = Bench::new().await;
    let user = bench.ada().await;
    let page = who(&bench.log_in(Api::Token).await);
    let talk = bench.conversation().await;
    let change = AdminUser {
        password: Some(NewPassword::Checked(secret("battery staple"))),
        ..AdminUser::default()
    };
    bench.accounts.admin_update(user.id, change).await.unwrap();
    assert!(!bench.is_alive(page).await);
    assert!(!bench.token_is_alive(&talk.token).await);
    assert!(
        bench
            .try_log_in(Api::Token, "ada", "battery staple")
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_ban_ends_no_session_and_works_until_it_is_lifted() {
    let bench = Bench::new().await;
    let user = bench.ada().await;
    let page = bench.log_in(Api::Token).await;
    let ban = |ban| AdminUser {
        ban: Some(ban),
        ..AdminUser::default()
    };
    let set = |it| bench.accounts.admin_update(user.id, ban(it));
    let version = bench.revocations.version();
    set(Ban::Until(UnixMillis::MAX)).await.unwrap();
    assert!(bench.revocations.version() > version);
    let token = page.refresh_token.as_ref().unwrap().expose();
    assert_eq!(
        bench.refresh(token).await.err(),
        Some(AccountError::UserBanned)
    );
    assert_eq!(
        bench.accounts.user(user.id).await.err(),
        Some(AccountError::UserBanned)
    );
    assert!(bench.is_alive(who(&page)).await);
    set(Ban::Lifted).await.unwrap();
    assert!(bench.refresh(token).await.is_ok());
}

#[tokio::test]
async fn deleted_users_are_gone_and_their_names_are_free() {
    let bench = Bench::new().await;
    for deletion in [Deletion::Hard, Deletion::Soft] {
        let user = bench.ada().await;
        let page = who(&bench.log_in(Api::Token).await);
        let talk = bench.conversation().await;
        bench
            .accounts
            .admin_delete(user.id, deletion)
            .await
            .unwrap();
        assert!(!bench.is_alive(page).await);
        assert!(!bench.token_is_alive(&talk.token).await);
        assert_eq!(
            bench.accounts.user(user.id).await.err(),
            Some(AccountError::UserGone)
        );
        let log_in = bench.try_log_in(Api::Token, "ada", PASSWORD).await;
        assert_eq!(log_in.err(), Some(AccountError::InvalidCredentials));
        let row = bench.store.user(user.id).await.unwrap();
        assert_eq!(row.is_some(), deletion == Deletion::Soft);
        if let Some(row) = row {
            assert!(row.email.is_none() && row.username.is_none() && row.password.is_none());
            assert!(row.deleted_at.is_some());
        }
    }
    let nobody = crate::records::UserId(uuid::Uuid::new_v4());
    let gone = bench.accounts.admin_delete(nobody, Deletion::Hard).await;
    assert_eq!(gone, Err(AccountError::NotFound));
}

#[tokio::test]
async fn users_are_listed() {
    let bench = Bench::new().await;
    bench.ada().await;
    bench.register("eve", "eve@mail.example").await.unwrap();
    let query = UserQuery {
        offset: 0,
        limit: 10,
        containing: Some("ADA".into()),
        oldest_first: OldestFirst::No,
    };
    let (users, total) = bench.accounts.admin_users(query).await.unwrap();
    assert_eq!((users.len(), total), (1, 1));
}

#[tokio::test]
async fn the_first_admin_is_made_once() {
    let admin = FirstAdmin {
        username: "Root".into(),
        password: secret("correct horse"),
    };
    let bench = Bench::with(|config| config.admin = Some(admin.clone())).await;
    let signed_in = bench
        .try_log_in(Api::Token, "root", PASSWORD)
        .await
        .unwrap();
    assert!(is_admin(&signed_in.user));
    bench.accounts.make_first_admin(&admin).await.unwrap();
}

#[tokio::test]
async fn keys_rotate_with_notice_and_old_tokens_verify_on() {
    let bench = Bench::new().await;
    let config = bench.accounts.settings().config.clone();
    let now = UnixMillis::try_from(NOW * 1000).unwrap();
    let first = bench.store.keys().await.unwrap();
    assert_eq!(first.len(), 1);
    keys::prepare(&*bench.store, &bench.vault, &config, now)
        .await
        .unwrap();
    assert_eq!(bench.store.keys().await.unwrap().len(), 1, "once");
    let rotated = keys::rotate(&*bench.store, &bench.vault, &config, (now, None))
        .await
        .unwrap();
    assert_eq!(rotated.signs_from, now + 1_200_000);
    let all = bench.store.keys().await.unwrap();
    assert_eq!(*all[0].kid, *rotated.kid);
    assert_eq!(all[1].verifies_until, Some(rotated.older_until));
    assert!(rotated.older_until >= rotated.signs_from + 3_600_000);
    bench.keyring.refresh().await.unwrap();
    let document = String::from_utf8(bench.keyring.document().to_vec()).unwrap();
    assert!(all.iter().all(|key| document.contains(&*key.kid)));
    let sealed = String::from_utf8_lossy(&all[0].sealed).into_owned();
    assert!(!sealed.contains("PRIVATE"));
    let other = crate::config::Accounts {
        algorithm: jsonwebtoken::Algorithm::EdDSA,
        ..config
    };
    keys::prepare(&*bench.store, &bench.vault, &other, now)
        .await
        .unwrap();
    assert_eq!(&*bench.store.keys().await.unwrap()[0].algorithm, "EdDSA");
}

#[tokio::test]
async fn upkeep_removes_what_is_of_no_use() {
    use crate::accounts::sessions::Scope;
    let bench = Bench::new().await;
    bench.ada().await;
    let page = who(&bench.log_in(Api::Token).await);
    let client = crate::records::Client::default();
    let scope = (Scope::Local, &client);
    bench
        .accounts
        .log_out(Api::Token, page, scope)
        .await
        .unwrap();
    assert_eq!(bench.accounts.look_after().await.unwrap().sessions, 0);
    bench.pass(31 * 86_400);
    assert_eq!(bench.accounts.look_after().await.unwrap().sessions, 1);
}

#[tokio::test]
async fn anonymous_users_that_nobody_can_be_any_more_are_removed() {
    let day = 86_400;
    let anonymous = async |bench: &Bench| {
        let client = crate::records::Client::default();
        let made = bench.accounts.sign_in_anonymously(
            Api::Supabase,
            crate::records::Object::new(),
            &client,
        );
        made.await.unwrap().user.id
    };
    let bench = Bench::new().await;
    let ada = bench.ada().await.id;
    let guest = anonymous(&bench).await;
    for (days, left) in [(29, true), (2, false)] {
        bench.pass(days * day);
        // Its session goes first.
        for _ in 0..2 {
            bench.accounts.look_after().await.unwrap();
        }
        let found = bench.store.user(guest).await.unwrap();
        assert_eq!(found.is_some(), left, "{days}");
    }
    assert!(bench.store.user(ada).await.unwrap().is_some());
    let bench = Bench::with(|config| config.anonymous_lifetime = None).await;
    let guest = anonymous(&bench).await;
    bench.pass(1000 * day);
    for _ in 0..2 {
        bench.accounts.look_after().await.unwrap();
    }
    assert!(bench.store.user(guest).await.unwrap().is_some());
}
