//! What slows guessing: failures of an account from one address, of an account from anywhere, and of an address
//! with any account, each with a wait that grows; and plain rates for each address. Memory is bounded, nothing is
//! locked for good, and a name that is nobody's is treated as a user's.
//!
//! The owner is not shut out by a stranger: a stranger's failures count under the stranger's address, long before
//! they count for the whole account, and an address from which the owner has logged in before has only itself to
//! wait for.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::Notify;

use crate::config::Attempts as Rules;

/// Counts attempts. One for the process.
pub struct Attempts {
    rules: ArcSwap<Rules>,
    failures: Cache<Key, Arc<Entry>>,
    buckets: Cache<Key, Arc<Mutex<Bucket>>>,
    /// Accounts and the addresses from which their owners have logged in.
    known: Cache<Key, ()>,
}

/// Try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// How much later.
    pub retry_after: Duration,
}

/// An attempt under way. Dropped without a result, it counts for nothing.
pub struct Attempt<'a> {
    attempts: &'a Attempts,
    pair: Arc<Entry>,
    wide: Vec<Arc<Entry>>,
    known: Option<Key>,
    account: Arc<Entry>,
    _turns: Vec<Turn>,
}

/// What is limited for each address by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Log-ins with a password.
    LogIn,
    /// New users.
    SignUp,
    /// What sends a mail.
    Mail,
    /// One-time codes.
    Code,
    /// Sign-ins without credentials.
    Anonymous,
    /// Refreshes.
    Refresh,
}

impl Attempts {
    /// Nobody has failed yet.
    pub fn new(rules: &Rules) -> Self {
        Self {
            rules: ArcSwap::from_pointee(rules.clone()),
            failures: bounded(MEMORY),
            buckets: bounded(MEMORY),
            known: bounded(KNOWN_MEMORY),
        }
    }

    /// Other rules from now on.
    pub fn configure(&self, rules: &Rules) {
        self.rules.store(Arc::new(rules.clone()));
    }

    /// Waits until an attempt at the account `name` may be made: as many at once as could still fail.
    ///
    /// # Errors
    /// When it must be made later.
    pub async fn begin(&self, name: &str, address: Option<IpAddr>) -> Result<Attempt<'_>, TooMany> {
        let rules = self.rules.load_full();
        let network = network(address);
        let pair = self.entry(key(b"pair", name, &network));
        let account = self.entry(key(b"account", name, &[]));
        let known = address.map(|_| key(b"known", name, &network));
        let is_known = known.is_some_and(|key| self.known.get(&key).is_some());
        let mut wide = Vec::with_capacity(2);
        if !is_known {
            wide.push(Arc::clone(&account));
            wide.extend(address.map(|_| self.entry(key(b"address", "", &network))));
        }
        let now = Instant::now();
        let longest_wide = wide
            .iter()
            .filter_map(|entry| entry.lock().wait(&Slowing::wide(&rules), now))
            .max();
        if let Some(retry_after) = longest_wide {
            return Err(TooMany { retry_after });
        }
        let mut turns = vec![Turn::take(&pair, &Slowing::pair(&rules)).await?];
        if !is_known {
            // Guesses from many addresses at once are no more than one after the other.
            turns.push(Turn::take(&account, &Slowing::wide(&rules)).await?);
        }
        Ok(Attempt {
            attempts: self,
            pair,
            wide,
            known,
            account,
            _turns: turns,
        })
    }

    /// Takes one of what an address may do.
    ///
    /// # Errors
    /// When it has done too much of it lately.
    pub fn take(&self, class: Class, address: Option<IpAddr>) -> Result<(), TooMany> {
        let rules = self.rules.load();
        let (many, period) = class.limit(&rules);
        if many == 0 || address.is_none() {
            return Ok(());
        }
        let key = key(class.word(), "", &network(address));
        let now = Instant::now();
        let full = || Arc::new(Mutex::new(Bucket::full(many, now)));
        let bucket = self.buckets.get_with(key, full);
        let taken = lock(&bucket).take(many, period, now);
        taken.map_err(|retry_after| TooMany { retry_after })
    }

    fn entry(&self, key: Key) -> Arc<Entry> {
        self.failures.get_with(key, Arc::default)
    }
}

