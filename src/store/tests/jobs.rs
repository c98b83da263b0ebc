//! Jobs of upstreams, and whose they are.

use serde_json::json;

use super::{Place, at_once};
use crate::records::{Job, JobKind, Object, Outsider, Owner, Session, User, UserId};
use crate::store::{Change, Claim, JobNews, JobsPruned, Kept};

pub(super) fn job(user: &User, session: Option<&Session>, id: &str) -> Job {
    Job {
        kind: JobKind::Job,
        space: "app".into(),
        job_id: id.into(),
        owner: Owner {
            user: user.id,
            outside: None,
            session: session.map(|session| session.id),
            outside_session: None,
        },
        status: Some("queued".into()),
        progress: None,
        extra: Object::new(),
        created_at: 10,
        updated_at: 10,
    }
}

pub(super) fn claim(job: Job) -> JobNews {
    JobNews {
        job,
        files: Vec::new(),
        claim: Claim::Yes,
    }
}

fn with_files(job: Job, files: &[&str]) -> JobNews {
    JobNews {
        files: files.iter().map(|file| (*file).into()).collect(),
        ..claim(job)
    }
}

fn mine(job: Job) -> Kept {
    Kept::Mine {
        job: Box::new(job),
        lost: Vec::new(),
    }
}

fn its(kept: Kept) -> Job {
    match kept {
        Kept::Mine { job, .. } => *job,
        other => panic!("{other:?}"),
    }
}

async fn found(place: &Place, kind: JobKind, id: &str) -> Option<Job> {
    place.store.job(kind, "app", id).await.unwrap()
}

pub(super) async fn the_first_owner_of_a_job_stays(place: Place) {
    let (ann, session) = place.caller().await;
    let (bob, other) = place.caller().await;
    let store = &place.store;
    let first = job(&ann, Some(&session), "1");
    assert_eq!(
        store.put_job(claim(first.clone())).await.unwrap(),
        mine(first.clone())
    );
    let theirs = Job {
        status: Some("stolen".into()),
        updated_at: 99,
        ..job(&bob, Some(&other), "1")
    };
    assert_eq!(store.put_job(claim(theirs)).await.unwrap(), Kept::Anothers);
    assert_eq!(found(&place, JobKind::Job, "1").await, Some(first));
    assert_eq!(store.job(JobKind::Job, "other", "1").await.unwrap(), None);
    assert_eq!(found(&place, JobKind::File, "1").await, None);
    for (kind, space) in [(JobKind::Job, "other"), (JobKind::Client, "app")] {
        let elsewhere = Job {
            kind,
            space: space.into(),
            ..job(&bob, Some(&other), "1")
        };
        let kept = store.put_job(claim(elsewhere.clone())).await.unwrap();
        assert_eq!(kept, mine(elsewhere));
    }
}

pub(super) async fn one_of_a_race_owns_a_job(place: Place) {
    let users = [place.user().await, place.user().await];
    for round in 0..20 {
        let id = round.to_string();
        let kept = at_once(4, async |at| {
            let put = place.store.put_job(claim(job(&users[at % 2], None, &id)));
            (at % 2, put.await.unwrap())
        });
        let owner = found(&place, JobKind::Job, &id).await.unwrap().owner.user;
        for (user, kept) in kept {
            let its = matches!(kept, Kept::Mine { .. });
            assert_eq!(its, users[user].id == owner, "{kept:?}");
        }
    }
}

pub(super) async fn what_nobody_owns_is_not_made_by_news_of_it(place: Place) {
    let user = place.user().await;
    let news = JobNews {
        claim: Claim::No,
        ..claim(job(&user, None, "1"))
    };
    let kept = place.store.put_job(news.clone()).await.unwrap();
    assert_eq!(kept, Kept::Nobodys);
    assert_eq!(found(&place, JobKind::Job, "1").await, None);
    place
        .store
        .put_job(claim(job(&user, None, "1")))
        .await
        .unwrap();
    let done = Job {
        status: Some("done".into()),
        ..news.job
    };
    let news = JobNews {
        job: done.clone(),
        ..news
    };
    assert_eq!(place.store.put_job(news).await.unwrap(), mine(done));
}

