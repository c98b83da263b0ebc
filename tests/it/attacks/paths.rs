//! Section 5: path, host and method: what is decided on is what is sent.

use super::{Siege, as_user, get, request};

#[tokio::test]
async fn a_path_that_could_be_read_in_two_ways_goes_nowhere() {
    let siege = Siege::lay().await;
    let mut rows = Vec::new();
    for path in [
        "/open/../api/x",
        "/open/..",
        "/open/.",
        "/open/./x",
        "/open/%2e%2e/api/x",
        "/open/.%2e/api/x",
        "/open/%2E./api/x",
        "/open/..;/api/x",
        "/open/..;a=b/api/x",
        "/open/.;/x",
        "/open/..%3b/api",
        "/open/..%20/api",
        "//api/x",
        "/open//x",
        "/open/x//",
        "/open\\..\\api",
        "/open/%5c..%5capi",
        "/open/%2f..%2fapi",
        "/open%2fx",
        "/open/%2Fapi",
        "/open/%00",
        "/open/x%0d%0aevil",
        "/open/%0a",
        "/open/%7f",
        "/open/%c0%ae%c0%ae/api",
        "/open/%e0%80%af",
        "/open/%u002f",
        "/open/%",
        "/open/%2",
        "/open/%zz",
        "/open/%ff",
    ] {
        rows.push((path, get(path, ""), "400 path_unsafe"));
        rows.push((path, as_user(path, ""), "400 path_unsafe"));
    }
    siege.hold(&rows).await;
    // Refused by hyper before we see them.
    for path in ["/open/\u{e9}", "/open/\u{1}", "/open/x y", "/open/\u{7f}"] {
        let answer = siege.strike(get(path, "")).await;
        assert!(
            answer.is_none_or(|answer| answer.status() == 400),
            "{path:?}"
        );
        assert!(siege.take().await.is_empty(), "{path:?}");
    }
}

#[tokio::test]
async fn a_fragment_is_refused() {
    // Whoever stands before us may have taken it for a part of the path; what would be sent on has none.
    let siege = Siege::lay().await;
    for target in [
        "/api/x#/open/x",
        "/api/x?a=1#/open",
        "/open/x#/../api",
        "/open/x?a=b#token=evil",
        "/open/x#",
        "http://here/open/x#y",
    ] {
        siege
            .hold(&[(target, get(target, ""), "400 path_unsafe")])
            .await;
    }
}

#[tokio::test]
async fn another_spelling_of_a_guarded_path_is_guarded() {
    let siege = Siege::lay_with(|url| {
        super::setup(url)
            .route("/{*all}", "")
            .guarded("required", "/secret", "")
    })
    .await;
    let denied = "401 token_missing";
    let mut rows = Vec::new();
    for path in [
        "/secret",
        "/%73ecret",
        "/s%65cret",
        "/%73%65%63%72%65%74",
        "/SECRET",
        "/Secret",
        "/secret/",
        "/secret.",
        "/secret;x=1",
        "/secret;",
        "/secret%3Bx",
        "/;x/secret",
        "/%53ECRET",
        "/secret%2e",
        "/SECRET/;a",
        "/api/x",
        "/API/x",
        "/%61pi/x",
        "/api;a/x",
        "/Api./x",
        "/ADMIN/x",
        "/secret?/open/x",
        "/secret??",
        "/api/x?/../open",
        "/api/x?path=/open/x",
        "/secret?.css",
    ] {
        rows.push((path, get(path, ""), denied));
        rows.push((path, request("HEAD", path, "connection: close"), "401"));
        rows.push((path, request("OPTIONS", path, ""), denied));
    }
    rows.push(("decoded once only", get("/%2573ecret", ""), "200 guest"));
    rows.push(("another word", get("/secrets", ""), "200 guest"));
    for (name, bytes, wanted) in rows {
        if name.starts_with('/') && bytes.starts_with("HEAD") {
            // An answer to HEAD has no body to wait for.
            let mut client = siege.gateway.client().await;
            client.send(bytes).await;
            assert_eq!(client.head().await.status(), 401, "{name}");
            assert!(siege.take().await.is_empty(), "{name}");
            continue;
        }
        siege.hold(&[(name, bytes, wanted)]).await;
    }
}

