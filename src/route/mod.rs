//! (to come)

pub mod router;
