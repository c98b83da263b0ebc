//! The Supabase API: enough of Supabase Auth for its unmodified clients. What makes or breaks them is noted where it is
//! done. `calls.rs` is the table; `requests.rs`, `replies.rs` and `refusals.rs` are the dialect; `keys.rs` and `cors.rs` stand
//! before every call; `sign.rs`, `user.rs`, `mail.rs`, `links.rs` and `admin.rs` are the functions.

mod admin;
pub mod calls;
mod caller;
pub mod cors;
pub mod keys;
mod links;
mod mail;
pub mod refusals;
pub mod replies;
pub mod requests;
mod sign;
mod user;

use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONNECTION};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::calls::{CALLS, Op, Query};
use self::cors::Origins;
use self::keys::{Keys, Right};
use self::refusals::{Failure, Shape};
use self::replies::{External, FailureReply, Health, Settings};
use crate::accounts::Accounts;
use crate::body::Body;
use crate::config;
use crate::faces::Call;
use crate::faces::body::{self, Flaw};
use crate::faces::own::JWKS_FRESH;
use crate::faces::page::{self, JSON};
use crate::openapi::document::{Credential, Document, Part};
use crate::openapi::{self, Found, Takes, schema};
use crate::refusal::Refusal;
use crate::request::head::Head;

/// The Supabase API.
pub struct Supabase {
    accounts: Arc<Accounts>,
    mount: Box<str>,
    keys: Keys,
    origins: Origins,
    switches: Switches,
}

/// What `/settings` tells of `[accounts]`.
#[derive(Clone, Copy, Debug)]
struct Switches {
    sign_up: bool,
    anonymous: bool,
    confirm_email: bool,
}

/// A call on its way: known, with a key that is good for this.
struct Asked<'r> {
    call: Call<'r>,
    query: Query,
    right: Right,
    /// The segments of its path that parameters stand for.
    args: Vec<&'r str>,
    takes: Takes,
}

/// What a function answers.
type Answered = Result<Response<Body>, Failure>;

impl Supabase {
    /// The API as the configuration has it.
    pub fn build(
        api: &config::SupabaseApi,
        accounts_config: &config::Accounts,
        accounts: Arc<Accounts>,
    ) -> Self {
        Self {
            accounts,
            mount: api.mount.clone(),
            keys: Keys::build(api),
            origins: Origins::build(&api.cors_origins),
            switches: Switches {
                sign_up: accounts_config.sign_up,
                anonymous: accounts_config.anonymous,
                confirm_email: accounts_config.confirm_email,
            },
        }
    }

    /// Its calls, for the document.
    pub fn describe(config: &config::SupabaseApi, document: &mut Document) {
        let part = Part {
            tag: "supabase",
            what: "The Supabase API: for the clients of Supabase Auth",
            mount: &config.mount,
            credentials: &[Credential::Bearer],
            failure: schema::<FailureReply>(),
        };
        document.add(&part, CALLS);
    }

    /// Whether there is such a call, for `explain` and `[[test]]`. A preflight may ask for anything: what is not
    /// there is told to the request itself, where a page can read it.
    ///
    /// # Errors
    /// `route_not_found`, `method_refused`, `upgrade_refused`.
    pub fn check(&self, head: &Head) -> Result<(), Refusal> {
        if head.is_websocket() {
            return Err(Refusal::UpgradeRefused);
        }
        match self.find(head) {
            _ if head.method() == Method::OPTIONS => Ok(()),
            Found::Call(..) | Found::Options(_) => Ok(()),
            Found::Method(_) => Err(Refusal::MethodRefused),
            Found::Nothing => Err(Refusal::RouteNotFound),
        }
    }

    /// Answers a call, failures included: all that stands below the mount is this API's.
    ///
    /// # Errors
    /// `upgrade_refused` for a WebSocket.
    pub async fn serve(&self, call: Call<'_>) -> Result<Response<Body>, Refusal> {
        let head = call.head;
        if head.is_websocket() {
            return Err(Refusal::UpgradeRefused);
        }
        let shape = Shape::of(call.headers.get(refusals::VERSION));
        let request_id = call.wanted.request_id;
        let is_http1 = matches!(call.wanted.version, Version::HTTP_10 | Version::HTTP_11);
        let answer = match *head.method() {
            // Before the key: browsers send none along with the question.
            Method::OPTIONS => Ok(cors::preflight()),
            _ => self.answer(call).await,
        };
        let mut response = answer.unwrap_or_else(|failure| {
            let mut response = failure.render(shape, request_id);
            if is_http1 && failure.leaves_body() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            response
        });
        self.dress(head, response.headers_mut());
        Ok(response)
    }

    /// Lets pages read an answer, also one that the gate gave in place of this API.
    pub fn dress(&self, head: &Head, headers: &mut HeaderMap) {
        self.origins.open(head.origin(), headers);
    }

