use super::*;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::identity::jwt::Jws;
use crate::identity::keyset::KeySetError;
use crate::identity::testing::TestKey;
use crate::refusal::Refusal;

const NOW: u64 = 1_800_000_000;

/// A JWKS server that says what it is told to say, and counts.
pub(crate) struct Source {
    pub(crate) url: String,
    answer: Arc<Mutex<Answer>>,
    hits: Arc<AtomicUsize>,
}

#[derive(Clone)]
pub(crate) enum Answer {
    Body(StatusCode, Bytes),
    Redirect(String),
    Silence,
}

impl Source {
    pub(crate) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let source = Self {
            url: format!("http://{}/jwks", listener.local_addr().unwrap()),
            answer: Arc::new(Mutex::new(answer)),
            hits: Arc::default(),
        };
        let (answer, hits) = (source.answer.clone(), source.hits.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (answer, hits) = (answer.clone(), hits.clone());
                let service = service_fn(move |_| {
                    hits.fetch_add(1, Ordering::SeqCst);
                    let answer = lock(&answer).clone();
                    async move { Ok::<_, Infallible>(answer.response().await) }
                });
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(socket), service));
            }
        });
        source
    }

    pub(crate) fn say(&self, answer: Answer) {
        *lock(&self.answer) = answer;
    }

    pub(crate) fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    pub(crate) fn settings(&self) -> JwksUrl {
        JwksUrl {
            url: self.url.as_str().into(),
            cache_file: None,
            refresh: Duration::from_secs(600),
            min_interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            max_stale: Duration::from_secs(86400),
        }
    }
}

impl Answer {
    pub(crate) fn keys(keys: &[Value]) -> Self {
        Self::Body(StatusCode::OK, json!({"keys": keys}).to_string().into())
    }

    async fn response(self) -> Response<Full<Bytes>> {
        match self {
            Self::Body(status, body) => {
                let mut response = Response::new(Full::new(body));
                *response.status_mut() = status;
                response
            }
            Self::Redirect(location) => Response::builder()
                .status(302)
                .header("location", location)
                .body(Full::default())
                .unwrap(),
            Self::Silence => std::future::pending().await,
        }
    }
}

fn sources() -> JwksSources {
    JwksSources::fetching(Handle::current(), Clock::manual(NOW))
}

/// Waits for the end of the fetch with this ordinal.
pub(crate) async fn fetched(jwks: &Jwks, ordinal: u64) {
    let mut ended = jwks.ended.subscribe();
    ended.wait_for(|ended| *ended >= ordinal).await.unwrap();
}

async fn opened(source: &Source) -> (JwksSources, Arc<Jwks>) {
    let sources = sources();
    let jwks = sources.find(&source.settings());
    fetched(&jwks, 1).await;
    (sources, jwks)
}

fn judge(jwks: &Jwks, key: &TestKey, kid: &str) -> Result<(), Refusal> {
    let token = key.mint(Some(kid), &json!({"sub": "a"}));
    let loaded = jwks.current().ok_or(Refusal::KeysUnavailable)?;
    loaded.set.verify(&Jws::read(&token).unwrap())
}

#[tokio::test]
async fn keys_are_fetched_at_start_and_shared_by_settings() {
    let key = TestKey::es256();
    let source = Source::start(Answer::keys(&[key.jwk("a")])).await;
    let (sources, jwks) = opened(&source).await;
    assert_eq!(judge(&jwks, &key, "a"), Ok(()));
    assert!(Arc::ptr_eq(&jwks, &sources.find(&source.settings())));
    assert!(jwks.status().loaded);
    assert_eq!(source.hits(), 1);
}

#[tokio::test]
async fn a_rotation_is_found_by_the_first_token_that_needs_it() {
    let (old, new) = (TestKey::es256(), TestKey::es256());
    let source = Source::start(Answer::keys(&[old.jwk("old")])).await;
    let (_sources, jwks) = opened(&source).await;
    let before = jwks.generation();
    source.say(Answer::keys(&[new.jwk("new")]));
    assert_eq!(judge(&jwks, &new, "new"), Err(Refusal::KeyUnknown));
    assert!(jwks.refetch(Refetch::UnknownKey).await);
    assert_eq!(judge(&jwks, &new, "new"), Ok(()));
    assert_eq!(judge(&jwks, &old, "old"), Err(Refusal::KeyUnknown));
    assert_ne!(jwks.generation(), before);
}

#[tokio::test]
async fn a_new_key_under_an_old_name_is_found_too() {
    let (old, new) = (TestKey::es256(), TestKey::es256());
    let source = Source::start(Answer::keys(&[old.jwk("k")])).await;
    let (_sources, jwks) = opened(&source).await;
    // Forged kids have used up their own budget; that of failed signatures is another.
    assert!(jwks.refetch(Refetch::UnknownKey).await);
    source.say(Answer::keys(&[new.jwk("k")]));
    assert_eq!(judge(&jwks, &new, "k"), Err(Refusal::TokenSignatureInvalid));
    assert!(jwks.refetch(Refetch::FailedKey).await);
    assert_eq!(judge(&jwks, &new, "k"), Ok(()));
}

