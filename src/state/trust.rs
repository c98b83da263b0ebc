//! For how long what is remembered may be taken for good. Alone, a gateway knows of every end; one of several knows of
//! those that it has heard of, up to when it last heard that there are no others. Kept as a time and not as a flag: a
//! process that stood still trusts nothing when it wakes.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Up to when, in nanoseconds since `BASE`.
#[derive(Debug)]
pub struct Trust(AtomicU64);

impl Trust {
    /// Whether what is remembered counts. One load where this gateway is alone.
    pub fn holds(&self) -> bool {
        let until = self.0.load(Ordering::Acquire);
        until == ALWAYS || nanos(Instant::now()) < until
    }

    /// From now on it counts only for as long as `extend` says.
    pub fn depend(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// It counts for so long after a moment up to which all is known.
    pub fn extend(&self, known: Instant, lasts: Duration) {
        let until = nanos(known).saturating_add(u64::try_from(lasts.as_nanos()).unwrap_or(ALWAYS));
        self.0.fetch_max(until.min(ALWAYS - 1), Ordering::AcqRel);
    }
}

/// Nobody else ends anything.
impl Default for Trust {
    fn default() -> Self {
        Self(AtomicU64::new(ALWAYS))
    }
}

fn nanos(at: Instant) -> u64 {
    let since = at.saturating_duration_since(*BASE).as_nanos();
    u64::try_from(since).unwrap_or(ALWAYS - 1)
}

static BASE: LazyLock<Instant> = LazyLock::new(Instant::now);
const ALWAYS: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_counts_for_as_long_as_was_said() {
        let trust = Trust::default();
        assert!(trust.holds());
        trust.depend();
        assert!(!trust.holds(), "nothing was heard yet");
        let now = Instant::now();
        trust.extend(now, Duration::from_secs(60));
        assert!(trust.holds());
        // What is known of an earlier moment takes nothing back.
        trust.extend(now, Duration::ZERO);
        assert!(trust.holds());
        trust.depend();
        trust.extend(now, Duration::ZERO);
        assert!(!trust.holds());
        trust.extend(now, Duration::MAX);
        assert!(trust.holds());
    }
}
