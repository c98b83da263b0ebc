//! The session API: conversations and their jobs. Its credential is an opaque session token, which never expires; the
//! gateway's own access tokens are as good. Ids are small integers. Answers are `{"success":true,…}` or
//! `{"success":false,"error":"…"}`, in English: clients compare them.

pub mod calls;
mod shown;

use std::sync::Arc;

use http::{Response, StatusCode};
use serde::Serialize;

use self::calls::{
    AUTH_CALLS, ChangeMe, Failed, LogIn, NewSession, Op, Register, Rename, SESSIONS_CALLS,
};
use super::body::Flaw;
use super::failure::{self, Failure};
use super::{Call, Entered, Places, page};
use crate::accounts::log_in::Login;
use crate::accounts::sessions::Scope;
use crate::accounts::users::{Registration, UserUpdate};
use crate::accounts::{AccountError, Accounts, Who};
use crate::body::Body;
use crate::config;
use crate::openapi::document::{Credential, Document, Part};
use crate::openapi::{Row, schema};
use crate::records::{Api, Object};
use crate::refusal::{Language, Refusal};
use crate::request::head::Head;
use crate::secret::Secret;

/// The API, ready to answer.
pub struct SessionApi {
    places: Places<Op>,
    accounts: Arc<Accounts>,
    jobs_shown: u64,
}

/// Why a call failed.
enum Why {
    Refused(Refusal),
    Flawed(Flaw),
    Account(AccountError),
    /// A `verify` of nobody.
    NotValid,
    /// No such session, or another user's.
    NoSession,
    /// A change of nothing.
    NothingToChange,
}

impl From<Flaw> for Why {
    fn from(flaw: Flaw) -> Self {
        Self::Flawed(flaw)
    }
}

impl From<AccountError> for Why {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::NotFound => Self::NoSession,
            error => Self::Account(error),
        }
    }
}

impl Why {
    fn told(&self) -> Failure {
        let language = Language::En;
        match self {
            // One word for all that makes a credential bad.
            Self::Refused(refusal) if refusal.status() == StatusCode::UNAUTHORIZED => {
                Failure::new(StatusCode::UNAUTHORIZED, "Invalid session")
            }
            Self::Refused(refusal) => Failure::refused(*refusal, language),
            Self::Flawed(flaw) => Failure::flawed(flaw, language),
            Self::NotValid => Failure::new(StatusCode::UNAUTHORIZED, "Invalid session"),
            Self::NoSession => Failure::new(StatusCode::NOT_FOUND, "Session not found"),
            Self::NothingToChange => Failure::new(StatusCode::BAD_REQUEST, "Nothing to change"),
            Self::Account(
                AccountError::SessionGone | AccountError::SessionExpired | AccountError::UserGone,
            ) => Failure::new(StatusCode::UNAUTHORIZED, "Invalid session"),
            Self::Account(error) => failure::account(error, language),
        }
    }

    fn render(&self, call: &Call<'_>) -> Response<Body> {
        match self {
            Self::NotValid => {
                let body = r#"{"success":false,"valid":false,"error":"Invalid session"}"#;
                self.told().render_as(body.to_owned(), call)
            }
            _ => self.told().render(Api::Session, call),
        }
    }
}

impl SessionApi {
    /// The API that `config` describes.
    pub fn build(config: &config::SessionApi, accounts: Arc<Accounts>) -> Self {
        Self {
            places: Places::new(vec![
                (config.auth_mount.clone(), &AUTH_CALLS[..]),
                (config.sessions_mount.clone(), &SESSIONS_CALLS[..]),
            ]),
            accounts,
            jobs_shown: config.jobs_shown,
        }
    }

    /// Its calls, for the document.
    pub fn describe(config: &config::SessionApi, document: &mut Document) {
        let part = Part {
            tag: "session",
            what: "The session API: conversations and jobs",
            mount: &config.auth_mount,
            credentials: &[Credential::Bearer, Credential::Header("X-Session-Token")],
            failure: schema::<Failed>(),
        };
        document.add(&part, &AUTH_CALLS);
        let sessions = Part {
            mount: &config.sessions_mount,
            ..part
        };
        document.add(&sessions, &SESSIONS_CALLS);
    }

    /// Whether there is such a call.
    ///
    /// # Errors
    /// As [`Places::check`].
    pub fn check(&self, head: &Head) -> Result<(), Refusal> {
        self.places.check(head)
    }

    /// Answers a call.
    ///
    /// # Errors
    /// When there is no such call.
    pub async fn serve(&self, mut call: Call<'_>) -> Result<Response<Body>, Refusal> {
        let (row, args) = match self.places.enter(&call)? {
            Entered::Call(row, args) => (row, args),
            Entered::Answered(response) => return Ok(response),
        };
        let answer = self.answer(row, &args, &mut call).await;
        Ok(answer.unwrap_or_else(|why| why.render(&call)))
    }

