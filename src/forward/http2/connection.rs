//! A connection to an upstream, shared by as many requests as have room on it. A task of its worker drives it, and gives
//! it up when the upstream is silent for too long while somebody waits for it.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, Builder, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::http2::pings::Pings;
use crate::wire::Wire;

/// A connection. It ends when nobody holds it, nor a place on it.
pub struct Connection {
    sender: SendRequest<Bytes>,
    pulse: Rc<Pulse>,
}

/// One request's place on a connection, until it is dropped.
pub struct Place(Rc<Connection>);

/// What is known of a connection.
struct Pulse {
    /// Places that are taken.
    places: Cell<u32>,
    /// When the last place became free, or the first can be taken.
    idle_since: Cell<Instant>,
    /// When the upstream was last heard.
    heard: Cell<Instant>,
}

impl Connection {
    /// Speaks HTTP/2 on a socket that was just opened.
    ///
    /// # Errors
    /// When the socket takes no preface.
    pub async fn open(wire: Wire) -> Result<Rc<Self>, h2::Error> {
        let now = Instant::now();
        let pulse = Rc::new(Pulse {
            places: Cell::new(0),
            idle_since: Cell::new(now),
            heard: Cell::new(now),
        });
        let heard = Heard {
            wire,
            pulse: Rc::clone(&pulse),
        };
        let (sender, mut connection) = settings().handshake(heard).await?;
        let pings = connection.ping_pong();
        tokio::task::spawn_local(Driver {
            connection,
            pings: pings.map(|pings| Pings::new(pings, SILENCE)),
            pulse: Rc::clone(&pulse),
        });
        Ok(Rc::new(Self { sender, pulse }))
    }

    /// Whether it takes requests: it is not over, and the upstream is not about to go.
    pub fn is_open(&self) -> bool {
        // Without a request that waits to be opened, this waits for nothing.
        let mut cx = Context::from_waker(Waker::noop());
        let ready = self.sender.clone().poll_ready(&mut cx);
        matches!(ready, Poll::Ready(Ok(())))
    }

    /// Whether a place on it is free: the upstream says how many there are (RFC 9113 §5.1.2), up to our own bound.
    pub fn has_room(&self) -> bool {
        let taken = self.pulse.places.get();
        taken < MOST_PLACES && (taken as usize) < self.sender.current_max_send_streams()
    }

    /// A place on it, free or not: where none is, the request waits until the upstream lets it in.
    pub fn place(self: &Rc<Self>) -> Place {
        self.pulse.places.set(self.pulse.places.get() + 1);
        Place(Rc::clone(self))
    }

    /// For how long nobody has used it; `None`: somebody does.
    pub fn idle(&self) -> Option<Duration> {
        let idle = self.pulse.places.get() == 0;
        idle.then(|| self.pulse.idle_since.get().elapsed())
    }
}

impl Place {
    /// What opens its stream.
    pub fn sender(&self) -> SendRequest<Bytes> {
        self.0.sender.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let pulse = &self.0.pulse;
        pulse.places.set(pulse.places.get().saturating_sub(1));
        pulse.idle_since.set(Instant::now());
    }
}

fn settings() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(MOST_PLACES as usize)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * MOST_PLACES)
        .max_send_buffer_size(MOST_HELD)
        .max_header_list_size(LARGEST_HEAD)
        // Clients leave, and what is on its way for them then is nobody's fault: h2 would count what comes for a stream
        // that it has forgotten, and in the end break the connection off with all that others have on it.
        .max_concurrent_reset_streams(MOST_PLACES as usize)
        .reset_stream_duration(RESETS_REMEMBERED)
        .max_local_error_reset_streams(None);
    builder
}

/// The task of a connection.
struct Driver {
    connection: client::Connection<Heard, Bytes>,
    pings: Option<Pings>,
    pulse: Rc<Pulse>,
}

impl Future for Driver {
    type Output = ();

    /// Ready when the connection is over. Each of its streams is told so, or why, by h2, when this is dropped.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let pulse = &this.pulse;
        let silence = || (pulse.places.get() > 0).then(|| pulse.heard.get().elapsed());
        if let Some(pings) = &mut this.pings
            && pings.poll_given_up(cx, silence).is_ready()
        {
            return Poll::Ready(());
        }
        Pin::new(&mut this.connection).poll(cx).map(drop)
    }
}

/// A socket that notes when something is heard.
struct Heard {
    wire: Wire,
    pulse: Rc<Pulse>,
}

impl AsyncRead for Heard {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.wire).poll_read(cx, buffer);
        if read.is_ready() {
            this.pulse.heard.set(Instant::now());
        }
        read
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().wire).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().wire).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_shutdown(cx)
    }
}

/// What an upstream may send of one answer before its client has taken it. All answers of a connection together may as
/// much for each: a client that takes nothing of its own must not hold up the others.
const WINDOW: u32 = 512 * 1024;
/// Requests at once on a connection, whatever more the upstream allows; the next one opens another.
const MOST_PLACES: u32 = 100;
/// What is held of one request for an upstream that has opened a window as large.
const MOST_HELD: usize = 400 * 1024;
/// The head of an answer, as over HTTP/1.1; an upstream that sends more is not answering.
const LARGEST_HEAD: u32 = 64 * 1024;
/// How long something may still come for a stream that was reset.
const RESETS_REMEMBERED: Duration = Duration::from_secs(10);
/// How long an upstream that is waited for may be silent before it is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(20);
