//! The carrier: one permitted request to its upstream and the answer back. Chooses between plain HTTP, an
//! event stream (by the answer's content type) and a tunnel (by the request's upgrade).

use std::future::poll_fn;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as HttpBody;

use crate::body::{Body, UploadState};
use crate::config::{self, CaptureFrom, HostHeader, OnDisconnect, Protocol};
use crate::downstream::{Downstream, Hints};
use crate::forward::expiring::Expiring;
use crate::forward::fetch::{Fetch, Rest, Source, UnderWay, Whereto};
use crate::forward::headers::{Forwarding, HeaderPlan, Screens, Stamp, Tail};
use crate::forward::listening;
use crate::forward::persistent::{Persistent, finish};
use crate::forward::pool::Pools;
use crate::forward::relay::{Relay, Upload, UploadLimits};
use crate::forward::sse;
use crate::forward::upstream::Upstream;
use crate::forward::websocket::handshake;
use crate::forward::websocket::switch::{self, Switch};
use crate::forward::websocket::tunnel::{self, Side};
use crate::http1::channel::Channel;
use crate::identity::assertion::{Assertion, Bound};
use crate::jobs::watch::Watch;
use crate::journal::Journal;
use crate::limits::{Admission, Lease};
use crate::observe::Kind;
use crate::policy::Permit;
use crate::refusal::Refusal;
use crate::request::head::Head;
use crate::request::upgrade::{Handshake, Upgrade};
use crate::streams::{self, Member, Membership, Streams};
use crate::tickets::Hold;

/// How a route carries: everything about it that is known before a request comes.
pub struct Carriage {
    upstream: Arc<Upstream>,
    plan: Arc<HeaderPlan>,
    upload: UploadLimits,
    first_byte_timeout: Duration,
    on_disconnect: OnDisconnect,
    host_header: HostHeader,
    sse: Arc<sse::Settings>,
    websocket: Arc<config::Websocket>,
    tunnels: Arc<tunnel::Plan>,
    upgrades: Vec<Box<str>>,
    route: Arc<str>,
    assertion: Option<Assertion>,
}

/// A permitted request.
pub struct Exchange<'r, 'l> {
    /// Its head, as it was judged.
    pub head: &'r Head,
    /// Who forwarded it, as far as its connection tells.
    pub forwarding: &'r Forwarding,
    /// The path's parameter of that name, percent-decoded, for a WebSocket's greeting.
    pub connection_id: Option<String>,
    /// The client offered `bearer` as subprotocol.
    pub offered_bearer: bool,
    /// Leave to go on.
    pub permit: Permit,
    /// The ticket that it came by, to be given back.
    pub ticket: Option<Hold>,
    /// Its head, as it will be sent: credentials are out of it.
    pub parts: &'r mut Parts,
    /// Its body.
    pub body: Body,
    /// The downstream connection, if it can be told more than the answer.
    pub downstream: &'r mut Option<Downstream>,
    /// Its way through the limits.
    pub admission: &'r mut Admission<'l>,
    /// The worker's side.
    pub line: Line<'r>,
    /// Who listens to the answer for jobs, where the route asks.
    pub watch: Option<Watch>,
}

/// The worker's side of a carriage.
#[derive(Clone, Copy)]
pub struct Line<'r> {
    /// Its upstream connections.
    pub pools: &'r Rc<Pools>,
    /// The registry of live streams.
    pub streams: &'r Arc<Streams>,
    /// Its number.
    pub worker: usize,
}

/// What came of it.
pub enum Carried {
    /// An answer; its body may go on for long.
    Answer(Response<Body>),
    /// The switch to a WebSocket, and the tunnel to be run once it is made.
    Tunnel(Response<Body>, Box<Switch>),
}

impl Carriage {
    /// Compiles a route's carriage.
    pub fn build(
        route: &config::Route,
        config: &config::Config,
        screens: &Screens,
        upstream: Arc<Upstream>,
    ) -> Self {
        let settings = sse::Settings {
            sse: route.sse.clone(),
            idle_timeout: upstream.config.stream_idle_timeout,
            language: route.errors.language,
            expiring: Expiring {
                notice: route.expiring_notice,
                language: route.errors.language,
            },
        };
        Self {
            plan: Arc::new(HeaderPlan::build(route, config, screens)),
            upload: UploadLimits {
                size: route.max_body,
                timeout: config.server.body_timeout,
                rate: config.server.min_body_rate,
            },
            first_byte_timeout: route.first_byte_timeout,
            on_disconnect: route.on_disconnect,
            host_header: route.host_header,
            tunnels: Arc::new(tunnel::Plan::new(
                &route.websocket,
                config.server.send_timeout,
                settings.expiring,
            )),
            sse: Arc::new(settings),
            websocket: Arc::new(route.websocket.clone()),
            upgrades: route.upgrades.clone(),
            route: Arc::clone(&route.name),
            assertion: None,
            upstream,
        }
    }

