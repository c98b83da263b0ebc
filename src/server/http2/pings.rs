//! Whether a silent client is still there: it is asked (PING, RFC 9113 §6.7), and given up when it does not answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep};

use crate::wire::vitals::Vitals;

/// The pings of one connection.
pub struct Pings {
    pings: PingPong,
    alarm: Pin<Box<Sleep>>,
    /// It has been asked.
    asked: bool,
}

impl Pings {
    /// For a connection that was just opened.
    pub fn new(pings: PingPong) -> Self {
        Self {
            pings,
            alarm: Box::pin(tokio::time::sleep(SILENCE)),
            asked: false,
        }
    }

    /// Ready when the client is gone. Anything that is heard of it is a sign of life, not the answer alone, which
    /// may wait behind much else.
    pub fn poll_given_up(&mut self, cx: &mut Context<'_>, vitals: &Vitals) -> Poll<()> {
        loop {
            // An answer, or an end that the connection is about to tell of: whichever, another may be asked for.
            if self.asked && self.pings.poll_pong(cx).is_ready() {
                self.asked = false;
                self.ring_in(SILENCE);
            }
            ready!(self.alarm.as_mut().poll(cx));
            let silence = vitals.silence();
            match self.asked {
                true if silence >= PATIENCE => return Poll::Ready(()),
                true => self.ring_in(PATIENCE - silence),
                false if silence < SILENCE => self.ring_in(SILENCE - silence),
                false => {
                    // Where one is still under way, it is that which is awaited.
                    let _ = self.pings.send_ping(Ping::opaque());
                    self.asked = true;
                    self.ring_in(PATIENCE);
                }
            }
        }
    }

    fn ring_in(&mut self, time: Duration) {
        self.alarm.as_mut().reset(Instant::now() + time);
    }
}

/// How long a client may be silent before it is asked.
const SILENCE: Duration = Duration::from_secs(30);
/// How long it has to answer.
const PATIENCE: Duration = Duration::from_secs(20);
