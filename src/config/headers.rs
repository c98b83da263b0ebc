//! Which header names a configuration may put to a use of its own, `[identity]`, and `[route.headers]`.

use http::{HeaderName, HeaderValue};

use super::named::Named;
use super::raw::Table;
use super::source::{Node, Text};
use super::units::{self, Wrong};
use super::{ClaimPath, Issuer, Source};

/// `[identity]`: the headers that tell the upstream who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeaders {
    /// Carries `guest`, `authenticated` or `invalid_token`.
    pub status_header: HeaderName,
    /// Carries the request id.
    pub request_id_header: HeaderName,
    /// Carries the signed assertion; nobody else may send it, also where nothing is signed.
    pub assertion_header: HeaderName,
    /// Header and claim, defaults merged in.
    pub headers: Vec<(HeaderName, ClaimPath)>,
}

impl IdentityHeaders {
    /// The names of all headers that only the gateway may set.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        let fixed = [
            &self.status_header,
            &self.request_id_header,
            &self.assertion_header,
        ];
        let claims = self.headers.iter().map(|(name, _)| name);
        fixed.into_iter().chain(claims)
    }
}

/// `[route.headers]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct HeaderRules {
    pub request_set: Vec<(HeaderName, HeaderValue)>,
    pub request_remove: Vec<HeaderName>,
    pub response_set: Vec<(HeaderName, HeaderValue)>,
    pub response_remove: Vec<HeaderName>,
}

/// The default identity headers and their claims.
const DEFAULTS: [(&str, &str); 5] = [
    ("x-user-id", "sub"),
    ("x-user-email", "email"),
    ("x-user-role", "role"),
    ("x-user-anonymous", "is_anonymous"),
    ("x-session-id", "session_id"),
];

/// Headers that steer the connection, the message's framing, the gateway's own account of the client,
/// or a login: neither an identity nor a token may travel under such a name.
const RESERVED: [&str; 34] = [
    "accept",
    "accept-encoding",
    "alt-svc",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "last-event-id",
    "max-forwards",
    "origin",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "www-authenticate",
    "x-real-ip",
];