#[tokio::test]
async fn a_storm_of_unknown_kids_is_one_fetch_and_then_none() {
    let key = TestKey::es256();
    let source = Source::start(Answer::keys(&[key.jwk("a")])).await;
    let (_sources, jwks) = opened(&source).await;
    let generation = jwks.generation();
    let storm: Vec<_> = (0..100)
        .map(|_| {
            let jwks = jwks.clone();
            tokio::spawn(async move { jwks.refetch(Refetch::UnknownKey).await })
        })
        .collect();
    for one in storm {
        assert!(one.await.unwrap());
    }
    assert_eq!(source.hits(), 2);
    for _ in 0..100 {
        assert!(!jwks.refetch(Refetch::UnknownKey).await);
    }
    assert_eq!(source.hits(), 2);
    // The same document again is no change: cached tokens stay.
    assert_eq!(jwks.generation(), generation);
}

#[tokio::test]
async fn a_bad_answer_keeps_the_last_good_keys() {
    let key = TestKey::es256();
    let good = Answer::keys(&[key.jwk("a")]);
    let elsewhere = Source::start(good.clone()).await;
    let ok = |text: &str| Answer::Body(StatusCode::OK, text.to_owned().into());
    let malformed = FetchError::KeySet(KeySetError::Malformed);
    let rows = [
        (ok("<html>"), malformed),
        (ok(""), malformed),
        (ok(r#"{"keys":[]}"#), FetchError::KeySet(KeySetError::Empty)),
        (ok(&" ".repeat(256 * 1024 + 1)), FetchError::TooLarge),
        (
            Answer::Body(StatusCode::BAD_GATEWAY, Bytes::new()),
            FetchError::Status(StatusCode::BAD_GATEWAY),
        ),
        (
            Answer::Redirect(elsewhere.url.clone()),
            FetchError::Status(StatusCode::FOUND),
        ),
        (Answer::Silence, FetchError::Timeout),
    ];
    for (answer, error) in rows {
        let source = Source::start(good.clone()).await;
        let sources = sources();
        let jwks = sources.find(&JwksUrl {
            timeout: Duration::from_millis(500),
            ..source.settings()
        });
        fetched(&jwks, 1).await;
        assert_eq!(jwks.status().last_error, None);
        source.say(answer);
        jwks.refetch(Refetch::UnknownKey).await;
        assert_eq!(jwks.status().last_error, Some(error));
        assert_eq!(judge(&jwks, &key, "a"), Ok(()), "{error}");
    }
    assert_eq!(elsewhere.hits(), 0);
}

#[tokio::test]
async fn without_any_keys_they_are_unavailable_until_they_arrive() {
    let key = TestKey::es256();
    let down = Answer::Body(StatusCode::SERVICE_UNAVAILABLE, Bytes::new());
    let source = Source::start(down).await;
    let (_sources, jwks) = opened(&source).await;
    assert_eq!(judge(&jwks, &key, "a"), Err(Refusal::KeysUnavailable));
    assert!(!jwks.status().loaded);
    source.say(Answer::keys(&[key.jwk("a")]));
    // The background task tries again on its own.
    fetched(&jwks, 2).await;
    assert_eq!(judge(&jwks, &key, "a"), Ok(()));
}

#[tokio::test]
async fn keys_that_are_too_old_are_not_used() {
    let key = TestKey::es256();
    let source = Source::start(Answer::keys(&[key.jwk("a")])).await;
    let sources = sources();
    let jwks = sources.find(&JwksUrl {
        max_stale: Duration::ZERO,
        ..source.settings()
    });
    fetched(&jwks, 1).await;
    assert_eq!(judge(&jwks, &key, "a"), Err(Refusal::KeysUnavailable));
    assert!(!jwks.status().loaded);
}

#[tokio::test]
async fn the_copy_on_disk_serves_a_restart_without_network() {
    let key = TestKey::es256();
    let source = Source::start(Answer::keys(&[key.jwk("a")])).await;
    let folder = Folder::new();
    let settings = JwksUrl {
        cache_file: Some(folder.0.join("jwks.json")),
        ..source.settings()
    };
    let file = settings.cache_file.clone().unwrap();
    jwks_copy::save(
        &settings,
        json!({"keys": [key.jwk("a")]}).to_string().into_bytes(),
        NOW,
    )
    .await;
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600);

    let open = |settings: &JwksUrl, now| JwksSources::idle(Clock::manual(now)).find(settings);
    let jwks = open(&settings, NOW + 60);
    assert_eq!(judge(&jwks, &key, "a"), Ok(()));
    assert!(jwks.status().age.unwrap() >= Duration::from_secs(60));
    assert!(!jwks.refetch(Refetch::UnknownKey).await);

    // Too old, from the future, of another URL, broken, or open to others: as good as none.
    assert!(open(&settings, NOW + 86400).current().is_none());
    assert!(open(&settings, NOW - 1).current().is_none());
    let other = JwksUrl {
        url: "https://other.example/jwks".into(),
        ..settings.clone()
    };
    assert!(open(&other, NOW).current().is_none());
    let open_to_others = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&file, open_to_others).unwrap();
    assert!(open(&settings, NOW).current().is_none());
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "{\"url\":").unwrap();
    assert!(open(&settings, NOW).current().is_none());
}

#[tokio::test]
async fn keys_that_nobody_holds_are_let_go() {
    let source = Source::start(Answer::keys(&[TestKey::es256().jwk("a")])).await;
    let (sources, jwks) = opened(&source).await;
    let weak = Arc::downgrade(&jwks);
    drop(jwks);
    while weak.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(!sources.find(&source.settings()).status().loaded);
}

#[test]
fn failures_are_followed_by_longer_pauses_up_to_half_a_minute() {
    let seconds: Vec<u64> = (1..=8)
        .map(|failures| backoff(failures).as_secs())
        .collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let name = format!("portcullis-jwks-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
