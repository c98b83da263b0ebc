//! A body on its way out over a stream, as far as the other side opens its window. What is handed to h2 has a window
//! behind it, all of it: what the other side does not take lies here, where somebody sees it, and not in h2, which would
//! hold it for ever, the last of a body too.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::{Body as HttpBody, Frame};

use crate::body::{Body, BodyError};

/// A body whose head has been sent.
pub struct Sending {
    body: Body,
    send: SendStream<Bytes>,
    /// What waits for the other side to have room.
    piece: Option<Piece>,
    /// Pieces that came of the body.
    pieces: u64,
    clean: fn(Frame<Bytes>) -> Frame<Bytes>,
}

struct Piece {
    data: Bytes,
    last: bool,
}

/// Why a body was not sent to its end.
#[derive(Debug)]
pub enum Stopped {
    /// The other side has reset the stream, or its connection is over.
    Reset,
    /// The body broke off; the stream is still to be reset.
    Broken(BodyError),
}

/// Whether more follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    More,
    Nothing,
}

impl Sending {
    /// The body behind the head of which `send` is what came; `clean` leaves of its trailers what may pass.
    pub fn new(
        body: Body,
        send: SendStream<Bytes>,
        clean: fn(Frame<Bytes>) -> Frame<Bytes>,
    ) -> Self {
        Self {
            body,
            send,
            piece: None,
            pieces: 0,
            clean,
        }
    }

    /// Sends what can be sent; ready when all of it has been handed to h2, or no more of it can be.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        loop {
            // Asked each time: it also has the task woken when the stream is reset.
            if self.send.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Stopped::Reset));
            }
            let then = match self.piece {
                Some(_) => ready!(self.poll_piece(cx))?,
                None => match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                    Some(Ok(frame)) => self.put(frame)?,
                    Some(Err(error)) => return Poll::Ready(Err(Stopped::Broken(error))),
                    None => self.put_data(Bytes::new(), true)?,
                },
            };
            if then == Then::Nothing {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// What waits for the other side to have room: which piece of the body, and how large; `None`: nothing does.
    pub fn lying(&self) -> Option<(u64, usize)> {
        let piece = self.piece.as_ref()?;
        Some((self.pieces, piece.data.len()))
    }

    /// Ends the stream without its end.
    pub fn reset(&mut self, reason: Reason) {
        self.send.send_reset(reason);
    }

    /// The body, if nothing of it was taken.
    pub fn untouched(self) -> Option<Body> {
        (self.pieces == 0).then_some(self.body)
    }

    fn put(&mut self, frame: Frame<Bytes>) -> Result<Then, Stopped> {
        self.pieces += 1;
        match frame.into_data() {
            Ok(data) => {
                let last = self.body.is_end_stream();
                if data.is_empty() {
                    return match last {
                        true => self.put_data(data, true),
                        false => Ok(Then::More),
                    };
                }
                self.send.reserve_capacity(data.len());
                self.piece = Some(Piece { data, last });
                Ok(Then::More)
            }
            Err(frame) => match (self.clean)(frame).into_trailers() {
                Ok(trailers) => {
                    if self.send.send_trailers(trailers).is_err() {
                        self.send.send_reset(Reason::INTERNAL_ERROR);
                    }
                    Ok(Then::Nothing)
                }
                Err(_) => Ok(Then::More),
            },
        }
    }

    /// Hands as much of the piece to h2 as the other side has room for.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Then, Stopped>> {
        while self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                _ => return Poll::Ready(Err(Stopped::Reset)),
            }
        }
        let room = self.send.capacity();
        let Some(mut piece) = self.piece.take() else {
            return Poll::Ready(Ok(Then::More));
        };
        if piece.data.len() <= room {
            return Poll::Ready(self.put_data(piece.data, piece.last));
        }
        let then = self.put_data(piece.data.split_to(room), false);
        self.send.reserve_capacity(piece.data.len());
        self.piece = Some(piece);
        Poll::Ready(then)
    }

    fn put_data(&mut self, data: Bytes, last: bool) -> Result<Then, Stopped> {
        self.send
            .send_data(data, last)
            .map_err(|_| Stopped::Reset)?;
        Ok(match last {
            true => Then::Nothing,
            false => Then::More,
        })
    }
}
