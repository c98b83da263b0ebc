//! What calls to Redis came to, counted by the threads that make them and summed up at a scrape.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Away, Redis};
use crate::observe::metrics::{Metrics, Registration};

/// The counts of one lane.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counts {
    ok: AtomicU64,
    down: AtomicU64,
    late: AtomicU64,
    refused: AtomicU64,
    nanos: AtomicU64,
}

/// One of the counts.
type Pick = fn(&Counts) -> &AtomicU64;

impl Counts {
    /// A call took this long, and failed where `away` says so.
    pub(super) fn note(&self, took: Duration, away: Option<Away>) {
        self.of(away).fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    fn of(&self, away: Option<Away>) -> &AtomicU64 {
        match away {
            None => &self.ok,
            Some(Away::Down) => &self.down,
            Some(Away::Late) => &self.late,
            Some(Away::Refused) => &self.refused,
        }
    }
}

impl Redis {
    /// Shows its figures for as long as they are held.
    pub fn figures(self: &Arc<Self>, metrics: &Metrics) -> Vec<Registration> {
        let sum = |pick: Pick| {
            let redis = Arc::downgrade(self);
            move || {
                let lanes = redis.upgrade();
                let lanes = lanes.iter().flat_map(|redis| redis.lanes.iter());
                let counts = lanes.map(|lane| pick(&lane.counts).load(Ordering::Relaxed));
                counts.sum::<u64>() as f64
            }
        };
        let results: [(&str, Pick); 4] = [
            ("ok", |counts| counts.of(None)),
            ("down", |counts| counts.of(Some(Away::Down))),
            ("late", |counts| counts.of(Some(Away::Late))),
            ("refused", |counts| counts.of(Some(Away::Refused))),
        ];
        let calls = results.into_iter().map(|(result, pick)| {
            let help = "Calls to Redis, by what they came to.";
            metrics.counter(
                "portcullis_redis_calls",
                help,
                &[("result", result)],
                sum(pick),
            )
        });
        let mut figures: Vec<_> = calls.collect();
        let nanos = sum(|counts| &counts.nanos);
        figures.push(metrics.counter(
            "portcullis_redis_call_seconds",
            "Time that calls to Redis took, all together.",
            &[],
            move || nanos() / 1e9,
        ));
        let redis = Arc::downgrade(self);
        figures.push(metrics.gauge(
            "portcullis_redis_up",
            "Whether Redis answered when it was last asked.",
            &[],
            move || {
                redis
                    .upgrade()
                    .map_or(f64::NAN, |redis| f64::from(u8::from(redis.is_up())))
            },
        ));
        figures
    }
}
