//! The gateway's own sessions, as its tokens are held against them: a token whose signature is good still needs a
//! session that lives and a user who may come in. Asked once for each token and then remembered (`cache.rs`) until
//! the register of what ended says otherwise. Also notes when sessions were last used, off the request's path.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

use crate::clock::{Clock, UnixSeconds};
use crate::identity::Identity;
use crate::identity::keyring::{Keyring, millis};
use crate::records::{Object, Session, SessionId, TokenHash, UnixMillis, User, UserId};
use crate::refusal::Refusal;
use crate::state::{Revocations, Standing};
use crate::store::{Store, StoreError, TokenOwner};

/// The gateway's own sessions and keys: one for the process, shared by all workers.
pub struct OwnSessions {
    keyring: Arc<Keyring>,
    store: Arc<dyn Store>,
    revocations: Arc<Revocations>,
    clock: Clock,
    uses: Mutex<Uses>,
    /// Opaque tokens that are nobody's.
    unknown: Mutex<Unknown>,
    /// Who may ask the store for an opaque token: whoever makes tokens up must not keep log-ins from it.
    askers: Semaphore,
    waiting: AtomicUsize,
    /// The store failed when it was last asked: the log says so once.
    failing: AtomicBool,
}

/// When a token was last noted as used; 0: never.
#[derive(Debug, Default)]
pub struct LastUse(AtomicU64);

/// Uses that the store has not heard of yet, and those that it has heard of lately.
#[derive(Default)]
struct Uses {
    waiting: HashMap<SessionId, UnixMillis>,
    noted: HashMap<SessionId, UnixSeconds>,
}

impl OwnSessions {
    /// Sessions of this store, with the keys that their tokens are signed with.
    pub fn new(
        keyring: Arc<Keyring>,
        store: Arc<dyn Store>,
        revocations: Arc<Revocations>,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            keyring,
            store,
            revocations,
            clock,
            uses: Mutex::default(),
            unknown: Mutex::default(),
            askers: Semaphore::new(MOST_ASKERS),
            waiting: AtomicUsize::new(0),
            failing: AtomicBool::new(false),
        })
    }

    /// The keys.
    pub fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What ended lately.
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Whose an access token with these claims is; worth nothing before `check`.
    pub(crate) fn standing(&self, claims: &Object) -> Result<Standing, Refusal> {
        // Before the store is asked: what ends from here on is noticed.
        let version = self.revocations.version();
        let id = |name: &str| {
            let text = claims.get(name).and_then(|id| id.as_str());
            let id = text.and_then(|text| Uuid::try_parse(text).ok());
            id.ok_or(Refusal::TokenClaimsInvalid)
        };
        let (user, session) = (UserId(id("sub")?), SessionId(id("session_id")?));
        Ok(Standing::new(user, session, None, version))
    }

    /// The user of an access token, whose session lives, and who may come in.
    ///
    /// # Errors
    /// `TokenRevoked`, or `StoreUnavailable` where nobody can tell.
    pub(crate) async fn check(&self, standing: &Standing) -> Result<User, Refusal> {
        let found = self.store.session(standing.session).await;
        let (session, user) = self.heard(found)?.ok_or(Refusal::TokenRevoked)?;
        if user.id != standing.user {
            return Err(Refusal::TokenRevoked);
        }
        self.lives(&session, &user)?;
        Ok(user)
    }

    /// Whose an opaque token is, and its standing.
    ///
    /// # Errors
    /// `TokenRevoked`, also where there was never such a token; `StoreUnavailable` where nobody can tell.
    pub(crate) async fn owner(&self, hash: TokenHash) -> Result<(TokenOwner, Standing), Refusal> {
        let version = self.revocations.version();
        if lock(&self.unknown).has(&hash, self.clock.now()) {
            return Err(Refusal::TokenRevoked);
        }
        let turn = self.turn().await?;
        let found = self.store.token_owner(hash).await;
        drop(turn);
        let Some(owner) = self.heard(found)? else {
            lock(&self.unknown).remember(hash, self.clock.now());
            return Err(Refusal::TokenRevoked);
        };
        self.lives(&owner.session, &owner.user)?;
        let number = Some(owner.token.number);
        let standing = Standing::new(owner.user.id, owner.session.id, number, version);
        Ok((owner, standing))
    }

    /// The session of a verified token and its user as they are now.
    ///
    /// # Errors
    /// `TokenRevoked` where the session, the token or the user may no longer come in; `StoreUnavailable` where nobody
    /// can tell.
    pub(crate) async fn look_again(
        &self,
        standing: &Standing,
        token: &str,
    ) -> Result<(Session, User, Standing), Refusal> {
        if standing.token.is_some() {
            let hash = hash_of(token).ok_or(Refusal::TokenRevoked)?;
            let (owner, standing) = self.owner(hash).await?;
            return Ok((owner.session, owner.user, standing));
        }
        let version = self.revocations.version();
        let found = self.store.session(standing.session).await;
        let (session, user) = self.heard(found)?.ok_or(Refusal::TokenRevoked)?;
        if user.id != standing.user {
            return Err(Refusal::TokenRevoked);
        }
        self.lives(&session, &user)?;
        let standing = Standing::new(user.id, session.id, None, version);
        Ok((session, user, standing))
    }

    /// Notes that the session of this token was used: once a minute at most, and cheaply.
    pub(crate) fn touch(&self, identity: &Identity, now: UnixSeconds) {
        let Some(standing) = &identity.standing else {
            return;
        };
        let last = &identity.last_use.0;
        let seen = last.load(Ordering::Relaxed);
        if now.saturating_sub(seen) < TOUCH_INTERVAL {
            return;
        }
        let noted = last.compare_exchange(seen, now, Ordering::Relaxed, Ordering::Relaxed);
        if noted.is_ok() {
            self.uses().note(standing.session, now);
        }
    }

    /// Tells the store which sessions were used since the last time. What it does not take waits for the next.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn flush_uses(&self) -> Result<(), StoreError> {
        let used: Vec<_> = self.uses().waiting.drain().collect();
        if used.is_empty() {
            return Ok(());
        }
        let told = self.store.touch_sessions(used.clone()).await;
        let mut uses = self.uses();
        if told.is_err() {
            for (session, at) in used {
                uses.waiting.entry(session).or_insert(at);
            }
        }
        uses.forget(self.clock.now());
        told
    }

    /// A place among those who ask for opaque tokens.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        if let Ok(turn) = self.askers.try_acquire() {
            return Ok(turn);
        }
        let waiting = Waiting::enter(&self.waiting).ok_or(Refusal::StoreUnavailable)?;
        let turn = self.askers.acquire().await;
        drop(waiting);
        turn.map_err(|_| Refusal::StoreUnavailable)
    }

    fn lives(&self, session: &Session, user: &User) -> Result<(), Refusal> {
        let now = millis(&self.clock);
        let banned = user.banned_until.is_some_and(|until| now < until);
        let gone = session.ended_at.is_some() || user.deleted_at.is_some();
        match gone || banned || user.disabled {
            true => Err(Refusal::TokenRevoked),
            false => Ok(()),
        }
    }

    /// What the store answered; where it did not, the log says so once.
    fn heard<T>(&self, answer: Result<T, StoreError>) -> Result<T, Refusal> {
        let failing = answer.is_err();
        if self.failing.load(Ordering::Relaxed) != failing {
            self.failing.store(failing, Ordering::Relaxed);
            match &answer {
                Ok(_) => tracing::info!("sessions can be looked up again"),
                Err(error) => tracing::error!(%error, "sessions cannot be looked up"),
            }
        }
        answer.map_err(|_| Refusal::StoreUnavailable)
    }

    fn uses(&self) -> MutexGuard<'_, Uses> {
        lock(&self.uses)
    }
}

