//! An answer's body on its way out, piece by piece as the client opens its window.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::{Body as HttpBody, Frame};

use crate::body::{Body, BodyError};
use crate::forward::headers;
use crate::server::http2::patience::{Lying, Patience};

/// An answer whose head has been sent.
pub struct Answer {
    body: Body,
    send: SendStream<Bytes>,
    /// What waits for the client to have room.
    piece: Option<Piece>,
    lying: Lying,
}

struct Piece {
    data: Bytes,
    last: bool,
}

/// Whether more follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    More,
    Nothing,
}

impl Answer {
    /// The body behind the head of which `send` is what came.
    pub fn new(body: Body, send: SendStream<Bytes>, patience: Patience) -> Self {
        Self {
            body,
            send,
            piece: None,
            lying: Lying::new(patience),
        }
    }

    /// Sends what can be sent; ready when all of it has been handed to h2, or no more of it can be.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // Asked each time: it also has the task woken when the client resets the stream.
            if self.send.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            let then = match self.piece {
                Some(_) => ready!(self.poll_piece(cx)),
                None => match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                    Some(Ok(frame)) => self.put(frame),
                    Some(Err(error)) => self.break_off(&error),
                    None => self.put_data(Bytes::new(), true),
                },
            };
            if then == Then::Nothing {
                return Poll::Ready(());
            }
        }
    }

    fn put(&mut self, frame: Frame<Bytes>) -> Then {
        match frame.into_data() {
            Ok(data) => {
                let last = self.body.is_end_stream();
                if data.is_empty() {
                    return match last {
                        true => self.put_data(data, true),
                        false => Then::More,
                    };
                }
                // As little as can be: what is reserved is taken from the other streams. h2 asks for the rest when
                // it is given the piece.
                self.send.reserve_capacity(1);
                self.piece = Some(Piece { data, last });
                Then::More
            }
            Err(frame) => match headers::clean_answer_trailers(frame).into_trailers() {
                Ok(trailers) => {
                    self.send.reserve_capacity(0);
                    if self.send.send_trailers(trailers).is_err() {
                        self.send.send_reset(Reason::INTERNAL_ERROR);
                    }
                    Then::Nothing
                }
                Err(_) => Then::More,
            },
        }
    }

    /// Hands the piece to h2 once the client has room for some of it.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Then> {
        let bytes = self.piece.as_ref().map_or(0, |piece| piece.data.len());
        while self.send.capacity() == 0 {
            match self.send.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(Then::Nothing),
                Poll::Pending => {
                    ready!(self.lying.poll_too_long(cx, bytes));
                    self.send.send_reset(Reason::CANCEL);
                    return Poll::Ready(Then::Nothing);
                }
            }
        }
        self.lying.taken();
        Poll::Ready(match self.piece.take() {
            Some(Piece { data, last }) => self.put_data(data, last),
            None => Then::More,
        })
    }

    fn put_data(&mut self, data: Bytes, last: bool) -> Then {
        match self.send.send_data(data, last) {
            Ok(()) if !last => Then::More,
            _ => Then::Nothing,
        }
    }

    /// The client must not take what it got for the whole.
    fn break_off(&mut self, error: &BodyError) -> Then {
        self.send.send_reset(reason(error));
        Then::Nothing
    }
}

/// The reason that an upstream gave over HTTP/2, where it did. `NO_ERROR` would not be one.
fn reason(error: &BodyError) -> Reason {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        if let Some(reason) = error.downcast_ref().and_then(h2::Error::reason) {
            return match reason {
                Reason::NO_ERROR => Reason::INTERNAL_ERROR,
                reason => reason,
            };
        }
        cause = error.source();
    }
    Reason::INTERNAL_ERROR
}
