//! A client's connection, shared by the loop that serves it, by the body of its present request, and by whoever
//! has more to say to it than the one answer: interim answers before it, another protocol behind it.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::AsyncWrite;
use tokio::sync::oneshot;

use crate::body::{Body, BodyError};
use crate::http1::Fault;
use crate::http1::channel::Channel;
use crate::http1::fields::write_line;
use crate::http1::framing::{Framing, Piece};
use crate::http1::outbox::Outbox;
use crate::wire::Wire;
use crate::wire::vitals::Watched;

/// A client's connection.
pub struct Link(RefCell<State>);

/// In this order: what each event of a stream touches are four lines of memory, and behind them is the rest.
#[repr(C)]
struct State {
    outbox: Outbox,
    /// `None`: closed, or handed over.
    channel: Option<Channel<Watched>>,
    /// The loop, where it waits for others to read or to put something in.
    owner: Option<Waker>,
    flushed: Flushed,
    holder: Holder,
    interim: Interim,
    /// The client has closed its side, or what it sends cannot be read on.
    over: Option<Over>,
    /// Which request it is: the body of an earlier one gets nothing of this one.
    turn: u32,
    /// Whoever reads the body.
    reader: Option<Waker>,
    /// What is still to come of the present request's body.
    framing: Framing,
    switch: Option<oneshot::Sender<Handed>>,
}

/// Whether all that was written has left TLS too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flushed {
    No,
    Yes,
}

/// Who reads the body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    Body,
}

/// What may be said before the final answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interim {
    /// Nothing: it has begun, or the client speaks HTTP/1.0 (RFC 9110 §15.2).
    Nothing,
    /// Hints.
    Hints,
    /// Hints, and that the body is wanted, which the client waits for (RFC 9110 §10.1.1).
    Continue,
}

/// Why nothing more is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Left,
    Garbled,
}

/// What is left of a connection that speaks another protocol from here on.
#[derive(Debug)]
pub struct Handed {
    /// The socket.
    pub wire: Wire,
    /// What the client sent behind its request.
    pub early: Bytes,
}

/// How it stands with a request's body when its answer has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing of it is left: another request may follow.
    Nothing,
    /// Something is, and nobody knows how much: the connection cannot go on.
    Unknown,
}

impl Link {
    /// A connection that was just made.
    pub fn new(wire: Watched) -> Rc<Self> {
        Rc::new(Self(RefCell::new(State {
            outbox: Outbox::default(),
            channel: Some(Channel::new(wire)),
            owner: None,
            flushed: Flushed::Yes,
            holder: Holder::Nobody,
            interim: Interim::Nothing,
            over: None,
            turn: 0,
            reader: None,
            framing: Framing::Length(0),
            switch: None,
        })))
    }

    /// Reads more behind what is there already.
    ///
    /// # Errors
    /// When the client has left.
    pub fn poll_more(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        self.0.borrow_mut().channel()?.poll_more(cx)
    }

    /// Looks at what was read, and may take from it.
    pub fn with_read<T>(&self, look: impl FnOnce(&mut Bytes) -> T) -> T {
        match &mut self.0.borrow_mut().channel {
            Some(channel) => look(&mut channel.read),
            None => look(&mut Bytes::new()),
        }
    }

    /// A request begins, whose body is framed like this.
    pub fn open(self: &Rc<Self>, framing: Framing, interim: Interim) -> Body {
        let mut state = self.0.borrow_mut();
        let empty = framing.is_over();
        state.turn = state.turn.wrapping_add(1);
        state.framing = framing;
        state.interim = interim;
        if empty {
            return Body::Empty;
        }
        state.holder = Holder::Body;
        Body::stream(Receiving {
            link: Rc::clone(self),
            turn: state.turn,
            over: false,
        })
    }

    /// Whether the body that is still to come is more than anybody would read for nothing, or is not even sent
    /// before we ask for it.
    pub fn is_body_unwanted(&self) -> bool {
        let state = self.0.borrow();
        match state.framing {
            _ if state.framing.is_over() => false,
            Framing::Length(left) if left > MOST_DISCARDED => true,
            _ => state.interim == Interim::Continue && state.is_drained(),
        }
    }

