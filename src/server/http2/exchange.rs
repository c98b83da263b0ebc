//! One stream: its request is handled, then its answer sent. When the client resets it or leaves, all of it is
//! dropped at once, and with it the upstream's request.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use h2::Reason;
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body::Body as HttpBody;

use crate::body::Body;
use crate::clock::Clock;
use crate::http2::stream::{Stream, drop_connection_fields};
use crate::server::date;
use crate::server::http2::answer::Answer;
use crate::server::http2::patience::Patience;

/// What a request wants for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// A body.
    Body,
    /// A head alone.
    Head,
    /// Another protocol over its stream.
    Tunnel,
}

impl Asks {
    /// What a request of this method does.
    pub fn of(method: &Method) -> Self {
        match *method {
            Method::HEAD => Self::Head,
            Method::CONNECT => Self::Tunnel,
            _ => Self::Body,
        }
    }
}

/// A stream's task.
pub struct Exchange<H> {
    stream: Rc<Stream>,
    asks: Asks,
    clock: Clock,
    patience: Patience,
    doing: Doing<H>,
}

enum Doing<H> {
    Handling(H),
    Sending(Answer),
}

impl<H: Future<Output = Response<Body>> + Unpin> Exchange<H> {
    /// A stream whose request is about to be handled.
    pub fn new(
        stream: Rc<Stream>,
        asks: Asks,
        handled: H,
        clock: Clock,
        patience: Patience,
    ) -> Self {
        Self {
            stream,
            asks,
            clock,
            patience,
            doing: Doing::Handling(handled),
        }
    }

    /// Begins to answer; `None`: nothing is left to be sent.
    fn open(&self, response: Response<Body>) -> Option<Answer> {
        let (mut head, body) = response.into_parts();
        drop_connection_fields(&mut head.headers);
        if !head.headers.contains_key(DATE) {
            head.headers.insert(DATE, date::value(self.clock.now()));
        }
        head.extensions.clear();
        let status = head.status;
        let mut head = Response::from_parts(head, ());
        match self.asks {
            // Any 2xx tells the client that its tunnel is open (RFC 9110 §9.3.6).
            Asks::Tunnel if status.is_success() && self.stream.is_claimed() => {
                head.headers_mut().remove(CONTENT_LENGTH);
                self.stream.hand_over(self.stream.answer(head, false)?);
                return None;
            }
            Asks::Tunnel if status.is_success() => {
                self.stream.reset(Reason::INTERNAL_ERROR);
                return None;
            }
            _ => {}
        }
        let bodiless = self.asks == Asks::Head || has_no_body(status);
        let ends = bodiless || body.is_end_stream();
        if status == StatusCode::NO_CONTENT {
            head.headers_mut().remove(CONTENT_LENGTH);
        } else if !ends
            && let Some(length) = body.size_hint().exact()
            && !head.headers().contains_key(CONTENT_LENGTH)
        {
            let length = HeaderValue::from(length);
            head.headers_mut().insert(CONTENT_LENGTH, length);
        }
        let send = self.stream.answer(head, ends)?;
        (!ends).then(|| Answer::new(body, send, self.patience))
    }
}

impl<H: Future<Output = Response<Body>> + Unpin> Future for Exchange<H> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            match &mut this.doing {
                Doing::Sending(answer) => return answer.poll(cx),
                Doing::Handling(handled) => {
                    let response = Pin::new(handled).poll(cx);
                    // Says the hints that came of it, too.
                    if this.stream.poll_left(cx).is_ready() {
                        return Poll::Ready(());
                    }
                    let Poll::Ready(response) = response else {
                        return Poll::Pending;
                    };
                    match this.open(response) {
                        Some(answer) => this.doing = Doing::Sending(answer),
                        None => return Poll::Ready(()),
                    }
                }
            }
        }
    }
}

/// Whoever still holds the stream must not keep it open.
impl<H> Drop for Exchange<H> {
    fn drop(&mut self) {
        self.stream.close();
    }
}

/// RFC 9110 §6.4.1.
fn has_no_body(status: StatusCode) -> bool {
    status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}
