//! What both sides of HTTP/2 (RFC 9113) share, over the `h2` crate: `receiving.rs` takes a body in, `sending.rs` sends one
//! as far as the other side has room, `gathered.rs` is the socket below, `pings.rs` asks whether the other side is there. What a client's stream is to its request:
//! `upload.rs` has the request's body, `stream.rs` what may be said over it beside the one answer, `tunnel.rs` the stream
//! as a connection of another protocol. The two sides stand above: `forward/http2/` speaks to upstreams, `server/http2/`
//! to clients.

pub mod gathered;
pub mod pings;
pub mod receiving;
pub mod sending;
pub mod stream;
pub mod tunnel;
pub mod upload;
