//! The verified-token cache.
