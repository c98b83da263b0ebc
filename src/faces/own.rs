//! The gateway's own calls on the public listener: the probes, `verify` for other proxies, tickets and renewals for
//! streams, and the public keys of what it signs. Where they stand is the config's to say (`config/own.rs`).

mod calls;

use std::sync::Arc;

use http::header::CACHE_CONTROL;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::calls::describe;
use crate::body::Body;
use crate::config::{self, IdentityHeaders, OwnCall};
use crate::faces::Call;
use crate::faces::body::Flaw;
use crate::faces::page::{self, JSON};
use crate::identity::Identity;
use crate::identity::keyring::{Keyring, document_of};
use crate::observe::readiness::Board;
use crate::openapi::{Takes, schema};
use crate::refusal::{Refusal, style};
use crate::request::head::Head;
use crate::request::path;
use crate::streams::Streams;
use crate::tickets::{Again, Tickets, Use};

/// One call, with what it answers from.
pub struct Own {
    call: OwnCall,
    from: From,
    status_header: HeaderName,
    request_id_header: HeaderName,
}

/// What the calls answer from.
#[expect(missing_docs, reason = "the types say it")]
pub struct From {
    pub board: Board,
    /// What the gateway signs with.
    pub keyrings: Vec<Arc<Keyring>>,
    pub streams: Arc<Streams>,
    pub tickets: Arc<Tickets>,
    /// `None`: there are no tickets.
    pub settings: Option<config::Tickets>,
}

impl Own {
    /// Compiles `call`.
    pub fn build(call: OwnCall, from: From, identity: &IdentityHeaders) -> Self {
        Self {
            call,
            from,
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
        match self.allow() {
            WRITES => match *head.method() {
                Method::POST => Ok(()),
                _ => Err(Refusal::MethodRefused),
            },
            _ => page::read_only(head.method()),
        }
    }

    /// The methods that are served here.
    pub fn allow(&self) -> &'static str {
        match self.call {
            OwnCall::Tickets | OwnCall::Renew => WRITES,
            _ => READS,
        }
    }

    /// Answers.
    ///
    /// # Errors
    /// `route_not_found` where nothing is, `token_missing` for a `verify` of nobody.
    pub async fn serve(&self, mut call: Call<'_>) -> Result<Response<Body>, Refusal> {
        let response = match self.call {
            OwnCall::Healthz => page::healthz(),
            OwnCall::Readyz => page::readyz(&self.from.board),
            OwnCall::Verify => self.verify(&call)?,
            OwnCall::Tickets => return self.ticket(&mut call).await,
            OwnCall::Renew => self.renew(&call)?,
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
        identity.headers.put(headers);
        let authenticated = HeaderValue::from_static("authenticated");
        headers.insert(self.status_header.clone(), authenticated);
        headers.insert(self.request_id_header.clone(), call.id.header_value());
        Ok(response)
    }

    /// A ticket for a stream's URL.
    async fn ticket(&self, call: &mut Call<'_>) -> Result<Response<Body>, Refusal> {
        let settings = self.from.settings.ok_or(Refusal::RouteNotFound)?;
        let wish: TicketWish = match call.read(Takes::Json(schema::<TicketWish>())).await {
            Ok(wish) => wish,
            Err(flaw) => return Ok(spoilt(&flaw, call)),
        };
        let identity = call.permit.identity().ok_or(Refusal::TokenMissing)?;
        // The path as a request for it would be read; the ticket is good for no other.
        let path = path::normalize(&wish.path)?;
        let place = Use {
            method: wish.method.as_deref().unwrap_or("GET"),
            path: &path,
            again: Again::Never,
        };
        if http::Method::from_bytes(place.method.as_bytes()).is_err() {
            return Err(Refusal::BodyInvalid);
        }
        let issued = self.from.tickets.issue(&settings, identity, &place).await?;
        let answer = TicketGiven {
            ticket: issued.ticket.expose(),
            expires_in: issued.expires_in,
        };
        Ok(page::json(StatusCode::OK, &answer))
    }

    /// The streams of the caller's session go on until its token ends.
    fn renew(&self, call: &Call<'_>) -> Result<Response<Body>, Refusal> {
        let identity = call.permit.identity().ok_or(Refusal::TokenMissing)?;
        let answer = Renewed {
            extended: self.from.streams.renew(identity),
            until: identity.ends_at,
        };
        Ok(page::json(StatusCode::OK, &answer))
    }

    /// The public keys, as a JWKS document (RFC 7517 §5).
    fn jwks(&self) -> Result<Response<Body>, Refusal> {
        if self.from.keyrings.is_empty() {
            return Err(Refusal::RouteNotFound);
        }
        let mut response = page::page(JSON, StatusCode::OK, document_of(&self.from.keyrings));
        let fresh = HeaderValue::from_static(JWKS_FRESH);
        response.headers_mut().insert(CACHE_CONTROL, fresh);
        Ok(response)
    }
}

/// How long others may keep the public keys: half of what a key is published before it signs.
pub const JWKS_FRESH: &str = "public, max-age=600";

/// What is wrong with a body, in the style of errors that is configured.
fn spoilt(flaw: &Flaw, call: &Call<'_>) -> Response<Body> {
    let refusal = match flaw {
        Flaw::TooLarge => Refusal::BodyTooLarge,
        Flaw::TimedOut => Refusal::BodyTimeout,
        Flaw::Broken => Refusal::RequestMalformed,
        Flaw::Type | Flaw::Syntax | Flaw::Missing(_) | Flaw::Wrong(_) => Refusal::BodyInvalid,
    };
    let mut response = style::render(refusal, &call.wanted);
    if flaw.ends_connection() {
        call.close_after(&mut response);
    }
    response
}

/// Who asks for a ticket, and for what.
#[derive(Deserialize, JsonSchema)]
struct TicketWish {
    /// The path of the stream, without a query.
    path: String,
    /// Its method; not given: `GET`, as of every `EventSource` and every WebSocket.
    method: Option<String>,
}

/// A ticket: `?ticket=` on that path.
#[derive(Serialize, JsonSchema)]
struct TicketGiven<'t> {
    ticket: &'t str,
    /// Seconds within which it must be used.
    expires_in: u64,
}

/// What became of the streams of a session.
#[derive(Serialize, JsonSchema)]
struct Renewed {
    /// How many of them live as long as this token now, of those at the gateway that was asked. Those at others do too.
    extended: usize,
    /// When it ends, leeway included, in seconds since the Unix epoch.
    until: u64,
}

/// The methods of calls that change nothing: see `page::read_only`.
const READS: &str = "GET, HEAD";
/// Those of the others.
const WRITES: &str = "POST";

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
        let claim = |name: &str| identity.claims.all().get(name);
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