    async fn answer(
        &self,
        row: &Row<Op>,
        args: &[&str],
        call: &mut Call<'_>,
    ) -> Result<Response<Body>, Why> {
        // Nothing is read of what nobody may ask.
        let who = || call.who().map_err(Why::Refused);
        match row.op {
            Op::Register => self.register(call.read(row.takes).await?, call).await,
            Op::Login => self.log_in(call.read(row.takes).await?, call).await,
            Op::Verify => {
                let who = call.who().map_err(|refusal| match refusal.status() {
                    StatusCode::UNAUTHORIZED => Why::NotValid,
                    _ => Why::Refused(refusal),
                })?;
                self.verify(who).await
            }
            Op::Logout => self.log_out(who()?, call).await,
            Op::Me => self.me(who()?).await,
            Op::ChangeMe => {
                let who = who()?;
                self.change_me(who, call.read(row.takes).await?, call).await
            }
            Op::New => {
                let who = who()?;
                self.new_session(who, call.read(row.takes).await?, call)
                    .await
            }
            Op::List => self.list(who()?).await,
            Op::Show => self.show(who()?, number(args)?).await,
            Op::CurrentJobs => self.current_jobs(who()?).await,
            Op::Rename => {
                let (who, number) = (who()?, number(args)?);
                self.rename(who, number, call.read(row.takes).await?).await
            }
            Op::Delete => self.delete(who()?, number(args)?, call).await,
        }
    }

    async fn register(&self, asked: Register, call: &Call<'_>) -> Result<Response<Body>, Why> {
        let new = Registration {
            username: Some(asked.username),
            email: Some(asked.email),
            password: Secret::new(asked.password),
            user_metadata: Object::new(),
            redirect_to: None,
        };
        let user = self
            .accounts
            .register(Api::Session, new, &call.client())
            .await?;
        let told = shown::Registered::of(&user);
        Ok(page::json(StatusCode::CREATED, &told))
    }

    async fn log_in(&self, asked: LogIn, call: &Call<'_>) -> Result<Response<Body>, Why> {
        let name = asked.username.or(asked.email);
        let login = Login {
            name: name.ok_or_else(|| Flaw::Missing("username".into()))?,
            password: Secret::new(asked.password),
        };
        let client = call.client();
        let conversation = self.accounts.log_in_conversation(login, &client).await?;
        success(&shown::LoggedIn::of(&conversation))
    }

    async fn verify(&self, who: Who) -> Result<Response<Body>, Why> {
        let (session, user) = self
            .accounts
            .session(who)
            .await
            .map_err(|error| match error {
                AccountError::SessionGone => Why::NotValid,
                error => error.into(),
            })?;
        success(&shown::Verified::of(&user, &session))
    }

    async fn log_out(&self, who: Who, call: &Call<'_>) -> Result<Response<Body>, Why> {
        let scope = (Scope::Local, &call.client());
        self.accounts.log_out(Api::Session, who, scope).await?;
        success(&shown::Done::of("Logged out successfully"))
    }

    async fn me(&self, who: Who) -> Result<Response<Body>, Why> {
        let (session, user) = self.accounts.session(who).await?;
        success(&shown::Me::of(&user, &session))
    }

    async fn change_me(
        &self,
        who: Who,
        asked: ChangeMe,
        call: &Call<'_>,
    ) -> Result<Response<Body>, Why> {
        if asked.username.is_none() && asked.email.is_none() && asked.password.is_none() {
            return Err(Why::NothingToChange);
        }
        if asked.password.is_some() && asked.current_password.is_none() {
            return Err(Flaw::Missing("current_password".into()).into());
        }
        let update = UserUpdate {
            username: asked.username,
            email: asked.email,
            password: asked.password.map(Secret::new),
            current_password: asked.current_password.map(Secret::new),
            ..UserUpdate::default()
        };
        let update = (update, &call.client());
        let user = self.accounts.change_user(Api::Session, who, update).await?;
        success(&shown::Changed::of(&user))
    }

    async fn new_session(
        &self,
        who: Who,
        asked: NewSession,
        call: &Call<'_>,
    ) -> Result<Response<Body>, Why> {
        let (name, client) = (asked.name.as_deref(), call.client());
        let made = self.accounts.new_conversation(who, name, &client).await?;
        Ok(page::json(StatusCode::CREATED, &shown::Made::of(&made)))
    }

    async fn list(&self, who: Who) -> Result<Response<Body>, Why> {
        let sessions = self.accounts.sessions_of(who.user).await?;
        success(&shown::List::of(&sessions))
    }

    async fn show(&self, who: Who, number: i64) -> Result<Response<Body>, Why> {
        let found = self.accounts.session_by_number(who.user, number).await?;
        let jobs = self.accounts.jobs_of(found.session.id, self.jobs_shown);
        success(&shown::WithJobs::of(&found, &jobs.await?))
    }

    async fn current_jobs(&self, who: Who) -> Result<Response<Body>, Why> {
        let jobs = self.accounts.jobs_of(who.session, self.jobs_shown).await?;
        success(&shown::Jobs::of(&jobs))
    }

    async fn rename(&self, who: Who, number: i64, asked: Rename) -> Result<Response<Body>, Why> {
        let renamed = self
            .accounts
            .rename_session(who.user, number, &asked.name)
            .await?;
        success(&shown::Renamed::of(&renamed))
    }

    async fn delete(&self, who: Who, number: i64, call: &Call<'_>) -> Result<Response<Body>, Why> {
        self.accounts
            .delete_session(who, number, &call.client())
            .await?;
        success(&shown::Done::of("Session deleted"))
    }
}

fn success(value: &impl Serialize) -> Result<Response<Body>, Why> {
    Ok(page::json(StatusCode::OK, value))
}

/// The session's number in the path. What is none is the number of no session.
fn number(args: &[&str]) -> Result<i64, Why> {
    let digits = args
        .first()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits
        .and_then(|text| text.parse().ok())
        .ok_or(Why::NoSession)
}
