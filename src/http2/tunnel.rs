//! A stream that speaks another protocol (RFC 8441), as a connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream as a connection. Dropped before it was shut down, it is reset.
#[derive(Debug)]
pub struct Tunnel {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// What came and was not read yet.
    read: Bytes,
    shut: bool,
}

impl Tunnel {
    /// The stream, of which both heads have been sent.
    pub fn new(send: SendStream<Bytes>, receive: RecvStream) -> Self {
        Self {
            send,
            receive,
            read: Bytes::new(),
            shut: false,
        }
    }

    /// How much the client has room for, of so much that it shall have. What h2 is given has the client's window behind it,
    /// so that whoever writes sees what is not taken.
    fn poll_room(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<io::Result<usize>> {
        if let Poll::Ready(reset) = self.send.poll_reset(cx) {
            return Poll::Ready(Err(match reset {
                Ok(reason) => io::Error::new(io::ErrorKind::BrokenPipe, h2::Error::from(reason)),
                Err(error) => io_error(error),
            }));
        }
        self.send.reserve_capacity(size);
        while self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        Poll::Ready(Ok(self.send.capacity().min(size)))
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.read.is_empty() {
            match ready!(this.receive.poll_data(cx)) {
                Some(Ok(data)) => this.read = data,
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => {
                    return Poll::Ready(match error.reason() {
                        Some(Reason::NO_ERROR | Reason::CANCEL) => Ok(()),
                        _ => Err(io_error(error)),
                    });
                }
            }
        }
        let size = this.read.len().min(buffer.remaining());
        buffer.put_slice(&this.read[..size]);
        this.read.advance(size);
        // It fails when the stream is over, and then nobody needs a window.
        let _ = this.receive.flow_control().release_capacity(size);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let size = ready!(this.poll_room(cx, bytes.len().min(LARGEST_WRITE)))?;
        let data = Bytes::copy_from_slice(&bytes[..size]);
        this.send.send_data(data, false).map_err(io_error)?;
        Poll::Ready(Ok(size))
    }

    /// What was written leaves as soon as the connection's task runs.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.shut {
            this.shut = true;
            this.send.send_data(Bytes::new(), true).map_err(io_error)?;
        }
        Poll::Ready(Ok(()))
    }
}

fn io_error(error: h2::Error) -> io::Error {
    match error.is_io() {
        true => error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()),
        false => io::Error::other(error),
    }
}

/// What one write hands over at most, however wide the window: it is copied, and held until it leaves.
const LARGEST_WRITE: usize = 64 * 1024;
