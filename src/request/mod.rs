//! What came in: the head, read once into a normalized form (`head.rs`; its parts `fields.rs`,
//! `path.rs`, `host.rs`, `upgrade.rs`), the credential taken out of it (`credential.rs`, `places.rs`), and who connected
//! (`peer.rs`).
//! Believes nothing.

pub mod credential;
mod fields;
pub mod head;
pub mod host;
pub mod path;
pub mod peer;
mod places;
pub mod upgrade;
