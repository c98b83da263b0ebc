//! The app API: mobile apps. Every answer is `{"code","data","msg"}`, its code the HTTP status; texts are in Chinese
//! or English. A token that has expired is renewed as long as its session lives, for some days.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::body::Flaw;
use super::failure::{self, Failure};
use super::{Call, Entered, Places, account, page};
use crate::accounts::log_in::Login;
use crate::accounts::{AccountError, Accounts, SignedIn};
use crate::body::Body;
use crate::config;
use crate::identity::Caller;
use crate::identity::access_token::is_admin;
use crate::openapi::document::{Credential, Document, Part};
use crate::openapi::{Answer, Row, Takes, Who as May, schema};
use crate::records::{Api, User};
use crate::refusal::{Language, Refusal};
use crate::request::head::Head;
use crate::secret::Secret;

/// The API, ready to answer.
pub struct App {
    places: Places<Op>,
    accounts: Arc<Accounts>,
    renew_within: Duration,
    menu: Vec<(Box<str>, Value)>,
}

/// Its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table says what each one does")]
pub enum Op {
    AccessToken,
    RefreshToken,
    Userinfo,
    Usermenu,
}

/// Its table.
pub static CALLS: [Row<Op>; 4] = [
    Row {
        op: Op::AccessToken,
        method: Method::POST,
        path: "/access_token",
        summary: "Log in with a username or an e-mail address",
        who: May::Anybody,
        takes: Takes::Json(schema::<LogIn>()),
        params: &[],
        answers: &[Answer {
            status: 200,
            what: "A token of a new session",
            body: Some(schema::<Envelope<Token>>()),
        }],
        fails: &[401, 403],
    },
    Row {
        op: Op::RefreshToken,
        method: Method::POST,
        path: "/refresh_token",
        summary: "Renew a token, also one that has expired",
        who: May::Holder,
        takes: Takes::Nothing,
        params: &[],
        answers: &[Answer {
            status: 200,
            what: "Another token of the same session",
            body: Some(schema::<Envelope<Token>>()),
        }],
        fails: &[],
    },
    Row {
        op: Op::Userinfo,
        method: Method::GET,
        path: "/userinfo",
        summary: "Who is logged in",
        who: May::Holder,
        takes: Takes::Nothing,
        params: &[],
        answers: &[Answer {
            status: 200,
            what: "The user",
            body: Some(schema::<Envelope<UserInfo>>()),
        }],
        fails: &[],
    },
    Row {
        op: Op::Usermenu,
        method: Method::GET,
        path: "/usermenu",
        summary: "The menu of the user's roles",
        who: May::Holder,
        takes: Takes::Nothing,
        params: &[],
        answers: &[Answer {
            status: 200,
            what: "The menu, as the configuration has it",
            body: Some(schema::<Envelope<Vec<Value>>>()),
        }],
        fails: &[],
    },
];

// ── Requests ──

/// `POST /access_token`.
#[derive(Deserialize, JsonSchema)]
struct LogIn {
    /// Or an e-mail address.
    username: String,
    password: String,
}

// ── Replies ──

/// Every success.
#[derive(Serialize, JsonSchema)]
struct Envelope<T> {
    code: u16,
    data: T,
    msg: &'static str,
}

/// Every failure; as `refusal::style` prints it.
#[derive(Serialize, JsonSchema)]
struct Failed {
    code: u16,
    data: (),
    msg: String,
}

#[derive(Serialize, JsonSchema)]
struct Token {
    access_token: String,
    token_type: &'static str,
}

#[derive(Serialize, JsonSchema)]
struct UserInfo {
    id: String,
    /// Or the e-mail address of a user who has no username.
    username: String,
    email: String,
    avatar: Option<String>,
    roles: Vec<String>,
    is_superuser: bool,
    is_active: bool,
}

impl Token {
    fn of(signed_in: SignedIn) -> Self {
        Self {
            access_token: signed_in.access_token.expose().clone(),
            token_type: "bearer",
        }
    }
}

impl UserInfo {
    fn of(user: &User) -> Self {
        let avatar = user.user_metadata.get("avatar").and_then(Value::as_str);
        Self {
            id: user.id.to_string(),
            username: account::shown_name(user),
            email: account::shown_email(user),
            avatar: avatar.map(str::to_owned),
            roles: account::roles(user).map(str::to_owned).collect(),
            is_superuser: is_admin(user),
            // Who is not is refused.
            is_active: true,
        }
    }
}

// ── Failures ──

impl App {
    /// A failure in this API's words.
    fn told(&self, failure: &Why, language: Language) -> Failure {
        let text = |en: &str, zh: &str| match language {
            Language::En => en.to_owned(),
            Language::Zh => zh.to_owned(),
        };
        let within = in_words(self.renew_within, language);
        match failure {
            Why::Refused(refusal) => Failure::refused(*refusal, language),
            Why::Flawed(flaw) => Failure::flawed(flaw, language),
            Why::TooLate => Failure::new(
                StatusCode::UNAUTHORIZED,
                text(
                    &format!("The token expired more than {within} ago; log in again"),
                    &format!("Token过期时间超过{within}，请重新登录"),
                ),
            ),
            Why::Account(AccountError::InvalidCredentials) => Failure::new(
                StatusCode::UNAUTHORIZED,
                text("Wrong username or password", "用户名或密码错误"),
            ),
            Why::Account(error) => failure::account(error, language),
        }
    }
}

