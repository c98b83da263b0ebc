//! Listens to a JSON answer in passing. Its bytes go on as they come, but for the last one, which waits until the jobs in
//! the answer are kept: a client that has read the answer may ask for its job at once, on any replica. An answer that is larger
//! than the bound passes unheard.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::coding;
use super::keeper::Outcome;
use super::watch::{NotKept, Watch};
use crate::body::{Body, BodyError};
use crate::config::CaptureFrom;

/// A body that is listened to.
pub struct Tap {
    inner: Body,
    watch: Watch,
    codings: HeaderMap,
    most: usize,
    seen: Vec<u8>,
    /// The last byte that came.
    held: Option<Bytes>,
    trailers: Option<HeaderMap>,
    phase: Phase,
}

enum Phase {
    Listening,
    Keeping(Pin<Box<dyn Future<Output = Result<(), NotKept>>>>),
    /// Everything is heard: what was held may go.
    Heard,
    /// Too large: the rest passes.
    Passing,
    Over,
}

impl Tap {
    /// Listens to `inner`, whose head is `headers`.
    pub fn new(inner: Body, watch: Watch, headers: &HeaderMap) -> Self {
        let mut codings = HeaderMap::new();
        for value in headers.get_all(http::header::CONTENT_ENCODING) {
            codings.append(http::header::CONTENT_ENCODING, value.clone());
        }
        Self {
            most: watch.max_size(CaptureFrom::Json),
            inner,
            watch,
            codings,
            seen: Vec::new(),
            held: None,
            trailers: None,
            phase: Phase::Listening,
        }
    }

    /// What may go of a chunk, and what was held before it.
    fn take_in(&mut self, chunk: Bytes) -> Bytes {
        if self.seen.len() + chunk.len() > self.most {
            self.watch.report(Outcome::TooLarge);
            self.phase = Phase::Passing;
            self.seen = Vec::new();
            return join(self.held.take(), chunk);
        }
        self.seen.extend_from_slice(&chunk);
        let before = self.held.take();
        let mut chunk = chunk;
        self.held = Some(chunk.split_off(chunk.len() - 1));
        join(before, chunk)
    }

    /// The answer is whole.
    fn listen(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        let heard = match coding::decode(&self.codings, seen, self.most) {
            Ok(text) => self.watch.hear_text(CaptureFrom::Json, &text),
            Err(unreadable) => {
                self.watch.report(unreadable.into());
                Vec::new()
            }
        };
        self.phase = match heard.is_empty() {
            true => Phase::Heard,
            false => {
                let watch = self.watch.clone();
                Phase::Keeping(Box::pin(async move { watch.keep(heard).await }))
            }
        };
    }

    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }
}

fn join(before: Option<Bytes>, chunk: Bytes) -> Bytes {
    let Some(before) = before else {
        return chunk;
    };
    if chunk.is_empty() {
        return before;
    }
    let mut joined = BytesMut::with_capacity(before.len() + chunk.len());
    joined.extend_from_slice(&before);
    joined.extend_from_slice(&chunk);
    joined.freeze()
}

impl HttpBody for Tap {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            match &mut this.phase {
                Phase::Listening => match std::task::ready!(this.poll_inner(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(chunk) if chunk.is_empty() => {}
                        Ok(chunk) => {
                            let out = this.take_in(chunk);
                            if !out.is_empty() {
                                return Poll::Ready(Some(Ok(Frame::data(out))));
                            }
                        }
                        Err(frame) => {
                            this.trailers = frame.into_trailers().ok();
                            this.listen();
                        }
                    },
                    None => this.listen(),
                    // Who cannot tell that it was cut must not have the whole of it either.
                    Some(Err(error)) => {
                        this.watch.report(Outcome::Cut);
                        this.phase = Phase::Over;
                        this.held = None;
                        return Poll::Ready(Some(Err(error)));
                    }
                },
                Phase::Keeping(keeping) => match std::task::ready!(keeping.as_mut().poll(cx)) {
                    Ok(()) => this.phase = Phase::Heard,
                    Err(NotKept) => {
                        this.phase = Phase::Over;
                        this.held = None;
                        return Poll::Ready(Some(Err(BodyError::Ended)));
                    }
                },
                Phase::Heard => {
                    if let Some(held) = this.held.take() {
                        return Poll::Ready(Some(Ok(Frame::data(held))));
                    }
                    this.phase = Phase::Over;
                    if let Some(trailers) = this.trailers.take() {
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                }
                Phase::Passing => return this.poll_inner(cx),
                Phase::Over => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.phase {
            Phase::Listening | Phase::Keeping(_) => false,
            Phase::Heard => self.held.is_none() && self.trailers.is_none(),
            Phase::Passing => self.inner.is_end_stream(),
            Phase::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.size_hint();
        let held = self.held.as_ref().map_or(0, |held| held.len() as u64);
        let mut size = SizeHint::new();
        size.set_lower(inner.lower() + held);
        if let Some(upper) = inner.upper() {
            size.set_upper(upper + held);
        }
        size
    }
}

#[cfg(test)]
mod tests;
