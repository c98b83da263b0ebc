//! The head of a request, normalized once: every rung above sees this and nothing else. What two readers
//! could understand differently is refused here (framing, host, method, path, upgrade).

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use h2::ext::Protocol;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{Method, Version};
use ipnet::IpNet;

use super::fields::{Fields, One};
use super::host::{Host, Hosts};
use super::path;
use super::peer::{Client, Peer};
use super::upgrade::Upgrade;
use crate::config;
use crate::refusal::{Language, Refusal};

/// What a head must keep to, compiled once from `[server]`.
#[derive(Clone, Debug)]
pub struct HeadRules {
    pub(super) http2_websocket: bool,
    hosts: Hosts,
    public_probes: bool,
    trusted_proxies: Vec<IpNet>,
    max_headers: usize,
    max_header_bytes: usize,
    max_uri: usize,
}

impl HeadRules {
    /// Compiles the rules.
    pub fn build(server: &config::Server) -> Self {
        Self {
            http2_websocket: server.http2_websocket,
            hosts: Hosts::build(&server.hosts),
            public_probes: server.public_probes,
            trusted_proxies: server.trusted_proxies.clone(),
            max_headers: server.max_headers,
            max_header_bytes: server.max_header_bytes,
            max_uri: server.max_uri,
        }
    }

    /// Whether it is asked of any host: a probe is asked of the address, by what knows no name.
    fn opens(&self, uri: &Uri) -> bool {
        self.public_probes && matches!(uri.path(), "/healthz" | "/readyz")
    }
}

/// A request's head in its one reading.
#[derive(Clone)]
pub struct Head {
    method: Method,
    host: Host,
    target: PathAndQuery,
    loose: Option<Box<str>>,
    peer: Peer,
    client: Client,
    upgrade: Upgrade,
    origin: OriginHeader,
    preflight: Option<Method>,
    event_stream: bool,
    nothing_but_events: bool,
    languages: Option<HeaderValue>,
}

/// What may be logged of a head, without the rest of it.
pub struct Logged {
    host: Host,
    target: PathAndQuery,
}

impl Logged {
    /// The host, with its port.
    pub fn host(&self) -> &str {
        self.host.as_str()
    }

    /// The path: without the query, where tokens are.
    pub fn path(&self) -> &str {
        self.target.path()
    }
}

impl From<Head> for Logged {
    fn from(head: Head) -> Self {
        Self {
            host: head.host,
            target: head.target,
        }
    }
}

/// The `Origin` header (RFC 6454 §7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginHeader {
    /// No browser sent it across sites, or no browser at all.
    Missing,
    /// One value, as it came; `null` included.
    One(HeaderValue),
    /// More than one: never a browser's.
    Several,
}

impl From<One<'_>> for OriginHeader {
    fn from(one: One<'_>) -> Self {
        match one {
            One::None => Self::Missing,
            One::Single(value) => Self::One(value.clone()),
            One::Many => Self::Several,
        }
    }
}

impl Head {
    /// Reads a head, and writes the one reading back into the request: the target in origin form with the
    /// normalized path, exactly one `Host`. So what is decided on is what is forwarded. Copies nothing of
    /// a request that is normal already; a refused one stays as it was.
    pub fn read(parts: &mut Parts, peer: Peer, rules: &HeadRules) -> Result<Self, Refusal> {
        check_size(parts, rules)?;
        let fields = Fields::gather(&parts.headers);
        check_framing(parts.version, &fields)?;
        let (method, upgrade) = read_method(parts, &fields, rules)?;
        let host = read_host(parts, &fields)?;
        if !rules.hosts.serves(host.name()) && !rules.opens(&parts.uri) {
            return Err(Refusal::HostUnknown);
        }
        let target = read_target(&parts.uri)?;
        let stated = matches!(fields.host, One::Single(value) if value == host.header());
        let head = Self {
            loose: path::loosen(target.path()),
            client: Client::find(peer, &parts.headers, &rules.trusted_proxies),
            preflight: fields.preflight(&method),
            origin: fields.origin.into(),
            event_stream: fields.accept.any(accepts_event_stream),
            nothing_but_events: fields.accept.is_all(accepts_nothing_but_events),
            languages: fields.accept_language.first().cloned(),
            method,
            host,
            target,
            peer,
            upgrade,
        };
        // Nearly always both are there as they shall be.
        if parts.uri.authority().is_some() || parts.uri.path_and_query() != Some(&head.target) {
            parts.uri = Uri::from(head.target.clone());
        }
        if !stated {
            let host = head.host.header().clone();
            parts.headers.insert(header::HOST, host);
        }
        Ok(head)
    }

