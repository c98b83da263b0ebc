//! What ended lately: sessions, users, opaque tokens. Whoever ends one writes it to the store first and then tells it
//! here; every remembered verification is held against it at each use, so that none outlives the end, and live
//! streams hear of it. Nothing is lost when an entry is dropped: what was verified before it is verified again.

pub mod bans;
pub mod redis;
pub mod trust;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use self::trust::Trust;
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

/// What changed about what was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It ended.
    Ended(Ended),
    /// Something about this user changed, roles above all, and nothing ended.
    Changed(UserId),
}

/// Where news come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It happened in this process, just now.
    Here,
    /// Another process tells of it, some time afterwards: what began since may have outlived it.
    Elsewhere,
}

/// News, as listeners hear of them.
#[derive(Clone, Copy, Debug)]
pub struct Notice {
    /// What happened.
    pub news: News,
    /// Where.
    pub origin: Origin,
    version: u64,
}

/// What is to become of a live stream after some news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// The store must be asked whether it may go on.
    Doubt,
    /// It is over.
    End,
}

/// Hears of all news, on the thread that tells them. Must not wait.
pub type Listener = dyn Fn(&Notice) + Send + Sync;

/// The register of what ended, one for the process. Its version counts the ends.
#[derive(Default)]
pub struct Revocations {
    version: AtomicU64,
    register: RwLock<Register>,
    /// Whether what is remembered counts at all.
    trust: Trust,
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

    /// Whether all that it covers is over by now. An ended session or token stays ended; a user whom another process
    /// threw out some time ago may have come in again since.
    fn is_over(self, origin: Origin) -> bool {
        origin == Origin::Here || matches!(self, Self::Session(_) | Self::Token(_))
    }

    /// Whose it was, where it names a user.
    pub fn user(self) -> Option<UserId> {
        match self {
            Self::User(user)
            | Self::UserExceptSession(user, _)
            | Self::UserExceptToken(user, _) => Some(user),
            Self::Session(_) | Self::Token(_) => None,
        }
    }
}

impl Notice {
    /// What it means for what has this standing: nothing where that was verified afterwards.
    pub fn effect(&self, standing: &Standing) -> Effect {
        if standing.checked.load(Ordering::Acquire) >= self.version {
            return Effect::None;
        }
        match (self.news, self.origin) {
            (News::Ended(ended), _) if !ended.covers(standing) => Effect::None,
            (News::Changed(user), _) if user != standing.user => Effect::None,
            (News::Ended(ended), origin) if ended.is_over(origin) => Effect::End,
            (News::Ended(_) | News::Changed(_), _) => Effect::Doubt,
        }
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

    /// For how long what is remembered counts, where other processes end things too.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// How many ends there were: to be read before the store is asked.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether what was verified with this standing is known to be good still. One load where nothing ended since
    /// the last time. `false` means that the store must be asked: it ended, or that is not known any more.
    pub fn holds(&self, standing: &Standing) -> bool {
        if !self.trust.holds() {
            return false;
        }
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

    /// What happened to what has this standing since it was looked at; in doubt, where the register does not reach
    /// back so far. Asked when it becomes a live stream, which hears only of what comes after.
    pub fn meanwhile(&self, standing: &Standing) -> Effect {
        let checked = standing.checked.load(Ordering::Acquire);
        if checked >= self.version() {
            return Effect::None;
        }
        let register = self.read();
        if register.is_ended_since(checked, standing) {
            return Effect::End;
        }
        match checked < register.floor || register.is_changed_since(checked, standing) {
            true => Effect::Doubt,
            false => Effect::None,
        }
    }

    /// Notes what the store has recorded as ended, then tells the listeners. From its return on no remembered
    /// verification from before is taken for good.
    pub fn end(&self, ended: Ended) {
        self.take(News::Ended(ended), Origin::Here);
    }

    /// What is remembered of a user is asked of the store again: roles or names changed. Ends nothing.
    pub fn recheck(&self, user: UserId) {
        self.take(News::Changed(user), Origin::Here);
    }

    /// The same for what another process has told, some time after it happened: what was verified since is asked of
    /// the store again, and does not end by it.
    pub fn hear(&self, news: News) {
        self.take(news, Origin::Elsewhere);
    }

    fn take(&self, news: News, origin: Origin) {
        let change = match news {
            News::Ended(ended) if ended.is_over(origin) => Change::Ended(ended),
            News::Ended(ended) => match ended.user() {
                Some(user) => Change::Again(user),
                None => Change::Ended(ended),
            },
            News::Changed(user) => Change::Again(user),
        };
        let version = self.note(change);
        let listeners = self.listeners.read();
        let listeners = listeners.unwrap_or_else(PoisonError::into_inner).clone();
        for listener in listeners {
            listener(&Notice {
                news,
                origin,
                version,
            });
        }
    }

    /// Calls `listener` with all news from now on.
    pub fn subscribe(&self, listener: impl Fn(&Notice) + Send + Sync + 'static) {
        let listeners = self.listeners.write();
        let mut listeners = listeners.unwrap_or_else(PoisonError::into_inner);
        listeners.push(Arc::new(listener));
    }

    /// Something may have ended of which nobody tells: the store is asked anew of all that was checked before.
    pub fn forget(&self) {
        let mut register = self.write();
        register.version += 1;
        register.floor = register.version;
        self.version.store(register.version, Ordering::Release);
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
        checked < self.floor
            || self.is_changed_since(checked, standing)
            || self.is_ended_since(checked, standing)
    }

    fn is_changed_since(&self, checked: u64, standing: &Standing) -> bool {
        let again = |ends: &EndsOfUser| ends.again > checked;
        self.users.get(&standing.user).is_some_and(again)
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
        self.floor = self.floor.max(told.version);
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
