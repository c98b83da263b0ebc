//! A worker: one thread, one runtime, its own listeners, connections, pools and token cache.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

use crate::gate::Gate;
use crate::observe::metrics::{Cells, Total};
use crate::resources::Desk;
use crate::server::clerks::Clerks;
use crate::server::{Station, connection};
use crate::wire::descriptors::{self, Party};
use crate::wire::vitals::{Patience, Ward};

/// What one worker owns.
pub struct Worker {
    /// What all workers share.
    pub station: Arc<Station>,
    /// This worker's part of the gate: pools, token cache, metric cells.
    pub desk: Rc<Desk>,
    /// Turns true when the gateway drains.
    pub drain: watch::Receiver<bool>,
    /// Its downstream connections.
    pub ward: Rc<Ward>,
    /// Who handles its requests.
    pub clerks: Rc<Clerks>,
    gate: RefCell<Held>,
}

/// The gate as this worker holds it, and how it learns of another.
#[expect(
    clippy::redundant_allocation,
    reason = "a request clones the Rc, which is this thread's own; cloning the Arc would write to memory that all workers share"
)]
struct Held {
    gate: Rc<Arc<Gate>>,
    cache: arc_swap::Cache<Arc<arc_swap::ArcSwap<Gate>>, Arc<Gate>>,
}

/// The sockets that one worker accepts from.
#[derive(Debug, Default)]
pub struct Sockets {
    /// TCP.
    pub tcp: Vec<std::net::TcpListener>,
    /// Unix.
    pub unix: Vec<std::os::unix::net::UnixListener>,
}

/// Runs a worker on this thread until the drain is over and its last connection is gone.
///
/// # Errors
/// When the runtime cannot be made or a socket cannot be used.
pub fn run(
    station: Arc<Station>,
    index: usize,
    sockets: Sockets,
    drain: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Accepting and timers wait for at most so many wake-ups of streams.
        .event_interval(61)
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async move {
        let worker = Rc::new(Worker::new(station, index, drain));
        let guests = Rc::new(Guests::default());
        let mut listeners = Vec::with_capacity(sockets.tcp.len() + sockets.unix.len());
        for socket in sockets.tcp {
            listeners.push(Listener::Tcp(TcpListener::from_std(socket)?));
        }
        for socket in sockets.unix {
            listeners.push(Listener::Unix(UnixListener::from_std(socket)?));
        }
        for listener in listeners {
            tokio::task::spawn_local(accept(Rc::clone(&worker), listener, Rc::clone(&guests)));
        }
        tokio::task::spawn_local(sweep(Rc::clone(&worker)));
        let patient = Rc::clone(&worker);
        let rounds = Rc::clone(&worker.ward).rounds(move || patient.patience());
        tokio::task::spawn_local(rounds);
        worker.drained(&guests).await;
        Ok(())
    })
}

impl Worker {
    fn new(station: Arc<Station>, index: usize, drain: watch::Receiver<bool>) -> Self {
        let mut cache = arc_swap::Cache::new(Arc::clone(&station.gate));
        let gate = Rc::new(Arc::clone(cache.load()));
        let desk = Rc::new(Desk::new(&station.resources, gate.config(), index));
        desk.tell_to(gate.sink());
        Self {
            station,
            desk,
            drain,
            ward: Ward::open(),
            clerks: Rc::default(),
            gate: RefCell::new(Held { gate, cache }),
        }
    }

    /// The current gate. The pointer is checked without a write to anything that workers share, and the
    /// clone is this thread's own.
    pub fn gate(&self) -> Rc<Arc<Gate>> {
        let Held { gate, cache } = &mut *self.gate.borrow_mut();
        let current = cache.load();
        if !Arc::ptr_eq(gate, current) {
            *gate = Rc::new(Arc::clone(current));
            self.desk.tell_to(gate.sink());
        }
        Rc::clone(gate)
    }

