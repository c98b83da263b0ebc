//! What ended lately: sessions, users, opaque tokens. Whoever ends one writes it to the store first and then tells it
//! here; every remembered verification is held against it at each use, so that none outlives the end, and live
//! streams hear of it. Nothing is lost when an entry is dropped: what was verified before it is verified again.

pub mod redis;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use crate::records::{SessionId, UserId};

/// What ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A session, with all its tokens.
    Session(SessionId),
    /// All that a user had: disabled, deleted, logged out everywhere.
    User(UserId),
    /// All that a user had but what belongs to this session.
    UserExceptSession(UserId, SessionId),
    /// All that a user had but the opaque token of this number.
    UserExceptToken(UserId, i64),
    /// One opaque token, by its number.
    Token(i64),
}

/// Whose a verified token is, and up to which end it is known to be good.
#[derive(Debug)]
pub struct Standing {
    /// The user.
    pub user: UserId,
    /// The session.
    pub session: SessionId,
    /// The number of the opaque token; `None` for an access token.
    pub token: Option<i64>,
    checked: AtomicU64,
}

/// An end, as listeners hear of it.
#[derive(Clone, Copy, Debug)]
pub struct Notice {
    /// What ended.
    pub ended: Ended,
    version: u64,
}

/// Hears of each end, on the thread that tells it. Must not wait.
pub type Listener = dyn Fn(&Notice) + Send + Sync;

/// The register of what ended, one for the process. Its version counts the ends.
#[derive(Default)]
pub struct Revocations {
    version: AtomicU64,
    register: RwLock<Register>,
    listeners: RwLock<Vec<Arc<Listener>>>,
}

#[derive(Default)]
struct Register {
    version: u64,
    sessions: HashMap<SessionId, u64>,
    tokens: HashMap<i64, u64>,
    users: HashMap<UserId, EndsOfUser>,
    /// In their order, for dropping the oldest.
    order: VecDeque<Told>,
    /// Of what ended up to here nothing is known any more: what was checked before must be asked of the store.
    floor: u64,
}

struct Told {
    version: u64,
    at: Instant,
    change: Change,
}

/// What the register is told.
#[derive(Clone, Copy)]
enum Change {
    Ended(Ended),
    Again(UserId),
}

/// Ends of one user's things, each with its version.
#[derive(Default)]
struct EndsOfUser {
    all: u64,
    /// Nothing ended, and yet the store must be asked of what was checked before.
    again: u64,
    except: Vec<(Spared, u64)>,
}

/// What of a user's things an end spares.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spared {
    Session(SessionId),
    Token(i64),
}

impl Ended {
    /// Whether it ended what has this standing, whenever that was verified.
    pub fn covers(self, standing: &Standing) -> bool {
        let of = |user| standing.user == user;
        match self {
            Self::Session(session) => standing.session == session,
            Self::User(user) => of(user),
            Self::UserExceptSession(user, session) => {
                of(user) && !Spared::Session(session).is(standing)
            }
            Self::UserExceptToken(user, token) => of(user) && !Spared::Token(token).is(standing),
            Self::Token(token) => standing.token == Some(token),
        }
    }
}

impl Notice {
    /// Whether what has this standing ended by it: not where it was verified afterwards.
    pub fn ends(&self, standing: &Standing) -> bool {
        self.ended.covers(standing) && standing.checked.load(Ordering::Acquire) < self.version
    }
}

impl Standing {
    /// The standing of what the store knows as good. `version` is that of the register from **before** the store
    /// was read: an end that races with the reading is then seen at the next use.
    pub fn new(user: UserId, session: SessionId, token: Option<i64>, version: u64) -> Self {
        Self {
            user,
            session,
            token,
            checked: AtomicU64::new(version),
        }
    }
}

impl Clone for Standing {
    fn clone(&self) -> Self {
        let checked = self.checked.load(Ordering::Acquire);
        Self::new(self.user, self.session, self.token, checked)
    }
}

impl Revocations {
    /// An empty register, which holds on to an end until it is dropped by `prune` or by its bound.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How many ends there were: to be read before the store is asked.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether what was verified with this standing is known to be good still. One load where nothing ended since
    /// the last time. `false` means that the store must be asked: it ended, or that is not known any more.
    pub fn holds(&self, standing: &Standing) -> bool {
        let checked = standing.checked.load(Ordering::Acquire);
        if checked >= self.version() {
            return true;
        }
        let register = self.read();
        if register.may_have_ended_since(checked, standing) {
            return false;
        }
        standing
            .checked
            .fetch_max(register.version, Ordering::AcqRel);
        true
    }

    /// Whether what has this standing is known to have ended: for a live stream, which heard of every end of its
    /// time and is not asked of the store again.
    pub fn has_ended(&self, standing: &Standing) -> bool {
        let checked = standing.checked.load(Ordering::Acquire);
        checked < self.version() && self.read().is_ended_since(checked, standing)
    }

    /// Whether what has this standing may become a live stream: nothing ended it since it was looked at, as far
    /// back as the register knows.
    pub fn admits(&self, standing: &Standing) -> bool {
        let checked = standing.checked.load(Ordering::Acquire);
        if checked >= self.version() {
            return true;
        }
        let register = self.read();
        checked >= register.floor && !register.is_ended_since(checked, standing)
    }

    /// Notes what the store has recorded as ended, then tells the listeners. From its return on no remembered
    /// verification from before is taken for good.
    pub fn end(&self, ended: Ended) {
        let version = self.note(Change::Ended(ended));
        let listeners = self.listeners.read();
        let listeners = listeners.unwrap_or_else(PoisonError::into_inner).clone();
        for listener in listeners {
            listener(&Notice { ended, version });
        }
    }

