//! Figures of the process. Each worker counts in cells of its own, which no other thread writes: a count is
//! a load and a store, no lock and no shared cache line. A scrape sums them up (`exposition.rs`).
//! Labels are names of the config and words of ours, never what a client sent; every table is bounded.

use std::array;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};

use super::Kind;

/// The process's figures. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(pub(super) Arc<Shared>);

/// A route's place in every worker's cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId(u16);

/// One worker's cells. To be written by one thread only: counts of two would be lost, not torn.
#[derive(Debug)]
#[repr(align(128))]
pub struct Cells {
    pub(super) routes: Box<[OnceLock<Box<RouteCells>>]>,
    pub(super) refusals: Words,
    pub(super) ends: Words,
    pub(super) totals: [Count; Total::ALL.len()],
}

/// A plain figure of a worker that only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is described beside its name")]
pub enum Total {
    TokenCacheHits,
    TokenCacheMisses,
    ConnectionsOpened,
    ConnectionsClosed,
    BytesReceived,
    BytesSent,
    UpstreamConnects,
    UpstreamConnectFailures,
    UpstreamRetries,
}

/// A figure that a part of the gateway is asked for at each scrape. Dropping it takes the figure off,
/// unless a successor of the same name and labels (after a reload) has taken it over.
#[must_use = "dropping it takes the figure off"]
pub struct Registration {
    metrics: Metrics,
    key: Key,
    turn: u64,
}

impl Metrics {
    /// Cells for this many workers.
    pub fn new(workers: usize) -> Self {
        let names = vec![UNMATCHED.into(), OVERFLOW.into()];
        Self(Arc::new(Shared {
            workers: (0..workers.max(1)).map(|_| Arc::default()).collect(),
            routes: Mutex::new(names),
            asked: Mutex::default(),
        }))
    }

    /// The place of the route `name`; names beyond the first 510 of the process share one (`other`).
    pub fn route(&self, name: &str) -> RouteId {
        let mut names = lock(&self.0.routes);
        let place = match names.iter().position(|known| &**known == name) {
            Some(place) => place,
            None if names.len() == ROUTES_MAX => return RouteId::OTHER,
            None => {
                names.push(name.into());
                names.len() - 1
            }
        };
        u16::try_from(place).map_or(RouteId::OTHER, RouteId)
    }

    /// The cells of worker `index`, counted from 0.
    pub fn worker(&self, index: usize) -> Arc<Cells> {
        self.0.workers[index % self.0.workers.len()].clone()
    }

    /// Shows what `read` says at each scrape; a NaN is left out.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Registration {
        self.register(Meaning::Gauge, help, key(name, labels), Arc::new(read))
    }

    /// The same for a figure that only grows; `name` is without its `_total`.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Registration {
        self.register(Meaning::Counter, help, key(name, labels), Arc::new(read))
    }

    fn register(
        &self,
        meaning: Meaning,
        help: &'static str,
        key: Key,
        read: Arc<dyn Fn() -> f64 + Send + Sync>,
    ) -> Registration {
        let mut asked = lock(&self.0.asked);
        let turn = asked.get(&key).map_or(0, |old| old.turn + 1);
        asked.insert(
            key.clone(),
            Asked {
                meaning,
                help,
                turn,
                read,
            },
        );
        drop(asked);
        Registration {
            metrics: self.clone(),
            key,
            turn,
        }
    }
}

impl RouteId {
    /// What no route matched.
    pub const UNMATCHED: Self = Self(0);
    /// Routes beyond the bound.
    pub const OTHER: Self = Self(1);
}

impl Cells {
    /// A request was answered, or its stream opened, in this time.
    pub fn request(&self, route: RouteId, method: &Method, status: StatusCode, duration: Duration) {
        let cells = self.cells(route);
        let statuses = cells.requests[method_place(method)]
            .get_or_init(|| Box::new(array::from_fn(|_| Count::default())));
        statuses[status_place(status)].add(1);
        cells.durations.observe(duration);
    }

    /// The upstream's first byte came after this time.
    pub fn upstream(&self, route: RouteId, duration: Duration) {
        self.cells(route).upstream_durations.observe(duration);
    }

    /// A request was refused with this word.
    pub fn refusal(&self, word: &'static str) {
        self.refusals.add(word);
    }

    /// A stream opened on this worker.
    pub fn stream_open(&self, route: RouteId, kind: Kind) {
        self.cells(route).streams_opened[kind as usize].add(1);
    }

    /// A stream of this worker closed, and why.
    pub fn stream_close(&self, route: RouteId, kind: Kind, end: &'static str) {
        self.cells(route).streams_closed[kind as usize].add(1);
        self.ends.add(end);
    }

    /// A verified token was found in a cache.
    pub fn token_cache_hit(&self) {
        self.add(Total::TokenCacheHits, 1);
    }

    /// A token was in no cache and had to be verified.
    pub fn token_cache_miss(&self) {
        self.add(Total::TokenCacheMisses, 1);
    }

    /// Adds to one of the plain figures.
    pub fn add(&self, total: Total, amount: u64) {
        self.totals[total as usize].add(amount);
    }

