//! The session API's tables, requests and failures; `shown.rs` has the replies.

use super::shown;

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::openapi::{Answer, Param, ParamPlace, Row, SchemaOf, Takes, Who, schema};

/// Its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the tables say what each one does")]
pub enum Op {
    Register,
    Login,
    Verify,
    Logout,
    Me,
    ChangeMe,
    New,
    List,
    Show,
    CurrentJobs,
    Rename,
    Delete,
}

/// Below `auth_mount`.
pub static AUTH_CALLS: [Row<Op>; 6] = [
    Row {
        op: Op::Register,
        method: Method::POST,
        path: "/register",
        summary: "Make a user",
        who: Who::Anybody,
        takes: Takes::Json(schema::<Register>()),
        params: &[],
        answers: &[created::<shown::Registered>("The user")],
        fails: &[403, 409],
    },
    Row {
        op: Op::Login,
        method: Method::POST,
        path: "/login",
        summary: "Log in to the conversation last used, or to a first one, with a new token",
        who: Who::Anybody,
        takes: Takes::Json(schema::<LogIn>()),
        params: &[],
        answers: &[ok::<shown::LoggedIn>("The session and its new token")],
        fails: &[401, 403],
    },
    Row {
        op: Op::Verify,
        method: Method::GET,
        path: "/verify",
        summary: "Whether the credential is good",
        who: Who::Holder,
        takes: Takes::Nothing,
        params: &[],
        answers: &[ok::<shown::Verified>("It is")],
        fails: &[],
    },
    Row {
        op: Op::Logout,
        method: Method::POST,
        path: "/logout",
        summary: "End the token in hand",
        who: Who::Holder,
        takes: Takes::Nothing,
        params: &[],
        answers: &[ok::<shown::Done>("It has ended, and so have its streams")],
        fails: &[],
    },
    Row {
        op: Op::Me,
        method: Method::GET,
        path: "/me",
        summary: "Who is logged in, and where",
        who: Who::Holder,
        takes: Takes::Nothing,
        params: &[],
        answers: &[ok::<shown::Me>("The user and the session")],
        fails: &[],
    },
    Row {
        op: Op::ChangeMe,
        method: Method::PATCH,
        path: "/me",
        summary: "Change the user; a new password ends every other token",
        who: Who::Holder,
        takes: Takes::Json(schema::<ChangeMe>()),
        params: &[],
        answers: &[ok::<shown::Changed>("The user as it is now")],
        fails: &[403, 409],
    },
];

/// Below `sessions_mount`.
pub static SESSIONS_CALLS: [Row<Op>; 6] = [
    Row {
        op: Op::New,
        method: Method::POST,
        path: "/new",
        summary: "Begin another conversation",
        who: Who::Holder,
        takes: Takes::JsonOrNothing(schema::<NewSession>()),
        params: &[],
        answers: &[created::<shown::Made>("The session and its token")],
        fails: &[403],
    },
    Row {
        op: Op::List,
        method: Method::GET,
        path: "",
        summary: "The user's sessions, ended ones too",
        who: Who::Holder,
        takes: Takes::Nothing,
        params: &[],
        answers: &[ok::<shown::List>("The most recently used first")],
        fails: &[],
    },
    Row {
        op: Op::Show,
        method: Method::GET,
        path: "/{id}",
        summary: "A session with its jobs",
        who: Who::Holder,
        takes: Takes::Nothing,
        params: ID,
        answers: &[ok::<shown::WithJobs>("The newest job first")],
        fails: &[404],
    },
    Row {
        op: Op::CurrentJobs,
        method: Method::GET,
        path: "/current/jobs",
        summary: "The jobs of the session in hand",
        who: Who::Holder,
        takes: Takes::Nothing,
        params: &[],
        answers: &[ok::<shown::Jobs>("The newest first")],
        fails: &[],
    },
    Row {
        op: Op::Rename,
        method: Method::PATCH,
        path: "/{id}",
        summary: "Give a session another name",
        who: Who::Holder,
        takes: Takes::Json(schema::<Rename>()),
        params: ID,
        answers: &[ok::<shown::Renamed>("The session as it is now")],
        fails: &[404],
    },
    Row {
        op: Op::Delete,
        method: Method::DELETE,
        path: "/{id}",
        summary: "Delete a session with its tokens, streams and jobs",
        who: Who::Holder,
        takes: Takes::Nothing,
        params: ID,
        answers: &[ok::<shown::Done>("It is gone")],
        fails: &[404],
    },
];

const fn ok<T: JsonSchema>(what: &'static str) -> Answer {
    answer(200, what, schema::<T>())
}

const fn created<T: JsonSchema>(what: &'static str) -> Answer {
    answer(201, what, schema::<T>())
}

const fn answer(status: u16, what: &'static str, body: SchemaOf) -> Answer {
    Answer {
        status,
        what,
        body: Some(body),
    }
}

const ID: &[Param] = &[Param {
    place: ParamPlace::Path,
    name: "id",
    what: "The session's number",
    schema: schema::<SessionNumber>(),
}];

/// A session's number: small, never given twice.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it stands for its schema")]
struct SessionNumber(#[schemars(range(min = 1))] i64);

/// `POST /register`.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Register {
    #[schemars(length(min = 1, max = 255))]
    pub(super) username: String,
    #[schemars(length(min = 3, max = 255), extend("format" = "idn-email"))]
    pub(super) email: String,
    #[schemars(length(min = 1))]
    pub(super) password: String,
}

/// `POST /login`: one of the two names.
#[derive(Deserialize, JsonSchema)]
#[schemars(extend("anyOf" = [{"required": ["username"]}, {"required": ["email"]}]))]
pub(super) struct LogIn {
    pub(super) username: Option<String>,
    pub(super) email: Option<String>,
    pub(super) password: String,
}

/// `PATCH /me`.
#[derive(Deserialize, JsonSchema)]
pub(super) struct ChangeMe {
    #[schemars(length(min = 1, max = 255))]
    pub(super) username: Option<String>,
    #[schemars(length(min = 3, max = 255), extend("format" = "idn-email"))]
    pub(super) email: Option<String>,
    #[schemars(length(min = 1))]
    pub(super) password: Option<String>,
    /// Beside a new password.
    pub(super) current_password: Option<String>,
}

/// `POST /new`.
#[derive(Deserialize, JsonSchema)]
pub(super) struct NewSession {
    #[schemars(length(min = 1, max = 200))]
    pub(super) name: Option<String>,
}

/// `PATCH /{id}`.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Rename {
    #[schemars(length(min = 1, max = 200))]
    pub(super) name: String,
}

/// Every failure; as `refusal::style` prints it. `valid` stands beside the failure of `verify` alone.
#[derive(Serialize, JsonSchema)]
pub(super) struct Failed {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<bool>,
    error: String,
}
