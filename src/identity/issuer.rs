//! Issuers as they are compiled from the configuration, each with its keys. An issuer's algorithms come
//! from the configuration and its keys; a token has no say.

use std::sync::Arc;

use http::HeaderName;
use jsonwebtoken::Algorithm;

use crate::config::{self, ClaimPath, IdentityHeaders};
use crate::identity::jwks::{Jwks, JwksSources, Refetch};
use crate::identity::jwt::Jws;
use crate::identity::key::{self, Key, KeyError};
use crate::identity::keyset::{KeySet, KeySetError};
use crate::identity::sessions::OwnSessions;
use crate::lasting;
use crate::refusal::Refusal;

/// An issuer, ready to verify.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "documented in config/portcullis.toml, but for the keys"
)]
pub struct Issuer {
    pub index: usize,
    pub name: Arc<str>,
    pub iss: Arc<str>,
    pub audience: Vec<Box<str>>,
    pub algorithms: Vec<Algorithm>,
    pub keys: KeySource,
    pub roles: Vec<ClaimPath>,
    /// The identity headers and their claims, the same for all issuers.
    pub headers: Arc<[(HeaderName, ClaimPath)]>,
}

/// Where an issuer's keys come from.
#[derive(Debug)]
pub enum KeySource {
    /// One key that needs no name: a shared secret or a public key.
    Single(Key),
    /// A set that was read from a file.
    Set(KeySet),
    /// A set that is fetched.
    Jwks(Arc<Jwks>),
    /// The gateway's own; `None` where the store is not opened (`check`, `explain`).
    Own(Option<Arc<OwnSessions>>),
}

/// Where the keys are that no configuration holds.
#[derive(Clone, Copy, Debug)]
pub struct KeySources<'s> {
    /// Those that are fetched.
    pub jwks: &'s JwksSources,
    /// The gateway's own; `None`: they are not opened.
    pub own: Option<&'s Arc<OwnSessions>>,
}

/// Why an issuer's keys cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("issuer {issuer:?}: {reason}")]
pub struct BuildError {
    /// The issuer's name.
    pub issuer: Box<str>,
    /// What is wrong with its keys.
    pub reason: BuildReason,
}

/// What is wrong with an issuer's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum BuildReason {
    #[error("{0}")]
    Key(#[from] KeyError),
    #[error("{0}")]
    KeySet(#[from] KeySetError),
    #[error("none of its algorithms fits its keys")]
    AlgorithmMismatch,
    #[error("the cryptographic library does not work")]
    Cryptography,
}

/// Why keys did not verify a signature, and whether newer keys might.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFault {
    /// What the client is told.
    pub refusal: Refusal,
    /// The fetch that might help.
    pub refetch: Option<Refetch>,
}

impl Issuer {
    /// Compiles every issuer of a configuration.
    pub fn build_all(
        issuers: &[config::Issuer],
        identity: &IdentityHeaders,
        sources: KeySources<'_>,
    ) -> Result<Vec<Self>, BuildError> {
        let lasting = |(name, path): &(_, ClaimPath)| (lasting::name(name), path.clone());
        let headers: Arc<[_]> = identity.headers.iter().map(lasting).collect();
        issuers
            .iter()
            .enumerate()
            .map(|(index, issuer)| {
                let keys = build_keys(issuer, sources).map_err(|reason| BuildError {
                    issuer: issuer.name.clone(),
                    reason,
                })?;
                Ok(Self {
                    index,
                    name: (*issuer.name).into(),
                    iss: (*issuer.iss).into(),
                    audience: issuer.audience.clone(),
                    algorithms: issuer.algorithms.clone(),
                    keys,
                    roles: issuer.roles.clone(),
                    headers: headers.clone(),
                })
            })
            .collect()
    }

    /// Holds the token's algorithm against the issuer's list, before any key is looked at.
    pub fn check_algorithm(&self, jws: &Jws<'_>) -> Result<(), Refusal> {
        match self.algorithms.contains(&jws.header.algorithm) {
            true => Ok(()),
            false => Err(Refusal::AlgorithmRefused),
        }
    }

    /// Verifies the signature. Only keys that change can ask for newer ones: where the key id is unknown, or
    /// where a known one failed and may have got new key material.
    pub fn verify(&self, jws: &Jws<'_>) -> Result<(), KeyFault> {
        let fail = |refusal| KeyFault {
            refusal,
            refetch: None,
        };
        let jwks = match &self.keys {
            KeySource::Single(key) => return jws.verify(key).map_err(fail),
            KeySource::Set(set) => return set.verify(jws).map_err(fail),
            KeySource::Jwks(jwks) => jwks,
            KeySource::Own(None) => return Err(fail(Refusal::KeysUnavailable)),
            KeySource::Own(Some(own)) => return verify_own(own, jws),
        };
        let loaded = jwks.current().ok_or(fail(Refusal::KeysUnavailable))?;
        loaded.set.verify(jws).map_err(|refusal| KeyFault {
            refusal,
            refetch: match refusal {
                Refusal::KeyUnknown => Some(Refetch::UnknownKey),
                Refusal::TokenSignatureInvalid => Some(Refetch::FailedKey),
                _ => None,
            },
        })
    }

    /// Changes whenever the keys do; what was verified under another generation is verified again.
    pub fn generation(&self) -> u64 {
        match &self.keys {
            KeySource::Jwks(jwks) => jwks.generation(),
            KeySource::Own(Some(own)) => own.keyring().generation(),
            KeySource::Single(_) | KeySource::Set(_) | KeySource::Own(None) => 0,
        }
    }
}

/// A key that was made a moment ago, by another gateway on the same store, may not be known here yet.
fn verify_own(own: &OwnSessions, jws: &Jws<'_>) -> Result<(), KeyFault> {
    own.keyring().verify(jws).map_err(|refusal| KeyFault {
        refusal,
        refetch: (refusal == Refusal::KeyUnknown).then_some(Refetch::UnknownKey),
    })
}

fn build_keys(issuer: &config::Issuer, sources: KeySources<'_>) -> Result<KeySource, BuildReason> {
    if !key::self_check() {
        return Err(BuildReason::Cryptography);
    }
    let single = |key: Key| match issuer.algorithms.iter().any(|alg| key.permits(*alg)) {
        true => Ok(KeySource::Single(key)),
        false => Err(BuildReason::AlgorithmMismatch),
    };
    match &issuer.keys {
        config::KeySource::Secret(secret) => single(Key::secret(secret.expose())?),
        config::KeySource::PublicKey(pem) => single(Key::pem(pem)?),
        config::KeySource::JwksFile(text) => {
            let set = KeySet::parse(text.as_bytes())?;
            match set.permits_any(&issuer.algorithms) {
                true => Ok(KeySource::Set(set)),
                false => Err(BuildReason::AlgorithmMismatch),
            }
        }
        config::KeySource::Own => Ok(KeySource::Own(sources.own.cloned())),
        config::KeySource::JwksUrl(settings) => Ok(KeySource::Jwks(sources.jwks.find(settings))),
    }
}
