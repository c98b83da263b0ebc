//! How much a caller may ask: rate, quota and streams, by class, as clients see it.

use http::Response;

use crate::harness::peer::{Answer, RawUpstream};
use crate::harness::setup::token_with;
use crate::harness::websocket::{ACCEPTED, CLOSE, HANDSHAKE, TEXT, code};
use crate::harness::{Gateway, Peer, Setup, Upstream, full, until};

/// One an hour, and five at once: no test takes so long that another comes in.
const FIVE: &str = "[[limits.class]]\nname = \"all\"\nrate = 1\nper = \"1h\"\nburst = 5\n";
const TWO_STREAMS: &str = "[[limits.class]]\nname = \"all\"\nstreams = 2\n";

fn setup(endpoint: &str, auth: &str, lines: &str) -> Setup {
    Setup::new()
        .issuer()
        .upstream(endpoint, "")
        .guarded(auth, "/{*rest}", lines)
}

/// A gateway before an upstream that answers `ok`.
async fn answering(change: impl FnOnce(Setup) -> Setup) -> (Upstream, Gateway) {
    let upstream = Upstream::http1(async |_| Response::new(full("ok"))).await;
    let gateway = Gateway::start(&change(setup(&upstream.url, "optional", ""))).await;
    (upstream, gateway)
}

/// A gateway before an upstream that the test plays.
async fn played(auth: &str, lines: &str, limits: &str) -> (RawUpstream, Gateway) {
    let upstream = RawUpstream::start().await;
    let setup = setup(&upstream.url(), auth, lines).piece(limits);
    let gateway = Gateway::start(&setup).await;
    (upstream, gateway)
}

/// A request of a user of this name, with more fields.
async fn ask(gateway: &Gateway, user: &str, fields: &str) -> Answer {
    let mut client = gateway.client().await;
    client.send(line(user, fields)).await;
    client.answer().await
}

fn line(user: &str, fields: &str) -> String {
    let bearer = match user {
        "" => String::new(),
        user => {
            let token = token_with(600, serde_json::json!({"sub": user}));
            format!("authorization: Bearer {token}\r\n")
        }
    };
    format!("GET /a HTTP/1.1\r\nhost: here\r\n{bearer}{fields}\r\n")
}

/// How many of ten requests are let in.
async fn let_in(gateway: &Gateway, user: &str, fields: &str) -> usize {
    let mut passed = 0;
    for _ in 0..10 {
        passed += usize::from(ask(gateway, user, fields).await.status() == 200);
    }
    passed
}

#[tokio::test]
async fn a_thousand_requests_at_once_let_in_what_the_class_allows_and_no_more() {
    for (limits, most) in [
        (
            "[[limits.class]]\nname = \"all\"\nrate = 1\nper = \"1h\"\nburst = 130\n",
            130,
        ),
        ("[[limits.class]]\nname = \"all\"\ndaily = 70\n", 70),
        (
            "[[limits.class]]\nname = \"all\"\nrate = 1\nper = \"1h\"\nburst = 90\ndaily = 200\n",
            90,
        ),
    ] {
        let (_upstream, gateway) = answering(|setup| setup.piece(limits)).await;
        let asking = (0..50).map(async |_| {
            let mut client = gateway.client().await;
            let request = line("ada", "");
            let mut passed = 0;
            for _ in 0..20 {
                client.send(&request).await;
                passed += usize::from(client.answer().await.status() == 200);
            }
            passed
        });
        let passed: Vec<usize> = futures_util::future::join_all(asking).await;
        assert_eq!(passed.iter().sum::<usize>(), most, "{limits}");
    }
}

