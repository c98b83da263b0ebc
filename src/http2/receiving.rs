//! A body that comes over a stream, received as it is asked for: the sender's window opens again by what was taken.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};

/// What follows a head.
pub struct Receiving {
    receive: RecvStream,
    /// What is still to come, where that was said. h2 holds the sender to it.
    left: Option<u64>,
    phase: Phase,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Data,
    Trailers,
    Nothing,
}

/// The length that the headers tell. h2 refuses two that differ and what is no number.
pub fn stated_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl Receiving {
    /// What follows the head with these headers.
    pub fn new(receive: RecvStream, headers: &HeaderMap) -> Self {
        Self {
            receive,
            left: stated_length(headers),
            phase: Phase::Data,
        }
    }

    /// The next frame. A body that its sender breaks off is never whole, whatever the reason: `NO_ERROR` too.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let polled = ready!(self.poll_next(cx));
        if let Some(Err(_)) = &polled {
            self.phase = Phase::Nothing;
        }
        Poll::Ready(polled)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if self.phase == Phase::Data {
            if let Some(data) = ready!(self.receive.poll_data(cx)?) {
                self.take(&data);
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            self.phase = Phase::Trailers;
        }
        if self.phase == Phase::Nothing {
            return Poll::Ready(None);
        }
        let trailers = ready!(self.receive.poll_trailers(cx))?;
        self.phase = Phase::Nothing;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn take(&mut self, data: &Bytes) {
        let size = data.len() as u64;
        self.left = self.left.map(|left| left.saturating_sub(size));
        // It fails when the stream is over, and then nobody needs a window.
        let _ = self.receive.flow_control().release_capacity(data.len());
    }

    /// Whether nothing is to come.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Nothing || self.receive.is_end_stream()
    }

    /// How much is to come, where that is known.
    pub fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
