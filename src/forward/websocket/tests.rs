//! Tunnels over in-memory pipes and paused time: both ends are played by the test.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{self, Instant};

use super::frames::{self, Sender};
use super::switch::Switch;
use super::tunnel::{Part, Plan, Report, Side, tunnel};
use crate::clock::Clock;
use crate::forward::expiring::Expiring;
use crate::journal::Journal;
use crate::refusal::Language;
use crate::streams::tests::known;
use crate::streams::{Membership, Streams};
use crate::wire::Wire;

/// A tunnel whose two ends the test plays.
pub struct Scene {
    pub client: DuplexStream,
    pub upstream: DuplexStream,
    pub clock: Clock,
    pub streams: Arc<Streams>,
    pub report: JoinHandle<Report>,
}

impl Scene {
    pub fn new(part: impl Into<Part>) -> Self {
        Self::with_early(part, b"", b"")
    }

    /// A tunnel in which the client and the upstream sent something behind their handshakes.
    fn with_early(
        part: impl Into<Part>,
        early_client: &'static [u8],
        early_upstream: &'static [u8],
    ) -> Self {
        let clock = Clock::manual(100);
        let streams = Streams::new(1, clock.clone());
        let membership = streams.join(0, known(1000));
        let (client, gateway_client) = duplex(PIPE);
        let (upstream, gateway_upstream) = duplex(PIPE);
        let report = tokio::spawn(tunnel(
            side(gateway_client, early_client),
            side(gateway_upstream, early_upstream),
            membership,
            part.into(),
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

pub fn quiet() -> Plan {
    Plan {
        ping_interval: None,
        idle_timeout: None,
        send_timeout: Duration::from_secs(60),
        close_unauthenticated: 4401,
        expiring: Expiring {
            notice: 0,
            language: Language::En,
        },
        close_limited: 4429,
    }
}

impl From<Plan> for Part {
    fn from(plan: Plan) -> Self {
        Self {
            greeting: None,
            plan: Arc::new(plan),
        }
    }
}

pub fn greeting(plan: Plan) -> Part {
    Part {
        greeting: Some("hi".to_owned()),
        ..plan.into()
    }
}

fn warning() -> Plan {
    let mut plan = quiet();
    plan.expiring.notice = 60;
    plan
}

/// The warning, as a frame.
fn warned() -> Vec<u8> {
    let expiring = warning().expiring;
    frames::text(&expiring.text(1000, 940))
}

#[tokio::test(start_paused = true)]
async fn a_client_is_warned_between_messages_before_the_end() {
    let mut scene = Scene::new(warning());
    scene.clock.set(940);
    assert_eq!(read(&mut scene.client, warned().len()).await, warned());
    assert!(is_silent(&mut scene.client).await, "once");
    scene.clock.set(1000);
    let all = read(&mut scene.client, 4).await;
    assert_eq!(all[..1], [0x88], "the close follows");
}

#[tokio::test(start_paused = true)]
async fn a_warning_does_not_part_a_message() {
    let mut scene = Scene::new(warning());
    let whole = [&[0x01, 2][..], b"ab", &[0x80, 2], b"cd", &[0x81, 1], b"e"].concat();
    // A fragment is through, its message is not.
    scene.upstream.write_all(&whole[..4]).await.expect("room");
    assert_eq!(read(&mut scene.client, 4).await, whole[..4]);
    scene.clock.set(940);
    assert!(is_silent(&mut scene.client).await);
    // The rest comes with the beginning of the next message.
    scene.upstream.write_all(&whole[4..10]).await.expect("room");
    let expected = [&whole[4..8], &warned(), &whole[8..10]].concat();
    assert_eq!(read(&mut scene.client, expected.len()).await, expected);
    scene.upstream.write_all(&whole[10..]).await.expect("room");
    assert_eq!(read(&mut scene.client, 1).await, b"e");
}

pub fn pinging() -> Plan {
    let ping_interval = Some(Duration::from_secs(30));
    Plan {
        ping_interval,
        ..quiet()
    }
}

pub async fn read(io: &mut DuplexStream, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    io.read_exact(&mut bytes).await.expect("the bytes come");
    bytes
}

pub async fn read_all(io: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    io.read_to_end(&mut bytes).await.expect("no break");
    bytes
}

/// Whether nothing comes within an hour.
pub async fn is_silent(io: &mut DuplexStream) -> bool {
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

pub fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, payload, Sender::Client)
}

pub fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, payload, Sender::Server)
}

/// A client's pong to our ping, under a key.
pub fn our_pong() -> Vec<u8> {
    let key = [1, 2, 3, 4];
    let payload = frames::PING_PAYLOAD.iter().zip(key.iter().cycle());
    let mut pong = vec![0x8a, 0x8a, 1, 2, 3, 4];
    pong.extend(payload.map(|(b, k)| b ^ k));
    pong
}

pub fn unmask(close: &[u8]) -> Vec<u8> {
    let (key, payload) = close[2..].split_at(4);
    payload
        .iter()
        .zip(key.iter().cycle())
        .map(|(b, k)| b ^ k)
        .collect()
}

pub const PIPE: usize = 4096;
pub const PING: &[u8] = b"\x89\x0aportcullis";

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
    let mut scene = Scene::with_early(greeting(quiet()), b"\x81\x80\0\0\0\0", b"\x81\x01u");
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

/// How much room a function's future takes, without calling it.
fn room<A, F>(_: impl FnOnce(A) -> F) -> usize {
    size_of::<F>()
}

/// Of all that an idle tunnel holds only this grows by accident: a future keeps room for whatever it has held at any time,
/// twice for what it was given and hands on. The bounds are what they come to now, with a little air.
#[test]
fn an_idle_tunnel_costs_little() {
    type Ends = (Side<Wire>, Side<Wire>, Membership, Part);
    let carried = room(|(client, upstream, membership, part): Ends| {
        tunnel(client, upstream, membership, part)
    });
    assert!(carried <= 512, "{carried}");
    let task = room(|(switch, journal): (Box<Switch>, Journal)| switch.run(journal, ()));
    assert!(task <= size_of::<Journal>() + 128, "{task}");
    assert!(size_of::<Journal>() <= 448, "{}", size_of::<Journal>());
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
