//! Listens to an upstream's text messages in passing: the bytes that end a message which tells of a job wait until the job
//! is kept. Whole messages are read, however they are fragmented; what is compressed cannot be, which is why such a route
//! negotiates no extension.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::CaptureFrom;
use crate::forward::websocket::frames::{self, Header};
use crate::forward::websocket::tunnel::Side;
use crate::jobs::keeper::Outcome;
use crate::jobs::watch::{Heard, NotKept, Watch};

/// An upstream's connection that is listened to.
pub struct Tapped<T> {
    io: T,
    watch: Box<Watch>,
    ears: Ears,
    keeping: Option<Keeping>,
    /// What was read and waits to go on.
    waiting: Bytes,
}

type Keeping = Pin<Box<dyn Future<Output = Result<(), NotKept>>>>;

impl<T> Tapped<T> {
    /// Listens to this side, from its first byte behind the handshake.
    pub fn listen(side: Side<T>, watch: Box<Watch>) -> Side<Self> {
        let mut tapped = Self {
            ears: Ears::new(watch.max_size(CaptureFrom::Websocket)),
            io: side.io,
            watch,
            keeping: None,
            waiting: Bytes::new(),
        };
        tapped.hear(side.early);
        Side {
            io: tapped,
            early: Bytes::new(),
        }
    }

    /// Bytes that go on once everything is kept that they tell.
    fn hear(&mut self, bytes: Bytes) {
        let heard = self.ears.hear(&bytes, &self.watch);
        self.waiting = bytes;
        if !heard.is_empty() {
            let watch = self.watch.clone();
            self.keeping = Some(Box::pin(async move { watch.keep(heard).await }));
        }
    }
}

/// Follows the frames of a server (RFC 6455 section 5.2).
struct Ears {
    place: Place,
    kind: Kind,
    message: Vec<u8>,
    most: usize,
}

enum Place {
    /// The beginning of a header, and its length.
    Header([u8; frames::LONGEST_HEADER], usize),
    /// How much of a frame is still to come, and its first byte.
    Payload(u64, u8),
    Lost,
}

/// What message is under way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    /// Nobody listens to it: no text, compressed, or too long.
    Other,
}

impl Ears {
    fn new(most: usize) -> Self {
        Self {
            place: Place::Header([0; frames::LONGEST_HEADER], 0),
            kind: Kind::Other,
            message: Vec::new(),
            most,
        }
    }

    /// What the messages tell that end in `bytes`.
    fn hear(&mut self, bytes: &[u8], watch: &Watch) -> Vec<Heard> {
        let mut heard = Vec::new();
        let mut rest = bytes;
        loop {
            match self.place {
                Place::Lost => return heard,
                Place::Header(header, have) => {
                    let Some(after) = self.read_header((header, have), rest) else {
                        return heard;
                    };
                    rest = after;
                }
                Place::Payload(left, first) => {
                    let size = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    self.take(&rest[..size], first, watch);
                    rest = &rest[size..];
                    let left = left - size as u64;
                    if left > 0 {
                        self.place = Place::Payload(left, first);
                        return heard;
                    }
                    self.place = Place::Header([0; frames::LONGEST_HEADER], 0);
                    heard.extend(self.end_frame(first, watch));
                }
            }
        }
    }

    /// What is behind the header; `None`: it is not whole, or none.
    fn read_header<'b>(
        &mut self,
        (mut header, have): ([u8; frames::LONGEST_HEADER], usize),
        bytes: &'b [u8],
    ) -> Option<&'b [u8]> {
        let taken = bytes.len().min(frames::LONGEST_HEADER - have);
        header[have..have + taken].copy_from_slice(&bytes[..taken]);
        match frames::parse_header(&header[..have + taken]) {
            Header::Whole { size, payload } => {
                // A server masks nothing (section 5.1): whoever does is not followed.
                let masked = header[1] & frames::MASK != 0;
                self.begin_frame(header[0]);
                self.place = match masked {
                    true => Place::Lost,
                    false => Place::Payload(payload, header[0]),
                };
                bytes.get(size - have..)
            }
            Header::Partial => {
                self.place = Place::Header(header, have + taken);
                None
            }
            Header::Impossible => {
                self.place = Place::Lost;
                None
            }
        }
    }

    fn begin_frame(&mut self, first: u8) {
        if !is_control(first) && first & frames::OPCODE != 0 {
            self.message = Vec::new();
        }
        self.kind = match first & frames::OPCODE {
            frames::TEXT if first & RESERVED == 0 => Kind::Text,
            // A fragment, or a control frame between two.
            0 | frames::CONTROL.. => self.kind,
            _ => Kind::Other,
        };
    }

    fn take(&mut self, payload: &[u8], first: u8, watch: &Watch) {
        if is_control(first) || self.kind == Kind::Other {
            return;
        }
        if self.message.len() + payload.len() > self.most {
            self.message = Vec::new();
            self.kind = Kind::Other;
            watch.report(Outcome::TooLarge);
            return;
        }
        self.message.extend_from_slice(payload);
    }

    fn end_frame(&mut self, first: u8, watch: &Watch) -> Vec<Heard> {
        if is_control(first) || first & frames::FIN == 0 {
            return Vec::new();
        }
        let message = std::mem::take(&mut self.message);
        match std::mem::replace(&mut self.kind, Kind::Other) {
            Kind::Text => watch.hear_text(CaptureFrom::Websocket, &message),
            Kind::Other => Vec::new(),
        }
    }
}

