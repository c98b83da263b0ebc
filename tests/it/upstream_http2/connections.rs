//! What a connection to an upstream of HTTP/2 carries, when another is opened beside it, and what is sent again when one
//! ends.

use h2::Reason;

use super::{GET, OK, raw, scene, sent, until};
use crate::attacks::rawh2::{GOAWAY, HEADERS, Http2, RST_STREAM, frame};
use crate::harness::{Gateway, Service};

#[tokio::test]
async fn a_full_connection_has_another_beside_it() {
    let (service, gateway) = scene("").await;
    let mut narrow = h2::server::Builder::new();
    narrow.max_concurrent_streams(1);
    let mut first = gateway.client().await;
    first.send(GET).await;
    let mut serving = service.accept_with(&narrow).await;
    // The answer shows that the settings have been read.
    serving.asked().await.answer("one");
    assert_eq!(first.answer().await.text(), "one");
    first.send(GET).await;
    let kept = serving.asked().await;
    let mut second = gateway.client().await;
    second.send(GET).await;
    let mut beside = service.accept_with(&narrow).await;
    beside.asked().await.answer("beside");
    assert_eq!(second.answer().await.text(), "beside");
    kept.answer("kept");
    assert_eq!(first.answer().await.text(), "kept");
    // The first one is filled first.
    second.send(GET).await;
    serving.asked().await.answer("again");
    assert_eq!(second.answer().await.text(), "again");
}

#[tokio::test]
async fn requests_that_come_at_once_share_the_connection_that_the_first_one_opens() {
    let (service, gateway) = scene("").await;
    let mut clients = Vec::new();
    for _ in 0..30 {
        let mut client = gateway.client().await;
        client.send(GET).await;
        clients.push(client);
    }
    let mut serving = service.accept().await;
    for _ in 0..30 {
        serving.asked().await.answer("ok");
    }
    for client in &mut clients {
        assert_eq!(client.answer().await.text(), "ok");
    }
    assert_eq!(
        gateway.figure("portcullis_upstream_connects_total ").await,
        1.0
    );
}

#[tokio::test]
async fn a_connection_that_idles_is_closed() {
    let service = Service::start().await;
    let lines = "pool_idle_timeout = \"100ms\"";
    let gateway = Gateway::start(&service.setup_with(lines, "")).await;
    let (mut client, mut serving, asked) = sent(&service, &gateway, GET).await;
    asked.answer("ok");
    assert_eq!(client.answer().await.text(), "ok");
    serving.closed().await;
}

const POST: &str = "POST /a HTTP/1.1\r\nhost: here\r\n\r\n";

#[tokio::test]
async fn what_the_upstream_has_not_looked_at_is_sent_again_whatever_the_method() {
    let late = "POST /a HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n\r\n";
    for request in [GET, POST, late] {
        // The stream is refused; or the upstream goes away and has not come that far.
        for refusal in [
            frame(RST_STREAM, 0, 1, &[0, 0, 0, 7]),
            frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            let (service, gateway) = scene("").await;
            let mut client = gateway.client().await;
            client.send(request).await;
            let mut raw = raw(&service).await;
            raw.peer.send(&refusal).await;
            let mut asked = match refusal[3] {
                // The same connection may be asked again, so that it must go first.
                RST_STREAM => {
                    raw.peer
                        .send(frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]))
                        .await;
                    service.accept().await.asked().await
                }
                _ => service.accept().await.asked().await,
            };
            if request == late {
                client.send("hi").await;
                assert_eq!(asked.body().await.unwrap().0, "hi");
            }
            asked.answer("ok");
            assert_eq!(client.answer().await.text(), "ok");
        }
    }
}

#[tokio::test]
async fn what_the_upstream_may_have_looked_at_is_sent_again_only_where_that_is_safe() {
    let full = "PUT /a HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n\r\nhi";
    for (request, again) in [(GET, true), (POST, false), (full, false)] {
        let (service, gateway) = scene("").await;
        let mut client = gateway.client().await;
        client.send(request).await;
        drop(raw(&service).await);
        if again {
            service.accept().await.asked().await.answer("ok");
            assert_eq!(client.answer().await.text(), "ok");
            continue;
        }
        assert_eq!(client.answer().await.status(), 502, "{request}");
        // The next one shows that nothing came in between.
        client
            .send("GET /next HTTP/1.1\r\nhost: here\r\n\r\n")
            .await;
        let asked = service.accept().await.asked().await;
        assert_eq!(asked.path(), "/next");
        asked.answer("ok");
        assert_eq!(client.answer().await.text(), "ok");
    }
}

#[tokio::test]
async fn a_stream_that_fails_is_a_bad_gateway_and_its_connection_goes_on() {
    let (service, gateway) = scene("").await;
    let (mut client, mut serving, mut asked) = sent(&service, &gateway, GET).await;
    asked.reply.send_reset(Reason::INTERNAL_ERROR);
    assert_eq!(client.answer().await.status(), 502);
    client.send(GET).await;
    serving.asked().await.answer("ok");
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test]
async fn an_upstream_that_goes_away_finishes_what_it_has_and_gets_no_more() {
    let (service, gateway) = scene("").await;
    let mut first = gateway.client().await;
    first.send(GET).await;
    let mut raw = raw(&service).await;
    raw.headers(1, OK, false).await;
    raw.data(1, b"part", false).await;
    first.until("part").await;
    raw.frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]).await;
    raw.data(1, b"more", false).await;
    first.until("more").await;
    let mut second = gateway.client().await;
    second.send(GET).await;
    service.accept().await.asked().await.answer("elsewhere");
    assert_eq!(second.answer().await.text(), "elsewhere");
    raw.data(1, b"end", true).await;
    first.until("0\r\n\r\n").await;
}

#[tokio::test]
async fn many_clients_that_leave_do_not_end_the_connection_of_one_who_stays() {
    let (service, gateway) = scene("").await;
    let mut stays = gateway.client().await;
    stays.send(GET).await;
    let mut raw = raw(&service).await;
    let mut client = Http2::connect(gateway.address).await;
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "here"),
        (":path", "/a"),
    ];
    for stream in (1..2400).step_by(2) {
        client.headers(stream, &fields, true).await;
        let asked = until(&mut raw, HEADERS, |_| true).await;
        client.frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]).await;
        until(&mut raw, RST_STREAM, |reset| reset == asked).await;
        // What was on its way when the reset came.
        raw.data(asked, b"late", false).await;
    }
    raw.headers(1, OK, false).await;
    raw.data(1, b"ok", true).await;
    assert_eq!(stays.answer().await.text(), "ok");
}
