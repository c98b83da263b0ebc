//! Answers that are listened to, over a store in a file.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::CONTENT_ENCODING;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::clock::Clock;
use crate::config::{Store as StoreConfig, StorePlace};
use crate::jobs::keeper::Keeper;
use crate::observe::access::Sink;
use crate::observe::metrics::Metrics;
use crate::records::JobKind;

/// A body that comes in these pieces.
struct Pieces(VecDeque<Result<Frame<Bytes>, BodyError>>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.get_mut().0.pop_front())
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

fn body(pieces: &[&[u8]]) -> Body {
    let pieces = pieces
        .iter()
        .map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece))));
    Body::stream(Pieces(pieces.collect()))
}

/// A keeper over a store of its own.
struct Place {
    keeper: Arc<Keeper>,
    folder: std::path::PathBuf,
}

impl Place {
    fn new() -> Self {
        let name = format!("portcullis-tap-{}", uuid::Uuid::from_u128(random()));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        let store = crate::store::open(&StoreConfig {
            place: StorePlace::Sqlite(folder.join("a.db")),
            connections: 1,
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(10),
            ca: None,
        });
        let clock = Clock::manual(1_900_000_000);
        let keeper = Keeper::new(store.unwrap(), clock, Sink::silent(), &Metrics::new(1));
        Self { keeper, folder }
    }

    fn watch(&self, lines: &str) -> Watch {
        Watch {
            keeper: Some(Arc::clone(&self.keeper)),
            ..Watch::for_test(lines)
        }
    }

    async fn has(&self, id: &str) -> bool {
        let found = self.keeper.store().job(JobKind::Job, "app", id).await;
        found.unwrap().is_some()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn random() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    u128::from_le_bytes(bytes)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

async fn next(tap: &mut Tap) -> Option<Result<Frame<Bytes>, BodyError>> {
    std::future::poll_fn(|cx| Pin::new(&mut *tap).poll_frame(cx)).await
}

/// Everything that comes of a tap, and whether the job was kept before the last byte came.
async fn drain(place: &Place, mut tap: Tap, id: &str) -> (Vec<u8>, bool) {
    let whole = tap.size_hint().exact();
    let (mut seen, mut kept) = (Vec::new(), false);
    while let Some(frame) = next(&mut tap).await {
        if let Ok(data) = frame.unwrap().into_data() {
            seen.extend_from_slice(&data);
        }
        kept = place.has(id).await;
    }
    assert!(tap.is_end_stream());
    assert!(whole.is_none_or(|whole| whole == seen.len() as u64));
    (seen, kept)
}

#[test]
fn the_last_byte_waits_until_the_job_is_kept() {
    run(async {
        let place = Place::new();
        let text = br#"{"job_id":"a"}"#;
        let (head, last) = text.split_at(text.len() - 1);
        let watch = place.watch("id = \"/job_id\"");
        let mut tap = Tap::new(body(&[text]), watch, &HeaderMap::new());
        let first = next(&mut tap).await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, head);
        assert!(!place.has("a").await && !tap.is_end_stream());
        let second = next(&mut tap).await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(second, last);
        assert!(place.has("a").await);
        assert!(next(&mut tap).await.is_none());
    });
}

#[test]
fn trailers_come_behind_the_last_byte() {
    run(async {
        let place = Place::new();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("1"));
        let pieces = [
            Ok(Frame::data(Bytes::from_static(b"{\"job_id\":1}"))),
            Ok(Frame::trailers(trailers.clone())),
        ];
        let inner = Body::stream(Pieces(pieces.into()));
        let mut tap = Tap::new(inner, place.watch("id = \"/job_id\""), &HeaderMap::new());
        let mut seen = Vec::new();
        let mut last = None;
        while let Some(frame) = next(&mut tap).await {
            match frame.unwrap().into_data() {
                Ok(data) => seen.extend_from_slice(&data),
                Err(frame) => last = frame.into_trailers().ok(),
            }
        }
        assert_eq!(seen, b"{\"job_id\":1}");
        assert_eq!(last, Some(trailers));
        assert!(place.has("1").await);
    });
}

#[test]
fn an_answer_that_breaks_off_is_never_whole() {
    run(async {
        let place = Place::new();
        let pieces = [
            Ok(Frame::data(Bytes::from_static(b"{\"job_id\":1}"))),
            Err(BodyError::TimedOut),
        ];
        let inner = Body::stream(Pieces(pieces.into()));
        let mut tap = Tap::new(inner, place.watch("id = \"/job_id\""), &HeaderMap::new());
        let first = next(&mut tap).await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, &b"{\"job_id\":1"[..]);
        assert!(next(&mut tap).await.unwrap().is_err());
        assert!(next(&mut tap).await.is_none());
        assert!(!place.has("1").await);
    });
}

#[test]
fn what_is_too_large_passes_unheard() {
    run(async {
        let place = Place::new();
        let text = json!({"job_id": "a", "x": "x".repeat(100)}).to_string();
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(7).collect();
        for (most, heard) in [("50B", false), ("200B", true)] {
            let watch = place.watch(&format!("id = \"/job_id\"\nmax_size = \"{most}\""));
            let tap = Tap::new(body(&pieces), watch, &HeaderMap::new());
            let (seen, kept) = drain(&place, tap, "a").await;
            assert_eq!((seen, kept), (text.clone().into_bytes(), heard), "{most}");
        }
    });
}

#[test]
fn a_packed_answer_is_heard_and_passes_as_it_is() {
    use std::io::Write as _;
    run(async {
        let place = Place::new();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(br#"{"job_id":"packed"}"#).unwrap();
        let packed = packed.finish().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let tap = Tap::new(body(&[&packed]), place.watch("id = \"/job_id\""), &headers);
        assert_eq!(drain(&place, tap, "packed").await, (packed, true));
    });
}

#[test]
fn no_split_changes_the_answer() {
    let place = Place::new();
    proptest!(ProptestConfig::with_cases(32), |(
        text in "[ -~é]{0,40}",
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    )| {
        let id = format!("{:x}", random());
        let text = json!({"x": text, "job_id": id}).to_string();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
        let tap = Tap::new(body(&pieces), place.watch("id = \"/job_id\""), &HeaderMap::new());
        let (seen, kept) = run(drain(&place, tap, &id));
        prop_assert_eq!(seen, text.into_bytes());
        prop_assert!(kept);
    });
}
