//! Takes the client's answers to our own pings out of what goes upstream: the upstream never asked.

use crate::forward::websocket::frames::{FIN, MASK, PING_PAYLOAD, PONG};

/// Knows our pongs by their payload, and keeps the beginning of what may become one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pongs {
    expected: Expected,
    held: [u8; SIZE],
    have: u8,
}

/// What the bytes at the beginning of a frame are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Our pong, this long.
    Ours(usize),
    /// Perhaps its beginning; all of it is kept.
    Held,
    /// Something else.
    Other,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expected {
    #[default]
    No,
    Yes,
}

impl Pongs {
    /// From now on a pong of ours may come. A client need not answer each ping, so nothing is counted.
    pub fn expect(&mut self) {
        self.expected = Expected::Yes;
    }

    /// Judges `bytes`, which begin with a frame.
    pub fn judge(&mut self, bytes: &[u8]) -> Verdict {
        let head = &bytes[..bytes.len().min(HEAD.len())];
        if self.expected == Expected::No || head != &HEAD[..head.len()] {
            return Verdict::Other;
        }
        let Some(frame) = bytes.first_chunk::<SIZE>() else {
            self.held[..bytes.len()].copy_from_slice(bytes);
            // Shorter than a whole frame, so it fits.
            self.have = bytes.len() as u8;
            return Verdict::Held;
        };
        let (key, payload) = frame[HEAD.len()..].split_at(4);
        let plain = payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k);
        if plain.eq(PING_PAYLOAD.iter().copied()) {
            Verdict::Ours(SIZE)
        } else {
            Verdict::Other
        }
    }

    /// Puts what is kept to the front of `buffer`, which has room for a frame; how much it is.
    pub fn release(&mut self, buffer: &mut [u8]) -> usize {
        let have = usize::from(std::mem::take(&mut self.have));
        buffer[..have].copy_from_slice(&self.held[..have]);
        have
    }

    /// How much is kept.
    pub fn held(&self) -> &[u8] {
        &self.held[..usize::from(self.have)]
    }
}

/// What our pong begins with: whole, and masked as all of a client's frames.
const HEAD: [u8; 2] = [FIN | PONG, MASK | PING_PAYLOAD.len() as u8];
/// A frame of ours: head, masking key, payload.
const SIZE: usize = HEAD.len() + 4 + PING_PAYLOAD.len();
