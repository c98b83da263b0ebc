//! From a credential to a caller. The order is fixed: form, issuer, algorithm, key, signature, and only then
//! what the claims say; for the gateway's own tokens, whether the session lives (`sessions.rs`). `examine` walks the same steps for `explain`.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::clock::Clock;
use crate::config::{Config, Tokens};
use crate::identity::access_token::{claims_of, corrected};
use crate::identity::cache::{Generations, LocalTokens, Moment, Proof, TokenCache};
use crate::identity::claims::{Claims, Verified};
use crate::identity::issuer::{BuildError, Issuer, KeySource, KeySources};
use crate::identity::jwks::{Jwks, JwksStatus, Refetch};
use crate::identity::jwt::{self, Unverified};
use crate::identity::refused::Refused;
use crate::identity::sessions::{OwnSessions, hash_of};
use crate::identity::sightings::{Sighting, Sightings};
use crate::identity::validity::{Expected, LATEST, Until};
use crate::identity::{Caller, Identity};
use crate::records::TokenHash;
use crate::refusal::Refusal;
use crate::request::credential::Credential;
use crate::secret::Secret;
use crate::state::bans::Bans;

/// The issuers of one configuration and the tokens verified under it.
#[derive(Debug)]
pub struct Verifier {
    issuers: Vec<Issuer>,
    /// The index of the gateway's own issuer.
    own: Option<usize>,
    cache: TokenCache,
    clock: Clock,
    leeway: u64,
    cache_time: Duration,
    sightings: Option<Arc<Sightings>>,
    bans: Arc<Bans>,
}