    /// What is remembered of a user is asked of the store again: roles or names changed. Ends nothing.
    pub fn recheck(&self, user: UserId) {
        self.note(Change::Again(user));
    }

    /// Calls `listener` at each end from now on.
    pub fn subscribe(&self, listener: impl Fn(&Notice) + Send + Sync + 'static) {
        let listeners = self.listeners.write();
        let mut listeners = listeners.unwrap_or_else(PoisonError::into_inner);
        listeners.push(Arc::new(listener));
    }

    /// Drops ends that are older than this: longer than any verification is remembered.
    pub fn prune(&self, older_than: Duration) {
        let now = Instant::now();
        let mut register = self.write();
        while let Some(told) = register.order.front()
            && now.saturating_duration_since(told.at) > older_than
        {
            register.drop_oldest();
        }
    }

    fn note(&self, change: Change) -> u64 {
        let mut register = self.write();
        register.version += 1;
        let version = register.version;
        register.insert(change);
        // Within the lock, and last: who sees the new version waits for the lock and finds the end.
        self.version.store(version, Ordering::Release);
        version
    }

    fn read(&self) -> RwLockReadGuard<'_, Register> {
        self.register.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Register> {
        self.register
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version();
        f.debug_struct("Revocations")
            .field("version", &version)
            .finish_non_exhaustive()
    }
}

impl Register {
    fn insert(&mut self, change: Change) {
        let version = self.version;
        match change {
            Change::Again(user) => self.users.entry(user).or_default().again = version,
            Change::Ended(ended) => self.insert_end(ended, version),
        }
        self.order.push_back(Told {
            version,
            at: Instant::now(),
            change,
        });
        if self.order.len() > MOST {
            self.drop_oldest();
        }
    }

    fn insert_end(&mut self, ended: Ended, version: u64) {
        match ended {
            Ended::Session(session) => drop(self.sessions.insert(session, version)),
            Ended::Token(token) => drop(self.tokens.insert(token, version)),
            Ended::User(user) => self.users.entry(user).or_default().end_all(version),
            Ended::UserExceptSession(user, session) => {
                let ends = self.users.entry(user).or_default();
                ends.end_except(Spared::Session(session), version);
            }
            Ended::UserExceptToken(user, token) => {
                let ends = self.users.entry(user).or_default();
                ends.end_except(Spared::Token(token), version);
            }
        }
    }

    fn may_have_ended_since(&self, checked: u64, standing: &Standing) -> bool {
        let again = |ends: &EndsOfUser| ends.again > checked;
        checked < self.floor
            || self.users.get(&standing.user).is_some_and(again)
            || self.is_ended_since(checked, standing)
    }

    fn is_ended_since(&self, checked: u64, standing: &Standing) -> bool {
        let later = |version: Option<&u64>| version.is_some_and(|version| *version > checked);
        later(self.sessions.get(&standing.session))
            || later(standing.token.and_then(|token| self.tokens.get(&token)))
            || self
                .users
                .get(&standing.user)
                .is_some_and(|ends| ends.has_ended_since(checked, standing))
    }

    /// Forgets the oldest end. Whatever was checked before it counts as unknown from now on.
    fn drop_oldest(&mut self) {
        let Some(told) = self.order.pop_front() else {
            return;
        };
        self.floor = told.version;
        let user = match told.change {
            Change::Ended(Ended::Session(session)) => {
                return remove_up_to(&mut self.sessions, session, told.version);
            }
            Change::Ended(Ended::Token(token)) => {
                return remove_up_to(&mut self.tokens, token, told.version);
            }
            Change::Ended(
                Ended::User(user)
                | Ended::UserExceptSession(user, _)
                | Ended::UserExceptToken(user, _),
            )
            | Change::Again(user) => user,
        };
        if let Entry::Occupied(mut ends) = self.users.entry(user)
            && ends.get_mut().is_empty_after(told.version)
        {
            ends.remove();
        }
    }
}

impl EndsOfUser {
    fn end_all(&mut self, version: u64) {
        self.all = version;
        self.except.clear();
    }

    fn end_except(&mut self, spared: Spared, version: u64) {
        self.except.retain(|(known, _)| *known != spared);
        if self.except.len() == MOST_OF_USER {
            // What the oldest spared ends with it here; the store, which is asked then, knows better.
            let (_, oldest) = self.except.remove(0);
            self.all = self.all.max(oldest);
        }
        self.except.push((spared, version));
    }

    fn has_ended_since(&self, checked: u64, standing: &Standing) -> bool {
        let mut except = self.except.iter();
        self.all > checked
            || except.any(|(spared, version)| *version > checked && !spared.is(standing))
    }

    /// Forgets what is not younger than `version`; whether nothing is left.
    fn is_empty_after(&mut self, version: u64) -> bool {
        self.except.retain(|(_, known)| *known > version);
        self.except.is_empty() && self.all <= version && self.again <= version
    }
}

impl Spared {
    fn is(self, standing: &Standing) -> bool {
        match self {
            Self::Session(session) => standing.session == session,
            Self::Token(token) => standing.token == Some(token),
        }
    }
}

/// A later end of the same thing stays.
fn remove_up_to<K: Eq + Hash>(ends: &mut HashMap<K, u64>, key: K, version: u64) {
    if let Entry::Occupied(end) = ends.entry(key)
        && *end.get() <= version
    {
        end.remove();
    }
}

/// How many ends are kept at most.
const MOST: usize = 100_000;
/// How many ends with something spared are kept of one user at most.
const MOST_OF_USER: usize = 16;

#[cfg(test)]
mod tests;
