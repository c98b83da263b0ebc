//! Connections to upstreams, kept alive by the worker that opened them. Nothing here is shared between
//! threads: a worker's pools are its own.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::config::{Protocol, Upstream as UpstreamConfig};
use crate::forward::connect::ConnectError;
use crate::forward::http2::connection::{Connection, Place};
use crate::forward::timers::Timers;
use crate::forward::upstream::EndpointState;
use crate::http1::channel::Channel;
use crate::observe::metrics::{Cells, Total};

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
    /// Those that many requests share, in the order in which they are filled, so that the last ones become idle first.
    shared: RefCell<Vec<Rc<Connection>>>,
    /// Tells when the next of those is there; ends without a word where it does not come to be.
    opening: RefCell<Option<watch::Receiver<()>>>,
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
    /// HTTP/2: a place among the requests of a connection.
    Http2(Place),
}

/// Why an HTTP connection could not be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No socket.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A socket, but the other side speaks no HTTP on it.
    #[error("HTTP could not be spoken: {0}")]
    Handshake(#[from] h2::Error),
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
                        pool.sweep_shared(limit.elapsed());
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
            Protocol::Http2 => Sender::Http2(self.take_place(config.pool_idle_timeout)?),
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

    /// A connection that another request opens at present, where many can share one: those that come meanwhile wait for it
    /// rather than open one each. `None`: there is none, or nothing came of it.
    pub async fn join(&self, config: &UpstreamConfig, protocol: Protocol) -> Option<Checkout> {
        if protocol != Protocol::Http2 {
            return None;
        }
        loop {
            let mut opening = self.opening.borrow().clone()?;
            opening.changed().await.ok()?;
            // Where it is full already, another is on its way, or somebody must begin.
            if let Some(kept) = self.take(config, protocol) {
                return Some(kept);
            }
        }
    }

    fn take_place(&self, idle_timeout: Duration) -> Option<Place> {
        // Asked in this order: most of many are full, and cost a look at a number.
        let fits = |connection: &&Rc<Connection>| {
            connection.has_room() && is_fit(connection, idle_timeout)
        };
        let shared = self.shared.borrow();
        shared.iter().find(fits).map(Connection::place)
    }

    /// Lets go of shared connections that are over or have idled for longer than that, and of idle ones beyond how many
    /// may be kept.
    fn sweep_shared(&self, idle_timeout: Duration) {
        let mut room = self.max_idle.get();
        self.shared.borrow_mut().retain(|connection| {
            let fits = connection.idle().is_none() || room > 0;
            if connection.idle().is_some() {
                room = room.saturating_sub(1);
            }
            fits && is_fit(connection, idle_timeout)
        });
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
        self.max_idle.set(config.pool_max_idle);
        let sender = match protocol {
            Protocol::Http1 => {
                let wire = endpoint.connector.connect(protocol).await?;
                Sender::Http1(Box::new(Channel::new(wire)))
            }
            Protocol::Http2 => Sender::Http2(self.open_shared(endpoint).await?),
        };
        Ok(Checkout {
            sender,
            reused: false,
        })
    }

    async fn open_shared(&self, endpoint: &EndpointState) -> Result<Place, OpenError> {
        let (tell, told) = watch::channel(());
        *self.opening.borrow_mut() = Some(told);
        let wire = endpoint.connector.connect(Protocol::Http2).await?;
        let connection = Connection::open(wire).await?;
        let place = connection.place();
        self.shared.borrow_mut().push(connection);
        // Before it is told: who comes later looks for what there is.
        *self.opening.borrow_mut() = None;
        let _ = tell.send(());
        Ok(place)
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

fn is_fit(connection: &Connection, idle_timeout: Duration) -> bool {
    let idled = connection.idle().is_some_and(|idle| idle >= idle_timeout);
    !idled && connection.is_open()
}
