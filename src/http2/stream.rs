//! A client's stream, shared by the task that answers it and by whoever has more to say over it than the one
//! answer: interim answers before it, another protocol behind it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tokio::sync::oneshot;

use crate::http2::tunnel::Tunnel;

/// A client's stream.
pub struct Stream(RefCell<State>);

struct State {
    /// `None`: the final answer has begun, or the stream is over.
    reply: Option<SendResponse<Bytes>>,
    /// What the client says behind a CONNECT.
    behind: Option<RecvStream>,
    switch: Option<oneshot::Sender<Tunnel>>,
    /// What is to be said before the final answer. Only the task that answers says it, which looks first whether
    /// the client is still there: h2 would say it over a stream that has been reset, too.
    hints: Vec<Response<()>>,
    unsent: Rc<Unsent>,
    /// The task that answers.
    owner: Option<Waker>,
}

/// How much of hints waits for the client of a connection: nothing else bounds them, since heads have no window.
#[derive(Debug, Default)]
pub struct Unsent(Cell<usize>);

impl Stream {
    /// A stream that was just opened; `behind` is what follows the head of a CONNECT.
    pub fn new(
        reply: SendResponse<Bytes>,
        behind: Option<RecvStream>,
        unsent: Rc<Unsent>,
    ) -> Rc<Self> {
        Rc::new(Self(RefCell::new(State {
            reply: Some(reply),
            behind,
            switch: None,
            hints: Vec::new(),
            unsent,
            owner: None,
        })))
    }

    /// Sends an interim answer (RFC 9110 §15.2), unless the final has begun.
    pub fn inform(&self, status: StatusCode, mut headers: HeaderMap) {
        let state = &mut *self.0.borrow_mut();
        drop_connection_fields(&mut headers);
        if state.reply.is_none() || !state.unsent.take_room(size_of(&headers)) {
            return;
        }
        let mut hint = Response::new(());
        *hint.status_mut() = status;
        *hint.headers_mut() = headers;
        state.hints.push(hint);
        if let Some(owner) = &state.owner {
            owner.wake_by_ref();
        }
    }

    /// Ready when the client has reset the stream or left. Says what there is to say before the final answer.
    pub fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = &mut *self.0.borrow_mut();
        match &state.owner {
            Some(owner) if owner.will_wake(cx.waker()) => {}
            _ => state.owner = Some(cx.waker().clone()),
        }
        let Some(reply) = &mut state.reply else {
            return Poll::Ready(());
        };
        if reply.poll_reset(cx).is_ready() {
            return Poll::Ready(());
        }
        for hint in state.hints.drain(..) {
            let _ = reply.send_informational(hint);
        }
        Poll::Pending
    }

    /// Sends the head of the final answer, which may be all of it; `None`: it cannot be sent, or the client left.
    pub fn answer(&self, head: Response<()>, ends: bool) -> Option<SendStream<Bytes>> {
        let mut reply = self.0.borrow_mut().reply.take()?;
        match reply.send_response(head, ends) {
            Ok(send) => Some(send),
            Err(_) => {
                reply.send_reset(Reason::INTERNAL_ERROR);
                None
            }
        }
    }

    /// Ends the stream without an answer.
    pub fn reset(&self, reason: Reason) {
        if let Some(mut reply) = self.0.borrow_mut().reply.take() {
            reply.send_reset(reason);
        }
    }

    /// Asks for the stream, for when the head of the switch has been sent.
    pub fn claim(&self) -> oneshot::Receiver<Tunnel> {
        let (give, take) = oneshot::channel();
        self.0.borrow_mut().switch = Some(give);
        take
    }

    /// Whether somebody waits for it to speak another protocol.
    pub fn is_claimed(&self) -> bool {
        let state = self.0.borrow();
        let waits = |switch: &oneshot::Sender<Tunnel>| !switch.is_closed();
        state.behind.is_some() && state.switch.as_ref().is_some_and(waits)
    }

    /// Gives the stream to whoever waits for it.
    pub fn hand_over(&self, send: SendStream<Bytes>) {
        let state = &mut *self.0.borrow_mut();
        if let (Some(switch), Some(behind)) = (state.switch.take(), state.behind.take()) {
            let _ = switch.send(Tunnel::new(send, behind));
        }
    }

    /// Nothing more is said over it: who still holds it, holds nothing.
    pub fn close(&self) {
        let state = &mut *self.0.borrow_mut();
        state.reply = None;
        state.behind = None;
        state.switch = None;
        state.hints = Vec::new();
        state.owner = None;
    }
}

impl Unsent {
    /// Whether so much more may wait.
    fn take_room(&self, size: usize) -> bool {
        let waiting = self.0.get() + size;
        let fits = waiting <= MOST_UNSENT;
        if fits {
            self.0.set(waiting);
        }
        fits
    }

    /// All of it has left.
    pub fn clear(&self) {
        self.0.set(0);
    }
}

/// Removes what is of one connection alone, which HTTP/2 has no place for (RFC 9113 §8.2.2).
pub fn drop_connection_fields(headers: &mut HeaderMap) {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE, TE] {
        headers.remove(name);
    }
    let nominations: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
    headers.remove(CONNECTION);
    for nominated in nominations {
        let names = nominated.to_str().unwrap_or_default().split(',');
        for name in names.map(str::trim) {
            headers.remove(name);
        }
    }
}

/// About what a head takes on the wire.
fn size_of(headers: &HeaderMap) -> usize {
    const FRAME: usize = 32;
    let field = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    FRAME + headers.iter().map(field).sum::<usize>()
}

/// Hints that wait for a client that reads none.
const MOST_UNSENT: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_connection_are_dropped_and_no_others() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "x-a, close"),
            ("connection", "x-b"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
            ("x-a", "1"),
            ("x-b", "2"),
            ("x-c", "3"),
            ("link", "</a.css>"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        drop_connection_fields(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["link", "x-c"]);
    }

    #[test]
    fn hints_that_nobody_reads_are_bounded() {
        let unsent = Unsent::default();
        let taken = (0..).take_while(|_| unsent.take_room(1000)).count();
        assert_eq!(taken, 16);
        unsent.clear();
        assert!(unsent.take_room(1000));
        assert!(!unsent.take_room(MOST_UNSENT));
    }
}
