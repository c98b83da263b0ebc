//! Upkeep, and opening a store.

use super::{Place, at_once, email, fresh, hash, named, session_of, somebody};
use crate::records::{Api, Code, CodeKind, UserId};
use crate::store::{NewSession, NewUser, PruneBefore, Pruned, Sessions, open};

pub(super) async fn what_is_of_use_is_not_pruned(place: Place) {
    let user = place.user().await;
    let store = &place.store;
    let add = async |api, at| {
        let new = NewSession {
            created_at: at,
            ..session_of(user.id, api)
        };
        store.add_session(new).await.unwrap().unwrap().session
    };
    let idle_conversation = add(Api::Session, 10).await;
    let idle_log_in = add(Api::Token, 10).await;
    let fresh_log_in = add(Api::Token, 100).await;
    let ended = add(Api::Session, 10).await;
    let ended_late = add(Api::App, 10).await;
    let with_job = add(Api::App, 10).await;
    store
        .put_job(super::jobs::claim(super::jobs::job(
            &user,
            Some(&with_job),
            "1",
        )))
        .await
        .unwrap();
    for (session, at) in [(&ended, 40), (&ended_late, 60), (&with_job, 40)] {
        store
            .end_sessions(Sessions::One(session.id), at)
            .await
            .unwrap();
    }
    for (kind, made_at) in [(CodeKind::Signup, 40), (CodeKind::Recovery, 60)] {
        let code = Code {
            user: user.id,
            kind,
            hash: hash(),
            link_hash: hash(),
            sent_to: email("a"),
            made_at,
        };
        store.put_code(code).await.unwrap();
    }
    let anonymous = |created_at| NewUser {
        anonymous: true,
        created_at,
        ..somebody()
    };
    let left = store.add_user(anonymous(40)).await.unwrap();
    store
        .put_job(super::jobs::claim(super::jobs::job(&left, None, "2")))
        .await
        .unwrap();
    let young = store.add_user(anonymous(60)).await.unwrap();
    let busy = store.add_user(anonymous(40)).await.unwrap();
    place.session(&busy, Api::Supabase).await;
    let before = PruneBefore {
        sessions: 50,
        codes: 50,
        anonymous: None,
    };
    let pruned = store.prune(before).await.unwrap();
    let wanted = Pruned {
        sessions: 2,
        codes: 1,
        ..Pruned::default()
    };
    assert_eq!(pruned, wanted);
    for gone in [&idle_log_in, &ended] {
        assert_eq!(store.session(gone.id).await.unwrap(), None);
    }
    for kept in [&idle_conversation, &fresh_log_in, &ended_late, &with_job] {
        assert!(store.session(kept.id).await.unwrap().is_some());
    }
    let before = PruneBefore {
        anonymous: Some(50),
        ..before
    };
    let wanted = Pruned {
        users: 1,
        jobs: 1,
        ..Pruned::default()
    };
    assert_eq!(store.prune(before).await.unwrap(), wanted);
    assert_eq!(store.prune(before).await.unwrap(), Pruned::default());
    assert_eq!(store.user(left.id).await.unwrap(), None);
    for kept in [user, young, busy] {
        assert!(store.user(kept.id).await.unwrap().is_some());
    }
}

pub(super) async fn a_store_can_be_pinged(place: Place) {
    place.store.ping().await.unwrap();
    assert!(["sqlite", "postgres"].contains(&place.store.engine()));
}

pub(super) async fn calls_are_answered_on_any_thread(place: Place) {
    let user = place.user().await;
    let found = at_once(16, async |_| {
        // A call whose caller left must not disturb others.
        let mut left = place.store.user(user.id);
        let once = std::future::poll_fn(|context| {
            std::task::Poll::Ready(left.as_mut().poll(context).is_ready())
        });
        once.await;
        drop(left);
        place.store.user(user.id).await.unwrap()
    });
    assert!(found.iter().all(|found| found.as_ref() == Some(&user)));
}

pub(super) async fn an_opened_store_has_what_was_written_before(place: Place) {
    let user = place.store.add_user(named("ann")).await.unwrap();
    let again = open(&place.config).unwrap();
    assert_eq!(again.user(user.id).await.unwrap(), Some(user.clone()));
    let Place {
        store,
        config,
        folder,
    } = place;
    drop((store, again));
    let store = open(&config).unwrap();
    assert_eq!(store.user(user.id).await.unwrap(), Some(user));
    assert_eq!(store.user(UserId(fresh())).await.unwrap(), None);
    drop((store, folder));
}

pub(super) async fn many_may_open_it_at_once(place: Place) {
    let users = at_once(6, async |at| {
        let store = open(&place.config).unwrap();
        store.add_user(named(&format!("user{at}"))).await.unwrap()
    });
    for user in users {
        assert!(place.store.user(user.id).await.unwrap().is_some());
    }
}
