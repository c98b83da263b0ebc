//! Listeners, workers, reload and drain: everything between the operating system and the gate. Holds the
//! current `Gate` and swaps it whole. Decides nothing about requests.

mod accounts;
mod admin_listener;
mod background;
mod clerks;
pub mod connection;
mod date;
mod doubts;
mod ends;
pub mod http1;
mod http2;
pub mod listener;
pub mod reload;
pub mod shared;
pub mod tls;
pub mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::admin::Admin;
use crate::clock::Clock;
use crate::config::Config;
use crate::gate::Gate;
use crate::identity::jwks::JwksSources;
use crate::observe::access::Sink;
use crate::observe::metrics::Registration;
use crate::observe::sparing::Sparing;
use crate::resources::Resources;
use crate::tickets::Tickets;
use crate::wire::descriptors;

pub use worker::Worker;

/// Where a configuration comes from, at the start and at each reload.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, read again at each reload.
    File(PathBuf),
    /// A text in memory, with the folder that its relative names start from.
    Text(Arc<str>, PathBuf),
}

/// What all workers share: the current gate and what outlives it.
pub struct Station {
    /// The current gate, swapped whole at a reload.
    pub gate: Arc<ArcSwap<Gate>>,
    /// TLS for new connections; `None`: plain.
    pub tls: ArcSwapOption<rustls::ServerConfig>,
    /// Downstream connections, over all workers.
    pub connections: Arc<std::sync::atomic::AtomicUsize>,
    /// What outlives a configuration.
    pub resources: Arc<Resources>,
    /// Tells that the gate was swapped.
    pub reloaded: tokio::sync::Notify,
    /// What the admin listener answers from.
    pub admin: Admin,
    seen: reload::Seen,
    /// Lines that say that a connection was turned away.
    turned_away: Sparing,
    source: Source,
}

/// A running gateway.
pub struct Running {
    /// Where the public listeners stand, with port 0 resolved.
    pub public: Vec<Address>,
    /// Where the admin listener stands.
    pub admin: Option<SocketAddr>,
    station: Arc<Station>,
    drain: watch::Sender<bool>,
    workers: Vec<JoinHandle<std::io::Result<()>>>,
    _figures: Vec<Registration>,
}

