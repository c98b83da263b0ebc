//! How each place spells a token, and how it is cut out of there with every other byte left as it was.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE, Entry, HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::uri::{PathAndQuery, Uri};

use super::credential::TICKET_PREFIX;

/// Whether this can be a token at all: RFC 6750's `b64token`.
pub(super) fn is_token(text: &[u8]) -> bool {
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    let body = &text[..text.len() - padding];
    // No early way out and no branch: with both, a token of 550 bytes took a fifth of a request's
    // instructions (9,800); this way it takes 1,300.
    !body.is_empty()
        & body
            .iter()
            .fold(true, |sound, &byte| sound & is_plain(byte))
}

/// Letters, digits and `-._~+/`; `-` to `9` stand side by side in ASCII.
fn is_plain(byte: u8) -> bool {
    let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    letter | (byte.wrapping_sub(b'-') < 13) | (byte == b'_') | (byte == b'~') | (byte == b'+')
}

/// What stands behind `Bearer` and one space. `None` for another scheme, which is not ours. What only looks
/// like ours (`Bearer` alone or run together, nothing at all, a list with another scheme in front) is
/// given as something that is no token.
pub(super) fn bearer(value: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = after_scheme(value) {
        return Some(rest.strip_prefix(b" ").unwrap_or_default());
    }
    let mut parts = value.split(|&byte| byte == b',').skip(1);
    let hidden = parts.any(|part| after_scheme(part.trim_ascii_start()).is_some());
    (value.is_empty() || hidden).then_some(b"")
}

fn after_scheme(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(b"bearer".len())?;
    scheme.eq_ignore_ascii_case(b"bearer").then_some(rest)
}

/// Removes `Authorization` where it holds a credential of ours; other schemes stay for the upstream.
pub(super) fn remove_bearer(headers: &mut HeaderMap) {
    let ours = headers
        .get_all(AUTHORIZATION)
        .iter()
        .any(|value| bearer(value.as_bytes()).is_some());
    if ours {
        headers.remove(AUTHORIZATION);
    }
}

/// The decoded values of the parameters called `names`. A value with a broken escape comes as it stands,
/// and is no token.
pub(super) fn query_values<'a>(
    query: &'a str,
    names: &'a [Box<str>],
) -> impl Iterator<Item = Cow<'a, [u8]>> {
    query.split('&').filter_map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        is_named(name, names).then(|| decode(value).unwrap_or(Cow::Borrowed(value.as_bytes())))
    })
}

/// The tickets in a query. A parameter that is called so and is none of ours is the upstream's own.
pub(super) fn tickets(query: &str) -> impl Iterator<Item = Cow<'_, [u8]>> {
    query.split('&').filter_map(ticket)
}

/// The query without tickets; `None` where there are none.
pub(super) fn without_tickets(query: &str) -> Option<String> {
    without(query, |pair| ticket(pair).is_some())
}

fn ticket(pair: &str) -> Option<Cow<'_, [u8]>> {
    let (name, value) = pair.split_once('=')?;
    let value = decode(value).unwrap_or(Cow::Borrowed(value.as_bytes()));
    let ours = *decode(name)? == *TICKET && value.starts_with(TICKET_PREFIX.as_bytes());
    ours.then_some(value)
}

/// The query without the parameters called `names`; `None` where there are none.
pub(super) fn without_values(query: &str, names: &[Box<str>]) -> Option<String> {
    without(query, |pair| {
        is_named(pair.split('=').next().unwrap_or(pair), names)
    })
}

fn without(query: &str, is_ours: impl Fn(&str) -> bool) -> Option<String> {
    let ours = |pair: &&str| is_ours(pair);
    query.split('&').find(ours)?;
    let mut kept = String::with_capacity(query.len());
    for (at, pair) in query.split('&').filter(|pair| !ours(pair)).enumerate() {
        if at > 0 {
            kept.push('&');
        }
        kept.push_str(pair);
    }
    Some(kept)
}

