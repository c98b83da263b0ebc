//! Waits that grow, rates, and who is not shut out.

use super::*;

fn rules() -> Rules {
    Rules {
        free: 3,
        delay: Duration::from_secs(1),
        max_delay: Duration::from_secs(8),
        forget: Duration::from_secs(900),
        per_address: 0,
        anonymous_per_address: 2,
        refreshes_per_address: 0,
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

async fn fail(attempts: &Attempts, name: &str, from: &str) -> Result<(), TooMany> {
    attempts.begin(name, address(from)).await?.failed();
    Ok(())
}

#[test]
fn the_wait_doubles_up_to_its_longest_and_failures_are_forgotten() {
    let slowing = Slowing::pair(&rules());
    let mut tally = Tally::default();
    let mut now = Instant::now();
    let mut waits = Vec::new();
    for _ in 0..8 {
        let wait = tally.wait(&slowing, now).unwrap_or_default();
        waits.push(wait.as_secs());
        now += wait;
        tally.fail(now, slowing.forget);
    }
    assert_eq!(waits, [0, 0, 0, 1, 2, 4, 8, 8]);
    assert_eq!(tally.wait(&slowing, now + seconds(7)), Some(seconds(1)));
    assert_eq!(tally.wait(&slowing, now + seconds(8)), None);
    assert_eq!(tally.failures, 8);
    assert_eq!(tally.wait(&slowing, now + seconds(900)), None);
    assert_eq!(tally.failures, 0);
    let mut many = Tally {
        failures: u32::MAX,
        last: Some(now),
        ..Tally::default()
    };
    assert_eq!(many.wait(&slowing, now), Some(seconds(8)));
}

#[tokio::test]
async fn an_account_is_slowed_from_the_address_that_failed_only() {
    let attempts = Attempts::new(&rules());
    for _ in 0..3 {
        assert!(fail(&attempts, "ada", "10.0.0.1").await.is_ok());
    }
    let refused = fail(&attempts, "ada", "10.0.0.1").await.unwrap_err();
    assert!(refused.retry_after <= seconds(1));
    assert!(fail(&attempts, "ada", "10.0.0.2").await.is_ok());
    assert!(fail(&attempts, "eve", "10.0.0.1").await.is_ok());
}

#[tokio::test]
async fn a_success_forgets_the_failures() {
    let attempts = Attempts::new(&rules());
    for _ in 0..4 {
        for _ in 0..2 {
            assert!(fail(&attempts, "ada", "10.0.0.1").await.is_ok());
        }
        let right = attempts.begin("ada", address("10.0.0.1")).await;
        right.map(Attempt::succeeded).unwrap();
    }
}

#[tokio::test]
async fn failures_from_everywhere_slow_the_account_but_not_where_its_owner_is_known() {
    let attempts = Attempts::new(&rules());
    let home = address("192.0.2.1");
    attempts
        .begin("ada", home)
        .await
        .map(Attempt::succeeded)
        .unwrap();
    for stranger in 1..=12 {
        let from = format!("10.0.0.{stranger}");
        assert!(fail(&attempts, "ada", &from).await.is_ok(), "{from}");
    }
    assert!(fail(&attempts, "ada", "10.0.0.99").await.is_err());
    assert!(attempts.begin("ada", home).await.is_ok());
    assert!(fail(&attempts, "eve", "10.0.0.99").await.is_ok());
}

#[tokio::test]
async fn an_address_that_tries_many_accounts_is_slowed() {
    let attempts = Attempts::new(&rules());
    for account in 0..12 {
        let name = format!("user{account}");
        assert!(fail(&attempts, &name, "2001:db8::1").await.is_ok());
    }
    let same_network = fail(&attempts, "user99", "2001:db8::ffff").await;
    assert!(same_network.is_err());
    assert!(fail(&attempts, "user99", "2001:db8:0:1::1").await.is_ok());
}

#[tokio::test]
async fn no_more_guesses_fly_at_once_than_may_fail() {
    let attempts = Attempts::new(&rules());
    let mut flying = Vec::new();
    for _ in 0..3 {
        flying.push(attempts.begin("ada", address("10.0.0.1")).await.unwrap());
    }
    let fourth = attempts.begin("ada", address("10.0.0.1"));
    let fail_all = async {
        flying.into_iter().for_each(Attempt::failed);
    };
    let (fourth, ()) = tokio::join!(biased; fourth, fail_all);
    assert!(fourth.is_err(), "it waited, and by then all had failed");
}

#[tokio::test]
async fn no_more_guesses_fly_at_once_than_may_fail_wherever_they_come_from() {
    let attempts = Attempts::new(&rules());
    let home = address("192.0.2.1");
    attempts
        .begin("ada", home)
        .await
        .map(Attempt::succeeded)
        .unwrap();
    let mut flying = Vec::new();
    for stranger in 1..=12 {
        let from = format!("10.0.0.{stranger}");
        flying.push(attempts.begin("ada", address(&from)).await.unwrap());
    }
    assert!(
        attempts.begin("ada", home).await.is_ok(),
        "nobody's business"
    );
    let next = attempts.begin("ada", address("10.0.0.99"));
    let fail_all = async {
        flying.into_iter().for_each(Attempt::failed);
    };
    let (next, ()) = tokio::join!(biased; next, fail_all);
    assert!(next.is_err(), "it waited, and by then all had failed");
}

#[tokio::test]
async fn those_who_wait_go_on_when_the_others_succeed_or_leave() {
    let attempts = Attempts::new(&rules());
    let mut flying = Vec::new();
    for _ in 0..3 {
        flying.push(attempts.begin("ada", address("10.0.0.1")).await.unwrap());
    }
    let fourth = attempts.begin("ada", address("10.0.0.1"));
    let leave = async { drop(flying.pop()) };
    let (fourth, ()) = tokio::join!(biased; fourth, leave);
    assert!(fourth.is_ok());
}

#[test]
fn a_bucket_gives_so_many_in_its_period() {
    let now = Instant::now();
    let mut bucket = Bucket::full(2, now);
    assert_eq!(bucket.take(2, MINUTE, now), Ok(()));
    assert_eq!(bucket.take(2, MINUTE, now), Ok(()));
    assert_eq!(bucket.take(2, MINUTE, now), Err(seconds(30)));
    assert_eq!(bucket.take(2, MINUTE, now + seconds(30)), Ok(()));
    assert!(bucket.take(2, MINUTE, now + seconds(30)).is_err());
    let later = now + seconds(3600);
    assert_eq!(bucket.take(2, MINUTE, later), Ok(()));
    assert_eq!(bucket.take(2, MINUTE, later), Ok(()));
    assert!(bucket.take(2, MINUTE, later).is_err());
}

#[test]
fn each_class_has_its_own_rate_and_zero_is_none() {
    let attempts = Attempts::new(&rules());
    let from = address("10.0.0.1");
    for _ in 0..2 {
        assert!(attempts.take(Class::Anonymous, from).is_ok());
    }
    let refused = attempts.take(Class::Anonymous, from).unwrap_err();
    assert!(refused.retry_after > seconds(1700));
    assert!(attempts.take(Class::Anonymous, address("10.0.0.2")).is_ok());
    for _ in 0..100 {
        assert!(attempts.take(Class::LogIn, from).is_ok());
        assert!(attempts.take(Class::Anonymous, None).is_ok());
    }
}

#[tokio::test]
async fn nobody_who_comes_later_takes_the_turn_of_one_who_waits() {
    use std::future::poll_fn;
    use std::task::Poll;
    let attempts = Attempts::new(&rules());
    let begin = |from: &str| Box::pin(attempts.begin("ada", address(from)));
    // All places of the account are taken by strangers, and more of them wait.
    let mut flying = Vec::new();
    for stranger in 0..12 {
        flying.push(begin(&format!("10.0.0.{stranger}")).await.unwrap());
    }
    let mut waiting: Vec<_> = (0..3).map(|it| begin(&format!("10.0.1.{it}"))).collect();
    let mut owner = begin("192.0.2.1");
    for it in waiting.iter_mut().chain([&mut owner]) {
        assert!(poll_fn(|cx| Poll::Ready(it.as_mut().poll(cx).is_pending())).await);
    }
    // One leaves, and those behind it move up; those who come now stand behind the owner.
    drop(waiting.remove(1));
    let mut late: Vec<_> = (0..3).map(|it| begin(&format!("10.0.2.{it}"))).collect();
    for it in &mut late {
        assert!(poll_fn(|cx| Poll::Ready(it.as_mut().poll(cx).is_pending())).await);
    }
    // Woken for nothing, they keep their places.
    attempts
        .entry(key(b"account", "ada", &[]))
        .ended
        .notify_waiters();
    for it in waiting.iter_mut().chain([&mut owner]).chain(&mut late) {
        assert!(poll_fn(|cx| Poll::Ready(it.as_mut().poll(cx).is_pending())).await);
    }
    flying.truncate(9);
    for it in &mut late {
        assert!(poll_fn(|cx| Poll::Ready(it.as_mut().poll(cx).is_pending())).await);
    }
    assert!(owner.await.is_ok());
}
