//! Carries permitted requests to upstreams: `upstream.rs` picks an endpoint, `pool.rs` keeps connections
//! (`connect.rs` opens them; `http1/` and `http2/` speak on them), `fetch.rs` gets the head of an answer
//! (`outgoing.rs` is the request meanwhile), `headers.rs` cleans both heads,
//! `relay.rs` passes the bodies; `http.rs` is the carrier that puts these together, `sse/` and `websocket/`
//! are what it hands long-lived streams to, `listening.rs` has them
//! listened to for jobs, `expiring.rs` warns of their end, `persistent.rs` goes on when the client has left; `health.rs` asks endpoints how they are. Reads no token.

pub mod connect;
pub mod expiring;
pub mod fetch;
pub mod headers;
pub mod health;
pub mod http;
pub mod http1;
pub mod http2;
mod listening;
mod outgoing;
mod persistent;
pub mod pool;
pub mod relay;
pub mod sse;
pub mod timers;
pub mod upstream;
pub mod websocket;
