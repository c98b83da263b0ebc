//! (to come)

pub mod sse;
