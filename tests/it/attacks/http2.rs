//! Sections 3 and 4 over HTTP/2, and preflights in either version.

use super::rawh2::Http2;
use super::{Siege, request, user};

#[tokio::test]
async fn http2_brings_no_other_spelling() {
    let siege = Siege::lay().await;
    let t = user();
    let bearer = format!("Bearer {t}");
    for (name, path, fields, wanted) in [
        (
            "plain",
            "/api/x",
            vec![("authorization", &*bearer)],
            "200 user",
        ),
        (
            "identity",
            "/api/x",
            vec![
                ("authorization", &*bearer),
                ("x-user-id", "evil"),
                ("x_user_id", "evil"),
                ("x-auth-status", "evil"),
            ],
            "200 user",
        ),
        (
            "identity, public",
            "/open/x",
            vec![("x-user-id", "evil"), ("x_user.id", "evil")],
            "200 guest",
        ),
        (
            "cookie crumbs",
            "/api/x",
            vec![
                ("cookie", "a=b"),
                ("cookie", "portcullis=T"),
                ("cookie", "c=d"),
            ],
            "200 user",
        ),
        (
            "two crumbs of ours",
            "/api/x",
            vec![("cookie", "portcullis=T"), ("cookie", "portcullis=bad")],
            "400 credentials_conflict",
        ),
        // The next reader cuts the space off and sees a credential that nobody verified.
        (
            "space before",
            "/maybe/x",
            vec![("authorization", " Bearer evil")],
            "400 request_malformed",
        ),
        (
            "tab before",
            "/open/x",
            vec![("authorization", "\tBearer evil")],
            "400 request_malformed",
        ),
        (
            "space behind",
            "/api/x",
            vec![("authorization", &*bearer), ("x-any", "a ")],
            "400 request_malformed",
        ),
        (
            "upper case",
            "/api/x",
            vec![("authorization", &*bearer), ("X-User-Id", "evil")],
            "reset",
        ),
        (
            "colon in a name",
            "/open/x",
            vec![("x-user-id:", "evil")],
            "reset",
        ),
        (
            "space in a name",
            "/open/x",
            vec![("x-user-id ", "evil")],
            "reset",
        ),
        (
            "line break in a value",
            "/open/x",
            vec![("x-a", "b\r\nx-user-id: evil")],
            "reset",
        ),
        ("nul in a value", "/open/x", vec![("x-a", "b\0c")], "reset"),
        (
            "connection",
            "/open/x",
            vec![("connection", "x-user-id")],
            "reset",
        ),
        (
            "transfer-encoding",
            "/open/x",
            vec![("transfer-encoding", "chunked")],
            "reset",
        ),
        ("keep-alive", "/open/x", vec![("keep-alive", "1")], "reset"),
        (
            "proxy-connection",
            "/open/x",
            vec![("proxy-connection", "x-user-id")],
            "reset",
        ),
        ("te", "/open/x", vec![("te", "gzip")], "reset"),
        ("no name", "/open/x", vec![("", "b")], "reset"),
        (
            "two lengths",
            "/open/x",
            vec![("content-length", "0"), ("content-length", "5")],
            "reset",
        ),
        (
            "a length that is none",
            "/open/x",
            vec![("content-length", "+0")],
            "reset",
        ),
        (
            "upgrade",
            "/open/x",
            vec![("upgrade", "websocket")],
            "reset",
        ),
        (
            "host beside authority",
            "/open/x",
            vec![("host", "other")],
            "400 host_invalid",
        ),
        (
            "late pseudo-header",
            "/open/x",
            vec![("x-a", "b"), (":path", "/api/x")],
            "reset",
        ),
        ("second path", "/open/x", vec![(":path", "/api/x")], "reset"),
        (
            "unknown pseudo-header",
            "/open/x",
            vec![(":evil", "x")],
            "reset",
        ),
        (
            "length of nothing",
            "/open/x",
            vec![("content-length", "5")],
            "reset",
        ),
    ] {
        let fields: Vec<(&str, String)> = fields
            .into_iter()
            .map(|(name, value)| {
                (
                    name,
                    value.replace("portcullis=T", &format!("portcullis={t}")),
                )
            })
            .collect();
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        let mut client = Http2::connect(siege.gateway.address).await;
        client.get(path, &fields).await;
        let told = client.told().await;
        siege.judge(name, &told, wanted).await;
    }
    siege.is_silent_in_the_log();
}