    /// Writes the final answer's head with `write`; nothing interim can come any more.
    pub fn put_head<T>(&self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut state = self.0.borrow_mut();
        state.interim = Interim::Nothing;
        write(state.outbox.end())
    }

    /// Puts something of the answer's body in, where there is room.
    pub fn with_outbox<T>(&self, put: impl FnOnce(&mut Outbox) -> T) -> T {
        put(&mut self.0.borrow_mut().outbox)
    }

    /// Writes everything, TLS's own buffers included.
    ///
    /// # Errors
    /// When the client takes no more.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let state = &mut *self.0.borrow_mut();
        if state.outbox.is_empty() && state.flushed == Flushed::Yes {
            return Poll::Ready(Ok(()));
        }
        state.flushed = Flushed::No;
        let wire = &mut state.channel.as_mut().ok_or(Fault::Cut)?.wire;
        ready!(state.outbox.poll_write(cx, wire))?;
        ready!(Pin::new(wire).poll_flush(cx))?;
        state.flushed = Flushed::Yes;
        Poll::Ready(Ok(()))
    }

    /// Ready when the client has left. What it sends is read ahead for that, up to a bound.
    pub fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = &mut *self.0.borrow_mut();
        remember(&mut state.owner, cx);
        let Some(channel) = &mut state.channel else {
            return Poll::Ready(());
        };
        while state.over != Some(Over::Left) && channel.read.len() < READ_AHEAD {
            if ready!(channel.poll_more(cx)).is_err() {
                state.over = Some(Over::Left);
            }
            // It may be another task, whose place at the socket we have taken.
            if let Some(reader) = state.reader.as_ref().filter(|it| !it.will_wake(cx.waker())) {
                reader.wake_by_ref();
            }
        }
        match state.over {
            Some(Over::Left) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// Reads what is left of the request's body and throws it away, if that is not much.
    pub fn poll_rest(&self, cx: &mut Context<'_>) -> Poll<Rest> {
        let state = &mut *self.0.borrow_mut();
        let mut discarded = 0;
        while !state.framing.is_over() {
            let held = state.holder == Holder::Body;
            let Some(channel) = &mut state.channel else {
                return Poll::Ready(Rest::Unknown);
            };
            // Held: it is read elsewhere, and will be for as long as that likes.
            if held || state.over.is_some() || discarded > MOST_DISCARDED {
                return Poll::Ready(Rest::Unknown);
            }
            match state.framing.take(&mut channel.read) {
                Ok(Piece::Data(data)) => discarded += data.len() as u64,
                Ok(Piece::Trailers(_) | Piece::End) => {}
                Ok(Piece::More) if ready!(channel.poll_body(cx, state.framing.left())).is_ok() => {}
                Ok(Piece::More) | Err(_) => return Poll::Ready(Rest::Unknown),
            }
        }
        Poll::Ready(match state.over {
            None => Rest::Nothing,
            Some(_) => Rest::Unknown,
        })
    }

    /// Says what it has to say and that nothing follows; then reads until the client has closed too, and throws
    /// that away: closing with its bytes unread would reset the connection, and our answer with it.
    pub fn poll_goodbye(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        ready!(self.poll_send(cx))?;
        let mut state = self.0.borrow_mut();
        // A body that is still read elsewhere breaks off here: it must not go on behind what is thrown away.
        state.turn = state.turn.wrapping_add(1);
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        let channel = state.channel()?;
        ready!(Pin::new(&mut channel.wire).poll_shutdown(cx))?;
        loop {
            channel.read = Bytes::new();
            ready!(channel.poll_more(cx))?;
        }
    }

    /// Gives the socket to whoever waits for it to speak another protocol; nobody may.
    pub fn hand_over(&self) {
        let mut state = self.0.borrow_mut();
        if let (Some(switch), Some(channel)) = (state.switch.take(), state.channel.take()) {
            let wire = channel.wire.into_inner();
            let early = channel.read;
            let _ = switch.send(Handed { wire, early });
        }
    }

    /// Closes it, and tells everybody who still waits for something of it.
    pub fn close(&self) {
        let mut state = self.0.borrow_mut();
        state.channel = None;
        state.switch = None;
        state.outbox = Outbox::default();
        state.owner = None;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    /// Closes it so that the client cannot take what it got for a whole answer.
    pub fn reset(&self) {
        if let Some(channel) = &self.0.borrow().channel {
            channel.wire.reset_on_close();
        }
    }

    /// Sends an interim answer (RFC 9110 §15.2), where the client can read one and the final has not begun.
    pub fn inform(&self, status: StatusCode, headers: &HeaderMap) {
        let state = &mut *self.0.borrow_mut();
        if state.interim == Interim::Nothing || state.outbox.end().len() > MOST_HINTS {
            return;
        }
        let out = state.outbox.end();
        write_status(out, status);
        for (name, value) in headers {
            write_line(out, name.as_str(), value.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        if let Some(owner) = &state.owner {
            owner.wake_by_ref();
        }
    }

    /// Asks for the socket, for when the head of the switch has been sent.
    pub fn claim(&self) -> oneshot::Receiver<Handed> {
        let (give, take) = oneshot::channel();
        self.0.borrow_mut().switch = Some(give);
        take
    }
}

impl State {
    fn channel(&mut self) -> Result<&mut Channel<Watched>, Fault> {
        self.channel.as_mut().ok_or(Fault::Cut)
    }

    fn is_drained(&self) -> bool {
        let read = self.channel.as_ref().map(|channel| &channel.read);
        read.is_none_or(Bytes::is_empty)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Fault>> {
        loop {
            let channel = self.channel.as_mut().ok_or(Fault::Cut)?;
            match self.framing.take(&mut channel.read)? {
                Piece::Data(data) => return Poll::Ready(Ok(Some(Frame::data(data)))),
                Piece::Trailers(fields) => return Poll::Ready(Ok(Some(Frame::trailers(fields)))),
                Piece::End => return Poll::Ready(Ok(None)),
                Piece::More => {}
            }
            if self.interim == Interim::Continue {
                self.interim = Interim::Hints;
                write_status(self.outbox.end(), StatusCode::CONTINUE);
                self.outbox.end().extend_from_slice(b"\r\n");
                if let Some(owner) = &self.owner {
                    owner.wake_by_ref();
                }
            }
            remember(&mut self.reader, cx);
            ready!(channel.poll_body(cx, self.framing.left()))?;
        }
    }
}

/// The body of a request, read from the socket as it is asked for.
struct Receiving {
    link: Rc<Link>,
    turn: u32,
    over: bool,
}

impl HttpBody for Receiving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let state = &mut *this.link.0.borrow_mut();
        if this.over {
            return Poll::Ready(None);
        }
        let polled = match state.turn == this.turn {
            true => ready!(state.poll_frame(cx)),
            false => Err(Fault::Cut),
        };
        this.over = polled.is_err() || state.framing.is_over();
        if let Err(fault) = &polled {
            state.over = Some(match fault {
                Fault::Io(_) | Fault::Cut => Over::Left,
                _ => Over::Garbled,
            });
        }
        Poll::Ready(
            polled
                .map_err(|fault| BodyError::Unsent(fault.into()))
                .transpose(),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.link.0.borrow();
        match state.turn == self.turn {
            true => state.framing.size_hint(),
            false => SizeHint::default(),
        }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let mut state = self.link.0.borrow_mut();
        if state.turn == self.turn {
            state.holder = Holder::Nobody;
            state.reader = None;
            // From here on the loop alone looks whether the client is there.
            if let Some(owner) = &state.owner {
                owner.wake_by_ref();
            }
        }
    }
}

/// The first line of an answer.
pub fn write_status(out: &mut Vec<u8>, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn remember(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *place = Some(cx.waker().clone()),
    }
}

/// How much of what a client sends behind its request is read before the answer is sent: beyond that, its
/// leaving is noticed only when the answer is.
const READ_AHEAD: usize = 64 * 1024;
/// How much of a body that nobody wanted is read, to keep the connection.
const MOST_DISCARDED: u64 = 64 * 1024;
/// Hints that wait for a client that reads none.
const MOST_HINTS: usize = 16 * 1024;
