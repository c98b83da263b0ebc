//! The calls of the Supabase API.

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use super::replies::{Done, Health, Jwks, LinkReply, Settings, TokenReply, UserReply, UsersReply};
use super::requests::{
    AdminUser, DeleteUser, GenerateLink, Grant, Invite, Otp, Recover, Resend, SignUp, UserUpdate,
    Verify,
};
use crate::openapi::{Answer, Param, ParamPlace, Row, Takes, Who, schema};

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table says it")]
pub enum Op {
    SignUp,
    Token,
    User,
    UpdateUser,
    LogOut,
    Reauthenticate,
    Recover,
    Otp,
    MagicLink,
    Resend,
    Verify,
    VerifyLink,
    Invite,
    GenerateLink,
    Health,
    Settings,
    Jwks,
    ListUsers,
    CreateUser,
    GetUser,
    ChangeUser,
    DeleteUser,
}

impl Op {
    /// Whether it is asked without an API key: by links, and by whoever verifies tokens.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Verify | Self::VerifyLink | Self::Jwks)
    }
}

/// All queries at once: each call reads what it knows.
#[derive(Debug, Default, Deserialize)]
pub struct Query {
    pub(super) apikey: Option<String>,
    pub(super) grant_type: Option<String>,
    pub(super) scope: Option<String>,
    pub(super) page: Option<String>,
    pub(super) per_page: Option<String>,
    pub(super) filter: Option<String>,
    pub(super) sort: Option<String>,
    pub(super) redirect_to: Option<String>,
    pub(super) r#type: Option<String>,
    pub(super) token: Option<String>,
    pub(super) token_hash: Option<String>,
}

/// How much a log-out ends.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "for the document")]
enum ScopeWord {
    Global,
    Local,
    Others,
}

/// What `/token` is given.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "for the document")]
enum GrantWord {
    Password,
    RefreshToken,
}

const fn query(name: &'static str, what: &'static str, schema: crate::openapi::SchemaOf) -> Param {
    Param {
        place: ParamPlace::Query,
        name,
        what,
        schema,
    }
}

const API_KEY: Param = Param {
    place: ParamPlace::Header,
    name: "apikey",
    what: "The application's key",
    schema: schema::<String>(),
};

const REDIRECT: Param = query(
    "redirect_to",
    "Where the link in the mail leads to: told to the mail hook",
    schema::<String>(),
);

/// A UUID.
#[derive(JsonSchema)]
#[schemars(extend("format" = "uuid"))]
#[expect(dead_code, reason = "for the document")]
struct Uuid(String);

const ID: Param = Param {
    place: ParamPlace::Path,
    name: "id",
    what: "The user's id, a UUID",
    schema: schema::<Uuid>(),
};

const USER: &[Answer] = &[Answer {
    status: 200,
    what: "The user",
    body: Some(schema::<UserReply>()),
}];

const SESSION: &[Answer] = &[Answer {
    status: 200,
    what: "A session",
    body: Some(schema::<TokenReply>()),
}];

const DONE: &[Answer] = &[Answer {
    status: 200,
    what: "Done, or nothing to do: who has an account is not told",
    body: Some(schema::<Done>()),
}];

