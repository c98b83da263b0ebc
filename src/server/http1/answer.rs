//! An answer on its way out: its head, then its body as it comes, in as few writes as it allows
//! (RFC 9112 §4, §6.3, §7.1).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, Response, StatusCode, Version};
use http_body::{Body as HttpBody, Frame};

use crate::body::Body;
use crate::forward::headers;
use crate::http1::fields::{says, write_line, write_number};
use crate::http1::link::{Link, write_status};
use crate::server::http1::request::{After, Manner, Takes};

/// An answer that is being sent.
pub struct Answer {
    /// `None`: there is none, or it has come to its end.
    body: Option<Body>,
    coding: Coding,
    takes: Takes,
    /// It did not come to its end as it should have.
    broken: bool,
}

/// How the client is told where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// So many bytes are still to come.
    Length(u64),
    /// A last chunk.
    Chunked,
    /// The end of the connection, for clients that know no chunks.
    Close,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of it has left.
    Whole,
    /// It broke off, on either side.
    Broken,
    /// It broke off, and only a reset tells the client so.
    Unseen,
}

impl Answer {
    /// Writes the head; tells what becomes of the connection behind the answer.
    pub fn begin(
        response: Response<Body>,
        manner: Manner,
        link: &Link,
        date: impl FnOnce(&mut Vec<u8>),
    ) -> (Self, After) {
        let (head, body) = response.into_parts();
        let bodiless = manner.takes == Takes::Head || has_no_body(head.status);
        let coding = match bodiless {
            true => Coding::Length(0),
            false => Coding::of(&body, &head.headers, manner.version),
        };
        let closes = manner.after == After::Close
            || coding == Coding::Close
            || says(&head.headers, b"close");
        link.put_head(|out| {
            write_status(out, head.status);
            write_fields(out, &head.headers);
            match coding {
                _ if bodiless => write_stated_length(out, &head, manner),
                Coding::Length(length) => write_length(out, length),
                Coding::Chunked => write_line(out, TRANSFER_ENCODING.as_str(), b"chunked"),
                Coding::Close => {}
            }
            match (closes, manner.version) {
                _ if head.status == StatusCode::SWITCHING_PROTOCOLS => {}
                (true, _) => write_line(out, CONNECTION.as_str(), b"close"),
                (false, Version::HTTP_10) => write_line(out, CONNECTION.as_str(), b"keep-alive"),
                _ => {}
            }
            if !head.headers.contains_key(DATE) {
                date(out);
            }
            out.extend_from_slice(b"\r\n");
        });
        let answer = Self {
            body: (coding != Coding::Length(0)).then_some(body),
            coding,
            takes: manner.takes,
            broken: false,
        };
        let after = match closes {
            true => After::Close,
            false => After::Keep,
        };
        (answer, after)
    }

    /// Sends what can be sent; ready when all of it has left, or no more of it can.
    pub fn poll(&mut self, cx: &mut Context<'_>, link: &Link) -> Poll<Sent> {
        loop {
            let awaited = self.poll_body(cx, link).is_pending();
            if ready!(link.poll_send(cx)).is_err() {
                return Poll::Ready(Sent::Broken);
            }
            match (&self.body, self.broken) {
                (None, true) if self.coding == Coding::Close => return Poll::Ready(Sent::Unseen),
                (None, true) => return Poll::Ready(Sent::Broken),
                (None, false) => return Poll::Ready(Sent::Whole),
                (Some(_), _) if awaited => return Poll::Pending,
                (Some(_), _) => {}
            }
        }
    }

    /// Puts into the outbox what has come of the body; pending when more is to come, and ready when there is
    /// something to be written first.
    fn poll_body(&mut self, cx: &mut Context<'_>, link: &Link) -> Poll<()> {
        while let Some(body) = &mut self.body
            && link.with_outbox(|outbox| outbox.has_room())
        {
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let over = body.is_end_stream();
                    self.put(frame, link);
                    if over && self.body.is_some() {
                        self.end(&HeaderMap::new(), link);
                    }
                }
                Some(Err(_)) => self.break_off(),
                None => self.end(&HeaderMap::new(), link),
            }
        }
        Poll::Ready(())
    }

    fn put(&mut self, frame: Frame<Bytes>, link: &Link) {
        match frame.into_data() {
            Ok(data) => self.put_data(data, link),
            Err(frame) => {
                if let Ok(trailers) = headers::clean_answer_trailers(frame).into_trailers() {
                    self.end(&trailers, link);
                }
            }
        }
    }

    fn put_data(&mut self, data: Bytes, link: &Link) {
        match &mut self.coding {
            Coding::Chunked => link.with_outbox(|outbox| outbox.put_chunk(data)),
            Coding::Close => link.with_outbox(|outbox| outbox.put(data)),
            Coding::Length(left) => match left.checked_sub(data.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    link.with_outbox(|outbox| outbox.put(data));
                }
                // More than was announced would be read as the next answer.
                None => self.break_off(),
            },
        }
    }

    fn end(&mut self, trailers: &HeaderMap, link: &Link) {
        self.body = None;
        let none = HeaderMap::new();
        match self.coding {
            Coding::Length(0) | Coding::Close => {}
            // Less than was announced: the client must not wait for the rest, nor take another answer for it.
            Coding::Length(_) => self.broken = true,
            Coding::Chunked => link.with_outbox(|outbox| {
                outbox.put_last_chunk(match self.takes {
                    Takes::Trailers => trailers,
                    Takes::Head | Takes::Body => &none,
                });
            }),
        }
    }

    fn break_off(&mut self) {
        self.body = None;
        self.broken = true;
    }
}

impl Coding {
    /// What the body is outweighs what a field says of it.
    fn of(body: &Body, headers: &HeaderMap, version: Version) -> Self {
        let stated = || headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        match (body.size_hint().exact().or_else(stated), version) {
            (Some(length), _) => Self::Length(length),
            (None, Version::HTTP_11) => Self::Chunked,
            (None, _) => Self::Close,
        }
    }
}

/// RFC 9110 §6.4.1.
fn has_no_body(status: StatusCode) -> bool {
    status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

/// The fields, without those that frame the message: they are ours alone.
fn write_fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        if name == CONTENT_LENGTH || name == TRANSFER_ENCODING {
            continue;
        }
        // `close` is said once, below.
        if name == CONNECTION && value.as_bytes().eq_ignore_ascii_case(b"close") {
            continue;
        }
        write_line(out, name.as_str(), value.as_bytes());
    }
}

/// What the answer to GET would have: allowed in the answer to HEAD and in 304, and in no other without a body
/// (RFC 9110 §8.6).
fn write_stated_length(out: &mut Vec<u8>, head: &http::response::Parts, manner: Manner) {
    let may = match head.status {
        StatusCode::NO_CONTENT => false,
        StatusCode::NOT_MODIFIED => true,
        status => manner.takes == Takes::Head && !status.is_informational(),
    };
    if may && let Some(length) = head.headers.get(CONTENT_LENGTH) {
        write_line(out, CONTENT_LENGTH.as_str(), length.as_bytes());
    }
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    write_number(out, length);
    out.extend_from_slice(b"\r\n");
}
