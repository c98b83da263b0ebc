//! What the gateway answers itself: a route's target is an upstream or a face. A face gets the `Permit` like
//! any carrier, and says no by the same refusals. Each log-in API has one shape: its table of calls, the requests,
//! the replies, its dialect of failures, the functions.

pub mod account;
pub mod app;
pub mod body;
pub mod failure;
pub mod own;
pub mod page;
pub mod session;
pub mod supabase;
pub mod token;
mod typed;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use serde::de::DeserializeOwned;

use self::app::App;
use self::body::{Flaw, Kind};
use self::own::Own;
use self::session::SessionApi;
use self::supabase::Supabase;
use self::token::TokenApi;
use crate::accounts::{Accounts, Who};
use crate::body::{Body, UploadState};
use crate::config::{self, Config};
use crate::identity::Caller;
use crate::observe::request_id::RequestId;
use crate::observe::text;
use crate::openapi::document::Document;
use crate::openapi::{self, Found, Row, Takes};
use crate::policy::Permit;
use crate::records::{Api, Client};
use crate::refusal::style::{self, Wanted};
use crate::refusal::{Language, Refusal};
use crate::request::head::Head;

/// An API of the gateway's own.
pub enum Face {
    /// The calls that every gateway has: probes, `verify`, the public keys.
    Own(Own),
    /// A log-in API.
    App(Box<App>),
    /// Another.
    Session(Box<SessionApi>),
    /// Another.
    Token(Box<TokenApi>),
    /// Another.
    Supabase(Box<Supabase>),
}

/// A permitted call.
pub struct Call<'r> {
    /// Its head, as it was judged.
    pub head: &'r Head,
    /// Leave to go on.
    pub permit: Permit,
    /// Its name in the logs.
    pub id: &'r RequestId,
    /// Its headers, without credentials.
    pub headers: &'r HeaderMap,
    /// Its body.
    pub body: Body,
    /// How long its body may take.
    pub body_timeout: Duration,
    /// What was read of it, for the access line.
    pub received: Rc<UploadState>,
    /// How its client is told no.
    pub wanted: Wanted<'r>,
}

impl Face {
    /// The log-in API `api`, where it is switched on.
    pub fn api(api: Api, config: &config::Accounts, accounts: &Arc<Accounts>) -> Option<Self> {
        let accounts = Arc::clone(accounts);
        let apis = &config.apis;
        Some(match api {
            Api::App => Self::App(Box::new(App::build(apis.app.as_ref()?, accounts))),
            Api::Session => {
                let session = apis.session.as_ref()?;
                Self::Session(Box::new(SessionApi::build(session, accounts)))
            }
            Api::Token => Self::Token(Box::new(TokenApi::build(apis.token.as_ref()?, accounts))),
            Api::Supabase => {
                let supabase = apis.supabase.as_ref()?;
                Self::Supabase(Box::new(Supabase::build(supabase, config, accounts)))
            }
        })
    }

    /// Whether there is such a call: what can be told from the head alone, for `explain` and `[[test]]` too.
    ///
    /// # Errors
    /// When there is no such call, or not with this method.
    pub fn check(&self, head: &Head) -> Result<(), Refusal> {
        match self {
            Self::Own(own) => own.check(head),
            Self::App(app) => app.check(head),
            Self::Session(session) => session.check(head),
            Self::Token(token) => token.check(head),
            Self::Supabase(supabase) => supabase.check(head),
        }
    }

    /// Answers a call. A bug in one answer is that call's 500, in the shape of its API, and nobody else's.
    ///
    /// # Errors
    /// When there is no such call, or it may not be made like this.
    pub async fn serve(&self, call: Call<'_>) -> Result<Response<Body>, Refusal> {
        let method = call.wanted.method;
        let answer = unpanicked(self.answer(call)).await?;
        Ok(page::for_method(method, answer))
    }

