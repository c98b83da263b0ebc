//! What outlives a configuration, shared by all workers (`Resources`), and what one worker owns alone
//! (`Desk`). Handed to the gate; decides nothing.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::accounts::Accounts;
use crate::clock::Clock;
use crate::config::Config;
use crate::forward::http::Line;
use crate::forward::pool::Pools;
use crate::forward::upstream::Upstreams;
use crate::identity::bans::KeptBans;
use crate::identity::cache::LocalTokens;
use crate::identity::issuer::KeySources;
use crate::identity::jwks::JwksSources;
use crate::identity::sessions::OwnSessions;
use crate::identity::sightings::Sightings;
use crate::jobs::keeper::Keeper;
use crate::journal::Book;
use crate::limits::Counts;
use crate::limits::near::Near;
use crate::observe::access::Sink;
use crate::observe::metrics::Metrics;
use crate::observe::readiness::Board;
use crate::state::Revocations;
use crate::state::bans::Bans;
use crate::state::redis::Redis;
use crate::state::redis::bus::Bus;
use crate::streams::Streams;
use crate::tickets::Tickets;

/// What outlives a configuration: handed to every gate that is built.
pub struct Resources {
    /// Now.
    pub clock: Clock,
    /// Live streams.
    pub streams: Arc<Streams>,
    /// What callers have asked.
    pub counts: Counts,
    /// Upstreams, with their health.
    pub upstreams: Upstreams,
    /// Fetched keys.
    pub jwks: JwksSources,
    /// What ended lately.
    pub revocations: Arc<Revocations>,
    /// What several gateways share; `None`: there is one gateway, and its memory.
    pub redis: Option<Arc<Redis>>,
    /// What stands for tokens in URLs.
    pub tickets: Arc<Tickets>,
    /// What an operator has refused.
    pub bans: Arc<Bans>,
    /// The same in a store; `None`: there is none, or it is not opened.
    pub kept_bans: Option<Arc<KeptBans>>,
    /// Who hears of new tokens.
    pub sightings: Arc<Sightings>,
    /// News from gateway to gateway, likewise.
    pub bus: Option<Arc<Bus>>,
    /// The gateway's own sessions and keys; `None`: it has none, or they are not opened.
    pub own: Option<Arc<OwnSessions>>,
    /// The gateway's own users, likewise.
    pub accounts: Option<Arc<Accounts>>,
    /// Who keeps jobs; `None`: nobody does, or it is not opened.
    pub jobs: Option<Arc<Keeper>>,
    /// Counters and gauges.
    pub metrics: Metrics,
    /// Access and audit lines.
    pub sink: Sink,
    /// Which parts are ready.
    pub board: Board,
}

impl Resources {
    /// Resources for the workers that `config` asks for, without accounts.
    pub fn new(config: &Config, jwks: JwksSources, sink: Sink, clock: Clock) -> Self {
        let (revocations, bans, sightings) = (Revocations::new(), Bans::new(), Sightings::new());
        let ends = (&revocations, &bans);
        let streams = Streams::heeding(ends, config.server.workers, clock.clone());
        streams.follow(&sightings);
        Self {
            streams,
            revocations,
            tickets: Tickets::new(clock.clone()),
            bans,
            kept_bans: None,
            redis: None,
            sightings,
            bus: None,
            own: None,
            accounts: None,
            counts: Counts::default(),
            jobs: None,
            upstreams: Upstreams::default(),
            jwks,
            metrics: Metrics::new(config.server.workers),
            sink,
            board: Board::default(),
            clock,
        }
    }

    /// Resources that fetch nothing and tell nobody: for `check`, `explain` and tests.
    pub fn offline(clock: Clock) -> Self {
        let (revocations, bans) = (Revocations::new(), Bans::new());
        Self {
            streams: Streams::heeding((&revocations, &bans), 1, clock.clone()),
            revocations,
            tickets: Tickets::new(clock.clone()),
            bans,
            kept_bans: None,
            redis: None,
            sightings: Sightings::new(),
            bus: None,
            own: None,
            accounts: None,
            counts: Counts::default(),
            jobs: None,
            upstreams: Upstreams::default(),
            jwks: JwksSources::idle(clock.clone()),
            metrics: Metrics::new(1),
            sink: Sink::silent(),
            board: Board::default(),
            clock,
        }
    }
}

impl Resources {
    /// Where the keys are that no configuration holds.
    pub fn key_sources(&self) -> KeySources<'_> {
        KeySources {
            jwks: &self.jwks,
            own: self.own.as_ref(),
        }
    }
}

/// One tunnel under way, counted until it is dropped.
pub struct InTunnel(Rc<Cell<usize>>);

impl Drop for InTunnel {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// One worker's part: what it owns alone and nobody locks.
pub struct Desk {
    /// Upstream connections.
    pub pools: Rc<Pools>,
    /// Tokens that this worker has seen verified.
    pub tokens: LocalTokens,
    /// Meters of guests that it has met.
    pub near: Near,
    /// Tunnels under way: they outlive the connection that they came over.
    tunnels: Rc<Cell<usize>>,
    /// What stands for tokens in URLs.
    pub tickets: Arc<Tickets>,
    index: usize,
    streams: Arc<Streams>,
    metrics: Metrics,
    book: RefCell<Rc<Book>>,
}

impl Desk {
    /// The desk of the worker with this number.
    pub fn new(resources: &Resources, config: &Config, index: usize) -> Self {
        let book = Book {
            cells: resources.metrics.worker(index),
            sink: resources.sink.clone(),
        };
        Self {
            pools: Rc::new(Pools::telling(Arc::clone(&book.cells))),
            tokens: LocalTokens::new(config.tokens.worker_cache_size)
                .telling(Arc::clone(&book.cells)),
            near: Near::default(),
            tunnels: Rc::default(),
            index,
            tickets: Arc::clone(&resources.tickets),
            streams: Arc::clone(&resources.streams),
            metrics: resources.metrics.clone(),
            book: RefCell::new(Rc::new(book)),
        }
    }

    /// How many tunnels are under way.
    pub fn tunnels(&self) -> usize {
        self.tunnels.get()
    }

    /// From now on requests are told to `sink`, whose switches a reload may have turned.
    pub fn tell_to(&self, sink: Sink) {
        let cells = self.metrics.worker(self.index);
        *self.book.borrow_mut() = Rc::new(Book { cells, sink });
    }

    /// Where requests are told to.
    pub fn book(&self) -> Rc<Book> {
        Rc::clone(&self.book.borrow())
    }

    /// Counts a tunnel for as long as it lives, so that a drain waits for it.
    pub fn enter_tunnel(&self) -> InTunnel {
        self.tunnels.set(self.tunnels.get() + 1);
        InTunnel(Rc::clone(&self.tunnels))
    }

    /// The worker's side of a carriage.
    pub fn line(&self) -> Line<'_> {
        Line {
            pools: &self.pools,
            streams: &self.streams,
            worker: self.index,
        }
    }
}
