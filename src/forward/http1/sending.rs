//! A request on its way out: its head, then its body as it comes, in as few writes as it allows. Written from
//! the same task that awaits the answer, which may come before the body's end.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Request, StatusCode};
use http_body::{Body as HttpBody, Frame};
use tokio::io::AsyncWrite;

use crate::body::Body;
use crate::forward::http1::head::{self, Announced, AnswerHead};
use crate::http1::Fault;
use crate::http1::channel::Channel;
use crate::http1::fields::write_line;
use crate::wire::Wire;

/// A request that is being sent.
pub struct Sending {
    head: Vec<u8>,
    /// Bytes of the head that have been written.
    head_sent: usize,
    /// `None`: there is none, or it has come to its end.
    body: Option<Body>,
    announced: Announced,
    /// Bytes of the announced length that are still to come.
    left: u64,
    queue: VecDeque<Bytes>,
    /// Whether any byte has been written to the present connection.
    touched: bool,
    flushed: bool,
}

impl Sending {
    /// Takes the body out of `request`, to be sent behind its head.
    pub fn new(request: &mut Request<Body>) -> Self {
        let body = std::mem::take(request.body_mut());
        let announced = match body.size_hint().exact() {
            Some(0) => Announced::Nothing,
            Some(length) => Announced::Length(length),
            None => Announced::Chunked,
        };
        Self {
            head: Vec::new(),
            head_sent: 0,
            left: match announced {
                Announced::Length(length) => length,
                _ => 0,
            },
            body: (announced != Announced::Nothing).then_some(body),
            announced,
            queue: VecDeque::new(),
            touched: false,
            flushed: false,
        }
    }

    /// Writes the head anew, for a connection that nothing was sent on; `more` writes lines for its end.
    pub fn aim(&mut self, request: &Request<Body>, more: impl FnOnce(&mut Vec<u8>)) {
        if self.head.capacity() == 0 {
            self.head.reserve(USUAL_HEAD);
        }
        self.head.clear();
        head::write(&mut self.head, request, (self.announced, more));
        self.head_sent = 0;
        self.touched = false;
        self.flushed = false;
    }

    /// Whether no byte of it has left.
    pub fn is_untouched(&self) -> bool {
        !self.touched
    }

    /// Whether all of it has left, and nothing of it waits in a TLS session.
    pub fn is_done(&self) -> bool {
        self.flushed
    }

    /// Sends what can be sent; ready when all of it has left.
    pub fn poll(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<Result<(), Fault>> {
        if self.is_done() {
            return Poll::Ready(Ok(()));
        }
        loop {
            let awaited = self.queue.is_empty() && self.poll_body(cx)?.is_pending();
            if self.head_sent < self.head.len() || !self.queue.is_empty() {
                ready!(self.poll_write(cx, wire))?;
                continue;
            }
            // TLS keeps bytes back until it is told.
            ready!(Pin::new(&mut *wire).poll_flush(cx))?;
            if awaited {
                return Poll::Pending;
            }
            if self.body.is_none() {
                self.flushed = true;
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Queues the next frame of the body, if it has come; ready at once where there is nothing to wait for.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Fault> {
        let Some(body) = &mut self.body else {
            return Ok(Poll::Ready(()));
        };
        let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
            return Ok(Poll::Pending);
        };
        match frame {
            Some(Ok(frame)) => self.queue_frame(frame)?,
            Some(Err(_)) => return Err(Fault::Upload),
            None => self.queue_end(&HeaderMap::new())?,
        }
        Ok(Poll::Ready(()))
    }

    fn queue_frame(&mut self, frame: Frame<Bytes>) -> Result<(), Fault> {
        match frame.into_data() {
            Ok(data) if data.is_empty() => Ok(()),
            Ok(data) => self.queue_data(data),
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => self.queue_end(&trailers),
                Err(_) => Ok(()),
            },
        }
    }

    fn queue_data(&mut self, data: Bytes) -> Result<(), Fault> {
        if self.announced == Announced::Chunked {
            self.queue.push_back(format!("{:x}\r\n", data.len()).into());
            self.queue.push_back(data);
            self.queue.push_back(Bytes::from_static(b"\r\n"));
            return Ok(());
        }
        // More than was announced would be read as the next request.
        self.left = self
            .left
            .checked_sub(data.len() as u64)
            .ok_or(Fault::Upload)?;
        self.queue.push_back(data);
        Ok(())
    }

    fn queue_end(&mut self, trailers: &HeaderMap) -> Result<(), Fault> {
        self.body = None;
        if self.announced != Announced::Chunked {
            // Less than was announced: the upstream must not take the next request for the rest.
            return if self.left == 0 {
                Ok(())
            } else {
                Err(Fault::Upload)
            };
        }
        let mut end = b"0\r\n".to_vec();
        for (name, value) in trailers {
            write_line(&mut end, name.as_str(), value.as_bytes());
        }
        end.extend_from_slice(b"\r\n");
        self.queue.push_back(end.into());
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<Result<(), Fault>> {
        let mut slices = [IoSlice::new(&[]); 4];
        slices[0] = IoSlice::new(&self.head[self.head_sent..]);
        for (slice, bytes) in slices[1..].iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(bytes);
        }
        let first = usize::from(slices[0].is_empty());
        let count = 1 + self.queue.len().min(slices.len() - 1);
        let wire = Pin::new(wire);
        let written = match wire.is_write_vectored() && count - first > 1 {
            true => ready!(wire.poll_write_vectored(cx, &slices[first..count]))?,
            false => ready!(wire.poll_write(cx, &slices[first]))?,
        };
        if written == 0 {
            return Poll::Ready(Err(Fault::Cut));
        }
        self.touched = true;
        self.advance(written);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        let of_head = written.min(self.head.len() - self.head_sent);
        self.head_sent += of_head;
        written -= of_head;
        while let Some(front) = self.queue.front_mut().filter(|_| written > 0) {
            let of_front = written.min(front.len());
            front.advance(of_front);
            written -= of_front;
            if front.is_empty() {
                self.queue.pop_front();
            }
        }
    }
}

/// Sends, and reads the head of the answer, whichever comes first; `hear` is given the interim ones.
///
/// # Errors
/// When there is no answer.
pub fn poll_exchange(
    cx: &mut Context<'_>,
    channel: &mut Channel,
    sending: &mut Sending,
    hear: &mut dyn FnMut(StatusCode, HeaderMap),
) -> Poll<Result<AnswerHead, Fault>> {
    let sent = sending.poll(cx, &mut channel.wire);
    let answer = match &sent {
        // The client's fault: no answer is waited for, and the upstream gets no end of the body.
        Poll::Ready(Err(Fault::Upload)) => Poll::Pending,
        _ => head::poll_head(cx, channel, hear),
    };
    match (answer, sent) {
        // An upstream that reads no further may have answered before it closed.
        (Poll::Ready(Ok(head)), _) => Poll::Ready(Ok(head)),
        (_, Poll::Ready(Err(fault))) => Poll::Ready(Err(fault)),
        (answer, _) => answer,
    }
}

/// Room for the head of nearly every request.
const USUAL_HEAD: usize = 1024;
