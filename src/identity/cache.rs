//! Verified tokens, remembered: a small cache of each worker's own in front of one that all share. Both
//! hold only what was verified, under the token's full text; a bad token leaves nothing behind.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::clock::UnixSeconds;
use crate::identity::Identity;
use crate::observe::metrics::Cells;

/// One verified token.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Who it speaks for.
    pub identity: Arc<Identity>,
    /// The issuer's key generation that verified it.
    pub generation: u64,
    /// When it is forgotten, by the monotonic clock: a wall clock that jumps back extends nothing.
    pub until: Instant,
}

impl Entry {
    /// Whether it still holds. `exp` is judged by the wall clock at every hit, and
    /// what ended by the register.
    pub(crate) fn holds(&self, moment: Moment, generations: &dyn Generations) -> bool {
        moment.wall < self.identity.ends_at
            && moment.monotonic < self.until
            && self.generation == generations.generation(self.identity.issuer_index)
            && generations.stands(&self.identity)
    }
}

/// Now, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// By the wall clock.
    pub wall: UnixSeconds,
    /// By the monotonic clock.
    pub monotonic: Instant,
}

/// The key generation of each issuer.
pub trait Generations {
    /// That of the issuer at `index` now.
    fn generation(&self, index: usize) -> u64;

    /// Whether nothing that ended since says otherwise.
    fn stands(&self, identity: &Identity) -> bool;
}

/// A worker's own verified tokens. Bounded, no lock, nothing allocated on a hit.
#[derive(Debug)]
pub struct LocalTokens {
    tokens: RefCell<Local>,
    counts: Arc<TokenCounts>,
    /// The worker's figures.
    cells: Option<Arc<Cells>>,
    hasher: RandomState,
    /// Half the bound: entries live in two halves, and the older one is dropped when the younger is full.
    half: usize,
}

#[derive(Debug, Default)]
struct Local {
    epoch: u64,
    young: FxHashMap<u64, Entry>,
    old: FxHashMap<u64, Entry>,
}

/// What a worker's cache met.
#[derive(Debug, Default)]
pub struct TokenCounts {
    /// Tokens that were known, here or in the shared cache.
    pub hits: AtomicU64,
    /// Tokens that had to be verified.
    pub misses: AtomicU64,
}

impl LocalTokens {
    /// At most `size` tokens; fewer than two are none.
    pub fn new(size: usize) -> Self {
        Self {
            tokens: RefCell::default(),
            counts: Arc::default(),
            cells: None,
            hasher: RandomState::new(),
            half: size / 2,
        }
    }

    /// The same, telling the worker's figures too.
    #[must_use]
    pub fn telling(mut self, cells: Arc<Cells>) -> Self {
        self.cells = Some(cells);
        self
    }

    /// The worker's counters.
    pub fn counts(&self) -> &Arc<TokenCounts> {
        &self.counts
    }

    /// Notes a token that was known.
    pub(crate) fn count_hit(&self) {
        self.counts.hits.fetch_add(1, Ordering::Relaxed);
        if let Some(cells) = &self.cells {
            cells.token_cache_hit();
        }
    }

    /// Notes a token that was not.
    pub(crate) fn count_miss(&self) {
        self.counts.misses.fetch_add(1, Ordering::Relaxed);
        if let Some(cells) = &self.cells {
            cells.token_cache_miss();
        }
    }

    /// The identity of `token`, if it was verified in this epoch and still holds.
    pub(crate) fn find(
        &self,
        token: &str,
        moment: Moment,
        cache: &TokenCache,
        generations: &dyn Generations,
    ) -> Option<Arc<Identity>> {
        let mark = self.mark(token);
        let mut local = self.tokens.borrow_mut();
        local.enter(cache.epoch());
        let entry = match local.young.get(&mark) {
            Some(entry) => entry,
            None => local.old.get(&mark)?,
        };
        if **entry.identity.token.expose() != *token || !entry.holds(moment, generations) {
            return None;
        }
        let identity = entry.identity.clone();
        if !local.young.contains_key(&mark) {
            local.promote(mark, self.half);
        }
        Some(identity)
    }

    /// Keeps a verified token.
    pub(crate) fn insert(&self, entry: Entry, cache: &TokenCache) {
        if self.half == 0 {
            return;
        }
        let mark = self.mark(entry.identity.token.expose());
        let mut local = self.tokens.borrow_mut();
        local.enter(cache.epoch());
        local.insert(mark, entry, self.half);
    }