    fn cells(&self, route: RouteId) -> &RouteCells {
        self.routes[usize::from(route.0)].get_or_init(Box::default)
    }
}

impl Default for Cells {
    fn default() -> Self {
        Self {
            routes: (0..ROUTES_MAX).map(|_| OnceLock::new()).collect(),
            refusals: Words::default(),
            ends: Words::default(),
            totals: Default::default(),
        }
    }
}

impl Total {
    /// Every one, in the order of the enum.
    pub const ALL: [Self; 9] = [
        Self::TokenCacheHits,
        Self::TokenCacheMisses,
        Self::ConnectionsOpened,
        Self::ConnectionsClosed,
        Self::BytesReceived,
        Self::BytesSent,
        Self::UpstreamConnects,
        Self::UpstreamConnectFailures,
        Self::UpstreamRetries,
    ];
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut asked = lock(&self.metrics.0.asked);
        if asked
            .get(&self.key)
            .is_some_and(|now| now.turn == self.turn)
        {
            asked.remove(&self.key);
        }
    }
}

/// What all clones of the metrics share.
pub(super) struct Shared {
    pub(super) workers: Box<[Arc<Cells>]>,
    pub(super) routes: Mutex<Vec<Box<str>>>,
    pub(super) asked: Mutex<BTreeMap<Key, Asked>>,
}

/// A figure's name and labels.
pub(super) type Key = (&'static str, Vec<(&'static str, Box<str>)>);

#[derive(Clone)]
pub(super) struct Asked {
    pub(super) meaning: Meaning,
    pub(super) help: &'static str,
    turn: u64,
    pub(super) read: Arc<dyn Fn() -> f64 + Send + Sync>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Gauge,
    Counter,
}

#[derive(Debug, Default)]
pub(super) struct RouteCells {
    pub(super) requests: [OnceLock<Box<[Count; STATUSES.len() + 1]>>; METHODS.len()],
    pub(super) durations: Histogram,
    pub(super) upstream_durations: Histogram,
    pub(super) streams_opened: [Count; Kind::ALL.len()],
    pub(super) streams_closed: [Count; Kind::ALL.len()],
}

/// A figure that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// A load and a store, not a locked addition: the cell has one writer.
    pub(super) fn add(&self, amount: u64) {
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(amount);
        self.0.store(sum, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// One for each bound, and one above them all. Not cumulative.
    pub(super) buckets: [Count; BOUNDS.len() + 1],
    pub(super) nanos: Count,
}

impl Histogram {
    fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let above = |bound: &&f64| duration.as_secs_f64() > **bound;
        self.buckets[BOUNDS.iter().take_while(above).count()].add(1);
        self.nanos.add(nanos);
    }
}

/// Counts by static words. The last place takes what finds none.
#[derive(Debug)]
pub(super) struct Words(pub(super) Box<[(OnceLock<&'static str>, Count)]>);

impl Words {
    fn add(&self, word: &'static str) {
        for (name, count) in &self.0 {
            if *name.get_or_init(|| word) == word {
                return count.add(1);
            }
        }
        if let Some((_, count)) = self.0.last() {
            count.add(1);
        }
    }
}

impl Default for Words {
    fn default() -> Self {
        let places: Box<[(OnceLock<&str>, Count)]> =
            (0..=WORDS_MAX).map(|_| Default::default()).collect();
        if let Some((name, _)) = places.last() {
            let _ = name.set(OVERFLOW);
        }
        Self(places)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let own = |(label, value): &(&'static str, &str)| (*label, Box::from(*value));
    (name, labels.iter().map(own).collect())
}

fn method_place(method: &Method) -> usize {
    let known = METHODS.iter().position(|known| *known == method.as_str());
    known.unwrap_or(METHODS.len() - 1)
}

fn status_place(status: StatusCode) -> usize {
    usize::from(
        PLACES
            .get(usize::from(status.as_u16()))
            .copied()
            .unwrap_or(OTHER_STATUS),
    )
}

/// The `method` labels; whatever is not among them counts as the last.
pub(super) const METHODS: [&str; 8] = [
    "GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", OVERFLOW,
];

/// The statuses that have a label of their own.
pub(super) const STATUSES: [u16; 57] = [
    101, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 307, 308,
    400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418,
    421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 507, 511,
];

const OTHER_STATUS: u8 = STATUSES.len() as u8;

/// Status to its place in `STATUSES`.
static PLACES: [u8; 600] = {
    let mut places = [OTHER_STATUS; 600];
    let mut place = 0;
    while place < STATUSES.len() {
        places[STATUSES[place] as usize] = place as u8;
        place += 1;
    }
    places
};

/// Upper bounds of the histograms, in seconds.
pub(super) const BOUNDS: [f64; 15] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

/// The label of what no route matched.
const UNMATCHED: &str = "none";
/// The label of what has no room of its own.
pub(super) const OVERFLOW: &str = "other";
const ROUTES_MAX: usize = 512;
const WORDS_MAX: usize = 63;
