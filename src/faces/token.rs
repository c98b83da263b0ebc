//! The token API: register, log in, refresh, log out, with a pair of tokens. Bare JSON, as FastAPI's tutorials answer; a
//! failure is `{"detail"}`.

use std::sync::Arc;

use http::{Method, Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::accounts::log_in::Login;
use crate::accounts::sessions::Scope;
use crate::accounts::users::Registration;
use crate::accounts::{AccountError, Accounts, SignedIn};
use crate::body::Body;
use crate::config;
use crate::faces::body::Flaw;
use crate::faces::failure::{self, Failure};
use crate::faces::{Call, Entered, Places, account, page};
use crate::identity::Caller;
use crate::openapi::document::{Credential, Document, Part};
use crate::openapi::{Answer, Row, Takes, Who, schema};
use crate::records::{Api, Object, User};
use crate::refusal::{Language, Refusal};
use crate::request::head::Head;
use crate::secret::Secret;
use crate::store::Unique;

// ── The calls ──

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table says it")]
pub enum Op {
    Register,
    LogIn,
    Refresh,
    LogOut,
    Me,
    Protected,
}

/// The calls of the token API, below its mount.
pub static CALLS: &[Row<Op>] = &[
    Row {
        op: Op::Register,
        method: Method::POST,
        path: "/register",
        summary: "Make a user",
        who: Who::Anybody,
        takes: Takes::Json(schema::<Register>()),
        params: &[],
        answers: &[Answer {
            status: 201,
            what: "The user",
            body: Some(schema::<UserReply>()),
        }],
        fails: &[400, 403],
    },
    Row {
        op: Op::LogIn,
        method: Method::POST,
        path: "/login",
        summary: "Log in with a name and a password",
        who: Who::Anybody,
        takes: Takes::JsonOrForm(schema::<LogIn>()),
        params: &[],
        answers: &[Answer {
            status: 200,
            what: "A pair of tokens",
            body: Some(schema::<TokensReply>()),
        }],
        fails: &[400, 401, 403],
    },
    Row {
        op: Op::Refresh,
        method: Method::POST,
        path: "/refresh",
        summary: "Exchange a refresh token, as bearer or in the body, for a new pair",
        who: Who::Anybody,
        takes: Takes::JsonOrNothing(schema::<Refresh>()),
        params: &[],
        answers: &[Answer {
            status: 200,
            what: "A pair of tokens",
            body: Some(schema::<TokensReply>()),
        }],
        fails: &[400, 401],
    },
    Row {
        op: Op::LogOut,
        method: Method::POST,
        path: "/logout",
        summary: "End the session of the access token",
        who: Who::Holder,
        takes: Takes::Nothing,
        params: &[],
        answers: &[Answer {
            status: 200,
            what: "It has ended",
            body: Some(schema::<Said>()),
        }],
        fails: &[401],
    },
    Row {
        op: Op::Me,
        method: Method::GET,
        path: "/me",
        summary: "The user",
        who: Who::Holder,
        takes: Takes::Nothing,
        params: &[],
        answers: &[Answer {
            status: 200,
            what: "The user",
            body: Some(schema::<UserReply>()),
        }],
        fails: &[401],
    },
    Row {
        op: Op::Protected,
        method: Method::GET,
        path: "/protected",
        summary: "A greeting for whoever is logged in",
        who: Who::Holder,
        takes: Takes::Nothing,
        params: &[],
        answers: &[Answer {
            status: 200,
            what: "The greeting",
            body: Some(schema::<Greeting>()),
        }],
        fails: &[401],
    },
];

// ── The requests ──

#[derive(Debug, Deserialize, JsonSchema)]
struct Register {
    #[schemars(length(min = 1, max = 255))]
    username: String,
    #[schemars(length(min = 3, max = 255), extend("format" = "idn-email"))]
    email: String,
    #[schemars(with = "String", length(min = 1))]
    password: Secret<String>,
}

/// An OAuth2 password form has a `grant_type` and more beside these.
#[derive(Debug, Deserialize, JsonSchema)]
struct LogIn {
    /// A username or an e-mail address.
    username: String,
    #[schemars(with = "String")]
    password: Secret<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Refresh {
    #[schemars(with = "Option<String>")]
    refresh_token: Option<Secret<String>>,
}

// ── The replies ──

#[derive(Debug, Serialize, JsonSchema)]
struct UserReply {
    id: i64,
    /// Or the e-mail address of a user who has no username.
    username: String,
    email: String,
    is_active: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct TokensReply {
    access_token: String,
    refresh_token: String,
    token_type: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Greeting {
    message: String,
    user: UserReply,
}

/// That it was done.
#[derive(Debug, Serialize, JsonSchema)]
struct Said {
    message: &'static str,
}

/// A failure.
#[derive(Debug, Serialize, JsonSchema)]
struct FailureReply {
    detail: String,
}

impl UserReply {
    fn of(user: &User) -> Self {
        Self {
            id: user.number,
            username: account::shown_name(user),
            email: account::shown_email(user),
            is_active: !user.disabled,
        }
    }
}

impl TokensReply {
    fn of(signed_in: &SignedIn) -> Self {
        let refresh = signed_in.refresh_token.as_ref();
        Self {
            access_token: signed_in.access_token.expose().clone(),
            refresh_token: refresh
                .map(|token| token.expose().clone())
                .unwrap_or_default(),
            token_type: "bearer",
        }
    }
}

// ── The failures ──

/// Of the core. The words of this API are English, whatever the client reads.
fn refused(error: &AccountError) -> Failure {
    let bad = |detail: &str| Failure::new(StatusCode::BAD_REQUEST, detail);
    match error {
        AccountError::UserExists(Unique::Username) => bad("Username already registered"),
        AccountError::UserExists(_) => bad("Email already registered"),
        AccountError::UserGone | AccountError::SessionGone | AccountError::SessionExpired => {
            unauthorized(REVOKED)
        }
        error => failure::account(error, Language::En),
    }
}

/// Of the core, at a refresh: whatever is wrong with the token or its session, the client must log in again; overload is
/// never told so that it does.
fn not_refreshed(error: &AccountError) -> Failure {
    match error {
        AccountError::TooMany { retry_after } | AccountError::Busy { retry_after } => {
            refused(&AccountError::Busy {
                retry_after: *retry_after,
            })
        }
        AccountError::Unavailable | AccountError::Failed => refused(error),
        _ => unauthorized(BAD_REFRESH),
    }
}

/// Of a credential that the gate did not accept.
fn unaccepted(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::TokenMissing => unauthorized("Not authenticated"),
        Refusal::TokenExpired => unauthorized("Token has expired"),
        Refusal::TokenRevoked => unauthorized(REVOKED),
        refusal if refusal.status() == StatusCode::SERVICE_UNAVAILABLE => {
            refused(&AccountError::Unavailable)
        }
        _ => unauthorized("Invalid token"),
    }
}

fn unauthorized(detail: &str) -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, detail)
}

const BAD_REFRESH: &str = "Invalid refresh token";
const REVOKED: &str = "Token has been revoked";

// ── The functions ──

/// The token API.
pub struct TokenApi {
    accounts: Arc<Accounts>,
    places: Places<Op>,
}

impl TokenApi {
    /// The API that `config` describes.
    pub fn build(config: &config::TokenApi, accounts: Arc<Accounts>) -> Self {
        Self {
            accounts,
            places: Places::new(vec![(config.mount.clone(), CALLS)]),
        }
    }

    /// Its calls, for the document.
    pub fn describe(config: &config::TokenApi, document: &mut Document) {
        let part = Part {
            tag: "token",
            what: "The token API: a pair of tokens, and bare JSON",
            mount: &config.mount,
            credentials: &[Credential::Bearer],
            failure: schema::<FailureReply>(),
        };
        document.add(&part, CALLS);
    }

    /// Whether there is such a call.
    ///
    /// # Errors
    /// As `Places::check`.
    pub fn check(&self, head: &Head) -> Result<(), Refusal> {
        self.places.check(head)
    }

    /// Answers a call.
    ///
    /// # Errors
    /// When there is no such call.
    pub async fn serve(&self, mut call: Call<'_>) -> Result<Response<Body>, Refusal> {
        let row = match self.places.enter(&call)? {
            Entered::Call(row, _) => row,
            Entered::Answered(response) => return Ok(response),
        };
        let answer = match row.op {
            Op::Register => self.register(&mut call, row.takes).await,
            Op::LogIn => self.log_in(&mut call, row.takes).await,
            Op::Refresh => self.refresh(&mut call, row.takes).await,
            Op::LogOut => self.log_out(&call).await,
            Op::Me => self.me(&call).await,
            Op::Protected => self.protected(&call).await,
        };
        Ok(answer.unwrap_or_else(|failure| failure.render(Api::Token, &call)))
    }

    async fn register(&self, call: &mut Call<'_>, takes: Takes) -> Answered {
        let asked: Register = call.read(takes).await.map_err(|flaw| flawed(&flaw))?;
        let new = Registration {
            username: Some(asked.username),
            email: Some(asked.email),
            password: asked.password,
            user_metadata: Object::new(),
            redirect_to: None,
        };
        let user = self
            .accounts
            .register(Api::Token, new, &call.client())
            .await;
        let user = user.map_err(|error| refused(&error))?;
        Ok(page::json(StatusCode::CREATED, &UserReply::of(&user)))
    }

    async fn log_in(&self, call: &mut Call<'_>, takes: Takes) -> Answered {
        let asked: LogIn = call.read(takes).await.map_err(|flaw| flawed(&flaw))?;
        let login = Login {
            name: asked.username,
            password: asked.password,
        };
        let signed_in = self
            .accounts
            .log_in(Api::Token, login, &call.client())
            .await;
        let signed_in = signed_in.map_err(|error| refused(&error))?;
        Ok(page::json(StatusCode::OK, &TokensReply::of(&signed_in)))
    }

    async fn refresh(&self, call: &mut Call<'_>, takes: Takes) -> Answered {
        let asked: Refresh = call.read(takes).await.map_err(|flaw| flawed(&flaw))?;
        let in_body = asked
            .refresh_token
            .filter(|token| !token.expose().is_empty());
        let token = match (bearer(call), in_body) {
            (None, None) => return Err(unaccepted(Refusal::TokenMissing)),
            (Some(one), Some(other)) if one != other => {
                let detail = "The bearer and the refresh_token in the body differ";
                return Err(Failure::new(StatusCode::BAD_REQUEST, detail));
            }
            (Some(token), _) | (None, Some(token)) => token,
        };
        let refreshed = self
            .accounts
            .refresh(Api::Token, token.expose(), &call.client())
            .await;
        let refreshed = refreshed.map_err(|error| not_refreshed(&error))?;
        Ok(page::json(StatusCode::OK, &TokensReply::of(&refreshed)))
    }

    async fn log_out(&self, call: &Call<'_>) -> Answered {
        let who = call.who().map_err(unaccepted)?;
        let done = self
            .accounts
            .log_out(Api::Token, who, (Scope::Local, &call.client()))
            .await;
        done.map_err(|error| refused(&error))?;
        let message = "Successfully logged out";
        Ok(page::json(StatusCode::OK, &Said { message }))
    }

    async fn me(&self, call: &Call<'_>) -> Answered {
        Ok(page::json(StatusCode::OK, &self.user(call).await?))
    }

    async fn protected(&self, call: &Call<'_>) -> Answered {
        let user = self.user(call).await?;
        let message = format!("Hello, {}! You are authenticated.", user.username);
        Ok(page::json(StatusCode::OK, &Greeting { message, user }))
    }

    async fn user(&self, call: &Call<'_>) -> Result<UserReply, Failure> {
        let user = self
            .accounts
            .user(call.who().map_err(unaccepted)?.user)
            .await;
        // It was good when the token was verified.
        user.map(|user| UserReply::of(&user))
            .map_err(|error| match error {
                AccountError::UserBanned | AccountError::UserDisabled => unauthorized(REVOKED),
                error => refused(&error),
            })
    }
}

type Answered = Result<Response<Body>, Failure>;

/// The bearer, whatever it is: a refresh token is none that the gate could verify.
fn bearer(call: &Call<'_>) -> Option<Secret<String>> {
    match call.permit.caller() {
        Caller::Guest => None,
        Caller::Known(identity) => Some(Secret::new(identity.token.expose().to_string())),
        Caller::Unverified(_, credential) => {
            Some(Secret::new(credential.token.expose().to_string()))
        }
    }
}

fn flawed(flaw: &Flaw) -> Failure {
    Failure::flawed(flaw, Language::En)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_keeps_a_place_for_every_call() {
        let mut paths: Vec<_> = CALLS.iter().map(|row| row.path).collect();
        paths.sort_unstable();
        let mut kept = config::TOKEN_PATHS.to_vec();
        kept.sort_unstable();
        assert_eq!(paths, kept);
    }
}
