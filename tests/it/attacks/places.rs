//! Section 2: where a credential may stand, in every spelling.

use super::{Siege, as_user, get, other, request, user};

#[tokio::test]
async fn one_credential_in_any_of_its_places_is_taken_out() {
    let siege = Siege::lay().await;
    let t = user();
    siege
        .hold(&[
            ("bearer", get("/api/x", &format!("authorization: Bearer {t}")), "200 user"),
            ("lower case", get("/api/x", &format!("authorization: bearer {t}")), "200 user"),
            ("upper case", get("/api/x", &format!("AUTHORIZATION: BEARER {t}")), "200 user"),
            ("header", get("/api/x", &format!("Token: {t}")), "200 user"),
            ("session header", get("/api/x", &format!("x-session-token: {t}")), "200 user"),
            ("query", get(&format!("/api/x?token={t}"), ""), "200 user"),
            ("query among others", get(&format!("/api/x?a=%41&token={t}&b=;c"), ""), "200 user"),
            ("escaped name", get(&format!("/api/x?%74oken={t}"), ""), "200 user"),
            ("wholly escaped name", get(&format!("/api/x?%74%6F%6b%65%6E={t}"), ""), "200 user"),
            ("escaped value", get(&format!("/api/x?token=%65{}", &t[1..]), ""), "200 user"),
            ("second name", get(&format!("/api/x?access%5Ftoken={t}"), ""), "200 user"),
            ("the same twice", get(&format!("/api/x?token={t}&access_token={t}"), ""), "200 user"),
            ("the same in all places", get(&format!("/api/x?token={t}"), &format!("authorization: Bearer {t}\r\ntoken: {t}\r\ncookie: portcullis={t}\r\nsec-websocket-protocol: bearer, {t}")), "200 user"),
            ("cookie", get("/api/x", &format!("cookie: portcullis={t}")), "200 user"),
            ("cookie among others", get("/api/x", &format!("cookie: a=b; portcullis={t};c=d")), "200 user"),
            ("cookie on a second line", get("/api/x", &format!("cookie: a=b\r\ncookie: portcullis={t}")), "200 user"),
            ("cookie with 8-bit neighbours", get("/api/x", &format!("cookie: a=é;  portcullis = {t} ")), "200 user"),
            ("subprotocol", get("/api/x", &format!("sec-websocket-protocol: chat, bearer,{t}, v1")), "200 user"),
            ("subprotocol, upper case", get("/api/x", &format!("sec-websocket-protocol: BEARER , {t}")), "200 user"),
            ("subprotocol on two lines", get("/api/x", &format!("sec-websocket-protocol: bearer\r\nsec-websocket-protocol: {t}")), "200 user"),
            ("beside a foreign scheme", get("/api/x", &format!("authorization: Basic abc\r\ntoken: {t}")), "200 user"),
            ("proxy's header is nobody's", get("/api/x", &format!("proxy-authorization: Bearer {t}\r\ntoken: {t}")), "200 user"),
        ])
        .await;
}

#[tokio::test]
async fn two_credentials_are_never_chosen_between() {
    let siege = Siege::lay().await;
    let (t, o) = (user(), other());
    let conflict = "400 credentials_conflict";
    let mut rows = Vec::new();
    let bearer = format!("authorization: Bearer {t}");
    for (name, query, lines) in [
        (
            "two bearers",
            String::new(),
            format!("{bearer}\r\nauthorization: Bearer {o}"),
        ),
        (
            "two schemes",
            String::new(),
            format!("{bearer}\r\nauthorization: Basic abc"),
        ),
        (
            "two schemes, ours last",
            String::new(),
            format!("authorization: Basic abc\r\n{bearer}"),
        ),
        (
            "header and header",
            String::new(),
            format!("token: {t}\r\nx-session-token: {o}"),
        ),
        (
            "header twice",
            String::new(),
            format!("token: {t}\r\ntoken: {o}"),
        ),
        (
            "bearer and header",
            String::new(),
            format!("{bearer}\r\ntoken: {o}"),
        ),
        ("bearer and query", format!("?token={o}"), bearer.clone()),
        (
            "bearer and escaped query",
            format!("?tok%65n={o}"),
            bearer.clone(),
        ),
        (
            "two queries",
            format!("?token={t}&token={o}"),
            String::new(),
        ),
        (
            "two names",
            format!("?token={t}&access_token={o}"),
            String::new(),
        ),
        (
            "bearer and empty query",
            "?token=".to_owned(),
            bearer.clone(),
        ),
        (
            "bearer and valueless query",
            "?token".to_owned(),
            bearer.clone(),
        ),
        (
            "bearer and empty header",
            String::new(),
            format!("{bearer}\r\ntoken:"),
        ),
        (
            "bearer and cookie",
            String::new(),
            format!("{bearer}\r\ncookie: portcullis={o}"),
        ),
        (
            "two cookies",
            String::new(),
            format!("cookie: portcullis={t}; portcullis={o}"),
        ),
        (
            "two cookie lines",
            String::new(),
            format!("cookie: portcullis={t}\r\ncookie: portcullis={o}"),
        ),
        (
            "bearer and subprotocol",
            String::new(),
            format!("{bearer}\r\nsec-websocket-protocol: bearer, {o}"),
        ),
        (
            "bad in the stronger place",
            String::new(),
            format!("authorization: Bearer bad\r\ntoken: {t}"),
        ),
        (
            "bad in the weaker place",
            String::new(),
            format!("{bearer}\r\ntoken: bad"),
        ),
        (
            "garbage in the stronger place",
            String::new(),
            format!("authorization: Bearer \"\"\r\ncookie: portcullis={t}"),
        ),
    ] {
        for route in ["api", "maybe", "strict", "admin"] {
            rows.push((name, get(&format!("/{route}/x{query}"), &lines), conflict));
        }
    }
    siege.hold(&rows).await;
}

