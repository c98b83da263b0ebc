//! The socket as h2 has it. h2 writes each piece of a body by itself, which is a system call, and over TLS a record, for
//! each answer; here it is gathered until its connection has said all that there is to say for now. So h2's flushes do
//! nothing: whoever polls the connection calls [`Outlet::poll_out`] after it.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::wire::buffers::Scratch;

/// What h2 reads from and writes into.
#[derive(Debug)]
pub struct Gathered<W>(Rc<RefCell<State<W>>>);

/// Where what was gathered leaves.
#[derive(Debug)]
pub struct Outlet<W>(Rc<RefCell<State<W>>>);

#[derive(Debug)]
struct State<W> {
    wire: W,
    /// What waits, and how much of it has left.
    held: Scratch,
    sent: usize,
}

/// A socket for h2, and the outlet of what it writes there.
pub fn gather<W>(wire: W) -> (Gathered<W>, Outlet<W>) {
    let state = Rc::new(RefCell::new(State {
        wire,
        held: Scratch::default(),
        sent: 0,
    }));
    (Gathered(Rc::clone(&state)), Outlet(state))
}

impl<W: AsyncWrite + Unpin> Outlet<W> {
    /// Writes until all of it has left.
    ///
    /// # Errors
    /// When the other side takes no more: the connection is over.
    pub fn poll_out(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_out(cx)
    }
}

impl<W: AsyncWrite + Unpin> State<W> {
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest().is_empty() {
            let wire = Pin::new(&mut self.wire);
            let written = ready!(wire.poll_write(cx, &self.held[self.sent..]))?;
            self.advance(written)?;
        }
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    /// Takes these bytes in, or writes where there is no room for them: a large piece passes uncopied, behind what waits.
    fn poll_put(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let size: usize = slices.iter().map(|slice| slice.len()).sum();
        loop {
            let rest = self.rest().len();
            if rest + size <= ROOM {
                let held = self.held.gather();
                slices
                    .iter()
                    .for_each(|slice| held.extend_from_slice(slice));
                return Poll::Ready(Ok(size));
            }
            let mut all = [IoSlice::new(&self.held[self.sent..]); 1 + MOST_SLICES];
            let (_, behind) = all.split_at_mut(1);
            let count = slices.len().min(MOST_SLICES);
            behind[..count].copy_from_slice(&slices[..count]);
            let wire = Pin::new(&mut self.wire);
            let first = usize::from(rest == 0);
            let written = ready!(wire.poll_write_vectored(cx, &all[first..1 + count]))?;
            let of_rest = written.min(rest);
            if of_rest > 0 || written == 0 {
                self.advance(of_rest)?;
            }
            if written > of_rest {
                return Poll::Ready(Ok(written - of_rest));
            }
        }
    }

    fn rest(&self) -> &[u8] {
        &self.held[self.sent..]
    }

    fn advance(&mut self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.sent += written;
        if self.rest().is_empty() {
            self.held.clear();
            self.sent = 0;
        }
        Ok(())
    }
}

impl<W: AsyncRead + Unpin> AsyncRead for Gathered<W> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().wire).poll_read(cx, buffer)
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Gathered<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_put(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_put(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was gathered leaves later, all at once.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.borrow_mut();
        ready!(state.poll_out(cx))?;
        Pin::new(&mut state.wire).poll_shutdown(cx)
    }
}

/// What one TLS record holds (RFC 8446 §5.1).
const ROOM: usize = 16 * 1024;
/// h2 writes what it has buffered and one piece of a body.
const MOST_SLICES: usize = 3;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_written_leaves_at_once_and_in_its_order() {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let (mut gathered, outlet) = gather(ours);
        for part in ["one ", "two ", "three"] {
            gathered.write_all(part.as_bytes()).await.unwrap();
            gathered.flush().await.unwrap();
        }
        let mut seen = [0; 64];
        assert!(theirs.read(&mut seen).now_or_never().is_none());
        poll_fn(|cx| outlet.poll_out(cx)).await.unwrap();
        let read = theirs.read(&mut seen).await.unwrap();
        assert_eq!(&seen[..read], b"one two three");
    }

    #[tokio::test]
    async fn of_a_side_that_reads_nothing_no_more_than_the_room_is_held() {
        let (ours, mut theirs) = tokio::io::duplex(1000);
        let (mut gathered, outlet) = gather(ours);
        let mut sent = Vec::new();
        for number in 0_u32.. {
            let piece = [number.to_le_bytes(); 100].concat();
            let Some(written) = gathered.write(&piece).now_or_never() else {
                break;
            };
            sent.extend_from_slice(&piece[..written.unwrap()]);
        }
        assert!((ROOM..=ROOM + 1000).contains(&sent.len()), "{}", sent.len());
        let mut seen = vec![0; sent.len()];
        let (out, read) = tokio::join!(
            poll_fn(|cx| outlet.poll_out(cx)),
            theirs.read_exact(&mut seen)
        );
        assert!(out.is_ok() && read.is_ok() && seen == sent);
        drop(theirs);
        gathered.write_all(b"more").await.unwrap();
        assert!(poll_fn(|cx| outlet.poll_out(cx)).await.is_err());
    }

    #[tokio::test]
    async fn a_large_piece_passes_behind_what_waits_and_the_end_behind_both() {
        let (ours, mut theirs) = tokio::io::duplex(5000);
        let (mut gathered, _outlet) = gather(ours);
        let large = vec![7; 3 * ROOM];
        let send = async {
            gathered.write_all(b"head").await.unwrap();
            gathered.write_all(&large).await.unwrap();
            gathered.write_all(b"tail").await.unwrap();
            gathered.shutdown().await.unwrap();
        };
        let mut seen = Vec::new();
        let (_, read) = tokio::join!(send, theirs.read_to_end(&mut seen));
        assert_eq!(read.unwrap(), 8 + large.len());
        assert!(seen == [b"head".as_slice(), &large, b"tail"].concat());
    }
}
