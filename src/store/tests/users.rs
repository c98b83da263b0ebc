//! Users.

use serde_json::json;

use super::{Place, at_once, email, hash, named, session_of, somebody, username};
use crate::records::{Api, Code, CodeKind, Object, User, UserId};
use crate::secret::Secret;
use crate::store::{Change, NewUser, OldestFirst, StoreError, Unique, UserQuery, values};

fn object(value: serde_json::Value) -> Object {
    value.as_object().unwrap().clone()
}

pub(super) async fn a_user_is_kept_as_it_was_given(place: Place) {
    let new = NewUser {
        phone: Some("+491700".into()),
        password: Some(Secret::new("$argon2id$x".to_owned())),
        role: "service".into(),
        anonymous: true,
        banned_until: Some(i64::MAX),
        app_metadata: object(json!({"roles": ["admin"], "n": 12345678901234567890_u64})),
        user_metadata: object(
            json!({"full_name": "Zoë", "nul": "\u{0}", "deep": {"a": [1.5, null]}}),
        ),
        email_confirmed_at: Some(-5),
        phone_confirmed_at: Some(0),
        confirmation_sent_at: Some(7),
        ..named("Zoe")
    };
    let made = place.store.add_user(new.clone()).await.unwrap();
    assert!(made.number > 0);
    assert_eq!(made.username, new.username);
    assert_eq!(made.user_metadata, new.user_metadata);
    assert_eq!(made.updated_at, new.created_at);
    assert!(!made.disabled);
    assert_eq!(place.store.user(made.id).await.unwrap(), Some(made));
}

pub(super) async fn a_user_is_found_by_each_of_its_names(place: Place) {
    let new = NewUser {
        phone: Some("+49".into()),
        ..named("Ann")
    };
    let ann = Some(place.store.add_user(new).await.unwrap());
    place.user().await;
    let store = &place.store;
    assert_eq!(store.user_by_name("ann").await.unwrap(), ann);
    assert_eq!(
        store
            .user_by_email(&email("ann@example.com"))
            .await
            .unwrap(),
        ann
    );
    assert_eq!(store.user_by_phone("+49").await.unwrap(), ann);
    for nobody in ["Ann", "bob", "", "' OR 1=1 --", "a\u{0}nn"] {
        assert_eq!(
            store.user_by_name(nobody).await.unwrap(),
            None,
            "{nobody:?}"
        );
        assert_eq!(store.user_by_email(&email(nobody)).await.unwrap(), None);
        assert_eq!(store.user_by_phone(nobody).await.unwrap(), None);
    }
    assert_eq!(store.user(UserId(super::fresh())).await.unwrap(), None);
}

pub(super) async fn what_is_taken_is_named(place: Place) {
    let ann = NewUser {
        phone: Some("+49".into()),
        ..named("ann")
    };
    place.store.add_user(ann.clone()).await.unwrap();
    let same = |change: fn(&mut NewUser, NewUser)| {
        let mut new = somebody();
        change(&mut new, ann.clone());
        new
    };
    for (new, taken) in [
        (same(|new, ann| new.id = ann.id), Unique::Id),
        (
            same(|new, ann| new.username = ann.username),
            Unique::Username,
        ),
        (same(|new, ann| new.email = ann.email), Unique::Email),
        (same(|new, ann| new.phone = ann.phone), Unique::Phone),
    ] {
        let refused = place.store.add_user(new).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Taken(what) if what == taken),
            "{refused:?}"
        );
    }
}

pub(super) async fn one_of_two_wins_a_name(place: Place) {
    for round in 0..20 {
        let results = at_once(4, async |_| {
            place.store.add_user(named(&format!("ann{round}"))).await
        });
        let won = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1);
        let lost = |result: &Result<User, StoreError>| {
            matches!(
                result,
                Err(StoreError::Taken(Unique::Username | Unique::Email))
            )
        };
        assert_eq!(results.iter().filter(|result| lost(result)).count(), 3);
    }
}

