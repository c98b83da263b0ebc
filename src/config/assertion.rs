//! Reads `[assertion]`: what the gateway signs for upstreams, and with which key.

use std::sync::Arc;

use http::HeaderName;
use jsonwebtoken::Algorithm;

use super::check::seconds;
use super::raw::Table;
use super::{headers, secrets, units};
use crate::secret::Secret;

/// `[assertion]`: what the gateway signs for upstreams. The key file was readable and a PEM private key at
/// check; whether it fits the algorithm is seen where keys are built.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Assertion {
    /// The line of `key_file`.
    pub line: usize,
    /// The private key as PEM text.
    pub key: Secret<Arc<str>>,
    /// ES256, RS256 or EdDSA.
    pub algorithm: Algorithm,
    /// `None`: the key's thumbprint (RFC 7638).
    pub key_id: Option<Box<str>>,
    pub issuer: Box<str>,
    /// Whole seconds, at least one.
    pub ttl: u64,
    pub bind: Bind,
    pub well_known: bool,
}

/// `bind` of `[assertion]`: what an assertion is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub enum Bind {
    User,
    Request,
}

/// Reads `[assertion]`, and the header's name, which is the gateway's own also where nothing is signed.
pub(super) fn assertion(mut table: Table<'_>) -> (Option<Assertion>, HeaderName) {
    let report = table.report;
    let algorithms = [
        ("ES256", Algorithm::ES256),
        ("RS256", Algorithm::RS256),
        ("EdDSA", Algorithm::EdDSA),
    ];
    let binds = [("user", Bind::User), ("request", Bind::Request)];
    // Not shown: somebody may have put the key itself there.
    let key = table.secret("key_file", |name| secrets::signing_key(report, name));
    if table.is_given() {
        table.require("key_file", "\"assertion.pem\"");
    }
    let header = table.text("header", headers::own_header);
    let algorithm = table.choice("algorithm", &algorithms);
    let key_id = table.text("key_id", units::filled);
    let issuer = table.text("issuer", units::filled);
    let ttl = ttl(&mut table);
    let bind = table.choice("bind", &binds);
    let well_known = table.flag("well_known");
    let assertion = key.map(|key| Assertion {
        line: table.line_of("key_file"),
        key,
        algorithm: algorithm.unwrap_or(Algorithm::ES256),
        key_id,
        issuer: issuer.unwrap_or_else(|| "portcullis".into()),
        ttl,
        bind: bind.unwrap_or(Bind::User),
        well_known: well_known.unwrap_or(false),
    });
    let header = header.unwrap_or(HeaderName::from_static("x-portcullis-assertion"));
    (assertion, header)
}

/// Long enough for a slow start of the upstream's work, short enough that a leaked one is soon worthless.
fn ttl(table: &mut Table<'_>) -> u64 {
    let ttl = table.duration("ttl").unwrap_or(seconds(60));
    if ttl.subsec_nanos() > 0 || ttl > seconds(3600) {
        let what = "`ttl` must be whole seconds, at most \"1h\"";
        table.problem("ttl", what, "keep it short: \"60s\"");
    }
    ttl.as_secs()
}
