//! Notes of what ended, in a store that other gateways look into. A note is written before the end is answered: a gateway
//! that is killed right after its answer has told the others all the same. `server/ends.rs` is where they read it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::records::UnixMillis;
use crate::state::Ended;
use crate::store::Store;

/// Who else may run over the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// Commands alone, which note what they end themselves.
    None,
    /// Other gateways.
    Gateways,
}

/// What is noted for others.
pub(super) struct Notes {
    store: Arc<dyn Store>,
    others: Others,
    /// What the store did not take, in the order in which it ended.
    waiting: Mutex<Vec<(Ended, UnixMillis)>>,
}

impl Notes {
    pub(super) fn new(store: Arc<dyn Store>, others: Others) -> Self {
        Self {
            store,
            others,
            waiting: Mutex::default(),
        }
    }

    /// Notes an end. A store that fails now is told again later: it had to be there for the end itself.
    pub(super) async fn note(&self, ended: Ended, at: UnixMillis) {
        if self.others == Others::None {
            return;
        }
        if let Err(error) = self.store.note_end(ended, at).await {
            tracing::warn!(%error, "what ended is not noted for other gateways yet");
            self.waits((ended, at));
        }
    }

    /// Tells the store again what it did not take.
    pub(super) async fn note_again(&self) {
        let mut left = self.take().into_iter();
        while let Some((ended, at)) = left.next() {
            if let Err(error) = self.store.note_end(ended, at).await {
                tracing::debug!(%error, "ends still wait to be noted for other gateways");
                self.waits((ended, at));
                left.for_each(|end| self.waits(end));
                return;
            }
        }
    }

    fn take(&self) -> Vec<(Ended, UnixMillis)> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn waits(&self, end: (Ended, UnixMillis)) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(end);
    }
}
