//! Behaviour seen from outside: one binary, a module per behaviour.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

mod attacks;
mod bodies;
mod config;
mod documents;
mod downstream;
mod face_app;
mod face_frame;
mod face_session;
mod face_supabase;
mod face_token;
mod framing;
mod http1;
mod http2;
mod layers;
mod leaving;
mod lifecycle;
mod limits;
mod lives;
mod own;
mod rates;
mod switching;
mod telling;
mod upstream_http2;
mod upstreams;
mod vectors;
