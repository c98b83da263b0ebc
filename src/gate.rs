//! **The journey of one request**, each step's rule in a module of its own:
//!
//! 1. `Head::read` — the head, normalized once (`request/`), else 400, 413, 414, 431
//! 2. `Router::find` — the route and its parameters (`route/`), else 404
//! 3. `Sources::take` — the credential, taken out (`request/credential.rs`); two: 400
//! 4. `Verifier::identify` — who calls (`identity/`)
//! 5. `Policy::decide` — a `Permit`, else 401, 403 (`policy.rs`)
//! 6. `Admission::admit` — rate, quota and streams (`limits/`), else 429; not for the gateway's own answers
//! 7. `Jobs::admit` — whose job it is that the request names (`jobs/`), else 404
//! 8. `Carriage::carry` — HTTP, SSE or WebSocket to the upstream (`forward/`), else 502, 503, 504; or
//!    `Face::serve` — the gateway's own answer (`faces/`)
//!
//! and one journal entry in the end (`journal.rs`). Holds no rule of its own.

mod build;
mod caller;

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Method, Request, Response, Version};

use crate::body::{Body, UploadState};
use crate::config::{self, Config};
use crate::downstream::Downstream;
use crate::faces::Call;
use crate::forward::headers::{self, Forwarding};
use crate::forward::http::{Carriage, Carried, Exchange};
use crate::forward::upstream::Upstream;
use crate::identity::verifier::Verifier;
use crate::identity::{Caller, Identity};
use crate::jobs::Jobs;
use crate::jobs::named::Naming;
use crate::jobs::watch::Watch;
use crate::journal::Journal;
use crate::limits::{Admission, Ask, Limits};
use crate::observe::access::Sink;
use crate::observe::request_id::RequestId;
use crate::policy::Permit;
use crate::refusal::style::Wanted;
use crate::refusal::{Refusal, style};
use crate::request::credential::{Found, Place, Sources, Taken};
use crate::request::head::{Head, HeadRules};
use crate::request::peer::Peer;
use crate::request::upgrade::Upgrade;
use crate::resources::Desk;
use crate::route::router::{Match, Router};
use crate::route::{Refused, Route, Target};
use crate::streams::{End, Judge, Verdict};
use crate::wire::vitals::Busy;

pub use build::switches;

/// A compiled configuration. Swapped whole; a request keeps the one that it began with.
pub struct Gate {
    config: Config,
    head_rules: HeadRules,
    router: Router,
    routes: Vec<Arc<Route>>,
    /// Every place that any route looks for a credential in: what must be removed on all of them.
    everywhere: Sources,
    verifier: Verifier,
    limits: Limits,
    sink: Sink,
}

/// A downstream connection, as its requests see it.
pub struct Conn {
    /// The worker that serves it.
    pub desk: Rc<Desk>,
    /// Who connected.
    pub peer: Peer,
    /// The same, as the upstream is told.
    pub forwarding: Forwarding,
}

/// What is left of a request when its head has been read.
struct Passing<'r, 'l> {
    head: &'r Head,
    found: &'r Match<'r>,
    parts: Parts,
    body: Body,
    downstream: Option<Downstream>,
    offered_bearer: bool,
    /// The token stood in the URL: the answer must stay out of caches, the URL out of `Referer`.
    token_in_query: bool,
    admission: Admission<'l>,
}

impl Gate {
    /// The configuration that it was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where its requests are told to.
    pub fn sink(&self) -> Sink {
        self.sink.clone()
    }

    /// Rung 1: the head.
    ///
    /// # Errors
    /// When it can be read in two ways, or in none.
    pub fn read(&self, parts: &mut Parts, peer: Peer) -> Result<Head, Refusal> {
        Head::read(parts, peer, &self.head_rules)
    }

    /// Rung 2: the route.
    pub fn find<'h>(&'h self, head: &'h Head) -> Option<Match<'h>> {
        self.router.find(head)
    }

    /// The route that was found.
    pub fn route(&self, found: &Match<'_>) -> &Arc<Route> {
        &self.routes[found.route]
    }

    /// Rung 3: the credential, taken out.
    ///
    /// # Errors
    /// When there are two.
    pub fn take_credential(&self, route: &Route, parts: &mut Parts) -> Result<Taken, Refusal> {
        route.take_credential(parts, &self.everywhere)
    }

    /// Rung 4: who verifies it.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Rung 6: how much may be asked.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Every upstream that a route leads to, once.
    pub fn upstreams(&self) -> Vec<&Arc<Upstream>> {
        let mut upstreams: Vec<&Arc<Upstream>> = Vec::new();
        let carriages = self.routes.iter().filter_map(|route| route.carriage());
        for upstream in carriages.map(Carriage::upstream) {
            if !upstreams.iter().any(|known| Arc::ptr_eq(known, upstream)) {
                upstreams.push(upstream);
            }
        }
        upstreams
    }