    /// The same, with a signed assertion for the upstream.
    #[must_use]
    pub fn asserting(self, assertion: Option<Assertion>) -> Self {
        Self { assertion, ..self }
    }

    /// Where it leads.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Makes the headers those that the upstream gets.
    ///
    /// # Errors
    /// When what must be signed cannot be.
    pub fn dress(
        &self,
        headers: &mut HeaderMap,
        head: &Head,
        permit: &Permit,
        stamp: Stamp<'_>,
    ) -> Result<(), Refusal> {
        self.prepare(headers, head, permit, stamp)?.put(headers);
        Ok(())
    }

    /// The same, but for the tail.
    fn prepare<'r>(
        &'r self,
        headers: &mut HeaderMap,
        head: &'r Head,
        permit: &'r Permit,
        stamp: Stamp<'r>,
    ) -> Result<Tail<'r>, Refusal> {
        let tail = self.plan.request(headers, head, permit, stamp);
        let (Some(assertion), Some(identity)) = (&self.assertion, permit.identity()) else {
            return Ok(tail);
        };
        let bound = Bound {
            method: head.method(),
            path: head.path(),
        };
        assertion.put(headers, identity, bound).map_err(|error| {
            tracing::error!(route = %self.route, %error, "an assertion could not be signed");
            Refusal::Internal
        })?;
        Ok(tail)
    }

    /// Carries the request and brings the head of the answer; the body follows on its own.
    ///
    /// # Errors
    /// What is wrong with the upstream, or with the client's body.
    pub async fn carry(
        &self,
        exchange: &mut Exchange<'_, '_>,
        journal: &mut Journal,
    ) -> Result<Carried, Refusal> {
        let switching = self.switching(exchange.head)?;
        if exchange.head.preflight().is_some() {
            // Over HTTP/2 a body may come unannounced; a preflight has none, and may go on unasked.
            exchange.body = Body::Empty;
        }
        self.hear_end(&mut exchange.body).await?;
        journal.upload = self.upload(&exchange.body)?;
        let (id, forwarding) = (journal.id, exchange.forwarding);
        let stamp = Stamp {
            id: &id,
            forwarding,
        };
        let headers = &mut exchange.parts.headers;
        let tail = self.prepare(headers, exchange.head, &exchange.permit, stamp)?;
        let tail = match self.on_disconnect {
            OnDisconnect::Cancel => Some(tail),
            // What it says of the request may be gone before that is over.
            OnDisconnect::Finish => {
                tail.put(headers);
                None
            }
        };
        let body = std::mem::take(&mut exchange.body);
        let upgrade = (switching != Switching::No).then(|| exchange.head.upgrade());
        if let Some(watch) = &exchange.watch {
            listening::make_audible(headers, watch);
        }
        let request = self.request(exchange.parts, (body, &journal.upload), upgrade);
        let fetch = Fetch {
            upstream: Whereto::Lent(&self.upstream),
            tail,
            pools: Rc::clone(exchange.line.pools),
            protocol: match switching {
                Switching::No => self.upstream.config.protocol,
                _ => Protocol::Http1,
            },
            first_byte_timeout: self.first_byte_timeout,
            upload: journal.upload.clone(),
            own_host: self.host_header == HostHeader::Upstream,
        };
        let hints = exchange.downstream.as_ref().map(Downstream::hints);
        let fetched = match self.on_disconnect {
            OnDisconnect::Cancel => {
                let mut hear = pass_on(&*self.plan, hints);
                fetch.run(request, &mut hear).await?
            }
            OnDisconnect::Finish => {
                let hear = pass_on(Arc::clone(&self.plan), hints);
                finish(fetch.keeping(&self.upstream), request, hear).await?
            }
        };
        journal.answered(fetched.endpoint);
        match fetched.rest {
            Rest::Switched(channel) => {
                let lease = exchange.admission.stream(&exchange.permit).await?;
                let switched = Switched {
                    lease,
                    head: fetched.head,
                    channel,
                    switching,
                };
                self.switched(switched, exchange, journal)
            }
            Rest::Body(_) if is_taken_for_a_tunnel(exchange.head, fetched.head.status) => {
                Err(Refusal::UpstreamFailed)
            }
            Rest::Body(source) => {
                let streaming = is_stream(&fetched.head);
                let lease = match streaming {
                    true => exchange.admission.stream(&exchange.permit).await?,
                    false => None,
                };
                let most = exchange
                    .watch
                    .as_ref()
                    .and_then(|watch| listening::held_back(watch, &fetched.head));
                let answer = Answer {
                    head: fetched.head,
                    source,
                    streaming,
                    lease,
                    under_way: fetched.under_way,
                };
                let carried = self.answer(answer, exchange, journal)?;
                match most {
                    None => Ok(carried),
                    Some(most) => Box::pin(listening::until_kept(carried, most)).await,
                }
            }
        }
    }

    /// What the request wants to switch to, where the route lets it.
    fn switching(&self, head: &Head) -> Result<Switching, Refusal> {
        match head.upgrade() {
            Upgrade::None => Ok(Switching::No),
            Upgrade::Websocket(_) if self.websocket.enabled => Ok(Switching::Websocket),
            Upgrade::Other(token) if self.upgrades.contains(token) => Ok(Switching::Other),
            // RFC 9110 §7.8: a server may ignore an upgrade and answer in the protocol at hand.
            Upgrade::Other(_) => Ok(Switching::No),
            Upgrade::Websocket(_) => Err(Refusal::UpgradeRefused),
        }
    }

    /// Waits for the end of a body that says it is empty and has not ended: HTTP/2 may say `content-length: 0`
    /// and send bytes all the same, which is an error (RFC 9113 §8.1.1) that is known only then.
    async fn hear_end(&self, body: &mut Body) -> Result<(), Refusal> {
        if body.is_end_stream() || body.size_hint().exact() != Some(0) {
            return Ok(());
        }
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
        match tokio::time::timeout(self.upload.timeout, frame).await {
            Err(_) => Err(Refusal::BodyTimeout),
            Ok(None) => Ok(()),
            Ok(Some(Ok(frame))) if frame.data_ref().is_none_or(Bytes::is_empty) => Ok(()),
            Ok(Some(_)) => Err(Refusal::RequestMalformed),
        }
    }

    /// A watch on the request's body; none where there is none.
    fn upload(&self, body: &Body) -> Result<Option<Rc<UploadState>>, Refusal> {
        match body.size_hint().exact() {
            Some(0) => Ok(None),
            Some(size) if size > self.upload.size => Err(Refusal::BodyTooLarge),
            _ => Ok(Some(Rc::default())),
        }
    }

    /// The request as the upstream gets it, of what is left of the client's.
    fn request(
        &self,
        parts: &mut Parts,
        (body, upload): (Body, &Option<Rc<UploadState>>),
        upgrade: Option<&Upgrade>,
    ) -> Request<Body> {
        let mut request = Request::new(match upload {
            None => Body::Empty,
            Some(state) => {
                let state = Rc::clone(state);
                Body::stream(Upload::new(body, self.upload, state))
            }
        });
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = parts.uri.clone();
        *request.headers_mut() = std::mem::take(&mut parts.headers);
        if let Some(upgrade) = upgrade {
            switch::ask(&mut request, upgrade);
        }
        request
    }

    /// An answer whose body follows.
    fn answer(
        &self,
        answer: Answer,
        exchange: &mut Exchange<'_, '_>,
        journal: &mut Journal,
    ) -> Result<Carried, Refusal> {
        let Answer {
            mut head,
            source,
            under_way,
            streaming,
            lease,
        } = answer;
        let idle = (!streaming).then_some(self.upstream.config.idle_timeout);
        let relay = Relay::open(&head, (source, under_way), idle)?;
        let body = match exchange.watch.take() {
            None => relay.into_body(),
            Some(watch) => listening::listen(relay.into_body(), watch, &head),
        };
        self.plan.response(&mut head.headers);
        head.extensions.clear();
        let body = match self.on_disconnect {
            OnDisconnect::Cancel => body,
            OnDisconnect::Finish => Body::stream(Persistent::new(body)),
        };
        let response = Response::from_parts(head, body);
        if !streaming {
            return Ok(Carried::Answer(response));
        }
        journal.kind = Kind::Sse;
        let ending = journal.ending();
        let ticket = exchange.ticket.take();
        let mut membership = self.join((streams::Kind::Sse, lease.as_ref()), exchange);
        if let Some(ticket) = ticket {
            membership.upon_leaving(move |left| ticket.leave(&left));
        }
        let over = move |outcome: streams::Outcome| {
            ending.set(Some(outcome.word()));
            drop(lease);
        };
        let settings = Arc::clone(&self.sse);
        Ok(Carried::Answer(sse::carry(
            response, membership, settings, over,
        )))
    }

    /// The upstream has switched protocols; the downstream side is still to follow.
    fn switched(
        &self,
        switched: Switched,
        exchange: &mut Exchange<'_, '_>,
        journal: &mut Journal,
    ) -> Result<Carried, Refusal> {
        let downstream = exchange
            .downstream
            .take()
            .filter(|_| switched.switching != Switching::No);
        // A switch that nobody asked for (CVE-2026-2833): nothing more is read from that connection.
        let downstream = downstream.ok_or(Refusal::UpstreamFailed)?;
        let upgrade = exchange.head.upgrade();
        let mut answer = Response::from_parts(switched.head, ());
        self.plan.response(answer.headers_mut());
        let response = switch::answer(answer, upgrade, exchange.offered_bearer);
        let watch = exchange.watch.take();
        let watch = watch.filter(|watch| {
            switched.switching == Switching::Websocket && watch.listens_to(CaptureFrom::Websocket)
        });
        let connection_id = exchange.connection_id.as_deref();
        let part = (switched.switching == Switching::Websocket).then(|| tunnel::Part {
            greeting: handshake::greeting(&self.websocket, connection_id, &exchange.permit),
            plan: Arc::clone(&self.tunnels),
        });
        journal.kind = Kind::Websocket;
        let membership = self.join(
            (streams::Kind::Websocket, switched.lease.as_ref()),
            exchange,
        );
        let switch = Switch {
            downstream: downstream.claim(),
            upstream: Side {
                early: switched.channel.read,
                io: switched.channel.wire,
            },
            membership,
            part,
            lease: switched.lease,
            watch: watch.map(Box::new),
        };
        Ok(Carried::Tunnel(response, Box::new(switch)))
    }

    fn join(
        &self,
        (kind, lease): (streams::Kind, Option<&Lease>),
        exchange: &Exchange<'_, '_>,
    ) -> Membership {
        let member = Member {
            permit: exchange.permit.clone(),
            kind,
            route: Arc::clone(&self.route),
            path: exchange.head.path().into(),
            since: exchange.line.streams.now(),
        };
        let membership = exchange.line.streams.join(exchange.line.worker, member);
        if let Some(lease) = lease {
            lease.bind(membership.remote());
        }
        membership
    }
}

