//! Connections to upstreams, kept alive by the worker that opened them. Nothing here is shared between
//! threads: a worker's pools are its own.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::body::Body;
use crate::config::{Protocol, Upstream as UpstreamConfig};
use crate::forward::connect::ConnectError;
use crate::forward::timers::Timers;
use crate::forward::upstream::EndpointState;
use crate::http1::channel::Channel;
use crate::observe::metrics::{Cells, Total};
use crate::wire::Wire;

/// All pools of one worker, by endpoint id.
#[derive(Default)]
pub struct Pools {
    pools: RefCell<Vec<Option<Rc<Pool>>>>,
    /// Timers for the requests that wait on them.
    pub timers: Timers,
    /// The worker's figures.
    cells: Option<Arc<Cells>>,
}

/// The kept connections of one worker to one endpoint.
#[derive(Default)]
pub struct Pool {
    /// The most recently used is at the back, so that a quiet pool shrinks to what is needed.
    idle: RefCell<VecDeque<Idle>>,
    max_idle: Cell<usize>,
    shared: RefCell<Option<http2::SendRequest<Body>>>,
}

struct Idle {
    channel: Channel,
    since: Instant,
}

/// A connection taken out of the pool, for one request.
pub struct Checkout {
    /// What it speaks.
    pub sender: Sender,
    /// It has carried a request before: its server may have closed it meanwhile.
    pub reused: bool,
}

/// A connection, by what it speaks.
pub enum Sender {
    /// HTTP/1.1: one request at a time.
    Http1(Box<Channel>),
    /// HTTP/2: a stream for each request.
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
            cells: Some(cells),
            ..Self::default()
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
                        let fit = |idle: &mut Idle| idle.since >= limit && idle.channel.is_fit();
                        pool.idle.borrow_mut().retain_mut(fit);
                    }
                }
            }
        }
    }
}

impl Pool {
    /// A kept connection, if one is fit.
    pub fn take(&self, config: &UpstreamConfig, protocol: Protocol) -> Option<Checkout> {
        let sender = match protocol {
            Protocol::Http1 => Sender::Http1(Box::new(self.take_idle(config.pool_idle_timeout)?)),
            Protocol::Http2 => {
                let shared = self.shared.borrow();
                Sender::Http2(
                    shared
                        .as_ref()
                        .filter(|sender| !sender.is_closed())?
                        .clone(),
                )
            }
        };
        Some(Checkout {
            sender,
            reused: true,
        })
    }

    fn take_idle(&self, idle_timeout: Duration) -> Option<Channel> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut last) = idle.pop_back() {
            if last.since.elapsed() < idle_timeout && last.channel.is_fit() {
                return Some(last.channel);
            }
        }
        None
    }

    /// A new connection. HTTP/2 has a driver that runs as a task of this worker until either side closes.
    ///
    /// # Errors
    /// When no connection can be made.
    pub async fn open(
        &self,
        endpoint: &EndpointState,
        config: &UpstreamConfig,
        protocol: Protocol,
    ) -> Result<Checkout, OpenError> {
        let wire = endpoint.connector.connect(protocol).await?;
        self.max_idle.set(config.pool_max_idle);
        let sender = match protocol {
            Protocol::Http1 => Sender::Http1(Box::new(Channel::new(wire))),
            Protocol::Http2 => {
                let sender = handshake_http2(wire).await?;
                *self.shared.borrow_mut() = Some(sender.clone());
                Sender::Http2(sender)
            }
        };
        Ok(Checkout {
            sender,
            reused: false,
        })
    }

    /// Keeps a connection whose exchange has ended well.
    pub fn keep(&self, channel: Channel) {
        let mut idle = self.idle.borrow_mut();
        if self.max_idle.get() == 0 {
            return;
        }
        if idle.len() >= self.max_idle.get() {
            idle.pop_front();
        }
        idle.push_back(Idle {
            channel,
            since: Instant::now(),
        });
    }
}

#[cfg(test)]
impl Pool {
    /// A pool that keeps so many connections.
    pub fn with_room(max_idle: usize) -> Self {
        let pool = Self::default();
        pool.max_idle.set(max_idle);
        pool
    }

    /// How many connections wait in it.
    pub fn kept(&self) -> usize {
        self.idle.borrow().len()
    }
}

async fn handshake_http2(wire: Wire) -> hyper::Result<http2::SendRequest<Body>> {
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .keep_alive_interval(Duration::from_secs(20))
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
