//! What the limits show of themselves: who was refused, by class, and how many callers are remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::LimitClass;
use crate::limits::meter::Limit;
use crate::limits::meters::Meters;
use crate::observe::metrics::{Metrics, Registration};

/// How many requests of a class ran into each limit. Outlives every configuration.
#[derive(Debug, Default)]
pub struct Refused([AtomicU64; LIMITS.len()]);

impl Refused {
    /// One more.
    pub fn count(&self, limit: Limit) {
        self.0[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn of(&self, limit: Limit) -> u64 {
        self.0[limit as usize].load(Ordering::Relaxed)
    }
}

/// Shows the figures for as long as they are held.
pub(super) fn show(
    metrics: &Metrics,
    meters: &Arc<Meters>,
    classes: &[LimitClass],
) -> Vec<Registration> {
    let refused = classes.iter().flat_map(|class| {
        let counts = meters.refused(&class.name);
        LIMITS.map(|limit| {
            let counts = Arc::clone(&counts);
            metrics.counter(
                "portcullis_limited",
                "Requests refused by the limits, by class and limit.",
                &[("class", &class.name), ("reason", limit.refusal().word())],
                move || counts.of(limit) as f64,
            )
        })
    });
    let mut shown: Vec<_> = refused.collect();
    let meters = Arc::downgrade(meters);
    let alone = meters.clone();
    shown.push(metrics.counter(
        "portcullis_limits_alone",
        "Decisions that this gateway made alone since Redis was away.",
        &[],
        move || {
            alone
                .upgrade()
                .map_or(f64::NAN, |meters| meters.times_alone() as f64)
        },
    ));
    shown.push(metrics.gauge(
        "portcullis_limited_callers",
        "Callers whose counts are remembered.",
        &[],
        move || {
            meters
                .upgrade()
                .map_or(f64::NAN, |meters| meters.len() as f64)
        },
    ));
    shown
}

/// In the order of the enum.
const LIMITS: [Limit; 3] = [Limit::Rate, Limit::Daily, Limit::Streams];
