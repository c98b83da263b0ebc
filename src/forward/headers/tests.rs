use std::path::Path;
use std::sync::Arc;

use http::Request;
use proptest::prelude::*;

use super::*;
use crate::identity::testing::identity;
use crate::identity::{Caller, Identity};
use crate::observe::request_id::RequestId;
use crate::request::head::HeadRules;
use crate::request::peer::Peer;

fn config(more: &str) -> config::Config {
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\ntrusted_proxies = [\"10.0.0.0/8\"]\n\
         [identity.headers]\nx-plan = \"plan\"\n\
         [[issuer]]\nname = \"i\"\niss = \"i\"\naudience = [\"a\"]\nalgorithms = [\"HS256\"]\n\
         secret = \"b5Lw0yT9Qm3ZcXeR7vUaK1oNhJ4sGdFp\"\n\
         [[upstream]]\nname = \"u\"\nendpoints = [\"http://127.0.0.1:1\"]\n\
         [[route]]\nname = \"r\"\npath = \"/\"\nupstream = \"u\"\nauth = \"optional\"\n{more}"
    );
    config::parse(&text, Path::new("test.toml"), &|_| None)
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn known() -> Caller {
    let field = |name, value| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    };
    Caller::Known(Arc::new(Identity {
        headers: [field("x-user-id", "u1"), field("x-user-role", "member")]
            .into_iter()
            .collect(),
        ..identity("u1", 0)
    }))
}

fn lines(lines: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    let mut map = HeaderMap::new();
    for (name, value) in lines.iter().map(field) {
        map.append(name, value);
    }
    map
}

/// What goes to the upstream of these client's lines, seen from `peer`.
fn forward(sent: &[(&str, &str)], caller: Caller, peer: &str, more: &str) -> HeaderMap {
    let config = config(more);
    let mut request = Request::new(());
    *request.headers_mut() = lines(sent);
    request
        .headers_mut()
        .insert("host", HeaderValue::from_static("h:81"));
    let mut parts = request.into_parts().0;
    let peer = Peer {
        address: peer.parse().ok(),
        secure: true,
    };
    let head = Head::read(&mut parts, peer, &HeadRules::build(&config.server)).unwrap();
    let plan = HeaderPlan::build(&config.routes[0], &config, &Screens::build(&config));
    let id = RequestId::adopt("our-id").unwrap();
    let stamp = Stamp {
        id: &id,
        forwarding: &Forwarding::from_peer(head.peer()),
    };
    let permit = Permit::for_test(caller);
    let tail = plan.request(&mut parts.headers, &head, &permit, stamp);
    let mut written = Vec::new();
    tail.write(&mut written);
    // What is said behind them, nothing in them says, and both ways to say it are the same.
    let mut all = parts.headers.clone();
    for line in std::str::from_utf8(&written)
        .unwrap()
        .split_terminator("\r\n")
    {
        let (name, value) = line.split_once(": ").unwrap();
        let name: HeaderName = name.parse().unwrap();
        assert!(!all.contains_key(&name), "{name} is said twice");
        all.append(name, value.parse().unwrap());
    }
    tail.put(&mut parts.headers);
    assert_eq!(parts.headers, all);
    all
}

fn as_known(sent: &[(&str, &str)]) -> HeaderMap {
    forward(sent, known(), "192.0.2.1", "")
}

/// Every value of a name.
fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect()
}

#[test]
fn a_verified_caller_has_exactly_our_identity() {
    let headers = as_known(&[
        ("x-user-id", "evil"),
        ("X-User-Id", "evil2"),
        ("x_user_id", "evil"),
        ("x-user_id", "evil"),
        ("x.user.id", "evil"),
        ("x-user-email", "evil"),
        ("x-session-id", "evil"),
        ("x_session_id", "evil"),
        ("x-auth-status", "authenticated"),
        ("x_auth-status", "authenticated"),
        ("x-request-id", "evil"),
        ("x_request_id", "evil"),
        ("x-plan", "pro"),
        ("x_plan", "pro"),
        ("x-mine", "kept"),
        ("connection", "x-user-id, X-User-Role, close, x-auth-status"),
        ("connection", "x-request-id"),
    ]);
    assert_eq!(all(&headers, "x-user-id"), ["u1"]);
    assert_eq!(all(&headers, "x-user-role"), ["member"]);
    assert_eq!(all(&headers, "x-auth-status"), ["authenticated"]);
    assert_eq!(all(&headers, "x-request-id"), ["our-id"]);
    assert_eq!(all(&headers, "x-mine"), ["kept"]);
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "forwarded",
            "host",
            "x-auth-status",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-mine",
            "x-request-id",
            "x-user-id",
            "x-user-role",
        ]
    );
}

