//! One token, read and verified. Pure.
