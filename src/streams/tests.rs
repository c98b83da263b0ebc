//! What a live stream is told, and when.

use std::time::Duration;

use serde_json::json;
use tokio::time::{self, Instant};
use uuid::Uuid;

use super::membership::LONGEST_NAP;
use super::*;
use crate::identity::testing::{claims_of, identity};
use crate::identity::{Caller, Identity};
use crate::records::{SessionId, UserId};
use crate::state::{Ended, News, Standing};

/// A guest's stream on `route`.
pub(crate) fn guest(route: &str) -> Member {
    member(route, Caller::Guest)
}

/// A known caller's stream, with a token that ends then.
pub(crate) fn known(ends_at: UnixSeconds) -> Member {
    let identity = Identity {
        issuer: "test".into(),
        claims: claims_of(json!({"sub": "u"})),
        ..identity("u", ends_at)
    };
    member("r", Caller::Known(Arc::new(identity)))
}

fn member(route: &str, caller: Caller) -> Member {
    Member {
        permit: Permit::for_test(caller),
        kind: Kind::Sse,
        route: route.into(),
        path: "/p".into(),
        since: 0,
    }
}

async fn still_lives(membership: &mut Membership) -> bool {
    time::timeout(Duration::from_secs(3600), membership.ended())
        .await
        .is_err()
}

