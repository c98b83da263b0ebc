//! Connections to upstreams, kept alive by the worker that opened them. Nothing here is shared between
//! threads: a worker's pools are its own.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::body::Body;
use crate::config::{Protocol, Upstream as UpstreamConfig};
use crate::forward::connect::ConnectError;
use crate::forward::upstream::EndpointState;
use crate::observe::metrics::{Cells, Total};
use crate::wire::Wire;

/// All pools of one worker, by endpoint id.
#[derive(Default)]
pub struct Pools {
    pools: RefCell<Vec<Option<Rc<Pool>>>>,
    /// The worker's figures.
    cells: Option<Arc<Cells>>,
}

/// The kept connections of one worker to one endpoint.
#[derive(Default)]
pub struct Pool {
    /// The most recently used is at the back, so that a quiet pool shrinks to what is needed.
    idle: RefCell<VecDeque<Idle>>,
    shared: RefCell<Option<http2::SendRequest<Body>>>,
    opened: Cell<u64>,
}

struct Idle {
    sender: http1::SendRequest<Body>,
    since: Instant,
}

/// A connection taken out of the pool, for one request.
pub struct Checkout {
    sender: Sender,
    pool: Rc<Pool>,
    max_idle: usize,
    /// It has carried a request before: its server may have closed it meanwhile.
    pub reused: bool,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// Why an HTTP connection could not be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No socket.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A socket, but the other side speaks no HTTP on it.
    #[error("HTTP could not be spoken: {0}")]
    Handshake(#[from] hyper::Error),
}

impl Pools {
    /// Pools that tell the worker's figures what they do.
    pub fn telling(cells: Arc<Cells>) -> Self {
        Self {
            pools: RefCell::default(),
            cells: Some(cells),
        }
    }

    /// Counts what happened on the way to an upstream.
    pub fn count(&self, what: Total) {
        if let Some(cells) = &self.cells {
            cells.add(what, 1);
        }
    }

    /// The pool of an endpoint.
    pub fn of(&self, endpoint: &EndpointState) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        if pools.len() <= endpoint.id {
            pools.resize_with(endpoint.id + 1, || None);
        }
        Rc::clone(pools[endpoint.id].get_or_insert_default())
    }

    /// Closes connections that have idled since before `limit`; called now and then by the worker.
    pub fn sweep(&self, limit: impl Fn(usize) -> Option<Instant>) {
        for (id, pool) in self.pools.borrow_mut().iter_mut().enumerate() {
            match limit(id) {
                // Its upstream is gone from the configuration.
                None => *pool = None,
                Some(limit) => {
                    if let Some(pool) = pool {
                        pool.idle
                            .borrow_mut()
                            .retain(|idle| idle.since >= limit && !idle.sender.is_closed());
                    }
                }
            }
        }
    }

    /// How many connections have been opened.
    pub fn opened(&self) -> u64 {
        let pools = self.pools.borrow();
        pools.iter().flatten().map(|pool| pool.opened.get()).sum()
    }
}

impl Pool {
    /// A kept connection, if one is ready.
    pub fn take(self: &Rc<Self>, config: &UpstreamConfig) -> Option<Checkout> {
        let checkout = |sender| Checkout {
            sender,
            pool: Rc::clone(self),
            max_idle: config.pool_max_idle,
            reused: true,
        };
        if config.protocol == Protocol::Http2 {
            let shared = self.shared.borrow();
            let sender = shared.as_ref().filter(|sender| !sender.is_closed())?;
            return Some(checkout(Sender::Http2(sender.clone())));
        }
        // One whose driver has not come round yet, or still sends a body, is left for later.
        let now = Instant::now();
        let fresh = |idle: &Idle| now.duration_since(idle.since) < config.pool_idle_timeout;
        let mut idle = self.idle.borrow_mut();
        let at = idle
            .iter()
            .rposition(|idle| idle.sender.is_ready() && fresh(idle))?;
        idle.remove(at)
            .map(|idle| checkout(Sender::Http1(idle.sender)))
    }

    /// A new connection. Its driver runs as a task of this worker until either side closes it.
    ///
    /// # Errors
    /// When no connection can be made.
    pub async fn open(
        self: &Rc<Self>,
        endpoint: &EndpointState,
        config: &UpstreamConfig,
        protocol: Protocol,
    ) -> Result<Checkout, OpenError> {
        let wire = endpoint.connector.connect(protocol).await?;
        self.opened.set(self.opened.get() + 1);
        let sender = match protocol {
            Protocol::Http1 => Sender::Http1(handshake_http1(wire).await?),
            Protocol::Http2 => {
                let sender = handshake_http2(wire).await?;
                *self.shared.borrow_mut() = Some(sender.clone());
                Sender::Http2(sender)
            }
        };
        Ok(Checkout {
            sender,
            pool: Rc::clone(self),
            max_idle: config.pool_max_idle,
            reused: false,
        })
    }
}

impl Checkout {
    /// Sends a request. The error holds the request again where nothing of it was sent.
    ///
    /// # Errors
    /// When the connection breaks before the head of an answer has arrived.
    pub async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Body>>> {
        match &mut self.sender {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(sender) => sender.try_send_request(request).await,
        }
    }

    /// Whether each request has a stream of its own, so that nothing is given back.
    pub fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Gives the connection back, to be called when the answer has been read whole. One that is kept
    /// busy by the rest of a request's body is not ready, and `take` passes it over.
    pub fn give_back(self) {
        let Sender::Http1(sender) = self.sender else {
            return;
        };
        let mut idle = self.pool.idle.borrow_mut();
        if sender.is_closed() || self.max_idle == 0 {
            return;
        }
        if idle.len() >= self.max_idle {
            idle.pop_front();
        }
        idle.push_back(Idle {
            sender,
            since: Instant::now(),
        });
    }
}

async fn handshake_http1(wire: Wire) -> hyper::Result<http1::SendRequest<Body>> {
    let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(wire)).await?;
    tokio::task::spawn_local(async move {
        // What goes wrong on it is told to the request that it carries.
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

async fn handshake_http2(wire: Wire) -> hyper::Result<http2::SendRequest<Body>> {
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .keep_alive_interval(std::time::Duration::from_secs(20))
        .handshake(TokioIo::new(wire))
        .await?;
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// Runs hyper's futures on the worker that made them.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
