//! Sessions.

use std::net::IpAddr;

use super::{Place, at_once, fresh, hash, session_of};
use crate::records::{Api, Authentication, Client, Session, SessionId, UserId};
use crate::state::Ended;
use crate::store::{Change, NewSession, Sessions, SignIn, StoreError};

pub(super) async fn a_session_is_kept_as_it_was_given(place: Place) {
    let user = place.user().await;
    let token = hash();
    let new = NewSession {
        name: Some("Phone \u{0}".into()),
        client: Client {
            request_id: None,
            user_agent: Some("okhttp".into()),
            address: Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])),
        },
        authentication: Authentication {
            method: "otp".into(),
            at: 900,
        },
        refresh_counter: 3,
        token: Some(token),
        ..session_of(user.id, Api::Supabase)
    };
    let opened = place.store.add_session(new.clone()).await.unwrap().unwrap();
    assert_eq!((&opened.user, &*opened.surplus), (&user, &[][..]));
    let made = opened.session;
    assert_eq!(made.id, new.id);
    assert_eq!(made.client, new.client);
    assert_eq!((made.last_used_at, made.refresh_counter), (1000, 3));
    let (found, owner) = place.store.session(made.id).await.unwrap().unwrap();
    assert_eq!(found.name.as_deref(), Some("Phone \u{FFFD}"));
    assert_eq!(
        Session {
            name: made.name.clone(),
            ..found
        },
        made
    );
    assert_eq!(owner, user);
    let by_token = place.store.token_owner(token).await.unwrap().unwrap();
    assert_eq!(by_token.session.id, made.id);
}

pub(super) async fn a_session_of_nobody_is_not_made(place: Place) {
    let new = NewSession {
        token: Some(hash()),
        signs_in: SignIn::Yes,
        ..session_of(UserId(fresh()), Api::App)
    };
    let id = new.id;
    assert_eq!(place.store.add_session(new).await.unwrap(), None);
    assert_eq!(place.store.session(id).await.unwrap(), None);
}

pub(super) async fn a_log_in_is_noted_with_the_user(place: Place) {
    let user = place.user().await;
    place.session(&user, Api::App).await;
    let signed_in = async || {
        place
            .store
            .user(user.id)
            .await
            .unwrap()
            .unwrap()
            .last_sign_in_at
    };
    assert_eq!(signed_in().await, None);
    let new = NewSession {
        created_at: 2000,
        signs_in: SignIn::Yes,
        ..session_of(user.id, Api::App)
    };
    let opened = place.store.add_session(new).await.unwrap().unwrap();
    assert_eq!(signed_in().await, Some(2000));
    assert_eq!(opened.user.last_sign_in_at, Some(2000));
}

fn count_up(session: &Session) -> Change<Session> {
    Change::Write(Session {
        refresh_counter: session.refresh_counter + 1,
        ..session.clone()
    })
}

pub(super) async fn changes_of_a_session_are_serial(place: Place) {
    let (_, session) = place.caller().await;
    let seen = at_once(8, async |_| {
        let mut seen = Vec::new();
        for _ in 0..10 {
            let change = Box::new(|session: &Session, _: &_| count_up(session));
            let changed = place.store.change_session(session.id, change).await;
            seen.push(changed.unwrap().unwrap().refresh_counter);
        }
        seen
    });
    let mut seen: Vec<u64> = seen.into_iter().flatten().collect();
    seen.sort_unstable();
    assert_eq!(seen, Vec::from_iter(1..=80));
}

