//! Who calls: the user whose access token is the bearer, or whoever holds a service key. The bearer wins over the key: with both,
//! the user acts, as the user.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use uuid::Uuid;

use super::keys::Right;
use super::refusals::{self, Failure, Place};
use super::{Asked, Supabase};
use crate::accounts::{AccountError, Who};
use crate::config::OWN_ISSUER;
use crate::identity::{Caller, Identity};
use crate::records::{User, UserId};
use crate::refusal::Refusal;
use crate::request::credential::Credential;

/// Leave to administer users: made here alone.
pub(super) struct Admin(());

impl Supabase {
    /// The user of the bearer, as it is now.
    ///
    /// # Errors
    /// `no_authorization`, `bad_jwt`, and what has become of the user or the session: `session_not_found` lets the client forget
    /// its session, nothing else does.
    pub(super) async fn caller(&self, asked: &Asked<'_>) -> Result<(Who, User), Failure> {
        let who = self.who(asked).await?;
        let user = self.accounts.user(who.user).await;
        let user = user.map_err(|error| Failure::of(&error, Place::User))?;
        Ok((who, user))
    }

    /// The user and the session of the bearer.
    pub(super) async fn who(&self, asked: &Asked<'_>) -> Result<Who, Failure> {
        match asked.call.permit.caller() {
            Caller::Guest => Err(refusals::NO_AUTHORIZATION),
            Caller::Known(identity) => own(identity),
            Caller::Unverified(refusal, credential) => {
                if self.right_of(asked, credential).is_some() {
                    return Err(refusals::JWT_WITHOUT_SUB);
                }
                Err(self.why(*refusal, credential).await)
            }
        }
    }

    /// Leave to administer users.
    ///
    /// # Errors
    /// `not_admin` for everybody without a service key: a user that acts with one in `apikey` included.
    pub(super) async fn admin(&self, asked: &Asked<'_>) -> Result<Admin, Failure> {
        let right = match asked.call.permit.caller() {
            // A gateway in front of the original would put the key's own token here.
            Caller::Guest => asked.right,
            Caller::Unverified(refusal, credential) => match self.right_of(asked, credential) {
                Some(right) => right,
                None => return Err(self.why(*refusal, credential).await),
            },
            Caller::Known(identity) => {
                own(identity)?;
                right_of_user(identity)
            }
        };
        match right {
            Right::Service => Ok(Admin(())),
            Right::Anon => Err(refusals::NOT_ADMIN),
        }
    }

    fn right_of(&self, asked: &Asked<'_>, credential: &Credential) -> Option<Right> {
        self.keys
            .right_of_bearer(credential.token.expose(), asked.right)
    }

    /// What is wrong with a bearer that was not accepted.
    async fn why(&self, refusal: Refusal, credential: &Credential) -> Failure {
        match refusal {
            Refusal::TokenExpired => refusals::EXPIRED_JWT,
            Refusal::TokenRevoked => self.why_revoked(credential).await,
            refusal if refusal.status().as_u16() == 503 => {
                Failure::of(&AccountError::Unavailable, Place::User)
            }
            _ => refusals::BAD_JWT,
        }
    }

    /// What became of a token of ours: its signature and its claims were good.
    async fn why_revoked(&self, credential: &Credential) -> Failure {
        let Some(user) = subject(credential.token.expose()) else {
            return refusals::SESSION_NOT_FOUND;
        };
        match self.accounts.user(user).await {
            Ok(_) => refusals::SESSION_NOT_FOUND,
            Err(error) => Failure::of(&error, Place::User),
        }
    }
}

/// Whose it is, if it is an access token of the gateway's own: the users of others are not here. An opaque session token
/// is no JWT.
fn own(identity: &Arc<Identity>) -> Result<Who, Failure> {
    let is_own = *identity.issuer == *OWN_ISSUER && identity.token_number().is_none();
    match Who::of(identity) {
        Some(who) if is_own => Ok(who),
        _ => Err(refusals::BAD_JWT),
    }
}

/// An operator may give a user the role of the service key.
fn right_of_user(identity: &Identity) -> Right {
    match identity.claims.all().get("role").and_then(Value::as_str) {
        Some("service_role" | "supabase_admin") => Right::Service,
        _ => Right::Anon,
    }
}

/// `sub` of a token that was verified before.
fn subject(token: &str) -> Option<UserId> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    let id = Uuid::try_parse(claims.get("sub")?.as_str()?).ok()?;
    Some(UserId(id))
}
