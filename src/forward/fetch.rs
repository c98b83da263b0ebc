//! Gets the head of an answer: picks an endpoint, takes or opens a connection, sends, waits, and tries again
//! where that is safe. Everything it needs it owns, so that it can run on when the client has left.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::Instant;

use crate::body::{Body, BodyFault, UploadState};
use crate::config::{Balance, Protocol};
use crate::forward::pool::{Checkout, OpenError, Pools};
use crate::forward::upstream::{EndpointState, Upstream};
use crate::observe::metrics::Total;
use crate::refusal::Refusal;

/// One request to one upstream.
pub struct Fetch {
    /// Where to.
    pub upstream: Arc<Upstream>,
    /// The worker's connections.
    pub pools: Rc<Pools>,
    /// What to speak: an upgrade asks for HTTP/1.1 whatever the upstream's protocol.
    pub protocol: Protocol,
    /// From the whole request sent to the head of the answer.
    pub first_byte_timeout: Duration,
    /// The request's body; `None`: it has none.
    pub upload: Option<Rc<UploadState>>,
    /// The endpoint's own name becomes the request's `Host`.
    pub own_host: bool,
}

/// The head of an answer, its body still to come, and where it came from.
pub struct Fetched {
    /// The answer as the upstream gave it.
    pub response: Response<Incoming>,
    /// The connection, to be given back when the body has been read.
    pub connection: Connection,
    /// Who answered.
    pub endpoint: Arc<EndpointState>,
}

/// A connection that is busy with one request.
pub struct Connection {
    checkout: Checkout,
    _under_way: UnderWay,
}

impl Connection {
    /// The request is over, its answer read whole.
    pub fn give_back(self) {
        self.checkout.give_back();
    }
}

/// Why there is no answer, with the request where nothing of it was sent.
enum Miss {
    Unsent(Box<Request<Body>>),
    Broken(hyper::Error),
    TimedOut,
}

/// Counts a request for `least_requests`; counts nothing otherwise.
struct UnderWay(Option<Arc<EndpointState>>);

