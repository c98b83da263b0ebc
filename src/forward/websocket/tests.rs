//! Tunnels over in-memory pipes and paused time: both ends are played by the test.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{self, Instant};

use super::flow::Flow;
use super::frames::{self, Sender};
use super::refuse::{Reason, refuse};
use super::tunnel::{Plan, Report, Side, tunnel};
use crate::clock::Clock;
use crate::streams::tests::known;
use crate::streams::{End, Outcome, Streams, Verdict};

/// A tunnel whose two ends the test plays.
struct Scene {
    client: DuplexStream,
    upstream: DuplexStream,
    clock: Clock,
    streams: Arc<Streams>,
    report: JoinHandle<Report>,
}

impl Scene {
    fn new(plan: Plan) -> Self {
        Self::with_early(plan, b"", b"")
    }

    /// A tunnel in which the client and the upstream sent something behind their handshakes.
    fn with_early(plan: Plan, early_client: &'static [u8], early_upstream: &'static [u8]) -> Self {
        let clock = Clock::manual(100);
        let streams = Streams::new(1, clock.clone());
        let membership = streams.join(0, known(1000));
        let (client, gateway_client) = duplex(PIPE);
        let (upstream, gateway_upstream) = duplex(PIPE);
        let report = tokio::spawn(tunnel(
            side(gateway_client, early_client),
            side(gateway_upstream, early_upstream),
            membership,
            plan,
        ));
        Self {
            client,
            upstream,
            clock,
            streams,
            report,
        }
    }

    /// A tunnel whose client has been pinged, so that pongs of ours may come.
    async fn pinged() -> Self {
        let mut scene = Self::new(pinging());
        assert_eq!(read(&mut scene.client, PING.len()).await, PING);
        scene
    }
}

fn side(io: DuplexStream, early: &'static [u8]) -> Side<DuplexStream> {
    let early = Bytes::from_static(early);
    Side { io, early }
}

fn quiet() -> Plan {
    Plan {
        greeting: None,
        ping_interval: None,
        idle_timeout: None,
        close_unauthenticated: 4401,
    }
}

fn pinging() -> Plan {
    let ping_interval = Some(Duration::from_secs(30));
    Plan {
        ping_interval,
        ..quiet()
    }
}

async fn read(io: &mut DuplexStream, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    io.read_exact(&mut bytes).await.expect("the bytes come");
    bytes
}

async fn read_all(io: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    io.read_to_end(&mut bytes).await.expect("no break");
    bytes
}

/// Whether nothing comes within an hour.
async fn is_silent(io: &mut DuplexStream) -> bool {
    let hour = Duration::from_secs(3600);
    time::timeout(hour, io.read_u8()).await.is_err()
}

/// Writes in another task, since the pipes are short.
fn send(mut io: DuplexStream, bytes: Vec<u8>, size: usize) -> JoinHandle<DuplexStream> {
    tokio::spawn(async move {
        for chunk in bytes.chunks(size) {
            io.write_all(chunk).await.expect("the tunnel reads");
            tokio::task::yield_now().await;
        }
        io
    })
}

/// A frame with this first byte.
fn frame(first: u8, payload: &[u8], sender: Sender) -> Vec<u8> {
    assert!(payload.len() < 126);
    let mut frame = vec![first, payload.len() as u8];
    if sender == Sender::Client {
        frame[1] |= 0x80;
        frame.extend([0, 0, 0, 0]);
    }
    frame.extend(payload);
    frame
}

fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, payload, Sender::Client)
}

fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, payload, Sender::Server)
}

/// A client's pong to our ping, under a key.
fn our_pong() -> Vec<u8> {
    let key = [1, 2, 3, 4];
    let payload = frames::PING_PAYLOAD.iter().zip(key.iter().cycle());
    let mut pong = vec![0x8a, 0x8a, 1, 2, 3, 4];
    pong.extend(payload.map(|(b, k)| b ^ k));
    pong
}

fn unmask(close: &[u8]) -> Vec<u8> {
    let (key, payload) = close[2..].split_at(4);
    payload
        .iter()
        .zip(key.iter().cycle())
        .map(|(b, k)| b ^ k)
        .collect()
}

const PIPE: usize = 4096;
const PING: &[u8] = b"\x89\x0aportcullis";
const EXPIRED: &[u8] = b"\x88\x0e\x11\x31auth_expired";

