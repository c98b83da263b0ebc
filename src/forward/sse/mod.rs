//! The carrier of server-sent events. Pure: `splitter.rs` finds where events end, `framer.rs` tells what
//! may be sent, `enrich.rs` puts the caller's fields into their JSON, `event.rs` writes events of our own.
//! `tap.rs` listens for jobs;
//! `body.rs` is the stream itself, `encoded.rs` the one whose events nobody can follow.

pub mod body;
pub mod encoded;
pub mod enrich;
pub mod event;
pub mod framer;
pub mod splitter;
pub mod tap;

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use crate::body::Body;
use crate::config;
use crate::forward::expiring::Expiring;
use crate::forward::sse::body::EventStream;
use crate::forward::sse::encoded::EncodedStream;
use crate::refusal::{Language, Refusal};
use crate::streams::{Membership, Outcome};

/// What a route says of its event streams; built once per gate and shared by its streams.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `[route.sse]`.
    pub sse: config::Sse,
    /// The upstream's `stream_idle_timeout`; `None`: no limit.
    pub idle_timeout: Option<Duration>,
    /// The language of our own events.
    pub language: Language,
    /// The warning before the end.
    pub expiring: Expiring,
}

/// Whether a response with this head is an event stream.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    let essence = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.as_bytes().split(|&b| b == b';').next());
    essence.is_some_and(|essence| {
        essence
            .trim_ascii()
            .eq_ignore_ascii_case(b"text/event-stream")
    })
}

/// Carries an event stream: mends the head and binds the body to its membership. `over` hears once how
/// the stream came to its end.
///
/// A stream with a `Content-Encoding` passes untouched: nobody can follow its events, so it has neither
/// heartbeats nor enrichment, and when it must end it is cut.
pub fn carry(
    response: Response<Body>,
    membership: Membership,
    settings: std::sync::Arc<Settings>,
    over: impl FnOnce(Outcome) + 'static,
) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    head.headers.insert(ACCEL_BUFFERING, NO);
    if is_encoded(&head.headers) {
        let body = EncodedStream::new(body, membership, over);
        return Response::from_parts(head, Body::stream(body));
    }
    // Our own events come on top of what the upstream counted.
    head.headers.remove(CONTENT_LENGTH);
    if !head.headers.contains_key(CACHE_CONTROL) {
        head.headers.insert(CACHE_CONTROL, NO_CACHE);
    }
    let body = EventStream::new(body, membership, settings, over);
    Response::from_parts(head, Body::stream(body))
}

/// Answers a refused event stream in the one form that an `EventSource` can read: 200 and one
/// `auth_error` event with `body`, the refusal's JSON; a long `retry` keeps it from asking again soon.
pub fn auth_error_response(refusal: Refusal, body: &[u8], retry: Duration) -> Response<Body> {
    let mut event = event::retry(retry);
    event::write(&mut event, "auth_error", body);
    refused_response(refusal, event)
}

/// Has an `EventSource` ask again after `retry`. After any status but 200 it would give up for good; after a stream
/// that ends it comes again. There is nothing in this one, not even a comment, which some clients take for an error.
pub fn come_again_response(refusal: Refusal, retry: Duration) -> Response<Body> {
    let mut event = event::retry(retry);
    event.push(b'\n');
    refused_response(refusal, event)
}

/// The answer to a refused event stream that is itself one.
fn refused_response(refusal: Refusal, event: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from(event)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEL_BUFFERING, NO);
    // The access line and the metrics count the refusal, not the 200.
    response.extensions_mut().insert(refusal);
    response
}

/// Whether the bytes are not the events themselves.
fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Tells nginx and its kin, where one stands before us, not to buffer.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const NO: HeaderValue = HeaderValue::from_static("no");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

#[cfg(test)]
mod tests;
