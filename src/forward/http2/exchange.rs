//! One request over a stream of its own, and its answer.

use std::convert::identity;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::Body;
use crate::forward::http2::Fault;
use crate::forward::http2::connection::Place;
use crate::http2::receiving::Receiving;
use crate::http2::sending::{Sending, Stopped};

/// A request that waits for its answer. Dropped, its stream is reset.
pub struct Exchange {
    answer: ResponseFuture,
    /// The rest of its body; `None`: all of it has left, or it broke off.
    sending: Option<Sending>,
    place: Place,
}

/// The body of an answer. Sends the rest of the request's meanwhile. Dropped before its end, its stream is reset.
pub struct Reading {
    receiving: Receiving,
    sending: Option<Sending>,
    _place: Place,
}

impl Exchange {
    /// Opens a stream for a request with this body.
    ///
    /// # Errors
    /// When the connection takes no more of them: nothing was sent, and the body comes back as it was.
    pub fn begin(place: Place, head: Request<()>, body: Body) -> Result<Self, (h2::Error, Body)> {
        let ends = body.is_end_stream();
        match place.sender().send_request(head, ends) {
            Err(error) => Err((error, body)),
            Ok((answer, send)) => Ok(Self {
                answer,
                // What may stand in its trailers was judged where it came in.
                sending: (!ends).then(|| Sending::new(body, send, identity)),
                place,
            }),
        }
    }

    /// Sends, and reads the head of the final answer, whichever comes first; `hear` is given the interim ones.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        hear: &mut dyn FnMut(StatusCode, HeaderMap),
    ) -> Poll<Result<Response<RecvStream>, Fault>> {
        if send_on(&mut self.sending, cx) == Sent::Broken {
            return Poll::Ready(Err(Fault::Upload));
        }
        while let Some(interim) = ready!(self.answer.poll_informational(cx)) {
            let (head, ()) = interim?.into_parts();
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Err(Fault::Switched));
            }
            hear(head.status, head.headers);
        }
        Pin::new(&mut self.answer).poll(cx).map_err(Fault::from)
    }

    /// The body of the answer with these headers.
    pub fn into_reading(self, receive: RecvStream, headers: &HeaderMap) -> Reading {
        Reading {
            receiving: Receiving::new(receive, headers),
            sending: self.sending,
            _place: self.place,
        }
    }

    /// The request's body, if nothing of it was taken.
    pub fn untouched(self) -> Option<Body> {
        self.sending.and_then(Sending::untouched)
    }
}

impl Reading {
    /// Whether nothing is to come.
    pub fn is_over(&self) -> bool {
        self.receiving.is_over()
    }

    /// How much is to come, where that is known.
    pub fn size_hint(&self) -> SizeHint {
        self.receiving.size_hint()
    }

    /// The next frame.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        // What comes of that is told by the stream: it is reset, or its answer goes on all the same.
        send_on(&mut self.sending, cx);
        self.receiving.poll_frame(cx)
    }
}

/// What came of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// All of it is sent, or some of it is still to come.
    Well,
    /// The client broke it off, and the stream is reset.
    Broken,
}

/// Sends what can be sent. An upstream that takes no more of it may have answered all the same.
fn send_on(sending: &mut Option<Sending>, cx: &mut Context<'_>) -> Sent {
    let Some(body) = sending else {
        return Sent::Well;
    };
    match body.poll(cx) {
        // What is left may be wanted back.
        Poll::Pending | Poll::Ready(Err(Stopped::Reset)) => Sent::Well,
        Poll::Ready(Ok(())) => {
            *sending = None;
            Sent::Well
        }
        Poll::Ready(Err(Stopped::Broken(_))) => {
            body.reset(Reason::CANCEL);
            *sending = None;
            Sent::Broken
        }
    }
}
