//! `GET /streams`: the live streams. `POST /streams/end`: ends those that are meant, and, where that is asked for, refuses
//! the tokens that they could be opened again with. Both are for the holder of `[admin] token` alone: they show who is
//! there, and throw them out. Without such a token there are no such calls.

use http::header::AUTHORIZATION;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::{Deserialize, Serialize};

use super::{check_caller, finish};
use crate::body::Body;
use crate::clock::UnixSeconds;
use crate::faces::page;
use crate::identity::bans::KeptBans;
use crate::observe::access::Sink;
use crate::observe::event::Event;
use crate::refusal::Refusal;
use crate::secret::Secret;
use crate::state::bans::{Banned, Bans};
use crate::streams::{Filter, Kind, Shown, Streams};

/// What these calls are answered from.
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "the types say it")]
pub struct Live<'l> {
    pub streams: &'l Streams,
    pub bans: &'l Bans,
    pub kept: Option<&'l KeptBans>,
    /// For the audit line.
    pub sink: &'l Sink,
    /// `[admin] token`.
    pub token: Option<&'l Secret<Box<str>>>,
}

/// Whether a path is one of these.
pub fn is_ours(path: &str) -> bool {
    matches!(path, "/streams" | "/streams/end")
}

/// Answers one request.
pub async fn respond<B>(live: Live<'_>, request: Request<B>) -> Response<Body>
where
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (parts, body) = request.into_parts();
    let head = Request::from_parts(parts, ());
    let answer = match admit(live, &head) {
        Ok(Call::List) => list(live, head.uri().query().unwrap_or_default()),
        Ok(Call::End) => match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => end(live, &body.to_bytes()).await,
            Err(_) => Err(Refusal::BodyInvalid),
        },
        Err(refusal) => Err(refusal),
    };
    finish(&head, answer)
}

enum Call {
    List,
    End,
}

fn admit(live: Live<'_>, request: &Request<()>) -> Result<Call, Refusal> {
    check_caller(request)?;
    let token = live.token.ok_or(Refusal::RouteNotFound)?;
    let call = match (request.uri().path(), request.method()) {
        ("/streams", &(Method::GET | Method::HEAD)) => Call::List,
        ("/streams/end", &Method::POST) => Call::End,
        _ => return Err(Refusal::MethodRefused),
    };
    let mut given = request.headers().get_all(AUTHORIZATION).iter();
    let (Some(first), None) = (given.next(), given.next()) else {
        return Err(Refusal::TokenMissing);
    };
    let first = first.as_bytes().strip_prefix(b"Bearer ");
    let first = Secret::new(first.ok_or(Refusal::TokenMissing)?);
    match first == Secret::new(token.expose().as_bytes()) {
        true => Ok(call),
        false => Err(Refusal::TokenSignatureInvalid),
    }
}

fn list(live: Live<'_>, query: &str) -> Result<Response<Body>, Refusal> {
    let mut wish = Wish::default();
    let mut limit = LIST_MOST;
    for (name, value) in url_pairs(query) {
        let value = Some(value.into());
        match &*name {
            "user" => wish.user = value,
            "session" => wish.session = value,
            "issuer" => wish.issuer = value,
            "route" => wish.route = value,
            "kind" => wish.kind = value,
            "limit" => {
                let asked = value.and_then(|limit: Box<str>| limit.parse().ok());
                limit = asked.ok_or(Refusal::RequestMalformed)?;
            }
            _ => return Err(Refusal::RequestMalformed),
        }
    }
    let (streams, count) = live.streams.list(&wish.filter()?, limit.min(LIST_MOST));
    let streams = streams.iter().map(Row::of).collect();
    Ok(page::json(StatusCode::OK, &List { count, streams }))
}

