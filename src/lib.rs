//! Portcullis: an authentication gateway and reverse proxy.
//!
//! The modules stand in the order of the house, top-down: **a module may use only modules below it**
//! (`tests/it/layers.rs` holds that). `docs/ARCHITECTURE.md` walks through it; `gate` is the journey
//! of one request.

pub mod cli;
pub mod demo;
pub mod server;
pub mod admin;
pub mod rehearsal;
pub mod gate;
pub mod route;
pub mod resources;
pub mod faces;
pub mod openapi;
pub mod forward;
pub mod jobs;
pub mod tickets;
pub mod limits;
pub mod streams;
pub mod journal;
pub mod policy;
pub mod accounts;
pub mod identity;
pub mod store;
pub mod state;
pub mod request;
pub mod config;
pub mod refusal;
pub mod observe;
pub mod downstream;
pub mod http1;
pub mod http2;
pub mod wire;
pub mod body;
pub mod records;
pub mod lasting;
pub mod secret;
pub mod clock;
