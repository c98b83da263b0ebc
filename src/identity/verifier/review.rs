//! The identities of live streams, judged again: after a reload, and where something about their users changed.

use std::sync::Arc;

use super::{Verifier, honours};
use crate::identity::Identity;
use crate::identity::access_token::claims_of;
use crate::identity::claims::{Claims, Verified};
use crate::identity::issuer::Issuer;
use crate::refusal::Refusal;

impl Verifier {
    /// Judges the identity of a live stream again, by this configuration: what it came by, and what ended.
    ///
    /// # Errors
    /// What its token would be refused as.
    pub fn review(
        &self,
        identity: &Arc<Identity>,
        allowed: Option<&[usize]>,
    ) -> Result<Arc<Identity>, Refusal> {
        if identity.ends_at <= self.clock.now() {
            // Another gateway saw a newer token and told no more of it than its end: what is known is what it says.
            return self.review_claims(identity, allowed);
        }
        let Some(standing) = &identity.standing else {
            return self.judge_for(identity.token.expose(), allowed);
        };
        let (issuer, own) = self.own().ok_or(Refusal::IssuerUnknown)?;
        if !honours(allowed, issuer.index) {
            return Err(Refusal::IssuerUnknown);
        }
        if own.is_some_and(|own| own.revocations().has_ended(standing)) {
            return Err(Refusal::TokenRevoked);
        }
        match standing.token {
            None => self.judge(identity.token.expose()),
            Some(_) => again(issuer, identity),
        }
    }

    /// The same for a stream that outlives the token that is known of it.
    fn review_claims(
        &self,
        identity: &Identity,
        allowed: Option<&[usize]>,
    ) -> Result<Arc<Identity>, Refusal> {
        let issuer = self.issuers.iter().find(|it| it.name == identity.issuer);
        let issuer = issuer.filter(|it| honours(allowed, it.index));
        let issuer = issuer.ok_or(Refusal::IssuerUnknown)?;
        if let (Some(standing), Some((_, Some(own)))) = (&identity.standing, self.own())
            && own.revocations().has_ended(standing)
        {
            return Err(Refusal::TokenRevoked);
        }
        again(issuer, identity)
    }

    /// What the store says by now of whose a verified token is: the identity that a token made now would have. For a
    /// live stream whose user changed.
    ///
    /// # Errors
    /// `TokenRevoked` where its session is over, `StoreUnavailable` where nobody can tell.
    pub async fn look_again(&self, identity: &Identity) -> Result<Arc<Identity>, Refusal> {
        let (Some(standing), Some((issuer, own))) = (&identity.standing, self.own()) else {
            return Err(Refusal::IssuerUnknown);
        };
        let own = own.ok_or(Refusal::StoreUnavailable)?;
        let (session, user, standing) = own.look_again(standing, identity.token.expose()).await?;
        let fresh = issuer.identity(Verified {
            claims: Claims::made(claims_of(&user, &session, &issuer.iss))?,
            ends_at: identity.ends_at,
            token: identity.token.clone(),
        })?;
        Ok(Arc::new(Identity {
            standing: Some(standing),
            ..fresh
        }))
    }
}

/// The identity that this issuer makes of what was verified once.
fn again(issuer: &Issuer, identity: &Identity) -> Result<Arc<Identity>, Refusal> {
    let again = Verified {
        claims: identity.claims.clone(),
        ends_at: identity.ends_at,
        token: identity.token.clone(),
    };
    issuer.identity(again).map(Arc::new)
}
