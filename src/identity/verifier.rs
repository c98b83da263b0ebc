//! Credential to caller.
