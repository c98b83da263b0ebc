//! Reads `[[issuer]]`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;

use super::ClaimPath;
use super::check::seconds;
use super::named::Named;
use super::raw::{Table, suggest};
use super::secrets::{self, Encoding};
use super::units::{self, Wrong};
use crate::secret::Secret;

/// `[[issuer]]`: whose tokens are honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Issuer {
    pub name: Box<str>,
    pub iss: Box<str>,
    pub audience: Vec<Box<str>>,
    /// Never empty; of one family with the key source.
    pub algorithms: Vec<Algorithm>,
    pub keys: KeySource,
    pub roles: Vec<ClaimPath>,
    pub trust_user_metadata: bool,
}

/// Where an issuer's keys come from. Files were read at check; a reload reads them again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A shared secret, decoded; at least 32 bytes.
    Secret(Secret<Arc<[u8]>>),
    /// A public key or certificate as PEM text.
    PublicKey(Arc<str>),
    /// A JWKS document as JSON text.
    JwksFile(Arc<str>),
    /// A JWKS by URL.
    JwksUrl(JwksUrl),
    /// The gateway's own, from its store.
    Own,
}

/// `jwks_url` and its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct JwksUrl {
    /// `https://`, or `http://` to a loopback address.
    pub url: Box<str>,
    pub cache_file: Option<PathBuf>,
    pub refresh: Duration,
    pub min_interval: Duration,
    pub timeout: Duration,
    pub max_stale: Duration,
}

const ALGORITHMS: [(&str, Algorithm); 12] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// The keys that each say where an issuer's keys come from.
const KEY_SOURCES: [&str; 5] = [
    "secret",
    "secret_file",
    "public_key_file",
    "jwks_file",
    "jwks_url",
];

/// Reads every `[[issuer]]`.
pub(super) fn issuers(top: &mut Table<'_>) -> Named<Issuer> {
    let mut seen: Vec<Box<str>> = Vec::new();
    Named::read(top.tables("issuer"), |table, name| {
        let iss = table.text("iss", units::filled);
        if let Some(iss) = &iss {
            if seen.contains(iss) {
                table.problem(
                    "iss",
                    "`iss` is another issuer's",
                    "one [[issuer]] for each iss claim; several keys go into one JWKS",
                );
            }
            seen.push(iss.clone());
        }
        issuer(table, name, iss)
    })
}

fn issuer(table: &mut Table<'_>, name: Box<str>, iss: Option<Box<str>>) -> Option<Issuer> {
    let audience = table.texts("audience", units::filled);
    let algorithms = table.texts("algorithms", algorithm);
    let keys = key_source(table);
    let roles = table.texts("roles", units::claim);
    let trust_user_metadata = table.flag("trust_user_metadata").unwrap_or(false);
    table.require("iss", "\"https://…\"");
    table.require("audience", "[\"authenticated\"], or [] to accept any");
    table.require("algorithms", "[\"…\"]");
    let roles = roles.unwrap_or_else(default_roles);
    if !trust_user_metadata && roles.iter().any(ClaimPath::is_user_metadata) {
        table.problem(
            "roles",
            "`roles` rests on user_metadata, which users can write themselves",
            "use app_metadata, or set trust_user_metadata = true if this issuer's users cannot",
        );
    }
    let algorithms = algorithms?;
    fits(table, &algorithms, keys.as_ref());
    Some(Issuer {
        name,
        iss: iss?,
        audience: audience?,
        algorithms,
        keys: keys?,
        roles,
        trust_user_metadata,
    })
}

fn default_roles() -> Vec<ClaimPath> {
    [&["role"][..], &["app_metadata", "roles"]]
        .into_iter()
        .map(|path| ClaimPath(path.iter().map(|member| (*member).into()).collect()))
        .collect()
}

fn algorithm(text: &str) -> Result<Algorithm, Wrong> {
    if text.eq_ignore_ascii_case("none") {
        let what = "would accept tokens that nobody signed";
        return Err(Wrong::new(
            what,
            "name the algorithm that the issuer signs with",
        ));
    }
    let known = ALGORITHMS.iter().find(|(word, _)| *word == text);
    known.map(|(_, algorithm)| *algorithm).ok_or_else(|| {
        let words: Vec<_> = ALGORITHMS.iter().map(|(word, _)| *word).collect();
        Wrong::new("is not an algorithm", suggest(text, &words))
    })
}

/// HMAC with a shared secret only, and nothing else with one: a public key must never verify an HMAC.
fn fits(table: &Table<'_>, algorithms: &[Algorithm], keys: Option<&KeySource>) {
    if algorithms.is_empty() {
        table.problem("algorithms", "`algorithms` is empty", "name one at least");
    }
    let hmac = |algorithm: &Algorithm| {
        matches!(
            algorithm,
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512
        )
    };
    let shared = matches!(keys, Some(KeySource::Secret(_)));
    for algorithm in algorithms {
        if keys.is_none() || hmac(algorithm) == shared {
            continue;
        }
        let what = format!("`algorithms`: {algorithm:?} does not go with this issuer's keys");
        let mend = match shared {
            true => "a shared secret verifies HS256, HS384 and HS512",
            false => "HS256, HS384 and HS512 need `secret` or `secret_file`",
        };
        table.problem("algorithms", &what, mend);
    }
    if let Some(KeySource::Secret(secret)) = keys {
        long_enough(table, algorithms, secret.expose().len());
    }
}

