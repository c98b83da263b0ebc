//! Signs of life of one downstream connection, and the verdict when it has none: heads that dribble in,
//! connections that idle, clients that stop reading. One timer for a connection, moved lazily, costs a
//! request two stores; hyper's own header timer would cost it an allocation and a timer entry.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::wire::Wire;

/// Signs of life, shared by the socket, the service and the watchdog of one connection. They run on one
/// thread; hyper wants its socket `Send`, hence atomics (relaxed: plain loads and stores).
#[derive(Debug)]
pub struct Vitals {
    born: Instant,
    /// When the first byte after the last answer came; 0: none yet.
    head_since: AtomicU64,
    idle_since: AtomicU64,
    /// Since when the client takes no bytes; 0: it does.
    stalled_since: AtomicU64,
    in_flight: AtomicU32,
}

/// How long each kind of silence may last.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the whole head of a request.
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
    /// For a client that takes no bytes of its answer.
    pub send: Duration,
}

/// A request under way; the connection is idle again when the last one is dropped.
#[derive(Debug)]
pub struct Busy(Arc<Vitals>);

impl Vitals {
    /// A connection that was just accepted.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            born: Instant::now(),
            head_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            stalled_since: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
        })
    }

    /// A head has arrived whole.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.head_since.store(0, Ordering::Relaxed);
        let requests = self.in_flight.load(Ordering::Relaxed);
        self.in_flight.store(requests + 1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    fn now(&self) -> u64 {
        // Never 0, which means "not at all".
        self.born.elapsed().as_millis() as u64 + 1
    }

    /// Resolves when patience has run out.
    pub async fn expired(&self, patience: Patience) {
        loop {
            let now = self.now();
            let deadline = self.deadline(patience);
            if deadline <= now {
                return;
            }
            let soonest = patience.head.min(patience.idle).min(patience.send);
            let wait = Duration::from_millis(deadline - now).min(soonest);
            tokio::time::sleep(wait.max(Duration::from_millis(10))).await;
        }
    }

    /// When the present silence ends the connection, in milliseconds since birth.
    fn deadline(&self, patience: Patience) -> u64 {
        let after = |since: u64, limit: Duration| since.saturating_add(limit.as_millis() as u64);
        let stalled = self.stalled_since.load(Ordering::Relaxed);
        let stalled = if stalled == 0 {
            u64::MAX
        } else {
            after(stalled, patience.send)
        };
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            return stalled;
        }
        let head = self.head_since.load(Ordering::Relaxed);
        let silent = match head {
            0 => after(self.idle_since.load(Ordering::Relaxed), patience.idle),
            since => after(since, patience.head),
        };
        silent.min(stalled)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let requests = self.0.in_flight.load(Ordering::Relaxed).saturating_sub(1);
        self.0.in_flight.store(requests, Ordering::Relaxed);
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        self.0.head_since.store(0, Ordering::Relaxed);
    }
}

/// A socket that notes its signs of life.
#[derive(Debug)]
pub struct Watched {
    wire: Wire,
    vitals: Arc<Vitals>,
}

impl Watched {
    /// Notes what passes over `wire` in `vitals`.
    pub fn new(wire: Wire, vitals: Arc<Vitals>) -> Self {
        Self { wire, vitals }
    }

    fn wrote(&self, done: bool) {
        let stalled = &self.vitals.stalled_since;
        match (done, stalled.load(Ordering::Relaxed)) {
            (true, 0) => {}
            (true, _) => stalled.store(0, Ordering::Relaxed),
            (false, 0) => stalled.store(self.vitals.now(), Ordering::Relaxed),
            (false, _) => {}
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.wire).poll_read(cx, buffer);
        let vitals = &this.vitals;
        if read.is_ready()
            && vitals.in_flight.load(Ordering::Relaxed) == 0
            && vitals.head_since.load(Ordering::Relaxed) == 0
        {
            vitals.head_since.store(vitals.now(), Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.wire).poll_write(cx, bytes);
        this.wrote(written.is_ready());
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.wire).poll_write_vectored(cx, slices);
        this.wrote(written.is_ready());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(15),
        idle: Duration::from_secs(75),
        send: Duration::from_secs(60),
    };

    fn seconds(vitals: &Vitals) -> u64 {
        vitals.born.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_ends_after_the_idle_time() {
        let vitals = Vitals::new();
        vitals.expired(PATIENCE).await;
        assert_eq!(seconds(&vitals), 75);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_dribbles_in_ends_after_the_head_time() {
        let vitals = Vitals::new();
        vitals.head_since.store(1, Ordering::Relaxed);
        vitals.expired(PATIENCE).await;
        assert_eq!(seconds(&vitals), 15);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_may_be_silent_for_as_long_as_it_takes() {
        let vitals = Vitals::new();
        let busy = vitals.begin();
        let waited = tokio::time::timeout(Duration::from_secs(3600), vitals.expired(PATIENCE));
        assert!(waited.await.is_err());
        drop(busy);
        vitals.expired(PATIENCE).await;
        assert_eq!(seconds(&vitals), 3675);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_reading_is_given_up() {
        let vitals = Vitals::new();
        let _busy = vitals.begin();
        vitals.stalled_since.store(1, Ordering::Relaxed);
        vitals.expired(PATIENCE).await;
        assert_eq!(seconds(&vitals), 60);
    }
}
