//! What is to be written, in its order: small pieces are gathered, so that a head and a short body, or a batch
//! of events, leave in one write; a large piece passes uncopied.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use tokio::io::AsyncWrite;

use crate::http1::fields::write_line;
use crate::wire::buffers::Scratch;

/// Bytes on their way out. Holds no memory when it is empty.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What comes first, and how much of it has left.
    front: Scratch,
    sent: usize,
    /// A large piece behind it.
    large: Bytes,
    /// What comes behind that; empty where there is no large piece.
    back: Scratch,
}

impl Outbox {
    /// Whether everything has left.
    pub fn is_empty(&self) -> bool {
        self.front.is_empty() && self.large.is_empty()
    }

    /// Whether another piece of a body should be put in before it is written.
    pub fn has_room(&self) -> bool {
        self.large.is_empty() && self.front.len() < FULL
    }

    /// To write small things at the end, such as a head.
    pub fn end(&mut self) -> &mut Vec<u8> {
        match self.large.is_empty() {
            true => self.front.gather(),
            false => self.back.gather(),
        }
    }

    /// Puts a piece of a body in.
    pub fn put(&mut self, piece: Bytes) {
        if piece.len() <= SMALL || !self.large.is_empty() {
            self.end().extend_from_slice(&piece);
        } else {
            self.large = piece;
        }
    }

    /// Puts a piece of a body in as a chunk (RFC 9112 §7.1). An empty one would end the body: it is left out.
    pub fn put_chunk(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        write_size(self.end(), piece.len());
        self.put(piece);
        self.end().extend_from_slice(b"\r\n");
    }

    /// Puts the last chunk in, and the trailers.
    pub fn put_last_chunk(&mut self, trailers: &HeaderMap) {
        let out = self.end();
        out.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            write_line(out, name.as_str(), value.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Writes until everything has left.
    ///
    /// # Errors
    /// When the other side takes no more.
    pub fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        wire: &mut W,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let mut wire = Pin::new(&mut *wire);
            let first = &self.front[self.sent..];
            let written = if self.large.is_empty() {
                wire.poll_write(cx, first)
            } else if wire.is_write_vectored() {
                let slices = [first, &*self.large, &*self.back].map(IoSlice::new);
                wire.poll_write_vectored(cx, &slices[usize::from(first.is_empty())..])
            } else {
                wire.as_mut()
                    .poll_write(cx, if first.is_empty() { &self.large } else { first })
            };
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        let of_front = written.min(self.front.len() - self.sent);
        self.sent += of_front;
        if self.sent < self.front.len() {
            return;
        }
        self.front.clear();
        self.sent = 0;
        let of_large = (written - of_front).min(self.large.len());
        self.large.advance(of_large);
        if self.large.is_empty() {
            self.large = Bytes::new();
            self.front = std::mem::take(&mut self.back);
            let of_back = written - of_front - of_large;
            if of_back > 0 {
                self.advance(of_back);
            }
        }
    }
}

/// The size line of a chunk.
fn write_size(out: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for at in (0..digits).rev() {
        let digit = (size >> (4 * at)) & 15;
        out.push(b"0123456789abcdef"[digit]);
    }
    out.extend_from_slice(b"\r\n");
}

/// A piece that is copied rather than written from where it lies.
const SMALL: usize = 4 * 1024;
/// So much is written before more is gathered.
const FULL: usize = 8 * 1024;
