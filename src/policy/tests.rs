use std::path::Path;

use http::{HeaderName, Request};
use serde_json::{Value, json};

use super::*;
use crate::identity::testing::{claims_of, identity};
use crate::request::credential::Credential;
use crate::request::head::HeadRules;
use crate::request::peer::Peer;
use crate::secret::Secret;

fn config(more: &str) -> config::Config {
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n\
         [[issuer]]\nname = \"i\"\niss = \"i\"\naudience = [\"a\"]\nalgorithms = [\"HS256\"]\n\
         secret = \"b5Lw0yT9Qm3ZcXeR7vUaK1oNhJ4sGdFp\"\n\
         [[upstream]]\nname = \"u\"\nendpoints = [\"http://127.0.0.1:1\"]\n\
         [[route]]\nname = \"r\"\npath = \"/\"\nupstream = \"u\"\n{more}\n"
    );
    config::parse(&text, Path::new("test.toml"), &|_| None)
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn policy(more: &str) -> Policy {
    Policy::build(&config(more).routes[0])
}

fn head(method: &str, lines: &[(&'static str, &str)], secure: bool) -> Head {
    let mut request = Request::new(());
    *request.method_mut() = method.parse().unwrap();
    request
        .headers_mut()
        .insert("host", HeaderValue::from_static("example.com"));
    for (name, value) in lines {
        let name = HeaderName::from_static(name);
        request
            .headers_mut()
            .append(name, HeaderValue::from_str(value).unwrap());
    }
    let peer = Peer {
        address: "192.0.2.1".parse().ok(),
        secure,
    };
    let rules = HeadRules::build(&config("auth = \"public\"").server);
    Head::read(&mut request.into_parts().0, peer, &rules).unwrap()
}

fn get() -> Head {
    head("GET", &[], true)
}

fn known(roles: &[&str], claims: Value) -> Caller {
    Caller::Known(Arc::new(Identity {
        roles: roles.iter().map(|role| Box::from(*role)).collect(),
        claims: claims_of(claims),
        ..identity("u", 0)
    }))
}

fn bad(refusal: Refusal) -> Caller {
    let credential = Credential {
        token: Secret::new("t".into()),
        place: Place::Bearer,
    };
    Caller::Unverified(refusal, credential)
}

fn decide(policy: &Policy, caller: Caller) -> Result<AuthStatus, Refusal> {
    policy
        .decide(caller, Some(Place::Bearer), &get())
        .map(|permit| permit.status())
}

#[test]
fn each_kind_of_route_takes_each_kind_of_caller() {
    let expired = || bad(Refusal::TokenExpired);
    let no_keys = || bad(Refusal::KeysUnavailable);
    let user = || known(&[], json!({}));
    let cases = [
        ("auth = \"public\"", Caller::Guest, Ok(AuthStatus::Guest)),
        ("auth = \"public\"", user(), Ok(AuthStatus::Guest)),
        ("auth = \"public\"", expired(), Ok(AuthStatus::Guest)),
        ("auth = \"optional\"", Caller::Guest, Ok(AuthStatus::Guest)),
        ("auth = \"optional\"", user(), Ok(AuthStatus::Authenticated)),
        (
            "auth = \"optional\"",
            expired(),
            Ok(AuthStatus::InvalidToken),
        ),
        (
            "auth = \"optional\"",
            no_keys(),
            Err(Refusal::KeysUnavailable),
        ),
        (
            "auth = \"optional\"",
            bad(Refusal::StoreUnavailable),
            Err(Refusal::StoreUnavailable),
        ),
        (
            "auth = \"optional\"\non_invalid = \"reject\"",
            expired(),
            Err(Refusal::TokenExpired),
        ),
        (
            "auth = \"optional\"\non_invalid = \"reject\"",
            Caller::Guest,
            Ok(AuthStatus::Guest),
        ),
        (
            "auth = \"required\"",
            Caller::Guest,
            Err(Refusal::TokenMissing),
        ),
        ("auth = \"required\"", user(), Ok(AuthStatus::Authenticated)),
        ("auth = \"required\"", expired(), Err(Refusal::TokenExpired)),
        (
            "auth = \"required\"",
            bad(Refusal::IssuerUnknown),
            Err(Refusal::IssuerUnknown),
        ),
        (
            "auth = \"required\"",
            no_keys(),
            Err(Refusal::KeysUnavailable),
        ),
    ];
    for (route, caller, decision) in cases {
        assert_eq!(
            decide(&policy(route), caller.clone()),
            decision,
            "{route} {caller:?}"
        );
    }
}

#[test]
fn only_a_known_caller_has_an_identity() {
    let optional = policy("auth = \"optional\"");
    let permit = optional
        .decide(bad(Refusal::TokenExpired), Some(Place::Bearer), &get())
        .unwrap();
    assert!(permit.identity().is_none());
    assert_eq!(permit.client(), "192.0.2.1".parse().ok());
    let public = policy("auth = \"public\"");
    let permit = public
        .decide(known(&[], json!({})), Some(Place::Bearer), &get())
        .unwrap();
    assert!(permit.identity().is_none());
}

#[test]
fn one_of_the_roles_is_needed() {
    let staff = policy("auth = \"required\"\nroles = [\"admin\", \"staff\"]");
    assert!(decide(&staff, known(&["user", "staff"], json!({}))).is_ok());
    for roles in [
        &[][..],
        &["user"],
        &["Admin"],
        &["admin,staff"],
        &["admin "],
    ] {
        assert_eq!(
            decide(&staff, known(roles, json!({}))),
            Err(Refusal::RoleMissing),
            "{roles:?}"
        );
    }
}

#[test]
fn every_condition_must_hold() {
    for (condition, claims, fits) in [
        ("equals = \"pro\"", json!({"c": "pro"}), true),
        ("equals = \"pro\"", json!({"c": "Pro"}), false),
        ("equals = \"pro\"", json!({"c": ["pro"]}), false),
        ("equals = \"pro\"", json!({}), false),
        ("equals = 1", json!({"c": 1}), true),
        ("equals = 1", json!({"c": "1"}), false),
        ("equals = true", json!({"c": "true"}), false),
        ("one_of = [\"a\", \"b\"]", json!({"c": "b"}), true),
        ("one_of = [\"a\", \"b\"]", json!({"c": "c"}), false),
        ("one_of = [\"a\", \"b\"]", json!({"c": null}), false),
        ("contains = \"a\"", json!({"c": ["b", "a"]}), true),
        ("contains = \"a\"", json!({"c": "a"}), false),
        ("contains = \"a\"", json!({"c": {"a": 1}}), false),
        ("exists = true", json!({"c": 0}), true),
        ("exists = true", json!({"c": null}), false),
        ("exists = true", json!({}), false),
        ("exists = false", json!({}), true),
        ("exists = false", json!({"c": null}), true),
        ("exists = false", json!({"c": 1}), false),
    ] {
        let policy = policy(&format!(
            "auth = \"required\"\nrequire = [{{ claim = \"c\", {condition} }}]"
        ));
        assert_eq!(
            decide(&policy, known(&[], claims.clone())).is_ok(),
            fits,
            "{condition} {claims}"
        );
    }
    let both = "auth = \"required\"\nrequire = [{ claim = \"c\", exists = true }, { claim = \"d\", exists = true }]";
    assert_eq!(
        decide(&policy(both), known(&[], json!({"c": 1}))),
        Err(Refusal::ConditionFailed)
    );
}

#[test]
fn only_a_real_preflight_passes_unasked() {
    let required = policy("auth = \"required\"");
    let origin = ("origin", "https://a");
    let asked = ("access-control-request-method", "POST");
    let decide = |caller, method, lines: &[_]| {
        let head = head(method, lines, true);
        required
            .decide(caller, Some(Place::Bearer), &head)
            .map(|permit| permit.status())
    };
    assert_eq!(
        decide(Caller::Guest, "OPTIONS", &[origin, asked]),
        Ok(AuthStatus::Guest)
    );
    assert_eq!(
        decide(Caller::Guest, "OPTIONS", &[origin]),
        Err(Refusal::TokenMissing)
    );
    assert_eq!(
        decide(Caller::Guest, "OPTIONS", &[]),
        Err(Refusal::TokenMissing)
    );
    assert_eq!(
        decide(Caller::Guest, "GET", &[origin, asked]),
        Err(Refusal::TokenMissing)
    );
    let expired = bad(Refusal::TokenExpired);
    assert_eq!(
        decide(expired, "OPTIONS", &[origin, asked]),
        Err(Refusal::TokenExpired)
    );
}

const HANDSHAKE: [(&str, &str); 4] = [
    ("upgrade", "websocket"),
    ("connection", "upgrade"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A handshake with these `Origin` lines, by a caller whose token stood at `place`.
fn handshake(policy: &Policy, origins: &[&str], place: Option<Place>) -> Result<(), Refusal> {
    let origins = origins.iter().map(|origin| ("origin", *origin));
    let lines: Vec<_> = HANDSHAKE.iter().copied().chain(origins).collect();
    let head = head("GET", &lines, true);
    policy
        .decide(known(&[], json!({})), place, &head)
        .map(|_| ())
}

#[test]
fn a_cookie_opens_a_websocket_for_its_own_origin_only() {
    let own = policy("auth = \"optional\"");
    for origin in ["https://example.com", "https://example.com:443"] {
        assert_eq!(
            handshake(&own, &[origin], Some(Place::Cookie)),
            Ok(()),
            "{origin}"
        );
    }
    let listed = policy("auth = \"required\"\norigins = [\"https://app.example:8443\"]");
    assert_eq!(
        handshake(&listed, &["https://app.example:8443"], Some(Place::Cookie)),
        Ok(())
    );
    for (policy, origins) in [
        (&own, &[][..]),
        (&own, &["null"]),
        (&own, &[""]),
        (&own, &["http://example.com"]),
        (&own, &["https://example.com:8443"]),
        (&own, &["https://example.com.evil"]),
        (&own, &["https://evil-example.com"]),
        (&own, &["https://a.example.com"]),
        (&own, &["https://example.com@evil"]),
        (&own, &["https://example.com/"]),
        (&own, &["https://example.com", "https://example.com"]),
        (&own, &["https://example.com, https://example.com"]),
        (&listed, &["https://example.com"]),
        (&listed, &["https://app.example"]),
        (&listed, &["http://app.example:8443"]),
    ] {
        let found = handshake(policy, origins, Some(Place::Cookie));
        assert_eq!(found, Err(Refusal::OriginForbidden), "{origins:?}");
        // A caller of unknown place is held to the strictest rule.
        assert_eq!(
            handshake(policy, origins, None),
            Err(Refusal::OriginForbidden)
        );
        // No page can make a browser send these.
        for place in [
            Place::Bearer,
            Place::Header,
            Place::Query,
            Place::Subprotocol,
        ] {
            assert_eq!(handshake(policy, origins, Some(place)), Ok(()));
        }
    }
}

#[test]
fn a_bad_cookie_is_held_to_its_origin_too() {
    let lines: Vec<_> = HANDSHAKE
        .iter()
        .copied()
        .chain([("origin", "https://evil")])
        .collect();
    let head = head("GET", &lines, true);
    let optional = policy("auth = \"optional\"");
    let decision = optional.decide(bad(Refusal::TokenExpired), Some(Place::Cookie), &head);
    assert_eq!(decision.err(), Some(Refusal::OriginForbidden));
    assert!(optional.decide(Caller::Guest, None, &head).is_ok());
}

#[test]
fn a_cookie_needs_no_origin_for_plain_requests() {
    let required = policy("auth = \"required\"");
    assert!(
        required
            .decide(known(&[], json!({})), Some(Place::Cookie), &get())
            .is_ok()
    );
}
