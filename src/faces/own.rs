//! The gateway's own calls on the public listener: the probes, `verify` for other proxies, and the public
//! keys of what it signs. Where they stand is the config's to say (`config/own.rs`).

mod calls;

use std::sync::Arc;

use http::header::CACHE_CONTROL;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

pub use self::calls::describe;
use crate::body::Body;
use crate::config::{IdentityHeaders, OwnCall};
use crate::faces::Call;
use crate::faces::page::{self, JSON};
use crate::identity::Identity;
use crate::identity::keyring::{Keyring, document_of};
use crate::observe::readiness::Board;
use crate::refusal::Refusal;
use crate::request::head::Head;

/// One call, with what it answers from.
pub struct Own {
    call: OwnCall,
    board: Board,
    keyrings: Vec<Arc<Keyring>>,
    status_header: HeaderName,
    request_id_header: HeaderName,
}

impl Own {
    /// Compiles `call`. `keyrings`: what the gateway signs with.
    pub fn build(
        call: OwnCall,
        board: Board,
        keyrings: Vec<Arc<Keyring>>,
        identity: &IdentityHeaders,
    ) -> Self {
        Self {
            call,
            board,
            keyrings,
            status_header: identity.status_header.clone(),
            request_id_header: identity.request_id_header.clone(),
        }
    }

    /// Whether there is such a call.
    ///
    /// # Errors
    /// `route_not_found` for nothing under the mount, `method_refused` for what only reads,
    /// `upgrade_refused` for a WebSocket.
    pub fn check(&self, head: &Head) -> Result<(), Refusal> {
        if self.call == OwnCall::Nothing {
            return Err(Refusal::RouteNotFound);
        }
        if head.is_websocket() {
            return Err(Refusal::UpgradeRefused);
        }
        page::read_only(head.method())
    }

    /// Answers.
    ///
    /// # Errors
    /// `route_not_found` where nothing is, `token_missing` for a `verify` of nobody.
    pub fn serve(&self, call: &Call<'_>) -> Result<Response<Body>, Refusal> {
        let response = match self.call {
            OwnCall::Healthz => page::healthz(),
            OwnCall::Readyz => page::readyz(&self.board),
            OwnCall::Verify => self.verify(call)?,
            OwnCall::Jwks => self.jwks()?,
            OwnCall::Nothing => return Err(Refusal::RouteNotFound),
        };
        Ok(page::for_method(call.head.method(), response))
    }

    /// Who calls: for a proxy that asks before it passes a request on. It is judged by its credential alone.
    /// What `X-Forwarded-Method`, `-Uri` and `-Host` say of the other request is not looked at: whoever
    /// reaches this port could write them (CVE-2026-40575).
    fn verify(&self, call: &Call<'_>) -> Result<Response<Body>, Refusal> {
        // The policy asked for a token; a permit without an identity is never taken for one.
        let identity = call.permit.identity().ok_or(Refusal::TokenMissing)?;
        let text = serde_json::to_string(&Verified::of(identity)).map_err(|_| Refusal::Internal)?;
        let mut response = page::page(JSON, StatusCode::OK, text);
        let headers = response.headers_mut();
        for (name, value) in &identity.headers {
            headers.insert(name.clone(), value.clone());
        }
        let authenticated = HeaderValue::from_static("authenticated");
        headers.insert(self.status_header.clone(), authenticated);
        headers.insert(self.request_id_header.clone(), call.id.header_value());
        Ok(response)
    }

    /// The public keys, as a JWKS document (RFC 7517 §5).
    fn jwks(&self) -> Result<Response<Body>, Refusal> {
        if self.keyrings.is_empty() {
            return Err(Refusal::RouteNotFound);
        }
        let mut response = page::page(JSON, StatusCode::OK, document_of(&self.keyrings));
        let fresh = HeaderValue::from_static(JWKS_FRESH);
        response.headers_mut().insert(CACHE_CONTROL, fresh);
        Ok(response)
    }
}

/// How long others may keep the public keys: half of what a key is published before it signs.
pub const JWKS_FRESH: &str = "public, max-age=600";

/// What `verify` answers. A claim that is not there is null.
#[derive(Serialize, JsonSchema)]
struct Verified<'i> {
    user_id: &'i str,
    session_id: Option<&'i str>,
    email: Option<&'i str>,
    role: Option<&'i str>,
    anonymous: bool,
    /// The issuer's name in the configuration.
    issuer: &'i str,
    /// The token's `exp`, in whole seconds since the Unix epoch.
    expires_at: Option<u64>,
}

impl<'i> Verified<'i> {
    fn of(identity: &'i Identity) -> Self {
        let claim = |name: &str| identity.claims.get(name);
        Self {
            user_id: &identity.user_id,
            session_id: identity.session_id.as_deref(),
            email: identity.email.as_deref(),
            role: claim("role").and_then(|role| role.as_str()),
            anonymous: identity.anonymous,
            issuer: &identity.issuer,
            expires_at: claim("exp").and_then(|exp| {
                // A `NumericDate` may have a fraction (RFC 7519 §2); a verified one fits.
                exp.as_u64().or_else(|| exp.as_f64().map(|exp| exp as u64))
            }),
        }
    }
}
