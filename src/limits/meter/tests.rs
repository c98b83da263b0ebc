use std::thread;

use super::*;
use crate::clock::Clock;
use crate::streams::tests::guest;
use crate::streams::{Membership, Streams};

fn at(millis: u64) -> Moment {
    Moment {
        nanos: millis * 1_000_000,
        day: 20_000,
        day_left: Duration::from_secs(3600),
    }
}

fn rate(rate: u32, burst: u32) -> LimitFigures {
    LimitFigures {
        rate: Some(Rate::new(rate, Duration::from_secs(1), Some(burst))),
        ..LimitFigures::default()
    }
}

fn daily(daily: u64) -> LimitFigures {
    LimitFigures {
        daily: Some(daily),
        ..LimitFigures::default()
    }
}

fn streams(streams: u32) -> LimitFigures {
    LimitFigures {
        streams: Some(streams),
        ..LimitFigures::default()
    }
}

#[test]
fn a_burst_comes_at_once_and_the_rest_at_its_rate() {
    let meter = Meter::default();
    let figures = rate(10, 3);
    let left = |spent: Spent| spent.ahead.as_millis();
    for (millis, expected) in [
        (1000, Ok(100)),
        (1000, Ok(200)),
        (1000, Ok(300)),
        (1000, Err(100)),
        (1099, Err(1)),
        (1100, Ok(300)),
        (1150, Err(50)),
        (1250, Ok(250)),
        // A long rest gives a whole burst and no more.
        (9000, Ok(100)),
        (9000, Ok(200)),
        (9000, Ok(300)),
        (9000, Err(100)),
    ] {
        let taken = meter.take(&figures, at(millis));
        let taken = taken.map(left).map_err(|it| it.wait.as_millis());
        assert_eq!(taken, expected, "at {millis}");
    }
}

#[test]
fn a_caller_that_changes_its_class_waits_no_longer_than_its_new_rate_says() {
    let meter = Meter::default();
    let slow = LimitFigures {
        rate: Some(Rate {
            interval: Duration::from_secs(3600),
            burst: 10,
        }),
        ..LimitFigures::default()
    };
    for _ in 0..10 {
        meter.take(&slow, at(1000)).unwrap();
    }
    let waits = meter.take(&rate(10, 3), at(1000)).unwrap_err().wait;
    assert_eq!(waits, Duration::from_millis(100));
    meter.take(&rate(10, 3), at(40_000_000)).unwrap();
}

#[test]
fn what_the_rate_refuses_does_not_count_for_the_day() {
    let meter = Meter::default();
    let figures = LimitFigures {
        daily: Some(4),
        ..rate(1, 2)
    };
    let mut told = Vec::new();
    for millis in [0, 0, 0, 0, 1000, 1000, 2000, 3000] {
        told.push(meter.take(&figures, at(millis)).err().map(|it| it.limit));
    }
    let (slower, tomorrow) = (Some(Limit::Rate), Some(Limit::Daily));
    let expected = [None, None, slower, slower, None, slower, None, tomorrow];
    assert_eq!(told, expected);
}

#[test]
fn what_the_day_refuses_is_told_how_long_the_day_lasts_and_takes_nothing() {
    let meter = Meter::default();
    let figures = LimitFigures {
        daily: Some(1),
        ..rate(1, 5)
    };
    let first = meter.take(&figures, at(0)).unwrap();
    assert_eq!(first.today, 1);
    for _ in 0..10 {
        let exceeded = meter.take(&figures, at(0)).unwrap_err();
        assert_eq!(exceeded.limit, Limit::Daily);
        assert_eq!(exceeded.wait, Duration::from_secs(3600));
        assert_eq!(exceeded.spent.ahead, first.ahead);
    }
}

#[test]
fn a_new_day_begins_at_nothing_and_a_clock_that_is_set_back_gives_nothing() {
    let meter = Meter::default();
    let on = |day| Moment { day, ..at(0) };
    for (day, passes) in [
        (5, true),
        (5, true),
        (5, false),
        (6, true),
        // Set back by a day, then by a year, in the middle of the day.
        (5, true),
        (5, false),
        (2, false),
        // The next day is another again.
        (3, true),
        // Set forward by mistake, and back.
        (900, true),
        (3, true),
        (3, false),
        (4, true),
    ] {
        assert_eq!(meter.take(&daily(2), on(day)).is_ok(), passes, "on {day}");
    }
}

/// How many of 1000 requests on eight threads are let in.
fn parallel(figures: &LimitFigures) -> usize {
    let meter = Arc::new(Meter::default());
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (meter, figures) = (Arc::clone(&meter), *figures);
            thread::spawn(move || {
                let one = |_: &i32| match figures.streams {
                    None => meter.take(&figures, at(5)).is_ok(),
                    Some(_) => {
                        let place = meter.take_stream(&figures, at(5));
                        // Kept for ever.
                        place.map(std::mem::forget).is_ok()
                    }
                };
                (0..125).filter(one).count()
            })
        })
        .collect();
    threads.into_iter().map(|it| it.join().unwrap()).sum()
}

