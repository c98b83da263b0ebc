//! The gateway's own keys: those of its store, which sign access tokens, or the one of `[assertion]`. The newest whose
//! time has come signs; all verify until their end, and the public part of each is in the JWKS document, some
//! time before it signs. Read again every few seconds, so that a key made elsewhere is known here in time.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use jsonwebtoken::Algorithm;
use serde::Serialize;
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::identity::jwt::Jws;
use crate::identity::signing_key::Jwk;
pub use crate::identity::signing_key::{KeyringError, NewKey, SigningKey};
use crate::identity::vault::{Purpose, Vault};
use crate::records::{KeyRecord, UnixMillis};
use crate::refusal::Refusal;
use crate::store::{Store, StoreError};

/// Keys that the gateway signs with, and what it verifies its own tokens with.
pub struct Keyring {
    origin: Option<Origin>,
    current: ArcSwap<Keys>,
    generation: AtomicU64,
    /// How many readings of the store have begun, and ended.
    begun: AtomicU64,
    ended: AtomicU64,
    /// One reading at a time, and when a token last asked for one.
    reading: Mutex<Option<Instant>>,
}

/// Where keys come from that change.
struct Origin {
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
    clock: Clock,
}

/// The keys of a time, the newest first.
struct Keys {
    held: Vec<Arc<Held>>,
    document: Bytes,
    unusable: HashSet<Box<str>>,
}

/// A key and its times.
struct Held {
    key: SigningKey,
    created_at: UnixMillis,
    signs_from: UnixMillis,
    verifies_until: Option<UnixMillis>,
}

/// Why keys could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are keys, and none of them can be used.
    #[error("none of the store's keys opens with the secret of [accounts]: is it another one's?")]
    Sealed,
}

impl Keyring {
    /// A keyring that signs with `signing` for ever. `older` keys are published only.
    pub fn new(signing: SigningKey, older: Vec<SigningKey>) -> Self {
        let held = |key, signs_from| {
            Arc::new(Held {
                key,
                created_at: 0,
                signs_from,
                verifies_until: None,
            })
        };
        let all = std::iter::once(signing).chain(older);
        // The first is the newest.
        let keys = all.zip(0..).map(|(key, age)| held(key, -age)).collect();
        Self::of(None, Keys::new(keys, HashSet::new(), 0))
    }

    /// A keyring without keys, which signs and verifies nothing: where the store is not to be opened.
    pub fn closed() -> Self {
        Self::of(None, Keys::none())
    }

    /// The keys of a store, whose private parts `vault` opens. There may be none yet.
    ///
    /// # Errors
    /// When the store cannot be read, or has keys of which none can be used.
    pub async fn open(
        store: Arc<dyn Store>,
        vault: Arc<Vault>,
        clock: Clock,
    ) -> Result<Arc<Self>, ReadError> {
        let origin = Origin {
            store,
            vault,
            clock,
        };
        let keyring = Arc::new(Self::of(Some(origin), Keys::none()));
        keyring.refresh().await?;
        Ok(keyring)
    }

    fn of(origin: Option<Origin>, keys: Keys) -> Self {
        Self {
            origin,
            current: ArcSwap::from_pointee(keys),
            generation: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            reading: Mutex::default(),
        }
    }

    /// The public keys as a JWKS document (RFC 7517 §5); shared secrets are not in it.
    pub fn document(&self) -> Bytes {
        self.current.load().document.clone()
    }

    /// Whether there is a key.
    pub fn has_keys(&self) -> bool {
        !self.current.load().held.is_empty()
    }

    /// Changes when a key ends; what was verified under another generation is verified again.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// A compact JWS over `claims`. `typ` says what it is, so that nobody takes one kind of token for
    /// another (RFC 8725 §3.11).
    ///
    /// # Errors
    /// When there is no key, the claims are no JSON, or the library fails.
    pub fn sign(&self, typ: &'static str, claims: &impl Serialize) -> Result<String, KeyringError> {
        let keys = self.current.load();
        let held = keys.signing(self.now()).ok_or(KeyringError::NoKey)?;
        held.key.sign(typ, claims)
    }