    /// What pages of other origins need to read an answer, also one that the gate gave in place of this API.
    pub fn dress(&self, head: &Head, headers: &mut HeaderMap) {
        if let Self::Supabase(supabase) = self {
            supabase.dress(head, headers);
        }
    }

    async fn answer(&self, call: Call<'_>) -> Result<Response<Body>, Refusal> {
        match self {
            Self::Own(own) => match own.check(call.head) {
                Ok(()) => own.serve(call).await,
                Err(Refusal::MethodRefused) => {
                    Ok(method_refused(HeaderValue::from_static(own.allow()), &call))
                }
                Err(refusal) => Err(refusal),
            },
            Self::App(app) => app.serve(call).await,
            Self::Session(session) => session.serve(call).await,
            Self::Token(token) => token.serve(call).await,
            Self::Supabase(supabase) => supabase.serve(call).await,
        }
    }
}

/// The OpenAPI document of every call that the gateway answers itself under this configuration.
pub fn document(config: &Config) -> serde_json::Value {
    let mut document = Document::new();
    if let Some(accounts) = &config.accounts {
        let apis = &accounts.apis;
        if let Some(app) = &apis.app {
            App::describe(app, &mut document);
        }
        if let Some(session) = &apis.session {
            SessionApi::describe(session, &mut document);
        }
        if let Some(token) = &apis.token {
            TokenApi::describe(token, &mut document);
        }
        if let Some(supabase) = &apis.supabase {
            Supabase::describe(supabase, &mut document);
        }
    }
    own::describe(config, &mut document);
    document.finish()
}

/// Where the calls of an API stand: a table below each mount.
pub struct Places<O: 'static>(Vec<(Box<str>, &'static [Row<O>])>);

/// What becomes of a call that its API's tables were asked for.
pub enum Entered<'p, O: 'static> {
    /// This one is meant, with the segments of its parameters.
    Call(&'static Row<O>, Vec<&'p str>),
    /// It is answered: `OPTIONS`, or the wrong method.
    Answered(Response<Body>),
}

impl<O> Places<O> {
    /// These tables below these mounts.
    pub fn new(places: Vec<(Box<str>, &'static [Row<O>])>) -> Self {
        Self(places)
    }

    /// Whether there is such a call.
    ///
    /// # Errors
    /// `route_not_found`, `method_refused`; `upgrade_refused` for a WebSocket.
    pub fn check(&self, head: &Head) -> Result<(), Refusal> {
        if head.is_websocket() {
            return Err(Refusal::UpgradeRefused);
        }
        match self.find(head) {
            Found::Call(..) | Found::Options(_) => Ok(()),
            Found::Method(_) => Err(Refusal::MethodRefused),
            Found::Nothing => Err(Refusal::RouteNotFound),
        }
    }

    /// The call that is meant, or the answer to one that is none.
    ///
    /// # Errors
    /// `route_not_found`; `upgrade_refused` for a WebSocket.
    pub fn enter<'r>(&self, call: &Call<'r>) -> Result<Entered<'r, O>, Refusal> {
        if call.head.is_websocket() {
            return Err(Refusal::UpgradeRefused);
        }
        Ok(match self.find(call.head) {
            Found::Call(row, args) => Entered::Call(row, args),
            Found::Options(allow) => {
                let mut response = Response::new(Body::Empty);
                *response.status_mut() = StatusCode::NO_CONTENT;
                response.headers_mut().insert(ALLOW, allow.value());
                Entered::Answered(response)
            }
            Found::Method(allow) => Entered::Answered(method_refused(allow.value(), call)),
            Found::Nothing => return Err(Refusal::RouteNotFound),
        })
    }

    fn find<'p>(&self, head: &'p Head) -> Found<'static, 'p, O> {
        let tables = self.0.iter().filter_map(|(mount, rows)| {
            let below = head.path().strip_prefix(&**mount)?;
            match openapi::find(rows, head.method(), below) {
                Found::Nothing => None,
                found => Some(found),
            }
        });
        let mut tables = tables;
        tables.next().unwrap_or(Found::Nothing)
    }
}

