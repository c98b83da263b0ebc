//! What an operator has refused, as one process tells others and those that come later.

use super::Place;
use crate::state::bans::{Banned, KEPT};

fn user(name: &str) -> Banned {
    Banned::User(name.into())
}

pub(super) async fn bans_come_back_in_their_order(place: Place) {
    let store = &place.store;
    assert_eq!(store.bans_after(0).await.unwrap(), []);
    let bans = [
        (user("用户"), 100),
        (Banned::Session("用户".into()), 90),
        (user("a"), 110),
    ];
    for (banned, since) in bans.clone() {
        store.add_ban(banned, since).await.unwrap();
    }
    let kept = store.bans_after(0).await.unwrap();
    assert!(kept.is_sorted_by_key(|kept| kept.0));
    let told: Vec<_> = kept.iter().map(|kept| (kept.1.clone(), kept.2)).collect();
    assert_eq!(told, bans);
    assert_eq!(store.bans_after(kept[1].0).await.unwrap(), kept[2..]);
    assert_eq!(store.bans_after(kept[2].0).await.unwrap(), []);
}

pub(super) async fn the_last_ban_of_the_same_stays(place: Place) {
    let store = &place.store;
    store.add_ban(user("a"), 100).await.unwrap();
    let seen = store.bans_after(0).await.unwrap()[0].0;
    store.add_ban(user("b"), 100).await.unwrap();
    store.add_ban(user("a"), 200).await.unwrap();
    let kept = store.bans_after(0).await.unwrap();
    let told: Vec<_> = kept.iter().map(|kept| (kept.1.clone(), kept.2)).collect();
    assert_eq!(told, [(user("b"), 100), (user("a"), 200)]);
    // Who has looked already sees it, too.
    assert_eq!(store.bans_after(seen).await.unwrap(), kept);
    // A clock that goes behind takes nothing back.
    store.add_ban(user("a"), 150).await.unwrap();
    let kept = store.bans_after(0).await.unwrap();
    assert!(
        kept.iter()
            .any(|kept| (&kept.1, kept.2) == (&user("a"), 200))
    );
}

pub(super) async fn old_bans_are_forgotten(place: Place) {
    let store = &place.store;
    store.add_ban(user("a"), 1000).await.unwrap();
    store.add_ban(user("b"), 1000 + KEPT).await.unwrap();
    assert_eq!(store.bans_after(0).await.unwrap().len(), 2);
    let last = store.bans_after(0).await.unwrap()[1].0;
    store.add_ban(user("c"), 2000 + KEPT).await.unwrap();
    let kept = store.bans_after(0).await.unwrap();
    assert_eq!(kept.len(), 2);
    assert!(kept[1].0 > last, "a number is never given twice");
}
