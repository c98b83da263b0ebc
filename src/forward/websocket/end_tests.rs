//! How tunnels end, and how a refused client hears why.

use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::refuse::{Reason, refuse};
use super::tests::{
    PING, PIPE, Scene, client_frame, greeting, is_silent, our_pong, pinging, quiet, read, read_all,
    server_frame, unmask,
};
use super::tunnel::Plan;
use crate::streams::tests::judge;
use crate::streams::{End, Outcome, Verdict};

const EXPIRED: &[u8] = b"\x88\x0e\x11\x31auth_expired";

#[tokio::test(start_paused = true)]
async fn at_expiry_both_sides_are_closed_between_messages() {
    let mut scene = Scene::new(quiet());
    scene
        .upstream
        .write_all(b"\x81\x02a")
        .await
        .expect("written");
    assert_eq!(read(&mut scene.client, 3).await, b"\x81\x02a");
    scene.clock.set(1000);
    let close = read(&mut scene.upstream, 20).await;
    assert_eq!(close[..2], [0x88, 0x8e]);
    assert_eq!(unmask(&close), b"\x11\x31auth_expired");
    scene
        .upstream
        .write_all(b"b\x81\x01c")
        .await
        .expect("written");
    let start = Instant::now();
    assert_eq!(read(&mut scene.client, 17).await, [b"b", EXPIRED].concat());
    // The answers of both sides end it at once.
    scene
        .client
        .write_all(&client_frame(0x88, b"\x11\x31"))
        .await
        .expect("written");
    scene
        .upstream
        .write_all(&server_frame(0x88, b"\x11\x31"))
        .await
        .expect("written");
    assert_eq!(read_all(&mut scene.client).await, b"");
    let report = scene.report.await.expect("a report");
    assert_eq!(report.outcome, Outcome::Told(End::Expired));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn sides_that_do_not_answer_are_cut() {
    let mut scene = Scene::new(quiet());
    scene
        .streams
        .review(&judge(|_, _| Verdict::End(End::Revoked)));
    let start = Instant::now();
    assert_eq!(
        read_all(&mut scene.client).await,
        b"\x88\x0e\x11\x31auth_revoked"
    );
    assert!(start.elapsed() <= Duration::from_secs(3));
    let report = scene.report.await.expect("a report");
    assert_eq!(report.outcome, Outcome::Told(End::Revoked));
}

#[tokio::test(start_paused = true)]
async fn draining_asks_to_come_back() {
    let mut scene = Scene::new(quiet());
    scene.streams.end_all(End::Draining);
    assert_eq!(
        read_all(&mut scene.client).await,
        b"\x88\x0a\x03\xf4draining"
    );
    assert_eq!(
        unmask(&read_all(&mut scene.upstream).await),
        b"\x03\xf4draining"
    );
}

#[tokio::test(start_paused = true)]
async fn an_endless_message_does_not_hold_up_the_end() {
    let mut scene = Scene::new(quiet());
    scene
        .upstream
        .write_all(b"\x01\x01a")
        .await
        .expect("written");
    scene
        .client
        .write_all(b"\x01\xfe\xff\xff\0\0\0\0x")
        .await
        .expect("written");
    assert_eq!(read(&mut scene.client, 3).await, b"\x01\x01a");
    assert_eq!(read(&mut scene.upstream, 9).await.len(), 9);
    scene.streams.end_all(End::Draining);
    let start = Instant::now();
    assert_eq!(
        read(&mut scene.client, 12).await,
        b"\x88\x0a\x03\xf4draining"
    );
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(
        read_all(&mut scene.upstream).await,
        b"",
        "nothing inside a frame"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_of_ours_is_put_where_the_track_is_lost() {
    let lost = [0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0];
    let mut scene = Scene::new(pinging());
    scene.upstream.write_all(&lost).await.expect("written");
    assert_eq!(read(&mut scene.client, 10).await, lost);
    assert!(is_silent(&mut scene.client).await);
    scene.streams.end_all(End::Draining);
    assert_eq!(read_all(&mut scene.client).await, b"");
}

#[tokio::test(start_paused = true)]
async fn nothing_of_ours_follows_a_close_frame() {
    let close = server_frame(0x88, b"\x03\xe8");
    let mut scene = Scene::new(pinging());
    scene.upstream.write_all(&close).await.expect("written");
    assert_eq!(read(&mut scene.client, 4).await, close);
    assert!(is_silent(&mut scene.client).await);
    drop(scene.client);
    let report = scene.report.await.expect("a report");
    assert_eq!(report.outcome, Outcome::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_side_that_leaves_takes_the_other_with_it() {
    let mut scene = Scene::new(quiet());
    drop(scene.client);
    assert_eq!(read_all(&mut scene.upstream).await, b"");
    let start = Instant::now();
    let report = scene.report.await.expect("a report");
    assert_eq!(report.outcome, Outcome::ClientLeft);
    assert!(start.elapsed() <= Duration::from_secs(5));
    assert!(scene.streams.is_empty());

    let mut scene = Scene::new(quiet());
    drop(scene.upstream);
    assert_eq!(read_all(&mut scene.client).await, b"");
    let report = scene.report.await.expect("a report");
    assert_eq!(report.outcome, Outcome::UpstreamDisconnected);
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_side_gets_what_is_still_to_come() {
    let mut scene = Scene::new(quiet());
    scene.client.shutdown().await.expect("shut");
    assert_eq!(read_all(&mut scene.upstream).await, b"");
    scene
        .upstream
        .write_all(b"\x81\x01x")
        .await
        .expect("written");
    drop(scene.upstream);
    assert_eq!(read_all(&mut scene.client).await, b"\x81\x01x");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_given_up() {
    let idle_timeout = Some(Duration::from_secs(100));
    let mut scene = Scene::new(Plan {
        idle_timeout,
        ..pinging()
    });
    let start = Instant::now();
    for _ in 0..4 {
        assert_eq!(read(&mut scene.client, 12).await, PING);
        scene.client.write_all(&our_pong()).await.expect("written");
    }
    let left = read_all(&mut scene.client).await;
    assert_eq!(left, [PING, PING, PING, b"\x88\x06\x03\xe9idle"].concat());
    assert_eq!(start.elapsed().as_secs(), 120 + 100 + 3);
    assert_eq!(scene.report.await.expect("a report").outcome, Outcome::Idle);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_given_up_however_much_it_says() {
    let mut scene = Scene::new(quiet());
    let start = Instant::now();
    // Silence alone is none.
    assert!(is_silent(&mut scene.client).await);
    let message = [b"\x82\x7e\x10\x00".as_slice(), &[b'x'; 4096]].concat();
    let upstream = async {
        while scene.upstream.write_all(&message).await.is_ok() {}
        start.elapsed().as_secs()
    };
    let client = async {
        while scene
            .client
            .write_all(&client_frame(0x81, b"a"))
            .await
            .is_ok()
        {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let (given_up, ()) = tokio::join!(upstream, client);
    assert_eq!(given_up, 3600 + 60);
    let report = scene.report.await.expect("a report");
    assert_eq!(report.outcome, Outcome::ClientLeft);
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_reads_why() {
    let (mut client, gateway) = duplex(PIPE);
    let reason = Reason {
        body: "{}",
        code: 4401,
        word: "token_expired",
    };
    let refused = tokio::spawn(refuse(gateway, reason));
    let expected = b"\x81\x02{}\x88\x0f\x11\x31token_expired";
    assert_eq!(read(&mut client, expected.len()).await, expected);
    let early = [
        client_frame(0x81, b"hello"),
        client_frame(0x88, b"\x11\x31"),
    ]
    .concat();
    client.write_all(&early).await.expect("written");
    assert_eq!(read_all(&mut client).await, b"");
    refused.await.expect("done");
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_that_does_not_answer_is_left() {
    let (mut client, gateway) = duplex(PIPE);
    let reason = Reason {
        body: "{}",
        code: 4429,
        word: "rate_limited",
    };
    let refused = tokio::spawn(refuse(gateway, reason));
    assert_eq!(read_all(&mut client).await.len(), 4 + 16);
    refused.await.expect("done");
}

/// What a WebSocket library makes of the next frame.
async fn next(socket: &mut WebSocketStream<DuplexStream>) -> Option<Message> {
    let next = std::future::poll_fn(|cx| Pin::new(&mut *socket).poll_next(cx)).await;
    next.map(|message| message.expect("the library takes it"))
}

/// Code and reason of a close frame.
fn closed(message: Option<Message>) -> Option<(u16, String)> {
    let Some(Message::Close(Some(close))) = message else {
        return None;
    };
    Some((close.code.into(), close.reason.to_string()))
}

#[tokio::test(start_paused = true)]
async fn a_library_at_either_end_takes_our_frames() {
    let scene = Scene::new(greeting(pinging()));
    let mut client = WebSocketStream::from_raw_socket(scene.client, Role::Client, None).await;
    let mut upstream = WebSocketStream::from_raw_socket(scene.upstream, Role::Server, None).await;
    assert_eq!(next(&mut client).await, Some(Message::text("hi")));
    assert_eq!(
        next(&mut client).await,
        Some(Message::Ping("portcullis".into()))
    );
    scene.clock.set(1000);
    // The client's library has answered the ping in the meantime: the upstream sees the close first.
    let expired = Some((4401, "auth_expired".to_owned()));
    assert_eq!(closed(next(&mut client).await), expired);
    assert_eq!(closed(next(&mut upstream).await), expired);
    assert_eq!(next(&mut client).await, None);
    let report = scene.report.await.expect("a report");
    assert_eq!(report.outcome, Outcome::Told(End::Expired));
}
