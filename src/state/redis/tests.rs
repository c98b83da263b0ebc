//! The handle against real servers.

use std::time::{Duration, Instant};

use super::testing::Server;
use super::{Away, Redis, Script};
use crate::observe::metrics::Metrics;

const SHORT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_is_kept_can_be_read_and_is_taken_once() {
    let server = Server::start().await;
    let redis = server.handle();
    assert_eq!(redis.get("a").await, Ok(None));
    redis.set("a", b"one", SHORT).await.unwrap();
    assert_eq!(redis.get("a").await, Ok(Some(b"one".to_vec())));
    assert_eq!(redis.add("a", b"two", SHORT).await, Ok(false));
    assert_eq!(redis.take("a").await, Ok(Some(b"one".to_vec())));
    assert_eq!(redis.take("a").await, Ok(None));
    assert_eq!(redis.add("a", b"two", SHORT).await, Ok(true));
    let left: i64 = redis.call(redis::cmd("PTTL").arg("test:a")).await.unwrap();
    assert!((1..=20_000).contains(&left), "{left}");
    redis.remove("a").await.unwrap();
    assert_eq!(redis.get("a").await, Ok(None));
}

#[tokio::test]
async fn a_script_runs_with_its_keys_and_is_known_from_then_on() {
    let server = Server::start().await;
    let redis = server.handle();
    let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    for expected in [3, 6] {
        let sum: i64 = redis.script(&script, &["sum"], 3).await.unwrap();
        assert_eq!(sum, expected);
    }
    assert_eq!(redis.get("sum").await, Ok(Some(b"6".to_vec())));
    // A server that was emptied is told again.
    let _: () = redis.call(redis::cmd("SCRIPT").arg("FLUSH")).await.unwrap();
    assert_eq!(redis.script::<i64>(&script, &["sum"], 1).await, Ok(7));
}

#[tokio::test]
async fn what_redis_will_not_do_is_no_reason_to_leave_it() {
    let server = Server::start().await;
    let redis = server.handle();
    let script = Script::new("return redis.error_reply('no')");
    let refused = redis.script::<()>(&script, &["a"], 0).await;
    assert_eq!(refused, Err(Away::Refused));
    // A number where bytes were kept.
    redis.set("a", b"one", SHORT).await.unwrap();
    let refused = redis.call::<i64>(redis::cmd("INCR").arg("test:a")).await;
    assert_eq!(refused, Err(Away::Refused));
    assert!(redis.available());
    assert!(redis.get("a").await.is_ok());
}

#[tokio::test]
async fn a_redis_that_is_away_is_told_at_once_and_found_again() {
    let mut server = Server::start().await;
    let redis = server.handle();
    redis.set("a", b"1", SHORT).await.unwrap();
    server.down();
    assert_eq!(redis.get("a").await, Err(Away::Down));
    assert!(!redis.available());
    let begun = Instant::now();
    for _ in 0..1000 {
        assert_eq!(redis.get("a").await, Err(Away::Down));
    }
    assert!(begun.elapsed() < server.config().timeout);
    server.up().await;
    back(&redis).await;
}

#[tokio::test]
async fn a_redis_that_was_never_there_is_found_when_it_comes() {
    let mut server = Server::start().await;
    server.down();
    let redis = server.handle();
    assert!(redis.available(), "nobody has asked yet");
    assert_eq!(redis.get("a").await, Err(Away::Down));
    server.up().await;
    back(&redis).await;
}

#[tokio::test]
async fn a_restart_between_two_calls_is_not_noticed() {
    let mut server = Server::start().await;
    let redis = server.handle();
    redis.set("a", b"1", SHORT).await.unwrap();
    server.down();
    server.up().await;
    assert_eq!(redis.get("a").await, Ok(None));
}

#[tokio::test]
async fn a_redis_that_stands_still_holds_no_call_longer_than_its_time() {
    let server = Server::start().await;
    let redis = server.handle();
    redis.set("a", b"1", SHORT).await.unwrap();
    server.signal("STOP");
    assert_eq!(redis.get("a").await, Err(Away::Late));
    // The kernel still takes connections in its name: the first attempt is waited for, then nobody waits.
    while redis.get("a").await != Err(Away::Down) {}
    server.signal("CONT");
    back(&redis).await;
    assert_eq!(redis.get("a").await, Ok(Some(b"1".to_vec())));
}

#[tokio::test]
async fn calls_of_one_thread_share_a_connection_and_do_not_wait_for_each_other() {
    let server = Server::start().await;
    let redis = server.handle();
    let calls = (0..1000).map(|number| {
        let redis = &redis;
        async move {
            let key = format!("k{number}");
            redis.set(&key, key.as_bytes(), SHORT).await.unwrap();
            assert_eq!(redis.get(&key).await, Ok(Some(key.into_bytes())));
        }
    });
    futures_util::future::join_all(calls).await;
    let clients: String = redis.call(redis::cmd("CLIENT").arg("LIST")).await.unwrap();
    assert_eq!(clients.lines().count(), 1, "{clients}");
}

#[test]
fn a_thread_s_runtime_that_ends_leaves_the_handle_usable() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let first = runtime();
    let server = first.block_on(Server::start());
    let redis = server.handle();
    first.block_on(redis.set("a", b"1", SHORT)).unwrap();
    drop(first);
    let again = runtime().block_on(redis.get("a"));
    assert_eq!(again, Ok(Some(b"1".to_vec())));
}

#[tokio::test]
async fn a_server_that_wants_a_password_gets_it_and_it_is_never_printed() {
    let server = Server::with(&["--requirepass", "hunter2"]).await;
    assert_eq!(server.handle().get("a").await, Err(Away::Down));
    let mut config = server.config();
    let url = format!("unix://{}?pass=hunter2", server.socket().display());
    config.place = crate::config::RedisPlace::Server(crate::secret::Secret::new(url));
    let redis = Redis::new(&config, 1).unwrap();
    assert_eq!(redis.get("a").await, Ok(None));
    assert!(!format!("{redis:?}{config:?}").contains("hunter2"));
}

#[tokio::test]
async fn figures_tell_what_calls_came_to() {
    let mut server = Server::start().await;
    let redis = server.handle();
    let metrics = Metrics::new(1);
    let _figures = redis.figures(&metrics);
    redis.get("a").await.unwrap();
    server.down();
    redis.get("a").await.unwrap_err();
    let page = metrics.render();
    for line in [
        "portcullis_redis_calls_total{result=\"ok\"} 1.0\n",
        "portcullis_redis_calls_total{result=\"down\"} 1.0\n",
        "portcullis_redis_calls_total{result=\"late\"} 0.0\n",
        "portcullis_redis_up 0.0\n",
    ] {
        assert!(page.contains(line), "{page}");
    }
}

/// Waits until calls are answered again.
async fn back(redis: &Redis) {
    while redis.get("a").await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
