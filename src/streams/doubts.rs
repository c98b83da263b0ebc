//! Streams that may have to end, where only the store knows: something about their user changed, or another process
//! tells late of an end that may not have meant them.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::policy::Permit;
use crate::streams::Verdict;
use crate::streams::slot::Slot;

/// Those about which nobody has asked yet.
#[derive(Default)]
pub(super) struct Doubts {
    waiting: Mutex<Vec<Doubtful>>,
    some: Notify,
}

/// A stream in doubt. It goes on until a verdict is applied.
pub struct Doubtful {
    slot: Arc<Slot>,
    /// Since when.
    pub since: Instant,
}

impl Doubts {
    pub(super) fn add(&self, slot: &Arc<Slot>) {
        let doubtful = Doubtful {
            slot: Arc::clone(slot),
            since: Instant::now(),
        };
        self.waiting().push(doubtful);
        self.some.notify_one();
    }

    pub(super) async fn take(&self) -> Vec<Doubtful> {
        loop {
            let taken = std::mem::take(&mut *self.waiting());
            if !taken.is_empty() {
                return taken;
            }
            self.some.notified().await;
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Doubtful>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doubtful {
    /// Its route's name.
    pub fn route(&self) -> &Arc<str> {
        &self.slot.route
    }

    /// Who was let in.
    pub fn permit(&self) -> Permit {
        self.slot.permit()
    }

    /// What is to become of it.
    pub fn apply(&self, verdict: Verdict) {
        self.slot.apply(verdict);
    }
}