/// One step of a token's way, for `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was looked at: `form`, `issuer`, `algorithm`, `signature`, `claims`, `identity`, `session`.
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
    pub fn build(
        config: &Config,
        sources: KeySources<'_>,
        clock: Clock,
    ) -> Result<Self, BuildError> {
        let issuers = Issuer::build_all(&config.issuers, &config.identity, sources)?;
        Ok(Self::of(issuers, config.tokens, clock))
    }

    fn of(issuers: Vec<Issuer>, tokens: Tokens, clock: Clock) -> Self {
        let own = |issuer: &Issuer| matches!(issuer.keys, KeySource::Own(_));
        Self {
            own: issuers.iter().position(own),
            issuers,
            cache: TokenCache::new(tokens.cache_size),
            clock,
            leeway: tokens.leeway,
            cache_time: tokens.cache_time,
            sightings: None,
            bans: Bans::new(),
        }
    }

    /// The same, telling of each token that it verifies and did not remember.
    #[must_use]
    pub fn telling(mut self, sightings: &Arc<Sightings>) -> Self {
        self.sightings = Some(Arc::clone(sightings));
        self
    }

    /// The same, refusing what these bans say.
    #[must_use]
    pub fn heeding(mut self, bans: &Arc<Bans>) -> Self {
        self.bans = Arc::clone(bans);
        self
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
        let token = credential.token.expose();
        let known = match self.recall(local, token) {
            Some(identity) => Ok(identity),
            None => match self.recall_refused(local, token) {
                Some(refusal) => Err(refusal),
                None => self.learn(local, token).await,
            },
        };
        match known {
            Ok(identity) if honours(allowed, identity.issuer_index) => Caller::Known(identity),
            Ok(_) => Caller::Unverified(Refusal::IssuerUnknown, credential),
            Err(refusal) => Caller::Unverified(refusal, credential),
        }
    }

    /// The identity of a token that this worker has seen verified and that still holds.
    pub fn recall(&self, local: &LocalTokens, token: &str) -> Option<Arc<Identity>> {
        let identity = local.find(token, self.moment(), &self.cache, self)?;
        local.count_hit();
        self.touch(&identity);
        Some(identity)
    }

    /// Why this worker refused a token that it would refuse again.
    fn recall_refused(&self, local: &LocalTokens, token: &str) -> Option<Refusal> {
        local.find_refused(token, self.moment(), &self.cache, self.generations())
    }

    /// Judges a token without any cache and without waiting, be it for keys or for the store: what is known of its
    /// session is not asked.
    pub fn judge(&self, token: &Arc<str>) -> Result<Arc<Identity>, Refusal> {
        match hash_of(token) {
            Some(_) if self.own().is_some() => Err(Refusal::StoreUnavailable),
            _ => self
                .walk(token, &mut |_, _| {})
                .map(Arc::new)
                .map_err(|fault| fault.refusal),
        }
    }

    /// The same for a route that honours only the issuers in `allowed`; `None`: all.
    pub fn judge_for(
        &self,
        token: &Arc<str>,
        allowed: Option<&[usize]>,
    ) -> Result<Arc<Identity>, Refusal> {
        let identity = self.judge(token)?;
        match honours(allowed, identity.issuer_index) {
            true => Ok(identity),
            false => Err(Refusal::IssuerUnknown),
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
            claims: Claims::made(claims)?,
            ends_at,
            token: Secret::new("".into()),
        })
    }

    /// Every step of a token's way, up to the one that refused it.
    pub fn examine(&self, token: &str) -> Vec<Step> {
        if let Some((issuer, _)) = self.own().filter(|_| hash_of(token).is_some()) {
            return examine_opaque(issuer);
        }
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
        if let Some(identity) = self.recall_shared(local, token) {
            return Ok(identity);
        }
        let token: Arc<str> = token.into();
        // Read first: keys that change meanwhile make what is remembered one of the past.
        let generation = self.generations();
        let fault = match self.verify(local, &token).await {
            Ok(identity) => return Ok(identity),
            Err(fault) => fault,
        };
        if fault.lasts() {
            self.remember_refused(local, &token, (fault.refusal, generation));
            return Err(fault.refusal);
        }
        let newer = match fault.refetch {
            None => false,
            Some((index, reason)) => match self.issuers.get(index).map(|issuer| &issuer.keys) {
                Some(KeySource::Jwks(jwks)) => jwks.refetch(reason).await,
                Some(KeySource::Own(Some(own))) => own.keyring().reload().await,
                _ => false,
            },
        };
        match newer {
            true => self
                .verify(local, &token)
                .await
                .map_err(|fault| fault.refusal),
            false => Err(fault.refusal),
        }
    }

    fn remember_refused(
        &self,
        local: &LocalTokens,
        token: &Arc<str>,
        (refusal, generation): (Refusal, u64),
    ) {
        local.insert_refused(token, &self.cache, || {
            let moment = self.moment();
            Refused {
                token: Secret::new(Arc::clone(token)),
                refusal,
                generation,
                since: moment.wall,
                until: moment.monotonic + self.cache_time,
            }
        });
    }

    /// The identity of a token that another worker has verified, or this one long ago.
    fn recall_shared(&self, local: &LocalTokens, token: &str) -> Option<Arc<Identity>> {
        let identity = self.cache.find(token, self.moment(), self)?;
        local.count_hit();
        Some(self.keep(local, identity))
    }

    async fn verify(&self, local: &LocalTokens, token: &Arc<str>) -> Result<Arc<Identity>, Fault> {
        local.count_miss();
        let identity = Arc::new(self.prove(token).await?);
        self.cache.insert(Arc::clone(&identity));
        if let Some(sightings) = &self.sightings {
            sightings.tell(Sighting::Verified(&identity));
        }
        Ok(self.keep(local, identity))
    }

    /// Known to this worker too from now on.
    fn keep(&self, local: &LocalTokens, identity: Arc<Identity>) -> Arc<Identity> {
        local.insert(&identity, &self.cache);
        self.touch(&identity);
        identity
    }

    /// Verifies a token for the caches. The generations are read first: keys that change meanwhile make
    /// the proof one of the past.
    async fn prove(&self, token: &Arc<str>) -> Result<Identity, Fault> {
        let generations: Vec<u64> = (0..self.issuers.len())
            .map(|index| self.generation(index))
            .collect();
        let moment = self.moment();
        let identity = match (hash_of(token), self.own()) {
            (Some(hash), Some((issuer, own))) => self
                .identity_of(hash, token, (issuer, own))
                .await
                .map_err(|refusal| Fault::plain("session", refusal))?,
            _ => {
                let identity = self.walk(token, &mut |_, _| {})?;
                let confirmed = self.confirmed(identity).await;
                confirmed.map_err(|refusal| Fault::plain("session", refusal))?
            }
        };
        if self.bans.refuses(identity.presented()) {
            return Err(Fault::plain("session", Refusal::TokenRevoked));
        }
        let left = Duration::from_secs(identity.ends_at.saturating_sub(moment.wall));
        let proof = Proof {
            generation: generations[identity.issuer_index],
            until: moment.monotonic + left.min(self.cache_time),
        };
        Ok(Identity {
            proof: Some(proof),
            ..identity
        })
    }

    /// The identity behind an opaque session token: what an access token of that session would make, without end.
    async fn identity_of(
        &self,
        hash: TokenHash,
        token: &Arc<str>,
        (issuer, own): (&Issuer, Option<&Arc<OwnSessions>>),
    ) -> Result<Identity, Refusal> {
        let own = own.ok_or(Refusal::StoreUnavailable)?;
        let (owner, standing) = own.owner(hash).await?;
        let verified = Verified {
            claims: Claims::made(claims_of(&owner.user, &owner.session, &issuer.iss))?,
            ends_at: LATEST,
            token: Secret::new(token.clone()),
        };
        let identity = issuer.identity(verified)?;
        Ok(Identity {
            standing: Some(standing),
            ..identity
        })
    }

    /// A token of the gateway's own is worth what its session is worth, and gives the rights that its user has by now.
    async fn confirmed(&self, identity: Identity) -> Result<Identity, Refusal> {
        let Some(standing) = &identity.standing else {
            return Ok(identity);
        };
        let Some((issuer, Some(own))) = self.own() else {
            return Err(Refusal::StoreUnavailable);
        };
        let user = own.check(standing).await?;
        let Some(claims) = corrected(identity.claims.all(), &user) else {
            return Ok(Identity {
                claims: identity.claims.put_by(),
                ..identity
            });
        };
        let corrected = issuer.identity(Verified {
            claims: Claims::made(claims)?,
            ends_at: identity.ends_at,
            token: identity.token.clone(),
        })?;
        Ok(Identity {
            standing: identity.standing,
            ..corrected
        })
    }

    /// The gateway's own issuer, and its sessions where they are open.
    fn own(&self) -> Option<(&Issuer, Option<&Arc<OwnSessions>>)> {
        let issuer = self.issuers.get(self.own?)?;
        match &issuer.keys {
            KeySource::Own(own) => Some((issuer, own.as_ref())),
            _ => None,
        }
    }

    /// Notes that a session is in use.
    fn touch(&self, identity: &Identity) {
        if identity.standing.is_some()
            && let Some((_, Some(own))) = self.own()
        {
            own.touch(identity, self.clock.now());
        }
    }

    /// The way of a token. `note` hears of each step that it passed.
    fn walk(
        &self,
        token: &Arc<str>,
        note: &mut dyn FnMut(&'static str, fmt::Arguments<'_>),
    ) -> Result<Identity, Fault> {
        let refuse = |what| move |refusal| Fault::plain(what, refusal);
        let Unverified { jws, iss } = jwt::read(token).map_err(refuse("form"))?;
        note("form", format_args!("a signed token"));
        let issuer = self.issuer_of(iss.as_deref()).map_err(refuse("issuer"))?;
        note("issuer", format_args!("{}", issuer.name));
        issuer.check_algorithm(&jws).map_err(refuse("algorithm"))?;
        note("algorithm", format_args!("{:?}", jws.header.algorithm));
        issuer.verify(&jws).map_err(|fault| Fault {
            what: "signature",
            refusal: fault.refusal,
            refetch: fault.refetch.map(|reason| (issuer.index, reason)),
        })?;
        note("signature", format_args!("valid"));
        let claims = jws.claims().map_err(refuse("claims"))?;
        let ends_at = self
            .expected(issuer)
            .judge(&claims)
            .map_err(refuse("claims"))?;
        note("claims", format_args!("{}", Until(ends_at)));
        let standing = match &issuer.keys {
            KeySource::Own(Some(own)) => Some(own.standing(&claims)),
            _ => None,
        };
        let token = Secret::new(token.clone());
        let verified = Verified {
            claims: Claims::of_token(token.clone(), claims),
            ends_at,
            token,
        };
        let mut identity = issuer.identity(verified).map_err(refuse("identity"))?;
        note("identity", format_args!("{}", identity.user_id));
        if let Some(standing) = standing {
            identity.standing = Some(standing.map_err(refuse("session"))?);
            note("session", format_args!("to be looked up in the store"));
        }
        Ok(identity)
    }

    /// `iss` chooses, by its exact text; whoever wrote the token chose a set of keys, nothing more.
    fn issuer_of(&self, iss: Option<&str>) -> Result<&Issuer, Refusal> {
        self.issuers
            .iter()
            .find(|issuer| iss == Some(&*issuer.iss))
            .ok_or(Refusal::IssuerUnknown)
    }

    fn expected<'a>(&self, issuer: &'a Issuer) -> Expected<'a> {
        Expected {
            audience: &issuer.audience,
            leeway: self.leeway,
            now: self.clock.now(),
        }
    }

    /// Changes whenever any issuer's keys do.
    fn generations(&self) -> u64 {
        let all = self.issuers.iter().map(Issuer::generation);
        all.fold(0, u64::wrapping_add)
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
        let keys = self.issuers.get(index).map_or(0, Issuer::generation);
        keys.wrapping_add(self.bans.version())
    }

    fn stands(&self, identity: &Identity) -> bool {
        let Some(standing) = &identity.standing else {
            return true;
        };
        match self.own() {
            Some((_, Some(own))) => own.revocations().holds(standing),
            _ => false,
        }
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

    /// Whether these very bytes are refused for this again, as long as the keys are these and the clock goes on.
    /// Everything that is not named may be mended: by time, newer keys, the store, or an administrator.
    fn lasts(&self) -> bool {
        let of_the_bytes = matches!(
            (self.what, self.refusal),
            ("form" | "claims", Refusal::TokenMalformed)
                | ("signature", Refusal::TokenSignatureInvalid)
                | ("claims", Refusal::TokenExpired)
        );
        of_the_bytes && self.refetch.is_none()
    }
}

/// Whether a route that honours the issuers at `allowed`, or all, honours this one.
fn honours(allowed: Option<&[usize]>, index: usize) -> bool {
    allowed.is_none_or(|allowed| allowed.contains(&index))
}

/// What can be said of an opaque token where the store is not asked.
fn examine_opaque(issuer: &Issuer) -> Vec<Step> {
    let step = |what, outcome| Step { what, outcome };
    vec![
        step("form", Ok("an opaque session token".to_owned())),
        step("issuer", Ok(issuer.name.to_string())),
        step("session", Err(Refusal::StoreUnavailable)),
    ]
}

fn jwks_of(issuer: &Issuer) -> Option<&Arc<Jwks>> {
    match &issuer.keys {
        KeySource::Jwks(jwks) => Some(jwks),
        KeySource::Single(_) | KeySource::Set(_) | KeySource::Own(_) => None,
    }
}

mod review;

#[cfg(test)]
mod own_tests;
#[cfg(test)]
mod refused_tests;
#[cfg(test)]
mod tests;
