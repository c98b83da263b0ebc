use std::path::Path;

use super::*;
use crate::config::{Config, parse};

const BASE: &str = r#"
    [[issuer]]
    name = "project"
    iss = "https://project.test"
    audience = []
    algorithms = ["HS256"]
    secret = "vJ3kQ7fT2XmL9rZs4WnY8bHc6JpDg1Ra"
    [[upstream]]
    name = "app"
    endpoints = ["http://127.0.0.1:8000"]
    [[route]]
    name = "all"
    path = "/{*rest}"
    upstream = "app"
"#;

fn read(text: &str) -> Result<Config, String> {
    // Tables of the file's top follow those of its lists as well as any.
    let text = format!("{BASE}{text}\n");
    parse(&text, Path::new("portcullis.toml"), &|_| None).map_err(|problems| problems.to_string())
}

fn per_second(rate: u32) -> Option<Rate> {
    Some(Rate::new(rate, seconds(1), None))
}

#[test]
fn without_a_word_there_are_the_two_built_in_classes() {
    let limits = read("").unwrap().limits;
    assert!(limits.enabled);
    assert_eq!(limits.store, LimitsStore::Memory);
    assert_eq!(limits.time_zone, TimeZone::UTC);
    let [anonymous, permanent] = &limits.classes[..] else {
        panic!("{:?}", limits.classes);
    };
    assert_eq!(
        anonymous.figures,
        LimitFigures {
            rate: per_second(5),
            streams: Some(2),
            daily: Some(1000),
        }
    );
    assert_eq!(
        permanent.figures,
        LimitFigures {
            rate: per_second(10),
            streams: Some(2),
            daily: None,
        }
    );
    let takes = |class: &LimitClass| {
        let callers = class.callers;
        (callers.guests, callers.anonymous, callers.users)
    };
    assert_eq!(takes(anonymous), (true, true, false));
    assert_eq!(takes(permanent), (false, false, true));
}

#[test]
fn a_built_in_class_is_changed_in_what_the_file_says_of_it() {
    let text = "[[limits.class]]\nname = \"team\"\nroles = [\"team\"]\ncallers = [\"users\"]\n\
                [[limits.class]]\nname = \"anonymous\"\nrate = 1\nper = \"1m\"\nburst = 3\ndaily = 0";
    let limits = read(text).unwrap().limits;
    let names: Vec<&str> = limits.classes.iter().map(|class| &*class.name).collect();
    assert_eq!(names, ["team", "anonymous", "permanent"]);
    assert_eq!(limits.classes[0].figures, LimitFigures::default());
    let anonymous = &limits.classes[1];
    assert!(!anonymous.callers.users);
    let expected = LimitFigures {
        rate: Some(Rate {
            interval: seconds(60),
            burst: 3,
        }),
        streams: Some(2),
        daily: None,
    };
    assert_eq!(anonymous.figures, expected);
}

#[test]
fn a_burst_is_one_seconds_worth_and_one_at_least() {
    for (rate, per, burst) in [
        (5, seconds(1), 5),
        (600, seconds(60), 10),
        (1, seconds(60), 1),
        (1_000_000, seconds(1), 1_000_000),
    ] {
        assert_eq!(Rate::new(rate, per, None).burst, burst, "{rate} in {per:?}");
    }
}

#[test]
fn routes_count_in_the_shared_bucket_unless_they_say_otherwise() {
    let route = |lines: &str| read(lines).unwrap().routes[0].limits;
    assert!(route("").enabled);
    assert!(!route("auth = \"public\"").enabled);
    assert!(route("auth = \"public\"\n[route.limits]\nbucket = \"own\"").enabled);
    assert!(!route("[route.limits]\nenabled = false").enabled);
    assert_eq!(route("").bucket, Bucket::Shared);
    let own = route("[route.limits]\nrate = 0\ndaily = 7");
    assert_eq!(own.bucket, Bucket::Own);
    let base = read("").unwrap().limits.classes[0].figures;
    let expected = LimitFigures {
        rate: None,
        streams: Some(2),
        daily: Some(7),
    };
    assert_eq!(own.changes.to(base), expected);
}

#[test]
fn what_makes_no_sense_is_told() {
    for (text, words) in [
        ("[limits]\nstore = \"redis\"", "`store` needs a Redis"),
        ("[limits]\nstore = \"disk\"", "is not a word"),
        (
            "[limits]\ntime_zone = \"Mars/Olympus\"",
            "is not a time zone",
        ),
        ("[limits]\ncapacity = 1", "it must be from 1000"),
        ("[[limits.class]]\nrate = 5", "`name` is missing"),
        (
            "[[limits.class]]\nname = \"a\"\nrate = -1",
            "it must be from 0",
        ),
        (
            "[[limits.class]]\nname = \"a\"\nburst = 5",
            "`burst` says nothing without a `rate`",
        ),
        (
            "[[limits.class]]\nname = \"a\"\nrate = 1\nburst = 0",
            "it must be from 1",
        ),
        (
            "[[limits.class]]\nname = \"a\"\nrate = 1\nper = \"0s\"",
            "is no time at all",
        ),
        (
            "[[limits.class]]\nname = \"a\"\ncallers = []",
            "it takes nobody",
        ),
        (
            "[[limits.class]]\nname = \"a\"\ncallers = [\"bots\"]",
            "is no kind of caller",
        ),
        (
            "[[limits.class]]\nname = \"a\"\ncallers = [\"guests\"]\nroles = [\"r\"]",
            "`roles` needs a caller that is known",
        ),
        (
            "[[limits.class]]\nname = \"a\"\nrequire = [{ claim = \"user_metadata.plan\", exists = true }]",
            "which users can write themselves",
        ),
        (
            "[[limits.class]]\nname = \"a\"\n[[limits.class]]\nname = \"b\"\nroles = [\"r\"]",
            "[limits.class \"b\"] takes nobody: \"a\" above takes them all",
        ),
        (
            "[[limits.class]]\nname = \"a\"\nroles = [\"r\"]\n[[limits.class]]\nname = \"a\"",
            "`name` is taken",
        ),
        (
            "[[limits.class]]\nname = \"a\"\nstreams_exceeded = \"end_newest\"",
            "is not a word",
        ),
        (
            "[route.limits]\nbucket = \"shared\"\nrate = 1",
            "`bucket` is shared, whose figures are those of the class",
        ),
        (
            "[route.limits]\nburst = 1",
            "`burst` says nothing without a `rate`",
        ),
    ] {
        let told = read(text).map(|_| ()).unwrap_err();
        assert!(told.contains(words), "{text}\n{told}");
    }
}