/// RFC 7518 §3.2 wants a secret as long as the hash; 32 bytes are out of reach all the same.
fn long_enough(table: &Table<'_>, algorithms: &[Algorithm], length: usize) {
    for (algorithm, wanted) in [(Algorithm::HS384, 48), (Algorithm::HS512, 64)] {
        if algorithms.contains(&algorithm) && length < wanted {
            let what = format!("{algorithm:?} wants a secret of {wanted} bytes; this has {length}");
            table.warning(
                "algorithms",
                &what,
                "make it longer: openssl rand -base64 64",
            );
        }
    }
}

fn key_source(table: &mut Table<'_>) -> Option<KeySource> {
    let report = table.report;
    let encoding = table
        .choice("secret_encoding", &secrets::ENCODINGS)
        .unwrap_or(Encoding::Text);
    let secret = table.own_secret("secret", |text| secrets::shared(text, encoding));
    let secret_file = table.secret("secret_file", |name| {
        let text = secrets::secret_file(report, name)?;
        secrets::shared(&text, encoding)
    });
    let public_key = table.text("public_key_file", |name| secrets::public_key(report, name));
    let jwks_file = table.text("jwks_file", |name| secrets::jwks(report, name));
    let jwks_url = jwks_url(table);
    let given: Vec<_> = KEY_SOURCES.iter().filter(|key| table.has(key)).collect();
    match given.as_slice() {
        [] => table.note(
            table.line,
            "there is no key source",
            format!("add one of {}", KEY_SOURCES.join(", ")),
        ),
        [_] => {}
        [first, second, ..] => table.problem(
            second,
            &format!("`{second}` is a second key source beside `{first}`"),
            "leave exactly one; another key of the same issuer goes into its JWKS",
        ),
    }
    only_with(table, &["secret_encoding"], &["secret", "secret_file"]);
    only_with(table, &JWKS_SETTINGS, &["jwks_url"]);
    secret
        .or(secret_file)
        .map(KeySource::Secret)
        .or(public_key.map(KeySource::PublicKey))
        .or(jwks_file.map(KeySource::JwksFile))
        .or(jwks_url.map(KeySource::JwksUrl))
}

const JWKS_SETTINGS: [&str; 5] = [
    "jwks_cache_file",
    "jwks_refresh",
    "jwks_min_interval",
    "jwks_timeout",
    "jwks_max_stale",
];

/// A setting without what it sets is a mistake that would go unseen.
fn only_with(table: &Table<'_>, settings: &[&str], sources: &[&str]) {
    if sources.iter().any(|source| table.has(source)) {
        return;
    }
    for key in settings.iter().filter(|key| table.has(key)) {
        let what = format!("`{key}` does nothing without `{}`", sources[0]);
        table.problem(key, &what, "remove it");
    }
}

fn jwks_url(table: &mut Table<'_>) -> Option<JwksUrl> {
    let report = table.report;
    let url = table.secret("jwks_url", url);
    let cache_file = table.text("jwks_cache_file", |name| {
        units::filled(name)?;
        Ok(report.beside(name))
    });
    let refresh = table.duration("jwks_refresh").unwrap_or(seconds(600));
    let min_interval = table.duration("jwks_min_interval").unwrap_or(seconds(30));
    let timeout = table.duration("jwks_timeout").unwrap_or(seconds(5));
    let max_stale = table.duration("jwks_max_stale").unwrap_or(seconds(86_400));
    if max_stale < refresh {
        table.problem(
            "jwks_max_stale",
            "`jwks_max_stale` is shorter than `jwks_refresh`",
            "keys would be thrown away before they are fetched again; make it longer",
        );
    }
    Some(JwksUrl {
        url: url?,
        cache_file,
        refresh,
        min_interval,
        timeout,
        max_stale,
    })
}

/// `https://`, or `http://` to this machine. Keys that come over an open wire are anybody's keys.
pub(super) fn url(text: &str) -> Result<Box<str>, Wrong> {
    const EXAMPLE: &str = "write \"https://issuer.example/.well-known/jwks.json\"";
    let url = reqwest::Url::parse(text).map_err(|_| Wrong::new("is not a URL", EXAMPLE))?;
    let host = url.host_str().unwrap_or_default();
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    let address = address.map(|address| address.to_canonical());
    let local = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if local => {}
        "http" => return Err(Wrong::new("is http to another machine", "use https")),
        _ => return Err(Wrong::new("is neither https nor http", EXAMPLE)),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Wrong::new("holds a user or a password", "leave them out"));
    }
    if url.fragment().is_some() {
        return Err(Wrong::new("holds a fragment", "leave # and the rest out"));
    }
    if address.is_some_and(is_nowhere) {
        return Err(Wrong::new(
            "points to a link-local or meaningless address",
            "give the issuer's own address",
        ));
    }
    Ok(url.as_str().into())
}

/// Link-local (where clouds serve their secrets), unspecified, multicast.
fn is_nowhere(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    link_local || address.is_unspecified() || address.is_multicast()
}
