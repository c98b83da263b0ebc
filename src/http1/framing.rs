//! Where a message's body ends (RFC 9112 §6.3), and the chunks that it comes in (§7.1). Pure: takes bytes,
//! gives bytes.

use bytes::{Buf, Bytes};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Version};
use http_body::SizeHint;

use crate::http1::{Fault, fields};

/// What is still to come of a body.
#[derive(Debug)]
pub enum Framing {
    /// So many bytes; 0: it is over.
    Length(u64),
    /// Chunks, and trailers behind them.
    Chunked(Chunks),
    /// Everything until the connection is closed: answers only.
    Close,
}

/// A piece of a body.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// Bytes of it.
    Data(Bytes),
    /// The fields behind the last chunk.
    Trailers(HeaderMap),
    /// More bytes are needed.
    More,
    /// It is over.
    End,
}

impl Framing {
    /// How the head frames what follows it; `None`: it says nothing of that.
    ///
    /// # Errors
    /// When that can be told in two ways: two lengths, a length beside an encoding, another encoding.
    pub fn stated(version: Version, headers: &HeaderMap) -> Result<Option<Self>, Fault> {
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let framing = match (lengths.next(), codings.next()) {
            (None, None) => return Ok(None),
            (Some(length), None) => {
                let digits = length.as_bytes();
                let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
                let length = length.to_str().ok().filter(|_| plain);
                let length = length.and_then(|length| length.parse().ok());
                Self::Length(length.ok_or(Fault::Length)?)
            }
            (None, Some(coding)) => {
                let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
                // HTTP/1.0 knows no chunks: somebody else wrote that field (§6.1).
                if !chunked || version != Version::HTTP_11 {
                    return Err(Fault::Length);
                }
                Self::Chunked(Chunks::default())
            }
            (Some(_), Some(_)) => return Err(Fault::Length),
        };
        if lengths.next().is_some() || codings.next().is_some() {
            return Err(Fault::Length);
        }
        Ok(Some(framing))
    }

    /// How many bytes are to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::Close => None,
        }
    }

    /// The same, as bodies say it.
    pub fn size_hint(&self) -> SizeHint {
        self.left()
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// Whether nothing is to come.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.state == State::Over,
            Self::Close => false,
        }
    }

    /// Takes the next piece out of what was read.
    ///
    /// # Errors
    /// When a chunk is malformed.
    pub fn take(&mut self, read: &mut Bytes) -> Result<Piece, Fault> {
        match self {
            Self::Length(0) => Ok(Piece::End),
            Self::Length(left) => Ok(take_data(read, left)),
            Self::Chunked(chunks) => chunks.take(read),
            Self::Close => Ok(take_data(read, &mut u64::MAX.clone())),
        }
    }
}

fn take_data(read: &mut Bytes, left: &mut u64) -> Piece {
    if read.is_empty() {
        return Piece::More;
    }
    let size = usize::try_from(*left).unwrap_or(usize::MAX).min(read.len());
    *left -= size as u64;
    Piece::Data(read.split_to(size))
}

/// The state between chunks.
#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
    /// Bytes of the present size line, or of the trailers: both are bounded.
    seen: usize,
    /// Bytes of all extensions so far, which nobody reads.
    extensions: usize,
    trailers: Vec<u8>,
}

#[derive(Debug, Default, PartialEq)]
enum State {
    /// Before the first digit of a size.
    #[default]
    Start,
    Size(u64),
    /// Spaces behind a size; no digit may follow.
    Padding(u64),
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    Trailers,
    Over,
}

impl Chunks {
    fn take(&mut self, read: &mut Bytes) -> Result<Piece, Fault> {
        loop {
            match &mut self.state {
                State::Over => return Ok(Piece::End),
                State::Data(left) => {
                    let piece = take_data(read, left);
                    if *left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(piece);
                }
                State::Trailers => return self.take_trailers(read),
                _ if read.is_empty() => return Ok(Piece::More),
                _ => {
                    let byte = read[0];
                    read.advance(1);
                    self.step(byte)?;
                }
            }
        }
    }

    /// One byte between the data: strict, since a line that two readers end at different places is how
    /// a message is smuggled (bare LF, signs, CR in an extension, an overflowing size).
    fn step(&mut self, byte: u8) -> Result<(), Fault> {
        self.seen += 1;
        if self.seen > LONGEST_SIZE_LINE || self.extensions >= LARGEST_EXTENSIONS {
            return Err(Fault::Chunk);
        }
        let digit = char::from(byte).to_digit(16).map(u64::from);
        self.state = match (&self.state, byte) {
            (State::Start, _) => State::Size(digit.ok_or(Fault::Chunk)?),
            (State::Size(size), _) if digit.is_some() => {
                // 60 bits at most: one more digit cannot overflow.
                let room = *size < 1 << 56;
                let size = size.checked_mul(16).filter(|_| room).ok_or(Fault::Chunk)?;
                State::Size(size + digit.unwrap_or_default())
            }
            (State::Size(size) | State::Padding(size) | State::Extension(size), b'\r') => {
                State::SizeLf(*size)
            }
            (State::Size(size) | State::Padding(size), b' ' | b'\t') => State::Padding(*size),
            (State::Size(size) | State::Padding(size), b';') => State::Extension(*size),
            (State::Extension(size), b'\t' | 0x20..=0x7e | 0x80..) => {
                self.extensions += 1;
                State::Extension(*size)
            }
            (State::SizeLf(0), b'\n') => State::Trailers,
            (State::SizeLf(size), b'\n') => State::Data(*size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Start,
            _ => return Err(Fault::Chunk),
        };
        if matches!(self.state, State::Start | State::Data(_) | State::Trailers) {
            self.seen = 0;
        }
        Ok(())
    }

    fn take_trailers(&mut self, read: &mut Bytes) -> Result<Piece, Fault> {
        while !read.is_empty() {
            self.trailers.push(read[0]);
            read.advance(1);
            if self.trailers == b"\r\n" {
                self.state = State::Over;
                return Ok(Piece::End);
            }
            if self.trailers.ends_with(b"\r\n\r\n") {
                self.state = State::Over;
                return read_trailers(std::mem::take(&mut self.trailers).into());
            }
            // The field parser takes a bare LF for a line's end, and two of them for the end of all.
            let bare = self.trailers.ends_with(b"\n") && !self.trailers.ends_with(b"\r\n");
            if bare || self.trailers.len() > LARGEST_TRAILERS {
                return Err(Fault::Chunk);
            }
        }
        Ok(Piece::More)
    }
}

fn read_trailers(bytes: Bytes) -> Result<Piece, Fault> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    match httparse::parse_headers(&bytes, &mut fields)? {
        httparse::Status::Complete((_, fields)) => {
            Ok(Piece::Trailers(fields::fields_of(fields, &bytes)?))
        }
        httparse::Status::Partial => Err(Fault::Chunk),
    }
}

/// A size with its extensions.
const LONGEST_SIZE_LINE: usize = 1024;
/// All extensions of a body together.
const LARGEST_EXTENSIONS: usize = 16 * 1024;
const LARGEST_TRAILERS: usize = 16 * 1024;
