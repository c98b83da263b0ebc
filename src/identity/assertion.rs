//! Assertions: short tokens that the gateway signs, so that an upstream can prove that a request came through
//! it and for whom. One for each identity and upstream is kept with the identity and used until half its time
//! is over; where it is bound to the request, each request gets its own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Serialize;

use crate::clock::{Clock, UnixSeconds};
use crate::config::{self, Bind};
use crate::identity::Identity;
use crate::identity::keyring::{Keyring, KeyringError};
use crate::observe::request_id::RequestId;

/// What every assertion of one configuration is made with.
#[derive(Clone)]
pub struct Seal {
    keyring: Arc<Keyring>,
    clock: Clock,
    settings: Arc<config::Assertion>,
    header: HeaderName,
}

/// Makes the assertions for one upstream.
pub struct Assertion {
    seal: Seal,
    audience: Arc<str>,
    /// Unique in the process: assertions of another configuration are never taken for this one's.
    id: u64,
}

/// The request that an assertion may be bound to.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'r> {
    /// The method that the upstream sees.
    pub method: &'r Method,
    /// The path that the upstream sees, without the query.
    pub path: &'r str,
}

impl Seal {
    /// Signs with `keyring`, as `settings` says, into the header of that name.
    pub fn new(
        keyring: Arc<Keyring>,
        clock: Clock,
        settings: &config::Assertion,
        header: &HeaderName,
    ) -> Self {
        Self {
            keyring,
            clock,
            settings: Arc::new(settings.clone()),
            header: header.clone(),
        }
    }

    /// The assertions for the upstream called `audience`.
    pub fn for_upstream(&self, audience: &Arc<str>) -> Assertion {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Assertion {
            seal: self.clone(),
            audience: Arc::clone(audience),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The public keys.
    pub fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }
}

impl Assertion {
    /// Puts the assertion about `identity` into the request's headers, in the place of any other.
    ///
    /// # Errors
    /// When it cannot be signed: then the request must not go on, since nothing would tell it from one that
    /// is a guest's.
    pub fn put(
        &self,
        headers: &mut HeaderMap,
        identity: &Identity,
        bound: Bound<'_>,
    ) -> Result<(), KeyringError> {
        let value = match self.seal.settings.bind {
            Bind::Request => self.make(identity, Some(bound))?.value,
            Bind::User => self.kept(identity)?,
        };
        headers.insert(self.seal.header.clone(), value);
        Ok(())
    }

    /// The one that the identity holds, while it is fresh.
    fn kept(&self, identity: &Identity) -> Result<HeaderValue, KeyringError> {
        let now = self.seal.clock.now();
        let held = identity.assertions.0.load();
        let known = held
            .iter()
            .flat_map(|known| known.iter())
            .find(|known| known.maker == self.id && known.holds(now));
        if let Some(known) = known {
            return Ok(known.value.clone());
        }
        let made = self.make(identity, None)?;
        let value = made.value.clone();
        // Two workers may sign at once; both tokens are good, and one of them is kept.
        let mut kept = vec![made];
        let others = held.iter().flat_map(|known| known.iter());
        kept.extend(
            others
                .filter(|it| it.maker != self.id && it.holds(now))
                .cloned(),
        );
        identity.assertions.0.store(Some(Arc::new(kept)));
        Ok(value)
    }

    fn make(&self, identity: &Identity, bound: Option<Bound<'_>>) -> Result<Held, KeyringError> {
        let now = self.seal.clock.now();
        // It never outlives what it speaks of.
        let exp = identity
            .ends_at
            .min(now.saturating_add(self.seal.settings.ttl));
        let id = bound.is_some().then(RequestId::mint);
        let claims = Claims {
            iss: &self.seal.settings.issuer,
            aud: &self.audience,
            sub: &identity.user_id,
            sid: identity.session_id.as_deref(),
            role: identity
                .claims
                .all()
                .get("role")
                .and_then(|role| role.as_str()),
            idp: &identity.issuer,
            iat: now,
            exp,
            jti: id.as_ref().map(RequestId::as_str),
            method: bound.map(|bound| bound.method.as_str()),
            path: bound.map(|bound| bound.path),
        };
        let token = self.seal.keyring.sign(TYPE, &claims)?;
        let mut value = HeaderValue::try_from(token).map_err(|_| KeyringError::Failed)?;
        value.set_sensitive(true);
        Ok(Held {
            maker: self.id,
            value,
            made: now,
            until: now + exp.saturating_sub(now) / 2,
        })
    }
}

/// What the token is, beside the tokens that callers bring (RFC 8725 §3.11).
const TYPE: &str = "assertion+jwt";

#[derive(Serialize)]
struct Claims<'c> {
    iss: &'c str,
    aud: &'c str,
    sub: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'c str>,
    /// The issuer's name in the configuration: `sub` is unique within it only.
    idp: &'c str,
    iat: UnixSeconds,
    exp: UnixSeconds,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'c str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'c str>,
}

/// The assertions that an identity holds: at most one for each upstream, gone with the identity.
#[derive(Default)]
pub struct Assertions(ArcSwapOption<Vec<Held>>);

#[derive(Clone)]
struct Held {
    maker: u64,
    value: HeaderValue,
    made: UnixSeconds,
    /// From when on a fresh one is made.
    until: UnixSeconds,
}