pub(super) async fn users_of_other_issuers_own_jobs(place: Place) {
    let stand_in = UserId(uuid::Uuid::from_u128(7));
    let outside = |issuer: &str, session: Option<&str>| Owner {
        user: stand_in,
        outside: Some(Outsider {
            issuer: issuer.into(),
            subject: "sub".into(),
        }),
        session: None,
        outside_session: session.map(Into::into),
    };
    let user = place.user().await;
    let of = |owner: Owner| Job {
        owner,
        ..job(&user, None, "1")
    };
    let first = of(outside("a", None));
    let kept = place.store.put_job(claim(first.clone())).await.unwrap();
    assert_eq!(kept, mine(first));
    // The stand-in alone makes nobody the same.
    for owner in [
        outside("b", None),
        Owner {
            outside: None,
            ..outside("a", None)
        },
    ] {
        let kept = place.store.put_job(claim(of(owner))).await.unwrap();
        assert_eq!(kept, Kept::Anothers);
    }
    let later = of(outside("a", Some("s1")));
    let kept = place.store.put_job(claim(later.clone())).await.unwrap();
    assert_eq!(kept, mine(later.clone()));
    assert_eq!(found(&place, JobKind::Job, "1").await, Some(later));
}

pub(super) async fn what_is_new_of_a_job_is_kept(place: Place) {
    let (user, session) = place.caller().await;
    let store = &place.store;
    let object = |value: serde_json::Value| value.as_object().unwrap().clone();
    let first = Job {
        extra: object(json!({"a": 1, "b": {"c": "\u{0}", "e": 1}})),
        ..job(&user, None, "1")
    };
    store.put_job(claim(first.clone())).await.unwrap();
    let news = Job {
        status: None,
        progress: Some(json!("50 %")),
        extra: object(json!({"a": 2, "b": {"e": 2, "f": 3}, "d": null})),
        created_at: 99,
        updated_at: 20,
        ..job(&user, Some(&session), "1")
    };
    let kept = its(store.put_job(claim(news)).await.unwrap());
    let wanted = Job {
        progress: Some(json!("50 %")),
        extra: object(json!({"a": 2, "b": {"c": "\u{0}", "e": 2, "f": 3}, "d": null})),
        owner: job(&user, Some(&session), "1").owner,
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
    let kept = its(store.put_job(claim(late)).await.unwrap());
    assert_eq!(
        (kept.status.as_deref(), kept.updated_at),
        (Some("done"), 20)
    );
    assert_eq!(found(&place, JobKind::Job, "1").await, Some(kept));
}

pub(super) async fn files_are_their_job_s_owner_s(place: Place) {
    let (ann, session) = place.caller().await;
    let bob = place.user().await;
    let put = async |news| place.store.put_job(news).await.unwrap();
    let hers = job(&ann, Some(&session), "1");
    put(with_files(hers.clone(), &["a", "b"])).await;
    let file = found(&place, JobKind::File, "a").await.unwrap();
    assert_eq!(file.owner, hers.owner);
    // Told again, with one more.
    assert_eq!(put(with_files(hers.clone(), &["a", "c"])).await, mine(hers));
    let his = job(&bob, None, "2");
    let lost = Kept::Mine {
        job: Box::new(his.clone()),
        lost: vec!["a".into()],
    };
    assert_eq!(put(with_files(his.clone(), &["a", "d"])).await, lost);
    // Nothing comes of another's job.
    let stolen = with_files(job(&bob, None, "1"), &["e"]);
    assert_eq!(put(stolen).await, Kept::Anothers);
    assert_eq!(found(&place, JobKind::File, "e").await, None);
    for (name, owner) in [("a", &ann), ("b", &ann), ("c", &ann), ("d", &bob)] {
        let file = found(&place, JobKind::File, name).await.unwrap();
        assert_eq!(file.owner.user, owner.id, "{name}");
    }
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
        let file = format!("{id}.png");
        store.put_job(with_files(job, &[&file])).await.unwrap();
    }
    let client = Job {
        kind: JobKind::Client,
        ..job(&user, Some(&session), "tab")
    };
    store.put_job(claim(client)).await.unwrap();
    store
        .put_job(claim(job(&user, Some(&other), "other")))
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
    let summaries = store.sessions_of(user.id).await.unwrap();
    let counts: Vec<u64> = summaries.iter().map(|it| it.job_count).collect();
    assert_eq!(counts.iter().sum::<u64>(), 5);
    let delete = store.change_session(session.id, Box::new(|_, _| Change::Delete));
    delete.await.unwrap();
    assert!(listed(10).await.is_empty());
    for (kind, id) in [
        (JobKind::Job, "old"),
        (JobKind::File, "old.png"),
        (JobKind::Client, "tab"),
    ] {
        assert_eq!(found(&place, kind, id).await, None, "{id}");
        assert!(store.job_is_gone(kind, "app", id).await.unwrap(), "{id}");
    }
    assert!(found(&place, JobKind::Job, "other").await.is_some());
    for (space, id) in [("app", "other"), ("app", "never"), ("other", "old")] {
        let gone = store.job_is_gone(JobKind::Job, space, id).await.unwrap();
        assert!(!gone, "{space} {id}");
    }
}

