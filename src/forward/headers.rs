//! What the upstream sees, and what the client sees of its answer: hop-by-hop fields cut, everything that
//! could be mistaken for our word removed, then our word put behind (`tail.rs`). Names are compared as a CGI upstream would
//! fold them: lower case, and whatever is no letter or digit as `-` (CVE-2025-64484).

mod names;
mod tail;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, COOKIE, Entry, HeaderMap, HeaderName, HeaderValue, TE, TRAILER};
use http_body::Frame;

use self::names::{Names, Verdict};
pub use self::tail::{Forwarding, Stamp, Tail};
use crate::config::{self, Credentials};
use crate::lasting;
use crate::policy::Permit;
use crate::request::head::Head;
use crate::request::peer::Client;

/// A route's header work, compiled.
#[derive(Debug)]
pub struct HeaderPlan {
    names: Arc<Names>,
    status_header: HeaderName,
    request_id_header: HeaderName,
    rules: config::HeaderRules,
}

impl HeaderPlan {
    /// Compiles a route's rules.
    pub fn build(route: &config::Route, config: &config::Config, screens: &Screens) -> Self {
        let identity = &config.identity;
        Self {
            names: Arc::clone(match route.credentials {
                Credentials::Strip => &screens.strip,
                Credentials::Pass => &screens.pass,
            }),
            status_header: lasting::name(&identity.status_header),
            request_id_header: lasting::name(&identity.request_id_header),
            rules: lasting_rules(&route.headers),
        }
    }

    /// Makes the request's headers those for the upstream, but for the tail. `Host` stays what `Head::read` made of it.
    pub fn request<'r>(
        &'r self,
        headers: &mut HeaderMap,
        head: &'r Head,
        permit: &'r Permit,
        stamp: Stamp<'r>,
    ) -> Tail<'r> {
        if self.strip_request(headers, head.client()).cookie {
            join_cookies(headers);
        }
        for name in &self.rules.request_remove {
            headers.remove(name);
        }
        set_all(headers, &self.rules.request_set);
        Tail {
            way: match head.client().trusted {
                true => {
                    tail::set_forwarding(headers, head);
                    None
                }
                false => Some((stamp.forwarding, head.host().header())),
            },
            caller: permit.identity().map(|identity| &identity.headers),
            status: (&self.status_header, permit.status()),
            id: (&self.request_id_header, stamp.id),
        }
    }

    /// Makes the answer's headers those for the client.
    pub fn response(&self, headers: &mut HeaderMap) {
        let (mut doomed, mut seen) = (Doomed::default(), Seen::default());
        for name in headers.keys() {
            seen.note(name);
            if names::is_hop_by_hop(name) {
                doomed.add(name);
            }
        }
        if seen.connection {
            drop_nominated(headers, names::is_kept);
        }
        doomed.remove_from(headers);
        for name in &self.rules.response_remove {
            headers.remove(name);
        }
        set_all(headers, &self.rules.response_set);
    }

    /// One pass finds what must go; a request where nothing must allocates nothing.
    fn strip_request(&self, headers: &mut HeaderMap, client: Client) -> Seen {
        let (mut doomed, mut seen) = (Doomed::default(), Seen::default());
        for name in headers.keys() {
            seen.note(name);
            match self.names.judge(name.as_str()) {
                Verdict::Keep => {}
                Verdict::Forwarding if client.trusted => {}
                Verdict::Drop | Verdict::Forwarding => doomed.add(name),
            }
        }
        let wants_trailers = seen.te && headers.get_all(TE).iter().any(names_trailers);
        // Before ours are put in, so that `Connection` can never name one of them (CVE-2024-45410).
        if seen.connection {
            drop_nominated(headers, |name| {
                self.names.judge(name) != Verdict::Keep || names::is_kept(name)
            });
        }
        doomed.remove_from(headers);
        if wants_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        let names_others = |names: &HeaderValue| !announces_allowed(names);
        if seen.trailer && headers.get_all(TRAILER).iter().any(names_others) {
            headers.remove(TRAILER);
        }
        seen
    }
}

/// The names that must not pass. They are the same for all routes but for this difference; each building its
/// own from the sources of all took ten thousand routes 20 seconds and 40 MB.
#[derive(Debug)]
pub struct Screens {
    strip: Arc<Names>,
    pass: Arc<Names>,
}

impl Screens {
    /// Compiles them once for a configuration.
    pub fn build(config: &config::Config) -> Self {
        Self {
            strip: Arc::new(Names::build(Credentials::Strip, config)),
            pass: Arc::new(Names::build(Credentials::Pass, config)),
        }
    }
}