/// What the connection is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Switching {
    No,
    Websocket,
    Other,
}

/// An answer with a body.
struct Answer {
    head: http::response::Parts,
    source: Source,
    under_way: UnderWay,
    /// Whether it is an event stream.
    streaming: bool,
    /// A stream's.
    lease: Option<Lease>,
}

/// An answer that changes the protocol.
struct Switched {
    head: http::response::Parts,
    channel: Box<Channel>,
    switching: Switching,
    lease: Option<Lease>,
}

/// Whether an answer that opens nothing would tell the client that its tunnel is open: over HTTP/2 any 2xx does
/// (RFC 8441 §5, CVE-2024-23326).
fn is_taken_for_a_tunnel(head: &Head, status: StatusCode) -> bool {
    status.is_success() && matches!(head.upgrade(), Upgrade::Websocket(Handshake::Http2))
}

/// Whether the answer is an event stream, which may be silent for as long as its own limit says.
pub(super) fn is_stream(head: &http::response::Parts) -> bool {
    head.status == StatusCode::OK && sse::is_event_stream(&head.headers)
}

/// Passes interim answers on to the client (RFC 9110 §15.2), but for the leave to send a body, which the
/// gateway gives itself.
fn pass_on<'p>(
    plan: impl Deref<Target = HeaderPlan> + 'p,
    hints: Option<Hints>,
) -> impl FnMut(StatusCode, HeaderMap) + 'p {
    move |status, mut headers| {
        let Some(hints) = hints.as_ref().filter(|_| status != StatusCode::CONTINUE) else {
            return;
        };
        plan.response(&mut headers);
        headers.remove(CONTENT_LENGTH);
        hints.give(status, headers);
    }
}