/// The calls, below the mount.
#[rustfmt::skip]
pub static CALLS: &[Row<Op>] = &[
    Row { op: Op::SignUp, method: Method::POST, path: "/signup", who: Who::Anybody, takes: Takes::Json(schema::<SignUp>()), params: &[API_KEY, REDIRECT], answers: SESSION, fails: &[400, 401, 422, 429],
          summary: "Make a user and a session; without e-mail and phone an anonymous one. Where the address must be confirmed first: the user alone" },
    Row { op: Op::Token, method: Method::POST, path: "/token", who: Who::Anybody, takes: Takes::Json(schema::<Grant>()), params: &[API_KEY, query("grant_type", "What is given", schema::<GrantWord>())], answers: SESSION, fails: &[400, 401, 422, 429],
          summary: "A session for a password, or the next tokens of one for a refresh token" },
    Row { op: Op::User, method: Method::GET, path: "/user", who: Who::Holder, takes: Takes::Nothing, params: &[API_KEY], answers: USER, fails: &[401, 403],
          summary: "The user of the access token" },
    Row { op: Op::UpdateUser, method: Method::PUT, path: "/user", who: Who::Holder, takes: Takes::Json(schema::<UserUpdate>()), params: &[API_KEY, REDIRECT], answers: USER, fails: &[400, 401, 403, 422, 429],
          summary: "Change the user of the access token" },
    Row { op: Op::LogOut, method: Method::POST, path: "/logout", who: Who::Holder, takes: Takes::Nothing, params: &[API_KEY, query("scope", "How much ends", schema::<ScopeWord>())], answers: &[Answer { status: 204, what: "It has ended", body: None }], fails: &[400, 401, 403],
          summary: "End sessions of the user of the access token" },
    Row { op: Op::Reauthenticate, method: Method::GET, path: "/reauthenticate", who: Who::Holder, takes: Takes::Nothing, params: &[API_KEY], answers: DONE, fails: &[400, 401, 403, 422, 429],
          summary: "Mail a code to the user" },
    Row { op: Op::Recover, method: Method::POST, path: "/recover", who: Who::Anybody, takes: Takes::Json(schema::<Recover>()), params: &[API_KEY, REDIRECT], answers: DONE, fails: &[400, 401, 422, 429],
          summary: "Mail a code to whoever has forgotten the password" },
    Row { op: Op::Otp, method: Method::POST, path: "/otp", who: Who::Anybody, takes: Takes::Json(schema::<Otp>()), params: &[API_KEY, REDIRECT], answers: DONE, fails: &[400, 401, 422, 429],
          summary: "Mail a code to sign in with" },
    Row { op: Op::MagicLink, method: Method::POST, path: "/magiclink", who: Who::Anybody, takes: Takes::Json(schema::<Otp>()), params: &[API_KEY, REDIRECT], answers: DONE, fails: &[400, 401, 422, 429],
          summary: "As /otp" },
    Row { op: Op::Resend, method: Method::POST, path: "/resend", who: Who::Anybody, takes: Takes::Json(schema::<Resend>()), params: &[API_KEY, REDIRECT], answers: DONE, fails: &[400, 401, 422, 429],
          summary: "Mail the code of a sign-up or of a change of address again" },
    Row { op: Op::Verify, method: Method::POST, path: "/verify", who: Who::Anybody, takes: Takes::Json(schema::<Verify>()), params: &[], answers: SESSION, fails: &[400, 403, 422, 429],
          summary: "A session for a mailed code" },
    Row { op: Op::VerifyLink, method: Method::GET, path: "/verify", who: Who::Anybody, takes: Takes::Nothing, params: &[query("token_hash", "What stood in the mail; `token` is another name of it", schema::<String>()), query("type", "For what it was made", schema::<String>()), query("redirect_to", "Where to go from here: an address below one of accounts.mail.redirects, else the first of them", schema::<String>())], answers: &[Answer { status: 303, what: "To the application, with a session or an error behind the #", body: None }], fails: &[400],
          summary: "What a link in a mail leads to" },
    Row { op: Op::Invite, method: Method::POST, path: "/invite", who: Who::Holder, takes: Takes::Json(schema::<Invite>()), params: &[API_KEY, REDIRECT], answers: USER, fails: &[400, 401, 403, 422],
          summary: "Make a user, and mail it a code with which it confirms its address and is in" },
    Row { op: Op::Health, method: Method::GET, path: "/health", who: Who::Anybody, takes: Takes::Nothing, params: &[API_KEY], answers: &[Answer { status: 200, what: "It is alive", body: Some(schema::<Health>()) }], fails: &[401],
          summary: "What this is" },
    Row { op: Op::Settings, method: Method::GET, path: "/settings", who: Who::Anybody, takes: Takes::Nothing, params: &[API_KEY], answers: &[Answer { status: 200, what: "What is switched on", body: Some(schema::<Settings>()) }], fails: &[401],
          summary: "What is switched on" },
    Row { op: Op::Jwks, method: Method::GET, path: "/.well-known/jwks.json", who: Who::Anybody, takes: Takes::Nothing, params: &[], answers: &[Answer { status: 200, what: "The public keys", body: Some(schema::<Jwks>()) }], fails: &[],
          summary: "The keys that access tokens are verified with" },
    Row { op: Op::ListUsers, method: Method::GET, path: "/admin/users", who: Who::Holder, takes: Takes::Nothing, params: &[API_KEY, query("page", "From 1", schema::<String>()), query("per_page", "50 if it is not given", schema::<String>()), query("filter", "Only those whose e-mail, username or full name holds this", schema::<String>()), query("sort", "created_at asc, or created_at desc", schema::<String>())], answers: &[Answer { status: 200, what: "A page of users; Link and X-Total-Count tell the others", body: Some(schema::<UsersReply>()) }], fails: &[400, 401, 403],
          summary: "Users, the newest first" },
    Row { op: Op::CreateUser, method: Method::POST, path: "/admin/users", who: Who::Holder, takes: Takes::Json(schema::<AdminUser>()), params: &[API_KEY], answers: USER, fails: &[400, 401, 403, 422],
          summary: "Make a user" },
    Row { op: Op::GenerateLink, method: Method::POST, path: "/admin/generate_link", who: Who::Holder, takes: Takes::Json(schema::<GenerateLink>()), params: &[API_KEY, REDIRECT], answers: &[Answer { status: 200, what: "The user, the link and the code", body: Some(schema::<LinkReply>()) }], fails: &[400, 401, 403, 404, 422],
          summary: "What would be mailed, for an operator who sends it" },
    Row { op: Op::GetUser, method: Method::GET, path: "/admin/users/{id}", who: Who::Holder, takes: Takes::Nothing, params: &[API_KEY, ID], answers: USER, fails: &[401, 403, 404],
          summary: "A user" },
    Row { op: Op::ChangeUser, method: Method::PUT, path: "/admin/users/{id}", who: Who::Holder, takes: Takes::Json(schema::<AdminUser>()), params: &[API_KEY, ID], answers: USER, fails: &[400, 401, 403, 404, 422],
          summary: "Change a user" },
    Row { op: Op::DeleteUser, method: Method::DELETE, path: "/admin/users/{id}", who: Who::Holder, takes: Takes::JsonOrNothing(schema::<DeleteUser>()), params: &[API_KEY, ID], answers: DONE, fails: &[400, 401, 403, 404],
          summary: "Delete a user, with all sessions" },
];
