//! What a store keeps, as plain rows: users, sessions, session tokens, one-time codes, signing keys, jobs.
//! `store/` reads and writes them, `accounts/` says what they mean, the faces print them. No rule lives here.

use std::fmt;
use std::net::IpAddr;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::secret::Secret;

/// Milliseconds since the Unix epoch.
pub type UnixMillis = i64;

/// A JSON object.
pub type Object = Map<String, Value>;

/// A user's id, `sub` of the tokens. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub Uuid);

/// A session's id, `session_id` of the tokens. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub Uuid);

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A name as its owner wrote it, and the form in which it is compared and unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username {
    /// As it is shown.
    pub shown: Box<str>,
    /// As it is compared (RFC 8265 UsernameCaseMapped).
    pub key: Box<str>,
}

/// An e-mail address in the one form in which it is kept, shown and compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Email(pub Box<str>);

/// A user.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct User {
    pub id: UserId,
    /// The session API's and the token API's face of the id: small, never given twice.
    pub number: i64,
    pub username: Option<Username>,
    pub email: Option<Email>,
    pub phone: Option<Box<str>>,
    /// `$argon2id$…` or `$2b$…`; `None`: no password logs this user in.
    pub password: Option<Secret<String>>,
    /// `authenticated`.
    pub role: Box<str>,
    pub anonymous: bool,
    /// By an operator: nothing of the user's is accepted.
    pub disabled: bool,
    pub banned_until: Option<UnixMillis>,
    pub app_metadata: Object,
    pub user_metadata: Object,
    pub email_confirmed_at: Option<UnixMillis>,
    pub phone_confirmed_at: Option<UnixMillis>,
    /// By an operator.
    pub invited_at: Option<UnixMillis>,
    pub confirmation_sent_at: Option<UnixMillis>,
    pub recovery_sent_at: Option<UnixMillis>,
    pub reauthentication_sent_at: Option<UnixMillis>,
    /// The address that is to replace `email` once it is confirmed, and when that was asked.
    pub email_change: Option<(Email, UnixMillis)>,
    pub last_sign_in_at: Option<UnixMillis>,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
    /// Deleted softly: the row stays, nothing in it tells who it was.
    pub deleted_at: Option<UnixMillis>,
}

/// Which API made a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Api {
    App,
    Session,
    Token,
    Supabase,
}

impl Api {
    /// The stable word: in the store, in metrics and in audit lines.
    pub fn word(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Session => "session",
            Self::Token => "token",
            Self::Supabase => "supabase",
        }
    }

    /// The API of this word.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::App, Self::Session, Self::Token, Self::Supabase]
            .into_iter()
            .find(|api| api.word() == word)
    }
}

/// How somebody logged in (`amr` of the tokens).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// `password`, `anonymous` or `otp`.
    pub method: Box<str>,
    /// When.
    pub at: UnixMillis,
}

/// What a client said of itself when it logged in or refreshed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Client {
    pub user_agent: Option<Box<str>>,
    pub address: Option<IpAddr>,
    /// Of the call that it made, for the audit line; not kept.
    pub request_id: Option<Box<str>>,
}

/// A session: a device's log-in, or (session API) a conversation with its jobs.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Session {
    pub id: SessionId,
    /// The session API's face of the id: small, never given twice.
    pub number: i64,
    pub user: UserId,
    /// `Session`: a conversation, which outlives log-outs. The others: a log-in, which ends with them.
    pub api: Api,
    pub name: Option<Box<str>>,
    pub client: Client,
    pub authentication: Authentication,
    pub created_at: UnixMillis,
    pub last_used_at: UnixMillis,
    /// The last rotation of its refresh token.
    pub refreshed_at: Option<UnixMillis>,
    /// How many refresh tokens were made in it; the newest one's number. 0: none.
    pub refresh_counter: u64,
    /// Access tokens and refresh tokens of a session that has ended are refused. Its row and jobs stay.
    pub ended_at: Option<UnixMillis>,
}