/// `7 days`, `7天`.
fn in_words(time: Duration, language: Language) -> String {
    let seconds = time.as_secs();
    let (count, en, zh) = match seconds {
        _ if seconds.is_multiple_of(86_400) => (seconds / 86_400, "day", "天"),
        _ if seconds.is_multiple_of(3600) => (seconds / 3600, "hour", "小时"),
        _ => (seconds, "second", "秒"),
    };
    match (language, count) {
        (Language::Zh, _) => format!("{count}{zh}"),
        (Language::En, 1) => format!("1 {en}"),
        (Language::En, _) => format!("{count} {en}s"),
    }
}

/// Why a call failed.
enum Why {
    Refused(Refusal),
    Flawed(Flaw),
    Account(AccountError),
    /// The token is too old to be renewed.
    TooLate,
}

impl From<Flaw> for Why {
    fn from(flaw: Flaw) -> Self {
        Self::Flawed(flaw)
    }
}

impl From<AccountError> for Why {
    fn from(error: AccountError) -> Self {
        Self::Account(error)
    }
}

// ── Functions ──

impl App {
    /// The API that `config` describes.
    pub fn build(config: &config::AppApi, accounts: Arc<Accounts>) -> Self {
        Self {
            places: Places::new(vec![(config.mount.clone(), &CALLS)]),
            accounts,
            renew_within: config.renew_within,
            menu: config.menu.clone(),
        }
    }

    /// Its calls, for the document.
    pub fn describe(config: &config::AppApi, document: &mut Document) {
        let part = Part {
            tag: "app",
            what: "The app API: mobile apps",
            mount: &config.mount,
            credentials: &[Credential::Header("token"), Credential::Bearer],
            failure: schema::<Failed>(),
        };
        document.add(&part, &CALLS);
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
        let row = match self.places.enter(&call)? {
            Entered::Call(row, _) => row,
            Entered::Answered(response) => return Ok(response),
        };
        let answer = match row.op {
            Op::AccessToken => self.access_token(&mut call, row.takes).await,
            Op::RefreshToken => self.refresh_token(&call).await,
            Op::Userinfo => self.userinfo(&call).await,
            Op::Usermenu => self.usermenu(&call).await,
        };
        Ok(answer.unwrap_or_else(|why| {
            let failure = self.told(&why, call.language());
            failure.render(Api::App, &call)
        }))
    }

    async fn access_token(&self, call: &mut Call<'_>, takes: Takes) -> Result<Response<Body>, Why> {
        let LogIn { username, password } = call.read(takes).await?;
        let login = Login {
            name: username,
            password: Secret::new(password),
        };
        let signed_in = self
            .accounts
            .log_in(Api::App, login, &call.client())
            .await?;
        Ok(success(Token::of(signed_in)))
    }

    /// Several at once with one token are as good as one: each gives a new token of the same session.
    async fn refresh_token(&self, call: &Call<'_>) -> Result<Response<Body>, Why> {
        let client = call.client();
        let signed_in = match call.permit.caller() {
            Caller::Unverified(Refusal::TokenExpired, credential) => {
                let token = credential.token.expose();
                let renewed = self
                    .accounts
                    .renew_expired(token, self.renew_within, &client);
                renewed.await.map_err(|error| match error {
                    AccountError::SessionExpired => Why::TooLate,
                    error => Why::Account(ended(error)),
                })?
            }
            _ => {
                let who = call.who().map_err(Why::Refused)?;
                self.accounts.renew(who, &client).await.map_err(ended)?
            }
        };
        Ok(success(Token::of(signed_in)))
    }

    async fn userinfo(&self, call: &Call<'_>) -> Result<Response<Body>, Why> {
        let user = self.user(call).await?;
        Ok(success(UserInfo::of(&user)))
    }

    async fn usermenu(&self, call: &Call<'_>) -> Result<Response<Body>, Why> {
        let user = self.user(call).await?;
        let menu = self
            .menu
            .iter()
            .filter(|(role, _)| {
                **role == *user.role || account::roles(&user).any(|it| it == &**role)
            })
            .filter_map(|(_, menu)| menu.as_array())
            .flatten();
        Ok(success(menu.collect::<Vec<_>>()))
    }

    async fn user(&self, call: &Call<'_>) -> Result<User, Why> {
        let who = call.who().map_err(Why::Refused)?;
        Ok(self.accounts.user(who.user).await.map_err(ended)?)
    }
}

/// Whoever was let in and may no more logs in again, where they are told why.
fn ended(error: AccountError) -> AccountError {
    match error {
        AccountError::UserDisabled | AccountError::UserBanned => AccountError::SessionGone,
        error => error,
    }
}

fn success<T: Serialize>(data: T) -> Response<Body> {
    let envelope = Envelope {
        code: 200,
        data,
        msg: "success",
    };
    page::json(StatusCode::OK, &envelope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_largest_unit() {
        for (seconds, zh, en) in [
            (7 * 86_400, "7天", "7 days"),
            (86_400, "1天", "1 day"),
            (7200, "2小时", "2 hours"),
            (90, "90秒", "90 seconds"),
            (1, "1秒", "1 second"),
        ] {
            let time = Duration::from_secs(seconds);
            assert_eq!(in_words(time, Language::Zh), zh);
            assert_eq!(in_words(time, Language::En), en);
        }
    }
}
