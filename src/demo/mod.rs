//! Something to try the gateway on: a small, honest image-generation service that knows nothing of users
//! (`upstream`, and the parts under it), its page, and the gateway config that `portcullis demo` puts in
//! front of it (`gateway`). Nothing here is used by `portcullis run`.

pub mod gateway;
pub mod upstream;

mod answer;
mod calls;
mod downloads;
mod events;
mod picture;
mod socket;
mod studio;
