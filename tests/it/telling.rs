//! What is told of a request: one access line, and the figures.

use http::Response;
use http_body_util::BodyExt;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::harness::peer::RawUpstream;
use crate::harness::{Gateway, Setup, Upstream, full, token};

#[tokio::test]
async fn each_request_has_one_line_with_what_became_of_it() {
    let upstream = Upstream::http1(async |request| {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full([&body[..], b"!"].concat()))
    })
    .await;
    let setup = Setup::new()
        .issuer()
        .upstream(&upstream.url, "")
        .guarded("required", "/{*rest}", "");
    let gateway = Gateway::start(&setup).await;
    let mut client = gateway.client().await;
    client
        .send(format!(
            "POST /a?token={} HTTP/1.1\r\nhost: here\r\ncontent-length: 5\r\n\r\nhello",
            token(60)
        ))
        .await;
    assert_eq!(client.answer().await.text(), "hello!");
    assert_eq!(client.get("/b").await.status(), 401);
    client.send("GET /\\ HTTP/1.1\r\nhost: here\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 400);

    let lines = gateway.lines(3).await;
    let of = |status: u16| lines.iter().find(|line| line["status"] == status).unwrap();
    let good = of(200);
    assert_eq!(
        (&good["bytes_in"], &good["bytes_out"]),
        (&5.into(), &6.into())
    );
    assert_eq!(
        (&good["path"], &good["user_id"]),
        (&"/a".into(), &"u1".into())
    );
    assert_eq!(good["route"], "rest");
    assert!(good.get("end").is_none(), "{good}");
    let refused = of(401);
    assert_eq!(
        (&refused["reason"], &refused["path"]),
        (&"token_missing".into(), &"/b".into())
    );
    assert_eq!(of(400)["reason"], "path_unsafe");
    assert_eq!(lines.len(), 3);
    for (labels, count) in [
        ("route=\"rest\",method=\"POST\",status=\"200\"", 1.0),
        ("route=\"rest\",method=\"GET\",status=\"401\"", 1.0),
        ("route=\"none\",method=\"GET\",status=\"400\"", 1.0),
    ] {
        let name = format!("portcullis_requests_total{{{labels}}}");
        gateway.figure_becomes(&name, count).await;
    }
}

#[tokio::test]
async fn a_token_that_could_not_be_judged_is_not_called_a_bad_one() {
    let upstream = RawUpstream::start().await;
    // Nobody answers there: the keys never come.
    let away = "[[issuer]]\nname = \"away\"\niss = \"https://away.test\"\naudience = []\n\
                algorithms = [\"ES256\"]\njwks_url = \"http://127.0.0.1:9/jwks\"";
    let setup = Setup::new()
        .issuer()
        .piece(away)
        .upstream(&upstream.url(), "")
        .guarded("optional", "/{*rest}", "");
    let gateway = Gateway::start(&setup).await;
    let key = KeyPair::generate().unwrap();
    let key = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap();
    let claims = json!({"iss": "https://away.test", "sub": "u1", "exp": u32::MAX});
    let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap();
    let mut client = gateway.client().await;
    for token in [&*token, "bad"] {
        client
            .send(format!(
                "GET /a HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {token}\r\n\r\n"
            ))
            .await;
        if token == "bad" {
            let mut peer = upstream.accept().await;
            assert_eq!(
                peer.head().await.get("x-auth-status"),
                Some("invalid_token")
            );
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await;
        }
        client.answer().await;
    }
    let lines = gateway.lines(2).await;
    let told = |line: &Value| (line["status"].clone(), line["auth"].clone());
    assert_eq!(told(&lines[0]), (503.into(), "auth_error".into()));
    assert_eq!(lines[0]["reason"], "keys_unavailable");
    assert_eq!(told(&lines[1]), (200.into(), "invalid_token".into()));
}

const STREAMS: &str = "portcullis_streams{route=\"rest\",kind=\"sse\"}";
const DURATIONS: &str = "portcullis_request_duration_seconds_count{route=\"rest\"}";

