//! HTTP/1.1 towards clients (RFC 9112), on the socket itself: one task for a connection, and no buffer while it
//! waits. `request.rs` reads heads, `answer.rs` sends answers; the connection itself is a `Link`, which lends
//! itself to the body of its present request. `http2/` serves HTTP/2.

mod answer;
pub mod request;

#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::DATE;
use http::{Response, StatusCode, Version};

use crate::body::Body;
use crate::downstream::Downstream;
use crate::gate::Conn;
use crate::http1::fields::write_line;
use crate::http1::link::{Link, Rest};
use crate::refusal::Refusal;
use crate::server::Worker;
use crate::server::clerks::{Handled, Order};
use crate::server::date;
use crate::server::http1::answer::{Answer, Sent};
use crate::server::http1::request::{After, Asked, Limits, Manner, Reader, Takes, Wish};
use crate::wire::turns;
use crate::wire::vitals::{Verdict, Vitals};

/// A connection that speaks HTTP/1.1.
pub struct Session {
    /// Whose it is.
    pub worker: Rc<Worker>,
    /// The connection, as its requests see it.
    pub conn: Rc<Conn>,
    /// The connection itself.
    pub link: Rc<Link>,
    /// Its signs of life.
    pub vitals: Rc<Vitals>,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing is to be said or heard any more.
    Silent,
    /// It is closed; the client may still be sending what nobody reads.
    Goodbye,
}

/// A request that is being handled.
struct Handling {
    response: Handled,
    manner: Manner,
}

impl Session {
    /// Serves it to its end, one request after the other.
    pub async fn serve(&self) {
        let _open = Open(&self.link);
        if let Err(End::Goodbye) = self.run().await {
            let goodbye = poll_fn(|cx| self.link.poll_goodbye(cx));
            // Who does not close within it gets a reset.
            let _ = Box::pin(tokio::time::timeout(LINGER, goodbye)).await;
        }
    }

    /// What is large in an exchange (its head, its answer's head) is passed through functions that do not wait,
    /// so that the task does not keep room for it.
    async fn run(&self) -> Result<(), End> {
        loop {
            let mut reader = Reader::within(self.limits());
            let asked = poll_fn(|cx| poll_request(cx, &self.link, &self.vitals, &mut reader)).await;
            let asked = asked.ok_or(End::Silent)?.map(|asked| self.handle(asked));
            let Opened { mut answer, next } = match asked {
                Ok(mut handling) => {
                    let response = poll_fn(|cx| self.poll_response(cx, &mut handling)).await;
                    self.open(response.ok_or(End::Silent)?, handling.manner)
                }
                Err(refusal) => self.refuse(refusal),
            };
            turns::others_first().await;
            // Lent, not given: the task would keep room for it at both places.
            let sent = self.send(&mut answer).await;
            drop(answer);
            self.follow(sent, next).await?;
        }
    }

    fn limits(&self) -> Limits {
        let gate = self.worker.gate();
        Limits {
            bytes: gate.server().max_header_bytes,
            fields: gate.server().max_headers,
        }
    }

    /// Begins to handle a request.
    fn handle(&self, asked: Asked) -> Handling {
        let Asked {
            head,
            framing,
            interim,
            manner,
        } = asked;
        let request = head.map(|()| self.link.open(framing, interim));
        let order = Order {
            gate: self.worker.gate(),
            conn: Rc::clone(&self.conn),
            request,
            downstream: Downstream::Http1(Rc::clone(&self.link)),
            busy: self.vitals.begin(),
        };
        Handling {
            response: self.worker.clerks.handle(order),
            manner,
        }
    }

    /// The answer's head; `None`: the client has left.
    fn poll_response(
        &self,
        cx: &mut Context<'_>,
        handling: &mut Handling,
    ) -> Poll<Option<Response<Body>>> {
        if let Poll::Ready(response) = Pin::new(&mut handling.response).poll(cx) {
            return Poll::Ready(Some(response));
        }
        // Interim answers that came of it.
        match self.link.poll_send(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(None),
            _ => self.link.poll_left(cx).map(|()| None),
        }
    }