#[tokio::test]
async fn what_only_looks_like_a_credential_is_a_bad_one_or_none() {
    let siege = Siege::lay().await;
    let t = user();
    let (malformed, missing) = ("401 credential_malformed", "401 token_missing");
    siege
        .hold(&[
            ("a list", get("/api/x", &format!("authorization: Bearer {t}, Bearer {t}")), malformed),
            ("a word behind", get("/api/x", &format!("authorization: Bearer {t} x")), malformed),
            ("quotes", get("/api/x", &format!("authorization: Bearer \"{t}\"")), malformed),
            ("tab", get("/api/x", &format!("authorization: Bearer\t{t}")), malformed),
            ("two spaces", get("/api/x", &format!("authorization: Bearer  {t}")), malformed),
            ("no space", get("/api/x", &format!("authorization: Bearer{t}")), malformed),
            ("alone", get("/api/x", "authorization: Bearer"), malformed),
            ("empty", get("/api/x", "authorization:"), malformed),
            ("behind another scheme", get("/api/x", &format!("authorization: Basic abc, Bearer {t}")), malformed),
            ("basic", get("/api/x", "authorization: Basic dTpw"), missing),
            ("bare", get("/api/x", &format!("authorization: {t}")), missing),
            ("quoted cookie", get("/api/x", &format!("cookie: portcullis=\"{t}\"")), malformed),
            ("empty cookie", get("/api/x", "cookie: portcullis="), malformed),
            ("header with a scheme", get("/api/x", &format!("token: Bearer {t}")), malformed),
            ("8-bit header", get("/api/x", "token: \u{e9}"), malformed),
            ("broken escape", get(&format!("/api/x?token={t}%"), ""), malformed),
            ("twice escaped", get(&format!("/api/x?token=%2565{}", &t[1..]), ""), malformed),
            ("twice escaped name", get(&format!("/api/x?%2574oken={t}"), ""), missing),
            ("other spellings", get(&format!("/api/x?TOKEN={t}&token[]={t}&Token={t}&token%20={t}"), &format!("x_session_token: {t}\r\nx.session.token: {t}\r\nproxy-authorization: Bearer {t}")), missing),
            ("matrix", get("/api/x;Token=abc", ""), missing),
            ("behind a semicolon", get(&format!("/api/x?a=b;token={t}"), ""), missing),
            ("behind a second mark", get(&format!("/api/x??token={t}"), ""), missing),
            ("in the path", get("/api/abc.def.ghi", ""), missing),
            ("in a form", format!("{}token={t}", request("POST", "/api/x", &format!("content-type: application/x-www-form-urlencoded\r\nconnection: close\r\ncontent-length: {}", t.len() + 6))), missing),
            ("over-long", get("/api/x", &format!("authorization: Bearer {}", "a".repeat(8193))), "401 token_malformed"),
            ("subprotocol alone", get("/api/x", "sec-websocket-protocol: bearer"), malformed),
            // Its 8-bit neighbour must not carry the token past us.
            ("8-bit subprotocol", get("/api/x", &format!("sec-websocket-protocol: bearer, {t}, \u{e9}")), "400 request_malformed"),
            ("8-bit subprotocol, no route to verify", get("/open/x", &format!("sec-websocket-protocol: bearer, {t}, \u{e9}")), "400 request_malformed"),
        ])
        .await;
}

