//! Behaviour seen from outside: one binary, a module per behaviour.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

mod config;
mod documents;
mod downstream;
mod layers;
mod upstreams;
mod vectors;
