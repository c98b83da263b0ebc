//! JWKS by URL: fetched at start and in the background, once more when a token calls for it, the last good
//! set kept when the source is down. A request reads the current keys and waits for nothing, unless its
//! own key is unknown. `jwks_fetch.rs` speaks HTTP, `jwks_copy.rs` keeps the copy on disk.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use crate::clock::Clock;
use crate::config::JwksUrl;
use crate::identity::jwks_copy;
use crate::identity::jwks_fetch::{FetchError, client, fetch};
use crate::identity::keyset::KeySet;

/// The key sets of the process, by URL and settings. Outlives configurations, so that a reload neither
/// fetches again what it has nor forgets it.
#[derive(Debug)]
pub struct JwksSources {
    fetcher: Option<Fetcher>,
    clock: Clock,
    known: Mutex<Vec<Weak<Jwks>>>,
}

/// Where fetches run, and the one client for them. It is made when the first source is named: reading the
/// machine's root certificates takes longer than all the rest of a start.
#[derive(Debug)]
struct Fetcher {
    runtime: Handle,
    client: OnceLock<Option<reqwest::Client>>,
}

impl Fetcher {
    /// `None` where none can be made, which is logged: then keys never arrive.
    fn client(&self) -> Option<reqwest::Client> {
        let made = self.client.get_or_init(|| {
            let client = client();
            client
                .inspect_err(|error| tracing::error!(%error, "keys cannot be fetched"))
                .ok()
        });
        made.clone()
    }
}

impl JwksSources {
    /// Fetches on `runtime`, which must outlive the workers and drive I/O and time.
    pub fn fetching(runtime: Handle, clock: Clock) -> Self {
        let fetcher = Fetcher {
            runtime,
            client: OnceLock::new(),
        };
        Self {
            fetcher: Some(fetcher),
            ..Self::idle(clock)
        }
    }

    /// Never fetches: for `check` and `explain`, which see the copies on disk at most.
    pub fn idle(clock: Clock) -> Self {
        Self {
            fetcher: None,
            clock,
            known: Mutex::default(),
        }
    }

    /// The keys behind these settings, the same ones for as long as anybody holds them. The first call
    /// reads the copy on disk and starts the background task, which ends when the last holder goes.
    pub fn find(&self, settings: &JwksUrl) -> Arc<Jwks> {
        let mut known = lock(&self.known);
        known.retain(|jwks| jwks.strong_count() > 0);
        let mut live = known.iter().filter_map(Weak::upgrade);
        if let Some(jwks) = live.find(|jwks| jwks.settings == *settings) {
            return jwks;
        }
        let client = self.fetcher.as_ref().and_then(Fetcher::client);
        let jwks = Arc::new(Jwks::open(settings.clone(), client, self.clock.clone()));
        known.push(Arc::downgrade(&jwks));
        if let Some(fetcher) = &self.fetcher {
            fetcher.runtime.spawn(Jwks::run(Arc::downgrade(&jwks)));
        }
        jwks
    }
}

/// One key set by URL.
#[derive(Debug)]
pub struct Jwks {
    settings: JwksUrl,
    client: Option<reqwest::Client>,
    clock: Clock,
    current: ArcSwapOption<Loaded>,
    generation: AtomicU64,
    pace: Mutex<Pace>,
    /// The ordinal of the last fetch that ended.
    ended: watch::Sender<u64>,
    wake: Arc<Notify>,
}

/// Keys that arrived.
#[derive(Debug)]
pub struct Loaded {
    /// The keys.
    pub set: KeySet,
    document: Vec<u8>,
    confirmed: Instant,
}

/// Why a token calls for newer keys. Each reason has its own budget, so that forged signatures cannot use
/// up the one fetch that a rotation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refetch {
    /// Its `kid` is not in the set.
    UnknownKey,
    /// Its `kid` is, and the signature failed: the source may have put a new key under the same name.
    FailedKey,
}

/// What readiness and metrics tell of a key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JwksStatus {
    /// Whether there are keys that may be used.
    pub loaded: bool,
    /// Since the source last confirmed them; also where they are too old by now.
    pub age: Option<Duration>,
    /// Why the last fetch failed; `None` after a good one.
    pub last_error: Option<FetchError>,
}

/// Who asked for what, and when.
#[derive(Debug, Default)]
struct Pace {
    /// Fetches begun so far.
    begun: u64,
    /// A fetch was asked for that has not begun.
    asked: bool,
    unknown_key: Option<Instant>,
    failed_key: Option<Instant>,
    failures: u32,
    last_error: Option<FetchError>,
}

impl Jwks {
    fn open(settings: JwksUrl, client: Option<reqwest::Client>, clock: Clock) -> Self {
        let jwks = Self {
            settings,
            client,
            clock,
            current: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            pace: Mutex::default(),
            ended: watch::Sender::new(0),
            wake: Arc::default(),
        };
        if let Some((document, confirmed)) = jwks_copy::load(&jwks.settings, jwks.clock.now()) {
            // A copy that cannot be used is as good as none.
            let _ = jwks.keep(document, confirmed);
        }
        jwks
    }