#[test]
fn as_many_are_let_in_as_there_may_be_however_many_ask_at_once() {
    for (figures, most) in [
        (rate(1, 1), 1),
        (rate(10, 50), 50),
        (daily(700), 700),
        (
            LimitFigures {
                daily: Some(30),
                ..rate(10, 50)
            },
            30,
        ),
        (
            LimitFigures {
                daily: Some(80),
                ..rate(10, 50)
            },
            50,
        ),
        (streams(7), 7),
        (
            LimitFigures {
                streams: Some(70),
                ..rate(10, 50)
            },
            50,
        ),
    ] {
        assert_eq!(parallel(&figures), most, "{figures:?}");
    }
}

#[test]
fn a_place_is_free_again_when_its_stream_is_over() {
    let meter = Arc::new(Meter::default());
    let two = streams(2);
    let open = || meter.take_stream(&two, at(0)).map(|(_, place)| place);
    let (first, second) = (open().unwrap(), open().unwrap());
    let exceeded = open().unwrap_err();
    assert_eq!(
        (exceeded.limit, exceeded.spent.streams),
        (Limit::Streams, 2)
    );
    drop(first);
    let third = open().unwrap();
    assert!(meter.open_stream(2, StreamsExceeded::Refuse).is_err());
    drop((second, third));
    assert!(!meter.has_streams());
}

#[test]
fn a_stream_that_is_refused_takes_no_request_and_a_request_that_is_refused_no_stream() {
    let meter = Arc::new(Meter::default());
    let figures = LimitFigures {
        streams: Some(1),
        ..rate(1, 2)
    };
    let place = meter.take_stream(&figures, at(0)).unwrap();
    for _ in 0..5 {
        let exceeded = meter.take_stream(&figures, at(0)).unwrap_err();
        assert_eq!(exceeded.limit, Limit::Streams);
    }
    meter.take(&figures, at(0)).unwrap();
    drop(place);
    let exceeded = meter.take_stream(&figures, at(0)).unwrap_err();
    assert_eq!(exceeded.limit, Limit::Rate);
    assert!(!meter.has_streams());
}

fn join() -> Membership {
    Streams::new(1, Clock::manual(100)).join(0, guest("r"))
}

#[tokio::test]
async fn the_oldest_stream_gives_way_to_a_new_one() {
    let meter = Arc::new(Meter::default());
    let open = || meter.open_stream(2, StreamsExceeded::EndOldest).unwrap();
    let mut streams: Vec<_> = (0..3)
        .map(|_| {
            let (place, membership) = (open(), join());
            place.bind(membership.remote());
            (place, membership)
        })
        .collect();
    assert_eq!(streams[0].1.ended().await, End::StreamsExceeded);
    // The one that was told already is not told for another.
    drop(streams.remove(0));
    let place = open();
    assert_eq!(streams[0].1.ended().await, End::StreamsExceeded);
    drop(place);
}

#[tokio::test]
async fn a_stream_whose_place_was_taken_before_it_began_ends_at_once() {
    let meter = Arc::new(Meter::default());
    let first = meter.open_stream(1, StreamsExceeded::EndOldest).unwrap();
    let second = meter.open_stream(1, StreamsExceeded::EndOldest).unwrap();
    let (mut one, two) = (join(), join());
    second.bind(two.remote());
    first.bind(one.remote());
    assert_eq!(one.ended().await, End::StreamsExceeded);
}

#[test]
fn who_counts_alone_goes_on_from_what_all_have_counted() {
    let meter = Meter::default();
    let all = |ahead, today| Spent {
        ahead: Duration::from_millis(ahead),
        today,
        streams: 0,
    };
    let both = LimitFigures {
        daily: Some(40),
        ..rate(10, 3)
    };
    meter.learn(all(200, 38), at(1000));
    let spent = meter.take(&both, at(1000)).unwrap();
    assert_eq!((spent.ahead.as_millis(), spent.today), (300, 39));
    // An answer that was overtaken.
    meter.learn(all(100, 37), at(1000));
    assert_eq!(meter.take(&both, at(1000)).unwrap_err().limit, Limit::Rate);
    assert_eq!(meter.take(&both, at(1100)).unwrap().today, 40);
    assert_eq!(meter.take(&both, at(2000)).unwrap_err().limit, Limit::Daily);
    // What was learned on a day is of that day.
    let tomorrow = Moment {
        day: 20_001,
        ..at(3000)
    };
    assert_eq!(meter.take(&both, tomorrow).unwrap().today, 1);
}

#[test]
fn a_place_that_all_have_given_is_one_of_those_here() {
    let meter = Arc::new(Meter::default());
    let given = [meter.enter_given(), meter.enter_given()];
    let open = |most| meter.open_stream(most, StreamsExceeded::Refuse);
    assert!(open(2).is_err());
    drop(given);
    assert!(open(2).is_ok());
}
