//! (to come)

pub mod sse;
pub mod websocket;
