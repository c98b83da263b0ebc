use http::{HeaderMap, HeaderValue, Request};
use proptest::prelude::*;

use super::*;

fn sources() -> Sources {
    Sources::build(&[
        Source::Bearer,
        Source::Header(HeaderName::from_static("token")),
        Source::Header(HeaderName::from_static("x-session-token")),
        Source::Query("token".into()),
        Source::Query("access_token".into()),
        Source::Cookie("portcullis".into()),
        Source::Subprotocol,
    ])
}

/// `target` and header lines to a request's head.
fn parts(target: &str, lines: &[(&str, &str)]) -> Parts {
    let mut request = Request::new(());
    *request.uri_mut() = target.parse().unwrap();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        request
            .headers_mut()
            .append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    request.into_parts().0
}

/// What was found, in short, and what is left of the request.
fn take(target: &str, lines: &[(&str, &str)]) -> (String, String, HeaderMap) {
    let mut parts = parts(target, lines);
    let found = match sources().take(&mut parts, &sources()) {
        Err(refusal) => refusal.word().to_owned(),
        Ok(Taken { found, .. }) => word(&found),
    };
    (found, parts.uri.to_string(), parts.headers)
}

fn word(found: &Found) -> String {
    match found {
        Found::Nothing => "nothing".to_owned(),
        Found::Token(credential) => {
            format!("{:?} {}", credential.place, credential.token.expose())
        }
        Found::Bad(refusal, credential) => {
            assert!(credential.token.expose().is_empty());
            refusal.word().to_owned()
        }
    }
}

#[test]
fn a_token_is_of_b64token_bytes_and_padding_at_its_end() {
    for byte in 0..=u8::MAX {
        let plain = byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        assert_eq!(places::is_token(&[byte]), plain, "{byte:#x}");
        assert_eq!(places::is_token(&[b'a', byte, b'z']), plain, "{byte:#x}");
        let padding = plain || byte == b'=';
        assert_eq!(places::is_token(&[b'a', byte, b'=']), padding, "{byte:#x}");
    }
    assert!(!places::is_token(b""));
    assert!(!places::is_token(b"=="));
}

#[test]
fn each_place_is_looked_in() {
    for (target, lines, found) in [
        ("/", &[("authorization", "Bearer abc")][..], "Bearer abc"),
        ("/", &[("authorization", "bearer abc")], "Bearer abc"),
        (
            "/",
            &[("authorization", "BEARER a.b-c_~+/==")],
            "Bearer a.b-c_~+/==",
        ),
        ("/", &[("token", "abc")], "Header abc"),
        ("/", &[("x-session-token", "abc")], "Header abc"),
        ("/?token=abc", &[], "Query abc"),
        ("/?a=1&access_token=abc", &[], "Query abc"),
        ("/?%74oken=%61bc", &[], "Query abc"),
        ("/", &[("cookie", "a=1; portcullis=abc; b=2")], "Cookie abc"),
        (
            "/",
            &[("cookie", "a=1"), ("cookie", "portcullis=abc")],
            "Cookie abc",
        ),
        (
            "/",
            &[("sec-websocket-protocol", "bearer, abc, chat.v1")],
            "Subprotocol abc",
        ),
        (
            "/",
            &[
                ("sec-websocket-protocol", "chat.v1"),
                ("sec-websocket-protocol", "bearer,abc"),
            ],
            "Subprotocol abc",
        ),
    ] {
        assert_eq!(take(target, lines).0, found, "{target} {lines:?}");
    }
}

#[test]
fn two_that_differ_are_refused_and_the_same_twice_is_one() {
    let places: [(&str, &[(&str, &str)]); 5] = [
        ("/", &[("authorization", "Bearer A")]),
        ("/", &[("token", "A")]),
        ("/?token=A", &[]),
        ("/", &[("cookie", "portcullis=A")]),
        ("/", &[("sec-websocket-protocol", "bearer, A")]),
    ];
    for (at, (target, lines)) in places.iter().enumerate() {
        for (other_target, other_lines) in &places[at + 1..] {
            let target = if other_target.len() > 1 {
                other_target
            } else {
                target
            };
            let same: Vec<_> = lines.iter().chain(*other_lines).copied().collect();
            let (found, uri, headers) = take(target, &same);
            assert!(found.ends_with(" A"), "{target} {same:?}: {found}");
            assert!(headers.is_empty() && uri == "/", "{headers:?} {uri}");
            let swap = |text: &str| text.replace('A', "B");
            let mut differ: Vec<_> = lines.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
            differ.extend(other_lines.iter().map(|(n, v)| (*n, swap(v))));
            let target = if other_target.len() > 1 {
                swap(other_target)
            } else {
                (*target).to_owned()
            };
            let differ: Vec<_> = differ.iter().map(|(n, v)| (*n, v.as_str())).collect();
            assert_eq!(
                take(&target, &differ).0,
                "credentials_conflict",
                "{target} {differ:?}"
            );
        }
    }
}

