use super::*;
use crate::clock::Clock;
use crate::config::Rate;
use crate::limits::days::Days;
use crate::state::redis::testing::Server;
use crate::streams::tests::guest;
use crate::streams::{End, Membership, Streams};

const REQUEST: Wish = Wish {
    request: true,
    stream: None,
};

fn calendar() -> Calendar {
    let days = Days::new(jiff::tz::TimeZone::UTC);
    let today = days.at(Clock::System.now());
    Calendar::new(today, days.around(today))
}

fn key(user: &str) -> Key {
    Key::of(Subject::User("i", user), "")
}

/// One an hour, and so many at once.
fn burst(burst: u32) -> LimitFigures {
    LimitFigures {
        rate: Some(Rate {
            interval: Duration::from_secs(3600),
            burst,
        }),
        ..LimitFigures::default()
    }
}

fn daily(daily: u64) -> LimitFigures {
    LimitFigures {
        daily: Some(daily),
        ..LimitFigures::default()
    }
}

async fn ask(shared: &Shared, figures: &LimitFigures) -> Result<Spent, Limit> {
    let ada = key("ada");
    let told = shared.decide(&ada, (figures, REQUEST), calendar()).await;
    told.unwrap()
        .map(|given| given.spent)
        .map_err(|(exceeded, _)| exceeded.limit)
}

/// One of two streams at once.
async fn open(shared: &Shared, too_many: StreamsExceeded) -> Option<Lease> {
    let wish = Wish {
        request: false,
        stream: Some(too_many),
    };
    let two = LimitFigures {
        streams: Some(2),
        ..LimitFigures::default()
    };
    let ada = key("ada");
    let told = shared.decide(&ada, (&two, wish), calendar()).await;
    told.unwrap().ok().map(|given| given.lease.unwrap())
}

/// Two gateways over one Redis.
async fn two() -> (Server, [Arc<Shared>; 2]) {
    let server = Server::start().await;
    let shared = [server.handle(), server.handle()].map(|redis| Shared::new(&redis));
    (server, shared)
}

#[tokio::test]
async fn gateways_count_together_and_exactly() {
    let (_server, [one, other]) = two().await;
    for (figures, user, most) in [
        (burst(130), "a", 130),
        (daily(70), "b", 70),
        (
            LimitFigures {
                daily: Some(200),
                ..burst(90)
            },
            "c",
            90,
        ),
    ] {
        let key = key(user);
        let asking = (0..1000).map(async |number| {
            let shared = if number % 2 == 0 { &one } else { &other };
            let told = shared.decide(&key, (&figures, REQUEST), calendar()).await;
            usize::from(told.unwrap().is_ok())
        });
        let passed = futures_util::future::join_all(asking).await;
        assert_eq!(passed.iter().sum::<usize>(), most, "{figures:?}");
    }
}

#[tokio::test]
async fn the_rules_are_those_of_one_gateway() {
    let (_server, [one, other]) = two().await;
    let figures = LimitFigures {
        daily: Some(3),
        ..burst(2)
    };
    let hour = |hours: u64| Duration::from_secs(3600 * hours);
    let first = ask(&one, &figures).await.unwrap();
    assert_eq!((first.ahead, first.today), (hour(1), 1));
    let second = ask(&other, &figures).await.unwrap();
    assert!(second.ahead > hour(1) && second.ahead <= hour(2));
    // What the rate refuses does not count for the day.
    for _ in 0..3 {
        assert_eq!(ask(&one, &figures).await, Err(Limit::Rate));
    }
    assert_eq!(ask(&one, &daily(3)).await.unwrap().today, 3);
    assert_eq!(ask(&other, &daily(3)).await, Err(Limit::Daily));
    assert_eq!(ask(&other, &figures).await, Err(Limit::Daily));
    // Another class waits no longer than its own rate says.
    let faster = LimitFigures {
        rate: Some(Rate::new(1, Duration::from_secs(10), Some(1))),
        ..LimitFigures::default()
    };
    let ada = key("ada");
    let told = one.decide(&ada, (&faster, REQUEST), calendar()).await;
    let (exceeded, _) = told.unwrap().unwrap_err();
    assert_eq!(exceeded.wait, Duration::from_secs(10));
}

#[tokio::test]
async fn which_day_it_is_the_clock_of_redis_says() {
    let (_server, [one, _]) = two().await;
    let now = Clock::System.now();
    // By gateways whose clocks go right, and by some that are a day behind.
    for (begins, passes) in [
        ([now - 200, now - 100, now + 1000, now + 2000], true),
        ([now - 300, now - 200, now - 100, now + 1000], false),
        ([now - 100, now + 1000, now + 2000, now + 3000], false),
        ([now - 200, now - 100, now - 50, now + 1000], true),
    ] {
        let ada = key("ada");
        let once = daily(1);
        let told = one.decide(&ada, (&once, REQUEST), Calendar { begins });
        assert_eq!(told.await.unwrap().is_ok(), passes, "{begins:?}");
    }
}

