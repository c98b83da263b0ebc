//! Verified tokens, remembered: a cache of each worker's own in front of one that all share. Both
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
use std::thread;
use std::time::Instant;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter};
use rustc_hash::FxHasher;

use crate::clock::UnixSeconds;
use crate::identity::Identity;
use crate::identity::refused::{LONGEST, MOST, Met, Refused};
use crate::identity::sets::{Kept, Sets};
use crate::observe::metrics::Cells;
use crate::refusal::Refusal;

/// How long a verification counts.
#[derive(Clone, Copy, Debug)]
pub struct Proof {
    /// The issuer's key generation that verified it.
    pub generation: u64,
    /// When it is forgotten, by the monotonic clock: a wall clock that jumps back extends nothing.
    pub until: Instant,
}

impl Identity {
    /// Whether what verified it still counts. `exp` is judged by the wall clock at every hit, and
    /// what ended by the register.
    fn holds(&self, moment: Moment, generations: &dyn Generations) -> bool {
        self.proof.is_some_and(|proof| {
            moment.wall < self.ends_at
                && moment.monotonic < proof.until
                && proof.generation == generations.generation(self.issuer_index)
                && generations.stands(self)
        })
    }
}

impl Kept for Arc<Identity> {
    fn token(&self) -> &str {
        self.token.expose()
    }

