//! Issuers and their keys.
