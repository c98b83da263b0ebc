//! HTTP/1.1 towards upstreams, on the socket itself: no task, no channel and no buffer for a connection that
//! waits. `head.rs` writes a request's head and reads an answer's, `framing.rs` tells where a body ends,
//! `sending.rs` writes a request, `channel.rs` is a connection between requests, `reading.rs` an answer's
//! body. What is doubtful in an answer (RFC 9112 §6.3, §7.1) is an error, and its connection is not used again.

pub mod channel;
pub mod framing;
pub mod head;
pub mod reading;
pub mod sending;

#[cfg(test)]
mod tests;

use std::io;

/// Why an answer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// It was closed before the end.
    #[error("the connection was closed in the middle")]
    Cut,
    /// The head is not HTTP/1.
    #[error("the head of the answer is not HTTP/1: {0}")]
    Head(#[from] httparse::Error),
    /// The head is larger than 64 KiB.
    #[error("the head of the answer is too large")]
    HeadTooLarge,
    /// Its end can be told in two ways, or in none.
    #[error("the answer's length is in doubt")]
    Length,
    /// A chunk or a trailer is malformed.
    #[error("the answer's chunks are malformed")]
    Chunk,
    /// The client failed to send its body.
    #[error("the request's body failed")]
    Upload,
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Io(error) => error,
            Fault::Cut => Self::new(io::ErrorKind::UnexpectedEof, fault),
            other => Self::new(io::ErrorKind::InvalidData, other),
        }
    }
}
