//! An answer's body, read from the socket as it is asked for. Sends the rest of the request's body meanwhile.
//! Gives its connection back when both have come to their end and the connection may live on.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::forward::http1::sending::Sending;
use crate::forward::pool::Pool;
use crate::http1::Fault;
use crate::http1::channel::Channel;
use crate::http1::framing::{Framing, Piece};

/// The body of an answer.
pub struct Reading {
    /// `None` once given back or given up.
    channel: Option<Channel>,
    framing: Framing,
    /// The rest of the request; `None`: it has left.
    sending: Option<Box<Sending>>,
    keeps_alive: bool,
    home: Rc<Pool>,
    /// What went wrong, and is still to be told.
    fault: Option<Fault>,
}

/// What is known of an exchange when the head of its answer is in.
pub struct Exchanged {
    /// Its connection.
    pub channel: Channel,
    /// The rest of the request.
    pub sending: Option<Box<Sending>>,
    /// Whether the answer lets the connection live.
    pub keeps_alive: bool,
    /// Where the connection lives.
    pub home: Rc<Pool>,
}

impl Reading {
    /// The body that follows.
    pub fn new(exchanged: Exchanged, framing: Framing) -> Self {
        let mut reading = Self {
            channel: Some(exchanged.channel),
            framing,
            sending: exchanged.sending,
            keeps_alive: exchanged.keeps_alive,
            home: exchanged.home,
            fault: None,
        };
        reading.settle();
        reading
    }

    /// Whether nothing is to come.
    pub fn is_over(&self) -> bool {
        self.framing.is_over()
    }

    /// How much is to come, where that is known.
    pub fn size_hint(&self) -> SizeHint {
        self.framing.size_hint()
    }

    /// The next frame.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if let Some(fault) = self.fault.take() {
            return Poll::Ready(Some(Err(fault)));
        }
        let polled = self.poll_piece(cx);
        if let Poll::Ready(Err(fault)) = polled {
            self.channel = None;
            // Told at the next poll: whoever sends the answer on throws away what it has not flushed when
            // a body fails, and the client shall see what there was.
            self.fault = Some(fault);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        polled.map(Result::transpose)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Fault>> {
        loop {
            let Some(channel) = &mut self.channel else {
                return Poll::Ready(Ok(None));
            };
            if let Some(sending) = &mut self.sending {
                // An upstream may answer and read no further: that is no fault of the answer.
                if let Poll::Ready(sent) = sending.poll(cx, &mut channel.wire) {
                    self.keeps_alive &= sent.is_ok();
                    self.sending = None;
                }
            }
            match self.framing.take(&mut channel.read)? {
                Piece::Data(data) => {
                    self.settle();
                    return Poll::Ready(Ok(Some(Frame::data(data))));
                }
                Piece::Trailers(trailers) => {
                    self.settle();
                    return Poll::Ready(Ok(Some(Frame::trailers(trailers))));
                }
                Piece::End => {
                    self.settle();
                    self.channel = None;
                    return Poll::Ready(Ok(None));
                }
                Piece::More => match ready!(self.poll_more(cx)) {
                    Ok(()) => {}
                    // The only framing whose end is the connection's (RFC 9112 §6.3, case 8).
                    Err(Fault::Cut) if matches!(self.framing, Framing::Close) => {
                        self.channel = None;
                        return Poll::Ready(Ok(None));
                    }
                    Err(fault) => return Poll::Ready(Err(fault)),
                },
            }
        }
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match &mut self.channel {
            Some(channel) => channel.poll_body(cx, self.framing.left()),
            None => Poll::Ready(Err(Fault::Cut)),
        }
    }

    /// Gives the connection back as soon as nothing is to come on it. Bytes behind the end are nobody's:
    /// such a connection is closed.
    fn settle(&mut self) {
        if !self.framing.is_over() || self.sending.is_some() {
            return;
        }
        if let Some(channel) = self.channel.take()
            && self.keeps_alive
            && channel.read.is_empty()
        {
            self.home.keep(channel);
        }
    }
}
