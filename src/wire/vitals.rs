//! Signs of life of the downstream connections of one worker, and the verdict on those that show none: heads
//! that dribble in, connections that idle, clients that stop reading. The worker makes a round every half
//! second; a connection has no timer of its own and a request costs it a few plain stores.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::wire::Wire;

/// The connections of one worker.
pub struct Ward {
    beds: RefCell<Slab<Rc<Vitals>>>,
    clock: Rc<Ticks>,
    opened: Instant,
}

/// Milliseconds since the ward was opened, as of its last round. Never 0, which means "not at all".
#[derive(Debug)]
struct Ticks(Cell<u64>);

/// Signs of life, shared by the socket, the requests and the ward.
#[derive(Debug)]
pub struct Vitals {
    clock: Rc<Ticks>,
    /// When the first byte after the last answer came; 0: none yet.
    head_since: Cell<u64>,
    idle_since: Cell<u64>,
    /// Since when the client takes no bytes; 0: it does.
    stalled_since: Cell<u64>,
    /// When the client was last heard.
    heard: Cell<u64>,
    in_flight: Cell<u32>,
    /// HTTP/2: bytes between requests are no head, but pings and windows.
    multiplexed: Cell<bool>,
    verdict: Cell<Verdict>,
    waker: RefCell<Option<Waker>>,
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
    pub vitals: Rc<Vitals>,
}

/// A request under way; the connection is idle again when the last one is dropped.
#[derive(Debug)]
pub struct Busy(Rc<Vitals>);

impl Ward {
    /// The time between two rounds: how late a verdict can be.
    pub const ROUND: Duration = Duration::from_millis(500);

    /// An empty ward.
    pub fn open() -> Rc<Self> {
        Rc::new(Self {
            beds: RefCell::default(),
            clock: Rc::new(Ticks(Cell::new(1))),
            opened: Instant::now(),
        })
    }

    /// Takes a new connection in.
    pub fn admit(self: &Rc<Self>) -> Bed {
        let vitals = Rc::new(Vitals::new(Rc::clone(&self.clock)));
        let key = self.beds.borrow_mut().insert(Rc::clone(&vitals));
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
            self.clock.0.set(now);
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
    fn new(clock: Rc<Ticks>) -> Self {
        let now = clock.0.get();
        Self {
            clock,
            head_since: Cell::new(0),
            idle_since: Cell::new(now),
            stalled_since: Cell::new(0),
            heard: Cell::new(now),
            in_flight: Cell::new(0),
            multiplexed: Cell::new(false),
            verdict: Cell::new(Verdict::Live),
            waker: RefCell::default(),
        }
    }

    /// A head has begun to arrive.
    pub fn begin_head(&self) {
        if self.head_since.get() == 0 && self.in_flight.get() == 0 {
            self.head_since.set(self.now());
        }
    }

    /// A head has arrived whole.
    pub fn begin(self: &Rc<Self>) -> Busy {
        self.head_since.set(0);
        let requests = self.in_flight.get();
        self.in_flight.set(requests + 1);
        Busy(Rc::clone(self))
    }

    /// The connection speaks HTTP/2. A head that dribbles in there is bounded by the idle time.
    pub fn set_multiplexed(&self) {
        self.multiplexed.set(true);
    }

    /// How long the client has not been heard.
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.heard.get()))
    }

    /// The verdict so far.
    pub fn verdict(&self) -> Verdict {
        self.verdict.get()
    }

    /// Asks to be woken when the verdict changes. Once for a task: it keeps its waker.
    pub fn listen(&self, cx: &Context<'_>) {
        *self.waker.borrow_mut() = Some(cx.waker().clone());
    }

    fn judge(&self, verdict: Verdict) {
        if self.verdict() as u8 >= verdict as u8 {
            return;
        }
        self.verdict.set(verdict);
        let waker = self.waker.borrow().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn now(&self) -> u64 {
        self.clock.0.get()
    }

    /// What the present silence comes to. An idle HTTP/2 connection is told first, so that no request is
    /// on its way when it is cut (RFC 9113 §6.8).
    fn verdict_at(&self, now: u64, patience: Patience) -> Option<Verdict> {
        if self.deadline(patience) <= now {
            return Some(Verdict::Dead);
        }
        let alone = self.multiplexed.get() && self.in_flight.get() == 0;
        let idle = now.saturating_sub(self.idle_since.get());
        let idle = Duration::from_millis(idle).checked_sub(patience.idle);
        match idle.filter(|_| alone)? {
            over if over >= patience.head => Some(Verdict::Dead),
            _ => Some(Verdict::Drain),
        }
    }

    /// When the present silence ends the connection, by the ward's clock.
    fn deadline(&self, patience: Patience) -> u64 {
        let after = |since: u64, limit: Duration| since.saturating_add(limit.as_millis() as u64);
        let stalled = match self.stalled_since.get() {
            0 => u64::MAX,
            since => after(since, patience.send),
        };
        if self.in_flight.get() > 0 {
            return stalled;
        }
        let silent = match self.head_since.get() {
            _ if self.multiplexed.get() => u64::MAX,
            0 => after(self.idle_since.get(), patience.idle),
            since => after(since, patience.head),
        };
        silent.min(stalled)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let requests = self.0.in_flight.get().saturating_sub(1);
        self.0.in_flight.set(requests);
        self.0.idle_since.set(self.0.now());
        self.0.head_since.set(0);
    }
}

/// A socket that notes its signs of life.
#[derive(Debug)]
pub struct Watched {
    wire: Wire,
    vitals: Rc<Vitals>,
    /// What was read before, and is read again first.
    ahead: Bytes,
}

impl Watched {
    /// Notes what passes over `wire` in `vitals`.
    pub fn new(wire: Wire, vitals: Rc<Vitals>) -> Self {
        Self {
            wire,
            vitals,
            ahead: Bytes::new(),
        }
    }

    /// The same, where these bytes of it have been read already.
    #[must_use]
    pub fn behind(self, ahead: Bytes) -> Self {
        Self { ahead, ..self }
    }

    /// The socket alone, once something was read of it: nobody notes its signs of life any more.
    pub fn into_inner(self) -> Wire {
        self.wire
    }

    /// From here on closing it resets the connection.
    pub fn reset_on_close(&self) {
        self.wire.reset_on_close();
    }

    /// Puts in what was read before; tells whether there was something.
    fn take_ahead(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        if self.ahead.is_empty() {
            return false;
        }
        let size = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead.split_to(size));
        size > 0
    }

    fn wrote(&self, done: bool) {
        let stalled = &self.vitals.stalled_since;
        match (done, stalled.get()) {
            (true, 0) => {}
            (true, _) => stalled.set(0),
            (false, 0) => stalled.set(self.vitals.now()),
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
        let ahead = this.take_ahead(buffer);
        let read = match buffer.remaining() {
            0 => Poll::Ready(Ok(())),
            _ => Pin::new(&mut this.wire).poll_read(cx, buffer),
        };
        let read = match read {
            Poll::Pending if ahead => Poll::Ready(Ok(())),
            read => read,
        };
        if read.is_ready() {
            this.vitals.heard.set(this.vitals.now());
            this.vitals.begin_head();
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
        bed.vitals.head_since.set(1);
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
        bed.vitals.stalled_since.set(1);
        assert_eq!(verdict_after(&bed).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn over_http2_bytes_between_requests_are_no_head_and_an_idle_client_is_told_first() {
        let bed = Ward::open().admit();
        bed.vitals.set_multiplexed();
        bed.vitals.head_since.set(1);
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
