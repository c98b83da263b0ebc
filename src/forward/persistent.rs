//! What goes on when the client has left (`on_disconnect = "finish"`): the fetch, and then the answer's body, to its end.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::http::is_stream;
use crate::body::{Body, BodyError};
use crate::forward::fetch::{Fetch, Fetched, Rest};
use crate::forward::relay::{Relay, drain};
use crate::refusal::Refusal;

/// Runs the fetch as a task of its own: it goes on when the client leaves, and the answer is then read to its
/// end, so that the upstream's work is not cut off.
pub(super) async fn finish(
    fetch: Fetch<'static>,
    request: Request<Body>,
    mut hear: impl FnMut(StatusCode, HeaderMap) + 'static,
) -> Result<Fetched, Refusal> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let idle = fetch.upstream.config.idle_timeout;
    tokio::task::spawn_local(async move {
        if let Err(Ok(unheard)) = tell.send(fetch.run(request, &mut hear).await)
            && let Rest::Body(source) = unheard.rest
            && let idle = (!is_stream(&unheard.head)).then_some(idle)
            && let Ok(relay) = Relay::open(&unheard.head, (source, unheard.under_way), idle)
        {
            drain(relay.into_body()).await;
        }
    });
    told.await.unwrap_or(Err(Refusal::Internal))
}

/// A body that is read to its end even when nobody wants it any more.
pub(super) struct Persistent(Option<Body>);

impl Persistent {
    pub(super) fn new(body: Body) -> Self {
        Self(Some(body))
    }
}

impl HttpBody for Persistent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.0 else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            this.0 = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or(SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Persistent {
    fn drop(&mut self) {
        if let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) {
            tokio::task::spawn_local(drain(body));
        }
    }
}
