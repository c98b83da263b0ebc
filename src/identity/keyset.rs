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

    /// Whether some key is for some of these algorithms.
    pub fn permits_any(&self, algorithms: &[Algorithm]) -> bool {
        let keys = self.keys.iter();
        keys.flat_map(|key| algorithms.iter().map(|one| key.permits(*one)))
            .any(|permitted| permitted)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::testing::{TestKey, rsa_jwk};
    use serde_json::json;

    fn parse(keys: Value) -> Result<KeySet, KeySetError> {
        KeySet::parse(json!({"keys": keys}).to_string().as_bytes())
    }

    fn judge(set: &KeySet, key: &TestKey, kid: Option<&str>) -> Result<(), Refusal> {
        let token = key.mint(kid, &json!({"sub": "a"}));
        set.verify(&Jws::read(&token).unwrap())
    }

    #[test]
    fn a_bad_key_is_skipped_and_the_others_work() {
        let good = TestKey::es256();
        let mut off_curve = TestKey::es256().jwk("off");
        off_curve["x"] = json!("A".repeat(43));
        let mut encrypting = TestKey::es256().jwk("enc");
        encrypting["use"] = json!("enc");
        let set = parse(json!([
            {"kty": "oct", "kid": "s", "k": "A".repeat(43)},
            {"kty": "unheard of"},
            "no object",
            off_curve,
            encrypting,
            good.jwk("good"),
        ]));
        let set = set.unwrap();
        assert_eq!(set.len(), 1);
        assert_eq!(judge(&set, &good, Some("good")), Ok(()));
        for kid in ["s", "off", "enc", "other", "GOOD"] {
            assert_eq!(judge(&set, &good, Some(kid)), Err(Refusal::KeyUnknown));
        }
    }

    #[test]
    fn a_doubled_kid_names_no_key() {
        let (one, two, other) = (TestKey::es256(), TestKey::es256(), TestKey::ed25519());
        let set = parse(json!([one.jwk("k"), two.jwk("k"), other.jwk("o")])).unwrap();
        assert_eq!(judge(&set, &one, Some("k")), Err(Refusal::KeyUnknown));
        assert_eq!(judge(&set, &two, Some("k")), Err(Refusal::KeyUnknown));
        assert_eq!(judge(&set, &other, Some("o")), Ok(()));
        let secret = json!({"kty": "oct", "kid": "k", "k": "A".repeat(43)});
        let set = parse(json!([one.jwk("k"), secret, other.jwk("o")])).unwrap();
        assert_eq!(judge(&set, &one, Some("k")), Err(Refusal::KeyUnknown));
    }

    #[test]
    fn a_kid_of_another_type_of_key_is_an_algorithm_refused() {
        let (es, ed) = (TestKey::es256(), TestKey::ed25519());
        let set = parse(json!([es.jwk("es"), ed.jwk("ed"), rsa_jwk("rsa")])).unwrap();
        for kid in ["ed", "rsa"] {
            assert_eq!(judge(&set, &es, Some(kid)), Err(Refusal::AlgorithmRefused));
        }
    }

    #[test]
    fn a_token_without_kid_is_tried_with_the_few_that_fit() {
        let keys: Vec<TestKey> = (0..5).map(|_| TestKey::es256()).collect();
        let jwks = |count: usize| {
            let named = keys.iter().take(count).enumerate();
            parse(named.map(|(at, key)| key.jwk(&at.to_string())).collect()).unwrap()
        };
        assert_eq!(judge(&jwks(4), &keys[3], None), Ok(()));
        assert_eq!(
            judge(&jwks(4), &keys[4], None),
            Err(Refusal::TokenSignatureInvalid)
        );
        assert_eq!(judge(&jwks(5), &keys[4], None), Err(Refusal::KeyUnknown));
        assert_eq!(
            judge(&jwks(4), &TestKey::ed25519(), None),
            Err(Refusal::KeyUnknown)
        );
    }

    #[test]
    fn what_is_no_key_set_is_refused() {
        for text in ["", "[]", "{}", "<html>", r#"{"keys":{}}"#, r#"{"keys":1}"#] {
            assert_eq!(
                KeySet::parse(text.as_bytes()).unwrap_err(),
                KeySetError::Malformed,
                "{text}"
            );
        }
        assert_eq!(parse(json!([])).unwrap_err(), KeySetError::Empty);
        let many = vec![TestKey::es256().jwk("k"); 101];
        assert_eq!(parse(json!(many)).unwrap_err(), KeySetError::TooMany);
    }
}
