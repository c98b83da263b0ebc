//! From a credential to a caller. The order is fixed: form, issuer, algorithm, key, signature, and only then
//! what the claims say. `examine` walks the same steps for `explain`.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::clock::Clock;
use crate::config::{Config, Tokens};
use crate::identity::cache::{Entry, Generations, LocalTokens, Moment, TokenCache};
use crate::identity::claims::Verified;
use crate::identity::issuer::{BuildError, Issuer, KeySource};
use crate::identity::jwks::{Jwks, JwksSources, JwksStatus, Refetch};
use crate::identity::jwt::{self, Unverified};
use crate::identity::validity::{Expected, LATEST};
use crate::identity::{Caller, Identity};
use crate::refusal::Refusal;
use crate::request::credential::Credential;
use crate::secret::Secret;

/// The issuers of one configuration and the tokens verified under it.
#[derive(Debug)]
pub struct Verifier {
    issuers: Vec<Issuer>,
    cache: TokenCache,
    clock: Clock,
    leeway: u64,
    cache_time: Duration,
}

/// One step of a token's way, for `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was looked at: `form`, `issuer`, `algorithm`, `signature`, `claims`, `identity`.
    pub what: &'static str,
    /// What was found, or why the token was refused here.
    pub outcome: Result<String, Refusal>,
}

/// Where and why a token was refused, and whether newer keys might change that.
#[derive(Clone, Copy, Debug)]
struct Fault {
    what: &'static str,
    refusal: Refusal,
    refetch: Option<(usize, Refetch)>,
}

impl Verifier {
    /// Compiles the issuers. Keys that are fetched may arrive later; all others must be usable now.
    pub fn build(config: &Config, sources: &JwksSources, clock: Clock) -> Result<Self, BuildError> {
        let issuers = Issuer::build_all(&config.issuers, &config.identity, sources)?;
        Ok(Self::of(issuers, config.tokens, clock))
    }

    fn of(issuers: Vec<Issuer>, tokens: Tokens, clock: Clock) -> Self {
        Self {
            issuers,
            cache: TokenCache::new(tokens.cache_size, tokens.cache_time),
            clock,
            leeway: tokens.leeway,
            cache_time: tokens.cache_time,
        }
    }

    /// What we make of a credential on a route that honours the issuers at the indexes `allowed`, or all.
    /// Returns at once for a token that is known; waits only where a token calls for newer keys.
    pub async fn identify(
        &self,
        local: &LocalTokens,
        credential: Option<Credential>,
        allowed: Option<&[usize]>,
    ) -> Caller {
        let Some(credential) = credential else {
            return Caller::Guest;
        };
        let known = match self.recall(local, credential.token.expose()) {
            Some(identity) => Ok(identity),
            None => self.learn(local, credential.token.expose()).await,
        };
        let honoured = |index: usize| allowed.is_none_or(|allowed| allowed.contains(&index));
        match known {
            Ok(identity) if honoured(identity.issuer_index) => Caller::Known(identity),
            Ok(_) => Caller::Unverified(Refusal::IssuerUnknown, credential),
            Err(refusal) => Caller::Unverified(refusal, credential),
        }
    }

    /// The identity of a token that this worker has seen verified and that still holds.
    pub fn recall(&self, local: &LocalTokens, token: &str) -> Option<Arc<Identity>> {
        let identity = local.find(token, self.moment(), &self.cache, self)?;
        local.count_hit();
        Some(identity)
    }

    /// Judges a token without any cache and without waiting for keys: for streams at a reload.
    pub fn judge(&self, token: &Arc<str>) -> Result<Arc<Identity>, Refusal> {
        self.walk(token, &mut |_, _| {})
            .map(Arc::new)
            .map_err(|fault| fault.refusal)
    }

    /// The same for a route that honours only the issuers in `allowed`; `None`: all.
    pub fn judge_for(
        &self,
        token: &Arc<str>,
        allowed: Option<&[usize]>,
    ) -> Result<Arc<Identity>, Refusal> {
        let identity = self.judge(token)?;
        match allowed {
            Some(allowed) if !allowed.contains(&identity.issuer_index) => {
                Err(Refusal::IssuerUnknown)
            }
            _ => Ok(identity),
        }
    }

    /// The identity that verified claims of the issuer at `index` would make, for `[[test]]` blocks.
    /// Claims without `exp` never end.
    pub fn identify_claims(
        &self,
        index: usize,
        claims: Map<String, Value>,
    ) -> Result<Identity, Refusal> {
        let issuer = self.issuers.get(index).ok_or(Refusal::IssuerUnknown)?;
        let ends_at = match claims.contains_key("exp") {
            true => self.expected(issuer).judge(&claims)?,
            false => LATEST,
        };
        issuer.identity(Verified {
            claims,
            ends_at,
            token: Secret::new("".into()),
        })
    }

    /// Every step of a token's way, up to the one that refused it.
    pub fn examine(&self, token: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        let walked = self.walk(&token.into(), &mut |what, found| {
            steps.push(Step {
                what,
                outcome: Ok(found.to_string()),
            });
        });
        if let Err(Fault { what, refusal, .. }) = walked {
            steps.push(Step {
                what,
                outcome: Err(refusal),
            });
        }
        steps
    }