    /// Verifies a signature with the key that the token names, or, where it names none, with the few that fit.
    ///
    /// # Errors
    /// `KeysUnavailable` where there is no key at all, `KeyUnknown` where newer keys might help.
    pub fn verify(&self, jws: &Jws<'_>) -> Result<(), Refusal> {
        let keys = self.current.load();
        if keys.held.is_empty() {
            return Err(Refusal::KeysUnavailable);
        }
        let now = self.now();
        let mut good = keys.held.iter().filter(|held| held.verifies(now));
        match jws.header.kid.as_deref() {
            Some(kid) => {
                let named = good.find(|held| held.key.kid() == kid);
                jws.verify(named.ok_or(Refusal::KeyUnknown)?.key.verifying())
            }
            None => {
                let fits = |held: &&Arc<Held>| held.key.verifying().permits(jws.header.algorithm);
                let fitting: Vec<_> = good.filter(fits).take(MAX_TRIES).collect();
                let verifies = |held: &&Arc<Held>| jws.verify(held.key.verifying()).is_ok();
                match fitting.iter().find(|held| verifies(held)) {
                    Some(_) => Ok(()),
                    None if fitting.is_empty() => Err(Refusal::KeyUnknown),
                    None => Err(Refusal::TokenSignatureInvalid),
                }
            }
        }
    }

    /// Reads the store's keys again. The keys in hand stay where that fails.
    ///
    /// # Errors
    /// When the store does not answer, or none of its keys can be used.
    pub async fn refresh(&self) -> Result<(), ReadError> {
        let Some(origin) = &self.origin else {
            return Ok(());
        };
        let _turn = self.reading.lock().await;
        self.read_once(origin).await
    }

    /// Waits for keys that are newer than this call, because a token names one that is not known: one reading for
    /// all who ask at once, and not more than one a second. `false`: nothing newer is to be had now.
    pub async fn reload(&self) -> bool {
        let Some(origin) = &self.origin else {
            return false;
        };
        let seen = self.begun.load(Ordering::Acquire);
        let flying = seen > self.ended.load(Ordering::Acquire);
        let mut asked = self.reading.lock().await;
        if self.begun.load(Ordering::Acquire) != seen {
            // It began after this call, and has ended.
            return true;
        }
        if asked.is_some_and(|last| last.elapsed() < RELOAD_INTERVAL) {
            // What was under way may well have brought it.
            return flying;
        }
        *asked = Some(Instant::now());
        self.read_once(origin).await.is_ok()
    }

    async fn read_once(&self, origin: &Origin) -> Result<(), ReadError> {
        self.begun.fetch_add(1, Ordering::AcqRel);
        let read = self.read(origin).await;
        self.ended
            .store(self.begun.load(Ordering::Acquire), Ordering::Release);
        read
    }

