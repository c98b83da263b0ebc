//! Bans as a store keeps them: an operator is answered once it has taken one, all gateways over it look for new ones, and who
//! is started later, or again, finds all that are left. Beside the news in Redis, or where there is none.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::{Clock, UnixSeconds};
use crate::state::bans::{Banned, Bans};
use crate::store::{Store, StoreError};

/// The bans of this process, and those in its store.
pub struct KeptBans {
    bans: Arc<Bans>,
    store: Arc<dyn Store>,
    clock: Clock,
    /// The number of the newest that was read.
    seen: AtomicI64,
    /// What the store did not take, in the order in which it was said.
    waiting: Mutex<Vec<(Banned, UnixSeconds)>>,
}

impl KeptBans {
    /// With all that the store has: to be made before the first token is verified.
    ///
    /// # Errors
    /// When the store cannot be read: tokens could count that were refused.
    pub async fn open(
        bans: &Arc<Bans>,
        store: Arc<dyn Store>,
        clock: Clock,
    ) -> Result<Arc<Self>, StoreError> {
        let kept = Self {
            bans: Arc::clone(bans),
            store,
            clock,
            seen: AtomicI64::new(0),
            waiting: Mutex::default(),
        };
        kept.catch_up().await?;
        Ok(Arc::new(kept))
    }

    /// Keeps what was refused here. A store that fails now is told again later; meanwhile it is refused here, and by those
    /// who hear of it through Redis. Whether the store has it.
    pub async fn keep(&self, banned: Banned, since: UnixSeconds) -> bool {
        let kept = self.store.add_ban(banned.clone(), since).await;
        if let Err(error) = &kept {
            tracing::warn!(%error, "what an operator refused is not kept in the store yet");
            self.waiting().push((banned, since));
        }
        kept.is_ok()
    }

    /// Tells the store again what it did not take.
    pub async fn keep_again(&self) {
        loop {
            let Some((banned, since)) = self.waiting().first().cloned() else {
                return;
            };
            if let Err(error) = self.store.add_ban(banned, since).await {
                tracing::debug!(%error, "what an operator refused still waits to be kept");
                return;
            }
            self.waiting().remove(0);
        }
    }

    /// Hears what others have refused since the last time. What is heard then has missed nothing.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        loop {
            let seen = self.seen.load(Ordering::Relaxed);
            let new = self.store.bans_after(seen).await?;
            if new.is_empty() {
                return Ok(());
            }
            for (number, banned, since) in new {
                if !self.bans.hear(&banned, since, self.clock.now()) {
                    tracing::error!("there are too many bans: one in the store does not count");
                }
                self.seen.store(number, Ordering::Relaxed);
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(Banned, UnixSeconds)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for KeptBans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptBans").finish_non_exhaustive()
    }
}