#[tokio::test(start_paused = true)]
async fn whatever_passes_passes_byte_for_byte() {
    let table: [(&str, Vec<u8>); 8] = [
        (
            "a message in fragments with a ping between them",
            [
                client_frame(0x01, b"a"),
                client_frame(0x89, b"p"),
                client_frame(0x00, b"b"),
                client_frame(0x80, b"c"),
            ]
            .concat(),
        ),
        ("text that is not UTF-8", client_frame(0x81, b"\xff\xfe")),
        ("reserved bits", client_frame(0xf1, b"x")),
        (
            "reserved opcodes",
            [client_frame(0x83, b"x"), client_frame(0x8f, b"x")].concat(),
        ),
        ("an unmasked frame of a client", server_frame(0x81, b"x")),
        ("a fragmented ping", client_frame(0x09, b"x")),
        (
            "a length with its highest bit",
            vec![0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 1, 9, 9, 9],
        ),
        ("a header cut short", vec![0x82, 0xfe, 0]),
    ];
    for (what, bytes) in table {
        for size in [1, 3, bytes.len()] {
            let mut scene = Scene::pinged().await;
            let client = send(scene.client, bytes.clone(), size).await.expect("sent");
            drop(client);
            assert_eq!(
                read_all(&mut scene.upstream).await,
                bytes,
                "{what}, up, by {size}"
            );
            let mut scene = Scene::new(quiet());
            drop(send(scene.upstream, bytes.clone(), size));
            assert_eq!(
                read_all(&mut scene.client).await,
                bytes,
                "{what}, down, by {size}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_of_16_mib_passes_both_ways() {
    let payload: Vec<u8> = (0..1 << 24).map(|at: u32| (at % 251) as u8).collect();
    let message = [&[0x82, 127, 0, 0, 0, 0, 1, 0, 0, 0], &payload[..]].concat();
    let mut scene = Scene::new(pinging());
    let up = send(scene.client, message.clone(), PIPE);
    assert!(read(&mut scene.upstream, message.len()).await == message);
    let down = send(scene.upstream, message.clone(), PIPE);
    let mut client = up.await.expect("sent");
    assert!(read(&mut client, message.len()).await == message);
    drop((client, down.await.expect("sent")));
    let report = scene.report.await.expect("a report");
    assert_eq!(
        (report.from_client, report.from_upstream),
        (16_777_226, 16_777_226)
    );
}

#[tokio::test(start_paused = true)]
async fn the_greeting_stands_before_all_else() {
    let greeting = Some("hi".to_owned());
    let plan = Plan {
        greeting,
        ..quiet()
    };
    let mut scene = Scene::with_early(plan, b"\x81\x80\0\0\0\0", b"\x81\x01u");
    assert_eq!(read(&mut scene.client, 7).await, b"\x81\x02hi\x81\x01u");
    assert_eq!(read(&mut scene.upstream, 6).await, b"\x81\x80\0\0\0\0");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_gets_nothing_is_pinged() {
    let mut scene = Scene::new(pinging());
    let start = Instant::now();
    assert_eq!(read(&mut scene.client, 12).await, PING);
    assert_eq!(start.elapsed().as_secs(), 30);
    time::sleep(Duration::from_secs(20)).await;
    scene
        .upstream
        .write_all(&server_frame(1, b"x"))
        .await
        .expect("written");
    assert_eq!(read(&mut scene.client, 3).await, server_frame(1, b"x"));
    assert_eq!(
        read(&mut scene.client, 12).await,
        PING,
        "between two fragments"
    );
    assert_eq!(start.elapsed().as_secs(), 80);
    scene
        .upstream
        .write_all(b"\x80\x02y")
        .await
        .expect("written");
    assert_eq!(read(&mut scene.client, 3).await, b"\x80\x02y");
    assert!(is_silent(&mut scene.client).await, "never inside a frame");
    scene.upstream.write_all(b"z").await.expect("written");
    assert_eq!(read(&mut scene.client, 1).await, b"z");
    assert_eq!(read(&mut scene.client, 12).await, PING);
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_our_ping_does_not_go_upstream() {
    let other = client_frame(0x8a, b"portcullus");
    let message = client_frame(0x81, b"m");
    let sent = [&our_pong()[..], &other, &our_pong(), &message, &our_pong()].concat();
    for size in [1, 7, 17, sent.len()] {
        let mut scene = Scene::pinged().await;
        drop(send(scene.client, sent.clone(), size));
        let expected = [&other[..], &message].concat();
        assert_eq!(read_all(&mut scene.upstream).await, expected, "by {size}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pong_that_nobody_asked_for_passes() {
    let mut scene = Scene::new(quiet());
    drop(send(scene.client, our_pong(), 5));
    assert_eq!(read_all(&mut scene.upstream).await, our_pong());
}

#[tokio::test(start_paused = true)]
async fn half_a_pong_at_the_end_passes() {
    let mut scene = Scene::pinged().await;
    drop(send(scene.client, our_pong()[..9].to_vec(), 4));
    assert_eq!(read_all(&mut scene.upstream).await, our_pong()[..9]);
}

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
    scene.streams.review(|_| Verdict::End(End::Revoked));
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

#[test]
fn an_idle_tunnel_costs_little() {
    assert!(size_of::<Flow>() <= 160, "{}", size_of::<Flow>());
}

fn any_client_frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(our_pong()),
        (any::<u8>(), vec(any::<u8>(), 0..20))
            .prop_map(|(first, payload)| client_frame(first, &payload)),
        (Just(0x8a), vec(any::<u8>(), 10))
            .prop_map(|(first, payload)| client_frame(first, &payload)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn in_any_split_only_our_pongs_are_missing(
        frames in vec(any_client_frame(), 0..12),
        size in 1usize..40,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let kept: Vec<_> = frames.iter().filter(|frame| **frame != our_pong()).cloned().collect();
        let read = runtime.expect("a runtime").block_on(async {
            let mut scene = Scene::pinged().await;
            drop(send(scene.client, frames.concat(), size));
            read_all(&mut scene.upstream).await
        });
        prop_assert_eq!(read, kept.concat());
    }
}
