//! What both sides of HTTP/1.1 share (RFC 9112), on the socket itself: `framing.rs` tells where a body ends,
//! `fields.rs` reads and writes header lines, `channel.rs` is a connection with what was read ahead of it,
//! `outbox.rs` gathers what is to be written. `link.rs` is a client's connection as its request sees it.
//! The two sides stand above: `forward/http1/` speaks to upstreams, `server/http1/` to clients.

pub mod channel;
pub mod fields;
pub mod framing;
pub mod lines;
pub mod link;
pub mod outbox;

#[cfg(test)]
mod tests;

use std::io;

/// Why a message cannot be used. What is doubtful (RFC 9112 §6.3, §7.1) is an error, and its connection is
/// not used again.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// It was closed before the end.
    #[error("the connection was closed in the middle")]
    Cut,
    /// The head is not HTTP/1.
    #[error("the head is not HTTP/1: {0}")]
    Head(#[from] httparse::Error),
    /// The head is larger than it may be.
    #[error("the head is too large")]
    HeadTooLarge,
    /// Its end can be told in two ways, or in none.
    #[error("the message's length is in doubt")]
    Length,
    /// A chunk or a trailer is malformed.
    #[error("the message's chunks are malformed")]
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
