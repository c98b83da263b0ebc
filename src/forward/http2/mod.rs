//! HTTP/2 towards upstreams (RFC 9113), by the `h2` crate: it has the frames and the windows. `connection.rs` is a
//! connection, which many requests share, each in a place of its own; `exchange.rs` is one request and its answer, on the
//! task that asked for it: when that lets go, the stream is reset at once.

pub mod connection;
pub mod exchange;

#[cfg(test)]
mod tests;

use h2::Reason;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The stream was reset, or its connection is over.
    #[error("{0}")]
    Broken(#[from] h2::Error),
    /// The client failed to send its body.
    #[error("the request's body failed")]
    Upload,
    /// It says 101, which HTTP/2 has no place for (RFC 9113 §8.6).
    #[error("the upstream switches protocols over HTTP/2")]
    Switched,
}

impl Fault {
    /// Whether the upstream surely has done nothing with the request (RFC 9113 §8.7): it refused the stream, or it went
    /// away and names the last one that it looked at, which was an earlier one. h2 tells that of such streams alone.
    pub fn is_unprocessed(&self) -> bool {
        let Self::Broken(error) = self else {
            return false;
        };
        let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        error.is_remote() && (refused || error.is_go_away())
    }

    /// Whether the connection broke off, so that nobody knows how far the upstream came.
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Broken(error) if error.is_io())
    }
}