/// An opaque session token, without the token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SessionToken {
    /// Names it in revocations; never given twice.
    pub number: i64,
    pub session: SessionId,
    pub user: UserId,
    pub created_at: UnixMillis,
}

/// The SHA-256 of an opaque token or a one-time code: all that the store knows of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(***)")
    }
}

/// What a one-time code is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum CodeKind {
    Signup,
    Recovery,
    Magiclink,
    EmailChange,
    Reauthentication,
    Invite,
}

impl CodeKind {
    /// The stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Signup => "signup",
            Self::Recovery => "recovery",
            Self::Magiclink => "magiclink",
            Self::EmailChange => "email_change",
            Self::Reauthentication => "reauthentication",
            Self::Invite => "invite",
        }
    }

    /// The kind of this word.
    pub fn of_word(word: &str) -> Option<Self> {
        [
            Self::Signup,
            Self::Recovery,
            Self::Magiclink,
            Self::EmailChange,
            Self::Reauthentication,
            Self::Invite,
        ]
        .into_iter()
        .find(|kind| kind.word() == word)
    }
}

/// A code that was sent to a user: one of each kind at most.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Code {
    pub user: UserId,
    pub kind: CodeKind,
    pub hash: TokenHash,
    /// The longer form for links (`token_hash`), hashed.
    pub link_hash: TokenHash,
    pub sent_to: Email,
    pub made_at: UnixMillis,
}

/// One of the gateway's own signing keys, sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct KeyRecord {
    pub kid: Box<str>,
    /// `ES256`, `RS256`, `EdDSA` or `HS256`.
    pub algorithm: Box<str>,
    /// The private key, encrypted by whoever holds the store's secret.
    pub sealed: Box<[u8]>,
    pub created_at: UnixMillis,
    /// From when on it signs; published before.
    pub signs_from: UnixMillis,
    /// Until when it verifies; `None`: no end is set.
    pub verifies_until: Option<UnixMillis>,
}

/// What an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobKind {
    /// A job of an upstream.
    Job,
    /// A file that a job made.
    File,
    /// An id that a client chose for itself, and that the upstream tells clients apart by.
    Client,
}

impl JobKind {
    /// The stable word: in the store and in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::File => "file",
            Self::Client => "client",
        }
    }

    /// The kind of this word.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Job, Self::File, Self::Client]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

/// Whose a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// A user of the gateway's own; of another issuer's, what stands for both names in the index.
    pub user: UserId,
    /// Who it is, where the user is not the gateway's own.
    pub outside: Option<Outsider>,
    /// The gateway's own session that it was made in, while there is such.
    pub session: Option<SessionId>,
    /// The session as the other issuer calls it.
    pub outside_session: Option<Box<str>>,
}

/// A user of another issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the claims of these names")]
pub struct Outsider {
    pub issuer: Box<str>,
    pub subject: Box<str>,
}

impl Owner {
    /// Whether both are one user.
    pub fn is_user(&self, other: &Self) -> bool {
        self.user == other.user && self.outside == other.outside
    }

    /// Whether both are one user in one session. A user without a session is in none.
    pub fn is_session(&self, other: &Self) -> bool {
        let same = self.session.is_some() && self.session == other.session;
        let outside = self.outside_session.is_some();
        self.is_user(other) && (same || outside && self.outside_session == other.outside_session)
    }
}

/// A job of an upstream, as the gateway knows it; or a file of one, or a client's id, which have an owner alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// What it is.
    pub kind: JobKind,
    /// Where its id counts: an upstream's name, unless the configuration says another.
    pub space: Box<str>,
    /// The upstream's own id.
    pub job_id: Box<str>,
    /// Whose it is.
    pub owner: Owner,
    /// As the upstream calls it.
    pub status: Option<Box<str>>,
    /// As the upstream wrote it: a number or a text.
    pub progress: Option<Value>,
    /// The configured extra fields.
    pub extra: Object,
    /// When it was first seen.
    pub created_at: UnixMillis,
    /// When something new was last heard of it.
    pub updated_at: UnixMillis,
}