    /// A keyed hash of the token's end, which is the end of its signature: as random as all of it, and
    /// cheaper. Only verified tokens are kept, and nobody can choose their signatures; the text decides.
    fn mark(&self, token: &str) -> u64 {
        let bytes = token.as_bytes();
        self.hasher
            .hash_one(&bytes[bytes.len().saturating_sub(32)..])
    }
}

impl Local {
    /// What was kept in another epoch is forgotten: it was verified under another configuration.
    fn enter(&mut self, epoch: u64) {
        if self.epoch != epoch {
            self.young.clear();
            self.old.clear();
            self.epoch = epoch;
        }
    }

    fn insert(&mut self, mark: u64, entry: Entry, half: usize) {
        if self.young.len() >= half && !self.young.contains_key(&mark) {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(mark, entry);
    }

    /// An old entry that is used stays.
    fn promote(&mut self, mark: u64, half: usize) {
        if let Some(entry) = self.old.remove(&mark) {
            self.insert(mark, entry, half);
        }
    }
}

/// Verified tokens of all workers.
#[derive(Debug)]
pub struct TokenCache {
    shared: moka::sync::Cache<Arc<str>, Entry>,
    epoch: u64,
}

impl TokenCache {
    /// At most `size` tokens, each for `time` at most.
    pub fn new(size: u64, time: Duration) -> Self {
        Self {
            shared: moka::sync::Cache::builder()
                .max_capacity(size)
                .time_to_live(time)
                .expire_after(UntilEntryEnds)
                .build(),
            epoch: next_epoch(),
        }
    }

    /// What is known of `token`, if it still holds.
    pub(crate) fn find(
        &self,
        token: &str,
        moment: Moment,
        generations: &dyn Generations,
    ) -> Option<Entry> {
        let entry = self.shared.get(token)?;
        entry.holds(moment, generations).then_some(entry)
    }

    /// Keeps a verified token.
    pub(crate) fn insert(&self, entry: Entry) {
        let token = Arc::clone(entry.identity.token.expose());
        self.shared.insert(token, entry);
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// Epochs are unique in the process, so that a worker's cache never takes one verifier for another.
fn next_epoch() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Entries leave the shared cache when they end; room is not kept for the expired.
#[derive(Debug)]
struct UntilEntryEnds;

impl moka::Expiry<Arc<str>, Entry> for UntilEntryEnds {
    fn expire_after_create(&self, _: &Arc<str>, entry: &Entry, now: Instant) -> Option<Duration> {
        Some(entry.until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::testing::identity;

    /// Issuers whose keys are all of this generation.
    struct All(u64);

    impl Generations for All {
        fn generation(&self, _: usize) -> u64 {
            self.0
        }

        fn stands(&self, identity: &Identity) -> bool {
            &*identity.user_id != "gone"
        }
    }

    #[test]
    fn an_entry_holds_until_either_clock_or_the_keys_say_otherwise() {
        let start = Instant::now();
        let entry = Entry {
            identity: Arc::new(identity("u", 1000)),
            generation: 3,
            until: start + Duration::from_secs(60),
        };
        let rows = [
            ("fresh", 900, 0, 3, true),
            ("expired by the wall clock", 1000, 0, 3, false),
            ("the wall clock jumped back", 10, 60, 3, false),
            ("too long in the cache", 940, 60, 3, false),
            ("other keys", 900, 0, 4, false),
        ];
        for (case, wall, seconds, generation, holds) in rows {
            let moment = Moment {
                wall,
                monotonic: start + Duration::from_secs(seconds),
            };
            assert_eq!(entry.holds(moment, &All(generation)), holds, "{case}");
        }
    }

    #[test]
    fn an_entry_of_what_ended_does_not_hold() {
        let now = Instant::now();
        let cache = TokenCache::new(10, Duration::from_secs(60));
        let moment = Moment {
            wall: 0,
            monotonic: now,
        };
        for (user, found) in [("here", true), ("gone", false)] {
            let mut identity = identity(user, 1000);
            identity.token = crate::secret::Secret::new(user.into());
            cache.insert(Entry {
                identity: Arc::new(identity),
                generation: 0,
                until: now + Duration::from_secs(60),
            });
            assert_eq!(cache.find(user, moment, &All(0)).is_some(), found);
        }
        assert!(cache.find("never", moment, &All(0)).is_none());
    }
}