/// Which of the fields that call for a closer look are there at all. Noted in a pass that is made anyway:
/// looking them up cost 120 instructions each.
#[derive(Clone, Copy, Default)]
struct Seen {
    connection: bool,
    te: bool,
    trailer: bool,
    cookie: bool,
}

impl Seen {
    fn note(&mut self, name: &HeaderName) {
        match *name {
            header::CONNECTION => self.connection = true,
            TE => self.te = true,
            TRAILER => self.trailer = true,
            COOKIE => self.cookie = true,
            _ => {}
        }
    }
}

/// Keeps an answer out of caches and its address out of `Referer`: for requests whose token stood in the
/// query (RFC 6750 §2.3).
pub fn hide_query_token(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
}

/// Leaves in a request's trailers only what is known to be harmless there: checksums and signatures of the
/// body. An upstream that merges trailers into the head must not get an identity out of them.
pub fn clean_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    filter_trailers(frame, |name| names::is_allowed_trailer(name.as_str()))
}

/// Leaves out of an answer's trailers what would frame or route a message (RFC 9110 §6.5.1).
pub fn clean_answer_trailers(frame: Frame<Bytes>) -> Frame<Bytes> {
    filter_trailers(frame, |name| !names::is_framing(name))
}

fn filter_trailers(frame: Frame<Bytes>, allowed: fn(&HeaderName) -> bool) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            let mut doomed = Doomed::default();
            let refused = trailers.keys().filter(|name| !allowed(name));
            refused.for_each(|name| doomed.add(name));
            doomed.remove_from(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// Names to be removed; the first eight need no allocation.
#[derive(Default)]
struct Doomed {
    first: [Option<HeaderName>; 8],
    len: usize,
    more: Vec<HeaderName>,
}

impl Doomed {
    fn add(&mut self, name: &HeaderName) {
        match self.first.get_mut(self.len) {
            Some(place) => *place = Some(name.clone()),
            None => self.more.push(name.clone()),
        }
        self.len += 1;
    }

    fn remove_from(self, headers: &mut HeaderMap) {
        for name in self.first.iter().flatten().chain(&self.more) {
            headers.remove(name);
        }
    }
}

/// Removes the fields that `Connection` names, but for those that `is_protected` (RFC 9110 §7.6.1).
fn drop_nominated(headers: &mut HeaderMap, is_protected: impl Fn(&str) -> bool) {
    let mut doomed = Doomed::default();
    for value in headers.get_all(header::CONNECTION) {
        for token in value.as_bytes().split(|&byte| byte == b',') {
            let token = token.trim_ascii();
            if is_option(token) {
                continue;
            }
            if let Ok(name) = HeaderName::from_bytes(token)
                && headers.contains_key(&name)
                && !is_protected(name.as_str())
            {
                doomed.add(&name);
            }
        }
    }
    doomed.remove_from(headers);
}

/// The options that every client sends, which name no field that would not go anyway.
fn is_option(token: &[u8]) -> bool {
    [&b"keep-alive"[..], b"close", b"upgrade", b"te"]
        .iter()
        .any(|option| token.eq_ignore_ascii_case(option))
}

fn names_trailers(te: &HeaderValue) -> bool {
    let codings = te.as_bytes().split(|&byte| byte == b',');
    codings
        .map(<[u8]>::trim_ascii)
        .any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

fn announces_allowed(value: &HeaderValue) -> bool {
    let names = value.to_str().unwrap_or("?").split(',').map(str::trim);
    names
        .map(str::to_ascii_lowercase)
        .all(|name| names::is_allowed_trailer(&name))
}

/// HTTP/2 sends cookies apart; HTTP/1.1 has one line (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]));
    if let (Ok(joined), Entry::Occupied(mut line)) = (joined, headers.entry(COOKIE)) {
        line.insert(joined);
    }
}

/// The same rules, whose names, and what every client may see of them, are cloned without counting.
fn lasting_rules(rules: &config::HeaderRules) -> config::HeaderRules {
    let name = |(name, value): &(HeaderName, HeaderValue)| (lasting::name(name), value.clone());
    let both =
        |(name, value): &(HeaderName, HeaderValue)| (lasting::name(name), lasting::value(value));
    config::HeaderRules {
        request_set: rules.request_set.iter().map(name).collect(),
        response_set: rules.response_set.iter().map(both).collect(),
        ..rules.clone()
    }
}

fn set_all(headers: &mut HeaderMap, fields: &[(HeaderName, HeaderValue)]) {
    for (name, value) in fields {
        headers.insert(name.clone(), value.clone());
    }
}

#[cfg(test)]
mod tests;
