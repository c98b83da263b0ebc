//! Users that change themselves.

use serde_json::json;

use crate::accounts::testing::{Bench, PASSWORD, secret, who};
use crate::accounts::users::UserUpdate;
use crate::accounts::{AccountError, Who};
use crate::records::{Api, Client, User};
use crate::store::Unique;

async fn change(
    bench: &Bench,
    (api, who): (Api, Who),
    update: UserUpdate,
) -> Result<User, AccountError> {
    let client = Client::default();
    bench
        .accounts
        .change_user(api, who, (update, &client))
        .await
}

fn password(new: &str, current: Option<&str>) -> UserUpdate {
    UserUpdate {
        password: Some(secret(new)),
        current_password: current.map(secret),
        ..UserUpdate::default()
    }
}

#[tokio::test]
async fn a_new_password_ends_every_other_token_and_the_one_in_hand_lives_on() {
    let bench = Bench::new().await;
    bench.ada().await;
    let mine = bench.log_in(Api::Supabase).await;
    let phone = who(&bench.log_in(Api::App).await);
    let talk = bench.conversation().await;
    let new = password("battery staple", None);
    change(&bench, (Api::Supabase, who(&mine)), new)
        .await
        .unwrap();
    assert!(bench.is_alive(who(&mine)).await);
    assert!(!bench.is_alive(phone).await);
    assert!(!bench.token_is_alive(&talk.token).await);
    let old = bench.try_log_in(Api::Token, "ada", PASSWORD).await;
    assert_eq!(old.err(), Some(AccountError::InvalidCredentials));
    let page = who(&bench
        .try_log_in(Api::Token, "ada", "battery staple")
        .await
        .unwrap());

    // By an opaque token, the same.
    let client = Client::default();
    let login = crate::accounts::testing::login("ada", "battery staple");
    let talk = bench
        .accounts
        .log_in_conversation(login, &client)
        .await
        .unwrap();
    let in_hand = Who {
        user: talk.user.id,
        session: talk.session.id,
        token: Some(bench.number(&talk.token).await),
    };
    let new = password(PASSWORD, Some("battery staple"));
    change(&bench, (Api::Session, in_hand), new).await.unwrap();
    assert!(bench.token_is_alive(&talk.token).await);
    assert!(!bench.is_alive(page).await);
    assert!(!bench.is_alive(who(&mine)).await);
}

#[tokio::test]
async fn a_password_that_does_not_fit_changes_nothing() {
    let bench = Bench::new().await;
    bench.ada().await;
    let mine = who(&bench.log_in(Api::Token).await);
    let other = who(&bench.log_in(Api::Token).await);
    for (api, update, expected) in [
        (
            Api::Session,
            password("battery staple", None),
            "current_password_required",
        ),
        (
            Api::Session,
            password("battery staple", Some("wrong")),
            "current_password_wrong",
        ),
        (
            Api::Supabase,
            password("battery staple", Some("wrong")),
            "current_password_wrong",
        ),
        (
            Api::Session,
            password(PASSWORD, Some(PASSWORD)),
            "same_password",
        ),
        (Api::Supabase, password(PASSWORD, None), "same_password"),
        (Api::Supabase, password("short", None), "weak_password"),
    ] {
        let refused = change(&bench, (api, mine), update).await.unwrap_err();
        assert_eq!(refused.word(), expected);
    }
    assert!(bench.is_alive(other).await);
    bench.log_in(Api::Token).await;
}

#[tokio::test]
async fn metadata_is_merged_and_gives_no_rights() {
    let bench = Bench::new().await;
    bench.ada().await;
    let mine = who(&bench.log_in(Api::Supabase).await);
    let say = |said: serde_json::Value| UserUpdate {
        user_metadata: Some(said.as_object().unwrap().clone()),
        ..UserUpdate::default()
    };
    let update = |said| change(&bench, (Api::Supabase, mine), say(said));
    update(json!({"a": 1, "b": 2, "is_admin": true, "username": "root"}))
        .await
        .unwrap();
    let user = update(json!({"b": null, "c": 3})).await.unwrap();
    assert_eq!(json!(user.user_metadata), json!({"a": 1, "c": 3}));
    assert_eq!(&*user.username.unwrap().key, "ada");
    let long = update(json!({"note": "x".repeat(5000)})).await;
    assert_eq!(long.err(), Some(AccountError::MetadataTooLarge));
}

#[tokio::test]
async fn names_and_addresses_change_unless_they_are_anothers() {
    let bench = Bench::new().await;
    bench.ada().await;
    bench.register("eve", "eve@mail.example").await.unwrap();
    let mine = who(&bench.log_in(Api::Token).await);
    let name = |username: &str| UserUpdate {
        username: Some(username.to_owned()),
        ..UserUpdate::default()
    };
    let address = |email: &str| UserUpdate {
        email: Some(email.to_owned()),
        ..UserUpdate::default()
    };
    let update = |update| change(&bench, (Api::Token, mine), update);
    let taken = |what| Some(AccountError::UserExists(what));
    assert_eq!(update(name("EVE")).await.err(), taken(Unique::Username));
    assert_eq!(
        update(address("Eve@mail.example")).await.err(),
        taken(Unique::Email)
    );
    assert_eq!(
        &*update(name("ADA")).await.unwrap().username.unwrap().shown,
        "ADA"
    );
    let user = update(address("Lovelace@mail.example")).await.unwrap();
    assert_eq!(&*user.email.unwrap().0, "lovelace@mail.example");
    let old = bench
        .try_log_in(Api::Token, "ada@mail.example", PASSWORD)
        .await;
    assert!(old.is_err());
    let new = bench
        .try_log_in(Api::Token, "lovelace@mail.example", PASSWORD)
        .await;
    assert!(new.is_ok());
}

#[tokio::test]
async fn a_log_in_that_races_with_a_new_password_does_not_outlive_it() {
    let bench = Bench::new().await;
    bench.ada().await;
    let mine = who(&bench.log_in(Api::Supabase).await);
    let race = (0..8).map(|_| bench.try_log_in(Api::Token, "ada", PASSWORD));
    let race = futures_util::future::join_all(race);
    let new = change(
        &bench,
        (Api::Supabase, mine),
        password("battery staple", None),
    );
    let (raced, changed) = tokio::join!(race, new);
    changed.unwrap();
    for signed_in in raced.into_iter().flatten() {
        assert!(!bench.is_alive(who(&signed_in)).await);
    }
}
