//! Memory for bytes on their way, lent by the thread: a connection has a buffer only while it has bytes to
//! pass, so that an idle one holds none.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// A buffer of `SIZE` bytes; goes back to its thread when dropped.
#[derive(Debug)]
pub struct Buffer(Box<[u8]>);

impl Buffer {
    /// Borrows one.
    pub fn borrow() -> Self {
        let spare = SPARE.with_borrow_mut(Vec::pop);
        Self(spare.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice()))
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // At a thread's end its spares may be gone already; then the buffer goes too.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MOST_SPARE {
                spare.push(buffer);
            }
        });
    }
}

/// Bytes that are gathered to be written at once. Its memory is lent too: it has some only while it has bytes.
#[derive(Debug, Default)]
pub struct Scratch(Vec<u8>);

impl Scratch {
    /// To write behind what is there.
    pub fn gather(&mut self) -> &mut Vec<u8> {
        if self.0.capacity() == 0 {
            let spare = SCRATCH.with_borrow_mut(Vec::pop);
            self.0 = spare.unwrap_or_else(|| Vec::with_capacity(USUAL));
        }
        &mut self.0
    }

    /// Lets go of the bytes, and gives the memory back.
    pub fn clear(&mut self) {
        let mut bytes = std::mem::take(&mut self.0);
        if bytes.capacity() == 0 || bytes.capacity() > SIZE {
            return;
        }
        bytes.clear();
        let _ = SCRATCH.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MOST_SCRATCH {
                spare.push(bytes);
            }
        });
    }
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.clear();
    }
}

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static SCRATCH: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Room for a 16 KiB message with its header, and for a batch of small ones.
pub const SIZE: usize = 32 * 1024;
/// Room for a head and a small body.
const USUAL: usize = 8 * 1024;
/// How many buffers a thread keeps. More are in use only while that many peers are slow to read.
const MOST_SPARE: usize = 16;
/// The same of what is gathered: of a crowd each has some until its turn (`turns.rs`).
const MOST_SCRATCH: usize = 64;
