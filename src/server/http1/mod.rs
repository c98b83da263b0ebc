//! HTTP/1.1 towards clients (RFC 9112), on the socket itself: one task for a connection, and no buffer while it
//! waits. `request.rs` reads heads, `answer.rs` sends answers; the connection itself is a `Link`, which lends
//! itself to the body of its present request. hyper serves HTTP/2.

mod answer;
mod date;
mod request;

#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Response, StatusCode, Version};

use crate::body::Body;
use crate::gate::Conn;
use crate::http1::link::{Link, Rest};
use crate::refusal::Refusal;
use crate::server::Worker;
use crate::server::http1::answer::{Answer, Sent};
use crate::server::http1::request::{After, Asked, Limits, Manner, Reader, Takes, Wish};
use crate::wire::vitals::{Verdict, Vitals};

/// A connection that speaks HTTP/1.1.
pub struct Session {
    /// Whose it is.
    pub worker: Rc<Worker>,
    /// The connection, as its requests see it.
    pub conn: Conn,
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

impl Session {
    /// Serves it to its end, one request after the other.
    pub async fn serve(self) {
        let _open = Open(&self.link);
        if let Err(End::Goodbye) = self.run().await {
            let goodbye = poll_fn(|cx| self.link.poll_goodbye(cx));
            // Who does not close within it gets a reset.
            let _ = Box::pin(tokio::time::timeout(LINGER, goodbye)).await;
        }
    }

    async fn run(&self) -> Result<(), End> {
        loop {
            let mut reader = Reader::within(self.limits());
            let asked = poll_fn(|cx| poll_request(cx, &self.link, &self.vitals, &mut reader)).await;
            match asked {
                Some(Ok(asked)) => self.exchange(asked).await?,
                Some(Err(refusal)) => return Err(self.refuse(refusal).await),
                None => return Err(End::Silent),
            }
        }
    }

    fn limits(&self) -> Limits {
        let gate = self.worker.gate();
        Limits {
            bytes: gate.server().max_header_bytes,
            fields: gate.server().max_headers,
        }
    }

    /// One request and its answer.
    async fn exchange(&self, asked: Asked) -> Result<(), End> {
        let Asked {
            head,
            framing,
            interim,
            manner,
        } = asked;
        let request = head.map(|()| self.link.open(framing, interim));
        let busy = self.vitals.begin();
        let gate = self.worker.gate();
        // Boxed: it is large, and an answer may last for hours after it.
        let mut handling = Box::pin(async move { gate.handle(&self.conn, request, busy).await });
        let response = poll_fn(|cx| {
            if let Poll::Ready(response) = handling.as_mut().poll(cx) {
                return Poll::Ready(Some(response));
            }
            // Interim answers that came of it.
            match self.link.poll_send(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(None),
                _ => self.link.poll_left(cx).map(|()| None),
            }
        });
        let response = response.await.ok_or(End::Silent)?;
        drop(handling);
        self.answer(response, manner).await
    }

    /// Sends an answer, and says whether another request may follow.
    async fn answer(&self, response: Response<Body>, mut manner: Manner) -> Result<(), End> {
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if self.vitals.verdict() != Verdict::Live || self.link.is_body_unwanted() {
            manner.after = After::Close;
        }
        // What stands behind a refused switch may be no HTTP (CVE-2026-2833).
        if manner.wish == Wish::Switch && !switches && self.has_more() {
            manner.after = After::Close;
        }
        let (mut answer, after) = self.begin(response, manner);
        let sent = poll_fn(|cx| match answer.poll(cx, &self.link) {
            Poll::Ready(sent) => Poll::Ready(sent),
            Poll::Pending => self.link.poll_left(cx).map(|()| Sent::Broken),
        });
        let sent = sent.await;
        drop(answer);
        match sent {
            Sent::Whole => {}
            Sent::Broken => return Err(End::Silent),
            Sent::Unseen => {
                self.link.reset();
                return Err(End::Silent);
            }
        }
        if switches {
            self.link.hand_over();
            return Err(End::Silent);
        }
        match after {
            After::Keep => {}
            After::Close => return Err(End::Goodbye),
        }
        match poll_fn(|cx| self.link.poll_rest(cx)).await {
            Rest::Nothing => Ok(()),
            Rest::Unknown => Err(End::Goodbye),
        }
    }

    fn begin(&self, response: Response<Body>, manner: Manner) -> (Answer, After) {
        let clock = &self.worker.station.resources.clock;
        Answer::begin(response, manner, &self.link, |out| {
            date::write(out, clock.now());
        })
    }

    /// Whether the client has said something behind its request.
    fn has_more(&self) -> bool {
        self.link.with_read(|read| !read.is_empty())
    }

    /// Answers a head that cannot be read. Where the next one begins is not certain either.
    async fn refuse(&self, refusal: Refusal) -> End {
        let busy = self.vitals.begin();
        let response = self.worker.gate().misread(&self.conn, refusal, busy);
        let manner = Manner {
            version: Version::HTTP_11,
            after: After::Close,
            takes: Takes::Body,
            wish: Wish::Stay,
        };
        match self.answer(response, manner).await {
            Err(end) => end,
            Ok(()) => End::Goodbye,
        }
    }
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

/// How long a client has to take the last answer and to close.
const LINGER: Duration = Duration::from_secs(2);
