//! Waits with an answer until its jobs are kept, head and all: where nothing may pass that is not kept
//! (`on_failure = "closed"`), its client sees a status and not half an answer.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BodyError};

/// The answer whose body is listened to, when it is whole and its jobs are kept. One of more than `most` bytes is not heard:
/// it goes on as it comes.
///
/// # Errors
/// `Ended` when a job was not kept; else what the body broke off with.
pub async fn until_kept(mut body: Body, most: usize) -> Result<Body, BodyError> {
    let mut held = VecDeque::new();
    let mut size = 0;
    while size <= most {
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let Some(frame) = frame.transpose()? else {
            body = Body::Empty;
            break;
        };
        size += frame.data_ref().map_or(0, Bytes::len);
        held.push_back(frame);
    }
    Ok(Body::stream(Held { held, rest: body }))
}

/// What was waited for, and what comes behind it.
struct Held {
    held: VecDeque<Frame<Bytes>>,
    rest: Body,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this.held.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut this.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held.iter().filter_map(Frame::data_ref);
        let held: u64 = held.map(|data| data.len() as u64).sum();
        let rest = self.rest.size_hint();
        let mut size = SizeHint::new();
        size.set_lower(held + rest.lower());
        if let Some(upper) = rest.upper() {
            size.set_upper(held + upper);
        }
        size
    }
}
