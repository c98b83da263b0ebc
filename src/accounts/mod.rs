//! Users, sessions and tokens: the core under the log-in APIs. `log_in.rs` is how somebody gets in, `renew.rs` how
//! they stay, `sessions.rs`, `users.rs` and `codes.rs` what they do with what is theirs, `admin.rs` and `links.rs` what an operator
//! does with users; `names.rs`, `passwords.rs`, `hashes.rs`, `profile.rs` and `refresh.rs` are the pure rules. What ends something writes
//! it to the store first, then tells `state`, and only then answers. Knows no HTTP and no streams.

pub mod admin;
mod attempts;
pub mod codes;
mod error;
pub mod hashes;
mod hashing;
pub mod keys;
pub mod links;
pub mod log_in;
mod mail;
pub mod names;
pub mod notes;
pub mod passwords;
mod profile;
mod refresh;
mod renew;
pub mod sessions;
mod tally;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tokens;
mod upkeep;
pub mod users;

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;

use self::attempts::{Attempts, TooMany};
pub use self::error::AccountError;
use self::hashes::HashFailed;
use self::hashing::Hashing;
use self::mail::Courier;
use self::notes::{Notes, Others};
use self::passwords::Weakness;
use self::tally::Tally;
use crate::clock::Clock;
use crate::config;
use crate::identity::Identity;
use crate::identity::keyring::Keyring;
use crate::identity::sightings::{Minted, Sighting, Sightings};
use crate::identity::vault::Vault;
use crate::observe::access::Sink;
use crate::observe::event::Event;
use crate::observe::metrics::{Metrics, Registration};
use crate::records::{Api, Client, Session, SessionId, UnixMillis, User, UserId};
use crate::secret::Secret;
use crate::state::{Ended, Revocations};
use crate::store::{Store, StoreError};

/// The core. Shared by all workers; everything may be awaited on a worker: nothing blocks.
pub struct Accounts {
    me: Weak<Self>,
    store: Arc<dyn Store>,
    notes: Notes,
    keyring: Arc<Keyring>,
    revocations: Arc<Revocations>,
    sightings: Arc<Sightings>,
    vault: Arc<Vault>,
    clock: Clock,
    settings: ArcSwap<Settings>,
    hashing: Hashing,
    attempts: Attempts,
    /// What unknown users' passwords are held against.
    decoy: ArcSwap<Secret<String>>,
    courier: Courier,
    tally: Tally,
    _shown: Registration,
}

/// What the core stands on.
#[expect(missing_docs, reason = "the names say it")]
pub struct Parts {
    pub store: Arc<dyn Store>,
    /// Who else may run over it.
    pub others: Others,
    pub keyring: Arc<Keyring>,
    pub revocations: Arc<Revocations>,
    /// Who hears of tokens that are renewed.
    pub sightings: Arc<Sightings>,
    pub vault: Arc<Vault>,
    pub clock: Clock,
    pub metrics: Metrics,
    /// Where audit lines go, with the switches of the config.
    pub sink: Sink,
}

/// What a reload changes.
struct Settings {
    config: config::Accounts,
    sink: Sink,
}

/// Why the core cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system gives no threads.
    #[error("no threads to hash passwords and to mail on: {0}")]
    Threads(#[from] io::Error),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no randomness, or the config asks for hashes that cannot be made.
    #[error(
        "{0}: the system gives no randomness (getrandom, /dev/urandom), or [accounts.password] asks for too much"
    )]
    Hashes(#[from] HashFailed),
    /// The first admin or the first key could not be made.
    #[error("{0}{hint}", hint = hint(.0))]
    Account(#[from] AccountError),
}

/// Who does something with what is its own: made of a verified token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Who {
    pub user: UserId,
    pub session: SessionId,
    /// The number of the opaque token in hand; `None` for an access token.
    pub token: Option<i64>,
}

/// Somebody who has just got in, or goes on.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SignedIn {
    pub user: User,
    pub session: Session,
    pub access_token: Secret<String>,
    /// Seconds.
    pub expires_in: u64,
    /// Unix seconds; `exp` of the access token.
    pub expires_at: u64,
    /// Where the API has refresh tokens.
    pub refresh_token: Option<Secret<String>>,
    /// What a password that was right lacks by now.
    pub weaknesses: Vec<Weakness>,
}