    async fn read(&self, origin: &Origin) -> Result<(), ReadError> {
        let records = origin.store.keys().await?;
        let before = self.current.load_full();
        let now = self.now();
        let mut unusable = HashSet::new();
        let mut held = Vec::with_capacity(records.len());
        for record in &records {
            match before.known(record).map_or_else(|| origin.held(record), Ok) {
                Ok(key) => held.push(key),
                Err(()) => drop(unusable.insert(record.kid.clone())),
            }
        }
        for kid in unusable.difference(&before.unusable) {
            tracing::error!(%kid, "a key of the store cannot be used: it was sealed with another secret, or is damaged");
        }
        if held.is_empty() && !records.is_empty() {
            return Err(ReadError::Sealed);
        }
        let keys = Keys::new(held, unusable, now);
        let ended = before.held.iter().any(|held| !keys.has(held.key.kid()));
        self.current.store(Arc::new(keys));
        if ended {
            // After the store: who sees the new generation sees the new keys.
            self.generation.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    fn now(&self) -> UnixMillis {
        self.origin
            .as_ref()
            .map_or(0, |origin| millis(&origin.clock))
    }
}

impl Origin {
    fn held(&self, record: &KeyRecord) -> Result<Arc<Held>, ()> {
        let opened = self
            .vault
            .open(Purpose::SigningKeys, &record.kid, &record.sealed)
            .map_err(drop)?;
        let algorithm = Algorithm::from_str(&record.algorithm).map_err(drop)?;
        let key = SigningKey::stored(algorithm, opened.expose(), &record.kid).map_err(drop)?;
        Ok(Arc::new(Held::of(key, record)))
    }
}

impl Keys {
    fn new(mut held: Vec<Arc<Held>>, unusable: HashSet<Box<str>>, now: UnixMillis) -> Self {
        held.retain(|held| held.verifies(now));
        held.sort_by(|one, other| other.age().cmp(&one.age()));
        let keys = held.iter().filter_map(|held| held.key.public()).collect();
        Self {
            document: Document { keys }.written(),
            held,
            unusable,
        }
    }

    fn none() -> Self {
        Self::new(Vec::new(), HashSet::new(), 0)
    }

    /// The newest whose time has come. Where a clock goes wrong and no time has come, the first that will.
    fn signing(&self, now: UnixMillis) -> Option<&Arc<Held>> {
        let mut good = self.held.iter().filter(|held| held.verifies(now));
        let begun = good.clone().find(|held| held.signs_from <= now);
        begun.or_else(|| good.next_back())
    }

    fn has(&self, kid: &str) -> bool {
        self.held.iter().any(|held| held.key.kid() == kid)
    }

    /// The same key, parsed already, where nothing about it has changed.
    fn known(&self, record: &KeyRecord) -> Option<Arc<Held>> {
        let same = |held: &&Arc<Held>| {
            *held.key.kid() == *record.kid
                && held.age() == (record.signs_from, record.created_at, &*record.kid)
                && held.verifies_until == record.verifies_until
        };
        self.held.iter().find(same).cloned()
    }
}

impl Held {
    fn of(key: SigningKey, record: &KeyRecord) -> Self {
        Self {
            key,
            created_at: record.created_at,
            signs_from: record.signs_from,
            verifies_until: record.verifies_until,
        }
    }

    fn verifies(&self, now: UnixMillis) -> bool {
        self.verifies_until.is_none_or(|until| now < until)
    }

    /// Orders keys: the one that signs from later on is the newer one.
    fn age(&self) -> (UnixMillis, UnixMillis, &str) {
        (self.signs_from, self.created_at, self.key.kid())
    }
}

/// The public keys of several keyrings as one document, each key once.
pub fn document_of(keyrings: &[Arc<Keyring>]) -> Bytes {
    if let [one] = keyrings {
        return one.document();
    }
    let loaded: Vec<_> = keyrings
        .iter()
        .map(|keyring| keyring.current.load_full())
        .collect();
    let mut names = HashSet::new();
    let held = loaded.iter().flat_map(|keys| &keys.held);
    let keys = held
        .filter(|held| names.insert(held.key.kid()))
        .filter_map(|held| held.key.public())
        .collect();
    Document { keys }.written()
}

#[derive(Serialize)]
struct Document<'k> {
    keys: Vec<&'k Jwk>,
}

impl Document<'_> {
    /// Texts in a struct: writing them cannot fail, and an empty set would verify nothing.
    fn written(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.current.load();
        let names = keys.held.iter().map(|held| held.key.kid());
        f.debug_list().entries(names).finish()
    }
}

/// The time in milliseconds since the Unix epoch.
pub(crate) fn millis(clock: &Clock) -> UnixMillis {
    UnixMillis::try_from(clock.since_epoch().as_millis()).unwrap_or(UnixMillis::MAX)
}

/// Keys that are tried for a token that names none.
const MAX_TRIES: usize = 4;
/// Between two readings that tokens ask for: a flood of unknown names costs one each second.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
