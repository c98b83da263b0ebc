//! Whether the other side, silent, is still there: it is asked (PING, RFC 9113 §6.7), and given up when it does not answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep};

/// The pings of one connection.
pub struct Pings {
    pings: PingPong,
    alarm: Pin<Box<Sleep>>,
    /// How long the other side may be silent before it is asked.
    patience: Duration,
    /// It has been asked.
    asked: bool,
}

impl Pings {
    /// For a connection that was just opened, whose other side may be silent for `patience`.
    pub fn new(pings: PingPong, patience: Duration) -> Self {
        Self {
            pings,
            alarm: Box::pin(tokio::time::sleep(patience)),
            patience,
            asked: false,
        }
    }

    /// Ready when the other side is gone. `silence` tells how long it was not heard; `None`: nobody waits for it. Anything
    /// that is heard of it is a sign of life, not the answer alone, which may wait behind much else.
    pub fn poll_given_up(
        &mut self,
        cx: &mut Context<'_>,
        silence: impl Fn() -> Option<Duration>,
    ) -> Poll<()> {
        loop {
            // An answer, or an end that the connection is about to tell of: whichever, another may be asked for.
            if self.asked && self.pings.poll_pong(cx).is_ready() {
                self.asked = false;
                self.ring_in(self.patience);
            }
            ready!(self.alarm.as_mut().poll(cx));
            match silence() {
                None => {
                    self.asked = false;
                    self.ring_in(self.patience);
                }
                Some(silence) if self.asked && silence >= ANSWERS_IN => return Poll::Ready(()),
                Some(silence) if self.asked => self.ring_in(ANSWERS_IN - silence),
                Some(silence) if silence < self.patience => self.ring_in(self.patience - silence),
                Some(_) => {
                    // Where one is still under way, it is that which is awaited.
                    let _ = self.pings.send_ping(Ping::opaque());
                    self.asked = true;
                    self.ring_in(ANSWERS_IN);
                }
            }
        }
    }

    fn ring_in(&mut self, time: Duration) {
        self.alarm.as_mut().reset(Instant::now() + time);
    }
}

/// How long it has to answer.
const ANSWERS_IN: Duration = Duration::from_secs(20);
