//! One direction of a tunnel: bytes from a reader to a writer, as many as the writer takes. Follows the
//! frames in passing, so that a frame of ours can be put between two of theirs.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::forward::websocket::frames::{Close, Follower, Standing};
use crate::forward::websocket::pongs::{Pongs, Verdict};
use crate::wire::buffers::Buffer;

/// One direction.
#[derive(Debug)]
pub struct Flow {
    phase: Phase,
    follower: Follower,
    pongs: Pongs,
    pending: Option<Pending>,
    word: Option<Box<Word>>,
    patience: Patience,
    flushed: Flushed,
    activity: Activity,
    passed: u64,
}

/// Which side failed, and with it the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The one that is read.
    Reader,
    /// The one that is written to.
    Writer,
}

/// What has moved since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Activity {
    pub read: bool,
    pub wrote: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Bytes pass.
    Copying,
    /// The reader has ended; the writer is to hear of it.
    Ending,
    /// Our farewell is said: what still comes is thrown away, until the close frame that answers it.
    Discarding,
    Over,
}

/// Bytes that were read and not yet written.
#[derive(Debug)]
enum Pending {
    /// These bytes.
    Own(Bytes),
    /// From here to there in the buffer.
    Lent(Buffer, usize, usize),
}

/// What we have to say, as a frame.
#[derive(Debug)]
enum Word {
    /// Between two messages; the rest goes on.
    Message(Vec<u8>),
    /// At the end.
    Farewell(Vec<u8>),
}

/// Where the farewell may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// Behind a whole message.
    Message,
    /// Behind a fragment too.
    Fragment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flushed {
    No,
    Yes,
}

impl Flow {
    /// A direction whose first bytes are `ours`, then `early`, which came with the handshake.
    pub fn new(ours: Vec<u8>, early: &[u8]) -> Self {
        let mut flow = Self {
            phase: Phase::Copying,
            follower: Follower::default(),
            pongs: Pongs::default(),
            pending: None,
            word: None,
            patience: Patience::Message,
            flushed: Flushed::Yes,
            activity: Activity::default(),
            passed: early.len() as u64,
        };
        flow.follower.follow(early);
        let first = [&ours, early].concat();
        flow.pending = (!first.is_empty()).then(|| Pending::Own(first.into()));
        flow
    }

