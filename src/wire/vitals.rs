//! Signs of life of the downstream connections of one worker, and the verdict on those that show none: heads
//! that dribble in, connections that idle, clients that stop reading. The worker makes a round every half
//! second; a connection has no timer of its own and a request costs it a few plain stores. (hyper's own
//! header timer costs an allocation and a timer entry for each request, and cannot tell idling from dribbling.)

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::wire::Wire;

/// The connections of one worker.
pub struct Ward {
    beds: RefCell<Slab<Arc<Vitals>>>,
    clock: Arc<Ticks>,
    opened: Instant,
}

/// Milliseconds since the ward was opened, as of its last round. Never 0, which means "not at all".
#[derive(Debug)]
struct Ticks(AtomicU64);

/// Signs of life, shared by the socket, the service and the ward. All on one thread; hyper wants its socket
/// `Send`, hence atomics (relaxed: plain loads and stores).
#[derive(Debug)]
pub struct Vitals {
    clock: Arc<Ticks>,
    /// When the first byte after the last answer came; 0: none yet.
    head_since: AtomicU64,
    idle_since: AtomicU64,
    /// Since when the client takes no bytes; 0: it does.
    stalled_since: AtomicU64,
    in_flight: AtomicU32,
    /// HTTP/2: bytes between requests are no head, but pings and windows.
    multiplexed: AtomicBool,
    verdict: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Live,
    /// It ends when its requests have.
    Drain,
    /// It is cut.
    Dead,
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

/// A connection's place in the ward.
pub struct Bed {
    ward: Rc<Ward>,
    key: usize,
    /// Its signs of life.
    pub vitals: Arc<Vitals>,
}

/// A request under way; the connection is idle again when the last one is dropped.
#[derive(Debug)]
pub struct Busy(Arc<Vitals>);

impl Ward {
    /// The time between two rounds: how late a verdict can be.
    pub const ROUND: Duration = Duration::from_millis(500);

    /// An empty ward.
    pub fn open() -> Rc<Self> {
        Rc::new(Self {
            beds: RefCell::default(),
            clock: Arc::new(Ticks(AtomicU64::new(1))),
            opened: Instant::now(),
        })
    }

    /// Takes a new connection in.
    pub fn admit(self: &Rc<Self>) -> Bed {
        let vitals = Arc::new(Vitals::new(Arc::clone(&self.clock)));
        let key = self.beds.borrow_mut().insert(Arc::clone(&vitals));
        Bed {
            ward: Rc::clone(self),
            key,
            vitals,
        }
    }

    /// Makes rounds for as long as the worker lives; `patience` may change with a reload.
    pub async fn rounds(self: Rc<Self>, patience: impl Fn() -> Patience) {
        loop {
            tokio::time::sleep(Self::ROUND).await;
            let now = self.opened.elapsed().as_millis() as u64 + 1;
            self.clock.0.store(now, Ordering::Relaxed);
            let patience = patience();
            for (_, vitals) in self.beds.borrow().iter() {
                if let Some(verdict) = vitals.verdict_at(now, patience) {
                    vitals.judge(verdict);
                }
            }
        }
    }

    /// Tells every connection to end when its requests have.
    pub fn drain(&self) {
        for (_, vitals) in self.beds.borrow().iter() {
            vitals.judge(Verdict::Drain);
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.ward.beds.borrow_mut().try_remove(self.key);
    }
}

impl Vitals {
    fn new(clock: Arc<Ticks>) -> Self {
        let now = clock.0.load(Ordering::Relaxed);
        Self {
            clock,
            head_since: AtomicU64::new(0),
            idle_since: AtomicU64::new(now),
            stalled_since: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            multiplexed: AtomicBool::new(false),
            verdict: AtomicU8::new(Verdict::Live as u8),
            waker: Mutex::default(),
        }
    }

