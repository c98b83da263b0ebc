//! Who calls: tokens verified against issuers. `verifier.rs` tells the journey; `json.rs`, `jwt.rs`, `key.rs`,
//! `keyset.rs` and `validity.rs` read and judge one token (pure), `issuer.rs` and `jwks*.rs` hold the keys,
//! `claims.rs` makes an identity of claims, `cache.rs` remembers verified tokens and refused ones (`refused.rs`; a worker no more than `sets.rs` holds), `mint.rs` signs for tests
//! and tools; `keyring.rs` holds the gateway's own keys (`signing_key.rs`), `vault.rs` seals them, `access_token.rs` says what
//! its own tokens say, `bans.rs` keeps what an operator refused of any, `sessions.rs` whether they count still, `sightings.rs` tells of new ones, `assertion.rs` signs for upstreams. Decides nothing about what a caller may do.

pub mod access_token;
pub mod assertion;
pub mod bans;
pub mod cache;
pub mod claims;
pub mod issuer;
pub mod json;
pub mod jwks;
mod jwks_copy;
pub mod jwks_fetch;
pub mod jwt;
pub mod key;
pub mod keyring;
pub mod keyset;
pub mod mint;
mod refused;
pub mod sessions;
mod sets;
pub mod sightings;
pub mod signing_key;
#[cfg(test)]
pub(crate) mod testing;
pub mod validity;
pub mod vault;
pub mod verifier;

use std::any::Any;
use std::fmt;
use std::hint::black_box;
use std::sync::{Arc, OnceLock};

use self::assertion::Assertions;
use self::cache::Proof;
use self::claims::Claims;
use self::sessions::LastUse;
use crate::clock::UnixSeconds;
use crate::http1::lines::Lines;
use crate::refusal::Refusal;
use crate::request::credential::Credential;
use crate::secret::Secret;
use crate::state::Standing;
use crate::state::bans::Presented;

/// A verified caller: built once per token and shared by every request that carries it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The issuer's name in the config.
    pub issuer: Arc<str>,
    /// The issuer's own name for itself.
    pub iss: Arc<str>,
    /// The issuer's index in the config that verified it.
    pub issuer_index: usize,
    /// `sub`.
    pub user_id: Box<str>,
    /// `email`, where there is one.
    pub email: Option<Box<str>>,
    /// `session_id`, where there is one.
    pub session_id: Option<Box<str>>,
    /// Every role that the issuer's role claims name.
    pub roles: Vec<Box<str>>,
    /// `is_anonymous`.
    pub anonymous: bool,
    /// `iat`, where there is one.
    pub issued_at: Option<UnixSeconds>,
    /// When it ends: `exp` plus the leeway. Also the deadline of its streams.
    pub ends_at: UnixSeconds,
    /// How long what verified it counts; `None` where that is kept nowhere.
    pub proof: Option<Proof>,
    /// All the claims.
    pub claims: Claims,
    /// The identity headers for the upstream, rendered and encoded.
    pub headers: Lines,
    /// The token itself, so that a reload can judge it again. Empty for an identity made by a `[[test]]`.
    pub token: Secret<Arc<str>>,
    /// What was signed about it for upstreams.
    pub assertions: Assertions,
    /// Whose session it is, where it is one of the gateway's own.
    pub standing: Option<Standing>,
    /// When its session was last noted as used.
    pub last_use: LastUse,
    /// What a later rung keeps with it.
    pub remembered: Remembered,
}

/// What a later rung found out about a caller, so that it need not find it again for each request. As old as the
/// identity: no configuration sees what another one left here.
#[derive(Clone, Debug, Default)]
pub struct Remembered(OnceLock<Keepsakes>);

#[derive(Clone, Debug)]
struct Keepsakes {
    first: Arc<dyn Keepsake>,
    beyond: Option<Arc<dyn Keepsake>>,
}

/// What may be kept with a caller.
pub trait Keepsake: Any + fmt::Debug + Send + Sync {
    /// Reads of whatever a request reads of it, so that memory brings that early.
    fn ahead(&self) -> u8;

    /// What it leads to and each request reads too: asked for in the same moment.
    fn beyond(&self) -> Option<Arc<dyn Keepsake>> {
        None
    }
}

impl Remembered {
    /// What is kept, made now where there is nothing; `None` where it is of another type.
    pub fn get_or_init<T: Keepsake>(&self, make: impl FnOnce() -> Arc<T>) -> Option<&T> {
        let kept = self.0.get_or_init(|| {
            let first = make();
            Keepsakes {
                beyond: first.beyond(),
                first,
            }
        });
        (&*kept.first as &dyn Any).downcast_ref()
    }

    /// Reads of what is kept.
    fn ahead(&self) -> u8 {
        let ahead = |kept: &Keepsakes| {
            let beyond = kept.beyond.as_ref().map_or(0, |beyond| beyond.ahead());
            kept.first.ahead() ^ beyond
        };
        self.0.get().map_or(0, ahead)
    }
}

/// How many bytes memory gives at a time.
const LINE: usize = 64;

impl Identity {
    /// Reads a byte of each line that a request reads of an identity. None of these waits for another, so that memory
    /// brings them side by side: half a microsecond of a request where 100,000 tokens are known.
    fn ahead(&self) {
        let parts = [self.token.expose().as_bytes(), self.headers.as_bytes()];
        let texts = parts.into_iter().flat_map(|part| part.iter().step_by(LINE));
        black_box(texts.fold(self.remembered.ahead(), |all, byte| all ^ byte));
    }

    /// The number of the opaque session token that it came by; `None` for an access token, and for other issuers'.
    pub fn token_number(&self) -> Option<i64> {
        self.standing.as_ref()?.token
    }

    /// What bans know its token by.
    pub fn presented(&self) -> Presented<'_> {
        Presented {
            subject: &self.user_id,
            session: self.session_id.as_deref(),
            issued_at: self.issued_at,
        }
    }
}

/// What we made of a request's credential.
#[derive(Clone, Debug)]
pub enum Caller {
    /// No credential.
    Guest,
    /// A verified one.
    Known(Arc<Identity>),
    /// A bad one, and why. Never treated as absent.
    Unverified(Refusal, Credential),
}
