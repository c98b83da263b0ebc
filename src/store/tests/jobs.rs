//! Jobs of upstreams.

use serde_json::json;

use super::{Place, at_once};
use crate::records::{Job, Object, Session, User};
use crate::store::Change;

pub(super) fn job(user: &User, session: Option<&Session>, id: &str) -> Job {
    Job {
        job_id: id.into(),
        upstream: "app".into(),
        user: user.id,
        session: session.map(|session| session.id),
        status: Some("queued".into()),
        progress: None,
        extra: Object::new(),
        created_at: 10,
        updated_at: 10,
    }
}

pub(super) async fn the_first_owner_of_a_job_stays(place: Place) {
    let (ann, session) = place.caller().await;
    let (bob, other) = place.caller().await;
    let store = &place.store;
    let mine = job(&ann, Some(&session), "1");
    assert_eq!(store.put_job(mine.clone()).await.unwrap(), mine);
    let theirs = Job {
        status: Some("stolen".into()),
        updated_at: 99,
        ..job(&bob, Some(&other), "1")
    };
    assert_eq!(store.put_job(theirs).await.unwrap(), mine);
    assert_eq!(store.job("app", "1").await.unwrap(), Some(mine));
    assert_eq!(store.job("other", "1").await.unwrap(), None);
    let elsewhere = Job {
        upstream: "other".into(),
        ..job(&bob, Some(&other), "1")
    };
    assert_eq!(store.put_job(elsewhere.clone()).await.unwrap(), elsewhere);
}

pub(super) async fn one_of_a_race_owns_a_job(place: Place) {
    let users = [place.user().await, place.user().await];
    for round in 0..20 {
        let id = round.to_string();
        let kept = at_once(4, async |at| {
            let put = place.store.put_job(job(&users[at % 2], None, &id));
            put.await.unwrap()
        });
        assert!(kept.iter().all(|job| job.user == kept[0].user));
    }
}

pub(super) async fn what_is_new_of_a_job_is_kept(place: Place) {
    let (user, session) = place.caller().await;
    let store = &place.store;
    let object = |value: serde_json::Value| value.as_object().unwrap().clone();
    let first = Job {
        extra: object(json!({"a": 1, "b": {"c": "\u{0}"}})),
        ..job(&user, None, "1")
    };
    store.put_job(first.clone()).await.unwrap();
    let news = Job {
        status: None,
        progress: Some(json!("50 %")),
        extra: object(json!({"a": 2, "d": null})),
        created_at: 99,
        updated_at: 20,
        ..job(&user, Some(&session), "1")
    };
    let kept = store.put_job(news).await.unwrap();
    let wanted = Job {
        progress: Some(json!("50 %")),
        extra: object(json!({"a": 2, "b": {"c": "\u{0}"}, "d": null})),
        session: Some(session.id),
        updated_at: 20,
        ..first
    };
    assert_eq!(kept, wanted);
    let late = Job {
        status: Some("done".into()),
        progress: Some(json!(1)),
        updated_at: 15,
        ..job(&user, None, "1")
    };
    let kept = store.put_job(late).await.unwrap();
    assert_eq!(
        (kept.status.as_deref(), kept.updated_at),
        (Some("done"), 20)
    );
    assert_eq!(store.job("app", "1").await.unwrap(), Some(kept));
}

pub(super) async fn jobs_of_a_session_go_with_it(place: Place) {
    let (user, session) = place.caller().await;
    let other = place.session(&user, crate::records::Api::Session).await;
    let store = &place.store;
    for (id, at) in [("old", 1), ("new", 3), ("mid", 2), ("new2", 3)] {
        let job = Job {
            created_at: at,
            ..job(&user, Some(&session), id)
        };
        store.put_job(job).await.unwrap();
    }
    store
        .put_job(job(&user, Some(&other), "other"))
        .await
        .unwrap();
    let listed = async |limit| {
        let jobs = store.jobs_of(session.id, limit).await.unwrap();
        jobs.iter()
            .map(|job| job.job_id.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(10).await, ["new2", "new", "mid", "old"]);
    assert_eq!(listed(2).await, ["new2", "new"]);
    let delete = store.change_session(session.id, Box::new(|_, _| Change::Delete));
    delete.await.unwrap();
    assert!(listed(10).await.is_empty());
    assert_eq!(store.job("app", "old").await.unwrap(), None);
    assert!(store.job("app", "other").await.unwrap().is_some());
}

pub(super) async fn a_job_of_a_session_that_is_gone_is_kept(place: Place) {
    let (user, session) = place.caller().await;
    let store = &place.store;
    let delete = store.change_session(session.id, Box::new(|_, _| Change::Delete));
    delete.await.unwrap();
    let wanted = job(&user, None, "1");
    for _ in 0..2 {
        let kept = store.put_job(job(&user, Some(&session), "1")).await;
        assert_eq!(kept.unwrap(), wanted);
    }
}
