use http::{HeaderName, Request};

use super::*;
use crate::config::HostPattern;

pub(super) fn rules() -> HeadRules {
    HeadRules {
        http2_websocket: true,
        hosts: Hosts::default(),
        public_probes: false,
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        max_headers: 20,
        max_header_bytes: 2048,
        max_uri: 512,
    }
}

pub(super) const PEER: Peer = Peer {
    address: None,
    secure: false,
};

pub(super) fn parts(method: &str, target: &str, lines: &[(&str, &str)]) -> Parts {
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
    *request.uri_mut() = target.parse().unwrap();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        request.headers_mut().append(name, value);
    }
    request.into_parts().0
}

fn read(method: &str, target: &str, lines: &[(&str, &str)]) -> Result<Head, Refusal> {
    Head::read(&mut parts(method, target, lines), PEER, &rules())
}

/// A request with a sound `Host` and these lines.
pub(super) fn hosted(method: &str, lines: &[(&str, &str)]) -> Result<Head, Refusal> {
    let lines: Vec<_> = [("host", "example.com")]
        .iter()
        .chain(lines)
        .copied()
        .collect();
    read(method, "/", &lines)
}

fn http2(target: &str, lines: &[(&str, &str)]) -> Result<Head, Refusal> {
    let mut parts = parts("GET", target, lines);
    parts.version = Version::HTTP_2;
    Head::read(&mut parts, PEER, &rules())
}

#[test]
fn what_is_read_is_what_is_forwarded() {
    let mut parts = parts(
        "GET",
        "http://A.example.:81/%61%2da?x=%61",
        &[("host", "b")],
    );
    let head = Head::read(&mut parts, PEER, &rules()).unwrap();
    assert_eq!(head.path(), "/a-a");
    assert_eq!(parts.uri, "/a-a?x=%61");
    assert_eq!(head.host().name(), "a.example");
    assert_eq!(head.host().port(), Some(81));
    assert_eq!(
        parts
            .headers
            .get_all(header::HOST)
            .iter()
            .collect::<Vec<_>>(),
        ["a.example:81"]
    );
    assert_eq!(head.logged().path(), "/a-a");
    assert!(head.has_query());
    assert!(!format!("{head:?}").contains("x="));
}

#[test]
fn a_target_without_a_path_has_the_path_slash() {
    let mut parts = parts("GET", "http://example.com?a=1", &[("host", "example.com")]);
    let head = Head::read(&mut parts, PEER, &rules()).unwrap();
    assert_eq!(
        (head.path(), parts.uri.to_string().as_str()),
        ("/", "/?a=1")
    );
}

#[test]
fn a_host_is_one_valid_name() {
    for lines in [
        &[][..],
        &[("host", "a"), ("host", "a")],
        &[("host", "a"), ("host", "b")],
        &[("host", "")],
        &[("host", "a, b")],
        &[("host", "user@a")],
        &[("host", "a/b")],
        &[("host", "a b")],
    ] {
        assert_eq!(
            read("GET", "/", lines).err(),
            Some(Refusal::HostInvalid),
            "{lines:?}"
        );
    }
    let absolute = [
        ("http://user@a/", &[("host", "a")][..]),
        ("http://a/", &[]),
        ("http://a/", &[("host", "a"), ("host", "a")]),
        ("http://a/", &[("host", "b b")]),
    ];
    for (target, lines) in absolute {
        assert_eq!(
            read("GET", target, lines).err(),
            Some(Refusal::HostInvalid),
            "{target} {lines:?}"
        );
    }
}

#[test]
fn the_host_of_http2_is_its_authority() {
    assert_eq!(
        http2("https://A.example/", &[]).unwrap().host().as_str(),
        "a.example"
    );
    assert_eq!(http2("/", &[("host", "a")]).unwrap().host().as_str(), "a");
    assert!(http2("https://a/", &[("host", "A.")]).is_ok());
    for (target, lines) in [
        ("https://a/", &[("host", "b")][..]),
        ("https://a/", &[("host", "a:81")]),
        ("https://a/", &[("host", "a"), ("host", "a")]),
        ("https://user@a/", &[]),
        ("/", &[]),
    ] {
        assert_eq!(
            http2(target, lines).err(),
            Some(Refusal::HostInvalid),
            "{target} {lines:?}"
        );
    }
}

#[test]
fn a_host_that_is_not_served_is_misdirected() {
    let mut rules = rules();
    rules.hosts = Hosts::build(&[HostPattern::Exact("a".into())]);
    let read = |target: &str, host: &str| {
        Head::read(&mut parts("GET", target, &[("host", host)]), PEER, &rules).err()
    };
    assert_eq!(read("/", "A.:8080"), None);
    assert_eq!(read("/", "b"), Some(Refusal::HostUnknown));
    assert_eq!(read("http://b/", "a"), Some(Refusal::HostUnknown));
}

#[test]
fn methods_that_are_not_served_are_refused() {
    for method in [
        "TRACE",
        "TRACK",
        "CONNECT",
        "PRI",
        "get",
        "Get",
        "G_T",
        &"A".repeat(300),
    ] {
        assert_eq!(
            hosted(method, &[]).err(),
            Some(Refusal::MethodRefused),
            "{method}"
        );
    }
    let lines = [("host", "a")];
    assert_eq!(
        read("OPTIONS", "*", &lines).err(),
        Some(Refusal::MethodRefused)
    );
    assert_eq!(read("GET", "*", &lines).err(), Some(Refusal::PathUnsafe));
    assert_eq!(
        read("CONNECT", "a:443", &lines).err(),
        Some(Refusal::MethodRefused)
    );
    assert!(read("GET", "a:443", &lines).is_err());
    for method in ["GET", "POST", "PROPFIND", "M-SEARCH", "OPTIONS"] {
        assert_eq!(hosted(method, &[]).unwrap().method(), method);
    }
}