#[tokio::test]
async fn http2_heads_that_two_readers_read_differently_are_refused() {
    let siege = Siege::lay().await;
    for (name, pseudo, wanted) in [
        (
            "userinfo",
            [
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "u@here"),
                (":path", "/open/x"),
            ],
            "400 host_invalid",
        ),
        (
            "authority with a path",
            [
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "here/api"),
                (":path", "/open/x"),
            ],
            "reset",
        ),
        (
            "dot segments",
            [
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "here"),
                (":path", "/open/../api/x"),
            ],
            "400 path_unsafe",
        ),
        (
            "no slash",
            [
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "here"),
                (":path", "api/x"),
            ],
            "reset",
        ),
        (
            "odd scheme",
            [
                (":method", "GET"),
                (":scheme", "ftp"),
                (":authority", "here"),
                (":path", "/open/x"),
            ],
            "400 request_malformed",
        ),
        (
            "lower-case method",
            [
                (":method", "get"),
                (":scheme", "http"),
                (":authority", "here"),
                (":path", "/open/x"),
            ],
            "405 method_refused",
        ),
        (
            "two words for a method",
            [
                (":method", "GET /api/x HTTP/1.1\r\nx:"),
                (":scheme", "http"),
                (":authority", "here"),
                (":path", "/open/x"),
            ],
            "reset",
        ),
        (
            "space in the path",
            [
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "here"),
                (":path", "/open/x HTTP/1.1"),
            ],
            "reset",
        ),
        (
            "trace",
            [
                (":method", "TRACE"),
                (":scheme", "http"),
                (":authority", "here"),
                (":path", "/open/x"),
            ],
            "405 method_refused",
        ),
    ] {
        let mut client = Http2::connect(siege.gateway.address).await;
        client.headers(1, &pseudo, true).await;
        let told = client.told().await;
        siege.judge(name, &told, wanted).await;
        for missing in 0..3 {
            let name = pseudo[missing].0;
            // `host` may stand in its place, and does not.
            let mut left = pseudo.to_vec();
            left.remove(missing);
            let mut client = Http2::connect(siege.gateway.address).await;
            client.headers(1, &left, true).await;
            let told = client.told().await;
            assert!(told != "200", "without {name}: {told}");
        }
    }
}

#[tokio::test]
async fn http2_bodies_that_differ_from_their_length_are_refused() {
    let siege = Siege::lay().await;
    for (length, body) in [("3", "hello"), ("10", "hello"), ("0", "hello")] {
        for pieces in [vec![body], vec!["he", "llo"]] {
            let mut client = Http2::connect(siege.gateway.address).await;
            let fields = [
                (":method", "POST"),
                (":scheme", "http"),
                (":authority", "here"),
                (":path", "/open/x"),
                ("content-length", length),
            ];
            client.headers(1, &fields, false).await;
            for (at, piece) in pieces.iter().enumerate() {
                let last = at + 1 == pieces.len();
                client.data(1, piece.as_bytes(), last).await;
            }
            let told = client.told().await;
            assert!(
                told == "reset" || told.starts_with("400"),
                "{length}: {told}"
            );
            // The upstream may have seen a head, and never the end of a body.
            let got = siege.take().await;
            assert!(got.iter().all(|(_, body)| body.is_empty()), "{length}");
        }
    }
}

#[tokio::test]
async fn a_preflight_carries_nothing_out() {
    let siege = Siege::lay().await;
    let asks = "origin: https://evil-page.test\r\naccess-control-request-method: POST";
    let denied = "401 token_missing";
    let plain = |more: &str| match more {
        "" => request("OPTIONS", "/api/x", &asks.replace("evil-", "")),
        more => request(
            "OPTIONS",
            "/api/x",
            &format!("{}\r\n{more}", asks.replace("evil-", "")),
        ),
    };
    siege
        .hold(&[
            ("a real one goes on as a guest", plain(""), "200 guest"),
            (
                "no method asked",
                request("OPTIONS", "/api/x", "origin: https://page.test"),
                denied,
            ),
            (
                "no origin",
                request("OPTIONS", "/api/x", "access-control-request-method: POST"),
                denied,
            ),
            ("two origins", plain("origin: https://b.test"), denied),
            (
                "another method with its fields",
                request("POST", "/api/x", asks),
                denied,
            ),
            (
                "a body",
                format!("{}hi", plain("content-length: 2\r\nconnection: close")),
                denied,
            ),
            (
                "a chunked body",
                format!(
                    "{}2\r\nhi\r\n0\r\n\r\n",
                    plain("transfer-encoding: chunked\r\nconnection: close")
                ),
                denied,
            ),
            (
                "another method in a field",
                plain("x-http-method-override: POST"),
                denied,
            ),
            ("and in another", plain("X-HTTP-Method: DELETE"), denied),
            (
                "another protocol",
                plain("connection: upgrade\r\nupgrade: other"),
                denied,
            ),
            ("a bad token", plain("token: bad"), "401 token_malformed"),
            (
                "to a role's route",
                request(
                    "OPTIONS",
                    "/post",
                    "origin: https://a.test\r\naccess-control-request-method: DELETE",
                ),
                "404 route_not_found",
            ),
        ])
        .await;
    // Over HTTP/2 a body comes unannounced: it goes nowhere.
    let mut client = Http2::connect(siege.gateway.address).await;
    let fields = [
        (":method", "OPTIONS"),
        (":scheme", "http"),
        (":authority", "here"),
        (":path", "/api/x"),
        ("origin", "https://a.test"),
        ("access-control-request-method", "POST"),
    ];
    client.headers(1, &fields, false).await;
    client.data(1, b"evil", true).await;
    assert_eq!(client.told().await, "200");
    let got = siege.take().await;
    assert_eq!((got.len(), &*got[0].1), (1, ""));
    assert!(got[0].0.get("transfer-encoding").is_none());
}
