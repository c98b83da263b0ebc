//! The one body type, for requests and responses alike, with its errors.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

/// A body on its way. `Stream` is any other body behind a pointer, so that the enum stays small.
#[derive(Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// These bytes at once; `None` when they have been given.
    Full(Option<Bytes>),
    /// A body of another module: a tap, an event stream, a limit.
    Stream(Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError>>>),
}

/// Why a body broke off, and on whose side.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The upstream that sends it over HTTP/2 reset its stream, or its connection failed.
    #[error("the upstream broke off: {0}")]
    Broken(#[from] h2::Error),
    /// The client that sends it left, or framed it badly.
    #[error("the client broke off: {0}")]
    Unsent(std::io::Error),
    /// The upstream that sends it broke off or framed it badly.
    #[error("the upstream broke off: {0}")]
    Lost(std::io::Error),
    /// It grew past its limit.
    #[error("the body is larger than its limit")]
    TooLarge,
    /// It fell silent for longer than it may.
    #[error("the body fell silent")]
    TimedOut,
    /// The stream that it belongs to had to end while it could not end well.
    #[error("the stream had to end in the middle")]
    Ended,
}

impl BodyError {
    /// The stable word, for the log.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Broken(_) | Self::Unsent(_) | Self::Lost(_) => "broken",
            Self::TooLarge => "too_large",
            Self::TimedOut => "timed_out",
            Self::Ended => "ended",
        }
    }
}

/// What is known of a request's body while its answer is awaited: shared by the body, by the carrier that
/// waits, and by the journal that tells of it.
#[derive(Debug, Default)]
pub struct UploadState {
    done: Cell<Option<Instant>>,
    failed: Cell<Option<BodyFault>>,
    bytes: Cell<u64>,
}

/// How a client failed to send its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// Its framing is broken, or the client left.
    Broken,
    /// It grew past its limit.
    TooLarge,
    /// It fell silent.
    TimedOut,
}

impl UploadState {
    /// When the body had been read to its end.
    pub fn done(&self) -> Option<Instant> {
        self.done.get()
    }

    /// The client's fault, if there was one: an upstream's error is then only its echo.
    pub fn fault(&self) -> Option<BodyFault> {
        self.failed.get()
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// The body has been read to its end.
    pub fn finish(&self) {
        if self.done.get().is_none() {
            self.done.set(Some(Instant::now()));
        }
    }

    /// The body will not be read to its end.
    pub fn fail(&self, fault: BodyFault) {
        self.failed.set(Some(fault));
    }

    /// So many more bytes have been read.
    pub fn count(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }
}

impl Body {
    /// A body of these bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Full(Some(bytes))
        }
    }

    /// A body of another kind.
    pub fn stream(body: impl HttpBody<Data = Bytes, Error = BodyError> + 'static) -> Self {
        Self::Stream(Box::pin(body))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream(body) => body.size_hint(),
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body")
    }
}