    /// The keys, unless none ever arrived or they are older than `max_stale`.
    pub fn current(&self) -> Option<Arc<Loaded>> {
        self.current
            .load_full()
            .filter(|loaded| loaded.confirmed.elapsed() < self.settings.max_stale)
    }

    /// Changes with every change of the keys.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// For readiness and `portcullis_jwks_age_seconds`.
    pub fn status(&self) -> JwksStatus {
        let loaded = self.current.load();
        JwksStatus {
            loaded: self.current().is_some(),
            age: loaded.as_ref().map(|loaded| loaded.confirmed.elapsed()),
            last_error: lock(&self.pace).last_error,
        }
    }

    /// Waits for keys that are newer than this call, where the budget allows: one fetch for all who ask
    /// at once, and `min_interval` between fetches. `false`: nothing newer is to be had now.
    pub async fn refetch(&self, reason: Refetch) -> bool {
        let mut ended = self.ended.subscribe();
        let Some(wanted) = self.ask(reason) else {
            return false;
        };
        // The fetch has its own time-out; this one is for a background task that is gone.
        let limit = self.settings.timeout + Duration::from_secs(1);
        let arrived = tokio::time::timeout(limit, ended.wait_for(|ended| *ended >= wanted)).await;
        matches!(arrived, Ok(Ok(_)))
    }

    /// The ordinal of the fetch to wait for, if there is one.
    fn ask(&self, reason: Refetch) -> Option<u64> {
        self.client.as_ref()?;
        let mut pace = lock(&self.pace);
        if pace.asked {
            return Some(pace.begun + 1);
        }
        let flying = (pace.begun > *self.ended.borrow()).then_some(pace.begun);
        let last = match reason {
            Refetch::UnknownKey => &mut pace.unknown_key,
            Refetch::FailedKey => &mut pace.failed_key,
        };
        if last.is_some_and(|last| last.elapsed() < self.settings.min_interval) {
            return flying;
        }
        *last = Some(Instant::now());
        pace.asked = true;
        self.wake.notify_one();
        Some(pace.begun + 1)
    }

    /// The background task: a fetch at once, then every `refresh`, sooner after a failure, and when asked.
    async fn run(jwks: Weak<Self>) {
        while let Some(strong) = jwks.upgrade() {
            let pause = strong.refresh().await;
            let wake = strong.wake.clone();
            drop(strong);
            // Sleeping holds no key set: one that nobody uses any more wakes this task and ends it.
            let _ = tokio::time::timeout(pause, wake.notified()).await;
        }
    }

    /// One fetch, whatever comes of it; says how long to wait for the next.
    async fn refresh(&self) -> Duration {
        let Some(client) = &self.client else {
            return self.settings.refresh;
        };
        let ordinal = self.begin();
        let fetched = fetch(client, &self.settings).await;
        let kept = fetched.and_then(|document| {
            self.keep(document.clone(), Instant::now())?;
            Ok(document)
        });
        let failures = self.end(kept.as_ref().err().copied());
        self.ended.send_replace(ordinal);
        match kept {
            Ok(document) => {
                jwks_copy::save(&self.settings, document, self.clock.now()).await;
                self.settings.refresh
            }
            Err(_) => backoff(failures).min(self.settings.refresh),
        }
    }

    fn begin(&self) -> u64 {
        let mut pace = lock(&self.pace);
        pace.begun += 1;
        pace.asked = false;
        pace.begun
    }

    /// Notes how a fetch ended; how many have failed in a row.
    fn end(&self, error: Option<FetchError>) -> u32 {
        let mut pace = lock(&self.pace);
        pace.failures = match error {
            Some(_) => pace.failures.saturating_add(1),
            None => 0,
        };
        if let Some(error) = error.filter(|error| pace.last_error != Some(*error)) {
            tracing::warn!(url = %self.settings.url, error = %error, "keys could not be fetched");
        }
        if error.is_none() && pace.last_error.is_some() {
            tracing::info!(url = %self.settings.url, "keys are fetched again");
        }
        pace.last_error = error;
        pace.failures
    }

    /// Makes these the current keys. The same document again changes nothing but its age.
    fn keep(&self, document: Vec<u8>, confirmed: Instant) -> Result<(), FetchError> {
        let set = KeySet::parse(&document).map_err(FetchError::KeySet)?;
        let before = self.current.load();
        let same = before
            .as_ref()
            .is_some_and(|loaded| loaded.document == document);
        self.current.store(Some(Arc::new(Loaded {
            set,
            document,
            confirmed,
        })));
        if !same {
            // After the store: who sees the new generation sees the new keys.
            self.generation.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }
}

impl Drop for Jwks {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

/// 1 s, 2 s, 4 s, up to half a minute: a source that comes back is noticed soon, one that is down is left alone.
fn backoff(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(5)).min(Duration::from_secs(30))
}

/// No state here is left half-made by a panic, so a poisoned lock is as good as a sound one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests;
