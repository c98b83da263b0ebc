//! Gets the head of an answer: picks an endpoint, takes or opens a connection, sends, waits, and tries again
//! where that is safe. Everything it needs it owns, so that it can run on when the client has left.

use std::future::poll_fn;
use std::ops::Deref;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, ready};
use std::time::Duration;

use http::response::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use tokio::time::Instant;

use crate::body::{Body, BodyFault, UploadState};
use crate::config::{Balance, Protocol};
use crate::forward::headers::Tail;
use crate::forward::http1::reading::{Exchanged, Reading};
use crate::forward::http1::sending;
use crate::forward::http2;
use crate::forward::http2::connection::Place;
use crate::forward::outgoing::Outgoing;
use crate::forward::pool::{Checkout, OpenError, Pool, Pools, Sender};
use crate::forward::upstream::{EndpointState, Upstream};
use crate::http1::Fault;
use crate::http1::channel::Channel;
use crate::observe::metrics::Total;
use crate::refusal::Refusal;
use crate::wire::turns;

/// One request to one upstream.
pub struct Fetch<'u> {
    /// Where to.
    pub upstream: Whereto<'u>,
    /// What is said behind the fields of the request's head; `None`: they say it.
    pub tail: Option<Tail<'u>>,
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

/// An upstream, borrowed where its route outlasts the fetch: to count a reference would write to memory that all
/// workers share.
pub enum Whereto<'u> {
    /// For as long as the client waits.
    Lent(&'u Upstream),
    /// For as long as it takes.
    Kept(Arc<Upstream>),
}

impl Deref for Whereto<'_> {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        match self {
            Self::Lent(upstream) => upstream,
            Self::Kept(upstream) => upstream,
        }
    }
}

/// The head of an answer, what follows it, and where it came from.
pub struct Fetched {
    /// The answer's head as the upstream gave it.
    pub head: Parts,
    /// What follows.
    pub rest: Rest,
    /// The label of the endpoint that answered.
    pub endpoint: &'static str,
    /// Counts the request for as long as its answer lasts.
    pub under_way: UnderWay,
}

/// What follows the head of an answer.
pub enum Rest {
    /// A body.
    Body(Source),
    /// Another protocol: the upstream has switched.
    Switched(Box<Channel>),
}

