//! A connection to an upstream, between requests and until the head of an answer.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncRead, ReadBuf};

use crate::forward::buffers::Buffer;
use crate::forward::http1::Fault;
use crate::forward::http1::head::{self, AnswerHead};
use crate::wire::Wire;

/// A connection that speaks HTTP/1.1. Holds the socket and nothing else while it waits.
#[derive(Debug)]
pub struct Channel {
    /// The socket.
    pub wire: Wire,
    /// What was read and not yet used.
    pub read: Bytes,
}

impl Channel {
    /// A connection that was just made.
    pub fn new(wire: Wire) -> Self {
        Self {
            wire,
            read: Bytes::new(),
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

    /// Reads the head of the final answer; interim ones (RFC 9110 §15.2) are passed over.
    ///
    /// # Errors
    /// When it is no HTTP/1 answer, is too large, or the connection ends before it does.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<AnswerHead, Fault>> {
        loop {
            while !self.read.is_empty() {
                let Some((head, length)) = head::read(&self.read)? else {
                    break;
                };
                if length > LARGEST_HEAD {
                    return Poll::Ready(Err(Fault::HeadTooLarge));
                }
                self.read = self.read.slice(length..);
                let interim = head.status.is_informational()
                    && head.status != StatusCode::SWITCHING_PROTOCOLS;
                if !interim {
                    return Poll::Ready(Ok(head));
                }
            }
            if self.read.len() > LARGEST_HEAD {
                return Poll::Ready(Err(Fault::HeadTooLarge));
            }
            ready!(self.poll_more(cx))?;
        }
    }

    /// Reads more behind what is there already.
    ///
    /// # Errors
    /// When the connection fails or has ended.
    pub fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let mut buffer = Buffer::borrow();
        let mut into = ReadBuf::new(&mut buffer);
        ready!(Pin::new(&mut self.wire).poll_read(cx, &mut into))?;
        let fresh = into.filled();
        if fresh.is_empty() {
            return Poll::Ready(Err(Fault::Cut));
        }
        self.read = match self.read.is_empty() {
            true => Bytes::copy_from_slice(fresh),
            false => [&self.read, fresh].concat().into(),
        };
        Poll::Ready(Ok(()))
    }
}

/// The head of an answer; an upstream that sends more is not answering.
const LARGEST_HEAD: usize = 64 * 1024;