impl Accounts {
    /// Opens the core over a store whose keys are in the keyring.
    ///
    /// # Errors
    /// When there are no threads, or the first admin cannot be made.
    pub async fn open(config: &config::Accounts, parts: Parts) -> Result<Arc<Self>, OpenError> {
        let hashing = Hashing::start(&config.password)?;
        let decoy = hashes::decoy(&config.password)?;
        let (courier, errands) = Courier::new();
        let accounts = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            tally: Tally::new(&parts.metrics),
            courier,
            _shown: hashing.show(&parts.metrics),
            notes: Notes::new(Arc::clone(&parts.store), parts.others),
            store: parts.store,
            keyring: parts.keyring,
            revocations: parts.revocations,
            sightings: parts.sightings,
            vault: parts.vault,
            clock: parts.clock,
            settings: ArcSwap::from_pointee(Settings {
                config: config.clone(),
                sink: parts.sink,
            }),
            hashing,
            attempts: Attempts::new(&config.attempts),
            decoy: ArcSwap::from_pointee(decoy),
        });
        Courier::start(Arc::downgrade(&accounts), errands)?;
        if let Some(admin) = &config.admin {
            accounts.make_first_admin(admin).await?;
        }
        Ok(accounts)
    }

    /// Other settings from now on. The secret and the signing algorithm stay.
    ///
    /// # Errors
    /// When there are not enough threads.
    pub async fn configure(&self, config: &config::Accounts, sink: Sink) -> Result<(), OpenError> {
        let rehash = self.settings().config.password != config.password;
        self.hashing.configure(&config.password)?;
        self.attempts.configure(&config.attempts);
        self.settings.store(Arc::new(Settings {
            config: config.clone(),
            sink,
        }));
        if rehash {
            let decoy = hashes::decoy(&config.password)?;
            self.decoy.store(Arc::new(decoy));
        }
        Ok(())
    }

    /// The keys that verify access tokens, as a JWKS document (RFC 7517 §5).
    pub fn public_keys(&self) -> bytes::Bytes {
        self.keyring.document()
    }

    /// The store, for what asks it without a rule.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Now, by the clock of the core.
    pub fn now(&self) -> UnixMillis {
        let since = self.clock.since_epoch().as_millis();
        UnixMillis::try_from(since).unwrap_or(UnixMillis::MAX)
    }

    /// Does something to its end, also where whoever asked for it leaves meanwhile: what the store has recorded as
    /// ended must be told to `state` too, or remembered tokens and live streams would outlive it.
    async fn finish<T, F>(&self, work: impl FnOnce(Arc<Self>) -> F) -> Result<T, AccountError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, AccountError>> + Send + 'static,
    {
        let me = self.me.upgrade().ok_or(AccountError::Failed)?;
        let done = tokio::spawn(work(me)).await;
        done.unwrap_or(Err(AccountError::Failed))
    }

    /// From here on nothing that is remembered of it counts, here and elsewhere. The store has it already.
    async fn ended(&self, ended: Ended) {
        self.revocations.end(ended);
        self.notes.note(ended, self.now()).await;
    }

    /// Notes for other gateways what could not be noted when it ended.
    pub async fn note_again(&self) {
        self.notes.note_again().await;
    }

    /// The session goes on with a new token, and with it what lives by the session.
    fn renewed(&self, signed_in: &SignedIn) {
        self.sightings.tell(Sighting::Minted(Minted {
            user: signed_in.user.id,
            session: signed_in.session.id,
            token: signed_in.access_token.expose(),
        }));
    }

    /// Writes an audit line.
    fn tell(&self, what: &Told<'_>) {
        let user = what.user.map(|id| id.to_string());
        let session = what.session.map(|id| id.to_string());
        self.settings.load().sink.event(&Event {
            name: what.name,
            result: what.result,
            api: what.api.map(Api::word),
            user_id: user.as_deref(),
            session_id: session.as_deref(),
            by: what.by,
            client: what.client.and_then(|client| client.address),
            request_id: what.client.and_then(|client| client.request_id.as_deref()),
            ..Event::default()
        });
    }
}

impl Who {
    /// Whose an identity is; `None` for one of another issuer, whatever its claims say.
    pub fn of(identity: &Identity) -> Option<Self> {
        let standing = identity.standing.as_ref()?;
        Some(Self {
            user: standing.user,
            session: standing.session,
            token: standing.token,
        })
    }
}

/// What an audit line tells.
#[derive(Clone, Copy, Default)]
struct Told<'a> {
    name: &'static str,
    result: &'static str,
    api: Option<Api>,
    user: Option<UserId>,
    session: Option<SessionId>,
    by: Option<&'static str>,
    client: Option<&'a Client>,
}

impl From<TooMany> for AccountError {
    fn from(TooMany { retry_after }: TooMany) -> Self {
        Self::TooMany {
            retry_after: retry_after.max(Duration::from_secs(1)),
        }
    }
}

/// What to do about a core that was not opened, where the log alone has the cause.
fn hint(error: &AccountError) -> &'static str {
    match error {
        AccountError::Failed => {
            ": the log has the cause; without /proc and /dev (a bare chroot, an empty container) the system may give \
             no randomness and no threads: mount them"
        }
        _ => "",
    }
}