async fn end(live: Live<'_>, body: &[u8]) -> Result<Response<Body>, Refusal> {
    let wish: Wish = serde_json::from_slice(body).map_err(|_| Refusal::BodyInvalid)?;
    let filter = wish.filter()?;
    let nobody = filter.user.is_none() && filter.session.is_none();
    // A slip of the pen must not throw everybody out.
    if (filter.is_empty() && !wish.all) || (wish.revoke && nobody) {
        return Err(Refusal::BodyInvalid);
    }
    let there = live.streams.list(&filter, 0).1;
    // First the tokens: what ends must not come back by them.
    let banned = meant(&filter).filter(|_| wish.revoke);
    let now = live.streams.now();
    let banned = banned.filter(|banned| live.bans.add(banned, now));
    // A refused token ends its streams by itself: some may have left by now.
    let ended = live.streams.kill(&filter).max(there);
    let revoked = banned.is_some();
    let kept = match (banned, live.kept) {
        // Before the answer: a gateway that is killed right after it has told the others all the same.
        (Some(banned), Some(kept)) => Some(kept.keep(banned, now).await),
        (Some(_), None) => Some(false),
        (None, _) => None,
    };
    live.sink.event(&Event {
        name: if wish.revoke {
            "streams_revoke"
        } else {
            "streams_end"
        },
        result: "ok",
        user_id: filter.user.as_deref(),
        session_id: filter.session.as_deref(),
        by: Some("admin"),
        ..Event::default()
    });
    let told = Ended {
        ended,
        revoked,
        kept,
    };
    Ok(page::json(StatusCode::OK, &told))
}

/// Whose tokens are to be refused: a session is narrower than its user.
fn meant(filter: &Filter) -> Option<Banned> {
    match (&filter.session, &filter.user) {
        (Some(session), _) => Some(Banned::Session(session.clone())),
        (None, Some(user)) => Some(Banned::User(user.clone())),
        (None, None) => None,
    }
}

/// The pairs of a query, decoded.
fn url_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text| crate::request::path::percent_decode(text);
        Some((decode(name)?.into_owned(), decode(value)?.into_owned()))
    })
}

/// Which streams are meant.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wish {
    user: Option<Box<str>>,
    session: Option<Box<str>>,
    issuer: Option<Box<str>>,
    route: Option<Box<str>>,
    kind: Option<Box<str>>,
    /// Also refuse their tokens.
    revoke: bool,
    /// Really every stream.
    all: bool,
}

impl Wish {
    fn filter(&self) -> Result<Filter, Refusal> {
        let kind = match self.kind.as_deref() {
            None => None,
            Some("sse") => Some(Kind::Sse),
            Some("websocket") => Some(Kind::Websocket),
            Some(_) => return Err(Refusal::RequestMalformed),
        };
        Ok(Filter {
            issuer: self.issuer.clone(),
            user: self.user.clone(),
            session: self.session.clone(),
            route: self.route.clone(),
            kind,
        })
    }
}

#[derive(Serialize)]
struct List<'l> {
    /// How many are meant; at most 1000 are shown.
    count: usize,
    streams: Vec<Row<'l>>,
}

#[derive(Serialize)]
struct Row<'s> {
    user_id: Option<&'s str>,
    session_id: Option<&'s str>,
    issuer: Option<&'s str>,
    route: &'s str,
    kind: &'static str,
    path: &'s str,
    since: UnixSeconds,
    until: Option<UnixSeconds>,
}

impl<'s> Row<'s> {
    fn of(shown: &'s Shown) -> Self {
        let identity = shown.identity.as_deref();
        Self {
            user_id: identity.map(|it| &*it.user_id),
            session_id: identity.and_then(|it| it.session_id.as_deref()),
            issuer: identity.map(|it| &*it.issuer),
            route: &shown.route,
            kind: shown.kind.word(),
            path: &shown.path,
            since: shown.since,
            until: shown.until,
        }
    }
}

#[derive(Serialize)]
struct Ended {
    ended: usize,
    revoked: bool,
    /// Whether the store has it, so that it outlives this gateway; where nothing was refused, nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<bool>,
}

const MAX_BODY: usize = 16 * 1024;
const LIST_MOST: usize = 1000;