#[tokio::test]
async fn a_place_is_free_again_when_its_lease_was_given_back() {
    let (server, [one, other]) = two().await;
    let first = open(&one, StreamsExceeded::Refuse).await.unwrap();
    let second = open(&other, StreamsExceeded::Refuse).await.unwrap();
    assert!(open(&one, StreamsExceeded::Refuse).await.is_none());
    drop(first);
    one.leases.give_back(&server.handle()).await.unwrap();
    let third = open(&other, StreamsExceeded::Refuse).await.unwrap();
    assert!(open(&one, StreamsExceeded::Refuse).await.is_none());
    drop((second, third));
    assert!(other.leases.is_empty());
}

/// As if the time of all of ada's leases were over.
async fn time_out(redis: &Redis) {
    let name = redis.key(&key("ada").streams());
    let mut all = redis::cmd("ZRANGE");
    let all: Vec<String> = redis.call(all.arg(&name).arg(0).arg(-1)).await.unwrap();
    let mut command = redis::cmd("ZADD");
    command.arg(&name);
    for lease in all {
        command.arg(1).arg(lease);
    }
    redis.call::<()>(&command).await.unwrap();
}

#[tokio::test]
async fn leases_are_renewed_and_those_of_a_gateway_that_is_gone_expire() {
    let (server, [one, other]) = two().await;
    let redis = server.handle();
    let kept = open(&one, StreamsExceeded::Refuse).await.unwrap();
    let lost = open(&other, StreamsExceeded::Refuse).await.unwrap();
    time_out(&redis).await;
    one.leases.renew(&redis).await.unwrap();
    let third = open(&one, StreamsExceeded::Refuse).await.unwrap();
    assert!(open(&one, StreamsExceeded::Refuse).await.is_none());
    // One that was thought gone, and lives, is counted again.
    other.leases.renew(&redis).await.unwrap();
    drop(third);
    one.leases.give_back(&redis).await.unwrap();
    assert!(open(&one, StreamsExceeded::Refuse).await.is_none());
    drop((kept, lost));
}

fn join() -> Membership {
    Streams::new(1, Clock::manual(100)).join(0, guest("r"))
}

/// So that the next is opened later by the clock of Redis.
async fn pass_a_millisecond(redis: &Redis) {
    let now = async || {
        let (seconds, micros): (u64, u64) = redis.call(&redis::cmd("TIME")).await.unwrap();
        seconds * 1000 + micros / 1000
    };
    let began = now().await;
    while now().await == began {}
}

#[tokio::test]
async fn the_oldest_stream_gives_way_wherever_it_is() {
    let (server, [one, other]) = two().await;
    let redis = server.handle();
    let hears = Arc::clone(&one.leases);
    other.leases.subscribe(move |name| assert!(hears.end(name)));
    let first = open(&one, StreamsExceeded::EndOldest).await.unwrap();
    let mut stream = join();
    first.bind(stream.remote());
    pass_a_millisecond(&redis).await;
    let second = open(&one, StreamsExceeded::EndOldest).await.unwrap();
    pass_a_millisecond(&redis).await;
    let third = open(&other, StreamsExceeded::EndOldest).await.unwrap();
    assert_eq!(stream.ended().await, End::StreamsExceeded);
    pass_a_millisecond(&redis).await;
    let fourth = open(&other, StreamsExceeded::EndOldest).await.unwrap();
    // It began only when its place was another's already.
    let mut late = join();
    second.bind(late.remote());
    assert_eq!(late.ended().await, End::StreamsExceeded);
    drop((first, third, fourth));
}

#[test]
fn names_of_users_are_not_in_keys() {
    let ada = key("ada@example.com");
    assert!(ada.meter().starts_with("limits:{") && ada.meter().ends_with('}'));
    assert_eq!(ada.streams(), format!("{}:streams", ada.meter()));
    assert!(!ada.meter().contains("ada"));
    let user = |issuer, user| Key::of(Subject::User(issuer, user), "");
    assert_ne!(user("ab", "c"), user("a", "bc"));
    let at = |address: Option<&str>, bucket| {
        let address = address.map(|address| address.parse().unwrap());
        Key::of(Subject::Address(address), bucket)
    };
    let keys = [
        at(None, ""),
        at(None, "a"),
        at(Some("0.0.0.0"), ""),
        at(Some("::"), ""),
    ];
    for (place, one) in keys.iter().enumerate() {
        assert!(!keys[..place].contains(one), "{place}");
    }
}
