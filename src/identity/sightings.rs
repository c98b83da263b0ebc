//! New tokens, told to whoever lives by sessions (live streams): a token that was verified for the first time, and one
//! that was just made in a refresh. Never told on the way of a token that is remembered.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::identity::Identity;
use crate::records::{SessionId, UserId};

/// A new token.
#[derive(Clone, Copy, Debug)]
pub enum Sighting<'s> {
    /// One that came with a request and was verified.
    Verified(&'s Arc<Identity>),
    /// One that was made for a session of the gateway's own.
    Minted(Minted<'s>),
}

/// A token that was made.
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Minted<'s> {
    pub user: UserId,
    pub session: SessionId,
    pub token: &'s str,
}

/// Hears of each, on the thread that tells it. Must not wait.
pub type Listener = dyn Fn(Sighting<'_>) + Send + Sync;

/// Who listens; one for the process.
#[derive(Default)]
pub struct Sightings(RwLock<Vec<Arc<Listener>>>);

impl Sightings {
    /// Nobody listens yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Calls `listener` with each from now on.
    pub fn subscribe(&self, listener: impl Fn(Sighting<'_>) + Send + Sync + 'static) {
        let mut listeners = self.0.write().unwrap_or_else(PoisonError::into_inner);
        listeners.push(Arc::new(listener));
    }

    /// Tells one.
    pub fn tell(&self, sighting: Sighting<'_>) {
        let listeners = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for listener in listeners.iter() {
            listener(sighting);
        }
    }
}

impl fmt::Debug for Sightings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sightings")
    }
}

impl fmt::Debug for Minted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
