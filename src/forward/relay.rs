//! Bodies in passing. `Upload` watches a request's body: its size, its silence, and how it broke.
//! `Relay` watches an answer's: its silence, and gives the connection back when it ends well.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::body::{Body, BodyError, BodyFault, UploadState};
use crate::forward::fetch::{Source, UnderWay};
use crate::forward::headers;

/// A limit on silence. Its one timer is left running and only looked at when it fires: moving it with
/// every chunk would cost more than the chunk.
struct Silence {
    limit: Duration,
    heard: Heard,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// When the last sign of life was. The time is taken only when something is waited for again.
enum Heard {
    JustNow,
    At(Instant),
}

impl Silence {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            heard: Heard::JustNow,
            sleep: None,
        }
    }

    fn broken(&mut self) {
        self.heard = Heard::JustNow;
    }

    /// Ready when nothing was heard for the limit, counted from the first poll after a sign of life.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let last = match self.heard {
            Heard::At(last) => last,
            Heard::JustNow => Instant::now(),
        };
        self.heard = Heard::At(last);
        let deadline = last + self.limit;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// A request's body on its way to the upstream.
pub struct Upload {
    inner: Body,
    left: u64,
    silence: Silence,
    state: Rc<UploadState>,
}

impl Upload {
    /// Lets at most `limit` bytes of `inner` pass, and no silence longer than `timeout`.
    pub fn new(inner: Body, limit: u64, timeout: Duration, state: Rc<UploadState>) -> Self {
        Self {
            inner,
            left: limit,
            silence: Silence::new(timeout),
            state,
        }
    }

    fn fail(&self, fault: BodyFault, error: BodyError) -> Option<Result<Frame<Bytes>, BodyError>> {
        self.state.fail(fault);
        Some(Err(error))
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
            return match this.silence.poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => Poll::Ready(this.fail(BodyFault::TimedOut, BodyError::TimedOut)),
            };
        };
        this.silence.broken();
        Poll::Ready(match frame {
            None => {
                this.state.finish();
                None
            }
            Some(Err(error)) => this.fail(BodyFault::Broken, error),
            Some(Ok(frame)) => {
                // Trailers come after everything that was counted.
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(left) = this.left.checked_sub(size) else {
                    return Poll::Ready(this.fail(BodyFault::TooLarge, BodyError::TooLarge));
                };
                this.left = left;
                this.state.count(size);
                if this.inner.is_end_stream() {
                    this.state.finish();
                }
                Some(Ok(headers::clean_trailers(frame)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Whoever lets go of a body waits for no more of it: the upstream's time begins.
impl Drop for Upload {
    fn drop(&mut self) {
        self.state.finish();
    }
}

/// An answer's body on its way from the upstream.
pub struct Relay {
    inner: Source,
    _under_way: UnderWay,
    /// `None`: an event stream, which has a limit of its own.
    silence: Option<Silence>,
}

impl Relay {
    /// The body of an answer; `under_way` counts its request until it ends.
    pub fn new(inner: Source, under_way: UnderWay, idle_timeout: Option<Duration>) -> Self {
        Self {
            inner,
            _under_way: under_way,
            silence: idle_timeout.map(Silence::new),
        }
    }

    /// As a body: one that is over already needs no watch.
    pub fn into_body(self) -> Body {
        if self.is_end_stream() {
            return Body::Empty;
        }
        Body::stream(self)
    }
}

impl HttpBody for Relay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = match &mut this.inner {
            Source::Http1(reading) => reading
                .poll_frame(cx)
                .map_err(|fault| BodyError::Lost(fault.into())),
            Source::Http2(incoming) => Pin::new(incoming).poll_frame(cx).map_err(BodyError::Broken),
        };
        let Poll::Ready(frame) = polled else {
            return match this.silence.as_mut().map(|silence| silence.poll(cx)) {
                Some(Poll::Ready(())) => Poll::Ready(Some(Err(BodyError::TimedOut))),
                _ => Poll::Pending,
            };
        };
        if let Some(silence) = &mut this.silence {
            silence.broken();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Source::Http1(reading) => reading.is_over(),
            Source::Http2(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Source::Http1(reading) => reading.size_hint(),
            Source::Http2(incoming) => incoming.size_hint(),
        }
    }
}

/// Reads the rest of a body that nobody waits for, so that the upstream can finish its work.
pub async fn drain(mut body: Body) {
    while let Some(Ok(_)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
}
