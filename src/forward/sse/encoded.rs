//! An event stream whose bytes are compressed: passed untouched, cut when it must end.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BodyError};
use crate::forward::sse::body::Witness;
use crate::streams::{Membership, Outcome};

/// The stream.
pub struct EncodedStream {
    inner: Body,
    membership: Membership,
    witness: Witness,
}

impl EncodedStream {
    /// Binds `inner` to its membership. `over` hears once how the stream came to its end.
    pub fn new(inner: Body, membership: Membership, over: impl FnOnce(Outcome) + 'static) -> Self {
        Self {
            inner,
            membership,
            witness: Witness::new(over),
        }
    }
}

impl HttpBody for EncodedStream {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Poll::Ready(end) = this.membership.poll_end(cx) {
            this.inner = Body::Empty;
            this.witness.tell(Outcome::Told(end));
            return Poll::Ready(Some(Err(BodyError::Ended)));
        }
        let frame = Pin::new(&mut this.inner).poll_frame(cx);
        match &frame {
            Poll::Ready(None) => this.witness.tell(Outcome::Finished),
            Poll::Ready(Some(Err(_))) => this.witness.tell(Outcome::UpstreamDisconnected),
            _ => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