#[tokio::test]
async fn a_refusal_says_which_limit_and_when_to_come_back() {
    let (_upstream, gateway) = answering(|setup| setup.piece(FIVE)).await;
    assert_eq!(let_in(&gateway, "ada", "").await, 5);
    let answer = ask(&gateway, "ada", "").await;
    assert_eq!((answer.status(), &*answer.word()), (429, "rate_limited"));
    let field = |name| answer.head.get(name).unwrap_or_default().to_owned();
    assert_eq!(field("ratelimit-policy"), "\"all\";q=5;w=18000");
    assert!(field("ratelimit").starts_with("\"all\";r=0;t=1"));
    assert_eq!(field("ratelimit-limit"), "5");
    assert_eq!(field("ratelimit-remaining"), "0");
    let after: u64 = field("retry-after").parse().unwrap();
    assert!((3500..=3600).contains(&after), "{after}");
    assert_eq!(field("ratelimit-reset"), field("retry-after"));
    let counted = "portcullis_limited_total{class=\"all\",reason=\"rate_limited\"}";
    gateway.figure_becomes(counted, 6.0).await;
    assert_eq!(let_in(&gateway, "bob", "").await, 5);
}

#[tokio::test]
async fn without_a_word_guests_and_users_have_their_classes() {
    // A day may end in the middle, a second will.
    let limits = "[limits]\nheaders = true\n";
    let (_upstream, gateway) = answering(|setup| setup.piece(limits)).await;
    let policy = |answer: &Answer| answer.head.get("ratelimit-policy").unwrap().to_owned();
    let guest = policy(&ask(&gateway, "", "").await);
    assert!(guest.starts_with("\"anonymous\";q=5;w=1, \"anonymous-daily\";q=1000;w=86400"));
    let user = policy(&ask(&gateway, "ada", "").await);
    assert!(user.starts_with("\"permanent\";q=10;w=1"), "{user}");
    assert!(!user.contains("daily"), "{user}");
}

#[tokio::test]
async fn guests_count_by_the_address_that_a_trusted_proxy_tells() {
    let trusted = |setup: Setup| {
        setup
            .server("trusted_proxies = [\"127.0.0.1\"]")
            .piece(FIVE)
    };
    let (_upstream, gateway) = answering(trusted).await;
    let from = |address: &str| format!("x-forwarded-for: {address}\r\n");
    for (address, passed) in [
        ("192.0.2.1", 5),
        ("192.0.2.1", 0),
        ("198.51.100.7, 192.0.2.1", 0),
        ("192.0.2.2", 5),
        ("2001:db8::1", 5),
        ("2001:db8::ffff:2", 0),
        ("2001:db8:0:1::1", 5),
    ] {
        assert_eq!(
            let_in(&gateway, "", &from(address)).await,
            passed,
            "{address}"
        );
    }
    let bad = format!("{}authorization: Bearer no\r\n", from("192.0.2.1"));
    assert_eq!(
        let_in(&gateway, "", &bad).await,
        0,
        "a bad token is no way round"
    );
    let (_upstream, gateway) = answering(|setup| setup.piece(FIVE)).await;
    assert_eq!(let_in(&gateway, "", &from("192.0.2.1")).await, 5);
    assert_eq!(
        let_in(&gateway, "", &from("192.0.2.2")).await,
        0,
        "nobody is believed"
    );
}

#[tokio::test]
async fn a_public_route_is_limited_where_it_says_so() {
    for (lines, passed) in [
        ("", 10),
        ("[route.limits]\nenabled = true", 5),
        ("[route.limits]\nrate = 1\nper = \"1h\"\nburst = 2", 2),
    ] {
        let upstream = Upstream::http1(async |_| Response::new(full("ok"))).await;
        let setup = setup(&upstream.url, "public", lines).piece(FIVE);
        let gateway = Gateway::start(&setup).await;
        assert_eq!(let_in(&gateway, "", "").await, passed, "{lines}");
    }
}

#[tokio::test]
async fn what_the_gateway_answers_itself_is_not_counted() {
    let (_upstream, gateway) =
        answering(|setup| setup.server("public_probes = true").piece(FIVE)).await;
    for _ in 0..10 {
        assert_eq!(gateway.get("/healthz").await.status(), 200);
    }
    assert_eq!(let_in(&gateway, "", "").await, 5);
}

