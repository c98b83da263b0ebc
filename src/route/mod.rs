//! A route: one compiled part for each rung of the journey. `router.rs` finds it.

pub mod router;

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Response};

use crate::body::Body;
use crate::config::{self, Auth, Config, Credentials, Errors, SseReject, WebsocketReject};
use crate::downstream::Downstream;
use crate::faces::Face;
use crate::faces::own::{From, Own};
use crate::forward::connect::TlsError;
use crate::forward::headers::Screens;
use crate::forward::http::Carriage;
use crate::forward::sse;
use crate::forward::websocket::handshake::{self, Offer};
use crate::forward::websocket::switch;
use crate::identity::assertion::Seal;
use crate::jobs::Jobs;
use crate::journal::Journal;
use crate::lasting;
use crate::limits::class::Rules;
use crate::observe::metrics::RouteId;
use crate::policy::Policy;
use crate::refusal::Refusal;
use crate::refusal::style::{self, Wanted};
use crate::request::credential::{Found, Sources, Taken};
use crate::request::head::Head;
use crate::resources::Resources;

/// A compiled route.
pub struct Route {
    /// Its name in the configuration.
    pub name: &'static str,
    /// Its label in the metrics.
    pub id: RouteId,
    /// What it demands of a caller.
    pub policy: Policy,
    /// How much may be asked of it; `None`: as much as anybody likes.
    pub limits: Option<Rules>,
    /// Where it leads.
    pub target: Target,
    sources: Sources,
    credentials: Credentials,
    issuers: Option<Vec<usize>>,
    auth: Auth,
    errors: Errors,
    sse: config::Sse,
    websocket: config::Websocket,
    /// What it has to do with jobs; `None`: nothing.
    pub jobs: Option<Box<Jobs>>,
}

/// Where a route leads.
pub enum Target {
    /// To an upstream, carried.
    Upstream(Carriage),
    /// To the gateway itself.
    Face(Face),
}

/// What routes are built from, beside their configuration.
pub struct Materials<'m> {
    /// The whole configuration.
    pub config: &'m Config,
    /// What outlives it.
    pub resources: &'m Resources,
    /// What assertions are signed with; `None`: nothing is.
    pub seal: Option<&'m Seal>,
    /// The header names that must not pass.
    pub screens: &'m Screens,
}

/// What is left of a refused request.
pub struct Refused<'r> {
    /// Its headers, without credentials.
    pub headers: &'r HeaderMap,
    /// The client offered `bearer` as subprotocol.
    pub offered_bearer: bool,
    /// The connection, if it can become a WebSocket.
    pub downstream: Option<Downstream>,
    /// Seconds after which it may be asked again, where that is known.
    pub retry_after: Option<u64>,
}

impl Target {
    fn build(route: &config::Route, materials: &Materials<'_>) -> Result<Self, TlsError> {
        let Materials {
            config,
            resources,
            seal,
            screens,
        } = materials;
        Ok(match route.target {
            config::Target::Upstream(upstream) => {
                let upstream = resources.upstreams.obtain(&config.upstreams[upstream])?;
                let seal = seal.filter(|_| route.assertion);
                let assertion = seal.map(|seal| seal.for_upstream(&upstream.config.name));
                let carriage = Carriage::build(route, config, screens, upstream);
                Self::Upstream(carriage.asserting(assertion))
            }
            config::Target::Api(api) => {
                let users = config.accounts.as_ref().zip(resources.accounts.as_ref());
                match users.and_then(|(config, accounts)| Face::api(api, config, accounts)) {
                    Some(face) => Self::Face(face),
                    // Nothing is opened for a rehearsal: nobody calls.
                    None => Self::own(config::OwnCall::Nothing, materials),
                }
            }
            config::Target::Own(call) => Self::own(call, materials),
        })
    }

    fn own(call: config::OwnCall, materials: &Materials<'_>) -> Self {
        let resources = materials.resources;
        let own = resources.own.as_ref().map(|own| own.keyring());
        let keyrings = own.into_iter().chain(materials.seal.map(Seal::keyring));
        let keyrings = keyrings.cloned().collect();
        let from = From {
            board: resources.board.clone(),
            keyrings,
            streams: Arc::clone(&resources.streams),
            tickets: Arc::clone(&resources.tickets),
            settings: materials.config.tickets,
        };
        let identity = &materials.config.identity;
        Self::Face(Face::Own(Own::build(call, from, identity)))
    }
}

