//! Listens to an event stream in passing: the end of an event that tells of a job waits until the job is kept.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BodyError};
use crate::config::CaptureFrom;
use crate::forward::sse;
use crate::forward::sse::enrich;
use crate::forward::sse::splitter::Splitter;
use crate::jobs::keeper::Outcome;
use crate::jobs::watch::{Heard, NotKept, Watch};

/// `body` with a listener, where its events can be followed.
pub fn listen(body: Body, watch: Watch, headers: &HeaderMap) -> Body {
    if sse::is_encoded(headers) {
        watch.report(Outcome::Unreadable);
        return body;
    }
    Body::stream(EventTap {
        inner: body,
        ears: Ears {
            most: watch.max_size(CaptureFrom::Sse),
            splitter: Splitter::default(),
            event: Vec::new(),
            too_long: false,
        },
        watch,
        keeping: None,
    })
}

struct EventTap {
    inner: Body,
    ears: Ears,
    watch: Watch,
    /// What is being kept, and the chunk that waits for it.
    keeping: Option<(Keeping, Bytes)>,
}

type Keeping = Pin<Box<dyn Future<Output = Result<(), NotKept>>>>;

/// Follows the events.
struct Ears {
    splitter: Splitter,
    most: usize,
    /// The beginning of an event that has not ended.
    event: Vec<u8>,
    too_long: bool,
}

impl Ears {
    /// What the events tell that end in `chunk`.
    fn hear(&mut self, chunk: &[u8], watch: &Watch) -> Vec<Heard> {
        let mut heard = Vec::new();
        let mut at = 0;
        while let Some(length) = self.splitter.advance(&chunk[at..]) {
            let whole = self.join(&chunk[at..at + length]);
            at += length;
            match (whole, self.too_long) {
                (_, true) => watch.report(Outcome::TooLarge),
                (Some(event), false) => heard.extend(told(&event, watch)),
                (None, false) => heard.extend(told(&chunk[at - length..at], watch)),
            }
            self.too_long = false;
        }
        self.hold(&chunk[at..]);
        heard
    }

    /// An event of which a part was held; `None`: nothing was.
    fn join(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        if self.event.is_empty() {
            self.too_long |= end.len() > self.most;
            return None;
        }
        self.hold(end);
        Some(std::mem::take(&mut self.event))
    }

    fn hold(&mut self, part: &[u8]) {
        if self.too_long {
            return;
        }
        self.too_long = self.event.len() + part.len() > self.most;
        match self.too_long {
            true => self.event = Vec::new(),
            false => self.event.extend_from_slice(part),
        }
    }
}

fn told(event: &[u8], watch: &Watch) -> Vec<Heard> {
    match enrich::data(event) {
        Some(data) => watch.hear_text(CaptureFrom::Sse, &data),
        None => Vec::new(),
    }
}

impl HttpBody for EventTap {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some((keeping, _)) = &mut this.keeping {
            let kept = ready!(keeping.as_mut().poll(cx));
            let chunk = this.keeping.take().map(|(_, chunk)| chunk);
            return Poll::Ready(match kept {
                Ok(()) => chunk.map(|chunk| Ok(Frame::data(chunk))),
                Err(NotKept) => {
                    this.inner = Body::Empty;
                    Some(Err(BodyError::Ended))
                }
            });
        }
        let frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other),
        };
        let Some(chunk) = frame.data_ref() else {
            return Poll::Ready(Some(Ok(frame)));
        };
        let heard = this.ears.hear(chunk, &this.watch);
        if heard.is_empty() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let (chunk, watch) = (chunk.clone(), this.watch.clone());
        let keeping: Keeping = Box::pin(async move { watch.keep(heard).await });
        this.keeping = Some((keeping, chunk));
        Pin::new(this).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.keeping.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.size_hint();
        let waits = self.keeping.as_ref();
        let waits = waits.map_or(0, |(_, chunk)| chunk.len() as u64);
        let mut size = SizeHint::new();
        size.set_lower(inner.lower() + waits);
        if let Some(upper) = inner.upper() {
            size.set_upper(upper + waits);
        }
        size
    }
}