#[tokio::test]
async fn what_is_decided_on_is_what_is_sent() {
    let siege = Siege::lay().await;
    for (target, line) in [
        ("/open/%61%2D%e4%bd%a0", "/open/a-%E4%BD%A0"),
        ("/open/%252e%252e/x", "/open/%252e%252e/x"),
        (
            "/open/x?a=%2e%2e/%2f&b=//..;c",
            "/open/x?a=%2e%2e/%2f&b=//..;c",
        ),
        ("/open/x?", "/open/x?"),
        ("/open/a;b=c/d.e~", "/open/a;b=c/d.e~"),
        ("http://here/open/x?y", "/open/x?y"),
        ("http://HERE:80/open/x", "/open/x"),
    ] {
        assert_eq!(
            siege.strike(get(target, "")).await.unwrap().status(),
            200,
            "{target}"
        );
        let got = siege.take().await;
        assert_eq!(got[0].0.line(), format!("GET {line} HTTP/1.1"));
    }
}

#[tokio::test]
async fn one_good_host_is_needed() {
    let siege =
        Siege::lay_with(|url| super::setup(url).server("hosts = [\"here\", \"*.here.test\"]"))
            .await;
    let line = |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\n{lines}\r\n");
    let (invalid, unknown) = ("400 host_invalid", "421 host_unknown");
    siege
        .hold(&[
            ("none", line("/open/x", ""), invalid),
            (
                "none, old",
                "GET /open/x HTTP/1.0\r\n\r\n".to_owned(),
                invalid,
            ),
            (
                "two",
                line("/open/x", "host: here\r\nhost: here\r\n"),
                invalid,
            ),
            (
                "two that differ",
                line("/open/x", "host: here\r\nHost: other\r\n"),
                invalid,
            ),
            ("a list", line("/open/x", "host: here, other\r\n"), invalid),
            ("userinfo", line("/open/x", "host: u@here\r\n"), invalid),
            ("path", line("/open/x", "host: here/x\r\n"), invalid),
            ("space", line("/open/x", "host: here x\r\n"), invalid),
            ("port", line("/open/x", "host: here:0x50\r\n"), invalid),
            ("empty", line("/open/x", "host:\r\n"), invalid),
            ("unknown", line("/open/x", "host: other\r\n"), unknown),
            (
                "two labels",
                line("/open/x", "host: a.b.here.test\r\n"),
                unknown,
            ),
            (
                "look-alike",
                line("/open/x", "host: evilhere.test\r\n"),
                unknown,
            ),
            (
                "case and dot",
                line("/open/x", "host: HERE.:80\r\n"),
                "200 guest",
            ),
            (
                "one label",
                line("/open/x", "host: a.here.test\r\n"),
                "200 guest",
            ),
            (
                "absolute beside another",
                line("http://here/open/x", "host: other\r\n"),
                "200 guest",
            ),
            (
                "absolute to another",
                line("http://other/open/x", "host: here\r\n"),
                unknown,
            ),
            (
                "absolute with userinfo",
                line("http://u:p@here/open/x", "host: here\r\n"),
                invalid,
            ),
            (
                "absolute, odd scheme",
                line("ftp://here/open/x", "host: here\r\n"),
                "400 request_malformed",
            ),
        ])
        .await;
    let bytes = line("http://here:81/open/x", "host: other\r\n");
    siege.strike(bytes).await.unwrap();
    let got = siege.take().await;
    assert_eq!(got[0].0.all("host"), ["here:81"]);
    assert_eq!(got[0].0.all("x-forwarded-host"), ["here:81"]);
}

#[tokio::test]
async fn methods_are_taken_as_they_are_spelt() {
    let siege = Siege::lay().await;
    let refused = "405 method_refused";
    siege
        .hold(&[
            ("TRACE", request("TRACE", "/open/x", ""), refused),
            ("TRACK", request("TRACK", "/open/x", ""), refused),
            ("PRI", request("PRI", "/open/x", ""), refused),
            ("get", request("get", "/open/x", ""), refused),
            ("long", request(&"A".repeat(300), "/open/x", ""), refused),
            ("OPTIONS *", request("OPTIONS", "*", ""), refused),
            ("symbols", request("G!T", "/open/x", ""), refused),
            ("CONNECT", request("CONNECT", "here:80", ""), refused),
            (
                "CONNECT to a path",
                request("CONNECT", "/open/x", ""),
                refused,
            ),
            (
                "not on this route",
                as_user("/post", ""),
                "404 route_not_found",
            ),
            (
                "nor that",
                request("OPTIONS", "/post", ""),
                "404 route_not_found",
            ),
            (
                "this one",
                request("POST", "/post", "content-length: 0"),
                "401 token_missing",
            ),
            ("a star for a target", get("*", ""), "400 path_unsafe"),
        ])
        .await;
}