pub(super) async fn a_job_of_a_session_that_is_gone_is_kept(place: Place) {
    let (user, session) = place.caller().await;
    let store = &place.store;
    let delete = store.change_session(session.id, Box::new(|_, _| Change::Delete));
    delete.await.unwrap();
    let wanted = job(&user, None, "1");
    for _ in 0..2 {
        let kept = store.put_job(claim(job(&user, Some(&session), "1"))).await;
        assert_eq!(kept.unwrap(), mine(wanted.clone()));
    }
}

pub(super) async fn old_jobs_and_too_many_of_one_user_are_removed(place: Place) {
    let (ann, bob) = (place.user().await, place.user().await);
    let store = &place.store;
    for (user, name) in [(&ann, "a"), (&bob, "b")] {
        for at in 0..5_i64 {
            let job = Job {
                created_at: at,
                updated_at: at * 10,
                ..job(user, None, &format!("{name}{at}"))
            };
            let file = format!("{name}{at}.png");
            store.put_job(with_files(job, &[&file])).await.unwrap();
        }
    }
    let left = async || {
        let mut left = Vec::new();
        for name in ["a", "b"] {
            for at in 0..5 {
                let id = format!("{name}{at}");
                let job = found(&place, JobKind::Job, &id).await;
                let file = found(&place, JobKind::File, &format!("{id}.png")).await;
                assert_eq!(job.is_some(), file.is_some());
                left.extend(job.map(|job| job.job_id.to_string()));
            }
        }
        left.join(" ")
    };
    let nothing = JobsPruned {
        before: None,
        most: None,
        forget: 0,
    };
    assert_eq!(store.prune_jobs(nothing).await.unwrap(), 0);
    let old = JobsPruned {
        before: Some(10),
        ..nothing
    };
    assert_eq!(store.prune_jobs(old).await.unwrap(), 2);
    assert_eq!(left().await, "a1 a2 a3 a4 b1 b2 b3 b4");
    store.put_job(claim(job(&bob, None, "b5"))).await.unwrap();
    let many = JobsPruned {
        most: Some(4),
        ..nothing
    };
    assert_eq!(store.prune_jobs(many).await.unwrap(), 1);
    assert_eq!(left().await, "a1 a2 a3 a4 b2 b3 b4");
    assert!(store.job_is_gone(JobKind::Job, "app", "a0").await.unwrap());
    let all = JobsPruned {
        forget: i64::MAX,
        ..nothing
    };
    store.prune_jobs(all).await.unwrap();
    assert!(!store.job_is_gone(JobKind::Job, "app", "a0").await.unwrap());
}
