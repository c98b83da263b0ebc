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
        ears: Ears::new(watch.max_size(CaptureFrom::Sse)),
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
    fn new(most: usize) -> Self {
        Self {
            most,
            splitter: Splitter::default(),
            event: Vec::new(),
            too_long: false,
        }
    }

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn watch() -> Watch {
        Watch::for_test("from = \"sse\"\nid = \"/id\"\nmax_size = \"40B\"")
    }

    fn heard(pieces: &[&[u8]]) -> Vec<String> {
        let watch = watch();
        let mut ears = Ears::new(watch.max_size(CaptureFrom::Sse));
        let pieces = pieces.iter();
        let heard = pieces.flat_map(|piece| ears.hear(piece, &watch));
        heard.map(|heard| heard.id().to_owned()).collect()
    }

    #[test]
    fn whole_events_are_heard_that_are_not_too_long() {
        for (text, ids) in [
            ("data: {\"id\":1}\n\n", vec!["1"]),
            ("data: {\"id\":1}\n", vec![]),
            ("data: {\"id\":\ndata: 2}\r\n\r\n", vec!["2"]),
            ("event: {\"id\":1}\n\n: {\"id\":1}\n\n", vec![]),
            ("data: [\n\ndata: {\"id\":3}\n\n", vec!["3"]),
            (
                "data: {\"id\":1,\"x\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}\n\ndata: {\"id\":4}\n\n",
                vec!["4"],
            ),
        ] {
            assert_eq!(heard(&[text.as_bytes()]), ids, "{text}");
            let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(heard(&single), ids, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_split_is_heard_alike(
            text in "(data: \\{\"id\":[0-9]\\}(\n|\r\n)|\n|: x\n|data: 1234567890\n){0,12}",
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(heard(&pieces), heard(&[bytes]));
        }
    }
}
