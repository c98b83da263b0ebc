//! The leases of this gateway's streams: renewed in Redis, all of them every few seconds, for as long as their streams
//! live; given back when they end. A gateway that is gone renews nothing, and its leases expire.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Key;
use crate::state::redis::{Away, Redis, Script};
use crate::streams::{End, Remote};

/// Those of this gateway, by their names.
#[derive(Default)]
pub struct Leases {
    held: [Mutex<HashMap<Box<str>, Held>>; SHARDS],
    hasher: RandomState,
    /// To be given back.
    left: Mutex<Vec<(Key, Box<str>)>>,
    some_left: Notify,
    teller: OnceLock<Box<Teller>>,
}

/// Hears of a stream of another gateway that must give way. Must not wait.
type Teller = dyn Fn(&str) + Send + Sync;

#[derive(Debug)]
struct Held {
    key: Key,
    /// How its stream is told to end, once it is one.
    remote: Option<Remote>,
    /// It must give way.
    over: bool,
}

/// A stream's place, given back when dropped.
pub struct Lease {
    leases: Arc<Leases>,
    name: Box<str>,
}

impl Leases {
    /// From now on `teller` hears of streams elsewhere that must give way. The first one is kept.
    pub fn subscribe(&self, teller: impl Fn(&str) + Send + Sync + 'static) {
        let _ = self.teller.set(Box::new(teller));
    }

    /// Redis has given a lease.
    pub(super) fn add(self: &Arc<Self>, key: &Key, name: Box<str>) -> Lease {
        let held = Held {
            key: key.clone(),
            remote: None,
            over: false,
        };
        self.shard(&name).insert(name.clone(), held);
        Lease {
            leases: Arc::clone(self),
            name,
        }
    }

    /// A lease is another's now: its stream must end, here or elsewhere.
    pub(super) fn give_way(&self, name: &str) {
        if !self.end(name)
            && let Some(teller) = self.teller.get()
        {
            teller(name);
        }
    }

    /// Ends the stream of this lease, if it is one of this gateway.
    pub fn end(&self, name: &str) -> bool {
        let remote = match self.shard(name).get_mut(name) {
            None => return false,
            Some(held) => {
                held.over = true;
                held.remote.take()
            }
        };
        if let Some(remote) = remote {
            remote.end(End::StreamsExceeded);
        }
        true
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.held.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Renews and gives back until the process ends.
    pub async fn keep(self: Arc<Self>, redis: Arc<Redis>) {
        let mut renewal = tokio::time::interval(RENEWAL);
        renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = renewal.tick() => {
                    if let Err(error) = self.renew(&redis).await {
                        tracing::debug!(%error, "leases of streams were not renewed");
                    }
                }
                () = self.some_left.notified() => {}
            }
            if let Err(error) = self.give_back(&redis).await {
                // They expire by themselves.
                tracing::debug!(%error, "leases of streams were not given back");
            }
        }
    }

    /// Renews all. One that expired meanwhile is there again: its stream lives.
    ///
    /// # Errors
    /// When Redis did not answer in time.
    pub async fn renew(&self, redis: &Redis) -> Result<(), Away> {
        let mut by_key: HashMap<Key, Vec<Box<str>>> = HashMap::new();
        for shard in &self.held {
            for (name, held) in lock(shard).iter().filter(|(_, held)| !held.over) {
                by_key
                    .entry(held.key.clone())
                    .or_default()
                    .push(name.clone());
            }
        }
        let life = LIFE.as_secs() * 1000;
        let mut batches = by_key.into_iter();
        loop {
            let batch: Vec<_> = batches.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return Ok(());
            }
            // Each key is of a slot of its own in a cluster: a call for each, many at once.
            let calls = batch.iter().map(async |(key, names)| {
                let names: Vec<&str> = names.iter().map(|name| &**name).collect();
                let keys = [key.streams()];
                redis.script::<()>(&RENEW, &keys, (life, names)).await
            });
            for renewed in futures_util::future::join_all(calls).await {
                renewed?;
            }
        }
    }

    /// Gives back what was left.
    ///
    /// # Errors
    /// When Redis did not answer in time; then they expire.
    pub async fn give_back(&self, redis: &Redis) -> Result<(), Away> {
        loop {
            let left: Vec<_> = {
                let mut left = lock(&self.left);
                let some = left.len().min(BATCH);
                left.drain(..some).collect()
            };
            if left.is_empty() {
                return Ok(());
            }
            let calls = left.iter().map(async |(key, name)| {
                let mut command = redis::cmd("ZREM");
                command.arg(redis.key(&key.streams())).arg(&**name);
                redis.call::<()>(&command).await
            });
            for given in futures_util::future::join_all(calls).await {
                given?;
            }
        }
    }

    fn shard(&self, name: &str) -> MutexGuard<'_, HashMap<Box<str>, Held>> {
        lock(&self.held[self.hasher.hash_one(name) as usize % SHARDS])
    }
}

impl Lease {
    /// From now on the stream is told to end when its place is another's; at once where that was so already.
    pub fn bind(&self, remote: Remote) {
        let over = match self.leases.shard(&self.name).get_mut(&self.name) {
            Some(held) if !held.over => {
                held.remote = Some(remote);
                return;
            }
            _ => remote,
        };
        over.end(End::StreamsExceeded);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let held = self.leases.shard(&self.name).remove(&self.name);
        if let Some(held) = held.filter(|held| !held.over) {
            let name = std::mem::take(&mut self.name);
            lock(&self.leases.left).push((held.key, name));
            self.leases.some_left.notify_one();
        }
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leases").finish_non_exhaustive()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.name).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Key: the streams. Arguments: the life of a lease in milliseconds, and the names.
static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local ends = math.floor(time[1] * 1000 + time[2] / 1000) + ARGV[1]
        for at = 2, #ARGV do
            redis.call('ZADD', KEYS[1], string.format('%.0f', ends), ARGV[at])
        end
        redis.call('PEXPIRE', KEYS[1], ARGV[1])
        ",
    )
});

/// How long a lease outlives its gateway.
pub(super) const LIFE: Duration = Duration::from_secs(15);
/// Twice may fail.
const RENEWAL: Duration = Duration::from_secs(5);
/// Calls at once.
const BATCH: usize = 200;
const SHARDS: usize = 16;