/// Of those, what `[route.headers]` may not touch: it would break the message or its way.
const FRAMING: [&str; 15] = [
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Whether `name` has a meaning of its own, whichever way an upstream spells it.
pub(super) fn is_reserved(name: &HeaderName) -> bool {
    stands_in(&RESERVED, name)
}

fn stands_in(list: &[&str], name: &HeaderName) -> bool {
    let name = folded(name);
    list.contains(&name.as_str()) || name.starts_with("sec-") || name.starts_with("x-forwarded-")
}

/// `name` as CGI-like upstreams see it: `_` and `-` are one.
fn folded(name: &HeaderName) -> String {
    name.as_str().replace('_', "-")
}

/// What an upstream decides by: it may not rest on what users write themselves.
const DECISIVE: [&str; 4] = [
    "x-user-id",
    "x-user-role",
    "x-user-anonymous",
    "x-session-id",
];

/// Reads `[identity]`. The assertion's header is one of the gateway's own as well.
pub(super) fn identity(
    mut table: Table<'_>,
    (sources, assertion_header): (&[Source], HeaderName),
    issuers: &Named<Issuer>,
) -> IdentityHeaders {
    let trusting = issuers.iter().all(|(_, issuer)| issuer.trust_user_metadata);
    let status = table.text("status_header", own_header);
    let request_id = table.text("request_id_header", own_header);
    let mut headers: Vec<(HeaderName, ClaimPath)> = DEFAULTS
        .iter()
        .filter_map(|(name, claim)| {
            Some((HeaderName::from_static(name), units::claim(claim).ok()?))
        })
        .collect();
    for (name, node, claim) in table.text_members("headers") {
        identity_header(&table, &mut headers, (name, node, claim));
        let members = units::claim(&claim.value).is_ok_and(|claim| claim.is_user_metadata());
        if members && !trusting && DECISIVE.contains(&&*name.to_lowercase()) {
            let what = format!("`{name}` rests on user_metadata, which users can write themselves");
            let mend = "use app_metadata, or set trust_user_metadata = true on every issuer";
            table.note(node.line, &what, mend);
        }
    }
    let identity = IdentityHeaders {
        status_header: status.unwrap_or(HeaderName::from_static("x-auth-status")),
        request_id_header: request_id.unwrap_or(HeaderName::from_static("x-request-id")),
        assertion_header,
        headers,
    };
    names_are_apart(&table, &identity, sources);
    identity
}

/// One entry of `[identity.headers]`: replaces, adds, or with an empty claim removes.
fn identity_header(
    table: &Table<'_>,
    headers: &mut Vec<(HeaderName, ClaimPath)>,
    (name, node, claim): (&str, &Node, &Text),
) {
    let header = match own_header(name) {
        Ok(header) => header,
        Err(wrong) => {
            table.note(node.line, &format!("`{name}` {}", wrong.what), wrong.mend);
            return;
        }
    };
    if claim.value.is_empty() {
        headers.retain(|(known, _)| *known != header);
        return;
    }
    let Some(claim) = table.understand(node, claim, name, units::claim) else {
        return;
    };
    match headers.iter_mut().find(|(known, _)| *known == header) {
        Some((_, known)) => *known = claim,
        None => headers.push((header, claim)),
    }
}

/// The name of a header that only the gateway sets.
pub(super) fn own_header(text: &str) -> Result<HeaderName, Wrong> {
    let name = units::header_name(text)?;
    if is_reserved(&name) {
        return Err(Wrong::new(
            "is a header with a meaning of its own",
            "choose a header of your own: \"x-user-id\"",
        ));
    }
    Ok(name)
}

/// No two identity headers, and no identity header and token header, may look alike to an upstream.
fn names_are_apart(table: &Table<'_>, identity: &IdentityHeaders, sources: &[Source]) {
    let mut seen: Vec<String> = sources
        .iter()
        .filter_map(|source| match source {
            Source::Header(name) => Some(folded(name)),
            _ => None,
        })
        .collect();
    for name in identity.names() {
        let name = folded(name);
        if seen.contains(&name) {
            table.problem(
                "headers",
                &format!("the header {name} has two meanings"),
                "give identity headers, status_header, request_id_header, the assertion's and token headers names of their own",
            );
        }
        seen.push(name);
    }
}

/// Reads `[route.headers]`.
pub(super) fn rules(mut table: Table<'_>, identity: &IdentityHeaders) -> HeaderRules {
    let refused: Vec<String> = identity.names().map(folded).collect();
    let usable = |text: &str| usable(text, &refused);
    HeaderRules {
        request_set: set(&mut table, "request_set", usable),
        request_remove: table.texts("request_remove", usable).unwrap_or_default(),
        response_set: set(&mut table, "response_set", usable),
        response_remove: table.texts("response_remove", usable).unwrap_or_default(),
    }
}

fn usable(text: &str, identity: &[String]) -> Result<HeaderName, Wrong> {
    let name = units::header_name(text)?;
    if stands_in(&FRAMING, &name) {
        return Err(Wrong::new(
            "is a header that only the gateway itself may set or remove",
            "leave it out",
        ));
    }
    if identity.contains(&folded(&name)) {
        return Err(Wrong::new(
            "is an identity header",
            "change it in [identity], for every route",
        ));
    }
    Ok(name)
}

/// Headers and their values; a value may be an upstream's key and is never shown.
fn set(
    table: &mut Table<'_>,
    key: &'static str,
    usable: impl Fn(&str) -> Result<HeaderName, Wrong>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut set = Vec::new();
    for (name, node, text) in table.text_members(key) {
        match (usable(name), HeaderValue::from_str(&text.value)) {
            (Ok(name), Ok(value)) => set.push((name, value)),
            (Err(wrong), _) => {
                table.note(
                    node.line,
                    &format!("`{key}`: \"{name}\" {}", wrong.what),
                    wrong.mend,
                );
            }
            (_, Err(_)) => {
                let what = format!("`{key}`: the value of {name} cannot stand in a header");
                table.note(node.line, &what, "write visible ASCII on one line");
            }
        }
    }
    set
}
