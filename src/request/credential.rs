//! The credential: found wherever the route allows it, taken out of the request, never printed. Two that
//! differ are refused, never chosen between (RFC 6750 §2). `places.rs` knows how each place spells one.

use http::header::{AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;
use http::{HeaderMap, HeaderName};

use super::places;
use crate::config::Source;
use crate::refusal::Refusal;
use crate::secret::Secret;

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 8 * 1024;

/// What every ticket begins with, which tells it from a parameter of the upstream's that is called `ticket` too.
pub const TICKET_PREFIX: &str = "pt_";

/// A token as it came, and where it stood.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The token's text: visible ASCII, at most 8 KiB. Empty where it could not be read.
    pub token: Secret<Box<str>>,
    /// Where it stood.
    pub place: Place,
}

/// Where a credential stood, for `explain`, for the log, and because a cookie needs an `Origin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `Authorization: Bearer`.
    Bearer,
    /// A header of its own.
    Header,
    /// A query parameter.
    Query,
    /// A cookie: sent by the browser on its own, so cross-site requests carry it too.
    Cookie,
    /// `Sec-WebSocket-Protocol: bearer, <token>`.
    Subprotocol,
    /// A ticket in the query, which stands for a token.
    Ticket,
}

impl Place {
    /// What people call it.
    pub fn told(self) -> &'static str {
        match self {
            Self::Bearer => "in Authorization",
            Self::Header => "in a header of its own",
            Self::Query => "in the query",
            Self::Cookie => "in a cookie",
            Self::Subprotocol => "in Sec-WebSocket-Protocol",
            Self::Ticket => "a ticket",
        }
    }
}

/// What was found in the places that a route allows.
#[derive(Clone, Debug)]
pub enum Found {
    /// No credential.
    Nothing,
    /// One, in its form a token. Where it stands twice, the first place in the order of [`Place`].
    Token(Credential),
    /// One that cannot be a token, and why. Its text is not kept; it is never treated as absent.
    Bad(Refusal, Credential),
}

impl Found {
    /// Where the credential stood.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Nothing => None,
            Self::Token(credential) | Self::Bad(_, credential) => Some(credential.place),
        }
    }
}

/// What `take` made of a request.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The credential.
    pub found: Found,
    /// Whether the client offered `bearer` as subprotocol: if the upstream chooses none, the answer to the
    /// handshake must be `bearer`, because a browser fails without a choice.
    pub offered_bearer: bool,
}

/// The places where a token may be, compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    bearer: bool,
    subprotocol: bool,
    tickets: bool,
    headers: Vec<HeaderName>,
    queries: Vec<Box<str>>,
    cookies: Vec<Box<str>>,
}