    /// The method; `GET` for a WebSocket's extended `CONNECT`, because that is what it stands for.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The host that was asked for, its port apart.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The normalized path: the one that is matched and forwarded.
    pub fn path(&self) -> &str {
        self.target.path()
    }

    /// The path as a lenient upstream may read it, where that differs: see [`path::loosen`].
    pub fn loose_path(&self) -> Option<&str> {
        self.loose.as_deref()
    }

    /// What may be logged of it.
    pub fn logged(&self) -> Logged {
        Logged {
            host: self.host.clone(),
            target: self.target.clone(),
        }
    }

    /// Whether there is a query, an empty one included.
    pub fn has_query(&self) -> bool {
        self.target.query().is_some()
    }

    /// The query as it came, with whatever tokens are in it: for the gateway's own APIs alone, whose codes
    /// stand there. Never to be logged.
    pub fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// Who connected.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The client behind trusted proxies: its address, its scheme, whether the peer was believed.
    pub fn client(&self) -> Client {
        self.client
    }

    /// The client's address; `None` on a unix socket.
    pub fn client_address(&self) -> Option<IpAddr> {
        self.client.address
    }

    /// The protocol that the request asks to change to.
    pub fn upgrade(&self) -> &Upgrade {
        &self.upgrade
    }

    /// Whether it is a WebSocket handshake, in either form.
    pub fn is_websocket(&self) -> bool {
        matches!(self.upgrade, Upgrade::Websocket(_))
    }

    /// The `Origin` header.
    pub fn origin(&self) -> &OriginHeader {
        &self.origin
    }

    /// The method that a CORS preflight asks leave for: `OPTIONS` with one `Origin` and one
    /// `Access-Control-Request-Method` (Fetch §4.8). `None` for any other request.
    pub fn preflight(&self) -> Option<&Method> {
        self.preflight.as_ref()
    }

    /// Whether `Accept` names `text/event-stream`: what an `EventSource` sends.
    pub fn accepts_event_stream(&self) -> bool {
        self.event_stream
    }

    /// Whether it accepts an event stream and nothing else, as an `EventSource` does.
    pub fn accepts_nothing_but_events(&self) -> bool {
        self.nothing_but_events
    }

    /// The one of our languages that `Accept-Language` likes best; `None` if it names none of them.
    pub fn language(&self) -> Option<Language> {
        best_language(self.languages.as_ref()?)
    }
}

/// Without the query, where tokens are.
impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("method", &self.method)
            .field("host", &self.host)
            .field("path", &self.path())
            .field("client", &self.client)
            .field("upgrade", &self.upgrade)
            .finish_non_exhaustive()
    }
}

/// The same for a request whose head was refused.
pub fn language(headers: &HeaderMap) -> Option<Language> {
    best_language(headers.get(header::ACCEPT_LANGUAGE)?)
}

/// An HTTP/1.1 head was bounded as a whole; this measures it more finely, and what HTTP/2 brought.
fn check_size(parts: &Parts, rules: &HeadRules) -> Result<(), Refusal> {
    let target = parts
        .uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    let authority = parts
        .uri
        .authority()
        .map_or(0, |authority| authority.as_str().len());
    if target + authority > rules.max_uri {
        return Err(Refusal::UriTooLong);
    }
    let mut bytes = target + authority;
    for (name, value) in &parts.headers {
        bytes += name.as_str().len() + value.len() + 4;
    }
    if parts.headers.len() > rules.max_headers || bytes > rules.max_header_bytes {
        return Err(Refusal::HeadersTooLarge);
    }
    Ok(())
}

/// RFC 9112 §6: one framing, in its one spelling. Over HTTP/1.1 it was judged when it was read; over HTTP/2
/// the fields may say anything.
fn check_framing(version: Version, fields: &Fields<'_>) -> Result<(), Refusal> {
    if fields.is_garbled {
        return Err(Refusal::RequestMalformed);
    }
    let sound = match (fields.transfer_encoding, fields.content_length) {
        (One::None, One::None) => true,
        (One::None, One::Single(length)) => {
            !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit)
        }
        (One::Single(coding), One::None) => {
            version == Version::HTTP_11 && coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        }
        _ => false,
    };
    sound.then_some(()).ok_or(Refusal::RequestMalformed)
}

