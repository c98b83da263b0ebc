//! JWKS by URL.
