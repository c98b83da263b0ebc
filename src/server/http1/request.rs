//! The head of a request, read strictly (RFC 9112 §2-5): what another reader could take for something else is
//! refused. What a well-formed head may say is for `Head::read` to judge.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{EXPECT, TE};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use httparse::{Header, ParserConfig, Status};

use crate::http1::fields::{self, Present, fields_of};
use crate::http1::framing::Framing;
use crate::http1::link::Interim;
use crate::refusal::Refusal;

/// A request whose head has come.
#[derive(Debug)]
pub struct Asked {
    /// Its head.
    pub head: Request<()>,
    /// How its body is framed.
    pub framing: Framing,
    /// What the client may be told before the answer.
    pub interim: Interim,
    /// How it wants to be answered.
    pub manner: Manner,
}

/// How a client wants to be answered.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// What it speaks.
    pub version: Version,
    /// What becomes of the connection.
    pub after: After,
    /// Which parts of the answer it takes.
    pub takes: Takes,
    /// Whether it asked for another protocol, and may have gone on in that.
    pub wish: Wish,
}

/// What becomes of a connection when an answer has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Another request may follow.
    Keep,
    /// It is closed.
    Close,
}

/// Which parts of an answer a client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// The head alone.
    Head,
    /// The body too.
    Body,
    /// And trailers behind it.
    Trailers,
}

/// Whether a request asks for another protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It stays HTTP.
    Stay,
    /// It has an `Upgrade`.
    Switch,
}

/// How large a head may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all of it. What is whole is measured more finely by `Head::read`.
    pub bytes: usize,
    /// Lines.
    pub fields: usize,
}

/// Reads a head as its bytes come.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    /// So many bytes have been looked at, and there was no whole head in them.
    seen: usize,
}

impl Reader {
    /// For the next head.
    pub fn within(limits: Limits) -> Self {
        Self { limits, seen: 0 }
    }

    /// Takes the first head out of `read`; `None` while it is not whole.
    ///
    /// # Errors
    /// When it is no HTTP/1.0 or 1.1, can be read in two ways, or is too large.
    pub fn take(&mut self, read: &mut Bytes) -> Result<Option<Asked>, Refusal> {
        if !self.may_be_whole(read) {
            return self.wait(read);
        }
        let limits = self.limits;
        let mut few = [const { MaybeUninit::uninit() }; FEW];
        let parsed = match limits.fields < FEW {
            true => parse(read, &mut few[..=limits.fields]),
            false => parse(read, &mut vec![MaybeUninit::uninit(); limits.fields + 1]),
        };
        let Some((asked, length)) = parsed? else {
            return self.wait(read);
        };
        self.seen = 0;
        // What is empty holds no memory of the head that was there.
        *read = match length == read.len() {
            true => Bytes::new(),
            false => read.slice(length..),
        };
        Ok(Some(asked))
    }

    /// Looking at all of a head again with each byte of it would take its square.
    fn may_be_whole(&self, read: &Bytes) -> bool {
        let from = self.seen.saturating_sub(3);
        match self.seen {
            0 => !read.is_empty(),
            _ => memchr::memmem::find(&read[from..], b"\r\n\r\n").is_some(),
        }
    }

    fn wait(&mut self, read: &Bytes) -> Result<Option<Asked>, Refusal> {
        self.seen = read.len();
        if read.len() <= self.limits.bytes {
            return Ok(None);
        }
        Err(match memchr::memchr(b'\n', read) {
            None => Refusal::UriTooLong,
            Some(_) => Refusal::HeadersTooLarge,
        })
    }
}

fn parse<'b>(
    read: &'b Bytes,
    fields: &mut [MaybeUninit<Header<'b>>],
) -> Result<Option<(Asked, usize)>, Refusal> {
    let mut parsed = httparse::Request::new(&mut []);
    let status =
        ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, read, fields);
    let length = match status {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadersTooLarge),
        Err(_) => return Err(Refusal::RequestMalformed),
    };
    if !has_strict_lines(&read[..length]) {
        return Err(Refusal::RequestMalformed);
    }
    let mut head = Request::new(());
    *head.method_mut() = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes())
        .map_err(|_| Refusal::RequestMalformed)?;
    *head.uri_mut() = target(read, parsed.path.unwrap_or_default())?;
    *head.version_mut() = match parsed.version {
        Some(1) => Version::HTTP_11,
        _ => Version::HTTP_10,
    };
    *head.headers_mut() = fields_of(parsed.headers, read).map_err(|_| Refusal::RequestMalformed)?;
    Ok(Some((Asked::read(head)?, length)))
}

impl Asked {
    fn read(head: Request<()>) -> Result<Self, Refusal> {
        let (version, headers) = (head.version(), head.headers());
        let present = Present::of(headers);
        let framing = match present.framing {
            true => Framing::stated(version, headers).map_err(|_| Refusal::RequestMalformed)?,
            false => None,
        };
        let takes = match () {
            () if head.method() == Method::HEAD => Takes::Head,
            () if present.te && wants_trailers(headers) => Takes::Trailers,
            () => Takes::Body,
        };
        let manner = Manner {
            version,
            after: match present.connection {
                true if fields::keeps_alive(version, headers) => After::Keep,
                // What it says nothing of, its version says.
                false if version == Version::HTTP_11 => After::Keep,
                _ => After::Close,
            },
            takes,
            wish: match present.upgrade {
                true => Wish::Switch,
                false => Wish::Stay,
            },
        };
        let asked = |expected: &HeaderValue| {
            let expected = expected.as_bytes();
            expected.eq_ignore_ascii_case(b"100-continue")
        };
        let expects = present.expect && headers.get(EXPECT).is_some_and(asked);
        let interim = match (version, expects) {
            (Version::HTTP_11, true) => Interim::Continue,
            (Version::HTTP_11, false) => Interim::Hints,
            _ => Interim::Nothing,
        };
        Ok(Self {
            // RFC 9112 §6.3: a request that says nothing of a body has none.
            framing: framing.unwrap_or(Framing::Length(0)),
            head,
            interim,
            manner,
        })
    }
}

/// The parser takes a bare LF for the end of a line (RFC 9112 §2.2 allows that), where a proxy before us may
/// take it for a part of a value, and what follows for no line of its own.
fn has_strict_lines(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).all(|at| at > 0 && head[at - 1] == b'\r')
}

/// The target as it came. `Uri` cuts off a fragment, which no request has (RFC 9112 §3.2), and the upstream
/// would see another target than whoever stands before us.
fn target(read: &Bytes, text: &str) -> Result<Uri, Refusal> {
    if text.len() > LONGEST_TARGET {
        return Err(Refusal::UriTooLong);
    }
    if memchr::memchr(b'#', text.as_bytes()).is_some() {
        return Err(Refusal::PathUnsafe);
    }
    Uri::from_maybe_shared(read.slice_ref(text.as_bytes())).map_err(|_| Refusal::RequestMalformed)
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(TE).iter();
    let mut codings = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Lines of a head that need no allocation to be read.
const FEW: usize = 128;
/// What `Uri` can hold.
const LONGEST_TARGET: usize = 65_534;