fn is_control(first: u8) -> bool {
    first & frames::CONTROL != 0
}

impl<T: AsyncRead + Unpin> AsyncRead for Tapped<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if let Some(keeping) = &mut this.keeping {
                let kept = ready!(keeping.as_mut().poll(cx));
                this.keeping = None;
                kept.map_err(io::Error::other)?;
            }
            if !this.waiting.is_empty() {
                let size = this.waiting.len().min(buffer.remaining());
                buffer.put_slice(&this.waiting[..size]);
                this.waiting.advance(size);
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, buffer))?;
            let read = &buffer.filled()[before..];
            let heard = this.ears.hear(read, &this.watch);
            if heard.is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.waiting = Bytes::copy_from_slice(read);
            buffer.set_filled(before);
            let watch = this.watch.clone();
            this.keeping = Some(Box::pin(async move { watch.keep(heard).await }));
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Tapped<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// RSV1 to RSV3: an extension's.
const RESERVED: u8 = 0x70;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn watch() -> Watch {
        Watch::for_test("from = \"websocket\"\nid = \"/id\"\nmax_size = \"200B\"")
    }

    fn heard(pieces: &[&[u8]]) -> Vec<String> {
        let watch = watch();
        let mut ears = Ears::new(watch.max_size(CaptureFrom::Websocket));
        let pieces = pieces.iter();
        let heard = pieces.flat_map(|piece| ears.hear(piece, &watch));
        heard.map(|heard| heard.id().to_owned()).collect()
    }

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ ..126 => frame.push(length as u8),
            length => {
                frame.push(126);
                frame.extend((length as u16).to_be_bytes());
            }
        }
        frame.extend(payload);
        frame
    }

    #[test]
    fn whole_text_messages_are_heard() {
        let job = |id: u8| format!("{{\"id\":{id}}}").into_bytes();
        let (text, part, ping) = (0x81, 0x01, frame(0x89, b"{\"id\":9}"));
        let long = format!("{{\"id\":5,\"x\":\"{}\"}}", "x".repeat(120)).into_bytes();
        let longer = format!("{{\"id\":6,\"x\":\"{}\"}}", "x".repeat(200)).into_bytes();
        let mut masked = frame(text, &job(7));
        masked[1] |= 0x80;
        let table: Vec<(Vec<Vec<u8>>, &[&str])> = vec![
            (
                vec![frame(text, &job(1)), frame(text, &job(2))],
                &["1", "2"],
            ),
            (vec![frame(0x82, &job(1)), frame(text, b"no json")], &[]),
            (
                vec![
                    frame(part, b"{\"i"),
                    ping.clone(),
                    frame(0, b"d\":"),
                    frame(0x80, b"3}"),
                ],
                &["3"],
            ),
            (
                vec![
                    frame(0x02, &job(1)),
                    frame(0x80, &job(1)),
                    frame(text, &job(4)),
                ],
                &["4"],
            ),
            (
                vec![
                    frame(text, &long),
                    frame(text, &longer),
                    frame(text, &job(1)),
                ],
                &["5", "1"],
            ),
            // Compressed, and then not.
            (vec![frame(0xc1, &job(1)), frame(text, &job(2))], &["2"]),
            (
                vec![
                    frame(0x41, &job(1)),
                    frame(0x80, &job(1)),
                    frame(text, &job(2)),
                ],
                &["2"],
            ),
            (vec![frame(0x88, &[]), frame(text, &job(2))], &["2"]),
            // Whoever breaks the rules is not followed.
            (vec![masked, frame(text, &job(2))], &[]),
            (vec![frame(part, b"{"), frame(text, &job(2))], &["2"]),
        ];
        for (frames, ids) in table {
            let bytes = frames.concat();
            assert_eq!(heard(&[&bytes]), ids, "{}", bytes.escape_ascii());
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(heard(&single), ids, "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_split_are_heard_alike(
            frames in vec((any::<u8>(), "(\\{\"id\":|[0-9]|\\}){0,4}"), 0..8),
            cuts in vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let frames: Vec<Vec<u8>> =
                frames.iter().map(|(first, text)| frame(*first, text.as_bytes())).collect();
            let bytes = frames.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(heard(&pieces), heard(&[&bytes]));
        }
    }
}
