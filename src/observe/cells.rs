//! What a worker's cells are made of: counts, histograms, counts by word, and the bounded sets of labels.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};

use super::Kind;

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
    pub(super) fn observe(&self, duration: Duration) {
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
    pub(super) fn add(&self, word: &'static str) {
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

pub(super) fn method_place(method: &Method) -> usize {
    let known = METHODS.iter().position(|known| *known == method.as_str());
    known.unwrap_or(METHODS.len() - 1)
}

pub(super) fn status_place(status: StatusCode) -> usize {
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

/// The label of what has no room of its own.
pub(super) const OVERFLOW: &str = "other";
const WORDS_MAX: usize = 63;