impl Attempt<'_> {
    /// It was the right one: the account's failures are forgotten, and the address is known.
    pub fn succeeded(self) {
        self.pair.lock().failures = 0;
        self.account.lock().failures = 0;
        if let Some(key) = self.known {
            self.attempts.known.insert(key, ());
        }
    }

    /// It was a wrong one.
    pub fn failed(self) {
        let now = Instant::now();
        let rules = self.attempts.rules.load();
        for entry in std::iter::once(&self.pair).chain(&self.wide) {
            entry.lock().fail(now, rules.forget);
        }
    }
}

/// A place among the attempts at one thing that are under way.
struct Turn(Arc<Entry>);

impl Turn {
    async fn take(entry: &Arc<Entry>, slowing: &Slowing) -> Result<Self, TooMany> {
        entry.enter(slowing).await?;
        Ok(Self(Arc::clone(entry)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut tally = self.0.lock();
        tally.in_flight = tally.in_flight.saturating_sub(1);
        drop(tally);
        self.0.ended.notify_waiters();
    }
}

impl Class {
    fn word(self) -> &'static [u8] {
        match self {
            Self::LogIn => b"log_in",
            Self::SignUp => b"sign_up",
            Self::Mail => b"mail",
            Self::Code => b"code",
            Self::Anonymous => b"anonymous",
            Self::Refresh => b"refresh",
        }
    }

    fn limit(self, rules: &Rules) -> (u32, Duration) {
        match self {
            Self::LogIn | Self::SignUp | Self::Mail | Self::Code => (rules.per_address, MINUTE),
            Self::Anonymous => (rules.anonymous_per_address, HOUR),
            Self::Refresh => (rules.refreshes_per_address, MINUTE),
        }
    }
}

/// Failures of one thing, and those who wait for their turn.
#[derive(Default)]
struct Entry {
    tally: Mutex<Tally>,
    ended: Notify,
}

impl Entry {
    fn lock(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }

    async fn enter(&self, slowing: &Slowing) -> Result<(), TooMany> {
        // Given back also when whoever waits leaves.
        let mut place: Option<Waiting<'_>> = None;
        loop {
            let ended = self.ended.notified();
            let mut ended = pin!(ended);
            // Before looking: an end between the look and the wait must wake this one too.
            ended.as_mut().enable();
            let ticket = place.as_ref().map(|place| place.ticket);
            let entered = self.lock().enter(slowing, Instant::now(), ticket);
            match entered {
                Entered::Now => return Ok(()),
                Entered::Later(retry_after) => return Err(TooMany { retry_after }),
                Entered::Wait(ticket) => {
                    // Lazily: one that is made for nothing would give the place back.
                    place.get_or_insert_with(|| Waiting {
                        entry: self,
                        ticket,
                    });
                }
            }
            ended.await;
        }
    }
}

/// A place among those who wait.
struct Waiting<'a> {
    entry: &'a Entry,
    ticket: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let left = self.entry.lock().leave(self.ticket);
        if left {
            // Those behind move up.
            self.entry.ended.notify_waiters();
        }
    }
}

/// The arithmetic of one entry.
#[derive(Debug, Default)]
struct Tally {
    failures: u32,
    last: Option<Instant>,
    in_flight: u32,
    /// Those who wait, in the order in which they came: who comes later takes nobody's turn, so that an owner who
    /// waits behind strangers' guesses is not overtaken by ever new ones.
    queue: VecDeque<u64>,
    next_ticket: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Entered {
    Now,
    /// With this place in the queue.
    Wait(u64),
    Later(Duration),
}

/// How failures slow.
#[derive(Clone, Copy, Debug)]
struct Slowing {
    free: u32,
    first: Duration,
    longest: Duration,
    forget: Duration,
}

impl Slowing {
    fn pair(rules: &Rules) -> Self {
        Self {
            free: rules.free,
            first: rules.delay,
            longest: rules.max_delay,
            forget: rules.forget,
        }
    }

