//! A set of keys, from a JWKS document (RFC 7517 section 5): bad keys are skipped, the others still work;
//! shared secrets are never taken from a set; a key id that is there twice names no key.

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use crate::identity::json::parse_object;
use crate::identity::jwt::Jws;
use crate::identity::key::{Key, jwk_kid};
use crate::refusal::Refusal;

/// Keys to choose from by `kid`.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// Why a document is no key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum KeySetError {
    #[error("not a JWKS document")]
    Malformed,
    #[error("more than 100 keys")]
    TooMany,
    #[error("no usable key")]
    Empty,
}

/// The most keys that a document may hold.
pub const MAX_KEYS: usize = 100;

/// Keys that are tried for a token that names none.
const MAX_TRIES: usize = 4;

impl KeySet {
    /// Reads a JWKS document with at least one usable key.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        let members = parse_object(document).map_err(|_| KeySetError::Malformed)?;
        let Some(Value::Array(entries)) = members.get("keys") else {
            return Err(KeySetError::Malformed);
        };
        if entries.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let entries: Vec<&Map<String, Value>> =
            entries.iter().filter_map(Value::as_object).collect();
        let keys: Vec<Key> = entries
            .iter()
            .filter(|entry| !is_doubled(entry, &entries))
            .filter_map(|entry| Key::jwk(entry).ok())
            .filter(|key| !key.is_secret())
            .collect();
        if keys.is_empty() {
            return Err(KeySetError::Empty);
        }
        Ok(Self { keys })
    }

    /// How many usable keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never: a set has a key. For the lint that wants it beside `len`.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Verifies with the key that the token names, or, where it names none, with the few that fit.
    pub fn verify(&self, jws: &Jws<'_>) -> Result<(), Refusal> {
        match jws.header.kid.as_deref() {
            Some(kid) => jws.verify(self.find(kid).ok_or(Refusal::KeyUnknown)?),
            None => self.try_fitting(jws),
        }
    }

    fn find(&self, kid: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.kid() == Some(kid))
    }

    /// Bounded, so that a token without `kid` cannot buy a hundred signature checks.
    fn try_fitting(&self, jws: &Jws<'_>) -> Result<(), Refusal> {
        let fitting = self.fitting(jws.header.algorithm);
        if fitting.is_empty() || fitting.len() > MAX_TRIES {
            return Err(Refusal::KeyUnknown);
        }
        if fitting.iter().any(|key| jws.verify(key).is_ok()) {
            return Ok(());
        }
        Err(Refusal::TokenSignatureInvalid)
    }

    fn fitting(&self, algorithm: Algorithm) -> Vec<&Key> {
        let fits = |key: &&Key| key.permits(algorithm);
        self.keys.iter().filter(fits).take(MAX_TRIES + 1).collect()
    }
}

/// Whether another entry has this one's `kid`. Bad entries count too: which of the two was meant is not ours to guess.
fn is_doubled(entry: &Map<String, Value>, all: &[&Map<String, Value>]) -> bool {
    let Ok(Some(kid)) = jwk_kid(entry) else {
        return false;
    };
    let same = |other: &&&Map<String, Value>| jwk_kid(other) == Ok(Some(kid));
    all.iter().filter(same).count() > 1
}