#[test]
fn one_framing_in_its_one_spelling() {
    for lines in [
        &[("transfer-encoding", "chunked"), ("content-length", "5")][..],
        &[("transfer-encoding", "gzip, chunked")],
        &[("transfer-encoding", "chunked, chunked")],
        &[
            ("transfer-encoding", "chunked"),
            ("transfer-encoding", "chunked"),
        ],
        &[("transfer-encoding", "identity")],
        &[("transfer-encoding", "\"chunked\"")],
        &[("transfer-encoding", "chunked\t")],
        &[("transfer-encoding", "")],
        &[("content-length", "5"), ("content-length", "6")],
        &[("content-length", "5"), ("content-length", "5")],
        &[("content-length", "+5")],
        &[("content-length", "-5")],
        &[("content-length", "0x5")],
        &[("content-length", "5,5")],
        &[("content-length", "")],
    ] {
        assert_eq!(
            hosted("POST", lines).err(),
            Some(Refusal::RequestMalformed),
            "{lines:?}"
        );
    }
    for lines in [
        &[("transfer-encoding", "chunked")][..],
        &[("transfer-encoding", "Chunked")],
        &[("content-length", "5")],
        &[("transfer_encoding", "gzip")],
        &[],
    ] {
        assert!(hosted("POST", lines).is_ok(), "{lines:?}");
    }
    for version in [Version::HTTP_10, Version::HTTP_2] {
        let mut parts = parts(
            "POST",
            "/",
            &[("host", "a"), ("transfer-encoding", "chunked")],
        );
        parts.version = version;
        assert_eq!(
            Head::read(&mut parts, PEER, &rules()).err(),
            Some(Refusal::RequestMalformed)
        );
    }
}

#[test]
fn a_head_keeps_to_its_limits() {
    let long = format!("/{}", "a".repeat(511));
    assert!(read("GET", &long, &[("host", "a")]).is_ok());
    let longer = format!("{long}a");
    assert_eq!(
        read("GET", &longer, &[("host", "a")]).err(),
        Some(Refusal::UriTooLong)
    );
    let query = format!("/?{}", "a".repeat(511));
    assert_eq!(
        read("GET", &query, &[("host", "a")]).err(),
        Some(Refusal::UriTooLong)
    );
    let names: Vec<String> = (0..20).map(|at| format!("x-{at}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    assert!(hosted("GET", &many[..19]).is_ok());
    assert_eq!(hosted("GET", &many).err(), Some(Refusal::HeadersTooLarge));
    let twice = [("x", ""); 20];
    assert_eq!(hosted("GET", &twice).err(), Some(Refusal::HeadersTooLarge));
    let big = "a".repeat(2048);
    assert_eq!(
        hosted("GET", &[("x", &big)]).err(),
        Some(Refusal::HeadersTooLarge)
    );
}

#[test]
fn an_unsafe_path_is_refused() {
    for target in [
        "/a/../b",
        "/a//b",
        "/%2e%2e/a",
        "/a%2fb",
        "/a;/..;/b",
        "/a%00",
    ] {
        let found = read("GET", target, &[("host", "a")]).err();
        assert_eq!(found, Some(Refusal::PathUnsafe), "{target}");
    }
    assert!(read("GET", "/a?b=../..//%2f%00", &[("host", "a")]).is_ok());
    assert!(read("GET", "ftp://a/", &[("host", "a")]).is_err());
}

#[test]
fn a_preflight_is_options_with_one_origin_and_one_method() {
    let origin = ("origin", "https://a");
    let asked = ("access-control-request-method", "PUT");
    let preflight = |method, lines: &[_]| hosted(method, lines).unwrap().preflight().cloned();
    assert_eq!(preflight("OPTIONS", &[origin, asked]), Some(Method::PUT));
    assert_eq!(preflight("OPTIONS", &[origin]), None);
    assert_eq!(preflight("OPTIONS", &[asked]), None);
    assert_eq!(preflight("OPTIONS", &[origin, origin, asked]), None);
    assert_eq!(preflight("OPTIONS", &[origin, asked, asked]), None);
    assert_eq!(preflight("GET", &[origin, asked]), None);
}

#[test]
fn origin_accept_and_language_are_told() {
    let head = hosted(
        "GET",
        &[
            ("origin", "null"),
            ("accept", "text/html, text/event-stream;q=0.9"),
        ],
    );
    let head = head.unwrap();
    assert_eq!(
        *head.origin(),
        OriginHeader::One(HeaderValue::from_static("null"))
    );
    assert!(head.accepts_event_stream());
    let twice = hosted("GET", &[("origin", "https://a"), ("origin", "https://a")]).unwrap();
    assert_eq!(*twice.origin(), OriginHeader::Several);
    assert!(
        !hosted("GET", &[("accept", "*/*")])
            .unwrap()
            .accepts_event_stream()
    );
    for (accepted, language) in [
        ("zh-CN,zh;q=0.9,en;q=0.8", Some(Language::Zh)),
        ("en-GB, zh", Some(Language::En)),
        ("fr, en;q=0.1, ZH;q=0.2", Some(Language::Zh)),
        ("en;q=0, de", None),
        ("en;q=x", None),
        ("en;q=2, zh;q=NaN", None),
        ("*", None),
        ("", None),
    ] {
        let head = hosted("GET", &[("accept-language", accepted)]).unwrap();
        assert_eq!(head.language(), language, "{accepted}");
    }
}