    /// A head has arrived whole.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.head_since.store(0, Ordering::Relaxed);
        let requests = self.in_flight.load(Ordering::Relaxed);
        self.in_flight.store(requests + 1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// The connection speaks HTTP/2. A head that dribbles in there is bounded by the idle time.
    pub fn set_multiplexed(&self) {
        self.multiplexed.store(true, Ordering::Relaxed);
    }

    /// The verdict so far.
    pub fn verdict(&self) -> Verdict {
        match self.verdict.load(Ordering::Relaxed) {
            live if live == Verdict::Live as u8 => Verdict::Live,
            drain if drain == Verdict::Drain as u8 => Verdict::Drain,
            _ => Verdict::Dead,
        }
    }

    /// Asks to be woken when the verdict changes. Once for a task: it keeps its waker.
    pub fn listen(&self, cx: &Context<'_>) {
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        *waker = Some(cx.waker().clone());
    }

    fn judge(&self, verdict: Verdict) {
        if self.verdict() as u8 >= verdict as u8 {
            return;
        }
        self.verdict.store(verdict as u8, Ordering::Relaxed);
        let waker = self
            .waker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn now(&self) -> u64 {
        self.clock.0.load(Ordering::Relaxed)
    }

    /// What the present silence comes to. An idle HTTP/2 connection is told first, so that no request is
    /// on its way when it is cut (RFC 9113 §6.8).
    fn verdict_at(&self, now: u64, patience: Patience) -> Option<Verdict> {
        if self.deadline(patience) <= now {
            return Some(Verdict::Dead);
        }
        let alone =
            self.multiplexed.load(Ordering::Relaxed) && self.in_flight.load(Ordering::Relaxed) == 0;
        let idle = now.saturating_sub(self.idle_since.load(Ordering::Relaxed));
        let idle = Duration::from_millis(idle).checked_sub(patience.idle);
        match idle.filter(|_| alone)? {
            over if over >= patience.head => Some(Verdict::Dead),
            _ => Some(Verdict::Drain),
        }
    }

    /// When the present silence ends the connection, by the ward's clock.
    fn deadline(&self, patience: Patience) -> u64 {
        let after = |since: u64, limit: Duration| since.saturating_add(limit.as_millis() as u64);
        let stalled = match self.stalled_since.load(Ordering::Relaxed) {
            0 => u64::MAX,
            since => after(since, patience.send),
        };
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            return stalled;
        }
        let silent = match self.head_since.load(Ordering::Relaxed) {
            _ if self.multiplexed.load(Ordering::Relaxed) => u64::MAX,
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
    use std::future::poll_fn;

    use super::*;

    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(15),
        idle: Duration::from_secs(75),
        send: Duration::from_secs(60),
    };

    /// Seconds until the verdict, rounds being made.
    async fn verdict_after(bed: &Bed) -> u64 {
        let start = Instant::now();
        let vitals = &bed.vitals;
        let dead = poll_fn(|cx| {
            vitals.listen(cx);
            match vitals.verdict() {
                Verdict::Live => Poll::Pending,
                _ => Poll::Ready(()),
            }
        });
        tokio::select! {
            () = Rc::clone(&bed.ward).rounds(|| PATIENCE) => unreachable!("rounds never end"),
            () = dead => start.elapsed().as_secs(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_ends_after_the_idle_time() {
        assert_eq!(verdict_after(&Ward::open().admit()).await, 75);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_dribbles_in_ends_after_the_head_time() {
        let bed = Ward::open().admit();
        bed.vitals.head_since.store(1, Ordering::Relaxed);
        assert_eq!(verdict_after(&bed).await, 15);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_may_be_silent_for_as_long_as_it_takes() {
        let bed = Ward::open().admit();
        let busy = bed.vitals.begin();
        let waited = tokio::time::timeout(Duration::from_secs(3600), verdict_after(&bed));
        assert!(waited.await.is_err());
        drop(busy);
        assert_eq!(verdict_after(&bed).await, 75);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_reading_is_given_up() {
        let bed = Ward::open().admit();
        let _busy = bed.vitals.begin();
        bed.vitals.stalled_since.store(1, Ordering::Relaxed);
        assert_eq!(verdict_after(&bed).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn over_http2_bytes_between_requests_are_no_head_and_an_idle_client_is_told_first() {
        let bed = Ward::open().admit();
        bed.vitals.set_multiplexed();
        bed.vitals.head_since.store(1, Ordering::Relaxed);
        assert_eq!(verdict_after(&bed).await, 75);
        assert_eq!(bed.vitals.verdict(), Verdict::Drain);
        let now = 1000 * (75 + 15) + 1;
        assert_eq!(bed.vitals.verdict_at(now, PATIENCE), Some(Verdict::Dead));
    }

    #[test]
    fn a_drain_is_told_once_and_never_taken_back() {
        let ward = Ward::open();
        let bed = ward.admit();
        ward.drain();
        assert_eq!(bed.vitals.verdict(), Verdict::Drain);
        bed.vitals.judge(Verdict::Dead);
        ward.drain();
        assert_eq!(bed.vitals.verdict(), Verdict::Dead);
    }

    #[test]
    fn a_connection_leaves_the_ward_when_it_ends() {
        let ward = Ward::open();
        drop(ward.admit());
        assert!(ward.beds.borrow().is_empty());
    }
}
