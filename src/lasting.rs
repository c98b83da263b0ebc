//! Texts of the configuration that live until the process ends: the names that each request hands on to its journal,
//! and what each answer is told alike. Where references to them were counted, every request wrote into memory that
//! all workers share. Each text is kept once, however often a configuration is loaded again.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use http::{HeaderName, HeaderValue};

/// The same text, kept for good. Only for what an operator wrote, and no secret: nothing that a request brings may
/// come here.
pub fn text(text: &str) -> &'static str {
    static KEPT: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = kept.get_or_insert_default();
    if let Some(known) = kept.get(text) {
        return known;
    }
    let new: &'static str = Box::leak(text.into());
    kept.insert(new);
    new
}

/// The same name, which is cloned without counting.
pub fn name(name: &HeaderName) -> HeaderName {
    // Made from a name, so that it is one.
    HeaderName::from_static(text(name.as_str()))
}

/// The same value, which is cloned without counting; one that is a secret, or no plain text, stays as it is.
pub fn value(value: &HeaderValue) -> HeaderValue {
    match value.to_str() {
        Ok(plain) if !value.is_sensitive() && !plain.contains('\t') => {
            HeaderValue::from_static(text(plain))
        }
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once() {
        let (one, again) = (text("a route of the tests"), text("a route of the tests"));
        assert!(std::ptr::eq(one, again));
        assert_eq!(text("another"), "another");
    }

    #[test]
    fn names_and_values_stay_what_they_are() {
        for known in ["x-auth-status", "host", "x_odd.name"] {
            let known = HeaderName::from_bytes(known.as_bytes()).unwrap();
            assert_eq!(name(&known), known);
        }
        for bytes in [&b"\"all\";q=10"[..], b"", b"a\tb", b"\xe9t\xe9"] {
            let known = HeaderValue::from_bytes(bytes).unwrap();
            assert_eq!(value(&known), known);
        }
        let mut secret = HeaderValue::from_static("key");
        secret.set_sensitive(true);
        assert!(value(&secret).is_sensitive());
    }
}