impl Held {
    /// A clock that was set back must not keep it for longer.
    fn holds(&self, now: UnixSeconds) -> bool {
        (self.made..self.until).contains(&now)
    }
}

/// A copy of an identity signs for itself.
impl Clone for Assertions {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Assertions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::identity::jwt;
    use crate::identity::keyring::SigningKey;
    use crate::identity::testing::{TestKey, claims_of, identity};
    use crate::secret::Secret;

    const NOW: UnixSeconds = 1_800_000_000;

    fn seal(bind: Bind) -> (Seal, Clock) {
        let key = TestKey::ed25519();
        let settings = config::Assertion {
            line: 0,
            key: Secret::new(key.private_pem().into()),
            algorithm: jsonwebtoken::Algorithm::EdDSA,
            key_id: None,
            issuer: "gate".into(),
            ttl: 60,
            bind,
            well_known: false,
        };
        let key = SigningKey::pem(settings.algorithm, settings.key.expose(), None).unwrap();
        let clock = Clock::manual(NOW);
        let header = HeaderName::from_static("x-a");
        let keyring = Arc::new(Keyring::new(key, Vec::new()));
        (Seal::new(keyring, clock.clone(), &settings, &header), clock)
    }

    fn put(assertion: &Assertion, identity: &Identity) -> String {
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("forged"));
        let bound = Bound {
            method: &Method::POST,
            path: "/a/b",
        };
        assertion.put(&mut headers, identity, bound).unwrap();
        assert_eq!(headers.get_all("x-a").iter().count(), 1);
        assert!(headers["x-a"].is_sensitive());
        headers["x-a"].to_str().unwrap().to_owned()
    }

    fn claims(token: &str) -> Value {
        let payload = jwt::decode(token.split('.').nth(1).unwrap()).unwrap();
        serde_json::from_slice(&payload).unwrap()
    }

    #[test]
    fn it_says_who_calls_and_for_whom_it_is_meant() {
        let (seal, _) = seal(Bind::User);
        let mut identity = identity("u1", NOW + 1000);
        identity.session_id = Some("s1".into());
        identity.claims = claims_of(json!({"role": "member"}));
        let token = put(&seal.for_upstream(&"app".into()), &identity);
        let expected = json!({
            "iss": "gate", "aud": "app", "sub": "u1", "sid": "s1", "role": "member", "idp": "one",
            "iat": NOW, "exp": NOW + 60,
        });
        assert_eq!(claims(&token), expected);
    }

    #[test]
    fn a_bound_one_names_the_request_and_is_never_the_same_twice() {
        let (seal, _) = seal(Bind::Request);
        let assertion = seal.for_upstream(&"app".into());
        let identity = identity("u1", NOW + 1000);
        let (one, other) = (put(&assertion, &identity), put(&assertion, &identity));
        assert_eq!(claims(&one)["method"], "POST");
        assert_eq!(claims(&one)["path"], "/a/b");
        assert_ne!(claims(&one)["jti"], claims(&other)["jti"]);
    }

    #[test]
    fn it_is_kept_for_half_its_time_and_by_upstream() {
        let (seal, clock) = seal(Bind::User);
        let (app, other) = (
            seal.for_upstream(&"app".into()),
            seal.for_upstream(&"b".into()),
        );
        let identity = identity("u1", NOW + 1000);
        let first = put(&app, &identity);
        assert_eq!(claims(&put(&other, &identity))["aud"], "b");
        clock.set(NOW + 29);
        assert_eq!(put(&app, &identity), first);
        clock.set(NOW + 30);
        let second = put(&app, &identity);
        assert_eq!(claims(&second)["iat"], NOW + 30);
        clock.set(NOW - 1000);
        assert_eq!(claims(&put(&app, &identity))["iat"], NOW - 1000);
    }

    #[test]
    fn it_never_outlives_the_identity() {
        let (seal, clock) = seal(Bind::User);
        let assertion = seal.for_upstream(&"app".into());
        let identity = identity("u1", NOW + 10);
        assert_eq!(claims(&put(&assertion, &identity))["exp"], NOW + 10);
        clock.set(NOW + 5);
        assert_eq!(claims(&put(&assertion, &identity))["iat"], NOW + 5);
    }

    #[test]
    fn another_configuration_does_not_use_what_this_one_signed() {
        let identity = identity("u1", NOW + 1000);
        let first = put(&seal(Bind::User).0.for_upstream(&"app".into()), &identity);
        let second = put(&seal(Bind::User).0.for_upstream(&"app".into()), &identity);
        assert_ne!(first, second);
    }

    #[test]
    fn it_is_no_token_that_a_caller_may_bring() {
        let (seal, _) = seal(Bind::User);
        let token = put(
            &seal.for_upstream(&"app".into()),
            &identity("u1", NOW + 1000),
        );
        assert!(jwt::read(&token).is_err());
    }

    #[test]
    fn debug_shows_none_of_it() {
        let (seal, _) = seal(Bind::User);
        let identity = identity("u1", NOW + 1000);
        let token = put(&seal.for_upstream(&"app".into()), &identity);
        assert!(!format!("{identity:?}").contains(&token));
    }
}