    /// `[server]`.
    pub fn server(&self) -> &config::Server {
        &self.config.server
    }

    /// Answers one request, whatever becomes of it. `downstream` is what it may ask of its connection, `busy` keeps
    /// that from counting as idle.
    pub async fn handle(
        &self,
        conn: &Conn,
        request: Request<Body>,
        downstream: Option<Downstream>,
        busy: Busy,
    ) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let mut journal = Journal::begin(conn.desk.book(), busy, &parts.method, parts.version);
        let head = match self.read(&mut parts, conn.peer) {
            Ok(head) => head,
            Err(refusal) => {
                journal.refused(refusal);
                let response = self.render(refusal, &parts, &journal.id);
                return journal.tell_with(None, response);
            }
        };
        if let Some(id) = self.adopted_id(&head, &parts) {
            journal.id = id;
        }
        let Some(found) = self.find(&head) else {
            journal.refused(Refusal::RouteNotFound);
            let response = self.render(Refusal::RouteNotFound, &parts, &journal.id);
            return journal.tell_with(Some(head), response);
        };
        let route = self.route(&found);
        journal.matched(route.id, route.name);
        let mut passing = Passing {
            head: &head,
            found: &found,
            parts,
            body,
            downstream,
            offered_bearer: false,
            token_in_query: false,
            admission: self
                .limits
                .admission(route.limits.as_ref(), &conn.desk.near),
        };
        let mut waiting = journal.waiting(&head);
        let passed = self.pass(conn, &mut passing, waiting.journal()).await;
        waiting.over();
        let token_in_query = passing.token_in_query;
        let admission = passing.admission;
        match passed {
            Ok(Carried::Answer(mut response)) => {
                admission.tell(response.status(), response.headers_mut());
                if token_in_query {
                    headers::hide_query_token(response.headers_mut());
                }
                journal.tell_with(Some(head), response)
            }
            Ok(Carried::Tunnel(mut response, tunnel)) => {
                admission.tell(response.status(), response.headers_mut());
                journal.settle(Some(head), response.status());
                let place = conn.desk.enter_tunnel();
                tokio::task::spawn_local(tunnel.run(journal, place));
                response
            }
            Err(refusal) => {
                journal.refused(refusal);
                let refused = Refused {
                    headers: &passing.parts.headers,
                    offered_bearer: passing.offered_bearer,
                    downstream: passing.downstream,
                    retry_after: admission.retry_after(),
                };
                let mut response = route.refuse(refusal, head, refused, journal);
                admission.tell(response.status(), response.headers_mut());
                if token_in_query {
                    headers::hide_query_token(response.headers_mut());
                }
                response
            }
        }
    }

    /// Answers a head that could not be read: nothing is known of it but what is wrong with it.
    pub fn misread(&self, conn: &Conn, refusal: Refusal, busy: Busy) -> Response<Body> {
        let (parts, ()) = Request::new(()).into_parts();
        let unknown = Method::from_bytes(b"-").unwrap_or_default();
        let mut journal = Journal::begin(conn.desk.book(), busy, &unknown, Version::HTTP_11);
        journal.refused(refusal);
        let response = self.render(refusal, &parts, &journal.id);
        journal.tell_with(None, response)
    }

    async fn pass(
        &self,
        conn: &Conn,
        passing: &mut Passing<'_, '_>,
        journal: &mut Journal,
    ) -> Result<Carried, Refusal> {
        let Passing { head, found, .. } = *passing;
        let route = self.route(found);
        let query = |parts: &Parts| parts.uri.query().map(str::len);
        let queried = query(&passing.parts);
        let taken = self.take_credential(route, &mut passing.parts);
        // Cut out: also where it was not the one that counts.
        passing.token_in_query = query(&passing.parts) != queried;
        let taken = taken?;
        passing.offered_bearer = taken.offered_bearer;
        let place = taken.found.place();
        passing.token_in_query |= place == Some(Place::Query);
        let (caller, ticket) = match taken.found {
            Found::Token(credential) if place == Some(Place::Ticket) => {
                self.bearer(head, (route, credential), conn).await?
            }
            found => (self.caller(route, found, &conn.desk.tokens).await, None),
        };
        journal.identified(&caller);
        let permit = route.policy.decide(caller, place, head)?;
        let ask = Ask {
            permit: &permit,
            head,
            at: journal.began(),
        };
        passing.admission.admit(ask).await?;
        let watch = match &route.jobs {
            None => None,
            Some(jobs) => self.guard(jobs, &permit, passing, journal).await?,
        };
        let carriage = match &route.target {
            Target::Upstream(carriage) => carriage,
            Target::Face(face) => {
                let received = Rc::<UploadState>::default();
                journal.upload = Some(Rc::clone(&received));
                let call = Call {
                    head,
                    received,
                    permit,
                    id: &journal.id,
                    headers: &passing.parts.headers,
                    body: std::mem::take(&mut passing.body),
                    body_timeout: self.config.server.body_timeout,
                    wanted: route.wanted(head, journal),
                };
                return face.serve(call).await.map(Carried::Answer);
            }
        };
        let mut exchange = Exchange {
            head,
            forwarding: &conn.forwarding,
            connection_id: found.params.decoded("connection_id").map(Cow::into_owned),
            offered_bearer: passing.offered_bearer,
            permit,
            ticket,
            parts: &mut passing.parts,
            body: std::mem::take(&mut passing.body),
            downstream: &mut passing.downstream,
            admission: &mut passing.admission,
            line: conn.desk.line(),
            watch,
        };
        carriage.carry(&mut exchange, journal).await
    }

    /// Whose the job is that the request names, where its route asks.
    async fn guard(
        &self,
        jobs: &Jobs,
        permit: &Permit,
        passing: &mut Passing<'_, '_>,
        journal: &mut Journal,
    ) -> Result<Option<Watch>, Refusal> {
        if passing.head.preflight().is_some() {
            // It asks for leave to ask, and has no credential: its answer must not tell what there is.
            passing.parts.uri = jobs.unnamed(&passing.parts.uri)?;
            return Ok(None);
        }
        let note = journal.job.insert(Rc::default());
        // What follows an upgrade is no body.
        let mut nothing = Body::Empty;
        let body = match passing.head.upgrade() {
            Upgrade::None => &mut passing.body,
            _ => &mut nothing,
        };
        let params = &passing.found.params;
        let mut naming = Naming {
            method: passing.head.method(),
            headers: &passing.parts.headers,
            query: passing.parts.uri.query(),
            params: &|name| params.get(name),
            body,
            body_timeout: self.config.server.body_timeout,
            note: Rc::clone(note),
        };
        jobs.admit(permit, &mut naming).await
    }

    /// A trusted proxy may have named the request already.
    fn adopted_id(&self, head: &Head, parts: &Parts) -> Option<RequestId> {
        if !head.client().trusted {
            return None;
        }
        let name = &self.config.identity.request_id_header;
        RequestId::adopt(parts.headers.get(name)?.to_str().ok()?)
    }

    fn render(&self, refusal: Refusal, parts: &Parts, id: &RequestId) -> Response<Body> {
        let language = crate::request::head::language(&parts.headers);
        let wanted = Wanted {
            style: self.config.errors.style,
            language: language.unwrap_or(self.config.errors.language),
            request_id: id.as_str(),
            method: &parts.method,
            version: parts.version,
        };
        style::render(refusal, &wanted)
    }

    /// The route with this name.
    fn named(&self, name: &str) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| route.name == name)
    }

    /// How long idle connections to this endpoint are kept; `None`: it is no longer used.
    pub fn pool_idle_timeout(&self, endpoint: usize) -> Option<Duration> {
        self.upstreams().into_iter().find_map(|upstream| {
            upstream
                .endpoints
                .iter()
                .any(|known| known.id == endpoint)
                .then_some(upstream.config.pool_idle_timeout)
        })
    }

    /// Keys of `config` that differ from this gate's and cannot change while running.
    pub fn needs_restart(&self, config: &Config) -> Vec<&'static str> {
        let (now, then) = (&self.config, config);
        let pinned = [
            ("server.listen", now.server.listen != then.server.listen),
            ("server.workers", now.server.workers != then.server.workers),
            ("admin.listen", now.admin.listen != then.admin.listen),
            ("store", now.store != then.store),
            ("redis", now.redis != then.redis),
            (
                "accounts",
                now.accounts.is_some() != then.accounts.is_some(),
            ),
            ("log.format", now.log.format != then.log.format),
            ("log.level", now.log.level != then.log.level),
        ];
        pinned
            .into_iter()
            .filter_map(|(key, changed)| changed.then_some(key))
            .collect()
    }
}

impl Judge for Gate {
    /// Whether its caller would still be let in, by what its token says.
    fn review(&self, route: &str, permit: &Permit) -> Verdict {
        let Some(route) = self.named(route) else {
            return Verdict::End(End::Revoked);
        };
        let caller = match permit.identity() {
            None => Ok(permit.caller().clone()),
            Some(identity) => self
                .verifier
                .review(identity, route.issuers())
                .map(Caller::Known),
        };
        match caller.and_then(|caller| route.policy.review(&caller)) {
            Ok(()) => Verdict::Keep,
            Err(_) => Verdict::End(End::Revoked),
        }
    }

    fn allows(&self, route: &str, permit: &Permit) -> bool {
        let route = self.named(route);
        route.is_some_and(|route| route.policy.review(permit.caller()).is_ok())
    }

    fn read(&self, token: &str) -> Option<Arc<Identity>> {
        self.verifier.judge(&token.into()).ok()
    }
}
