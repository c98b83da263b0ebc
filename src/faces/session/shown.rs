//! The session API's replies.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::accounts::log_in::Conversation;
use crate::faces::account;
use crate::records;
use crate::store::SessionSummary;

/// A user by its names.
#[derive(Serialize, JsonSchema)]
struct Names {
    id: i64,
    /// Or the e-mail address of a user who has no username.
    username: String,
    email: String,
}

/// A user.
#[derive(Serialize, JsonSchema)]
struct User {
    #[serde(flatten)]
    names: Names,
    created_at: String,
}

/// A session.
#[derive(Serialize, JsonSchema)]
struct Session {
    id: i64,
    name: String,
    created_at: String,
}

/// A session and when it was used.
#[derive(Serialize, JsonSchema)]
struct Used {
    #[serde(flatten)]
    session: Session,
    last_used_at: String,
    /// Whether its tokens are good; one that has ended is readable until it is deleted.
    is_active: bool,
}

/// A session in a list.
#[derive(Serialize, JsonSchema)]
struct Listed {
    #[serde(flatten)]
    used: Used,
    job_count: u64,
}

/// A session with a token, which is told this once.
#[derive(Serialize, JsonSchema)]
struct WithToken {
    #[serde(flatten)]
    session: Session,
    token: String,
}

/// A job, as its upstream told of it, with the fields that the configuration adds.
#[derive(Serialize, JsonSchema)]
struct Job {
    job_id: String,
    status: Option<String>,
    /// A number or a text.
    progress: Value,
    created_at: String,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

/// `message` alone.
#[derive(Serialize, JsonSchema)]
pub struct Done {
    success: bool,
    message: &'static str,
}

/// `POST /register`.
#[derive(Serialize, JsonSchema)]
pub struct Registered {
    success: bool,
    message: &'static str,
    user: User,
}

/// `POST /login`.
#[derive(Serialize, JsonSchema)]
pub struct LoggedIn {
    success: bool,
    message: &'static str,
    session: WithToken,
    user: Names,
}

/// `GET /verify`.
#[derive(Serialize, JsonSchema)]
pub struct Verified {
    success: bool,
    valid: bool,
    user: User,
    session: Used,
}

/// `GET /me`.
#[derive(Serialize, JsonSchema)]
pub struct Me {
    success: bool,
    user: User,
    current_session: Session,
}

/// `PATCH /me`.
#[derive(Serialize, JsonSchema)]
pub struct Changed {
    success: bool,
    message: &'static str,
    user: User,
}

/// `POST /new`.
#[derive(Serialize, JsonSchema)]
pub struct Made {
    success: bool,
    message: &'static str,
    session: WithToken,
}

/// `GET` of all sessions.
#[derive(Serialize, JsonSchema)]
pub struct List {
    success: bool,
    sessions: Vec<Listed>,
}

/// `GET /{id}`.
#[derive(Serialize, JsonSchema)]
pub struct WithJobs {
    success: bool,
    session: Listed,
    jobs: Vec<Job>,
}

/// `GET /current/jobs`.
#[derive(Serialize, JsonSchema)]
pub struct Jobs {
    success: bool,
    jobs: Vec<Job>,
}

/// `PATCH /{id}`.
#[derive(Serialize, JsonSchema)]
pub struct Renamed {
    success: bool,
    message: &'static str,
    session: Used,
}

impl Names {
    fn of(user: &records::User) -> Self {
        Self {
            id: user.number,
            username: account::shown_name(user),
            email: account::shown_email(user),
        }
    }
}

impl User {
    fn of(user: &records::User) -> Self {
        Self {
            names: Names::of(user),
            created_at: account::time(user.created_at),
        }
    }
}

impl Session {
    fn of(session: &records::Session) -> Self {
        Self {
            id: session.number,
            name: account::session_name(session),
            created_at: account::time(session.created_at),
        }
    }
}

impl Used {
    fn of(session: &records::Session) -> Self {
        Self {
            session: Session::of(session),
            last_used_at: account::time(session.last_used_at),
            is_active: session.ended_at.is_none(),
        }
    }
}

impl Listed {
    fn of(summary: &SessionSummary) -> Self {
        Self {
            used: Used::of(&summary.session),
            job_count: summary.job_count,
        }
    }
}

impl WithToken {
    fn of(made: &Conversation) -> Self {
        Self {
            session: Session::of(&made.session),
            token: made.token.expose().clone(),
        }
    }
}

impl Job {
    fn of(job: &records::Job) -> Self {
        // A configured field never stands in for one of these.
        let extra = job
            .extra
            .iter()
            .filter(|(name, _)| !OWN.contains(&&***name));
        Self {
            job_id: job.job_id.to_string(),
            status: job.status.as_deref().map(str::to_owned),
            progress: job.progress.clone().unwrap_or_default(),
            created_at: account::time(job.created_at),
            extra: extra
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        }
    }
}

const OWN: [&str; 4] = ["job_id", "status", "progress", "created_at"];

impl Done {
    /// It is done.
    pub fn of(message: &'static str) -> Self {
        Self {
            success: true,
            message,
        }
    }
}

impl Registered {
    /// A new user.
    pub fn of(user: &records::User) -> Self {
        Self {
            success: true,
            message: "User registered successfully",
            user: User::of(user),
        }
    }
}

impl LoggedIn {
    /// A log-in.
    pub fn of(conversation: &Conversation) -> Self {
        Self {
            success: true,
            message: "Login successful",
            session: WithToken::of(conversation),
            user: Names::of(&conversation.user),
        }
    }
}

impl Verified {
    /// A good credential.
    pub fn of(user: &records::User, session: &records::Session) -> Self {
        Self {
            success: true,
            valid: true,
            user: User::of(user),
            session: Used::of(session),
        }
    }
}

impl Me {
    /// Who is logged in.
    pub fn of(user: &records::User, session: &records::Session) -> Self {
        Self {
            success: true,
            user: User::of(user),
            current_session: Session::of(session),
        }
    }
}

impl Changed {
    /// The user as it is now.
    pub fn of(user: &records::User) -> Self {
        Self {
            success: true,
            message: "User updated",
            user: User::of(user),
        }
    }
}

impl Made {
    /// A new session.
    pub fn of(made: &Conversation) -> Self {
        Self {
            success: true,
            message: "New session created",
            session: WithToken::of(made),
        }
    }
}

impl List {
    /// All of these.
    pub fn of(sessions: &[SessionSummary]) -> Self {
        Self {
            success: true,
            sessions: sessions.iter().map(Listed::of).collect(),
        }
    }
}

impl WithJobs {
    /// A session and its jobs.
    pub fn of(summary: &SessionSummary, jobs: &[records::Job]) -> Self {
        Self {
            success: true,
            session: Listed::of(summary),
            jobs: jobs.iter().map(Job::of).collect(),
        }
    }
}

impl Jobs {
    /// These jobs.
    pub fn of(jobs: &[records::Job]) -> Self {
        Self {
            success: true,
            jobs: jobs.iter().map(Job::of).collect(),
        }
    }
}

impl Renamed {
    /// The session as it is now.
    pub fn of(session: &records::Session) -> Self {
        Self {
            success: true,
            message: "Session updated",
            session: Used::of(session),
        }
    }
}