#[test]
fn two_in_one_place_that_differ_are_refused() {
    for (target, lines) in [
        (
            "/",
            &[("authorization", "Bearer A"), ("authorization", "Bearer B")][..],
        ),
        (
            "/",
            &[
                ("authorization", "Basic eDp5"),
                ("authorization", "Bearer B"),
            ],
        ),
        ("/", &[("token", "A"), ("token", "B")]),
        ("/", &[("token", "A"), ("x-session-token", "B")]),
        ("/?token=A&token=B", &[]),
        ("/?token=A&access_token=B", &[]),
        ("/?token=A&%74oken=B", &[]),
        ("/", &[("cookie", "portcullis=A; portcullis=B")]),
        (
            "/",
            &[("cookie", "portcullis=A"), ("cookie", "portcullis=B")],
        ),
        ("/", &[("sec-websocket-protocol", "bearer, A, bearer, B")]),
        // A bad one never gives way to a good one.
        ("/?token=A", &[("authorization", "Bearer")]),
        ("/?token=A", &[("authorization", "Bearer A B")]),
        ("/?token=", &[("token", "A")]),
    ] {
        assert_eq!(
            take(target, lines).0,
            "credentials_conflict",
            "{target} {lines:?}"
        );
    }
    for lines in [
        [("authorization", "Bearer A"), ("authorization", "Bearer A")],
        [("token", "A"), ("x-session-token", "A")],
    ] {
        assert!(take("/?token=A&token=A", &lines).0.ends_with(" A"));
    }
}

#[test]
fn what_cannot_be_a_token_is_bad_and_not_absent() {
    for (target, lines) in [
        ("/", &[("authorization", "Bearer A, Bearer B")][..]),
        ("/", &[("authorization", "Bearer A B")]),
        ("/", &[("authorization", "Bearer  A")]),
        ("/", &[("authorization", "Bearer \"A\"")]),
        ("/", &[("authorization", "Bearer\tA")]),
        ("/", &[("authorization", "BearerA")]),
        ("/", &[("authorization", "Bearer")]),
        ("/", &[("authorization", "Bearer ")]),
        ("/", &[("authorization", "")]),
        ("/", &[("authorization", "Bearer A,")]),
        ("/", &[("authorization", "Basic eDp5, Bearer A")]),
        ("/", &[("authorization", "Bearer \u{e9}")]),
        ("/", &[("authorization", "Bearer =")]),
        ("/", &[("token", "")]),
        ("/", &[("token", "Bearer A")]),
        ("/?token=", &[]),
        ("/?token", &[]),
        ("/?token=a%20b", &[]),
        ("/?token=%zz", &[]),
        ("/?token=%ff", &[]),
        ("/?token=%2541", &[]),
        ("/", &[("cookie", "portcullis=")]),
        ("/", &[("cookie", "portcullis=\"A\"")]),
        ("/", &[("sec-websocket-protocol", "bearer")]),
        ("/", &[("sec-websocket-protocol", "chat, bearer")]),
    ] {
        let (found, uri, headers) = take(target, lines);
        assert_eq!(found, "credential_malformed", "{target} {lines:?}");
        assert!(!uri.contains("token"), "{uri}");
        assert!(!headers.contains_key(AUTHORIZATION), "{headers:?}");
    }
    let long = "A".repeat(MAX_TOKEN);
    assert!(take("/", &[("token", &long)]).0.starts_with("Header A"));
    assert_eq!(
        take("/", &[("token", &format!("{long}A"))]).0,
        "token_malformed"
    );
}