/// Opaque tokens that the store did not know a moment ago: whoever sends one again and again costs it one question.
/// None is kept for longer than two seconds, and the gateway makes no token that anybody has thought of before, so
/// that none is refused that is good.
#[derive(Default)]
struct Unknown {
    /// Of this second, and of the one before.
    halves: [HashSet<TokenHash>; 2],
    second: UnixSeconds,
}

impl Unknown {
    fn has(&mut self, hash: &TokenHash, now: UnixSeconds) -> bool {
        self.turn_to(now);
        self.halves.iter().any(|half| half.contains(hash))
    }

    fn remember(&mut self, hash: TokenHash, now: UnixSeconds) {
        self.turn_to(now);
        if self.halves[0].len() < MOST_UNKNOWN {
            self.halves[0].insert(hash);
        }
    }

    fn turn_to(&mut self, now: UnixSeconds) {
        match now.checked_sub(self.second) {
            Some(0) => return,
            Some(1) => self.halves.swap(0, 1),
            // Also a clock that goes back.
            _ => self.halves[1].clear(),
        }
        self.halves[0].clear();
        self.second = now;
    }
}

/// A place among those who wait for their turn, which there are not many of.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Option<Self> {
        let place = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < MOST_WAITING).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Uses {
    fn note(&mut self, session: SessionId, now: UnixSeconds) {
        let last = self.noted.get(&session).copied().unwrap_or_default();
        if now.saturating_sub(last) < TOUCH_INTERVAL || self.waiting.len() >= MOST_USES {
            return;
        }
        self.noted.insert(session, now);
        let millis = UnixMillis::try_from(now.saturating_mul(1000)).unwrap_or(UnixMillis::MAX);
        self.waiting.insert(session, millis);
    }

    /// Forgets what was noted long enough ago to be noted again.
    fn forget(&mut self, now: UnixSeconds) {
        self.noted
            .retain(|_, last| now.saturating_sub(*last) < TOUCH_INTERVAL);
    }
}

/// A copy has not been noted.
impl Clone for LastUse {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for OwnSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnSessions")
            .field("keyring", &self.keyring)
            .finish_non_exhaustive()
    }
}

/// What the store knows an opaque session token by; `None` for what is no such token. A token has one spelling: a
/// UUID, hyphenated, in lower case.
pub fn hash_of(token: &str) -> Option<TokenHash> {
    let spelt = token.len() == 36
        && token.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
    if !spelt {
        return None;
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    digest.as_ref().try_into().map(TokenHash).ok()
}

/// Seconds between two notes that one session was used.
const TOUCH_INTERVAL: u64 = 60;
/// Uses that wait for the store at most; those beyond are noted a minute later.
const MOST_USES: usize = 100_000;
/// Tokens of a second that are remembered as nobody's.
const MOST_UNKNOWN: usize = 10_000;
/// Questions after opaque tokens that the store is asked at once, and those that wait for one.
const MOST_ASKERS: usize = 8;
const MOST_WAITING: usize = 1000;