/// The target with this query; with none where it is empty.
pub(super) fn with_query(uri: &Uri, query: &str) -> Uri {
    let path = uri.path();
    let text = match query {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    };
    // Cut from a valid target, so it is one; if not, a target without any query leaks nothing.
    let target = PathAndQuery::try_from(text).or_else(|_| PathAndQuery::try_from(path));
    let target = target.unwrap_or_else(|_| PathAndQuery::from_static("/"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.clone());
    Uri::from_parts(parts).unwrap_or_else(|_| Uri::from(target))
}

/// The values of the cookies called `names` in one `Cookie` line.
pub(super) fn cookie_values<'a>(
    line: &'a [u8],
    names: &'a [Box<str>],
) -> impl Iterator<Item = &'a [u8]> {
    line.split(|&byte| byte == b';').filter_map(move |pair| {
        let (name, value) = split_cookie(pair);
        is_cookie_named(name, names).then_some(value)
    })
}

/// Removes the cookies called `names`; the others keep their bytes and their order.
pub(super) fn remove_cookies(headers: &mut HeaderMap, names: &[Box<str>]) {
    let ours = |line: &HeaderValue| cookie_values(line.as_bytes(), names).next().is_some();
    if !headers.get_all(COOKIE).iter().any(ours) {
        return;
    }
    let Entry::Occupied(lines) = headers.entry(COOKIE) else {
        return;
    };
    let lines: Vec<HeaderValue> = lines.remove_entry_mult().1.collect();
    for line in lines {
        let kept = match ours(&line) {
            true => without_cookies(line.as_bytes(), names),
            false => Some(line),
        };
        if let Some(line) = kept {
            headers.append(COOKIE, line);
        }
    }
}

/// One `Cookie` line without the cookies called `names`; `None` where nothing is left.
fn without_cookies(line: &[u8], names: &[Box<str>]) -> Option<HeaderValue> {
    let kept: Vec<&[u8]> = line
        .split(|&byte| byte == b';')
        .filter(|pair| !is_cookie_named(split_cookie(pair).0, names))
        .collect();
    let kept = kept.join(&b';');
    let kept = kept.trim_ascii();
    (!kept.is_empty())
        .then(|| HeaderValue::from_bytes(kept).ok())
        .flatten()
}

fn split_cookie(pair: &[u8]) -> (&[u8], &[u8]) {
    let at = memchr::memchr(b'=', pair).unwrap_or(pair.len());
    let value = pair.get(at + 1..).unwrap_or_default();
    (pair[..at].trim_ascii(), value.trim_ascii())
}

fn is_cookie_named(name: &[u8], names: &[Box<str>]) -> bool {
    names.iter().any(|known| known.as_bytes() == name)
}

/// What `Sec-WebSocket-Protocol` offers, `bearer` and its token apart.
pub(super) struct Subprotocols<'a> {
    /// What stands behind each `bearer`; empty where nothing does.
    pub(super) tokens: Vec<&'a str>,
    others: Vec<&'a str>,
}

impl<'a> Subprotocols<'a> {
    /// Reads all its lines as one list.
    pub(super) fn read(headers: &'a HeaderMap) -> Self {
        let mut list = Self {
            tokens: Vec::new(),
            others: Vec::new(),
        };
        let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        let mut offered = lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','))
            .map(str::trim);
        while let Some(protocol) = offered.next() {
            match protocol.eq_ignore_ascii_case("bearer") {
                true => list.tokens.push(offered.next().unwrap_or_default()),
                false => list.others.push(protocol),
            }
        }
        list
    }
}

/// Removes `bearer` and its token from the offer; tells whether it was there.
pub(super) fn remove_subprotocol(headers: &mut HeaderMap) -> bool {
    let list = Subprotocols::read(headers);
    if list.tokens.is_empty() {
        return false;
    }
    let kept = match list.others.is_empty() {
        true => None,
        false => HeaderValue::try_from(list.others.join(", ")).ok(),
    };
    match kept {
        Some(kept) => headers.insert(SEC_WEBSOCKET_PROTOCOL, kept),
        None => headers.remove(SEC_WEBSOCKET_PROTOCOL),
    };
    true
}

/// Whether a parameter's name, decoded once, is one of ours.
fn is_named(name: &str, names: &[Box<str>]) -> bool {
    decode(name).is_some_and(|name| names.iter().any(|known| known.as_bytes() == &*name))
}

/// The parameter that a ticket stands in.
const TICKET: &[u8] = b"ticket";

/// Decodes escapes once; `None` for a broken one.
fn decode(text: &str) -> Option<Cow<'_, [u8]>> {
    match super::path::percent_decode(text)? {
        Cow::Borrowed(text) => Some(Cow::Borrowed(text.as_bytes())),
        Cow::Owned(text) => Some(Cow::Owned(text.into_bytes())),
    }
}
