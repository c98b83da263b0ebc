//! The body of a request, received as it is asked for: the client's window opens again by what was taken.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BodyError};
use crate::http2::stream::Stream;

/// A request's body.
struct Receiving {
    receive: RecvStream,
    /// What is still to come, where that was said. h2 holds the client to it.
    left: Option<u64>,
    /// Whom to ask for it, where the client waits for that (RFC 9110 §10.1.1).
    asks: Option<Rc<Stream>>,
    phase: Phase,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Data,
    Trailers,
    Nothing,
}

/// The body of the request with these headers.
pub fn body(receive: RecvStream, headers: &HeaderMap, stream: &Rc<Stream>) -> Body {
    if receive.is_end_stream() {
        return Body::Empty;
    }
    Body::stream(Receiving {
        receive,
        left: stated_length(headers),
        asks: expects_continue(headers).then(|| Rc::clone(stream)),
        phase: Phase::Data,
    })
}

/// The length that the headers tell. h2 refuses two that differ and what is no number.
pub fn stated_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn expects_continue(headers: &HeaderMap) -> bool {
    let expects = headers.get(EXPECT).map(http::HeaderValue::as_bytes);
    expects.is_some_and(|expects| expects.eq_ignore_ascii_case(b"100-continue"))
}

impl Receiving {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let polled = self.receive.poll_data(cx);
        if polled.is_pending()
            && let Some(stream) = self.asks.take()
        {
            stream.inform(StatusCode::CONTINUE, HeaderMap::new());
        }
        let data = ready!(polled);
        if let Some(Ok(data)) = &data {
            self.asks = None;
            let size = data.len() as u64;
            self.left = self.left.map(|left| left.saturating_sub(size));
            // It fails when the stream is over, and then nobody needs a window.
            let _ = self.receive.flow_control().release_capacity(data.len());
        }
        Poll::Ready(data)
    }

    /// A body that its client breaks off is never whole, whatever the reason: `NO_ERROR` too.
    fn fail(&mut self, error: h2::Error) -> Option<Result<Frame<Bytes>, BodyError>> {
        self.phase = Phase::Nothing;
        Some(Err(BodyError::Unsent(io::Error::other(error))))
    }
}

impl HttpBody for Receiving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.phase == Phase::Data {
            match ready!(this.poll_data(cx)) {
                Some(Ok(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Err(error)) => return Poll::Ready(this.fail(error)),
                None => this.phase = Phase::Trailers,
            }
        }
        if this.phase == Phase::Nothing {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(this.receive.poll_trailers(cx)) {
            Ok(trailers) => {
                this.phase = Phase::Nothing;
                trailers.map(|trailers| Ok(Frame::trailers(trailers)))
            }
            Err(error) => this.fail(error),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.phase == Phase::Nothing || self.receive.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
