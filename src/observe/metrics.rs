//! Figures of the process. Each worker counts in cells of its own, which no other thread writes: a count is
//! a load and a store, no lock and no shared cache line. A scrape sums them up (`exposition.rs`).
//! Labels are names of the config and words of ours, never what a client sent; every table is bounded.

use std::array;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};

use super::cells::{Count, OVERFLOW, RouteCells, Words, method_place, status_place};
use super::{Kind, next_turn};

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
    BytesIn,
    BytesOut,
    UpstreamConnects,
    UpstreamConnectFailures,
    UpstreamRetries,
}

/// A figure that a part of the gateway is asked for at each scrape; dropping it takes the figure off. Of
/// several with the same name and labels (at a reload) the latest is asked.
#[must_use = "dropping it takes the figure off"]
pub struct Registration {
    metrics: Metrics,
    place: (Key, u64),
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
        let place = (key, next_turn());
        let asked = Asked {
            meaning,
            help,
            read,
        };
        lock(&self.0.asked).insert(place.clone(), asked);
        Registration {
            metrics: self.clone(),
            place,
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
        Self::BytesIn,
        Self::BytesOut,
        Self::UpstreamConnects,
        Self::UpstreamConnectFailures,
        Self::UpstreamRetries,
    ];
}

impl Drop for Registration {
    fn drop(&mut self) {
        lock(&self.metrics.0.asked).remove(&self.place);
    }
}

/// What all clones of the metrics share.
pub(super) struct Shared {
    pub(super) workers: Box<[Arc<Cells>]>,
    pub(super) routes: Mutex<Vec<Box<str>>>,
    pub(super) asked: Mutex<BTreeMap<(Key, u64), Asked>>,
}

/// A figure's name and labels.
pub(super) type Key = (&'static str, Vec<(&'static str, Box<str>)>);

#[derive(Clone)]
pub(super) struct Asked {
    pub(super) meaning: Meaning,
    pub(super) help: &'static str,
    pub(super) read: Arc<dyn Fn() -> f64 + Send + Sync>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Gauge,
    Counter,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let own = |(label, value): &(&'static str, &str)| (*label, Box::from(*value));
    (name, labels.iter().map(own).collect())
}

/// The label of what no route matched.
const UNMATCHED: &str = "none";
const ROUTES_MAX: usize = 512;
