//! Which answers are listened to for jobs, and in which way: bodies of answers and event streams here, WebSockets where they
//! switch. What listens is `jobs/`'s.

use http::header::{ACCEPT_ENCODING, SEC_WEBSOCKET_EXTENSIONS};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Body as HttpBody;

use super::http::{Carried, is_stream};
use super::sse;
use crate::body::{Body, BodyError};
use crate::config::CaptureFrom;
use crate::jobs;
use crate::jobs::tap::Tap;
use crate::jobs::watch::Watch;
use crate::refusal::Refusal;

/// Asks for no coding of what has to be followed as it comes.
pub(super) fn make_audible(headers: &mut HeaderMap, watch: &Watch) {
    if watch.listens_to(CaptureFrom::Sse) && headers.contains_key(ACCEPT_ENCODING) {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    if watch.listens_to(CaptureFrom::Websocket) {
        headers.remove(SEC_WEBSOCKET_EXTENSIONS);
    }
}

/// The body of an answer with a listener, where there may be something to hear: any 2xx.
pub(super) fn listen(body: Body, watch: Watch, head: &Parts) -> Body {
    if !head.status.is_success() || body.is_end_stream() {
        return body;
    }
    if is_stream(head) {
        return match watch.listens_to(CaptureFrom::Sse) {
            true => sse::tap::listen(body, watch, &head.headers),
            false => body,
        };
    }
    match watch.listens_to(CaptureFrom::Json) && jobs::may_be_json(&head.headers) {
        true => Body::stream(Tap::new(body, watch, &head.headers)),
        false => body,
    }
}

/// How much of an answer with this head is waited with until its jobs are kept; `None`: none.
pub(super) fn held_back(watch: &Watch, head: &Parts) -> Option<usize> {
    let heard = head.status.is_success()
        && !is_stream(head)
        && watch.listens_to(CaptureFrom::Json)
        && jobs::may_be_json(&head.headers);
    (heard && watch.is_closed(CaptureFrom::Json)).then(|| watch.max_size(CaptureFrom::Json))
}

/// The answer, when what is heard in it is kept: nothing of it passes before.
pub(super) async fn until_kept(carried: Carried, most: usize) -> Result<Carried, Refusal> {
    let Carried::Answer(response) = carried else {
        return Ok(carried);
    };
    let (head, body) = response.into_parts();
    match jobs::hold::until_kept(body, most).await {
        Ok(body) => Ok(Carried::Answer(Response::from_parts(head, body))),
        Err(BodyError::Ended) => Err(Refusal::JobNotKept),
        Err(BodyError::TimedOut) => Err(Refusal::UpstreamTimeout),
        Err(_) => Err(Refusal::UpstreamFailed),
    }
}
