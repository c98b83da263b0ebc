//! Behaviour seen from outside: one binary, a module per behaviour.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod config;
mod documents;
mod vectors;
