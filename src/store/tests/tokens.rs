//! Opaque session tokens.

use super::{Place, fresh, hash};
use crate::records::{Api, SessionId};
use crate::state::Ended;
use crate::store::{Change, Sessions, Tokens};

pub(super) async fn a_token_stands_for_its_session_and_user(place: Place) {
    let (user, session) = place.caller().await;
    let secret = hash();
    let token = place.store.add_token(session.id, secret, 5).await.unwrap();
    let token = token.unwrap();
    assert_eq!((token.session, token.user), (session.id, user.id));
    let owner = place.store.token_owner(secret).await.unwrap().unwrap();
    assert_eq!(
        (owner.token, owner.session, owner.user),
        (token, session, user)
    );
    assert_eq!(place.store.token_owner(hash()).await.unwrap(), None);
}

pub(super) async fn a_session_that_ended_gets_no_token(place: Place) {
    let (_, session) = place.caller().await;
    let store = &place.store;
    let none = store.add_token(SessionId(fresh()), hash(), 5).await;
    assert_eq!(none.unwrap(), None);
    let before = hash();
    store.add_token(session.id, before, 5).await.unwrap();
    store
        .end_sessions(Sessions::One(session.id), 6)
        .await
        .unwrap();
    assert_eq!(store.add_token(session.id, hash(), 7).await.unwrap(), None);
    // Whoever asks sees that it ended.
    let owner = store.token_owner(before).await.unwrap().unwrap();
    assert_eq!(owner.session.ended_at, Some(6));
}

pub(super) async fn tokens_are_revoked_one_by_one_and_together(place: Place) {
    let (user, first) = place.caller().await;
    let second = place.session(&user, Api::Session).await;
    let (_, strange) = place.caller().await;
    let store = &place.store;
    let add = async |session| {
        store
            .add_token(session, hash(), 1)
            .await
            .unwrap()
            .unwrap()
            .number
    };
    let revoke = async |which| {
        let mut revoked = store.revoke_tokens(which).await.unwrap();
        revoked.sort_unstable();
        revoked
    };
    let (a, b) = (add(first.id).await, add(first.id).await);
    let (c, d) = (add(second.id).await, add(second.id).await);
    let stranger = add(strange.id).await;
    assert_eq!(revoke(Tokens::One(a)).await, [a]);
    assert!(revoke(Tokens::One(a)).await.is_empty());
    assert_eq!(revoke(Tokens::OfSession(first.id)).await, [b]);
    assert_eq!(revoke(Tokens::Others(user.id, d)).await, [c]);
    assert_eq!(revoke(Tokens::All(user.id)).await, [d]);
    assert!(
        add(first.id).await > stranger,
        "numbers are never given twice"
    );
    assert_eq!(revoke(Tokens::One(stranger)).await, [stranger]);
}

pub(super) async fn a_deleted_session_takes_its_tokens_with_it(place: Place) {
    let (_, session) = place.caller().await;
    let secret = hash();
    place.store.add_token(session.id, secret, 1).await.unwrap();
    let delete = place
        .store
        .change_session(session.id, Box::new(|_, _| Change::Delete));
    delete.await.unwrap();
    assert_eq!(place.store.token_owner(secret).await.unwrap(), None);
}

pub(super) async fn tokens_beyond_so_many_are_revoked(place: Place) {
    let (user, first) = place.caller().await;
    let second = place.session(&user, Api::Session).await;
    let (_, strange) = place.caller().await;
    let store = &place.store;
    let mut numbers = Vec::new();
    for session in [first.id, second.id, strange.id, first.id] {
        let token = store.add_token(session, hash(), 1).await.unwrap();
        numbers.push(token.unwrap().number);
    }
    // Each is a token more.
    let resume = async |most| {
        let opened = store.resume_session(user.id, hash(), 2000, most);
        opened.await.unwrap().unwrap().surplus
    };
    assert_eq!(resume(4).await, []);
    assert_eq!(resume(4).await, [Ended::Token(numbers[0])]);
    let ended = [Ended::Token(numbers[1]), Ended::Token(numbers[3])];
    let revoked = resume(3).await;
    assert_eq!(revoked.len(), 2);
    assert!(ended.iter().all(|it| revoked.contains(it)), "{revoked:?}");
}
