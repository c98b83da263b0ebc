//! A connection and what was read of it ahead. Holds the socket and nothing else while it waits: the memory
//! to read into is lent.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

use crate::http1::Fault;
use crate::wire::Wire;
use crate::wire::buffers::{self, Buffer};

/// A connection that speaks HTTP/1.1.
#[derive(Debug)]
pub struct Channel<W = Wire> {
    /// The socket.
    pub wire: W,
    /// What was read and not yet used.
    pub read: Bytes,
    /// The last read filled its buffer: the next of a body goes into a large one of its own, without a copy.
    bulk: bool,
}

impl<W: AsyncRead + Unpin> Channel<W> {
    /// A connection that was just made.
    pub fn new(wire: W) -> Self {
        Self {
            wire,
            read: Bytes::new(),
            bulk: false,
        }
    }

    /// Whether a kept connection can carry another request: it is open, and nothing came that nobody asked
    /// for. Costs no system call unless the socket has become readable.
    pub fn is_fit(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut byte = [0];
        let polled = Pin::new(&mut self.wire).poll_read(&mut cx, &mut ReadBuf::new(&mut byte));
        polled.is_pending() && self.read.is_empty()
    }

    /// Reads more behind what is there already.
    ///
    /// # Errors
    /// When the connection fails or has ended.
    pub fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if self.read.is_empty() {
            // What was read and used up would else be kept until more comes.
            self.read = Bytes::new();
        }
        let mut buffer = Buffer::borrow();
        let mut into = ReadBuf::new(&mut buffer);
        ready!(Pin::new(&mut self.wire).poll_read(cx, &mut into))?;
        let fresh = into.filled();
        if fresh.is_empty() {
            return Poll::Ready(Err(Fault::Cut));
        }
        self.bulk = fresh.len() == buffers::SIZE;
        if self.read.is_empty() {
            self.read = Bytes::copy_from_slice(fresh);
            return Poll::Ready(Ok(()));
        }
        // Grows by doubling where nobody else looks at it, so that a head that dribbles in costs no more.
        let held = std::mem::take(&mut self.read).try_into_mut();
        let mut held = held.unwrap_or_else(|shared| BytesMut::from(&*shared));
        held.extend_from_slice(fresh);
        self.read = held.freeze();
        Poll::Ready(Ok(()))
    }

    /// Reads more of a body, of which nothing is there and so much is to come, where that is known: at most 32 KiB
    /// at first, more when that was filled.
    ///
    /// # Errors
    /// When the connection fails or has ended.
    pub fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        left: Option<u64>,
    ) -> Poll<Result<(), Fault>> {
        let left = left.map_or(LARGE, |left| usize::try_from(left).unwrap_or(LARGE));
        if !self.bulk || left <= buffers::SIZE {
            return self.poll_more(cx);
        }
        let mut large = BytesMut::with_capacity(left.min(LARGE));
        let size = ready!(poll_read_buf(Pin::new(&mut self.wire), cx, &mut large))?;
        if size == 0 {
            return Poll::Ready(Err(Fault::Cut));
        }
        self.bulk = size >= buffers::SIZE;
        self.read = large.freeze();
        Poll::Ready(Ok(()))
    }
}

/// A read in the middle of a large body: system calls and wake-ups cost more there than copies. A mebibyte relayed
/// in pieces of 64 KiB took twice the time of pieces of 256 KiB, and `splice` lay in between.
const LARGE: usize = 256 * 1024;