/// The method that is routed, and what the request wants to become.
fn read_method(
    parts: &Parts,
    fields: &Fields<'_>,
    rules: &HeadRules,
) -> Result<(Method, Upgrade), Refusal> {
    let method = &parts.method;
    if *method == Method::CONNECT {
        let protocol = parts.extensions.get::<Protocol>();
        let protocol = protocol.ok_or(Refusal::MethodRefused)?;
        let upgrade = Upgrade::read_extended(protocol.as_str(), fields, rules)?;
        return Ok((Method::GET, upgrade));
    }
    if !is_served(method) || (*method == Method::OPTIONS && parts.uri.path() == "*") {
        return Err(Refusal::MethodRefused);
    }
    let upgrade = Upgrade::read(method, parts.version, fields)?;
    Ok((method.clone(), upgrade))
}

/// Methods are case-sensitive; `get` is a method of its own that a careless upstream takes for `GET`.
/// TRACE echoes credentials; PRI is the HTTP/2 preface.
fn is_served(method: &Method) -> bool {
    match method.as_str() {
        "GET" | "POST" | "HEAD" | "PUT" | "DELETE" | "PATCH" | "OPTIONS" => true,
        "TRACE" | "TRACK" | "CONNECT" | "PRI" => false,
        other => {
            other.len() <= 32
                && other
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        }
    }
}

/// The host of the target where it has one (it replaces `Host`: RFC 9112 §3.2.2), else of `Host`.
/// HTTP/2 lets both come and they must agree (RFC 9113 §8.3.1).
fn read_host(parts: &Parts, fields: &Fields<'_>) -> Result<Host, Refusal> {
    let stated = match fields.host {
        One::Single(value) => Some(Host::read(value)?),
        One::None => None,
        One::Many => return Err(Refusal::HostInvalid),
    };
    let Some(authority) = parts.uri.authority() else {
        return stated.ok_or(Refusal::HostInvalid);
    };
    let authority = HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::HostInvalid)?;
    let authority = Host::read(&authority)?;
    match (stated, parts.version) {
        (None, Version::HTTP_2) => Ok(authority),
        (Some(stated), Version::HTTP_2) if stated.as_str() == authority.as_str() => Ok(authority),
        (Some(_), Version::HTTP_10 | Version::HTTP_11) => Ok(authority),
        _ => Err(Refusal::HostInvalid),
    }
}

/// Path and query with the path normalized; the query stays byte for byte.
fn read_target(uri: &Uri) -> Result<PathAndQuery, Refusal> {
    if let Some(scheme) = uri.scheme_str()
        && !matches!(scheme, "http" | "https")
    {
        return Err(Refusal::RequestMalformed);
    }
    let target = uri.path_and_query().ok_or(Refusal::RequestMalformed)?;
    let normal = path::normalize(target.path())?;
    if matches!(normal, Cow::Borrowed(_)) && target.as_str().starts_with('/') {
        return Ok(target.clone());
    }
    let mut text = normal.into_owned();
    if let Some(query) = target.query() {
        text.push('?');
        text.push_str(query);
    }
    PathAndQuery::try_from(text).map_err(|_| Refusal::RequestMalformed)
}

fn accepts_event_stream(accept: &HeaderValue) -> bool {
    media_ranges(accept).any(is_event_stream)
}

fn accepts_nothing_but_events(accept: &HeaderValue) -> bool {
    media_ranges(accept).all(is_event_stream)
}

fn media_ranges(accept: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let ranges = accept.as_bytes().split(|&byte| byte == b',');
    ranges.filter_map(|range| range.split(|&byte| byte == b';').next())
}

fn is_event_stream(range: &[u8]) -> bool {
    range
        .trim_ascii()
        .eq_ignore_ascii_case(b"text/event-stream")
}

fn best_language(accepted: &HeaderValue) -> Option<Language> {
    let mut best = None;
    for range in accepted.to_str().ok()?.split(',') {
        let Some((language, quality)) = read_language(range) else {
            continue;
        };
        if quality > best.map_or(0, |(_, quality)| quality) {
            best = Some((language, quality));
        }
    }
    best.map(|(language, _)| language)
}

/// One of our languages and its weight in thousandths (RFC 9110 §12.4.2).
fn read_language(range: &str) -> Option<(Language, u32)> {
    let mut parts = range.split(';').map(str::trim);
    let tag = parts.next()?;
    let language = match tag.split('-').next()? {
        primary if primary.eq_ignore_ascii_case("zh") => Language::Zh,
        primary if primary.eq_ignore_ascii_case("en") => Language::En,
        _ => return None,
    };
    let quality = match parts.find_map(|part| part.strip_prefix("q=")) {
        None => 1.0,
        Some(text) => text
            .parse::<f32>()
            .ok()
            .filter(|q| (0.0..=1.0).contains(q))?,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 1000"
    )]
    Some((language, (quality * 1000.0) as u32))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod upgrade_tests;
