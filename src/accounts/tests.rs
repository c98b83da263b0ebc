//! The core over a store in a file: what happens to users, sessions and tokens.

mod codes;
mod log_in;
mod operators;
mod renew;
mod sessions;
mod users;
