//! Heads as bytes: a request's written, an answer's read (RFC 9112 §2-5).

use std::mem::MaybeUninit;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, StatusCode, Version};

use crate::body::Body;
use crate::http1::Fault;
use crate::http1::channel::Channel;
use crate::http1::fields::{self, fields_of, write_line, write_number};
use crate::http1::framing::Framing;

/// How the length of a request's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// There is none.
    Nothing,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// An answer's head.
#[derive(Debug)]
pub struct AnswerHead {
    /// Its status; 100-199 but for 101 never comes out.
    pub status: StatusCode,
    /// Its fields, each value a view of the bytes that were read.
    pub headers: HeaderMap,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
}

/// Writes a request's head, where `more` writes the lines behind its fields. Names and values of the `http` crate hold no line ends, so that nothing in them
/// can end a line; the framing fields are ours alone.
pub fn write(
    out: &mut Vec<u8>,
    request: &Request<Body>,
    (announced, more): (Announced, impl FnOnce(&mut Vec<u8>)),
) {
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str());
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in request.headers() {
        if name == CONTENT_LENGTH || name == TRANSFER_ENCODING {
            continue;
        }
        write_line(out, name.as_str(), value.as_bytes());
    }
    more(out);
    match announced {
        Announced::Chunked => write_line(out, "transfer-encoding", b"chunked"),
        Announced::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            write_number(out, length);
            out.extend_from_slice(b"\r\n");
        }
        // RFC 9110 §8.6: where a body would have a meaning, its absence is said.
        Announced::Nothing if expects_body(request.method()) => {
            write_line(out, "content-length", b"0");
        }
        Announced::Nothing => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a body would have a meaning there.
pub fn expects_body(method: &Method) -> bool {
    *method == Method::POST || *method == Method::PUT || *method == Method::PATCH
}

/// Reads the first head in `bytes`: `None` while it is not whole, else the head and its length.
///
/// # Errors
/// When it is not HTTP/1.0 or 1.1. A line folded, a space before a colon, a bare CR or NUL are errors too.
pub fn read(bytes: &Bytes) -> Result<Option<(AnswerHead, usize)>, Fault> {
    // Not initialized: 128 empty fields are 4 KiB to be written for each answer.
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let status = parser.parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields)?;
    let httparse::Status::Complete(length) = status else {
        return Ok(None);
    };
    let version = match parsed.version {
        Some(1) => Version::HTTP_11,
        _ => Version::HTTP_10,
    };
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default());
    let status = status.map_err(|_| httparse::Error::Status)?;
    let headers = fields_of(parsed.headers, bytes)?;
    Ok(Some((
        AnswerHead {
            status,
            headers,
            version,
        },
        length,
    )))
}

impl AnswerHead {
    /// Whether the connection outlives the answer.
    pub fn keeps_alive(&self) -> bool {
        fields::keeps_alive(self.version, &self.headers)
    }

    /// How the body is framed that answers `method`.
    ///
    /// # Errors
    /// When that can be told in two ways.
    pub fn framing(&self, method: &Method) -> Result<Framing, Fault> {
        let stated = Framing::stated(self.version, &self.headers)?;
        let bodiless = *method == Method::HEAD
            || self.status.is_informational()
            || self.status == StatusCode::NO_CONTENT
            || self.status == StatusCode::NOT_MODIFIED;
        Ok(match bodiless {
            true => Framing::Length(0),
            false => stated.unwrap_or(Framing::Close),
        })
    }

    /// Whether another head follows it (RFC 9110 §15.2).
    fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// Reads the head of the final answer; `hear` is given the interim ones.
///
/// # Errors
/// When it is no HTTP/1 answer, is too large, or the connection ends before it does.
pub fn poll_head(
    cx: &mut Context<'_>,
    channel: &mut Channel,
    hear: &mut dyn FnMut(StatusCode, HeaderMap),
) -> Poll<Result<AnswerHead, Fault>> {
    loop {
        while !channel.read.is_empty() {
            let Some((head, length)) = read(&channel.read)? else {
                break;
            };
            if length > LARGEST_HEAD {
                return Poll::Ready(Err(Fault::HeadTooLarge));
            }
            channel.read = channel.read.slice(length..);
            match head.is_interim() {
                true => hear(head.status, head.headers),
                false => return Poll::Ready(Ok(head)),
            }
        }
        if channel.read.len() > LARGEST_HEAD {
            return Poll::Ready(Err(Fault::HeadTooLarge));
        }
        ready!(channel.poll_more(cx))?;
    }
}

/// More fields than this in an answer are an error.
const MOST_FIELDS: usize = 128;
/// The head of an answer; an upstream that sends more is not answering.
const LARGEST_HEAD: usize = 64 * 1024;