    /// For a whole account, or a whole address: later, because others may share it, and never for long, because
    /// whoever may come next is not who failed.
    fn wide(rules: &Rules) -> Self {
        Self {
            free: rules.free.saturating_mul(WIDE_FREE),
            longest: rules.max_delay.min(rules.delay.max(WIDE_LONGEST)),
            ..Self::pair(rules)
        }
    }
}

impl Tally {
    /// `ticket`: the place in the queue of whoever has one.
    fn enter(&mut self, slowing: &Slowing, now: Instant, ticket: Option<u64>) -> Entered {
        if let Some(wait) = self.wait(slowing, now) {
            return Entered::Later(wait);
        }
        // With all failures that are free spent, one at a time.
        let room = slowing.free.saturating_sub(self.failures).max(1);
        let free = room.saturating_sub(self.in_flight) as usize;
        let before = self.queue.iter().take(free);
        let first = match ticket {
            Some(ticket) => before.into_iter().any(|it| *it == ticket),
            None => self.queue.len() < free,
        };
        match (first, ticket) {
            (true, ticket) => {
                self.in_flight += 1;
                if let Some(ticket) = ticket {
                    self.leave(ticket);
                }
                Entered::Now
            }
            (false, Some(ticket)) => Entered::Wait(ticket),
            (false, None) if self.queue.len() >= MOST_WAITING => {
                Entered::Later(Duration::from_secs(1))
            }
            (false, None) => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.queue.push_back(ticket);
                Entered::Wait(ticket)
            }
        }
    }

    /// Gives a place in the queue back; whether there was one.
    fn leave(&mut self, ticket: u64) -> bool {
        let place = self.queue.iter().position(|it| *it == ticket);
        place.is_some_and(|place| self.queue.remove(place).is_some())
    }

    /// How long the next attempt must wait; `None`: not at all.
    fn wait(&mut self, slowing: &Slowing, now: Instant) -> Option<Duration> {
        self.forget(now, slowing.forget);
        let over = self.failures.checked_sub(slowing.free)?;
        let delay = slowing
            .first
            .saturating_mul(1_u32.checked_shl(over).unwrap_or(u32::MAX))
            .min(slowing.longest);
        let since = now.saturating_duration_since(self.last?);
        delay.checked_sub(since).filter(|wait| !wait.is_zero())
    }

    fn fail(&mut self, now: Instant, forget: Duration) {
        self.forget(now, forget);
        self.failures = self.failures.saturating_add(1);
        self.last = Some(now);
    }

    fn forget(&mut self, now: Instant, forget: Duration) {
        let old = |last| now.saturating_duration_since(last) >= forget;
        if self.last.is_some_and(old) {
            (self.failures, self.last) = (0, None);
        }
    }
}

/// What is left of a rate.
#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn full(many: u32, at: Instant) -> Self {
        Self {
            left: f64::from(many),
            at,
        }
    }

    fn take(&mut self, many: u32, period: Duration, now: Instant) -> Result<(), Duration> {
        let rate = f64::from(many) / period.as_secs_f64();
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * rate;
        self.left = (self.left + gained).min(f64::from(many));
        self.at = now;
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.left) / rate))
    }
}

type Key = [u8; 16];

/// A name may be long, and many strangers' names are kept: each is kept by its hash.
fn key(kind: &[u8], name: &str, network: &[u8]) -> Key {
    let text = [kind, &[0], name.as_bytes(), &[0], network].concat();
    let mut key = Key::default();
    key.copy_from_slice(&digest(&SHA256, &text).as_ref()[..16]);
    key
}

/// Whom an address stands for: itself, or its /64, which one subscriber has.
fn network(address: Option<IpAddr>) -> Vec<u8> {
    match address.map(|address| address.to_canonical()) {
        None => Vec::new(),
        Some(IpAddr::V4(address)) => address.octets().to_vec(),
        Some(IpAddr::V6(address)) => address.octets()[..8].to_vec(),
    }
}

/// The least recently used goes first. A policy that favours what is used often would not let a new name in
/// while many others are tried, and its failures would count for nothing.
fn bounded<T: Clone + Send + Sync + 'static>(most: u64) -> Cache<Key, T> {
    Cache::builder()
        .max_capacity(most)
        .eviction_policy(EvictionPolicy::lru())
        .time_to_idle(DAYS)
        .build()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAYS: Duration = Duration::from_secs(30 * 86_400);
/// So many times the free failures of one account from one address.
const WIDE_FREE: u32 = 4;
const WIDE_LONGEST: Duration = Duration::from_secs(30);
/// Attempts that wait for others of the same account from the same address.
const MOST_WAITING: usize = 1024;
const MEMORY: u64 = 200_000;
const KNOWN_MEMORY: u64 = 500_000;
