//! Heads as bytes: a request's written, an answer's read (RFC 9112 §2-5).

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version};

use crate::body::Body;
use crate::forward::http1::Fault;

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

/// Writes a request's head. Names and values of the `http` crate hold no line ends, so that nothing in them
/// can end a line; the framing fields are ours alone.
pub fn write(out: &mut Vec<u8>, request: &Request<Body>, announced: Announced) {
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
        line(out, name.as_str(), value.as_bytes());
    }
    match announced {
        Announced::Chunked => line(out, "transfer-encoding", b"chunked"),
        Announced::Length(length) => line(out, "content-length", length.to_string().as_bytes()),
        // RFC 9110 §8.6: where a body would have a meaning, its absence is said.
        Announced::Nothing if expects_body(request.method()) => line(out, "content-length", b"0"),
        Announced::Nothing => {}
    }
    out.extend_from_slice(b"\r\n");
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn expects_body(method: &Method) -> bool {
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

/// The fields as a map whose values are views of `bytes`.
pub fn fields_of(fields: &[httparse::Header<'_>], bytes: &Bytes) -> Result<HeaderMap, Fault> {
    let mut headers = HeaderMap::with_capacity(fields.len() + SPARE_FIELDS);
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let name = name.map_err(|_| httparse::Error::HeaderName)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
        headers.append(name, value.map_err(|_| httparse::Error::HeaderValue)?);
    }
    Ok(headers)
}

impl AnswerHead {
    /// Whether the connection outlives the answer (RFC 9112 §9.3).
    pub fn keeps_alive(&self) -> bool {
        let says = |option: &[u8]| {
            let lines = self.headers.get_all(CONNECTION).iter();
            let mut options = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
            options.any(|said| said.trim_ascii().eq_ignore_ascii_case(option))
        };
        match self.version {
            Version::HTTP_11 => !says(b"close"),
            _ => says(b"keep-alive") && !says(b"close"),
        }
    }
}

/// More fields than this in an answer are an error.
const MOST_FIELDS: usize = 128;
/// Room for what is added on the way to the client.
const SPARE_FIELDS: usize = 8;