    /// Begins to send an answer.
    fn open(&self, response: Response<Body>, mut manner: Manner) -> Opened {
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if self.vitals.verdict() != Verdict::Live || self.link.is_body_unwanted() {
            manner.after = After::Close;
        }
        // What stands behind a refused switch may be no HTTP (CVE-2026-2833).
        if manner.wish == Wish::Switch && !switches && self.has_more() {
            manner.after = After::Close;
        }
        let clock = &self.worker.station.resources.clock;
        let date = |out: &mut Vec<u8>| {
            write_line(out, DATE.as_str(), date::value(clock.now()).as_bytes());
        };
        let (answer, after) = Answer::begin(response, manner, &self.link, date);
        let next = match (switches, after) {
            (true, _) => Next::Switch,
            (false, After::Keep) => Next::Request,
            (false, After::Close) => Next::Nothing,
        };
        Opened { answer, next }
    }

    /// Sends the rest of an answer.
    fn send(&self, answer: &mut Answer) -> impl Future<Output = Sent> {
        poll_fn(move |cx| match answer.poll(cx, &self.link) {
            Poll::Ready(sent) => Poll::Ready(sent),
            Poll::Pending => self.link.poll_left(cx).map(|()| Sent::Broken),
        })
    }

    /// Tells whether another request may follow.
    async fn follow(&self, sent: Sent, next: Next) -> Result<(), End> {
        match (sent, next) {
            (Sent::Whole, Next::Request) => self.pass_over_rest().await,
            (Sent::Whole, Next::Nothing) => Err(End::Goodbye),
            (Sent::Whole, Next::Switch) => {
                self.link.hand_over();
                Err(End::Silent)
            }
            (Sent::Broken, _) => Err(End::Silent),
            (Sent::Unseen, _) => {
                self.link.reset();
                Err(End::Silent)
            }
        }
    }

    /// Reads what is left of a request's body that nobody wanted, if it is not much and comes soon.
    async fn pass_over_rest(&self) -> Result<(), End> {
        let mut rest = poll_fn(|cx| Poll::Ready(self.link.poll_rest(cx))).await;
        if rest.is_pending() {
            let awaited = poll_fn(|cx| self.link.poll_rest(cx));
            let awaited = Box::pin(tokio::time::timeout(LINGER, awaited)).await;
            rest = Poll::Ready(awaited.unwrap_or(Rest::Unknown));
        }
        match rest {
            Poll::Ready(Rest::Nothing) => Ok(()),
            _ => Err(End::Goodbye),
        }
    }

    /// Whether the client has said something behind its request.
    fn has_more(&self) -> bool {
        self.link.with_read(|read| !read.is_empty())
    }

    /// Answers a head that cannot be read. Where the next one begins is not certain either.
    fn refuse(&self, refusal: Refusal) -> Opened {
        let busy = self.vitals.begin();
        let response = self.worker.gate().misread(&self.conn, refusal, busy);
        let manner = Manner {
            version: Version::HTTP_11,
            after: After::Close,
            takes: Takes::Body,
            wish: Wish::Stay,
        };
        self.open(response, manner)
    }
}

/// An answer that is being sent, and what follows it.
struct Opened {
    answer: Answer,
    next: Next,
}

/// What follows an answer.
#[derive(Clone, Copy)]
enum Next {
    /// Another request.
    Request,
    /// The end of the connection.
    Nothing,
    /// Another protocol.
    Switch,
}

/// The next request; `None` when none comes any more.
fn poll_request(
    cx: &mut Context<'_>,
    link: &Link,
    vitals: &Vitals,
    reader: &mut Reader,
) -> Poll<Option<Result<Asked, Refusal>>> {
    loop {
        let taken = link.with_read(|read| reader.take(read));
        if let Some(told) = taken.transpose() {
            return Poll::Ready(Some(told));
        }
        if link.with_read(|read| !read.is_empty()) {
            vitals.begin_head();
        } else if vitals.verdict() != Verdict::Live {
            return Poll::Ready(None);
        }
        if ready!(link.poll_more(cx)).is_err() {
            return Poll::Ready(None);
        }
    }
}

/// Closes the connection when its task ends, however it does: a body that is read elsewhere may still hold it.
struct Open<'l>(&'l Link);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// How long a client has to send the rest of what nobody wants, and then to take the last answer and to close.
const LINGER: Duration = Duration::from_secs(2);
