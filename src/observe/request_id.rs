//! The name of one request, in logs, refusals and upstream headers. Unique, not secret: it is made from a
//! fast generator of the thread, seeded by the system, so that no request pays for a system call.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use http::HeaderValue;

/// The id of a request: 32 lower-case hex digits of our own, or what a trusted proxy gave.
#[derive(Clone, Copy)]
pub struct RequestId {
    bytes: [u8; MAX],
    len: u8,
}

impl RequestId {
    /// A fresh id of 128 random bits.
    pub fn mint() -> Self {
        let mut bytes = [0; MAX];
        for (half, number) in [draw(), draw()].into_iter().enumerate() {
            for (at, byte) in number.to_be_bytes().into_iter().enumerate() {
                let place = half * 16 + at * 2;
                bytes[place] = HEX[usize::from(byte >> 4)];
                bytes[place + 1] = HEX[usize::from(byte & 15)];
            }
        }
        Self { bytes, len: 32 }
    }

    /// The id that a trusted proxy gave: 1 to 64 of `A-Z a-z 0-9 . _ -`. Anything else is not taken over,
    /// so that no client can write into a log or a header through it.
    pub fn adopt(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if text.is_empty() || text.len() > MAX || !text.bytes().all(plain) {
            return None;
        }
        let mut bytes = [0; MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        let len = u8::try_from(text.len()).ok()?;
        Some(Self { bytes, len })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // The bytes are ASCII by construction; the empty text can not come out.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The id for a header.
    pub fn header_value(&self) -> HeaderValue {
        // Visible ASCII by construction, so this can not fail.
        HeaderValue::from_bytes(self.as_bytes())
            .unwrap_or_else(|_| HeaderValue::from_static("invalid"))
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The next number of this thread's generator (SplitMix64).
fn draw() -> u64 {
    STATE.with(|state| {
        let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31) ^ SALT.with(Cell::get)
    })
}

/// A seed from the system; where it has none to give, from std's hasher keys, which differ by thread.
fn seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| RandomState::new().hash_one(std::thread::current().id()))
}

thread_local! {
    static STATE: Cell<u64> = Cell::new(seed());
    /// A second seed: two threads would have to agree in 128 bits to make the same ids.
    static SALT: Cell<u64> = Cell::new(seed());
}

const MAX: usize = 64;
const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_fresh_id_is_32_lower_hex_digits() {
        let id = RequestId::mint();
        assert_eq!(id.as_str().len(), 32);
        assert!(id.as_str().bytes().all(|byte| HEX.contains(&byte)));
        assert_eq!(id.header_value(), id.as_str());
    }

    #[test]
    fn ids_differ_within_a_thread_and_between_threads() {
        let make = || {
            (0..2000)
                .map(|_| RequestId::mint().to_string())
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(make)).collect();
        let ids: HashSet<String> = threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("the thread ends"))
            .collect();
        assert_eq!(ids.len(), 8000);
    }

    #[test]
    fn only_plain_ids_of_a_proxy_are_taken_over() {
        let long = "a".repeat(64);
        for good in ["a", "4bf92f35-77b3.4d_A", &long] {
            assert_eq!(
                RequestId::adopt(good).map(|id| id.to_string()).as_deref(),
                Some(good)
            );
        }
        for bad in ["", "a b", "a\r\nx: y", "ä", "a\"b", &"a".repeat(65)] {
            assert!(RequestId::adopt(bad).is_none(), "{bad:?}");
        }
    }
}