impl Sources {
    /// Compiles `sources`; the order in which they are named does not count.
    pub fn build<'a>(sources: impl IntoIterator<Item = &'a Source>) -> Self {
        let mut built = Self::default();
        for source in sources {
            match source {
                Source::Bearer => built.bearer = true,
                Source::Subprotocol => built.subprotocol = true,
                Source::Header(name) => add(&mut built.headers, name),
                Source::Query(name) => add(&mut built.queries, name),
                Source::Cookie(name) => add(&mut built.cookies, name),
            }
        }
        built
    }

    /// The same, and tickets.
    #[must_use]
    pub fn with_tickets(self) -> Self {
        Self {
            tickets: true,
            ..self
        }
    }

    /// Finds the credential and removes every token from the request: from `everywhere`, the places of all
    /// routes together, these included. The rest of the request stays byte for byte.
    ///
    /// Two credentials that differ are `CredentialsConflict`; the request must go no further.
    pub fn take(&self, parts: &mut Parts, everywhere: &Self) -> Result<Taken, Refusal> {
        let present = everywhere.present(&parts.headers);
        let found = self.look_in(parts, present);
        // Also from a request that is refused: whatever becomes of it, the tokens are out.
        let offered_bearer = everywhere.remove_from(parts, present);
        Ok(Taken {
            found: found?,
            offered_bearer,
        })
    }

    /// Finds the credential and leaves the request as it is, for routes with `credentials = "pass"`.
    pub fn look(&self, parts: &Parts) -> Result<Found, Refusal> {
        self.look_in(parts, self.present(&parts.headers))
    }

    fn look_in(&self, parts: &Parts, present: Present) -> Result<Found, Refusal> {
        let mut sighting = Sighting::default();
        let headers = &parts.headers;
        if self.bearer && present.authorization {
            for value in headers.get_all(AUTHORIZATION) {
                if let Some(text) = places::bearer(value.as_bytes()) {
                    sighting.add(Place::Bearer, text)?;
                } else if headers.get_all(AUTHORIZATION).iter().nth(1).is_some() {
                    // Two schemes at once: which one is meant?
                    sighting.add(Place::Bearer, value.as_bytes())?;
                }
            }
        }
        for name in self.headers.iter().filter(|_| present.own) {
            for value in headers.get_all(name) {
                sighting.add(Place::Header, value.as_bytes())?;
            }
        }
        if self.tickets
            && let Some(query) = parts.uri.query()
        {
            for ticket in places::tickets(query) {
                sighting.add(Place::Ticket, &ticket)?;
            }
        }
        if let Some(query) = parts.uri.query()
            && !self.queries.is_empty()
        {
            for value in places::query_values(query, &self.queries) {
                sighting.add(Place::Query, &value)?;
            }
        }
        if !self.cookies.is_empty() && present.cookie {
            for value in headers.get_all(COOKIE) {
                for text in places::cookie_values(value.as_bytes(), &self.cookies) {
                    sighting.add(Place::Cookie, text)?;
                }
            }
        }
        if self.subprotocol && present.subprotocol {
            for text in places::Subprotocols::read(headers).tokens {
                sighting.add(Place::Subprotocol, text.as_bytes())?;
            }
        }
        Ok(sighting.end())
    }

    /// Removes every token from these places, looking at none. For routes that verify nothing. Tells
    /// whether `bearer` was offered as subprotocol.
    pub fn remove(&self, parts: &mut Parts) -> bool {
        let present = self.present(&parts.headers);
        self.remove_from(parts, present)
    }

    fn remove_from(&self, parts: &mut Parts, present: Present) -> bool {
        let headers = &mut parts.headers;
        if self.bearer && present.authorization {
            places::remove_bearer(headers);
        }
        for name in self.headers.iter().filter(|_| present.own) {
            headers.remove(name);
        }
        if !self.cookies.is_empty() && present.cookie {
            places::remove_cookies(headers, &self.cookies);
        }
        if let Some(query) = parts.uri.query()
            && !self.queries.is_empty()
            && let Some(kept) = places::without_values(query, &self.queries)
        {
            parts.uri = places::with_query(&parts.uri, &kept);
        }
        if self.tickets
            && let Some(query) = parts.uri.query()
            && let Some(kept) = places::without_tickets(query)
        {
            parts.uri = places::with_query(&parts.uri, &kept);
        }
        self.subprotocol && present.subprotocol && places::remove_subprotocol(&mut parts.headers)
    }

    /// Which fields are there at all, in one pass: looking each place up in the map, twice, took 900
    /// instructions of a request that has only one of them, or none.
    fn present(&self, headers: &HeaderMap) -> Present {
        let mut present = Present::default();
        for name in headers.keys() {
            match *name {
                AUTHORIZATION => present.authorization = true,
                COOKIE => present.cookie = true,
                SEC_WEBSOCKET_PROTOCOL => present.subprotocol = true,
                _ => {}
            }
            // A source may name any of those, too.
            present.own |= self.headers.contains(name);
        }
        present
    }
}

/// Which fields of a request may hold a token.
#[derive(Clone, Copy, Default)]
struct Present {
    authorization: bool,
    cookie: bool,
    subprotocol: bool,
    /// One of the headers that sources name.
    own: bool,
}

/// The one credential seen so far.
#[derive(Default)]
struct Sighting {
    first: Option<(Place, Box<[u8]>)>,
}

impl Sighting {
    /// Another one: it must be the same.
    fn add(&mut self, place: Place, text: &[u8]) -> Result<(), Refusal> {
        match &self.first {
            None => self.first = Some((place, text.into())),
            Some((_, first)) if **first == *text => {}
            Some(_) => return Err(Refusal::CredentialsConflict),
        }
        Ok(())
    }

    fn end(self) -> Found {
        let Some((place, text)) = self.first else {
            return Found::Nothing;
        };
        let flaw = match text.len() {
            // Before anything is decoded (CVE-2025-27144).
            length if length > MAX_TOKEN => Some(Refusal::TokenMalformed),
            _ if !places::is_token(&text) => Some(Refusal::CredentialMalformed),
            _ => None,
        };
        let text = match flaw {
            Some(_) => Box::default(),
            None => text,
        };
        let token = String::from_utf8(text.into_vec()).unwrap_or_default();
        let credential = Credential {
            token: Secret::new(token.into()),
            place,
        };
        match flaw {
            Some(refusal) => Found::Bad(refusal, credential),
            None => Found::Token(credential),
        }
    }
}

fn add<T: Clone + PartialEq>(names: &mut Vec<T>, name: &T) {
    if !names.contains(name) {
        names.push(name.clone());
    }
}

#[cfg(test)]
mod tests;
