//! Cuts the upstream's bytes at the ends of events: what may be sent now, and what is held until the
//! event is whole. Pure; keeps nothing but the partial tail.

use bytes::Bytes;

use crate::forward::sse::splitter::Splitter;

/// What has come from the upstream and was not sent, and where the client stands.
#[derive(Debug, Default)]
pub struct Framer {
    splitter: Splitter,
    /// The beginning of an event whose end has not come.
    tail: Vec<u8>,
    /// Whether the client has the beginning of an event that was too long to hold.
    halfway: Halfway,
    /// Whether the stream's first bytes, which may be a byte order mark, are past.
    started: bool,
}

/// Whether the client stands in the middle of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Halfway {
    #[default]
    /// It stands between two events.
    No,
    /// It has the beginning of one.
    Yes,
}

impl Framer {
    /// What of the tail and `chunk` may be sent now: all whole events, those that `rewrite` changes in
    /// their new form, or the beginning of one that is too long to hold. Without a change and a tail it
    /// is a slice of `chunk`.
    pub fn take_in(
        &mut self,
        chunk: Bytes,
        mut rewrite: impl FnMut(&[u8]) -> Option<Vec<u8>>,
    ) -> Bytes {
        let Some(first) = self.splitter.advance(&chunk) else {
            return self.hold(chunk);
        };
        let mut end = self.tail.len() + first;
        let bytes = self.join(chunk);
        let begin = self.begin(&bytes);
        let (mut start, mut copied, mut out) = (begin, begin, Vec::new());
        loop {
            // An event whose beginning is gone can no longer be changed.
            let whole = std::mem::take(&mut self.halfway) == Halfway::No;
            if let Some(event) = whole.then(|| rewrite(&bytes[start..end])).flatten() {
                out.extend_from_slice(&bytes[copied..start]);
                out.extend_from_slice(&event);
                copied = end;
            }
            start = end;
            match self.splitter.advance(&bytes[end..]) {
                Some(length) => end += length,
                None => break,
            }
        }
        if bytes.len() - end > LONGEST_TAIL {
            self.halfway = Halfway::Yes;
            end = bytes.len();
        }
        self.tail = bytes[end..].to_vec();
        if out.is_empty() {
            return bytes.slice(begin..end);
        }
        out.extend_from_slice(&bytes[copied..end]);
        Bytes::from(out)
    }

    /// Where the client stands.
    pub fn halfway(&self) -> Halfway {
        self.halfway
    }

    /// Holds a chunk in which no event ends, unless that would be too much.
    fn hold(&mut self, chunk: Bytes) -> Bytes {
        if self.halfway == Halfway::Yes {
            return chunk;
        }
        if self.tail.len() + chunk.len() <= LONGEST_TAIL {
            self.tail.extend_from_slice(&chunk);
            return Bytes::new();
        }
        self.halfway = Halfway::Yes;
        let bytes = self.join(chunk);
        let begin = self.begin(&bytes);
        bytes.slice(begin..)
    }

    /// The tail and `chunk` in one; the tail's memory goes with it.
    fn join(&mut self, chunk: Bytes) -> Bytes {
        if self.tail.is_empty() {
            return chunk;
        }
        let mut tail = std::mem::take(&mut self.tail);
        tail.extend_from_slice(&chunk);
        Bytes::from(tail)
    }

    /// Where the first bytes that are sent begin: behind the stream's byte order mark. Since our
    /// greeting stands before it, it would no longer be one, but a part of the first field's name.
    fn begin(&mut self, bytes: &[u8]) -> usize {
        let first = !std::mem::replace(&mut self.started, true);
        if first && bytes.starts_with(BYTE_ORDER_MARK) {
            BYTE_ORDER_MARK.len()
        } else {
            0
        }
    }

    /// What is left when the upstream has ended: its client drops an unfinished event, ours does too.
    pub fn take_tail(&mut self) -> Option<Bytes> {
        let tail = self.join(Bytes::new());
        let begin = self.begin(&tail);
        Some(tail.slice(begin..)).filter(|tail| !tail.is_empty())
    }
}

/// The longest beginning of an event that is held back.
const LONGEST_TAIL: usize = 64 * 1024;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
