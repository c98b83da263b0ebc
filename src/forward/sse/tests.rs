//! The stream as its client sees it: an upstream by script, paused time.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{self, Instant};

use super::*;
use crate::body::BodyError;
use crate::clock::Clock;
use crate::config::{ClaimPath, Enrich, SseReject};
use crate::forward::expiring::Expiring;
use crate::streams::tests::{guest, judge, known, of_session, session_stream};
use crate::streams::{End, Member, Streams, Verdict};

/// An upstream's body that says what the test sends; a break is an error.
struct Script(UnboundedReceiver<Result<Frame<Bytes>, BodyError>>);

impl HttpBody for Script {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx)
    }
}

/// A stream under test, with all its ends in the test's hands.
struct Scene {
    upstream: Option<UnboundedSender<Result<Frame<Bytes>, BodyError>>>,
    client: Body,
    head: HeaderMap,
    clock: Clock,
    streams: Arc<Streams>,
    outcome: Rc<RefCell<Vec<Outcome>>>,
}

impl Scene {
    fn new(settings: Settings, member: Member) -> Self {
        Self::with_head(settings, member, HeaderMap::new())
    }

    /// A stream that has begun: its greeting is read.
    async fn begun(settings: Settings) -> Self {
        let mut scene = Self::new(settings, known(1000));
        assert_eq!(scene.read().await, ": ok\n\n");
        scene
    }

    fn with_head(settings: Settings, member: Member, head: HeaderMap) -> Self {
        let clock = Clock::manual(100);
        let streams = Streams::new(1, clock.clone());
        let membership = streams.join(0, member);
        let (upstream, script) = unbounded_channel();
        let mut response = Response::new(Body::stream(Script(script)));
        *response.headers_mut() = head;
        let outcome = Rc::new(RefCell::new(Vec::new()));
        let witness = Rc::clone(&outcome);
        let over = move |outcome| witness.borrow_mut().push(outcome);
        let response = carry(response, membership, Arc::new(settings), over);
        let (head, client) = response.into_parts();
        Self {
            upstream: Some(upstream),
            client,
            head: head.headers,
            clock,
            streams,
            outcome,
        }
    }

    fn say(&self, text: impl AsRef<[u8]>) {
        self.put(Ok(Frame::data(Bytes::copy_from_slice(text.as_ref()))));
    }

    fn put(&self, frame: Result<Frame<Bytes>, BodyError>) {
        let upstream = self.upstream.as_ref().expect("the upstream is there");
        upstream.send(frame).expect("the stream listens");
    }

    /// What the client reads next; empty at the end.
    async fn read(&mut self) -> String {
        let frame = self.client.frame().await;
        let bytes = frame.map(|frame| frame.expect("no break").into_data().expect("data"));
        String::from_utf8(bytes.unwrap_or_default().to_vec()).expect("text")
    }

    /// Whether the client has nothing to read now.
    async fn is_silent(&mut self) -> bool {
        let now = time::timeout(Duration::ZERO, self.client.frame());
        now.await.is_err()
    }

    fn outcome(&self) -> Vec<Outcome> {
        self.outcome.borrow().clone()
    }
}

fn plain() -> Settings {
    Settings {
        sse: config::Sse {
            heartbeat: Some(NEVER),
            enrich: Enrich::None,
            enrich_fields: vec![("user_id".into(), ClaimPath([Box::from("sub")].into()))],
            on_reject: SseReject::Status,
            reject_retry: Duration::from_secs(3600),
            retry: Duration::from_secs(2),
        },
        idle_timeout: None,
        language: Language::En,
        expiring: Expiring {
            notice: 0,
            language: Language::En,
        },
    }
}

fn warning(seconds: u32) -> Settings {
    let mut settings = plain();
    settings.expiring.notice = seconds;
    settings
}

/// The deadline of the scene's stream moves.
fn extend(scene: &Scene, until: u64) {
    assert_eq!(scene.streams.renew(&Arc::new(of_session("s", until))), 1);
}