#[test]
fn what_only_looks_like_a_place_is_none() {
    for (target, lines) in [
        ("/", &[("x_session_token", "A")][..]),
        ("/", &[("proxy-authorization", "Bearer A")]),
        ("/", &[("authorization", "Basic eDp5")]),
        ("/?TOKEN=A", &[]),
        ("/?token[]=A", &[]),
        ("/?%2574oken=A", &[]),
        ("/?a=1;token=A", &[]),
        ("/?a=b?token=A", &[]),
        ("/;token=A", &[]),
        ("/token=A", &[]),
        ("/", &[("cookie", "Portcullis=A; portcullis2=B")]),
        ("/", &[("sec-websocket-protocol", "chat, A")]),
    ] {
        let (found, uri, headers) = take(target, lines);
        assert_eq!(found, "nothing", "{target} {lines:?}");
        assert_eq!((uri.as_str(), headers.len()), (target, lines.len()));
    }
}

#[test]
fn the_rest_of_the_request_stays_byte_for_byte() {
    for (target, left) in [
        ("/a?token=A", "/a"),
        ("/a?token=A&b=%2f+%41", "/a?b=%2f+%41"),
        ("/a?b=1&token=A&c=?x;y&&d", "/a?b=1&c=?x;y&&d"),
        ("/a?b=1&token=A&access_token=A", "/a?b=1"),
        ("/a?", "/a?"),
        ("/a?&", "/a?&"),
    ] {
        assert_eq!(take(target, &[]).1, left, "{target}");
    }
    for (lines, left) in [
        (&["a=1; portcullis=A; b=\"2\""][..], &["a=1; b=\"2\""][..]),
        (&["portcullis=A; a=1;b=2"], &["a=1;b=2"]),
        (&["a=1", "portcullis=A", "b=2"], &["a=1", "b=2"]),
        (&["portcullis=A"], &[]),
        (&["a=1;  ", "b"], &["a=1;  ", "b"]),
    ] {
        let lines: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
        let headers = take("/", &lines).2;
        let kept: Vec<_> = headers.get_all(COOKIE).iter().collect();
        assert_eq!(kept, left, "{lines:?}");
    }
    for (offer, left) in [
        ("bearer, A, chat.v1", Some("chat.v1")),
        ("a, bearer, A, b", Some("a, b")),
        ("bearer, A", None),
        ("a,b", Some("a,b")),
    ] {
        let headers = take("/", &[("sec-websocket-protocol", offer)]).2;
        let kept = headers
            .get(SEC_WEBSOCKET_PROTOCOL)
            .map(|value| value.to_str().unwrap());
        assert_eq!(kept, left, "{offer}");
    }
}

#[test]
fn every_place_is_emptied_also_those_that_the_route_does_not_allow() {
    let route = Sources::build(&[Source::Bearer]);
    let lines = [
        ("authorization", "Bearer A"),
        ("token", "B"),
        ("x-session-token", "C"),
        ("cookie", "portcullis=D"),
        ("sec-websocket-protocol", "bearer, E"),
    ];
    let mut parts = parts("/x?token=F&a=1", &lines);
    let taken = route.take(&mut parts, &sources()).unwrap();
    assert_eq!(word(&taken.found), "Bearer A");
    assert!(taken.offered_bearer);
    assert!(parts.headers.is_empty());
    assert_eq!(parts.uri, "/x?a=1");
}

#[test]
fn looking_changes_nothing() {
    let lines = [("token", "A"), ("cookie", "portcullis=A")];
    let parts = parts("/?token=A", &lines);
    assert_eq!(word(&sources().look(&parts).unwrap()), "Header A");
    assert_eq!(parts.headers.len(), 2);
}

#[test]
fn nothing_prints_a_token() {
    let taken = sources().take(&mut parts("/?token=hunter2", &[]), &sources());
    assert!(!format!("{taken:?}").contains("hunter2"));
}

proptest! {
    #[test]
    fn no_spelling_of_the_query_keeps_a_token(query in "(token|%74oken|a|=|&|\\?|;|%26|%3D|hunter2){0,10}") {
        let mut parts = parts(&format!("/?{query}"), &[]);
        let _ = sources().take(&mut parts, &sources());
        let left = parts.uri.query().unwrap_or_default();
        prop_assert_eq!(places::query_values(left, &["token".into()]).count(), 0);
    }

    #[test]
    fn what_is_not_ours_is_kept(query in "[a-z0-9=&%?;]{0,20}") {
        let pairs: Vec<_> = query.split('&').filter(|pair| !pair.contains("token")).collect();
        let query = pairs.join("&");
        let mut parts = parts(&format!("/?{query}&token=A"), &[]);
        sources().remove(&mut parts);
        prop_assert_eq!(parts.uri.query().unwrap_or_default(), query);
    }
}
