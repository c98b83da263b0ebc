//! Bodies in passing. `Upload` watches a request's body: its size, its pace, and how it broke.
//! `Relay` watches an answer's: its silence, and gives the connection back when it ends well.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::body::{Body, BodyError, BodyFault, UploadState};
use crate::forward::fetch::{Source, UnderWay};
use crate::forward::headers;
use crate::refusal::Refusal;

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

/// How long a sender may be waited for, altogether: what it sends earns it some of that back. So neither silence
/// nor a byte now and then holds the receiver for ever, and a pause in a swift body costs nothing.
struct Allowance {
    most: Duration,
    /// Bytes that earn a second; 0: any bytes earn all of it.
    rate: u64,
    left: Duration,
    waiting: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Allowance {
    fn new(most: Duration, rate: u64) -> Self {
        Self {
            most,
            rate,
            left: most,
            waiting: None,
            sleep: None,
        }
    }

    /// So many bytes have come.
    fn earn(&mut self, bytes: u64) {
        if let Some(since) = self.waiting.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        let nanos = bytes.saturating_mul(1_000_000_000);
        let earned = nanos.checked_div(self.rate).map(Duration::from_nanos);
        let left = earned.map_or(self.most, |earned| self.left.saturating_add(earned));
        self.left = left.min(self.most);
    }

    /// Ready when all of it is spent. Like that of `Silence`, its timer only ever rings too early.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting.get_or_insert_with(Instant::now);
        let deadline = since + self.left;
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

/// What a request's body may take.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// Bytes of all of it.
    pub size: u64,
    /// How long it may be waited for.
    pub timeout: Duration,
    /// Bytes that earn it another second of that; 0: any do.
    pub rate: u64,
}

/// A request's body on its way to the upstream.
pub struct Upload {
    inner: Body,
    left: u64,
    allowance: Allowance,
    state: Rc<UploadState>,
}

impl Upload {
    /// Lets `inner` pass within `limits`.
    pub fn new(inner: Body, limits: UploadLimits, state: Rc<UploadState>) -> Self {
        Self {
            inner,
            left: limits.size,
            allowance: Allowance::new(limits.timeout, limits.rate),
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
            return match this.allowance.poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => Poll::Ready(this.fail(BodyFault::TimedOut, BodyError::TimedOut)),
            };
        };
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
                this.allowance.earn(size);
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
    /// The body of the answer with this head; what is under way counts its request until it ends.
    ///
    /// # Errors
    /// When its end could be told in two ways.
    pub fn open(
        head: &http::response::Parts,
        (inner, under_way): (Source, UnderWay),
        idle_timeout: Option<Duration>,
    ) -> Result<Self, Refusal> {
        // Over HTTP/1.1 its framing was judged when it was read.
        if matches!(inner, Source::Http2(_)) && !is_framed_once(&head.headers) {
            return Err(Refusal::UpstreamFailed);
        }
        Ok(Self {
            inner,
            _under_way: under_way,
            silence: idle_timeout.map(Silence::new),
        })
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
            Source::Http2(reading) => reading.poll_frame(cx).map_err(BodyError::Broken),
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
            Source::Http2(reading) => reading.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Source::Http1(reading) => reading.size_hint(),
            Source::Http2(reading) => reading.size_hint(),
        }
    }
}

/// Whether the answer's end can be told in one way only (RFC 9112 §6.3): otherwise the next answer on that
/// connection might be somebody else's.
fn is_framed_once(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (lengths.next(), codings.next()) {
        (None, None) => true,
        (Some(length), None) => {
            lengths.next().is_none() && length.as_bytes().iter().all(u8::is_ascii_digit)
        }
        (None, Some(coding)) => {
            codings.next().is_none() && coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        }
        (Some(_), Some(_)) => false,
    }
}

/// Reads the rest of a body that nobody waits for, so that the upstream can finish its work.
pub async fn drain(mut body: Body) {
    while let Some(Ok(_)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::mpsc;

    use super::*;

    struct Fed(mpsc::Receiver<Bytes>);

    impl HttpBody for Fed {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            self.0
                .poll_recv(cx)
                .map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    /// Seconds until an upload fails of which `bytes` come every `seconds`, with a minute's patience; `None`: it
    /// does not, in a day.
    async fn fails_after(rate: u64, bytes: usize, seconds: u64) -> Option<u64> {
        let (feed, fed) = mpsc::channel(1);
        let limits = UploadLimits {
            size: u64::MAX,
            timeout: Duration::from_secs(60),
            rate,
        };
        let state = Rc::new(UploadState::default());
        let mut upload = Upload::new(Body::stream(Fed(fed)), limits, Rc::clone(&state));
        let feeding = async {
            loop {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                let _ = feed.send(Bytes::from(vec![b'a'; bytes])).await;
            }
        };
        let start = Instant::now();
        let failing = async {
            let mut upload = Pin::new(&mut upload);
            while let Some(Ok(_)) = poll_fn(|cx| upload.as_mut().poll_frame(cx)).await {}
            start.elapsed().as_secs()
        };
        let day = tokio::time::sleep(Duration::from_secs(24 * 3600));
        let failed = tokio::select! {
            failed = failing => Some(failed),
            () = feeding => unreachable!("feeding never ends"),
            () = day => None,
        };
        assert_eq!(state.fault(), failed.map(|_| BodyFault::TimedOut));
        failed
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_slow_and_may_pause_but_not_do_both_for_ever() {
        for (rate, bytes, seconds, failed) in [
            // Slow and steady; and in bursts, with pauses in which nothing comes.
            (100, 1000, 1, None),
            (100, 6000, 59, None),
            (100, 101, 1, None),
            // Silence; a byte now and then; nothing, now and then.
            (100, 1, 3600, Some(60)),
            (100, 1, 50, Some(60)),
            (100, 10, 1, Some(66)),
            (100, 0, 1, Some(60)),
            // Without a rate, only silence ends it.
            (0, 1, 59, None),
            (0, 1, 61, Some(60)),
        ] {
            let row = (rate, bytes, seconds);
            assert_eq!(fails_after(rate, bytes, seconds).await, failed, "{row:?}");
        }
    }
}