#[tokio::test]
async fn a_reload_gives_nobody_anything_and_may_raise_the_limit() {
    let (upstream, gateway) = answering(|setup| setup.piece(FIVE)).await;
    assert_eq!(let_in(&gateway, "ada", "").await, 5);
    let again = setup(&upstream.url, "optional", "").piece(FIVE);
    gateway.reload(&again).await.unwrap();
    assert_eq!(let_in(&gateway, "ada", "").await, 0);
    let eight = FIVE.replace("burst = 5", "burst = 8");
    let more = setup(&upstream.url, "optional", "").piece(&eight);
    gateway.reload(&more).await.unwrap();
    assert_eq!(let_in(&gateway, "ada", "").await, 3);
}

const EVENTS: &str = "accept: text/event-stream\r\n";
const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    transfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";

/// A stream through `gateway`: the client's end and the upstream's.
async fn stream(upstream: &RawUpstream, gateway: &Gateway, fields: &str) -> (Peer, Peer) {
    let mut client = gateway.client().await;
    client.send(line("ada", fields)).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send(STREAM).await;
    client.until("data: 1\n\n").await;
    (client, peer)
}

/// A tunnel, likewise.
async fn tunnel(upstream: &RawUpstream, gateway: &Gateway) -> (Peer, Peer) {
    let mut client = gateway.client().await;
    client.send(line("ada", HANDSHAKE)).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send(ACCEPTED).await;
    assert_eq!(client.head().await.status(), 101);
    (client, peer)
}

#[tokio::test]
async fn a_stream_too_many_is_refused_before_the_upstream_hears_of_it() {
    let (upstream, gateway) = played("required", "", TWO_STREAMS).await;
    let first = stream(&upstream, &gateway, EVENTS).await;
    let second = tunnel(&upstream, &gateway).await;
    for fields in [EVENTS, HANDSHAKE] {
        let answer = ask(&gateway, "ada", fields).await;
        assert_eq!(
            (answer.status(), &*answer.word()),
            (429, "streams_exceeded")
        );
        assert_eq!(answer.head.get("retry-after"), Some("5"));
        let policy = answer.head.get("ratelimit-policy").unwrap();
        assert_eq!(policy, "\"all-streams\";q=2;qu=\"concurrent-requests\"");
        assert_eq!(answer.head.get("ratelimit"), Some("\"all-streams\";r=0"));
    }
    // However a stream ends, its place is free: here by its client, then by its upstream.
    drop(first.0);
    let third = loop_until_open(&upstream, &gateway).await;
    let (_, peer) = second;
    drop(peer);
    let fourth = loop_until_open(&upstream, &gateway).await;
    assert_eq!(ask(&gateway, "ada", EVENTS).await.status(), 429);
    drop((third, fourth));
}