    fn find<'p>(&self, head: &'p Head) -> Found<'static, 'p, Op> {
        match head.path().strip_prefix(&*self.mount) {
            Some(below) => openapi::find(CALLS, head.method(), below),
            None => Found::Nothing,
        }
    }

    async fn answer(&self, call: Call<'_>) -> Answered {
        let query = call.head.query().unwrap_or_default();
        let query: Query = body::form(query.as_bytes())
            .map_err(|_| Failure::invalid("The query cannot be read"))?;
        let found = self.find(call.head);
        let is_open = matches!(&found, Found::Call(row, _) if row.op.is_open());
        let right = match is_open {
            true => Right::Anon,
            false => self.keys.right(api_key(&call, &query)?)?,
        };
        let (row, args) = match found {
            Found::Call(row, args) => (row, args),
            Found::Method(allow) | Found::Options(allow) => {
                return Err(refusals::not_allowed(allow));
            }
            Found::Nothing => return Err(refusals::NOT_FOUND),
        };
        let asked = Asked {
            call,
            query,
            right,
            args,
            takes: row.takes,
        };
        match row.op {
            Op::SignUp => self.sign_up(asked).await,
            Op::Token => self.token(asked).await,
            Op::Verify => self.verify(asked).await,
            Op::VerifyLink => self.verify_link(asked).await,
            Op::Invite => self.invite(asked).await,
            Op::GenerateLink => self.generate_link(asked).await,
            Op::User => self.user(asked).await,
            Op::UpdateUser => self.update_user(asked).await,
            Op::LogOut => self.log_out(asked).await,
            Op::Reauthenticate => self.reauthenticate(asked).await,
            Op::Recover => self.recover(asked).await,
            Op::Otp | Op::MagicLink => self.otp(asked).await,
            Op::Resend => self.resend(asked).await,
            Op::ListUsers => self.list_users(asked).await,
            Op::CreateUser => self.create_user(asked).await,
            Op::GetUser => self.get_user(asked).await,
            Op::ChangeUser => self.change_user(asked).await,
            Op::DeleteUser => self.delete_user(asked).await,
            Op::Health => Ok(reply(&HEALTH)),
            Op::Settings => Ok(reply(&self.settings())),
            Op::Jwks => Ok(self.jwks()),
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            external: External {
                anonymous_users: self.switches.anonymous,
                email: true,
                phone: false,
                others: OTHERS.into_iter().map(|name| (name, false)).collect(),
            },
            disable_signup: !self.switches.sign_up,
            mailer_autoconfirm: !self.switches.confirm_email,
            phone_autoconfirm: false,
            sms_provider: "",
            saml_enabled: false,
            saml_private_key_next_configured: false,
            passkeys_enabled: false,
        }
    }

    /// The public keys. The clients keep them for ten minutes whatever is said here.
    fn jwks(&self) -> Response<Body> {
        let mut response = page::page(JSON, StatusCode::OK, self.accounts.public_keys());
        let fresh = HeaderValue::from_static(JWKS_FRESH);
        response.headers_mut().insert(CACHE_CONTROL, fresh);
        response
    }
}

impl Asked<'_> {
    /// The body as a request.
    async fn read<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        self.call
            .read(self.takes)
            .await
            .map_err(|flaw| flawed(&flaw))
    }
}

/// The `apikey` of a request: its header, else its query.
fn api_key<'q>(call: &'q Call<'_>, query: &'q Query) -> Result<Option<&'q str>, Failure> {
    let mut values = call.headers.get_all("apikey").iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(query.apikey.as_deref()),
        (Some(value), None) => value
            .to_str()
            .map(Some)
            .map_err(|_| Failure::key("Invalid API key")),
        (Some(_), Some(_)) => Err(Failure::key("Invalid API key")),
    }
}

/// What is wrong with a body, in this API's words.
fn flawed(flaw: &Flaw) -> Failure {
    match flaw {
        Flaw::Syntax | Flaw::Broken => refusals::BAD_JSON,
        Flaw::Missing(_) | Flaw::Wrong(_) => {
            Failure::invalid("A field of the body is missing or of the wrong type")
        }
        Flaw::Type => Failure::new(415, "bad_json", "Content-Type must be application/json"),
        Flaw::TooLarge => {
            Failure::new(413, "request_entity_too_large", "Request body is too large")
        }
        Flaw::TimedOut => Failure::new(408, "request_timeout", "Request body stopped arriving"),
    }
}

/// 200 with JSON: a 204 where the clients expect a body breaks them.
fn reply(body: &impl Serialize) -> Response<Body> {
    page::json(StatusCode::OK, body)
}

/// Providers that the original knows. Tools look for each of them, and take what is missing for a mistake.
const OTHERS: [&str; 23] = [
    "apple",
    "azure",
    "bitbucket",
    "discord",
    "facebook",
    "figma",
    "fly",
    "github",
    "gitlab",
    "google",
    "kakao",
    "keycloak",
    "linkedin",
    "linkedin_oidc",
    "notion",
    "slack",
    "slack_oidc",
    "snapchat",
    "spotify",
    "twitch",
    "twitter",
    "workos",
    "zoom",
];

const HEALTH: Health = Health {
    version: concat!("v", env!("CARGO_PKG_VERSION")),
    // Tools look for this name.
    name: "GoTrue",
    description: "GoTrue is a user registration and authentication API",
};