/// A body that comes from an upstream.
pub enum Source {
    /// Over HTTP/1.1.
    Http1(Reading),
    /// Over HTTP/2.
    Http2(http2::exchange::Reading),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Miss {
    #[error("{0}")]
    Http1(#[from] Fault),
    #[error("{0}")]
    Http2(#[from] http2::Fault),
    #[error("silence")]
    TimedOut,
}

/// Counts a request for `least_requests`; counts nothing otherwise.
pub struct UnderWay(Option<Arc<EndpointState>>);

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

impl Fetch<'_> {
    /// The same, for as long as it takes: what it is to say must be in the head of the request.
    pub fn keeping(self, upstream: &Arc<Upstream>) -> Fetch<'static> {
        Fetch {
            upstream: Whereto::Kept(Arc::clone(upstream)),
            tail: None,
            pools: self.pools,
            protocol: self.protocol,
            first_byte_timeout: self.first_byte_timeout,
            upload: self.upload,
            own_host: self.own_host,
        }
    }

    /// Sends `request` and waits for the head of its answer; `hear` is given the interim ones.
    ///
    /// # Errors
    /// `UpstreamUnavailable` when no connection can be had, `UpstreamFailed` when it breaks, `UpstreamTimeout`
    /// when it is silent, and the client's own fault where its body broke first.
    pub async fn run(
        self,
        request: Request<Body>,
        hear: &mut dyn FnMut(StatusCode, HeaderMap),
    ) -> Result<Fetched, Refusal> {
        let mut outgoing = Outgoing::new(request, self.tail.as_ref(), hear);
        let mut tried: Vec<usize> = Vec::new();
        let mut stale = 0;
        loop {
            let endpoint = self
                .upstream
                .pick(&tried)
                .ok_or(Refusal::UpstreamUnavailable)?;
            let under_way = UnderWay::at(endpoint, self.upstream.config.balance);
            let checkout = match self.connection(endpoint, stale).await {
                Ok(checkout) => checkout,
                Err(error) => {
                    self.note_failure(endpoint, &error);
                    // Nothing was sent yet, so that any request may go to another endpoint.
                    tried.push(endpoint.id);
                    if self.may_try_again(&tried) {
                        self.pools.count(Total::UpstreamRetries);
                        continue;
                    }
                    return Err(Refusal::UpstreamUnavailable);
                }
            };
            let reused = checkout.reused;
            let miss = match self.exchange(checkout, &mut outgoing, endpoint).await {
                Ok((head, rest)) => {
                    endpoint.succeeded();
                    return Ok(Fetched {
                        head,
                        rest,
                        endpoint: endpoint.label,
                        under_way,
                    });
                }
                Err(miss) => miss,
            };
            self.judge(&miss, &outgoing)?;
            if reused {
                stale += 1;
            } else {
                self.upstream.failed(endpoint);
                tried.push(endpoint.id);
                if tried.len() > self.upstream.config.retries as usize {
                    return Err(Refusal::UpstreamFailed);
                }
            }
            self.pools.count(Total::UpstreamRetries);
        }
    }

    /// Whether the request may go again after `miss`: nothing of it was sent, or looked at; or the server closed a
    /// connection just as it went out, and it is idempotent (RFC 9110 §9.2.2) and has no body.
    fn judge(&self, miss: &Miss, outgoing: &Outgoing<'_>) -> Result<(), Refusal> {
        if let Some(fault) = self.upload.as_ref().and_then(|upload| upload.fault()) {
            return Err(match fault {
                BodyFault::Broken => Refusal::RequestMalformed,
                BodyFault::TooLarge => Refusal::BodyTooLarge,
                BodyFault::TimedOut => Refusal::BodyTimeout,
            });
        }
        if matches!(miss, Miss::TimedOut) {
            return Err(Refusal::UpstreamTimeout);
        }
        tracing::debug!(upstream = %self.upstream.config.name, %miss, "the upstream gave no answer");
        let broke_off = match miss {
            Miss::Http1(fault) => matches!(fault, Fault::Io(_) | Fault::Cut),
            Miss::Http2(fault) => fault.is_cut(),
            Miss::TimedOut => false,
        };
        // A body that failed is spent, even if nothing of it was sent.
        let spent = matches!(miss, Miss::Http1(Fault::Upload));
        let again = (outgoing.is_untouched() && !spent)
            || (broke_off && outgoing.is_repeatable() && self.upstream.config.retries > 0);
        if again {
            Ok(())
        } else {
            Err(Refusal::UpstreamFailed)
        }
    }

    /// One try on one connection.
    async fn exchange(
        &self,
        checkout: Checkout,
        outgoing: &mut Outgoing<'_>,
        endpoint: &EndpointState,
    ) -> Result<(Parts, Rest), Miss> {
        let own_host = self.own_host.then_some(&endpoint.config.authority);
        match checkout.sender {
            Sender::Http1(channel) => {
                let home = self.pools.of(endpoint);
                self.exchange_http1(channel, outgoing, own_host, home).await
            }
            Sender::Http2(place) => {
                let head = outgoing.head_http2(&endpoint.config, own_host);
                self.exchange_http2(place, head, outgoing).await
            }
        }
    }

    async fn exchange_http2(
        &self,
        place: Place,
        head: Request<()>,
        outgoing: &mut Outgoing<'_>,
    ) -> Result<(Parts, Rest), Miss> {
        let (mut exchange, hear) = outgoing.begin_http2(place, head)?;
        let answered = poll_fn(|cx| exchange.poll_head(cx, hear));
        let answered = async { answered.await.map_err(Miss::from) };
        match self.first_byte(answered).await {
            Ok(answer) => {
                let (head, receive) = answer.into_parts();
                let reading = exchange.into_reading(receive, &head.headers);
                Ok((head, Rest::Body(Source::Http2(reading))))
            }
            Err(miss) => {
                if matches!(&miss, Miss::Http2(fault) if fault.is_unprocessed()) {
                    outgoing.recover(exchange);
                }
                Err(miss)
            }
        }
    }

    async fn exchange_http1(
        &self,
        mut channel: Box<Channel>,
        outgoing: &mut Outgoing<'_>,
        own_host: Option<&HeaderValue>,
        home: Rc<Pool>,
    ) -> Result<(Parts, Rest), Miss> {
        let (sending, hear) = outgoing.as_http1(own_host);
        let answered = poll_fn(|cx| sending::poll_exchange(cx, &mut channel, sending, hear));
        let answer = self
            .first_byte(async {
                turns::others_first().await;
                answered.await.map_err(Miss::from)
            })
            .await?;
        let rest = match answer.status {
            StatusCode::SWITCHING_PROTOCOLS => Rest::Switched(channel),
            _ => {
                let framing = answer.framing(outgoing.method())?;
                let exchanged = Exchanged {
                    keeps_alive: answer.keeps_alive(),
                    channel: *channel,
                    sending: outgoing.rest(),
                    home,
                };
                Rest::Body(Source::Http1(Reading::new(exchanged, framing)))
            }
        };
        let (mut head, ()) = http::Response::new(()).into_parts();
        (head.status, head.headers) = (answer.status, answer.headers);
        Ok((head, rest))
    }

    async fn connection(
        &self,
        endpoint: &EndpointState,
        stale: usize,
    ) -> Result<Checkout, OpenError> {
        // After a few connections that had died in the pool, the rest of it is likely dead too.
        const STALE_AT_MOST: usize = 2;
        let config = &self.upstream.config;
        let pool = self.pools.of(endpoint);
        if stale <= STALE_AT_MOST && self.protocol == config.protocol {
            if let Some(kept) = pool.take(config, self.protocol) {
                return Ok(kept);
            }
            if let Some(joined) = pool.join(config, self.protocol).await {
                return Ok(joined);
            }
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
        // Each request would say it: thousands of lines a second, under load.
        if let Some(held_back) = endpoint.unreachable.turn() {
            tracing::warn!(upstream = %self.upstream.config.name, endpoint = %endpoint.label, %error, held_back,
                "no connection to the upstream");
        }
    }

    /// Whether another endpoint is left and another try allowed.
    fn may_try_again(&self, tried: &[usize]) -> bool {
        tried.len() <= self.upstream.config.retries as usize
            && tried.len() < self.upstream.endpoints.len()
    }

    /// Waits for the head of the answer; the time counts from the end of the request's body.
    async fn first_byte<T>(
        &self,
        answer: impl Future<Output = Result<T, Miss>>,
    ) -> Result<T, Miss> {
        let mut answer = pin!(answer);
        let mut progress = Progress {
            bytes: 0,
            since: Instant::now(),
        };
        let due = progress.since + self.first_byte_timeout;
        let mut timer = self.pools.timers.lend(due);
        poll_fn(|cx| {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            loop {
                ready!(timer.poll(cx));
                match self.patience(&mut progress) {
                    Some(until) => timer.set(until),
                    None => return Poll::Ready(Err(Miss::TimedOut)),
                }
            }
        })
        .await
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::upstream::tests::upstream;

    /// Milliseconds until an answer that never comes is given up, with three seconds' patience for its first byte and
    /// one for an upstream that takes nothing; meanwhile `upload` happens.
    async fn given_up_after(
        upload: Option<Rc<UploadState>>,
        happens: impl Future<Output = ()>,
    ) -> u128 {
        let fetch = Fetch {
            upstream: Whereto::Kept(Arc::new(upstream(1, Balance::RoundRobin))),
            tail: None,
            pools: Rc::default(),
            protocol: Protocol::Http1,
            first_byte_timeout: Duration::from_secs(3),
            upload,
            own_host: false,
        };
        let start = Instant::now();
        let given_up = async {
            let answer = fetch.first_byte(std::future::pending::<Result<(), Miss>>());
            assert!(matches!(answer.await, Err(Miss::TimedOut)));
            start.elapsed().as_millis()
        };
        tokio::join!(given_up, happens).0
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_the_first_byte_counts_from_the_end_of_the_body() {
        let wait = |millis| tokio::time::sleep(Duration::from_millis(millis));
        assert_eq!(given_up_after(None, async {}).await, 3000);
        let upload = Rc::new(UploadState::default());
        let ends = async {
            wait(2500).await;
            upload.finish();
        };
        let state = Some(Rc::clone(&upload));
        assert_eq!(given_up_after(state, ends).await, 5500);
        // One that goes on is waited for; one of which nothing is taken any more is not.
        let upload = Rc::new(UploadState::default());
        let goes_on = async {
            for _ in 0..20 {
                wait(500).await;
                upload.count(1);
            }
        };
        let state = Some(Rc::clone(&upload));
        let given_up = given_up_after(state, goes_on).await;
        assert!((11_000..=15_000).contains(&given_up), "{given_up}");
    }
}
