use std::path::Path;

use serde_json::json;

use super::*;
use crate::config::Config;
use crate::identity::testing::{claims_of, identity};
use crate::refusal::Refusal;
use crate::request::credential::{Credential, Place};
use crate::secret::Secret;

fn config(text: &str) -> Config {
    let text = format!(
        "[[issuer]]\nname = \"i\"\niss = \"i\"\naudience = [\"a\"]\nalgorithms = [\"HS256\"]\n\
         secret = \"b5Lw0yT9Qm3ZcXeR7vUaK1oNhJ4sGdFp\"\n\
         [[upstream]]\nname = \"u\"\nendpoints = [\"http://127.0.0.1:1\"]\n\
         [[route]]\nname = \"r\"\npath = \"/\"\nupstream = \"u\"\n{text}\n"
    );
    crate::config::parse(&text, Path::new("test.toml"), &|_| None)
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn user(change: impl FnOnce(&mut Identity)) -> Caller {
    let mut identity = identity("u", 1000);
    identity.roles = Vec::new();
    identity.anonymous = false;
    change(&mut identity);
    Caller::Known(Arc::new(identity))
}

fn class_of(limits: &config::Limits, caller: &Caller) -> Option<String> {
    find(&limits.classes, caller).map(|at| limits.classes[at].name.to_string())
}

#[test]
fn the_first_class_that_takes_a_caller_counts() {
    let limits = config(
        "[[limits.class]]\nname = \"team\"\nroles = [\"team\", \"staff\"]\n\
         [[limits.class]]\nname = \"paying\"\n\
         require = [{ claim = \"app_metadata.plan\", one_of = [\"pro\", \"max\"] }]\n",
    )
    .limits;
    let bad = Caller::Unverified(
        Refusal::TokenExpired,
        Credential {
            token: Secret::new("t".into()),
            place: Place::Bearer,
        },
    );
    let pays = |it: &mut Identity| {
        it.claims = claims_of(json!({"app_metadata": {"plan": "pro"}}));
    };
    for (caller, class) in [
        (Caller::Guest, "anonymous"),
        (bad, "anonymous"),
        (user(|it| it.anonymous = true), "anonymous"),
        (user(|_| ()), "permanent"),
        (user(|it| it.roles = vec!["staff".into()]), "team"),
        (user(pays), "paying"),
        (
            user(|it| {
                pays(it);
                it.roles = vec!["team".into()];
            }),
            "team",
        ),
        (
            user(|it| {
                pays(it);
                it.anonymous = true;
            }),
            "paying",
        ),
    ] {
        assert_eq!(class_of(&limits, &caller).as_deref(), Some(class));
    }
}

#[test]
fn a_caller_of_no_class_is_not_limited() {
    let limits = config("[[limits.class]]\nname = \"anonymous\"\ncallers = [\"anonymous\"]").limits;
    assert_eq!(class_of(&limits, &Caller::Guest), None);
}

#[test]
fn a_route_says_what_is_other_there() {
    let config = config("[route.limits]\nrate = 2\nper = \"1m\"\nburst = 4\nstreams = 0");
    let rules = Rules::build(&config.routes[0], &config.limits).unwrap();
    assert_eq!(&*rules.bucket, "r");
    let terms = rules.terms(0);
    assert_eq!(terms.figures.streams, None);
    assert_eq!(terms.figures.daily, Some(1000));
    assert_eq!(
        terms.policy,
        r#""anonymous";q=4;w=120, "anonymous-daily";q=1000;w=86400"#
    );
    let off = self::config("[route.limits]\nenabled = false");
    assert!(Rules::build(&off.routes[0], &off.limits).is_none());
    let off = self::config("[limits]\nenabled = false");
    assert!(Rules::build(&off.routes[0], &off.limits).is_none());
}

#[test]
fn the_policies_are_told_by_name() {
    let config = config("");
    let rules = Rules::build(&config.routes[0], &config.limits).unwrap();
    assert_eq!(
        rules.terms(1).policy,
        r#""permanent";q=10;w=1, "permanent-streams";q=2;qu="concurrent-requests""#
    );
}

#[test]
fn terms_read_well() {
    let config = config("[[limits.class]]\nname = \"free\"");
    let rules = Rules::build(&config.routes[0], &config.limits).unwrap();
    assert_eq!(rules.terms(0).to_string(), "class free: any rate");
    assert_eq!(
        rules.terms(1).to_string(),
        "class anonymous: 5 at once, then one every 200ms; 2 streams; 1000 a day"
    );
}