pub(super) async fn a_changed_session_keeps_its_owner(place: Place) {
    let (user, session) = place.caller().await;
    let change = |session: &Session, user: &crate::records::User| {
        assert_eq!(session.user, user.id);
        Change::Write(Session {
            id: SessionId(fresh()),
            number: 77,
            user: UserId(fresh()),
            api: Api::Token,
            name: Some("new".into()),
            refreshed_at: Some(5),
            ended_at: Some(6),
            last_used_at: 7,
            ..session.clone()
        })
    };
    let changed = place
        .store
        .change_session(session.id, Box::new(change))
        .await;
    let changed = changed.unwrap().unwrap();
    assert_eq!(changed.user, user.id);
    assert_eq!((changed.id, changed.number), (session.id, session.number));
    let (found, _) = place.store.session(session.id).await.unwrap().unwrap();
    assert_eq!(found, changed);
    assert_eq!((found.api, found.ended_at), (Api::Token, Some(6)));
    let keep = place
        .store
        .change_session(session.id, Box::new(|_, _| Change::Keep));
    assert_eq!(keep.await.unwrap(), Some(found));
    let delete = place
        .store
        .change_session(session.id, Box::new(|_, _| Change::Delete));
    assert_eq!(delete.await.unwrap(), None);
    let gone = place
        .store
        .change_session(session.id, Box::new(|_, _| Change::Keep));
    assert_eq!(gone.await.unwrap(), None);
}

pub(super) async fn the_last_used_conversation_is_resumed(place: Place) {
    let user = place.user().await;
    let other = place.user().await;
    let store = &place.store;
    let resume = async |now| store.resume_session(user.id, hash(), now, 5).await.unwrap();
    place.session(&other, Api::Session).await;
    place.session(&user, Api::App).await;
    assert_eq!(resume(1).await, None);
    let first = place.session(&user, Api::Session).await;
    let second = place.session(&user, Api::Session).await;
    let third = place.session(&user, Api::Session).await;
    let used = vec![(first.id, 2000), (second.id, 3000), (third.id, 4000)];
    store.touch_sessions(used).await.unwrap();
    store
        .end_sessions(Sessions::One(third.id), 5000)
        .await
        .unwrap();
    let token = hash();
    let opened = store.resume_session(user.id, token, 6000, 5).await.unwrap();
    let opened = opened.unwrap();
    let resumed = opened.session;
    assert_eq!((resumed.id, resumed.last_used_at), (second.id, 6000));
    let owner = store.token_owner(token).await.unwrap().unwrap();
    assert_eq!(owner.session, resumed);
    assert_eq!(owner.user, opened.user);
    assert_eq!(owner.user.last_sign_in_at, Some(6000));
    // A clock that goes back takes nothing back.
    assert_eq!(resume(100).await.unwrap().session.last_used_at, 6000);
}

pub(super) async fn sessions_of_a_user_are_listed(place: Place) {
    let (user, first) = place.caller().await;
    let second = place.session(&user, Api::App).await;
    let (stranger, _) = place.caller().await;
    let store = &place.store;
    store.touch_sessions(vec![(first.id, 5000)]).await.unwrap();
    store
        .end_sessions(Sessions::One(second.id), 1)
        .await
        .unwrap();
    for id in ["1", "2"] {
        let job = super::jobs::job(&user, Some(&first), id);
        store.put_job(super::jobs::claim(job)).await.unwrap();
    }
    let listed = store.sessions_of(user.id).await.unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|summary| {
            (
                summary.session.id,
                summary.job_count,
                summary.session.ended_at,
            )
        })
        .collect();
    assert_eq!(listed, [(first.id, 2, None), (second.id, 0, Some(1))]);
    let found = store
        .session_by_number(user.id, first.number)
        .await
        .unwrap();
    assert_eq!(found.unwrap().job_count, 2);
    let strange = store.session_by_number(stranger.id, first.number).await;
    assert_eq!(strange.unwrap(), None);
}

pub(super) async fn sessions_end_once(place: Place) {
    let (user, first) = place.caller().await;
    let second = place.session(&user, Api::App).await;
    let third = place.session(&user, Api::App).await;
    let (_, strange) = place.caller().await;
    let store = &place.store;
    let end = async |which, now| {
        let mut ended = store.end_sessions(which, now).await.unwrap();
        ended.sort_unstable();
        ended
    };
    let mut others = [second.id, third.id];
    others.sort_unstable();
    assert_eq!(end(Sessions::Others(user.id, first.id), 10).await, others);
    assert_eq!(end(Sessions::All(user.id), 20).await, [first.id]);
    assert_eq!(end(Sessions::All(user.id), 30).await, []);
    assert_eq!(end(Sessions::One(first.id), 40).await, []);
    assert_eq!(end(Sessions::One(SessionId(fresh())), 40).await, []);
    let (first, _) = store.session(first.id).await.unwrap().unwrap();
    assert_eq!(first.ended_at, Some(20));
    let (strange, _) = store.session(strange.id).await.unwrap().unwrap();
    assert_eq!(strange.ended_at, None);
}

