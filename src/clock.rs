//! Now: the system's, or a test's. The only place that asks the system for the wall-clock time.
//! Claims are judged by wall time; timers and cache ages use `tokio::time` and `std::time::Instant`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A time on the wall clock, in whole seconds since the Unix epoch (RFC 7519 `NumericDate`).
pub type UnixSeconds = u64;

/// Where the wall-clock time comes from.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// A clock that a test moves by hand.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// A clock that stands at `seconds` until `set` moves it.
    pub fn manual(seconds: UnixSeconds) -> Self {
        Self::Manual(Arc::new(AtomicU64::new(seconds)))
    }

    /// Seconds since the Unix epoch; 0 where the machine's clock stands before it.
    pub fn now(&self) -> UnixSeconds {
        self.since_epoch().as_secs()
    }

    /// The time since the Unix epoch as finely as the machine's clock tells it, for what a log line shows.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where everybody else gets it from"
    )]
    pub fn since_epoch(&self) -> Duration {
        match self {
            Self::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            Self::Manual(seconds) => Duration::from_secs(seconds.load(Ordering::Relaxed)),
        }
    }

    /// Moves a manual clock; the system's clock is not moved.
    pub fn set(&self, seconds: UnixSeconds) {
        if let Self::Manual(cell) = self {
            cell.store(seconds, Ordering::Relaxed);
        }
    }
}