#[tokio::test]
async fn the_gauge_of_streams_rises_and_falls_and_their_life_is_no_duration() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url())).await;
    let mut client = gateway.client().await;
    client.send("GET /a HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
        .await;
    client.until("data: 1\n\n").await;
    gateway.figure_becomes(STREAMS, 1.0).await;
    // Counted when it opened, not when it ends.
    gateway.figure_becomes(DURATIONS, 1.0).await;
    drop(client);
    gateway.figure_becomes(STREAMS, 0.0).await;
    assert_eq!(gateway.figure(DURATIONS).await, 1.0);
    let ends = "portcullis_stream_ends_total{reason=\"client_left\"}";
    assert_eq!(gateway.figure(ends).await, 1.0);
    let line = &gateway.lines(1).await[0];
    assert_eq!(
        (&line["kind"], &line["end"]),
        (&"sse".into(), &"client_left".into())
    );
}

#[tokio::test]
async fn a_client_that_left_before_or_within_its_answer_is_told_of() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url())).await;
    let mut client = gateway.client().await;
    client.send("GET /a HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    drop(client);
    let line = &gateway.lines(1).await[0];
    assert_eq!(
        (&line["status"], &line["end"]),
        (&499.into(), &"client_left".into())
    );
    assert_eq!(
        (&line["path"], &line["client"]),
        (&"/a".into(), &"127.0.0.1".into())
    );

    let mut client = gateway.client().await;
    client.send("GET /b HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab")
        .await;
    client.until("ab").await;
    drop(client);
    let line = &gateway.lines(2).await[1];
    assert_eq!(
        (&line["status"], &line["end"]),
        (&200.into(), &"client_left".into())
    );
    assert_eq!(line["bytes_out"], 2);
}

#[tokio::test]
async fn an_answer_that_was_sent_whole_has_no_end_to_tell() {
    let upstream = Upstream::http1(async |_| Response::new(full("ok"))).await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url)).await;
    let mut client = gateway.client().await;
    for method in ["GET", "HEAD"] {
        client
            .send(format!("{method} /a HTTP/1.1\r\nhost: here\r\n\r\n"))
            .await;
        assert_eq!(client.head().await.status(), 200);
        if method == "GET" {
            client.take(2).await;
        }
    }
    let lines = gateway.lines(2).await;
    assert!(
        lines.iter().all(|line| line.get("end").is_none()),
        "{lines:?}"
    );
}

#[tokio::test]
async fn an_answer_that_the_upstream_broke_off_says_so() {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::start(&Setup::simple(&upstream.url())).await;
    let mut client = gateway.client().await;
    client.send("GET /a HTTP/1.1\r\nhost: here\r\n\r\n").await;
    let mut peer = upstream.accept().await;
    peer.head().await;
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab")
        .await;
    drop(peer);
    client.closed().await;
    assert_eq!(gateway.lines(1).await[0]["end"], "broken");
}

#[tokio::test]
async fn the_figures_of_the_way_are_counted_and_each_stands_there_once() {
    let upstream = Upstream::http1(async |_| Response::new(full("ok"))).await;
    let setup = Setup::new()
        .issuer()
        .upstream(&upstream.url, "")
        .guarded("required", "/{*rest}", "");
    let gateway = Gateway::start(&setup).await;
    let bearer = token(60);
    let mut client = gateway.client().await;
    for _ in 0..3 {
        client
            .send(format!(
                "GET /a HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {bearer}\r\n\r\n"
            ))
            .await;
        assert_eq!(client.answer().await.status(), 200);
    }
    for (name, value) in [
        ("portcullis_token_cache_misses_total", 1.0),
        ("portcullis_token_cache_hits_total", 2.0),
        ("portcullis_connections_accepted_total", 1.0),
        ("portcullis_connections", 1.0),
        ("portcullis_upstream_connects_total", 1.0),
        ("portcullis_upstream_retries_total", 0.0),
    ] {
        assert_eq!(gateway.figure(&format!("{name} ")).await, value, "{name}");
    }
    let page = gateway.page("/metrics").await.text();
    let mut families: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    families.sort_unstable();
    for pair in families.windows(2) {
        assert_ne!(pair[0], pair[1]);
    }
    drop(client);
    gateway.figure_becomes("portcullis_connections ", 0.0).await;
}