impl UnderWay {
    fn at(endpoint: &Arc<EndpointState>, balance: Balance) -> Self {
        if balance == Balance::RoundRobin {
            return Self(None);
        }
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Some(Arc::clone(endpoint)))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(endpoint) = &self.0 {
            endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Fetch {
    /// Sends `request` and waits for the head of its answer.
    ///
    /// # Errors
    /// `UpstreamUnavailable` when no connection can be had, `UpstreamFailed` when it breaks, `UpstreamTimeout`
    /// when it is silent, and the client's own fault where its body broke first.
    pub async fn run(self, mut request: Request<Body>) -> Result<Fetched, Refusal> {
        let mut tried: Vec<usize> = Vec::new();
        let mut stale = 0;
        loop {
            let endpoint = self
                .upstream
                .pick(&tried)
                .ok_or(Refusal::UpstreamUnavailable)?;
            let endpoint = Arc::clone(endpoint);
            let under_way = UnderWay::at(&endpoint, self.upstream.config.balance);
            let mut checkout = match self.connection(&endpoint, stale).await {
                Ok(checkout) => checkout,
                Err(error) => {
                    self.note_failure(&endpoint, &error);
                    // Nothing was sent yet, so that any request may go to another endpoint.
                    tried.push(endpoint.id);
                    if self.may_try_again(&tried) {
                        self.pools.count(Total::UpstreamRetries);
                        continue;
                    }
                    return Err(Refusal::UpstreamUnavailable);
                }
            };
            let spare = self.spare(&request, &checkout);
            match self
                .first_byte(&mut checkout, self.address(request, &endpoint))
                .await
            {
                Ok(response) => {
                    endpoint.succeeded();
                    let connection = Connection {
                        checkout,
                        _under_way: under_way,
                    };
                    return Ok(Fetched {
                        response,
                        connection,
                        endpoint,
                    });
                }
                Err(Miss::TimedOut) => return Err(Refusal::UpstreamTimeout),
                Err(Miss::Unsent(unsent)) if checkout.reused => {
                    stale += 1;
                    request = *unsent;
                }
                Err(miss) => {
                    request = self.after(miss, spare, &endpoint, &checkout)?;
                    stale += 1;
                    if !checkout.reused {
                        tried.push(endpoint.id);
                        if tried.len() > self.upstream.config.retries as usize {
                            return Err(Refusal::UpstreamFailed);
                        }
                    }
                }
            }
            self.pools.count(Total::UpstreamRetries);
        }
    }

    /// The request to send again after `miss`, where that is safe.
    fn after(
        &self,
        miss: Miss,
        spare: Option<Request<Body>>,
        endpoint: &EndpointState,
        checkout: &Checkout,
    ) -> Result<Request<Body>, Refusal> {
        if let Some(fault) = self.upload.as_ref().and_then(|upload| upload.fault()) {
            return Err(match fault {
                BodyFault::Broken => Refusal::RequestMalformed,
                BodyFault::TooLarge => Refusal::BodyTooLarge,
                BodyFault::TimedOut => Refusal::BodyTimeout,
            });
        }
        if let Miss::Broken(error) = &miss {
            tracing::debug!(endpoint = %endpoint.label, %error, "the upstream broke off before an answer");
        }
        if !checkout.reused {
            self.upstream.failed(endpoint);
        }
        match miss {
            Miss::Unsent(request) => Ok(*request),
            _ => spare.ok_or(Refusal::UpstreamFailed),
        }
    }

    async fn connection(
        &self,
        endpoint: &Arc<EndpointState>,
        stale: usize,
    ) -> Result<Checkout, OpenError> {
        // After a few connections that had died in the pool, the rest of it is likely dead too.
        const STALE_AT_MOST: usize = 2;
        let config = &self.upstream.config;
        let pool = self.pools.of(endpoint);
        if stale <= STALE_AT_MOST
            && self.protocol == config.protocol
            && let Some(kept) = pool.take(config)
        {
            return Ok(kept);
        }
        let opened = pool.open(endpoint, config, self.protocol).await;
        self.pools.count(match opened {
            Ok(_) => Total::UpstreamConnects,
            Err(_) => Total::UpstreamConnectFailures,
        });
        opened
    }

    fn note_failure(&self, endpoint: &EndpointState, error: &OpenError) {
        self.upstream.failed(endpoint);
        tracing::warn!(upstream = %self.upstream.config.name, endpoint = %endpoint.label, %error,
            "no connection to the upstream");
    }

    /// Whether another endpoint is left and another try allowed.
    fn may_try_again(&self, tried: &[usize]) -> bool {
        tried.len() <= self.upstream.config.retries as usize
            && tried.len() < self.upstream.endpoints.len()
    }

    /// A copy of the request, for the server that closes a kept connection just as the request goes out: the
    /// request may have been read, so only what is idempotent (RFC 9110 §9.2.2) and has no body goes again.
    fn spare(&self, request: &Request<Body>, checkout: &Checkout) -> Option<Request<Body>> {
        let repeatable = self.upload.is_none()
            && request.method().is_idempotent()
            && self.upstream.config.retries > 0;
        if !repeatable || checkout.is_http2() {
            return None;
        }
        let mut copy = Request::new(Body::Empty);
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.headers_mut() = request.headers().clone();
        Some(copy)
    }

    /// Writes the endpoint into the request: `Host` where the route wants it, the whole URI for HTTP/2.
    fn address(&self, mut request: Request<Body>, endpoint: &EndpointState) -> Request<Body> {
        let authority = &endpoint.config.authority;
        if self.own_host {
            request
                .headers_mut()
                .insert(http::header::HOST, authority.clone());
        }
        if self.protocol == Protocol::Http1 {
            return request;
        }
        // HTTP/2 has the host in `:authority`, which hyper takes from the URI (RFC 9113 §8.3.1).
        let host = request.headers_mut().remove(http::header::HOST);
        let host = host.as_ref().unwrap_or(authority);
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(match endpoint.config.tls {
            true => http::uri::Scheme::HTTPS,
            false => http::uri::Scheme::HTTP,
        });
        parts.authority = host.to_str().ok().and_then(|host| host.parse().ok());
        if let Ok(uri) = http::Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        *request.version_mut() = http::Version::HTTP_2;
        request
    }

    /// Sends, and waits for the head of the answer; the time counts from the end of the request's body.
    async fn first_byte(
        &self,
        checkout: &mut Checkout,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Miss> {
        let mut sent = pin!(checkout.send(request));
        let mut timer = pin!(tokio::time::sleep(self.first_byte_timeout));
        let mut progress = Progress {
            bytes: 0,
            since: Instant::now(),
        };
        loop {
            tokio::select! {
                biased;
                answer = &mut sent => return answer.map_err(Miss::from),
                () = &mut timer => match self.patience(&mut progress) {
                    Some(until) => timer.as_mut().reset(until),
                    None => return Err(Miss::TimedOut),
                },
            }
        }
    }

    /// Until when the answer is awaited; `None`: no longer.
    fn patience(&self, progress: &mut Progress) -> Option<Instant> {
        let upload = self.upload.as_ref()?;
        let now = Instant::now();
        if let Some(done) = upload.done() {
            return Some(done + self.first_byte_timeout).filter(|until| *until > now);
        }
        // An upstream that takes nothing of the body; a client that sends nothing is `Upload`'s affair.
        if upload.bytes() != progress.bytes {
            *progress = Progress {
                bytes: upload.bytes(),
                since: now,
            };
        }
        let stuck = now - progress.since >= self.upstream.config.idle_timeout;
        (!stuck).then(|| now + self.first_byte_timeout)
    }
}

/// How far a request's body has come.
struct Progress {
    bytes: u64,
    since: Instant,
}

impl From<TrySendError<Request<Body>>> for Miss {
    fn from(mut error: TrySendError<Request<Body>>) -> Self {
        match error.take_message() {
            Some(request) => Self::Unsent(Box::new(request)),
            None => Self::Broken(error.into_error()),
        }
    }
}