/// Asks for a stream until there is a place.
async fn loop_until_open(upstream: &RawUpstream, gateway: &Gateway) -> (Peer, Peer) {
    let mut client = gateway.client().await;
    loop {
        client.send(line("ada", EVENTS)).await;
        tokio::select! {
            answer = client.answer() => assert_eq!(answer.status(), 429),
            mut peer = upstream.accept() => {
                peer.head().await;
                peer.send(STREAM).await;
                return (client, peer);
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_turns_out_to_be_a_stream_too_many_is_given_up() {
    let (upstream, gateway) = played("required", "", TWO_STREAMS).await;
    let _first = stream(&upstream, &gateway, "").await;
    let _second = stream(&upstream, &gateway, "").await;
    let mut client = gateway.client().await;
    client.send(line("ada", "accept: */*\r\n")).await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send(STREAM).await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status(), &*answer.word()),
        (429, "streams_exceeded")
    );
    peer.closed().await;
    // What is no stream passes all the while.
    client
        .send(line(
            "ada",
            "accept: application/json, text/event-stream\r\n",
        ))
        .await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .await;
    assert_eq!(client.answer().await.status(), 200);
}

#[tokio::test]
async fn a_route_of_streams_alone_refuses_one_too_many_at_once() {
    let lines = "[route.limits]\nopens_stream = true";
    let (upstream, gateway) = played("required", lines, TWO_STREAMS).await;
    let _first = stream(&upstream, &gateway, "").await;
    let _second = stream(&upstream, &gateway, "").await;
    assert_eq!(ask(&gateway, "ada", "").await.word(), "streams_exceeded");
    gateway.lines(1).await;
}

#[tokio::test]
async fn clients_that_read_no_status_are_told_in_their_own_way() {
    let lines = "[route.websocket]\non_reject = \"close\"\n[route.sse]\non_reject = \"event\"";
    let (_upstream, gateway) = played("required", lines, FIVE).await;
    for _ in 0..5 {
        // Nobody answers upstream: what counts is that it was let in.
        let mut client = gateway.client().await;
        client.send(line("ada", "")).await;
    }
    until(async || {
        let answer = ask(&gateway, "ada", EVENTS).await;
        answer.text().contains("rate_limited")
    })
    .await;
    let answer = ask(&gateway, "ada", EVENTS).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.head.get("retry-after").is_none());
    let text = answer.text();
    // Not the hour of a bad token, but what the limit says.
    let retry = text.strip_prefix("retry: 3").unwrap();
    assert!(
        retry.contains("000\nevent: auth_error\ndata: {\"code\":429,"),
        "{text}"
    );
    let mut client = gateway.client().await;
    client.send(line("ada", HANDSHAKE)).await;
    assert_eq!(client.head().await.status(), 101);
    let (kind, payload) = client.frame().await;
    assert_eq!(kind, TEXT);
    assert!(String::from_utf8(payload).unwrap().contains("rate_limited"));
    let (kind, payload) = client.frame().await;
    assert_eq!((kind, code(&payload)), (CLOSE, 4429));
    assert_eq!(&payload[2..], b"rate_limited");
}

#[tokio::test]
async fn the_oldest_stream_may_give_way_to_the_newest() {
    let limits = format!("{TWO_STREAMS}streams_exceeded = \"end_oldest\"\n");
    let (upstream, gateway) = played("required", "", &limits).await;
    let (mut first, mut served) = stream(&upstream, &gateway, EVENTS).await;
    let (mut second, mut tunnelled) = tunnel(&upstream, &gateway).await;
    let _third = stream(&upstream, &gateway, EVENTS).await;
    let last = first.until("event: streams_exceeded\n").await;
    assert!(last.contains("retry: 3600000\n"), "{last}");
    first.until("\"error\":\"streams_exceeded\"").await;
    served.closed().await;
    let _fourth = stream(&upstream, &gateway, "").await;
    let (kind, payload) = second.frame().await;
    assert_eq!((kind, code(&payload)), (CLOSE, 4429));
    assert_eq!(&payload[2..], b"streams_exceeded");
    assert_eq!(tunnelled.frame().await.0, CLOSE);
    let ended = "portcullis_stream_ends_total{reason=\"streams_exceeded\"}";
    until(async || gateway.figure(ended).await >= 1.0).await;
}

#[tokio::test]
async fn limits_that_make_no_sense_refuse_the_reload() {
    let (upstream, gateway) = answering(|setup| setup.piece(FIVE)).await;
    let wrong = setup(&upstream.url, "optional", "").piece("[limits]\ntime_zone = \"Here\"\n");
    let told = gateway.reload(&wrong).await.unwrap_err();
    assert!(told.contains("is not a time zone"), "{told}");
    assert_eq!(gateway.client().await.get("/a").await.status(), 200);
}
