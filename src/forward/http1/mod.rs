//! HTTP/1.1 towards upstreams, on the socket itself: no task, no channel and no buffer for a connection that
//! waits. `head.rs` writes a request's head and reads an answer's, `sending.rs` writes a request, `reading.rs`
//! reads an answer's body; framing and fields are those of `crate::http1`.

pub mod head;
pub mod reading;
pub mod sending;

#[cfg(test)]
mod tests;
