//! Claims to identity.