    /// How long connections may be silent.
    pub fn patience(&self) -> Patience {
        let gate = self.gate();
        let server = gate.server();
        Patience {
            head: server.header_timeout,
            idle: server.idle_timeout,
            send: server.send_timeout,
        }
    }

    /// Resolves when the gateway drains and either no connection is left or the time is over.
    async fn drained(&self, guests: &Guests) {
        let mut drain = self.drain.clone();
        let _ = drain.wait_for(|draining| *draining).await;
        self.ward.drain();
        let limit = self.gate().server().drain_timeout;
        let gone = async {
            while guests.count.get() > 0 || self.desk.tunnels() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(limit, gone).await;
    }
}

/// Connections of this worker.
#[derive(Default)]
struct Guests {
    count: std::cell::Cell<usize>,
}

/// Counts a connection, here and in the process, for as long as it lives.
struct Seat {
    guests: Rc<Guests>,
    all: Arc<AtomicUsize>,
    cells: Arc<Cells>,
}

impl Seat {
    /// `None` when the house is full.
    fn take(worker: &Worker, guests: &Rc<Guests>) -> Option<Self> {
        let all = Arc::clone(&worker.station.connections);
        let seated = all.fetch_add(1, Ordering::Relaxed);
        guests.count.set(guests.count.get() + 1);
        let cells = Arc::clone(&worker.desk.book().cells);
        cells.add(Total::ConnectionsOpened, 1);
        let seat = Self {
            guests: Rc::clone(guests),
            all,
            cells,
        };
        (seated < worker.gate().server().max_connections).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        self.guests.count.set(self.guests.count.get() - 1);
        self.cells.add(Total::ConnectionsClosed, 1);
    }
}

/// A listening socket of this worker.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection that was just accepted.
enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Accepted {
    /// Whether enough are left for what must go on.
    fn leaves_descriptors(&self) -> bool {
        match self {
            Self::Tcp(socket) => descriptors::spares(socket, Party::Client),
            Self::Unix(socket) => descriptors::spares(socket, Party::Client),
        }
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => Ok(Accepted::Tcp(listener.accept().await?.0)),
            Self::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

/// Serves what `listener` accepts, until the gateway drains.
async fn accept(worker: Rc<Worker>, listener: Listener, guests: Rc<Guests>) {
    let mut drain = worker.drain.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = drain.wait_for(|draining| *draining) => return,
        };
        let socket = match accepted {
            Ok(socket) => socket,
            Err(error) => {
                pause_after(&worker, &error).await;
                continue;
            }
        };
        let seat = Seat::take(&worker, &guests);
        let Some(seat) = seat.filter(|_| socket.leaves_descriptors()) else {
            if let Some(held_back) = worker.station.turned_away.turn() {
                tracing::warn!(
                    held_back,
                    "a connection was turned away: there are too many"
                );
            }
            continue;
        };
        let worker = Rc::clone(&worker);
        tokio::task::spawn_local(async move {
            match socket {
                Accepted::Tcp(socket) => connection::serve_tcp(worker, socket).await,
                Accepted::Unix(socket) => connection::serve_unix(worker, socket).await,
            }
            drop(seat);
        });
    }
}

/// A client that left before it was accepted is nothing; running out of descriptors must not spin.
async fn pause_after(worker: &Worker, error: &io::Error) {
    if error.kind() != io::ErrorKind::ConnectionAborted {
        if let Some(held_back) = worker.station.turned_away.turn() {
            tracing::warn!(%error, held_back, "a connection could not be accepted");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Closes upstream connections that have idled for too long.
async fn sweep(worker: Rc<Worker>) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let gate = worker.gate();
        let now = Instant::now();
        worker.desk.pools.sweep(|endpoint| {
            let keep = gate.pool_idle_timeout(endpoint)?;
            Some(now.checked_sub(keep).unwrap_or(now))
        });
    }
}
