//! Signing keys.

use super::{Place, at_once};
use crate::records::KeyRecord;

fn key(kid: &str, created_at: i64) -> KeyRecord {
    KeyRecord {
        kid: kid.into(),
        algorithm: "ES256".into(),
        sealed: [0, 255, 10].into(),
        created_at,
        signs_from: created_at + 10,
        verifies_until: None,
    }
}

pub(super) async fn one_of_a_race_adds_a_key(place: Place) {
    let added = at_once(6, async |at| {
        let key = key(&format!("k{at}"), 1);
        place.store.add_key(key, None, 0).await.unwrap()
    });
    assert_eq!(added.iter().filter(|added| **added).count(), 1);
    assert_eq!(place.store.keys().await.unwrap().len(), 1);
}

pub(super) async fn an_added_key_ends_those_before_it(place: Place) {
    let store = &place.store;
    assert_eq!(store.keys().await.unwrap(), []);
    assert!(store.add_key(key("a", 100), None, 1).await.unwrap());
    assert!(!store.add_key(key("b", 200), None, 2).await.unwrap());
    assert!(!store.add_key(key("b", 200), Some("x"), 2).await.unwrap());
    assert!(store.add_key(key("b", 200), Some("a"), 3).await.unwrap());
    // The newest is the last added, whatever the clock said.
    assert!(store.add_key(key("c", 50), Some("b"), 4).await.unwrap());
    let ended = |kid, created_at, verifies_until| KeyRecord {
        verifies_until,
        ..key(kid, created_at)
    };
    let keys = [
        ended("c", 50, None),
        ended("b", 200, Some(4)),
        ended("a", 100, Some(3)),
    ];
    assert_eq!(store.keys().await.unwrap(), keys);
}

pub(super) async fn keys_that_ended_are_removed(place: Place) {
    let store = &place.store;
    store.add_key(key("a", 1), None, 0).await.unwrap();
    store.add_key(key("b", 2), Some("a"), 1000).await.unwrap();
    assert_eq!(store.remove_keys(1000).await.unwrap(), 0);
    assert_eq!(store.remove_keys(1001).await.unwrap(), 1);
    assert_eq!(store.remove_keys(i64::MAX).await.unwrap(), 0);
    assert_eq!(store.keys().await.unwrap()[0].kid.as_ref(), "b");
}
