//! Verified tokens, remembered: a small cache of each worker's own in front of one that all share. Both
//! hold only what was verified, under the token's full text; a bad token leaves nothing behind in them. Of some, a
//! worker knows a while why they were refused (`refused.rs`).
//!
//! Nobody waits for anybody: two workers that meet the same new token both verify it. Verifying takes at most
//! a tenth of a millisecond, while a worker that waits stands still with all its connections, and a bad token,
//! sent over and over, would keep all workers in a line.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, BuildHasherDefault, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter};
use rustc_hash::FxHasher;

use crate::clock::UnixSeconds;
use crate::identity::Identity;
use crate::identity::halves::{Halves, Kept};
use crate::identity::refused::{LONGEST, MOST, Met, Refused};
use crate::observe::metrics::Cells;
use crate::refusal::Refusal;

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

impl Kept for Entry {
    fn token(&self) -> &str {
        self.identity.token.expose()
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

/// A worker's own verified tokens, and some that were refused. Bounded, no lock, nothing allocated on a hit.
#[derive(Debug)]
pub struct LocalTokens {
    tokens: RefCell<Epoch>,
    counts: TokenCounts,
    /// The worker's figures.
    cells: Option<Arc<Cells>>,
}

/// What a worker knows of tokens under one configuration.
#[derive(Debug)]
struct Epoch {
    /// That of the shared cache.
    number: u64,
    verified: Halves<Entry>,
    refused: Halves<Refused>,
    /// Of all that were refused.
    met: Met,
}

/// What a worker's cache met.
#[derive(Debug, Default)]
pub struct TokenCounts {
    /// Tokens that were known, here or in the shared cache.
    pub hits: Cell<u64>,
    /// Tokens that had to be verified.
    pub misses: Cell<u64>,
}

impl LocalTokens {
    /// At most `size` tokens, and no more that were refused; fewer than two are none.
    pub fn new(size: usize) -> Self {
        Self {
            tokens: RefCell::new(Epoch {
                number: 0,
                verified: Halves::new(size),
                refused: Halves::new(size.min(MOST)),
                met: Met::none(),
            }),
            counts: TokenCounts::default(),
            cells: None,
        }
    }

    /// The same, telling the worker's figures too.
    #[must_use]
    pub fn telling(mut self, cells: Arc<Cells>) -> Self {
        self.cells = Some(cells);
        self
    }

    /// The worker's counters.
    pub fn counts(&self) -> &TokenCounts {
        &self.counts
    }

    /// Notes a token that was known.
    pub(crate) fn count_hit(&self) {
        self.counts.hits.update(|hits| hits + 1);
        if let Some(cells) = &self.cells {
            cells.token_cache_hit();
        }
    }

    /// Notes a token that was not.
    pub(crate) fn count_miss(&self) {
        self.counts.misses.update(|misses| misses + 1);
        if let Some(cells) = &self.cells {
            cells.token_cache_miss();
        }
    }

    /// The identity of `token`, if it was verified in this epoch of `cache` and still holds.
    pub(crate) fn find(
        &self,
        token: &str,
        moment: Moment,
        cache: &TokenCache,
        generations: &dyn Generations,
    ) -> Option<Arc<Identity>> {
        let mut tokens = self.tokens.borrow_mut();
        let verified = &mut tokens.enter(cache).verified;
        let entry = verified.find(cache.mark(token), token)?;
        entry
            .holds(moment, generations)
            .then(|| entry.identity.clone())
    }

    /// Keeps a verified token.
    pub(crate) fn insert(&self, entry: Entry, cache: &TokenCache) {
        let mark = cache.mark(entry.token());
        let mut tokens = self.tokens.borrow_mut();
        tokens.enter(cache).verified.insert(mark, entry);
    }

    /// Why `token` was refused in this epoch of `cache`, if that still holds under keys of this generation.
    pub(crate) fn find_refused(
        &self,
        token: &str,
        moment: Moment,
        cache: &TokenCache,
        generation: u64,
    ) -> Option<Refusal> {
        let mut tokens = self.tokens.borrow_mut();
        let refused = &mut tokens.enter(cache).refused;
        let refused = refused.find(cache.mark(token), token)?;
        refused.holds(moment, generation).then_some(refused.refusal)
    }

    /// Keeps a token that will be refused again, when it is refused for the second time; not a very long one.
    pub(crate) fn insert_refused(
        &self,
        token: &str,
        cache: &TokenCache,
        refused: impl FnOnce() -> Refused,
    ) {
        if token.len() > LONGEST {
            return;
        }
        let mark = cache.mark(token);
        let mut tokens = self.tokens.borrow_mut();
        let epoch = tokens.enter(cache);
        if epoch.met.again(mark) {
            epoch.refused.insert(mark, refused());
        }
    }
}

impl Epoch {
    /// What was kept in another epoch is forgotten: it was judged under another configuration.
    fn enter(&mut self, cache: &TokenCache) -> &mut Self {
        if self.number != cache.epoch() {
            self.verified.clear();
            self.refused.clear();
            self.number = cache.epoch();
        }
        self
    }
}

/// Verified tokens of all workers, in shards; whoever looks waits for no other that looks. Only a token that a worker does
/// not know itself comes here: one in five minutes for each user, and bad ones. Callers in turn, more than are kept,
/// push out one another's tokens no faster than they must (S3-FIFO).
#[derive(Debug)]
pub struct TokenCache {
    tokens: Cache<u64, Entry, UnitWeighter, BuildHasherDefault<FxHasher>>,
    hasher: RandomState,
    epoch: u64,
}

impl TokenCache {
    /// At most `size` tokens.
    pub fn new(size: usize) -> Self {
        let count = if size < SMALL { 1 } else { SHARDS };
        // A shard holds its part, rounded up.
        let size = size / count * count;
        let options = OptionsBuilder::new()
            .shards(count)
            .estimated_items_capacity(size)
            .weight_capacity(size as u64)
            .build()
            .expect("both capacities are given");
        let marks = BuildHasherDefault::default();
        Self {
            tokens: Cache::with_options(options, UnitWeighter, marks, DefaultLifecycle::default()),
            hasher: RandomState::new(),
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
        let entry = self.tokens.get(&self.mark(token))?;
        (entry.token() == token && entry.holds(moment, generations)).then_some(entry)
    }

    /// Keeps a verified token.
    pub(crate) fn insert(&self, entry: Entry) {
        self.tokens.insert(self.mark(entry.token()), entry);
    }

    /// A keyed hash of the token's end, which is the end of its signature: as random as all of it, and
    /// cheaper. Nobody can choose the signatures of verified tokens; whoever chooses those of refused ones has each push
    /// out the one before. The text decides.
    fn mark(&self, token: &str) -> u64 {
        let bytes = token.as_bytes();
        self.hasher
            .hash_one(&bytes[bytes.len().saturating_sub(32)..])
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

const SHARDS: usize = 16;
/// A cache of fewer tokens than this has one shard, so that its bound stays exact.
const SMALL: usize = 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::testing::identity;
    use crate::secret::Secret;

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

    fn entry(token: &str) -> Entry {
        Entry {
            identity: Arc::new(Identity {
                token: Secret::new(token.into()),
                ..identity("u", 1000)
            }),
            generation: 0,
            until: Instant::now() + Duration::from_secs(60),
        }
    }

    fn now() -> Moment {
        Moment {
            wall: 1,
            monotonic: Instant::now(),
        }
    }

    #[test]
    fn no_more_tokens_are_kept_than_the_bound_says() {
        for (size, least) in [(0, 0), (1, 0), (2, 1), (10, 5), (4096, 1536)] {
            let cache = TokenCache::new(size);
            let local = LocalTokens::new(size);
            for number in 0..2 * size + 10 {
                cache.insert(entry(&number.to_string()));
                local.insert(entry(&number.to_string()), &cache);
            }
            let shared = cache.tokens.len();
            assert!((least..=size).contains(&shared), "{size}: {shared}");
            let local = local.tokens.borrow().verified.len();
            assert!((least..=size).contains(&local), "{size}: {local}");
        }
    }

    #[test]
    fn as_many_tokens_as_it_may_keep_are_known_whichever_comes_next() {
        const SIZE: usize = 10_000;
        let cache = TokenCache::new(SIZE);
        let tokens: Vec<String> = (0..SIZE).map(|number| number.to_string()).collect();
        let mut known = 0;
        for token in tokens.iter().cycle().take(3 * SIZE) {
            match cache.find(token, now(), &All(0)) {
                Some(_) => known += 1,
                None => cache.insert(entry(token)),
            }
        }
        // Some shards get more than others.
        assert!(known > 2 * SIZE * 9 / 10, "{known}");
    }

    #[test]
    fn a_token_that_is_used_outlives_those_that_are_not() {
        let cache = TokenCache::new(10);
        cache.insert(entry("used"));
        for number in 0..100 {
            cache.insert(entry(&number.to_string()));
            assert!(cache.find("used", now(), &All(0)).is_some(), "{number}");
        }
    }

    #[test]
    fn an_entry_of_what_ended_does_not_hold() {
        let cache = TokenCache::new(10);
        for (user, found) in [("here", true), ("gone", false)] {
            let mut identity = identity(user, 1000);
            identity.token = Secret::new(user.into());
            cache.insert(Entry {
                identity: Arc::new(identity),
                ..entry(user)
            });
            assert_eq!(cache.find(user, now(), &All(0)).is_some(), found);
        }
        assert!(cache.find("never", now(), &All(0)).is_none());
    }
}