    fn ahead(&self) {
        Identity::ahead(self);
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
    verified: Sets<Arc<Identity>>,
    /// How many were offered to it.
    offered: u32,
    refused: Sets<Refused>,
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
    /// At most `size` tokens, and no more that were refused.
    pub fn new(size: usize) -> Self {
        Self {
            tokens: RefCell::new(Epoch {
                number: 0,
                verified: Sets::new(size),
                offered: 0,
                refused: Sets::new(size.min(MOST)),
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
        let identity = verified.find(cache.mark(token), token)?;
        let holds = identity.holds(moment, generations);
        holds.then(|| Arc::clone(identity))
    }

    /// Keeps a verified token: where there is no room any more, only each sixteenth. More callers than are kept would
    /// push out one another otherwise, and whom that drops is in no cache of the processor.
    pub(crate) fn insert(&self, identity: &Arc<Identity>, cache: &TokenCache) {
        let mark = cache.mark(identity.token());
        let mut tokens = self.tokens.borrow_mut();
        let epoch = tokens.enter(cache);
        epoch.offered = epoch.offered.wrapping_add(1);
        if epoch.verified.has_room(mark) || epoch.offered.is_multiple_of(SELDOM) {
            epoch.verified.insert(mark, Arc::clone(identity));
        }
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
            let before = self.verified.take();
            forget(before.len(), before);
            self.refused.take();
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
    tokens: Shards,
    hasher: RandomState,
    epoch: u64,
}

impl TokenCache {
    /// At most `size` tokens.
    pub fn new(size: usize) -> Self {
        Self {
            tokens: shards(size),
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
    ) -> Option<Arc<Identity>> {
        let identity = self.tokens.get(&self.mark(token))?;
        identity.ahead();
        let is_it = identity.token() == token && identity.holds(moment, generations);
        is_it.then_some(identity)
    }

    /// Keeps a verified token.
    pub(crate) fn insert(&self, identity: Arc<Identity>) {
        self.tokens.insert(self.mark(identity.token()), identity);
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

impl Drop for TokenCache {
    fn drop(&mut self) {
        let tokens = std::mem::replace(&mut self.tokens, shards(0));
        forget(tokens.len(), tokens);
    }
}

type Shards = Cache<u64, Arc<Identity>, UnitWeighter, BuildHasherDefault<FxHasher>>;

fn shards(size: usize) -> Shards {
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
    Cache::with_options(options, UnitWeighter, marks, DefaultLifecycle::default())
}

/// Drops so many tokens where nobody waits for it. After a reload it is a worker that lets go of the last of the old ones,
/// and it stood still for 80 ms where there were 100,000.
fn forget(count: usize, tokens: impl Send + 'static) {
    if count < MANY {
        return;
    }
    let thread = thread::Builder::new().name("portcullis-forget".to_owned());
    // Where there is no thread to be had, they are dropped here.
    let _ = thread.spawn(move || drop(tokens));
}

/// Epochs are unique in the process, so that a worker's cache never takes one verifier for another.
fn next_epoch() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Of how many tokens that a full worker is offered it takes one.
const SELDOM: u32 = 16;
/// So many tokens are dropped in a millisecond.
const MANY: usize = 1000;
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
        let mut identity = identity("u", 1000);
        identity.proof = Some(Proof {
            generation: 3,
            until: start + Duration::from_secs(60),
        });
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
            assert_eq!(identity.holds(moment, &All(generation)), holds, "{case}");
        }
        identity.proof = None;
        assert!(!identity.holds(now(), &All(3)), "kept by nobody");
    }

    fn verified(token: &str) -> Arc<Identity> {
        of("u", token, 0)
    }

    fn of(user: &str, token: &str, generation: u64) -> Arc<Identity> {
        Arc::new(Identity {
            token: Secret::new(token.into()),
            proof: Some(Proof {
                generation,
                until: Instant::now() + Duration::from_secs(60),
            }),
            ..identity(user, 1000)
        })
    }

    fn now() -> Moment {
        Moment {
            wall: 1,
            monotonic: Instant::now(),
        }
    }

    #[test]
    fn no_more_tokens_are_kept_than_the_bound_says() {
        for (size, least) in [(0, 0), (1, 0), (2, 1), (3, 1), (10, 5), (4096, 3000)] {
            let cache = TokenCache::new(size);
            let local = LocalTokens::new(size);
            for number in 0..2 * size + 10 {
                cache.insert(verified(&number.to_string()));
                local.insert(&verified(&number.to_string()), &cache);
            }
            let shared = cache.tokens.len();
            assert!((least..=size).contains(&shared), "{size}: {shared}");
            assert_eq!(local.tokens.borrow().verified.len(), size);
        }
    }

    #[test]
    fn callers_whom_a_worker_has_no_room_for_push_out_few() {
        let (cache, local) = (TokenCache::new(0), LocalTokens::new(4));
        let offer = |number: u32| local.insert(&verified(&number.to_string()), &cache);
        let knows = |number: &u32| {
            local
                .find(&number.to_string(), now(), &cache, &All(0))
                .is_some()
        };
        (0..SELDOM - 1).for_each(offer);
        assert_eq!((0..SELDOM).filter(knows).collect::<Vec<_>>(), [0, 1, 2, 3]);
        offer(SELDOM - 1);
        assert!(knows(&(SELDOM - 1)));
        assert_eq!((0..4).filter(knows).count(), 3);
    }

    #[test]
    fn a_full_worker_takes_a_token_that_was_verified_again() {
        let (cache, local) = (TokenCache::new(0), LocalTokens::new(4));
        for number in 0..4 {
            local.insert(&verified(&number.to_string()), &cache);
        }
        assert!(local.find("2", now(), &cache, &All(1)).is_none());
        local.insert(&of("u", "2", 1), &cache);
        assert!(local.find("2", now(), &cache, &All(1)).is_some());
    }

    #[test]
    fn many_tokens_are_dropped_where_nobody_waits() {
        struct Tokens(std::sync::mpsc::Sender<Option<String>>);
        impl Drop for Tokens {
            fn drop(&mut self) {
                let name = thread::current().name().map(str::to_owned);
                self.0.send(name).expect("the test listens");
            }
        }
        let here = thread::current().name().map(str::to_owned);
        let elsewhere = Some("portcullis-forget".to_owned());
        for (count, dropped) in [(MANY - 1, here), (MANY, elsewhere)] {
            let (tell, told) = std::sync::mpsc::channel();
            forget(count, Tokens(tell));
            assert_eq!(told.recv(), Ok(dropped), "{count}");
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
                None => cache.insert(verified(token)),
            }
        }
        // Some shards get more than others.
        assert!(known > 2 * SIZE * 9 / 10, "{known}");
    }

    #[test]
    fn a_token_that_is_used_outlives_those_that_are_not() {
        let cache = TokenCache::new(10);
        cache.insert(verified("used"));
        for number in 0..100 {
            cache.insert(verified(&number.to_string()));
            assert!(cache.find("used", now(), &All(0)).is_some(), "{number}");
        }
    }

    #[test]
    fn an_entry_of_what_ended_does_not_hold() {
        let cache = TokenCache::new(10);
        for (user, found) in [("here", true), ("gone", false)] {
            cache.insert(of(user, user, 0));
            assert_eq!(cache.find(user, now(), &All(0)).is_some(), found);
        }
        assert!(cache.find("never", now(), &All(0)).is_none());
    }
}