#[tokio::test(start_paused = true)]
async fn a_guest_has_no_deadline() {
    let streams = Streams::new(1, Clock::manual(100));
    assert!(still_lives(&mut streams.join(0, guest("r"))).await);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_the_wall_clock_reaches_its_deadline() {
    let clock = Clock::manual(100);
    let streams = Streams::new(1, clock.clone());
    let mut membership = streams.join(0, known(105));
    assert!(still_lives(&mut membership).await, "the wall clock stands");
    clock.set(105);
    assert_eq!(membership.ended().await, End::Expired);
    assert_eq!(membership.ended().await, End::Expired, "and stays ended");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_within_a_second_of_its_deadline() {
    let clock = Clock::manual(100);
    let streams = Streams::new(1, clock.clone());
    let mut membership = streams.join(0, known(400));
    let start = Instant::now();
    let wall = async {
        loop {
            time::sleep(Duration::from_millis(100)).await;
            clock.set(100 + start.elapsed().as_secs());
        }
    };
    tokio::select! {
        biased;
        () = wall => {}
        end = membership.ended() => assert_eq!(end, End::Expired),
    }
    let late = start.elapsed().saturating_sub(Duration::from_secs(300));
    assert!(start.elapsed() >= Duration::from_secs(300) && late < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_forward_is_noticed() {
    let clock = Clock::manual(100);
    let streams = Streams::new(1, clock.clone());
    let mut membership = streams.join(0, known(1_000_000));
    assert!(still_lives(&mut membership).await);
    clock.set(1_000_000);
    let start = Instant::now();
    assert_eq!(membership.ended().await, End::Expired);
    assert!(start.elapsed() <= LONGEST_NAP);
}

/// An identity of this session of `u`, with a token that ends then.
pub(crate) fn of_session(session: &str, ends_at: UnixSeconds) -> Identity {
    let Caller::Known(identity) = known(ends_at).permit.caller().clone() else {
        panic!("a known caller");
    };
    Identity {
        session_id: Some(session.into()),
        ..(*identity).clone()
    }
}

/// A stream of it.
pub(crate) fn session_stream(session: &str, ends_at: UnixSeconds) -> Member {
    member("r", Caller::Known(Arc::new(of_session(session, ends_at))))
}

/// Judges by this.
struct By<F>(F);

impl<F: Fn(&str, &Permit) -> Verdict + Send + Sync> Judge for By<F> {
    fn review(&self, route: &str, permit: &Permit) -> Verdict {
        (self.0)(route, permit)
    }

    fn allows(&self, route: &str, permit: &Permit) -> bool {
        (self.0)(route, permit) == Verdict::Keep
    }

    fn read(&self, _: &str) -> Option<Arc<Identity>> {
        None
    }
}

pub(crate) fn judge(
    by: impl Fn(&str, &Permit) -> Verdict + Send + Sync + 'static,
) -> Arc<dyn Judge> {
    Arc::new(By(by))
}

#[tokio::test(start_paused = true)]
async fn a_newer_token_of_the_session_extends_its_streams_and_no_others() {
    let clock = Clock::manual(100);
    let streams = Streams::new(2, clock.clone());
    let mut ours = [
        streams.join(0, session_stream("a", 110)),
        streams.join(1, session_stream("a", 120)),
    ];
    let mut others = [
        streams.join(0, session_stream("b", 110)),
        streams.join(1, known(110)),
    ];
    let foreign = Identity {
        issuer: "other".into(),
        ..of_session("b", 500)
    };
    let stranger = Identity {
        user_id: "v".into(),
        ..of_session("b", 500)
    };
    for none in [
        foreign,
        stranger,
        (**known(500).permit.identity().unwrap()).clone(),
    ] {
        assert_eq!(streams.renew(&Arc::new(none)), 0);
    }
    assert_eq!(streams.renew(&Arc::new(of_session("a", 200))), 2);
    // Never sooner.
    assert_eq!(streams.renew(&Arc::new(of_session("a", 150))), 0);
    clock.set(150);
    for other in &mut others {
        assert_eq!(other.ended().await, End::Expired);
    }
    for membership in &mut ours {
        assert!(still_lives(membership).await);
        assert_eq!(membership.permit().identity().unwrap().ends_at, 200);
    }
    clock.set(200);
    for membership in &mut ours {
        assert_eq!(membership.ended().await, End::Expired);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_opens_with_the_older_token_has_the_newer_ones_deadline() {
    let streams = Streams::new(1, Clock::manual(100));
    assert_eq!(streams.renew(&Arc::new(of_session("a", 200))), 0);
    let late = streams.join(0, session_stream("a", 110));
    assert_eq!(late.until(), Some(200));
    assert_eq!(streams.join(0, session_stream("b", 110)).until(), Some(110));
}

#[tokio::test(start_paused = true)]
async fn a_newer_token_that_its_route_would_not_let_in_ends_the_stream() {
    let streams = Streams::new(1, Clock::manual(100));
    streams.judged_by(judge(|_, permit| match permit.identity() {
        Some(identity) if identity.roles.is_empty() => Verdict::End(End::Revoked),
        _ => Verdict::Keep,
    }));
    let mut membership = streams.join(0, session_stream("a", 1000));
    assert!(still_lives(&mut membership).await);
    let promoted = Identity {
        roles: vec!["x".into()],
        ..of_session("a", 2000)
    };
    assert_eq!(streams.renew(&Arc::new(promoted)), 1);
    assert_eq!(streams.renew(&Arc::new(of_session("a", 3000))), 0);
    assert_eq!(membership.ended().await, End::Revoked);
}

#[tokio::test(start_paused = true)]
async fn what_one_gateway_sees_extends_and_ends_the_streams_of_another() {
    let [here, there] = [0, 1].map(|_| Streams::new(1, Clock::manual(100)));
    let other = Arc::clone(&there);
    here.subscribe(move |message| {
        other.hear(message);
    });
    let mut membership = there.join(0, session_stream("a", 110));
    let other = there.join(0, session_stream("b", 110));
    here.renew(&Arc::new(of_session("a", 200)));
    here.renew(&Arc::new(of_session("a", 150)));
    assert_eq!((membership.until(), other.until()), (Some(200), Some(110)));
    let filter = Filter {
        session: Some("a".into()),
        ..Filter::default()
    };
    assert_eq!(here.kill(&filter), 0);
    assert_eq!(membership.ended().await, End::Revoked);
    assert_eq!(other.until(), Some(110));
}

#[tokio::test(start_paused = true)]
async fn an_operator_sees_and_ends_the_streams_that_are_meant() {
    let streams = Streams::new(2, Clock::manual(100));
    let first = streams.join(0, session_stream("a", 110));
    let second = streams.join(1, session_stream("b", 120));
    let third = streams.join(1, guest("open"));
    let count = |filter: Filter| streams.list(&filter, 10).1;
    let with = |change: fn(&mut Filter)| {
        let mut filter = Filter::default();
        change(&mut filter);
        filter
    };
    assert_eq!(count(Filter::default()), 3);
    assert_eq!(count(with(|it| it.user = Some("u".into()))), 2);
    assert_eq!(count(with(|it| it.session = Some("b".into()))), 1);
    assert_eq!(count(with(|it| it.issuer = Some("none".into()))), 0);
    assert_eq!(count(with(|it| it.kind = Some(Kind::Websocket))), 0);
    let (shown, all) = streams.list(&Filter::default(), 1);
    assert_eq!((shown.len(), all), (1, 3));
    assert_eq!((shown[0].until, &*shown[0].route), (Some(110), "r"));
    assert_eq!(streams.kill(&with(|it| it.route = Some("r".into()))), 2);
    assert_eq!((first.until(), second.until()), (None, None));
    drop(third);
}

#[tokio::test(start_paused = true)]
async fn what_leaves_is_no_longer_in_the_index_also_after_an_extension() {
    let streams = Streams::new(1, Clock::manual(100));
    let membership = streams.join(0, session_stream("a", 110));
    assert_eq!(lock(&streams.shards[0]).index.len(), 2);
    streams.renew(&Arc::new(of_session("a", 200)));
    drop(membership);
    assert_eq!(lock(&streams.shards[0]).index.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_farewell_hears_how_the_stream_left_and_with_which_token() {
    let streams = Streams::new(1, Clock::manual(100));
    let (tell, heard) = std::sync::mpsc::channel();
    for end in [None, Some(End::Revoked)] {
        let mut membership = streams.join(0, session_stream("a", 110));
        let tell = tell.clone();
        membership.upon_leaving(move |left| tell.send(left).unwrap());
        streams.renew(&Arc::new(of_session("a", 200)));
        if let Some(end) = end {
            membership.slot.apply(Verdict::End(end));
        }
        drop(membership);
        let left = heard.recv().unwrap();
        assert_eq!(left.permit.identity().unwrap().ends_at, 200);
        assert_eq!(left.end, end);
    }
}

#[tokio::test(start_paused = true)]
async fn news_that_may_not_mean_a_stream_put_it_in_doubt() {
    let revocations = Revocations::new();
    let streams = Streams::heeding((&revocations, &Bans::new()), 1, Clock::manual(100));
    let mut membership = streams.join(0, of_own_session(&revocations, 1, 1));
    let late = of_own_session(&revocations, 1, 2);
    let user = UserId(Uuid::from_u128(1));
    revocations.hear(News::Ended(Ended::User(user)));
    let mut joined_late = streams.join(0, late);
    let doubted = streams.doubted().await;
    assert_eq!(doubted.len(), 2);
    assert!(still_lives(&mut membership).await);
    doubted[0].apply(Verdict::End(End::Revoked));
    doubted[1].apply(Verdict::Keep);
    assert_eq!(membership.ended().await, End::Revoked);
    assert!(still_lives(&mut joined_late).await);
    revocations.recheck(user);
    assert_eq!(streams.doubted().await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_shortened_deadline_counts_at_once() {
    let streams = Streams::new(1, Clock::manual(100));
    let mut membership = streams.join(0, known(10_000));
    let waiting = tokio::spawn(async move { membership.ended().await });
    tokio::task::yield_now().await;
    let start = Instant::now();
    streams.review(&judge(|_, _| Verdict::Extend(50)));
    assert_eq!(waiting.await.ok(), Some(End::Expired));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_review_ends_only_what_it_judges_so() {
    let streams = Streams::new(2, Clock::manual(100));
    let mut kept = streams.join(0, guest("kept"));
    let mut ended = streams.join(1, guest("closed"));
    let waiting = tokio::spawn(async move { ended.ended().await });
    tokio::task::yield_now().await;
    streams.review(&judge(|route, _| match route {
        "closed" => Verdict::End(End::Revoked),
        _ => Verdict::Keep,
    }));
    assert_eq!(waiting.await.ok(), Some(End::Revoked));
    assert!(still_lives(&mut kept).await);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_the_old_gate_that_joins_late_is_judged_too() {
    let streams = Streams::new(1, Clock::manual(100));
    streams.review(&judge(|_, _| Verdict::End(End::Revoked)));
    let mut late = streams.join(0, guest("r"));
    assert_eq!(late.ended().await, End::Revoked);
}

#[tokio::test(start_paused = true)]
async fn draining_ends_all_and_who_joins_late() {
    let streams = Streams::new(2, Clock::manual(100));
    let mut first = streams.join(0, known(1000));
    streams.end_all(End::Draining);
    let mut late = streams.join(1, guest("r"));
    assert_eq!(first.ended().await, End::Draining);
    assert_eq!(late.ended().await, End::Draining);
    streams.renew(&Arc::new(of_session("a", 5000)));
    assert_eq!(first.ended().await, End::Draining, "an end is final");
}

#[tokio::test]
async fn a_dropped_membership_is_gone_from_the_count() {
    let streams = Streams::new(2, Clock::manual(100));
    let first = streams.join(0, guest("a"));
    let second = streams.join(1, guest("a"));
    let third = streams.join(7, guest("b"));
    let count: Vec<_> = streams.count().into_values().collect();
    assert_eq!((count, streams.len()), (vec![2, 1], 3));
    drop((first, second, third));
    assert!(streams.is_empty() && streams.count().is_empty());
}

#[test]
fn an_idle_stream_costs_little() {
    assert!(size_of::<Slot>() <= 256, "{}", size_of::<Slot>());
    assert!(size_of::<Membership>() <= 64, "{}", size_of::<Membership>());
}

/// A stream of this user's session, opened with what was verified as far as `revocations` knows now.
fn of_own_session(revocations: &Revocations, user: u128, session: u128) -> Member {
    let (user, session) = (
        UserId(Uuid::from_u128(user)),
        SessionId(Uuid::from_u128(session)),
    );
    let Caller::Known(identity) = known(1000).permit.caller().clone() else {
        panic!("a known caller");
    };
    let identity = Identity {
        standing: Some(Standing::new(user, session, None, revocations.version())),
        ..(*identity).clone()
    };
    member("r", Caller::Known(Arc::new(identity)))
}

#[tokio::test(start_paused = true)]
async fn the_streams_of_a_session_end_with_it_and_no_others() {
    let revocations = Revocations::new();
    let streams = Streams::heeding((&revocations, &Bans::new()), 2, Clock::manual(100));
    let mut ended = streams.join(0, of_own_session(&revocations, 1, 1));
    let mut other = streams.join(1, of_own_session(&revocations, 1, 2));
    let mut foreign = streams.join(1, known(1000));
    revocations.end(Ended::Session(SessionId(Uuid::from_u128(1))));
    assert_eq!(ended.ended().await, End::Revoked);
    // What the user begins anew after a log-out everywhere lives.
    revocations.end(Ended::User(UserId(Uuid::from_u128(1))));
    assert_eq!(other.ended().await, End::Revoked);
    let mut anew = streams.join(0, of_own_session(&revocations, 1, 3));
    assert!(still_lives(&mut anew).await);
    assert!(still_lives(&mut foreign).await);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_session_ended_while_its_request_was_under_way_ends_at_once() {
    let revocations = Revocations::new();
    let streams = Streams::heeding((&revocations, &Bans::new()), 1, Clock::manual(100));
    let late = of_own_session(&revocations, 1, 1);
    revocations.end(Ended::Session(SessionId(Uuid::from_u128(1))));
    assert_eq!(streams.join(0, late).ended().await, End::Revoked);
    // Where the register has forgotten by now what it was, the store is asked.
    let later = of_own_session(&revocations, 1, 2);
    revocations.end(Ended::Session(SessionId(Uuid::from_u128(2))));
    revocations.prune(Duration::ZERO);
    let _later = streams.join(0, later);
    assert_eq!(streams.doubted().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_an_opaque_token_ends_with_that_token_whatever_others_its_session_has() {
    let revocations = Revocations::new();
    let streams = Streams::heeding((&revocations, &Bans::new()), 1, Clock::manual(100));
    let of_token = |number| {
        let member = of_own_session(&revocations, 1, 1);
        let identity = Arc::clone(member.permit.identity().unwrap());
        let standing = identity.standing.clone().unwrap();
        let version = revocations.version();
        let standing = Standing::new(standing.user, standing.session, Some(number), version);
        Arc::new(Identity {
            standing: Some(standing),
            ..(*identity).clone()
        })
    };
    let mut stream = streams.join(0, member("r", Caller::Known(of_token(1))));
    assert_eq!(streams.renew(&of_token(2)), 0);
    revocations.end(Ended::Token(2));
    assert!(still_lives(&mut stream).await);
    revocations.end(Ended::Token(1));
    assert_eq!(stream.ended().await, End::Revoked);
}

#[tokio::test(start_paused = true)]
async fn after_a_gap_in_the_news_each_stream_of_a_session_of_ours_is_in_doubt() {
    let revocations = Revocations::new();
    let streams = Streams::heeding((&revocations, &Bans::new()), 2, Clock::manual(100));
    let _ours = streams.join(0, of_own_session(&revocations, 1, 1));
    let _foreign = streams.join(1, known(1000));
    streams.doubt_all();
    let doubted = streams.doubted().await;
    assert_eq!(doubted.len(), 1);
    assert!(doubted[0].permit().identity().unwrap().standing.is_some());
}

/// A stream of another issuer's, whose token was issued then.
fn issued(subject: &str, session: Option<&str>, at: u64) -> Member {
    let known = known(1000).permit;
    let mut identity = (**known.identity().unwrap()).clone();
    identity.user_id = subject.into();
    identity.session_id = session.map(Into::into);
    identity.issued_at = Some(at);
    member("r", Caller::Known(Arc::new(identity)))
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_here_or_elsewhere_loses_its_streams() {
    let bans = Bans::new();
    let streams = Streams::heeding((&Revocations::new(), &bans), 2, Clock::manual(100));
    let mut here = streams.join(0, issued("here", None, 50));
    let mut there = streams.join(1, issued("there", Some("s"), 50));
    let mut newer = streams.join(1, issued("here", None, 80));
    assert!(bans.add(&Banned::User("here".into()), 70));
    assert!(bans.hear(&Banned::Session("s".into()), 70, 100));
    assert_eq!(here.ended().await, End::Revoked);
    assert_eq!(there.ended().await, End::Revoked);
    assert!(still_lives(&mut newer).await);
    // Its request was under way when that was said.
    let mut late = streams.join(0, issued("here", None, 60));
    assert_eq!(late.ended().await, End::Revoked);
}

#[test]
fn a_stream_that_joins_or_leaves_waits_for_no_other_worker() {
    let streams = Streams::new(2, Clock::manual(100));
    // As long as the other worker is at its own.
    let held = lock(&streams.shards[1]);
    let membership = streams.join(0, known(1000));
    drop(membership);
    drop(held);
    assert!(streams.is_empty());
}
