//! The carrier of WebSockets. Pure: `frames.rs` follows the frames of one direction and writes our own,
//! `pongs.rs` takes back the answers to our pings, `handshake.rs` answers a handshake. `tunnel.rs` is the
//! tunnel, made of two `flow.rs`; `switch.rs` makes it of two connections;
//! `tap.rs` listens for jobs, `refuse.rs` says no in the one way that a
//! browser's page can read. Payloads are neither unmasked nor decompressed nor re-framed.

pub mod flow;
pub mod frames;
pub mod handshake;
pub mod pongs;
pub mod refuse;
pub mod switch;
pub mod tap;
pub mod tunnel;

#[cfg(test)]
mod end_tests;
#[cfg(test)]
mod tests;
