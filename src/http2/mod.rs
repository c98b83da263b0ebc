//! What a client's stream of HTTP/2 (RFC 9113) is to its request: `stream.rs` has what may be said over it beside
//! the one answer, `tunnel.rs` is the stream as a connection of another protocol, `receiving.rs` the request's body.
//! `server/http2/` serves the connection that it belongs to.

pub mod receiving;
pub mod stream;
pub mod tunnel;
