//! One-time codes.

use super::{Place, at_once, email, hash};
use crate::records::{Code, CodeKind, User};

fn code(user: &User, kind: CodeKind) -> Code {
    Code {
        user: user.id,
        kind,
        hash: hash(),
        link_hash: hash(),
        sent_to: email("ann@example.com"),
        made_at: 5,
    }
}

pub(super) async fn a_code_is_good_once(place: Place) {
    let (user, other) = (place.user().await, place.user().await);
    let store = &place.store;
    for by_link in [false, true] {
        let code = code(&user, CodeKind::Signup);
        let secret = if by_link { code.link_hash } else { code.hash };
        store.put_code(code.clone()).await.unwrap();
        let take = async |user, kind, hash| store.take_code(user, kind, hash).await.unwrap();
        assert_eq!(take(Some(other.id), CodeKind::Signup, secret).await, None);
        assert_eq!(take(Some(user.id), CodeKind::Recovery, secret).await, None);
        assert_eq!(take(Some(user.id), CodeKind::Signup, hash()).await, None);
        let taken = take(Some(user.id), CodeKind::Signup, secret).await;
        assert_eq!(taken, Some(code));
        assert_eq!(take(Some(user.id), CodeKind::Signup, secret).await, None);
    }
}

pub(super) async fn a_code_is_good_for_one_of_a_race(place: Place) {
    let user = place.user().await;
    for _ in 0..10 {
        let code = code(&user, CodeKind::Magiclink);
        place.store.put_code(code.clone()).await.unwrap();
        let taken = at_once(4, async |_| {
            let take = place.store.take_code(Some(user.id), code.kind, code.hash);
            take.await.unwrap()
        });
        assert_eq!(taken.iter().flatten().count(), 1);
    }
}

pub(super) async fn a_new_code_replaces_the_last_of_its_kind(place: Place) {
    let user = place.user().await;
    let store = &place.store;
    let (first, second) = (
        code(&user, CodeKind::Recovery),
        code(&user, CodeKind::Recovery),
    );
    let other_kind = code(&user, CodeKind::Reauthentication);
    for code in [&first, &other_kind, &second] {
        store.put_code(code.clone()).await.unwrap();
    }
    let take = async |code: &Code| store.take_code(Some(user.id), code.kind, code.hash).await;
    assert_eq!(take(&first).await.unwrap(), None);
    assert_eq!(take(&second).await.unwrap(), Some(second));
    assert_eq!(take(&other_kind).await.unwrap(), Some(other_kind));
}

pub(super) async fn a_link_says_whose_it_is(place: Place) {
    let user = place.user().await;
    let code = code(&user, CodeKind::EmailChange);
    let store = &place.store;
    store.put_code(code.clone()).await.unwrap();
    // The short code alone says nothing of whose it is.
    let short = store.take_code(None, code.kind, code.hash).await.unwrap();
    assert_eq!(short, None);
    let taken = store.take_code(None, code.kind, code.link_hash).await;
    assert_eq!(taken.unwrap(), Some(code));
}

pub(super) async fn codes_can_be_voided(place: Place) {
    let user = place.user().await;
    let code = code(&user, CodeKind::Signup);
    place.store.put_code(code.clone()).await.unwrap();
    place.store.void_codes(user.id).await.unwrap();
    let taken = place.store.take_code(Some(user.id), code.kind, code.hash);
    assert_eq!(taken.await.unwrap(), None);
}