pub(super) async fn a_change_is_written_and_its_ids_are_not(place: Place) {
    let ann = place.store.add_user(named("ann")).await.unwrap();
    let change = |user: &User| {
        Change::Write(User {
            id: UserId(super::fresh()),
            number: 99,
            username: Some(username("Anna")),
            email: None,
            phone: Some("+1".into()),
            password: Some(Secret::new("hash".to_owned())),
            role: "other".into(),
            disabled: true,
            banned_until: Some(1),
            user_metadata: object(json!({"a": 1})),
            invited_at: Some(8),
            recovery_sent_at: Some(2),
            reauthentication_sent_at: Some(3),
            email_change: Some((email("new@example.com"), 4)),
            last_sign_in_at: Some(5),
            updated_at: 6,
            deleted_at: Some(7),
            ..user.clone()
        })
    };
    let changed = place.store.change_user(ann.id, Box::new(change)).await;
    let changed = changed.unwrap().unwrap();
    assert_eq!((changed.id, changed.number), (ann.id, ann.number));
    assert_eq!(changed.email_change, Some((email("new@example.com"), 4)));
    assert_eq!(changed.invited_at, Some(8));
    assert_eq!(
        place.store.user(ann.id).await.unwrap(),
        Some(changed.clone())
    );
    let kept = place.store.change_user(ann.id, Box::new(|_| Change::Keep));
    assert_eq!(kept.await.unwrap(), Some(changed));
    let nobody = UserId(super::fresh());
    let never = place
        .store
        .change_user(nobody, Box::new(|_| Change::Delete));
    assert_eq!(never.await.unwrap(), None);
}

pub(super) async fn concurrent_changes_of_a_user_all_count(place: Place) {
    let user = place.user().await;
    at_once(8, async |_| {
        for _ in 0..10 {
            let change = |user: &User| {
                Change::Write(User {
                    updated_at: user.updated_at + 1,
                    ..user.clone()
                })
            };
            place
                .store
                .change_user(user.id, Box::new(change))
                .await
                .unwrap();
        }
    });
    let user = place.store.user(user.id).await.unwrap().unwrap();
    assert_eq!(user.updated_at, 1080);
}

pub(super) async fn a_change_to_a_taken_name_changes_nothing(place: Place) {
    place.store.add_user(named("ann")).await.unwrap();
    let bob = place.store.add_user(named("bob")).await.unwrap();
    let change = |user: &User| {
        Change::Write(User {
            username: Some(username("ann")),
            role: "admin".into(),
            ..user.clone()
        })
    };
    let refused = place.store.change_user(bob.id, Box::new(change)).await;
    assert!(matches!(refused, Err(StoreError::Taken(Unique::Username))));
    assert_eq!(place.store.user(bob.id).await.unwrap(), Some(bob));
}

pub(super) async fn a_deleted_user_takes_everything_with_it(place: Place) {
    let (user, session) = place.caller().await;
    let (other, kept) = place.caller().await;
    let token = hash();
    let store = &place.store;
    store.add_token(session.id, token, 1).await.unwrap();
    let code = Code {
        user: user.id,
        kind: CodeKind::Recovery,
        hash: hash(),
        link_hash: hash(),
        sent_to: email("a@example.com"),
        made_at: 1,
    };
    store.put_code(code.clone()).await.unwrap();
    store
        .put_job(super::jobs::claim(super::jobs::job(
            &user,
            Some(&session),
            "1",
        )))
        .await
        .unwrap();
    store
        .put_job(super::jobs::claim(super::jobs::job(&user, None, "2")))
        .await
        .unwrap();
    let deleted = store.change_user(user.id, Box::new(|_| Change::Delete));
    assert_eq!(deleted.await.unwrap(), None);
    assert_eq!(store.user(user.id).await.unwrap(), None);
    assert_eq!(store.session(session.id).await.unwrap(), None);
    assert_eq!(store.token_owner(token).await.unwrap(), None);
    let taken = store.take_code(None, CodeKind::Recovery, code.link_hash);
    assert_eq!(taken.await.unwrap(), None);
    for id in ["1", "2"] {
        assert_eq!(
            store
                .job(crate::records::JobKind::Job, "app", id)
                .await
                .unwrap(),
            None
        );
    }
    assert!(store.user(other.id).await.unwrap().is_some());
    assert!(store.session(kept.id).await.unwrap().is_some());
    let again = store.add_session(session_of(user.id, Api::App)).await;
    assert_eq!(again.unwrap(), None);
}

fn page(offset: u64, limit: u64, containing: Option<&str>) -> UserQuery {
    UserQuery {
        offset,
        limit,
        containing: containing.map(Into::into),
        oldest_first: OldestFirst::No,
    }
}

