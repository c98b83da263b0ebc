//! An answer's body on its way out, for as long as its client takes it.

use std::error::Error;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};

use crate::body::{Body, BodyError};
use crate::forward::headers;
use crate::http2::sending::{Sending, Stopped};
use crate::server::http2::patience::{Lying, Patience};

/// An answer whose head has been sent.
pub struct Answer {
    sending: Sending,
    lying: Lying,
    /// Which piece of the body was last seen to lie.
    seen: u64,
}

impl Answer {
    /// The body behind the head of which `send` is what came.
    pub fn new(body: Body, send: SendStream<Bytes>, patience: Patience) -> Self {
        Self {
            sending: Sending::new(body, send, headers::clean_answer_trailers),
            lying: Lying::new(patience),
            seen: 0,
        }
    }

    /// Sends what can be sent; ready when all of it has been handed to h2, or no more of it can be.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.sending.poll(cx) {
            Poll::Ready(Ok(()) | Err(Stopped::Reset)) => Poll::Ready(()),
            Poll::Ready(Err(Stopped::Broken(error))) => {
                // The client must not take what it got for the whole.
                self.sending.reset(reason(&error));
                Poll::Ready(())
            }
            Poll::Pending => {
                ready!(self.poll_too_long(cx));
                self.sending.reset(Reason::CANCEL);
                Poll::Ready(())
            }
        }
    }

    /// Ready when the client has left a piece lying for too long, however much of it it takes now and then.
    fn poll_too_long(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((piece, bytes)) = self.sending.lying() else {
            return Poll::Pending;
        };
        if piece != self.seen {
            self.seen = piece;
            self.lying.taken();
        }
        self.lying.poll_too_long(cx, bytes)
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