impl Route {
    /// Compiles a route.
    ///
    /// # Errors
    /// When its upstream's TLS settings cannot be used.
    pub fn build(route: &config::Route, materials: &Materials<'_>) -> Result<Self, TlsError> {
        let resources = materials.resources;
        Ok(Self {
            name: lasting::text(&route.name),
            id: resources.metrics.route(&route.name),
            policy: Policy::build(route),
            limits: Rules::build(route, &materials.config.limits),
            target: Target::build(route, materials)?,
            sources: match (route.target, materials.config.tickets) {
                // A ticket stands for a token where streams are: nothing of ours is one.
                (config::Target::Upstream(_), Some(_)) => {
                    Sources::build(&route.sources).with_tickets()
                }
                _ => Sources::build(&route.sources),
            },
            credentials: route.credentials,
            issuers: route.issuers.clone(),
            auth: route.auth,
            errors: route.errors,
            sse: route.sse.clone(),
            websocket: route.websocket.clone(),
            jobs: Jobs::build(route, &materials.config.jobs, resources.jobs.as_ref()),
        })
    }

    /// How it carries, where it leads to an upstream.
    pub fn carriage(&self) -> Option<&Carriage> {
        match &self.target {
            Target::Upstream(carriage) => Some(carriage),
            Target::Face(_) => None,
        }
    }

    /// Whether credentials are looked at here.
    pub fn verifies(&self) -> bool {
        self.auth != Auth::Public
    }

    /// Whose tokens count here; `None`: every issuer's.
    pub fn issuers(&self) -> Option<&[usize]> {
        self.issuers.as_deref()
    }

    /// The credential of a request, taken out of it, unless the route passes credentials on.
    ///
    /// # Errors
    /// When there are two, or one that cannot be read.
    pub fn take_credential(
        &self,
        parts: &mut Parts,
        everywhere: &Sources,
    ) -> Result<Taken, Refusal> {
        match (self.credentials, self.verifies()) {
            (Credentials::Strip, true) => self.sources.take(parts, everywhere),
            (Credentials::Strip, false) => Ok(Taken {
                found: Found::Nothing,
                offered_bearer: everywhere.remove(parts),
            }),
            (Credentials::Pass, true) => self.sources.look(parts).map(|found| Taken {
                found,
                offered_bearer: false,
            }),
            (Credentials::Pass, false) => Ok(Taken {
                found: Found::Nothing,
                offered_bearer: false,
            }),
        }
    }

    /// How a client of this route is told no.
    pub fn wanted<'r>(&self, head: &'r Head, journal: &'r Journal) -> Wanted<'r> {
        Wanted {
            style: self.errors.style,
            language: head.language().unwrap_or(self.errors.language),
            request_id: journal.id.as_str(),
            method: head.method(),
            version: journal.version(),
        }
    }

    /// Says no in the route's way: a body in its style, an event that an `EventSource` can read, or a
    /// WebSocket that is accepted, told why, and closed.
    pub fn refuse(
        &self,
        refusal: Refusal,
        head: Head,
        refused: Refused<'_>,
        journal: Journal,
    ) -> Response<Body> {
        let wanted = self.wanted(&head, &journal);
        let readable = refusal.is_about_caller();
        if readable
            && head.is_websocket()
            && self.websocket.on_reject == WebsocketReject::Close
            && let Some(downstream) = refused.downstream
        {
            let body = style::body_text(refusal, &wanted);
            let offer = Offer {
                version: journal.version(),
                headers: refused.headers,
                bearer: refused.offered_bearer,
            };
            if let Ok(response) = offer.accept() {
                let code = handshake::close_code(refusal, &self.websocket);
                let (word, mut journal) = (refusal.word(), journal);
                let client = downstream.claim();
                journal.settle(Some(head), response.status());
                tokio::task::spawn_local(async move {
                    switch::refuse_over(client, body, code, word).await;
                    drop(journal);
                });
                return response;
            }
        }
        if refusal == Refusal::TicketInUse && head.accepts_event_stream() {
            // Its stream broke off, and we have not seen it yet: soon the ticket is good again.
            let response = sse::come_again_response(refusal, self.sse.retry);
            return journal.tell_with(Some(head), response);
        }
        if readable && head.accepts_event_stream() && self.sse.on_reject == SseReject::Event {
            let body = style::body_text(refusal, &wanted);
            let retry = refused.retry_after.map(Duration::from_secs);
            let retry = retry.unwrap_or(self.sse.reject_retry);
            let response = sse::auth_error_response(refusal, body.as_bytes(), retry);
            return journal.tell_with(Some(head), response);
        }
        let mut response = style::render(refusal, &wanted);
        if let Target::Face(face) = &self.target {
            face.dress(&head, response.headers_mut());
        }
        journal.tell_with(Some(head), response)
    }
}