/// A public address as it is printed.
#[derive(Clone, Debug)]
pub struct Address(String);

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has problems.
    #[error("{0}")]
    Config(#[from] crate::config::Problems),
    /// An address is taken.
    #[error(transparent)]
    Bind(#[from] listener::BindError),
    /// The certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// The store of the accounts cannot be opened.
    #[error(transparent)]
    Store(#[from] crate::store::OpenError),
    /// The accounts' secret cannot be used.
    #[error(transparent)]
    Vault(#[from] crate::identity::vault::VaultError),
    /// The store's keys cannot be used.
    #[error(transparent)]
    Keys(#[from] crate::identity::keyring::ReadError),
    /// The core of the accounts cannot be opened.
    #[error("the accounts cannot be opened: {0}")]
    Accounts(Box<crate::accounts::OpenError>),
    /// Redis could never be reached.
    #[error(transparent)]
    Redis(#[from] crate::state::redis::OpenError),
    /// The operating system refused a thread or a socket.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Source {
    /// Reads the configuration.
    ///
    /// # Errors
    /// All its problems at once.
    pub fn read(&self) -> Result<Config, crate::config::Problems> {
        match self {
            Self::File(path) => crate::config::load(path),
            Self::Text(text, file) => {
                crate::config::parse(text, file, &|name| std::env::var(name).ok())
            }
        }
    }
}

impl Running {
    /// Starts the workers and the admin listener; the caller's runtime runs the background tasks.
    ///
    /// # Errors
    /// When the configuration has problems or an address cannot be had. Nothing is left running then.
    pub async fn start(source: Source, sink: Sink) -> Result<Self, StartError> {
        let config = source.read()?;
        let seen = reload::Seen::now(&config.files);
        let (most, wanted) = (descriptors::most(), config.server.max_connections);
        if most < wanted as u64 {
            tracing::info!(
                most,
                max_connections = wanted,
                "fewer files may be open than connections are allowed"
            );
        }
        let tls = config.server.tls.as_ref().map(tls::load).transpose()?;
        let bound = bind_all(&config)?;
        let workers = config.server.workers;
        let watch_files = config.server.watch;
        let admin_listener = match config.admin.enabled {
            true => Some(tokio::net::TcpListener::bind(config.admin.listen).await?),
            false => None,
        };
        let clock = Clock::System;
        let jwks = JwksSources::fetching(Handle::current(), clock.clone());
        let mut resources = Resources::new(&config, jwks, sink, clock);
        shared::open(&config, &mut resources)?;
        if let Some(redis) = &resources.redis {
            resources.tickets = Tickets::shared(redis, resources.clock.clone());
        }
        accounts::open(&config, &mut resources).await?;
        let resources = Arc::new(resources);
        let gate = Gate::build(config, &resources)?;
        crate::rehearsal::run_tests(&gate)?;
        let public = bound
            .iter()
            .map(|bound| address_of(bound, tls.is_some()))
            .collect();
        let station = Arc::new(Station {
            gate: Arc::new(ArcSwap::from_pointee(gate)),
            tls: ArcSwapOption::new(tls),
            connections: Arc::default(),
            reloaded: tokio::sync::Notify::new(),
            admin: Admin {
                board: resources.board.clone(),
                metrics: resources.metrics.clone(),
            },
            seen,
            turned_away: Sparing::default(),
            resources,
            source,
        });
        let judge = station.gate.load_full();
        station.resources.streams.judged_by(judge);
        let (drain, draining) = watch::channel(false);
        let workers = spawn_workers(&station, bound, workers, &draining)?;
        let admin = match admin_listener {
            None => None,
            Some(listener) => {
                let address = listener.local_addr()?;
                tokio::task::spawn_local(admin_listener::serve(Arc::clone(&station), listener));
                Some(address)
            }
        };
        let mut figures = background::lasting(&station);
        figures.extend(shared::keep(&station));
        tokio::task::spawn_local(background::run(Arc::clone(&station)));
        tokio::task::spawn_local(accounts::keep(Arc::clone(&station)));
        tokio::task::spawn_local(doubts::settle(Arc::clone(&station)));
        let tickets = Arc::clone(&station.resources.tickets);
        tokio::task::spawn_local(async move { tickets.keep().await });
        tokio::task::spawn_local(accounts::keep_jobs(Arc::clone(&station)));
        tokio::task::spawn_local(accounts::keep_bans(Arc::clone(&station)));
        if watch_files && let Some(watch) = reload::Watch::begin(Arc::clone(&station)) {
            tokio::task::spawn_local(watch.run());
        }
        Ok(Self {
            public,
            admin,
            station,
            drain,
            workers,
            _figures: figures,
        })
    }

    /// Reads the configuration again and swaps the gate, or keeps the running one and says why.
    ///
    /// # Errors
    /// The new configuration's problems.
    pub fn reload(&self) -> Result<(), StartError> {
        reload::reload(&self.station)
    }

    /// The station, for signals and tests.
    pub fn station(&self) -> &Arc<Station> {
        &self.station
    }

    /// Drains: ready turns off, no new connection, requests finish, streams are told to come back.
    /// Returns when the last connection is gone or the drain's time is over.
    pub async fn stop(self) {
        let draining = self.station.resources.board.part("draining");
        draining.not_ready("the gateway is shutting down");
        let _ = self.drain.send(true);
        self.station
            .resources
            .streams
            .end_all(crate::streams::End::Draining);
        let joined = tokio::task::spawn_blocking(move || {
            for worker in self.workers {
                let _ = worker.join();
            }
        });
        let _ = joined.await;
        accounts::close(&self.station.resources).await;
        shared::close(&self.station.resources).await;
    }
}

fn bind_all(config: &Config) -> Result<Vec<listener::Bound>, StartError> {
    let bound = config
        .server
        .listen
        .iter()
        .map(|listen| listener::bind(listen, config.server.workers))
        .collect::<Result<_, _>>()?;
    Ok(bound)
}

fn address_of(bound: &listener::Bound, secure: bool) -> Address {
    let scheme = if secure { "https" } else { "http" };
    Address(match bound {
        listener::Bound::Tcp(address, _) => format!("{scheme}://{address}"),
        listener::Bound::Unix(path, _) => format!("unix:{}", path.display()),
    })
}

fn spawn_workers(
    station: &Arc<Station>,
    bound: Vec<listener::Bound>,
    count: usize,
    drain: &watch::Receiver<bool>,
) -> std::io::Result<Vec<JoinHandle<std::io::Result<()>>>> {
    let mut sockets: Vec<worker::Sockets> =
        (0..count).map(|_| worker::Sockets::default()).collect();
    for bound in bound {
        match bound {
            listener::Bound::Tcp(_, listeners) => {
                for (worker, listener) in sockets.iter_mut().zip(listeners) {
                    worker.tcp.push(listener);
                }
            }
            listener::Bound::Unix(_, listeners) => {
                for (worker, listener) in sockets.iter_mut().zip(listeners) {
                    worker.unix.push(listener);
                }
            }
        }
    }
    sockets
        .into_iter()
        .enumerate()
        .map(|(index, sockets)| {
            let station = Arc::clone(station);
            let drain = drain.clone();
            std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || worker::run(station, index, sockets, drain))
        })
        .collect()
}