#[test]
fn a_guest_has_no_identity_whatever_was_sent() {
    let sent = [("x-user-id", "evil"), ("x_user_email", "evil")];
    let headers = forward(&sent, Caller::Guest, "192.0.2.1", "");
    assert_eq!(all(&headers, "x-auth-status"), ["guest"]);
    assert!(!headers.keys().any(|name| name.as_str().contains("user")));
}

#[test]
fn hop_by_hop_and_framing_tricks_go() {
    let headers = as_known(&[
        ("connection", "keep-alive, x-drop"),
        ("x-drop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic x"),
        ("proxy_authorization", "Basic x"),
        ("te", "gzip"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ("transfer_encoding", "chunked"),
        ("content_length", "5"),
        ("expect", "100-continue"),
        ("x-original-url", "/admin"),
        ("x-rewrite-url", "/admin"),
        ("x_original_url", "/admin"),
        ("x_session_token", "t"),
        ("content-length", "3"),
        ("content-type", "text/plain"),
    ]);
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.retain(|name| !name.starts_with("x-") && *name != "forwarded");
    names.sort_unstable();
    assert_eq!(names, ["content-length", "content-type", "host"]);
    assert!(
        !headers
            .keys()
            .any(|name| name.as_str().contains("original") || name.as_str().contains("_"))
    );
}

#[test]
fn what_must_stay_cannot_be_nominated_away() {
    let nominated = "host, content-length, Host, x-forwarded-for, x-forwarded-proto, forwarded";
    let headers = forward(
        &[
            ("connection", nominated),
            ("content-length", "3"),
            ("x-forwarded-for", "1.2.3.4"),
        ],
        known(),
        "10.0.0.1",
        "",
    );
    assert_eq!(all(&headers, "host"), ["h:81"]);
    assert_eq!(all(&headers, "content-length"), ["3"]);
    assert_eq!(all(&headers, "x-forwarded-for"), ["1.2.3.4, 10.0.0.1"]);
}

#[test]
fn forwarding_fields_tell_of_the_connection() {
    let headers = as_known(&[
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "7.7.7.7"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-uri", "/admin"),
        ("x_forwarded_for", "6.6.6.6"),
        ("x-forwarded-client-cert", "evil"),
        ("x-real-ip", "6.6.6.6"),
        ("x_real_ip", "6.6.6.6"),
        ("forwarded", "for=6.6.6.6"),
    ]);
    assert_eq!(all(&headers, "x-forwarded-for"), ["192.0.2.1"]);
    assert_eq!(all(&headers, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&headers, "x-forwarded-host"), ["h:81"]);
    assert_eq!(all(&headers, "forwarded"), ["for=192.0.2.1;proto=https"]);
    let strays = [
        "x-forwarded-uri",
        "x_forwarded_for",
        "x-forwarded-client-cert",
        "x-real-ip",
        "x_real_ip",
    ];
    assert!(strays.iter().all(|name| !headers.contains_key(*name)));
    let v6 = forward(&[], known(), "2001:db8::1", "");
    assert_eq!(all(&v6, "forwarded"), ["for=\"[2001:db8::1]\";proto=https"]);
    let unix = forward(
        &[("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6")],
        known(),
        "",
        "",
    );
    assert!(!unix.contains_key("x-forwarded-for") && !unix.contains_key("forwarded"));
}

#[test]
fn a_trusted_proxys_words_are_passed_on_where_they_can_be_read() {
    let from_proxy = |sent: &[_]| forward(sent, known(), "10.0.0.1", "");
    let headers = from_proxy(&[
        ("x-forwarded-for", "6.6.6.6, 1.2.3.4"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "outer.example"),
        ("x-real-ip", "1.2.3.4"),
        ("x_forwarded_for", "9.9.9.9"),
    ]);
    assert_eq!(
        all(&headers, "x-forwarded-for"),
        ["6.6.6.6, 1.2.3.4, 10.0.0.1"]
    );
    assert_eq!(
        all(&headers, "forwarded"),
        ["for=6.6.6.6;proto=http, for=1.2.3.4, for=10.0.0.1"]
    );
    assert_eq!(all(&headers, "x-forwarded-proto"), ["http"]);
    assert_eq!(all(&headers, "x-forwarded-host"), ["outer.example"]);
    assert_eq!(all(&headers, "x-real-ip"), ["1.2.3.4"]);
    assert!(!headers.contains_key("x_forwarded_for"));
    let headers = from_proxy(&[
        ("x-forwarded-for", "1.2.3.4, nonsense"),
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-host", "a, b"),
    ]);
    assert_eq!(all(&headers, "x-forwarded-for"), ["10.0.0.1"]);
    assert_eq!(all(&headers, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&headers, "x-forwarded-host"), ["h:81"]);
    let headers = from_proxy(&[("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=6.6.6.6")]);
    assert_eq!(all(&headers, "x-forwarded-for"), ["10.0.0.1"]);
    assert_eq!(all(&headers, "forwarded"), ["for=10.0.0.1;proto=https"]);
}

#[test]
fn cookies_that_came_apart_go_as_one_line() {
    let headers = as_known(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
    assert_eq!(all(&headers, "cookie"), ["a=1; b=2; c=3"]);
    assert_eq!(
        all(&as_known(&[("cookie", "a=1; b=2")]), "cookie"),
        ["a=1; b=2"]
    );
}

#[test]
fn trailers_are_asked_for_and_announced_only_where_harmless() {
    let headers = as_known(&[("te", "gzip, Trailers"), ("trailer", "Content-Digest")]);
    assert_eq!(all(&headers, "te"), ["trailers"]);
    assert_eq!(all(&headers, "trailer"), ["Content-Digest"]);
    for announced in [
        "x-user-id",
        "Content-Digest, X-User-Id",
        "content-length",
        "",
    ] {
        assert!(
            !as_known(&[("trailer", announced)]).contains_key("trailer"),
            "{announced}"
        );
    }
    let sent = lines(&[
        ("x-user-id", "evil"),
        ("x_user_id", "evil"),
        ("authorization", "x"),
        ("content-digest", "d"),
        ("content-length", "1"),
    ]);
    let kept = clean_trailers(Frame::trailers(sent))
        .into_trailers()
        .unwrap();
    assert_eq!(
        kept.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
        ["content-digest"]
    );
    let answered = lines(&[
        ("grpc-status", "0"),
        ("content-length", "1"),
        ("transfer_encoding", "x"),
        ("set-cookie", "x"),
    ]);
    let kept = clean_answer_trailers(Frame::trailers(answered))
        .into_trailers()
        .unwrap();
    assert_eq!(
        kept.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
        ["grpc-status"]
    );
    assert!(clean_trailers(Frame::data(Bytes::from_static(b"x"))).is_data());
}

#[test]
fn a_routes_rules_are_kept() {
    let rules = "[route.headers]\nrequest_set = { x-set = \"1\" }\nrequest_remove = [\"x-remove\"]\n\
                 response_set = { x-back = \"1\" }\nresponse_remove = [\"server\"]\n";
    let headers = forward(&[("x-set", "0"), ("x-remove", "1")], known(), "", rules);
    assert_eq!(all(&headers, "x-set"), ["1"]);
    assert!(!headers.contains_key("x-remove"));
    let config = config(rules);
    let plan = HeaderPlan::build(&config.routes[0], &config, &Screens::build(&config));
    let mut answer = lines(&[
        ("server", "x"),
        ("connection", "x-hop, content-length"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("proxy-authenticate", "Basic"),
        ("content-length", "3"),
        ("set-cookie", "a"),
        ("set-cookie", "b"),
    ]);
    plan.response(&mut answer);
    let mut names: Vec<_> = answer.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "set-cookie", "x-back"]);
    assert_eq!(answer.get_all("set-cookie").iter().count(), 2);
    hide_query_token(&mut answer);
    assert_eq!(all(&answer, "cache-control"), ["no-store"]);
}

proptest! {
    #[test]
    fn no_identity_name_survives_in_any_spelling(
        name in "(x|X)[-_.!~](user|USER|uSeR)[-_.+](id|ID|email|role|anonymous)",
        nominated in proptest::bool::ANY,
    ) {
        let mut sent = vec![(name.as_str(), "evil")];
        if nominated {
            sent.push(("connection", name.as_str()));
        }
        let headers = as_known(&sent);
        prop_assert!(headers.values().all(|value| value != "evil"));
        prop_assert_eq!(all(&headers, "x-user-id"), ["u1"]);
    }
}
