//! The body of a client's request. Whoever takes it first has the client asked for it, where that waits to be asked.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use http::header::EXPECT;
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BodyError};
use crate::http2::receiving::Receiving;
use crate::http2::stream::Stream;

struct Upload {
    receiving: Receiving,
    /// Whom to ask for it, where the client waits for that (RFC 9110 §10.1.1).
    asks: Option<Rc<Stream>>,
}

/// The body of the request with these headers.
pub fn body(receive: RecvStream, headers: &HeaderMap, stream: &Rc<Stream>) -> Body {
    if receive.is_end_stream() {
        return Body::Empty;
    }
    Body::stream(Upload {
        receiving: Receiving::new(receive, headers),
        asks: expects_continue(headers).then(|| Rc::clone(stream)),
    })
}

fn expects_continue(headers: &HeaderMap) -> bool {
    let expects = headers.get(EXPECT).map(http::HeaderValue::as_bytes);
    expects.is_some_and(|expects| expects.eq_ignore_ascii_case(b"100-continue"))
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = this.receiving.poll_frame(cx);
        if let Some(stream) = this.asks.take()
            && polled.is_pending()
        {
            stream.inform(StatusCode::CONTINUE, HeaderMap::new());
        }
        polled.map_err(|error| BodyError::Unsent(io::Error::other(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.receiving.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.receiving.size_hint()
    }
}