impl Call<'_> {
    /// What its client says of itself, for the session that it makes or uses.
    pub fn client(&self) -> Client {
        let agent = self.headers.get(USER_AGENT);
        let agent = agent.and_then(|agent| agent.to_str().ok());
        Client {
            user_agent: agent.map(|agent| text::clip(agent, AGENT_MAX).into()),
            address: self.permit.client(),
            request_id: Some(self.id.as_str().into()),
        }
    }

    /// The language of its texts.
    pub fn language(&self) -> Language {
        self.wanted.language
    }

    /// Its body as a request, as far as its row takes one.
    ///
    /// # Errors
    /// When it is of another type, cannot be read, or is not such a request.
    pub async fn read<T: DeserializeOwned>(&mut self, takes: Takes) -> Result<T, Flaw> {
        let kind = Kind::of(self.headers);
        // The type is judged first: nothing is read of what cannot be understood.
        let is_taken = match takes {
            Takes::Nothing => false,
            Takes::Json(_) => kind == Kind::Json,
            Takes::JsonOrNothing(_) => matches!(kind, Kind::Json | Kind::None),
            Takes::JsonOrForm(_) => matches!(kind, Kind::Json | Kind::Form),
        };
        if !is_taken {
            return Err(Flaw::Type);
        }
        let bytes = self.bytes().await?;
        match (takes, kind) {
            (Takes::JsonOrNothing(_), _) if bytes.is_empty() => body::json(b"{}"),
            (_, Kind::None) => Err(Flaw::Type),
            (_, Kind::Form) => body::form(&bytes),
            _ => body::json(&bytes),
        }
    }

    /// Its whole body.
    ///
    /// # Errors
    /// When it is too large, too slow, or breaks off.
    pub async fn bytes(&mut self) -> Result<Bytes, Flaw> {
        let body = std::mem::take(&mut self.body);
        let bytes = body::read(self.headers, body, self.body_timeout).await?;
        self.received.count(bytes.len() as u64);
        Ok(bytes)
    }

    /// Whose call it is.
    ///
    /// # Errors
    /// Why it is nobody's.
    pub fn who(&self) -> Result<Who, Refusal> {
        match self.permit.caller() {
            Caller::Known(identity) => Who::of(identity).ok_or(Refusal::IssuerUnknown),
            Caller::Unverified(refusal, _) => Err(*refusal),
            Caller::Guest => Err(Refusal::TokenMissing),
        }
    }

    /// Ends the connection with the answer to a body that was not read to its end: what follows is no request.
    pub fn close_after(&self, response: &mut Response<Body>) {
        let is_http1 = matches!(self.wanted.version, Version::HTTP_10 | Version::HTTP_11);
        if is_http1 {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
    }
}

/// Waits for an answer; a panic on the way is a refusal. What it left half made is its own: it dies here.
async fn unpanicked<T>(answer: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let mut answer = pin!(answer);
    std::future::poll_fn(move |cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx)));
        polled.unwrap_or(Poll::Ready(Err(Refusal::Internal)))
    })
    .await
}

/// The refusal of a method, with those that are served here.
fn method_refused(allow: HeaderValue, call: &Call<'_>) -> Response<Body> {
    let mut response = style::render(Refusal::MethodRefused, &call.wanted);
    response.headers_mut().insert(ALLOW, allow);
    response
}

/// As much of a `User-Agent` is kept, in bytes.
const AGENT_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_the_calls_own_failure() {
        let answer = async {
            tokio::task::yield_now().await;
            if std::hint::black_box(true) {
                panic!("a bug");
            }
            Ok(())
        };
        assert_eq!(unpanicked(answer).await, Err(Refusal::Internal));
        assert_eq!(unpanicked(async { Ok(7) }).await, Ok(7));
    }
}
