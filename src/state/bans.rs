//! Tokens of issuers that this gateway cannot ask: what an operator has refused of them. A user's are refused that were
//! issued before; a session's all, since its issuer goes on giving it new ones. Kept until none of them can be good any
//! more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::Origin;
use crate::clock::UnixSeconds;

/// What is refused; one for the process.
#[derive(Default)]
pub struct Bans {
    /// Counts them: what is remembered from before one must be verified again.
    version: AtomicU64,
    bans: RwLock<HashMap<Banned, UnixSeconds>>,
    listeners: RwLock<Vec<Arc<Listener>>>,
}

/// Hears of what is refused, since when, and who said so. Must not wait.
pub type Listener = dyn Fn(&Banned, UnixSeconds, Origin) + Send + Sync;

/// Whose tokens are refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Banned {
    /// A user's (`sub`), as far as they were issued by then.
    User(Box<str>),
    /// A session's (`session_id`).
    Session(Box<str>),
}

/// What is known of a token.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Presented<'t> {
    pub subject: &'t str,
    pub session: Option<&'t str>,
    /// `iat`; one without may be older than anything.
    pub issued_at: Option<UnixSeconds>,
}

/// What a ban was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    New,
    /// Or an earlier one than what is known.
    Known,
}

/// There are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Full;

impl Banned {
    /// Whether it is about this token, whenever that was issued.
    pub fn is_about(&self, token: Presented<'_>) -> bool {
        match self {
            Self::User(user) => **user == *token.subject,
            Self::Session(session) => token.session == Some(session),
        }
    }
}

impl Bans {
    /// Nothing is refused yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How many bans there were.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Refuses from now on. `false`: there are too many, and nothing was refused.
    pub fn add(&self, banned: &Banned, now: UnixSeconds) -> bool {
        let there = self.put(banned, now, now);
        if there.is_ok() {
            self.tell(banned, now, Origin::Here);
        }
        there.is_ok()
    }

    /// The same for what another gateway refuses since `at`. The later of two times counts.
    pub fn hear(&self, banned: &Banned, at: UnixSeconds, now: UnixSeconds) -> bool {
        let there = self.put(banned, at, now);
        if there == Ok(Put::New) {
            self.tell(banned, at, Origin::Elsewhere);
        }
        there.is_ok()
    }

    fn put(&self, banned: &Banned, at: UnixSeconds, now: UnixSeconds) -> Result<Put, Full> {
        let mut bans = self.bans.write().unwrap_or_else(PoisonError::into_inner);
        if bans.len() >= MOST {
            bans.retain(|_, at| now.saturating_sub(*at) < KEPT);
        }
        if bans.len() >= MOST {
            return Err(Full);
        }
        let since = bans.entry(banned.clone()).or_default();
        if at <= *since {
            return Ok(Put::Known);
        }
        *since = at;
        self.version.fetch_add(1, Ordering::Release);
        Ok(Put::New)
    }

    /// Tells the listeners, outside the lock: they may ask back.
    fn tell(&self, banned: &Banned, at: UnixSeconds, origin: Origin) {
        let listeners = self.listeners.read();
        let listeners = listeners.unwrap_or_else(PoisonError::into_inner).clone();
        for listener in listeners {
            listener(banned, at, origin);
        }
    }

    /// Calls `listener` with each that is added here from now on, or heard of for the first time.
    pub fn subscribe(
        &self,
        listener: impl Fn(&Banned, UnixSeconds, Origin) + Send + Sync + 'static,
    ) {
        let listeners = self.listeners.write();
        let mut listeners = listeners.unwrap_or_else(PoisonError::into_inner);
        listeners.push(Arc::new(listener));
    }

    /// All that is refused, and since when.
    pub fn all(&self) -> Vec<(Banned, UnixSeconds)> {
        let bans = self.bans.read().unwrap_or_else(PoisonError::into_inner);
        bans.iter()
            .map(|(banned, at)| (banned.clone(), *at))
            .collect()
    }

    /// Whether a token is refused.
    pub fn refuses(&self, token: Presented<'_>) -> bool {
        if self.version() == 0 {
            return false;
        }
        let bans = self.bans.read().unwrap_or_else(PoisonError::into_inner);
        let session = token.session.map(|session| Banned::Session(session.into()));
        if session.is_some_and(|session| bans.contains_key(&session)) {
            return true;
        }
        let user = bans.get(&Banned::User(token.subject.into()));
        user.is_some_and(|at| token.issued_at.is_none_or(|issued| issued <= *at))
    }
}

impl std::fmt::Debug for Bans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bans").finish_non_exhaustive()
    }
}

const MOST: usize = 100_000;
/// Seconds: longer than any token should live.
pub const KEPT: u64 = 30 * 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_tokens_of_a_user_and_all_of_a_session_are_refused() {
        let bans = Bans::new();
        let token = |subject, session, issued_at| {
            bans.refuses(Presented {
                subject,
                session,
                issued_at,
            })
        };
        assert!(!token("u", Some("s"), Some(100)));
        assert!(bans.add(&Banned::User("u".into()), 100));
        assert!(bans.add(&Banned::Session("s".into()), 100));
        for (subject, session, issued_at, refused) in [
            ("u", None, Some(100), true),
            ("u", None, None, true),
            ("u", None, Some(101), false),
            ("u", Some("s"), Some(101), true),
            ("v", Some("s"), Some(500), true),
            ("v", Some("t"), Some(50), false),
            ("s", Some("u"), Some(50), false),
        ] {
            assert_eq!(
                token(subject, session, issued_at),
                refused,
                "{subject} {session:?}"
            );
        }
        assert_eq!(bans.version(), 2);
    }

    #[test]
    fn what_is_new_is_told_with_who_said_so() {
        let bans = Bans::new();
        let told = Arc::new(RwLock::new(Vec::new()));
        let ears = Arc::clone(&told);
        bans.subscribe(move |banned, at, origin| {
            ears.write().unwrap().push((banned.clone(), at, origin));
        });
        let user = Banned::User("u".into());
        assert!(bans.hear(&user, 50, 100));
        assert!(bans.add(&user, 100));
        // Again in the same second, for those who did not hear.
        assert!(bans.add(&user, 100));
        let version = bans.version();
        assert!(bans.hear(&user, 60, 100), "an earlier time changes nothing");
        assert_eq!(bans.version(), version);
        let here = (user.clone(), 100, Origin::Here);
        let expected = [(user.clone(), 50, Origin::Elsewhere), here.clone(), here];
        assert_eq!(*told.read().unwrap(), expected);
        assert_eq!(bans.all(), [(user, 100)]);
    }
}