pub(super) async fn the_time_of_use_never_goes_back(place: Place) {
    let (user, first) = place.caller().await;
    let second = place.session(&user, Api::App).await;
    let gone = SessionId(fresh());
    let used = vec![
        (first.id, 3000),
        (second.id, 500),
        (gone, 9000),
        (first.id, 2000),
    ];
    place.store.touch_sessions(used).await.unwrap();
    place.store.touch_sessions(Vec::new()).await.unwrap();
    let last = async |id| {
        place
            .store
            .session(id)
            .await
            .unwrap()
            .unwrap()
            .0
            .last_used_at
    };
    assert_eq!(last(first.id).await, 3000);
    assert_eq!(last(second.id).await, 1000);
}

pub(super) async fn a_panic_in_a_change_harms_nobody_else(place: Place) {
    let (_, session) = place.caller().await;
    let change = place
        .store
        .change_session(session.id, Box::new(|_, _| panic!("a bug")));
    assert!(matches!(change.await, Err(StoreError::Broken(_))));
    let change = Box::new(|session: &Session, _: &_| count_up(session));
    let changed = place.store.change_session(session.id, change).await;
    assert_eq!(changed.unwrap().unwrap().refresh_counter, 1);
}

pub(super) async fn log_ins_end_together_and_conversations_stay(place: Place) {
    let (user, talk) = place.caller().await;
    let (_, strange) = place.caller().await;
    let mut log_ins = Vec::new();
    for api in [Api::App, Api::Token, Api::Supabase] {
        log_ins.push(place.session(&user, api).await.id);
    }
    let store = &place.store;
    let end = async |which| {
        let mut ended = store.end_sessions(which, 10).await.unwrap();
        ended.sort_unstable();
        ended
    };
    let mut others = log_ins[1..].to_vec();
    others.sort_unstable();
    assert_eq!(
        end(Sessions::OtherLogIns(user.id, log_ins[0])).await,
        others
    );
    assert_eq!(end(Sessions::LogIns(user.id)).await, [log_ins[0]]);
    assert_eq!(end(Sessions::LogIns(user.id)).await, []);
    for id in [talk.id, strange.id] {
        let (stays, _) = store.session(id).await.unwrap().unwrap();
        assert_eq!(stays.ended_at, None);
    }
}

pub(super) async fn sessions_beyond_so_many_end(place: Place) {
    let user = place.user().await;
    let (_, strange) = place.caller().await;
    let store = &place.store;
    let mut sessions = Vec::new();
    for (api, used) in [
        (Api::App, 5000),
        (Api::Session, 3000),
        (Api::Token, 4000),
        (Api::App, 3000),
    ] {
        let session = place.session(&user, api).await.id;
        store.touch_sessions(vec![(session, used)]).await.unwrap();
        sessions.push(session);
    }
    // Each is a session more.
    let log_in = async |most| {
        let new = NewSession {
            created_at: 6000,
            most,
            ..session_of(user.id, Api::Token)
        };
        let opened = store.add_session(new).await.unwrap().unwrap();
        let found = store.session(opened.session.id).await.unwrap().unwrap();
        assert_eq!(found.0, opened.session);
        opened.surplus
    };
    assert_eq!(log_in(5).await, []);
    // Of two that were last used at once, the older goes.
    assert_eq!(log_in(5).await, [Ended::Session(sessions[1])]);
    let ended = log_in(4).await;
    assert_eq!(ended.len(), 2);
    for session in [sessions[2], sessions[3]] {
        assert!(ended.contains(&Ended::Session(session)), "{ended:?}");
        let (session, _) = store.session(session).await.unwrap().unwrap();
        assert_eq!(session.ended_at, Some(6000));
    }
    let (strange, _) = store.session(strange.id).await.unwrap().unwrap();
    assert_eq!(strange.ended_at, None);
}
