//! The decision: what a route demands, held against who calls. Pure; the only maker of a `Permit`.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;

use crate::config::{self, Auth, Condition, ConditionTest, OnInvalid};
use crate::identity::{Caller, Identity};
use crate::refusal::Refusal;
use crate::request::credential::Place;
use crate::request::head::{Head, OriginHeader};
use crate::request::upgrade::Upgrade;

/// What a route demands of a caller, compiled.
#[derive(Clone, Debug)]
pub struct Policy {
    auth: Auth,
    on_invalid: OnInvalid,
    roles: Vec<Box<str>>,
    require: Vec<Condition>,
    origins: Vec<Box<str>>,
}

impl Policy {
    /// Compiles a route's policy.
    pub fn build(route: &config::Route) -> Self {
        Self {
            auth: route.auth,
            on_invalid: route.on_invalid,
            roles: route.roles.clone(),
            require: route.require.clone(),
            origins: route.origins.clone(),
        }
    }

    /// Decides whether a caller may pass whose credential stood at `place`.
    ///
    /// A verified caller of no known place is held to a cookie's rule, the strictest.
    pub fn decide(
        &self,
        caller: Caller,
        place: Option<Place>,
        head: &Head,
    ) -> Result<Permit, Refusal> {
        if self.auth != Auth::Public {
            if comes_by_cookie(&caller, place) && *head.upgrade() != Upgrade::None {
                self.check_origin(head)?;
            }
            let unasked = matches!(caller, Caller::Guest) && head.preflight().is_some();
            // A browser asks for leave before it sends any credential; the answer is the upstream's to
            // give. It goes on as a guest, with nothing of anybody's in it.
            if !unasked {
                self.review(&caller)?;
            }
        }
        Ok(Permit {
            caller: match self.auth {
                Auth::Public => Caller::Guest,
                Auth::Optional | Auth::Required => caller,
            },
            client: head.client_address(),
        })
    }

    /// Holds a caller against this policy: also the caller of a live stream, after a reload.
    pub fn review(&self, caller: &Caller) -> Result<(), Refusal> {
        match (self.auth, caller) {
            (Auth::Public, _) => Ok(()),
            (_, Caller::Known(identity)) => self.check_claims(identity),
            (Auth::Optional, Caller::Guest) => Ok(()),
            (Auth::Required, Caller::Guest) => Err(Refusal::TokenMissing),
            (Auth::Optional, Caller::Unverified(..)) if self.on_invalid == OnInvalid::Face => {
                Ok(())
            }
            (_, Caller::Unverified(refusal, _)) if refusal.leaves_unjudged() => Err(*refusal),
            (Auth::Optional, Caller::Unverified(refusal, _)) => match self.on_invalid {
                OnInvalid::Guest | OnInvalid::Face => Ok(()),
                OnInvalid::Reject => Err(*refusal),
            },
            (Auth::Required, Caller::Unverified(refusal, _)) => Err(*refusal),
        }
    }

    /// One of the roles, and all of the conditions.
    fn check_claims(&self, identity: &Identity) -> Result<(), Refusal> {
        if !self.roles.is_empty() && !self.roles.iter().any(|role| identity.roles.contains(role)) {
            return Err(Refusal::RoleMissing);
        }
        match self
            .require
            .iter()
            .all(|condition| holds(condition, identity))
        {
            true => Ok(()),
            false => Err(Refusal::ConditionFailed),
        }
    }

    /// A browser sends cookies along with the handshakes of any page: only pages of these origins may use
    /// them (RFC 6455 §10.2).
    fn check_origin(&self, head: &Head) -> Result<(), Refusal> {
        let OriginHeader::One(origin) = head.origin() else {
            return Err(Refusal::OriginForbidden);
        };
        let allowed = match self.origins.is_empty() {
            true => is_own_origin(origin, head),
            false => self
                .origins
                .iter()
                .any(|known| origin.as_bytes() == known.as_bytes()),
        };
        allowed.then_some(()).ok_or(Refusal::OriginForbidden)
    }
}

/// Whether the browser may have sent the credential on its own.
fn comes_by_cookie(caller: &Caller, place: Option<Place>) -> bool {
    match place {
        Some(place) => place == Place::Cookie,
        None => matches!(caller, Caller::Known(_)),
    }
}

/// Whether `Origin` is the scheme, host and port of the request itself.
fn is_own_origin(origin: &HeaderValue, head: &Head) -> bool {
    let (scheme, default_port) = match head.client().secure {
        true => ("https://", 443),
        false => ("http://", 80),
    };
    let Some(authority) = origin
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix(scheme))
    else {
        return false;
    };
    let host = head.host();
    let Some(port) = authority.strip_prefix(host.name()) else {
        return false;
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok(),
        None => port.is_empty().then_some(default_port),
    };
    port == Some(host.port().unwrap_or(default_port))
}

/// Whether a condition holds of verified claims. A claim that is not there, or null, is equal to nothing.
pub fn holds(condition: &Condition, identity: &Identity) -> bool {
    let claim = condition
        .claim
        .find(identity.claims.all())
        .filter(|claim| !claim.is_null());
    match (&condition.test, claim) {
        (ConditionTest::Exists(wanted), claim) => *wanted == claim.is_some(),
        (_, None) => false,
        (ConditionTest::Equals(value), Some(claim)) => claim == value,
        (ConditionTest::OneOf(values), Some(claim)) => values.contains(claim),
        (ConditionTest::Contains(value), Some(claim)) => {
            claim.as_array().is_some_and(|list| list.contains(value))
        }
    }
}

/// Leave to go on: made by `Policy::decide` alone, demanded by every carrier.
#[derive(Clone, Debug)]
pub struct Permit {
    caller: Caller,
    client: Option<IpAddr>,
}

/// What the upstream is told about the caller (`x-auth-status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthStatus {
    /// A verified identity stands in the headers.
    Authenticated,
    /// No credential came.
    Guest,
    /// A bad credential came, on a route that lets guests pass.
    InvalidToken,
}

impl AuthStatus {
    /// The stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Authenticated => "authenticated",
            Self::Guest => "guest",
            Self::InvalidToken => "invalid_token",
        }
    }
}

impl Permit {
    /// Who was let through.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The verified identity, where there is one.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        match &self.caller {
            Caller::Known(identity) => Some(identity),
            Caller::Guest | Caller::Unverified(..) => None,
        }
    }

    /// The same leave, by a newer token of the same session. A guest's stays what it is.
    #[must_use]
    pub fn renewed(&self, newer: &Arc<Identity>) -> Self {
        let caller = match &self.caller {
            Caller::Known(_) => Caller::Known(Arc::clone(newer)),
            guest => guest.clone(),
        };
        Self {
            caller,
            client: self.client,
        }
    }

    /// The client's address, behind trusted proxies; `None` on a unix socket.
    pub fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// What the upstream is told.
    pub fn status(&self) -> AuthStatus {
        match &self.caller {
            Caller::Known(_) => AuthStatus::Authenticated,
            Caller::Guest => AuthStatus::Guest,
            Caller::Unverified(..) => AuthStatus::InvalidToken,
        }
    }
}

#[cfg(test)]
impl Permit {
    /// A permit for `caller` out of nowhere, for the tests of the parts that demand one.
    pub(crate) fn for_test(caller: Caller) -> Self {
        Self {
            caller,
            client: None,
        }
    }
}

#[cfg(test)]
mod tests;