pub(super) async fn users_are_listed_in_pages(place: Place) {
    let mut ids = Vec::new();
    for at in [30, 10, 20, 20] {
        let new = NewUser {
            created_at: at,
            ..somebody()
        };
        ids.push(place.store.add_user(new).await.unwrap().id);
    }
    let list = async |query| {
        let (users, all) = place.store.users(query).await.unwrap();
        assert_eq!(all, 4);
        users.into_iter().map(|user| user.id).collect::<Vec<_>>()
    };
    let newest = [ids[0], ids[3], ids[2], ids[1]];
    assert_eq!(list(page(0, 10, None)).await, newest);
    assert_eq!(list(page(1, 2, None)).await, newest[1..3]);
    assert_eq!(list(page(9, 2, None)).await, []);
    assert_eq!(list(page(u64::MAX, u64::MAX, None)).await, []);
    let oldest_first = UserQuery {
        oldest_first: OldestFirst::Yes,
        ..page(0, 2, None)
    };
    assert_eq!(list(oldest_first).await, [ids[1], ids[2]]);
}

pub(super) async fn users_are_searched_in_any_case_and_literally(place: Place) {
    let zoe = NewUser {
        user_metadata: object(json!({"full_name": "ZOË Müller_100%"})),
        ..somebody()
    };
    let zoe = place.store.add_user(zoe).await.unwrap();
    let ann = place.store.add_user(named("Ann")).await.unwrap();
    for (text, found) in [
        ("zoë mÜ", Some(zoe.id)),
        ("r_1", Some(zoe.id)),
        ("00%", Some(zoe.id)),
        ("ANN", Some(ann.id)),
        ("n@exam", Some(ann.id)),
        ("o_", None),
        ("%m", None),
        ("\\", None),
        ("' OR '1", None),
        ("\u{0}", None),
    ] {
        let (users, count) = place.store.users(page(0, 10, Some(text))).await.unwrap();
        let ids: Vec<_> = users.iter().map(|user| user.id).collect();
        assert_eq!(ids, Vec::from_iter(found), "{text:?}");
        assert_eq!(count, ids.len() as u64);
    }
    let (all, _) = place.store.users(page(0, 10, Some(""))).await.unwrap();
    assert_eq!(all.len(), 2);
    let long = "x".repeat(200_000);
    let (none, count) = place.store.users(page(0, 10, Some(&long))).await.unwrap();
    assert_eq!((none.len(), count), (0, 0));
}

pub(super) async fn users_are_added_together_or_not_at_all(place: Place) {
    let store = &place.store;
    let row = |name: &str| User {
        disabled: name == "bob",
        last_sign_in_at: Some(5),
        ..values::new_user(named(name))
    };
    let (ada, bob) = (row("ada"), row("bob"));
    let added = store.add_users(vec![ada.clone(), bob.clone()]).await;
    assert_eq!(added.unwrap(), 2);
    let kept = store.user(bob.id).await.unwrap().unwrap();
    assert!(kept.disabled && kept.number > 0 && kept.last_sign_in_at == Some(5));
    let (eve, second) = (row("eve"), row("ADA"));
    let refused = store.add_users(vec![eve.clone(), second]).await;
    assert!(matches!(refused, Err(StoreError::Taken(_))), "{refused:?}");
    assert!(store.user(eve.id).await.unwrap().is_none());
}

pub(super) async fn numbers_are_never_given_twice(place: Place) {
    let mut last = 0;
    for _ in 0..3 {
        let user = place.user().await;
        assert!(user.number > last);
        last = user.number;
        let delete = place
            .store
            .change_user(user.id, Box::new(|_| Change::Delete));
        delete.await.unwrap();
    }
}

pub(super) async fn odd_texts_are_kept(place: Place) {
    for (at, text) in ["'; DROP TABLE users; --", "\u{FFFD}\u{1F600}", "%_\\", ""]
        .into_iter()
        .enumerate()
    {
        let new = NewUser {
            username: Some(username(text)),
            phone: Some(format!("{at}").into()),
            role: text.into(),
            ..somebody()
        };
        let made = place.store.add_user(new).await.unwrap();
        let found = place
            .store
            .user_by_name(&text.to_lowercase())
            .await
            .unwrap();
        assert_eq!(found, Some(made));
    }
    let nul = NewUser {
        username: Some(username("a\u{0}b")),
        ..somebody()
    };
    place.store.add_user(nul).await.unwrap();
    let found = place.store.user_by_name("a\u{0}b").await.unwrap().unwrap();
    assert_eq!(&*found.username.unwrap().shown, "a\u{FFFD}b");
}