#[tokio::test]
async fn a_credential_is_removed_where_nobody_looks_at_it() {
    let siege = Siege::lay().await;
    let (t, o) = (user(), other());
    siege
        .hold(&[
            (
                "bearer",
                get("/open/x", &format!("authorization: Bearer {t}")),
                "200 guest",
            ),
            (
                "listed bearer",
                get("/open/x", &format!("authorization: Basic a, Bearer {t}")),
                "200 guest",
            ),
            (
                "two bearers",
                get(
                    "/open/x",
                    &format!("authorization: Bearer {t}\r\nauthorization: Bearer {o}"),
                ),
                "200 guest",
            ),
            (
                "one of two schemes",
                get(
                    "/open/x",
                    &format!("authorization: Basic a\r\nauthorization: Bearer {t}"),
                ),
                "200 guest",
            ),
            (
                "headers",
                get(
                    "/open/x",
                    &format!("token: {t}\r\nTOKEN: {o}\r\nx-session-token: {o}"),
                ),
                "200 guest",
            ),
            (
                "their other spellings",
                get(
                    "/open/x",
                    &format!(
                        "x_session_token: {t}\r\nX-Session_Token: {t}\r\nx.session.token: {t}"
                    ),
                ),
                "200 guest",
            ),
            (
                "and where another route looks",
                get(
                    "/own/x",
                    &format!(
                        "x_session_token: {t}\r\nX-Session_Token: {t}\r\nx.session.token: {t}"
                    ),
                ),
                "200 guest",
            ),
            (
                "query",
                get(
                    &format!("/open/x?%74oken={t}&access_token={o}&token=%zz"),
                    "",
                ),
                "200 guest",
            ),
            (
                "cookies",
                get(
                    "/open/x",
                    &format!(
                        "cookie: portcullis={t}; a=b; portcullis={o}\r\ncookie: portcullis={o}"
                    ),
                ),
                "200 guest",
            ),
            (
                "subprotocols",
                get(
                    "/open/x",
                    &format!(
                        "sec-websocket-protocol: bearer, {t}\r\nsec-websocket-protocol: bearer,{o}"
                    ),
                ),
                "200 guest",
            ),
            (
                "proxy's",
                get(
                    "/open/x",
                    &format!("proxy-authorization: Bearer {t}\r\nproxy_authorization: {t}"),
                ),
                "200 guest",
            ),
            (
                "bad on an optional route",
                get("/maybe/x?token=eyJ.bad.x", &format!("cookie: a={}", 1)),
                "200 invalid_token",
            ),
        ])
        .await;
}

#[tokio::test]
async fn what_is_no_credential_passes_byte_for_byte() {
    let siege = Siege::lay().await;
    let t = user();
    let target = format!("/api/x?a=%41&token={t}&=&b=c%2f;d&&access_token={t}&e");
    let answer = siege.strike(get(&target, "cookie: a=b;c=\"d\"")).await;
    assert_eq!(answer.unwrap().status(), 200);
    let got = siege.take().await;
    assert_eq!(got[0].0.line(), "GET /api/x?a=%41&=&b=c%2f;d&&e HTTP/1.1");
    assert_eq!(got[0].0.get("cookie"), Some("a=b;c=\"d\""));
}

#[tokio::test]
async fn an_answer_to_a_token_in_the_query_stays_out_of_caches_and_referers() {
    let siege = Siege::lay().await;
    let t = user();
    for (name, bytes) in [
        ("it counts", get(&format!("/api/x?token={t}"), "")),
        ("a header counts", as_user(&format!("/api/x?token={t}"), "")),
        ("nobody looks", get(&format!("/open/x?%74oken={t}"), "")),
        ("it is refused", get("/api/x?token=eyJbad", "")),
        ("it conflicts", as_user("/api/x?token=eyJbad", "")),
    ] {
        let answer = siege.strike(bytes).await.unwrap();
        let head = &answer.head;
        assert_eq!(head.get("cache-control"), Some("no-store"), "{name}");
        assert_eq!(head.get("referrer-policy"), Some("no-referrer"), "{name}");
    }
}

#[tokio::test]
async fn a_refusal_tells_nothing_of_the_token() {
    let siege = Siege::lay().await;
    let t = user();
    let forged = format!("{}AAAA", &t[..t.len() - 4]);
    for (bytes, challenge) in [
        (get("/api/x", ""), "Bearer realm=\"portcullis\""),
        (
            get("/api/x", &format!("token: {forged}")),
            "Bearer realm=\"portcullis\", error=\"invalid_token\"",
        ),
        (
            get(&format!("/api/x?token={forged}"), ""),
            "Bearer realm=\"portcullis\", error=\"invalid_token\"",
        ),
    ] {
        let answer = siege.strike(bytes).await.unwrap();
        assert_eq!(answer.head.get("www-authenticate"), Some(challenge));
        let whole = format!("{}{}", answer.head.0, answer.text());
        assert!(!whole.contains("eyJ") && !whole.contains("/api"), "{whole}");
    }
}
