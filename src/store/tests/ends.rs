//! What ended, as one process tells others.

use uuid::Uuid;

use super::Place;
use crate::records::{SessionId, UserId};
use crate::state::Ended;
use crate::store::ENDS_KEPT;

pub(super) async fn ends_come_back_in_their_order(place: Place) {
    let store = &place.store;
    assert_eq!(store.last_end().await.unwrap(), 0);
    let (user, session) = (UserId(Uuid::from_u128(1)), SessionId(Uuid::from_u128(2)));
    let ends = [
        Ended::Session(session),
        Ended::User(user),
        Ended::UserExceptSession(user, session),
        Ended::UserExceptToken(user, 7),
        Ended::Token(i64::MAX),
    ];
    for end in ends {
        store.note_end(end, 1000).await.unwrap();
    }
    let told = store.ends_after(0).await.unwrap();
    assert_eq!(told.iter().map(|told| told.1).collect::<Vec<_>>(), ends);
    assert!(told.is_sorted_by_key(|told| told.0));
    let last = store.last_end().await.unwrap();
    assert_eq!(told.last().map(|told| told.0), Some(last));
    assert_eq!(store.ends_after(told[2].0).await.unwrap(), told[3..]);
    assert_eq!(store.ends_after(last).await.unwrap(), []);
}

pub(super) async fn old_notes_of_ends_are_forgotten(place: Place) {
    let store = &place.store;
    store.note_end(Ended::Token(1), 1000).await.unwrap();
    store
        .note_end(Ended::Token(2), 1000 + ENDS_KEPT)
        .await
        .unwrap();
    assert_eq!(store.ends_after(0).await.unwrap().len(), 2);
    let first = store.last_end().await.unwrap();
    store
        .note_end(Ended::Token(3), 2000 + ENDS_KEPT)
        .await
        .unwrap();
    let kept = store.ends_after(0).await.unwrap();
    assert_eq!(
        kept.iter().map(|kept| kept.1).collect::<Vec<_>>(),
        [Ended::Token(2), Ended::Token(3)]
    );
    assert!(kept[1].0 > first, "a number is never given twice");
}