/// A stream of a session, warned of its end at 1000.
async fn warned() -> Scene {
    let mut scene = Scene::new(warning(60), session_stream("s", 1000));
    assert_eq!(scene.read().await, ": ok\n\n");
    scene
}

const WARNING: &str = "event: auth_expiring\ndata: {\"type\":\"auth_expiring\",\"expires_in\":60,\"expires_at\":1000,\"msg\":\"The login behind this stream is about to expire\"}\n\n";

#[tokio::test(start_paused = true)]
async fn a_client_is_warned_before_the_end_and_again_after_an_extension() {
    let mut scene = warned().await;
    assert!(scene.is_silent().await);
    scene.clock.set(940);
    assert_eq!(scene.read().await, WARNING);
    assert!(scene.is_silent().await, "once");
    extend(&scene, 2000);
    scene.clock.set(1000);
    assert!(scene.is_silent().await, "it goes on");
    scene.clock.set(1940);
    assert!(scene.read().await.contains("\"expires_at\":2000"));
    scene.clock.set(2000);
    assert!(scene.read().await.starts_with("event: auth_expired"));
}

#[tokio::test(start_paused = true)]
async fn a_warning_waits_for_the_end_of_a_long_event() {
    let mut scene = warned().await;
    let long = format!("data: {}", "x".repeat(LONG));
    scene.say(&long);
    assert_eq!(scene.read().await, long);
    scene.clock.set(940);
    assert!(scene.is_silent().await);
    time::sleep(Duration::from_secs(60)).await;
    assert!(scene.is_silent().await);
    scene.say("\n\n");
    assert_eq!(scene.read().await, "\n\n");
    assert_eq!(scene.read().await, WARNING);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_opens_shortly_before_its_end_is_warned_at_once() {
    let mut scene = Scene::new(warning(60), session_stream("s", 130));
    assert_eq!(scene.read().await, ": ok\n\n");
    assert!(scene.read().await.contains("\"expires_in\":30"));
}

fn enriching(name: &str) -> Settings {
    let mut settings = plain();
    settings.sse.enrich = Enrich::Named(vec![name.into()]);
    settings
}

fn beating(seconds: u64) -> Settings {
    let mut settings = plain();
    settings.sse.heartbeat = Some(Duration::from_secs(seconds));
    settings
}

const LONG: usize = 70 * 1024;

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(30 * 86_400);

#[tokio::test(start_paused = true)]
async fn whole_events_pass_as_they_come_and_a_part_is_held() {
    let mut scene = Scene::begun(plain()).await;
    scene.say("event: a\ndata: 1\n\ndata: 2\n\nda");
    assert_eq!(scene.read().await, "event: a\ndata: 1\n\ndata: 2\n\n");
    assert!(scene.is_silent().await);
    scene.say("ta: 3\n");
    assert!(scene.is_silent().await);
    scene.say("\ndata: 4");
    assert_eq!(scene.read().await, "data: 3\n\n");
    scene.say("\r\n\r");
    assert_eq!(scene.read().await, "data: 4\r\n\r");
    scene.say("\n");
    assert_eq!(scene.read().await, "\n");
    drop(scene.upstream.take());
    assert_eq!(scene.read().await, "");
    assert_eq!(scene.outcome(), [Outcome::Finished]);
}

#[tokio::test(start_paused = true)]
async fn a_chunk_of_whole_events_is_not_copied() {
    let mut scene = Scene::begun(plain()).await;
    let chunk = Bytes::from("data: 1\n\ndata: 2\n\n".to_owned());
    scene.put(Ok(Frame::data(chunk.clone())));
    let frame = scene.client.frame().await.expect("data").expect("no break");
    let read = frame.into_data().expect("data");
    assert_eq!(read.as_ptr(), chunk.as_ptr());
}

#[tokio::test(start_paused = true)]
async fn a_tail_at_the_end_passes_as_it_is() {
    let mut scene = Scene::begun(plain()).await;
    scene.say("data: 1\n\ndata: 2");
    assert_eq!(scene.read().await, "data: 1\n\n");
    drop(scene.upstream.take());
    assert_eq!(scene.read().await, "data: 2");
    assert_eq!(scene.read().await, "");
}

#[tokio::test(start_paused = true)]
async fn trailers_pass_behind_the_tail() {
    let mut scene = Scene::begun(plain()).await;
    scene.say("data: 2");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", NO);
    scene.put(Ok(Frame::trailers(trailers.clone())));
    assert_eq!(scene.read().await, "data: 2");
    let frame = scene.client.frame().await.expect("more").expect("no break");
    assert_eq!(frame.into_trailers().ok(), Some(trailers));
    assert!(scene.client.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_byte_order_mark_does_not_spoil_the_first_field() {
    let mut scene = Scene::begun(enriching("start")).await;
    scene.say(b"\xef\xbb");
    scene.say(b"\xbfevent: start\ndata: {}\n\n");
    assert_eq!(
        scene.read().await,
        "event: start\ndata: {\"user_id\":\"u\"}\n\n"
    );
    scene.say("\u{feff}data: 2\n\n");
    assert_eq!(scene.read().await, "\u{feff}data: 2\n\n");
}

#[tokio::test(start_paused = true)]
async fn only_chosen_events_are_enriched() {
    let mut scene = Scene::begun(enriching("start")).await;
    scene.say(
        "data: {}\n\nevent: start\ndata: {\"user_id\":\"x\"}\n\nevent: end\ndata: {}\n\nevent: st",
    );
    let expected =
        "data: {}\n\nevent: start\ndata: {\"user_id\":\"u\"}\n\nevent: end\ndata: {}\n\n";
    assert_eq!(scene.read().await, expected);
    scene.say("art\ndata: {}\n\n");
    assert_eq!(
        scene.read().await,
        "event: start\ndata: {\"user_id\":\"u\"}\n\n"
    );
}

#[tokio::test(start_paused = true)]
async fn an_event_too_long_to_hold_passes_as_it_comes() {
    let mut scene = Scene::begun(enriching("start")).await;
    let long = format!("event: start\ndata: {{\"a\":\"{}", "x".repeat(LONG));
    scene.say(&long);
    assert_eq!(scene.read().await, long);
    scene.say("y");
    assert_eq!(scene.read().await, "y", "it is not held again");
    scene.say("\"}\n\nevent: start\ndata: {}\n\nevent: sta");
    let expected = "\"}\n\nevent: start\ndata: {\"user_id\":\"u\"}\n\n";
    assert_eq!(scene.read().await, expected);
    assert!(scene.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_fill_silence_at_event_boundaries() {
    let mut scene = Scene::begun(beating(15)).await;
    let start = Instant::now();
    assert_eq!(scene.read().await, ": ping\n\n");
    assert_eq!(start.elapsed().as_secs(), 15);
    scene.say("data: 1\n\nda");
    assert_eq!(scene.read().await, "data: 1\n\n");
    assert_eq!(scene.read().await, ": ping\n\n", "before a held part");
    assert_eq!(start.elapsed().as_secs(), 30);
    scene.say("x".repeat(LONG));
    assert_eq!(scene.read().await.len(), LONG + 2);
    let hour = Duration::from_secs(3600);
    let silence = time::timeout(hour, scene.client.frame()).await;
    assert!(silence.is_err(), "never inside an event");
    scene.say("\n\n");
    assert_eq!(scene.read().await, "\n\n");
    assert_eq!(scene.read().await, ": ping\n\n");
}

#[tokio::test(start_paused = true)]
async fn without_heartbeats_there_is_no_comment_at_all() {
    let mut settings = plain();
    settings.sse.heartbeat = None;
    let mut scene = Scene::new(settings, known(1000));
    assert!(scene.is_silent().await);
    scene.say("data: 1\n\n");
    assert_eq!(scene.read().await, "data: 1\n\n");
}

#[tokio::test(start_paused = true)]
async fn a_talking_upstream_gets_no_heartbeat() {
    let mut scene = Scene::begun(beating(15)).await;
    for _ in 0..10 {
        assert!(
            time::timeout(Duration::from_secs(10), scene.client.frame())
                .await
                .is_err()
        );
        scene.say("data: 1\n\n");
        assert_eq!(scene.read().await, "data: 1\n\n");
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_stream_ends_with_one_last_event() {
    let mut scene = Scene::begun(plain()).await;
    scene.say("data: 1\n\ndata: half");
    assert_eq!(scene.read().await, "data: 1\n\n");
    scene.clock.set(1000);
    let expected = "event: auth_expired\ndata: {\"error\":\"auth_expired\",\"msg\":\"The login behind this stream has expired\"}\n\n";
    assert_eq!(scene.read().await, expected);
    assert_eq!(scene.read().await, "");
    assert_eq!(scene.outcome(), [Outcome::Told(End::Expired)]);
    let upstream = scene.upstream.take().expect("the upstream is there");
    assert!(upstream.is_closed(), "its work is cancelled");
}

#[tokio::test(start_paused = true)]
async fn revocation_and_drain_have_their_own_last_events() {
    let mut scene = Scene::begun(plain()).await;
    scene
        .streams
        .review(&judge(|_, _| Verdict::End(End::Revoked)));
    assert!(
        scene
            .read()
            .await
            .starts_with("event: auth_revoked\ndata: {\"error\":\"auth_revoked\",")
    );
    let mut scene = Scene::begun(plain()).await;
    scene.streams.end_all(End::Draining);
    let last = scene.read().await;
    assert!(
        last.starts_with("retry: 2000\nevent: draining\ndata: {\"error\":\"draining\","),
        "{last}"
    );
    assert_eq!(scene.read().await, "");
}

#[tokio::test(start_paused = true)]
async fn an_end_inside_a_long_event_waits_for_it_shortly() {
    let mut scene = Scene::begun(plain()).await;
    let long = "x".repeat(LONG);
    scene.say(&long);
    assert_eq!(scene.read().await, long);
    scene.streams.end_all(End::Draining);
    assert!(scene.is_silent().await);
    scene.say("\n\ndata: 2\n\n");
    assert_eq!(scene.read().await, "\n\ndata: 2\n\n");
    assert!(scene.read().await.contains("event: draining"));
    assert_eq!(scene.read().await, "");

    let mut scene = Scene::begun(plain()).await;
    scene.say(&long);
    assert_eq!(scene.read().await, long);
    scene.streams.end_all(End::Draining);
    let last = scene.client.frame().await;
    assert!(
        matches!(last, Some(Err(BodyError::Ended))),
        "half an event is never made a whole"
    );
    assert_eq!(scene.outcome(), [Outcome::Told(End::Draining)]);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_breaks_off_is_told_with_the_fields() {
    let mut scene = Scene::begun(plain()).await;
    scene.say("data: half");
    scene.put(Err(BodyError::TimedOut));
    let expected = "retry: 2000\nevent: error\ndata: {\"error\":\"upstream_disconnected\",\"msg\":\"The service broke off\",\"user_id\":\"u\"}\n\n";
    assert_eq!(scene.read().await, expected);
    assert_eq!(scene.read().await, "");
    assert_eq!(scene.outcome(), [Outcome::UpstreamDisconnected]);

    let mut scene = Scene::new(plain(), guest("r"));
    scene.read().await;
    scene.put(Err(BodyError::TimedOut));
    assert!(scene.read().await.contains("\"user_id\":null}"));
}

#[tokio::test(start_paused = true)]
async fn a_break_inside_a_long_event_stays_a_break() {
    let mut scene = Scene::begun(plain()).await;
    scene.say("x".repeat(LONG));
    scene.read().await;
    scene.put(Err(BodyError::TooLarge));
    let last = scene.client.frame().await;
    assert!(matches!(last, Some(Err(BodyError::TooLarge))));
}

#[tokio::test(start_paused = true)]
async fn a_silent_upstream_is_given_up() {
    let mut settings = beating(15);
    settings.idle_timeout = Some(Duration::from_secs(40));
    let mut scene = Scene::begun(settings).await;
    assert_eq!(scene.read().await, ": ping\n\n");
    scene.say("data: half");
    assert_eq!(scene.read().await, ": ping\n\n");
    assert_eq!(scene.read().await, ": ping\n\n");
    assert!(
        scene
            .read()
            .await
            .contains("event: error\ndata: {\"error\":\"upstream_timeout\",")
    );
    assert_eq!(scene.read().await, "");
    assert_eq!(scene.outcome(), [Outcome::UpstreamTimeout]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_cancels_the_upstream() {
    let mut scene = Scene::begun(plain()).await;
    scene.client = Body::Empty;
    assert!(scene.upstream.take().expect("it is there").is_closed());
    assert_eq!(scene.outcome(), [Outcome::ClientLeft]);
    assert!(scene.streams.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_encoded_stream_passes_untouched_and_is_cut() {
    let mut head = HeaderMap::new();
    head.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.insert(CONTENT_LENGTH, HeaderValue::from_static("99"));
    let mut scene = Scene::with_head(beating(1), known(1000), head);
    assert_eq!(
        scene.head.get(CONTENT_LENGTH),
        Some(&HeaderValue::from_static("99"))
    );
    scene.say("da");
    assert_eq!(scene.read().await, "da");
    scene.clock.set(1000);
    let last = scene.client.frame().await;
    assert!(matches!(last, Some(Err(BodyError::Ended))));
    assert_eq!(scene.outcome(), [Outcome::Told(End::Expired)]);
}

#[test]
fn the_head_forbids_buffering_and_claims_no_length() {
    let mut head = HeaderMap::new();
    head.insert(CONTENT_LENGTH, HeaderValue::from_static("99"));
    let scene = Scene::with_head(plain(), guest("r"), head);
    assert_eq!(scene.head.get(ACCEL_BUFFERING), Some(&NO));
    assert_eq!(scene.head.get(CACHE_CONTROL), Some(&NO_CACHE));
    assert!(!scene.head.contains_key(CONTENT_LENGTH));
    let mut head = HeaderMap::new();
    head.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
    let scene = Scene::with_head(plain(), guest("r"), head.clone());
    assert_eq!(scene.head.get(CACHE_CONTROL), head.get(CACHE_CONTROL));
}

#[test]
fn the_content_type_makes_an_event_stream() {
    for (value, expected) in [
        ("text/event-stream", true),
        ("Text/Event-Stream; charset=utf-8", true),
        ("text/event-stream;x", true),
        ("text/event-streams", false),
        ("application/json", false),
    ] {
        let mut head = HeaderMap::new();
        assert!(!is_event_stream(&head));
        head.insert(CONTENT_TYPE, HeaderValue::from_static(value));
        assert_eq!(is_event_stream(&head), expected, "{value}");
    }
}

#[tokio::test]
async fn a_refused_event_source_reads_why() {
    let response = auth_error_response(
        Refusal::TokenExpired,
        br#"{"code":401}"#,
        Duration::from_secs(3600),
    );
    assert_eq!(response.status(), 200);
    assert!(is_event_stream(response.headers()));
    let body = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    let expected: &[u8] = b"retry: 3600000\nevent: auth_error\ndata: {\"code\":401}\n\n";
    assert_eq!(body, expected);
}

proptest! {
    #[test]
    fn any_split_gives_the_same_bytes(
        text in "(data: [a\u{e4}]{0,5}(\r\n|\n|\r)|event: start(\r\n|\n)|(\r\n|\n|\r)){0,20}",
        cuts in proptest::collection::vec(0usize..100, 0..10),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let read = runtime.expect("a runtime").block_on(async {
            let mut scene = Scene::begun(plain()).await;
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= bytes.len()).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            cuts.windows(2).for_each(|cut| scene.say(&bytes[cut[0]..cut[1]]));
            drop(scene.upstream.take());
            scene.client.collect().await.expect("a body").to_bytes()
        });
        prop_assert_eq!(read, text.as_bytes());
    }
}
