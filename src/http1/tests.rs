//! What both sides of HTTP/1.1 share, by tables.

mod channel;
mod framing;