    /// Moves what can be moved. Ready when the direction is over.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Broken>> {
        loop {
            match self.phase {
                Phase::Copying => {
                    ready!(self.poll_write(cx, writer))?;
                    if self.may_part() {
                        self.phase = Phase::Discarding;
                    } else if self.may_speak() {
                        self.pending = self.take_word();
                    } else {
                        ready!(self.poll_copy(cx, reader, writer))?;
                    }
                }
                Phase::Discarding => {
                    ready!(self.poll_write(cx, writer))?;
                    self.pending = self.take_word();
                    if self.pending.is_none() {
                        ready!(self.poll_discard(cx, reader, writer))?;
                    }
                }
                Phase::Ending => {
                    ready!(self.poll_write(cx, writer))?;
                    ready!(Pin::new(&mut *writer).poll_shutdown(cx)).map_err(|_| Broken::Writer)?;
                    self.phase = Phase::Over;
                }
                Phase::Over => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Puts a control frame of ours in, if one may stand here and now; tells whether it did.
    pub fn put(&mut self, frame: Vec<u8>) -> bool {
        let fits = matches!(
            self.follower.standing(),
            Standing::Between | Standing::Fragments
        );
        let open = self.phase == Phase::Copying && self.follower.close() == Close::Awaited;
        if fits && open && self.pending.is_none() {
            self.pending = Some(Pending::Own(frame.into()));
            return true;
        }
        false
    }

    /// Puts a message of ours between two of theirs, as soon as one may stand there; not behind a close frame.
    pub fn say(&mut self, message: Vec<u8>) {
        self.word = Some(Box::new(Word::Message(message)));
    }

    /// From now on a pong of ours may come this way.
    pub fn expect_pong(&mut self) {
        self.pongs.expect();
    }

    /// Ends the direction with this close frame behind the message that is under way, and then throws
    /// away what still comes until the reader has closed too.
    pub fn end_with(&mut self, close: Vec<u8>) {
        self.word = Some(Box::new(Word::Farewell(close)));
    }

    /// The message takes too long: the close frame may stand behind one of its fragments.
    pub fn hurry(&mut self) {
        self.patience = Patience::Fragment;
    }

    /// What has moved since the last call.
    pub fn take_activity(&mut self) -> Activity {
        std::mem::take(&mut self.activity)
    }

    /// Whether something waits for the writer to take it.
    pub fn is_stuck(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether a close frame has passed.
    pub fn close(&self) -> Close {
        self.follower.close()
    }

    /// How many bytes were read.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Whether the farewell's place is here: where it may stand, or where it has become needless.
    fn may_part(&self) -> bool {
        let fits = match self.follower.standing() {
            Standing::Between => true,
            Standing::Fragments => self.patience == Patience::Fragment,
            Standing::Inside | Standing::Lost => false,
        };
        let parting = matches!(self.word.as_deref(), Some(Word::Farewell(_)));
        parting && (fits || self.follower.close() == Close::Passed)
    }

    /// Whether a message of ours is waiting, and its place is here.
    fn may_speak(&self) -> bool {
        let speaking = matches!(self.word.as_deref(), Some(Word::Message(_)));
        speaking
            && self.follower.standing() == Standing::Between
            && self.follower.close() == Close::Awaited
    }

    fn take_word(&mut self) -> Option<Pending> {
        let (Word::Message(frame) | Word::Farewell(frame)) = *self.word.take()?;
        Some(Pending::Own(frame.into()))
    }

    /// Writes all that is pending.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Broken>> {
        while let Some(pending) = &mut self.pending {
            let written = ready!(Pin::new(&mut *writer).poll_write(cx, pending.bytes()));
            let written = written.ok().filter(|written| *written > 0);
            let written = written.ok_or(Broken::Writer)?;
            self.flushed = Flushed::No;
            self.activity.wrote = true;
            if pending.advance(written) == Left::Nothing {
                self.pending = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, to be written.
    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Broken>> {
        let mut buffer = Buffer::borrow();
        let size = match self.poll_read(cx, reader, &mut buffer) {
            Poll::Ready(size) => size?,
            Poll::Pending => return self.poll_flush(cx, writer),
        };
        if size == 0 {
            let held = Bytes::copy_from_slice(self.pongs.held());
            self.pending = (!held.is_empty()).then_some(Pending::Own(held));
            self.phase = Phase::Ending;
            return Poll::Ready(Ok(()));
        }
        let (size, place) = self.sift(&mut buffer[..size]);
        self.pending = match place.and_then(|at| Some((at, self.take_word()?))) {
            Some((at, word)) => {
                let all = [&buffer[..at], word.bytes(), &buffer[at..size]].concat();
                Some(Pending::Own(all.into()))
            }
            None => (size > 0).then_some(Pending::Lent(buffer, 0, size)),
        };
        Poll::Ready(Ok(()))
    }

    /// Reads once, to be thrown away.
    fn poll_discard(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Broken>> {
        if self.follower.close() == Close::Passed {
            self.phase = Phase::Over;
            return Poll::Ready(Ok(()));
        }
        let mut buffer = Buffer::borrow();
        match self.poll_read(cx, reader, &mut buffer) {
            Poll::Ready(Ok(0)) => self.phase = Phase::Over,
            Poll::Ready(size) => self.follower.follow(&buffer[..size?]),
            Poll::Pending => return self.poll_flush(cx, writer),
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, behind what was held back; how much the buffer has then, 0 at the end.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Unpin),
        buffer: &mut [u8],
    ) -> Poll<Result<usize, Broken>> {
        let held = self.pongs.held().len();
        let mut room = ReadBuf::new(&mut buffer[held..]);
        ready!(Pin::new(reader).poll_read(cx, &mut room)).map_err(|_| Broken::Reader)?;
        let size = room.filled().len();
        if size == 0 {
            return Poll::Ready(Ok(0));
        }
        self.activity.read = true;
        self.passed += size as u64;
        Poll::Ready(Ok(self.pongs.release(buffer) + size))
    }

    /// Flushes while there is nothing to read; never ready, unless the writer fails.
    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Broken>> {
        if self.flushed == Flushed::No {
            ready!(Pin::new(writer).poll_flush(cx)).map_err(|_| Broken::Writer)?;
            self.flushed = Flushed::Yes;
        }
        Poll::Pending
    }

    /// Follows `bytes` and removes our pongs; how many are left to pass, and the place among them of a message of
    /// ours. The farewell's place ends them.
    fn sift(&mut self, bytes: &mut [u8]) -> (usize, Option<usize>) {
        let (mut at, mut end) = (0, bytes.len());
        let mut place = None;
        while at < end {
            if self.may_part() {
                self.phase = Phase::Discarding;
                self.follower.follow(&bytes[at..end]);
                return (at, None);
            }
            if place.is_none() && self.may_speak() {
                place = Some(at);
            }
            match self.judge_pong(&bytes[at..end]) {
                Verdict::Ours(size) => {
                    bytes.copy_within(at + size..end, at);
                    end -= size;
                }
                Verdict::Held => end = at,
                Verdict::Other => at += self.follower.advance(&bytes[at..end]).unwrap_or(end - at),
            }
        }
        (end, place)
    }

    fn judge_pong(&mut self, bytes: &[u8]) -> Verdict {
        match self.follower.standing() {
            Standing::Between | Standing::Fragments => self.pongs.judge(bytes),
            Standing::Inside | Standing::Lost => Verdict::Other,
        }
    }
}

/// Whether bytes are left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    Some,
}

impl Pending {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Lent(buffer, from, to) => &buffer[*from..*to],
        }
    }

    fn advance(&mut self, written: usize) -> Left {
        match self {
            Self::Own(bytes) => bytes.advance(written),
            Self::Lent(_, from, _) => *from += written,
        }
        if self.bytes().is_empty() {
            Left::Nothing
        } else {
            Left::Some
        }
    }
}
