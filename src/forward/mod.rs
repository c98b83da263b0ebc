//! (to come)

pub mod headers;
pub mod sse;
pub mod websocket;
