//! What a live stream is told, and when.

use http::{HeaderName, HeaderValue};
use tokio::time::{self, Instant};
use uuid::Uuid;

use super::*;
use crate::identity::{Caller, Identity};
use crate::records::{SessionId, UserId};
use crate::secret::Secret;
use crate::state::Ended;

/// A guest's stream on `route`.
pub(crate) fn guest(route: &str) -> Member {
    member(route, Caller::Guest)
}

/// A known caller's stream, with a token that ends then.
pub(crate) fn known(ends_at: UnixSeconds) -> Member {
    let headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    let identity = Identity {
        issuer: "test".into(),
        issuer_index: 0,
        user_id: "u".into(),
        email: None,
        session_id: None,
        roles: Vec::new(),
        anonymous: false,
        ends_at,
        claims: [("sub".to_owned(), "u".into())].into_iter().collect(),
        headers,
        token: Secret::new("".into()),
        assertions: Default::default(),
        standing: None,
        last_use: Default::default(),
    };
    member("r", Caller::Known(Arc::new(identity)))
}

fn member(route: &str, caller: Caller) -> Member {
    Member {
        permit: Permit::for_test(caller),
        kind: Kind::Sse,
        route: route.into(),
        method: Method::GET,
        host: "h".into(),
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

#[tokio::test(start_paused = true)]
async fn an_extended_stream_outlives_its_token() {
    let clock = Clock::manual(100);
    let streams = Streams::new(1, clock.clone());
    let mut membership = streams.join(0, known(110));
    assert_eq!(streams.extend(200, |member| &*member.route == "other"), 0);
    assert_eq!(streams.extend(200, |_| true), 1);
    clock.set(150);
    assert!(still_lives(&mut membership).await);
    clock.set(200);
    assert_eq!(membership.ended().await, End::Expired);
}

#[tokio::test(start_paused = true)]
async fn a_shortened_deadline_counts_at_once() {
    let streams = Streams::new(1, Clock::manual(100));
    let mut membership = streams.join(0, known(10_000));
    let waiting = tokio::spawn(async move { membership.ended().await });
    tokio::task::yield_now().await;
    let start = Instant::now();
    streams.review(|_| Verdict::Extend(50));
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
    streams.review(|member| match &*member.route {
        "closed" => Verdict::End(End::Revoked),
        _ => Verdict::Keep,
    });
    assert_eq!(waiting.await.ok(), Some(End::Revoked));
    assert!(still_lives(&mut kept).await);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_the_old_gate_that_joins_late_is_judged_too() {
    let streams = Streams::new(1, Clock::manual(100));
    streams.review(|_| Verdict::End(End::Revoked));
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
    streams.extend(5000, |_| true);
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
fn of_session(revocations: &Revocations, user: u128, session: u128) -> Member {
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
    let streams = Streams::heeding(&revocations, 2, Clock::manual(100));
    let mut ended = streams.join(0, of_session(&revocations, 1, 1));
    let mut other = streams.join(1, of_session(&revocations, 1, 2));
    let mut foreign = streams.join(1, known(1000));
    revocations.end(Ended::Session(SessionId(Uuid::from_u128(1))));
    assert_eq!(ended.ended().await, End::Revoked);
    // What the user begins anew after a log-out everywhere lives.
    revocations.end(Ended::User(UserId(Uuid::from_u128(1))));
    assert_eq!(other.ended().await, End::Revoked);
    let mut anew = streams.join(0, of_session(&revocations, 1, 3));
    assert!(still_lives(&mut anew).await);
    assert!(still_lives(&mut foreign).await);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_session_ended_while_its_request_was_under_way_ends_at_once() {
    let revocations = Revocations::new();
    let streams = Streams::heeding(&revocations, 1, Clock::manual(100));
    let late = of_session(&revocations, 1, 1);
    revocations.end(Ended::Session(SessionId(Uuid::from_u128(1))));
    assert_eq!(streams.join(0, late).ended().await, End::Revoked);
    // Also where the register has forgotten by now what it was.
    let later = of_session(&revocations, 1, 2);
    revocations.end(Ended::Session(SessionId(Uuid::from_u128(2))));
    revocations.prune(Duration::ZERO);
    assert_eq!(streams.join(0, later).ended().await, End::Revoked);
}