    /// Forgets the verified tokens of every identity that `which` picks, on all workers.
    pub fn forget(&self, which: impl Fn(&Identity) -> bool + Send + Sync + 'static) {
        self.cache.forget(which);
    }

    /// The state of every key set that is fetched, by its issuer's name.
    pub fn key_status(&self) -> impl Iterator<Item = (&Arc<str>, JwksStatus)> {
        self.issuers
            .iter()
            .filter_map(|issuer| Some((&issuer.name, jwks_of(issuer)?.status())))
    }

    /// From the shared cache, or by verifying; with newer keys, once, where those may help.
    async fn learn(&self, local: &LocalTokens, token: &str) -> Result<Arc<Identity>, Refusal> {
        if token.len() > jwt::MAX_TOKEN {
            return Err(Refusal::TokenMalformed);
        }
        let token: Arc<str> = token.into();
        let fault = match self.find_or_verify(local, &token) {
            Ok(identity) => return Ok(identity),
            Err(fault) => fault,
        };
        let jwks = |index: usize| self.issuers.get(index).and_then(jwks_of);
        let Some((index, reason)) = fault.refetch else {
            return Err(fault.refusal);
        };
        match jwks(index) {
            Some(jwks) if jwks.refetch(reason).await => self
                .find_or_verify(local, &token)
                .map_err(|fault| fault.refusal),
            _ => Err(fault.refusal),
        }
    }

    fn find_or_verify(
        &self,
        local: &LocalTokens,
        token: &Arc<str>,
    ) -> Result<Arc<Identity>, Fault> {
        let moment = self.moment();
        let mut verified = false;
        let entry = self.cache.find_or_verify(
            token,
            |entry| entry.holds(moment, self),
            || {
                verified = true;
                self.entry(token)
            },
        );
        match verified {
            true => local.count_miss(),
            false => local.count_hit(),
        }
        let entry = entry?;
        let identity = entry.identity.clone();
        local.insert(entry, &self.cache);
        Ok(identity)
    }

    /// Verifies a token for the cache. The generations are read first: keys that change meanwhile make
    /// the entry one of the past.
    fn entry(&self, token: &Arc<str>) -> Result<Entry, Fault> {
        let generations: Vec<u64> = self.issuers.iter().map(Issuer::generation).collect();
        let moment = self.moment();
        let identity = self.walk(token, &mut |_, _| {})?;
        let left = Duration::from_secs(identity.ends_at.saturating_sub(moment.wall));
        Ok(Entry {
            generation: generations[identity.issuer_index],
            until: moment.monotonic + left.min(self.cache_time),
            identity: Arc::new(identity),
        })
    }

    /// The way of a token. `note` hears of each step that it passed.
    fn walk(
        &self,
        token: &Arc<str>,
        note: &mut dyn FnMut(&'static str, fmt::Arguments<'_>),
    ) -> Result<Identity, Fault> {
        let refuse = |what| move |refusal| Fault::plain(what, refusal);
        let Unverified { jws, claims } = jwt::read(token).map_err(refuse("form"))?;
        note("form", format_args!("a signed token"));
        let issuer = self.issuer_of(&claims).map_err(refuse("issuer"))?;
        note("issuer", format_args!("{}", issuer.name));
        issuer.check_algorithm(&jws).map_err(refuse("algorithm"))?;
        note("algorithm", format_args!("{:?}", jws.header.algorithm));
        issuer.verify(&jws).map_err(|fault| Fault {
            what: "signature",
            refusal: fault.refusal,
            refetch: fault.refetch.map(|reason| (issuer.index, reason)),
        })?;
        note("signature", format_args!("valid"));
        let ends_at = self
            .expected(issuer)
            .judge(&claims)
            .map_err(refuse("claims"))?;
        note("claims", format_args!("valid until {ends_at}"));
        let verified = Verified {
            claims,
            ends_at,
            token: Secret::new(token.clone()),
        };
        let identity = issuer.identity(verified).map_err(refuse("identity"))?;
        note("identity", format_args!("{}", identity.user_id));
        Ok(identity)
    }

    /// `iss` chooses, by its exact text; whoever wrote the token chose a set of keys, nothing more.
    fn issuer_of(&self, claims: &Map<String, Value>) -> Result<&Issuer, Refusal> {
        let iss = claims.get("iss").and_then(Value::as_str);
        self.issuers
            .iter()
            .find(|issuer| iss == Some(&issuer.iss))
            .ok_or(Refusal::IssuerUnknown)
    }

    fn expected<'a>(&self, issuer: &'a Issuer) -> Expected<'a> {
        Expected {
            audience: &issuer.audience,
            leeway: self.leeway,
            now: self.clock.now(),
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            wall: self.clock.now(),
            monotonic: Instant::now(),
        }
    }
}

impl Generations for Verifier {
    fn generation(&self, index: usize) -> u64 {
        self.issuers.get(index).map_or(0, Issuer::generation)
    }
}

impl Fault {
    fn plain(what: &'static str, refusal: Refusal) -> Self {
        Self {
            what,
            refusal,
            refetch: None,
        }
    }
}

fn jwks_of(issuer: &Issuer) -> Option<&Arc<Jwks>> {
    match &issuer.keys {
        KeySource::Jwks(jwks) => Some(jwks),
        KeySource::Single(_) | KeySource::Set(_) | KeySource::Own => None,
    }
}

#[cfg(test)]
mod tests;
