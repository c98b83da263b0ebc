//! Where users, sessions and keys are kept: the `Store` contract, and its two engines, SQLite in one file
//! and PostgreSQL. Each method is one transaction, durable when it answers; it holds no rule of the domain: where one
//! must hold within a transaction, the caller gives it as a function.

mod migrate;
mod postgres;
mod rows;
mod sql;
mod sqlite;
mod values;

use std::pin::Pin;
use std::sync::Arc;

use crate::clock::UnixSeconds;
use crate::config::{self, StorePlace};
use crate::records::{
    Api, Authentication, Client, Code, CodeKind, Email, Job, JobKind, KeyRecord, Object, Session,
    SessionId, SessionToken, TokenHash, UnixMillis, User, UserId, Username,
};
use crate::secret::Secret;
use crate::state::Ended;
use crate::state::bans::Banned;

pub use migrate::Foreign;

/// What a method answers, when it is there. May be awaited on any thread.
pub type Answer<'s, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 's>>;

/// Why a store did not do it. Nothing was changed then, but for an `Unavailable` where the connection broke or the
/// disk failed during the commit itself: nobody can tell then.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another row has what must be unique.
    #[error("taken: {0:?}")]
    Taken(Unique),
    /// The database cannot be reached, is locked, or its disk is full. Trying again may help.
    #[error("the store is unavailable: {0}")]
    Unavailable(Box<dyn std::error::Error + Send + Sync>),
    /// The database answered what it should not, or holds what this version cannot read.
    #[error("the store failed: {0}")]
    Broken(Box<dyn std::error::Error + Send + Sync>),
    /// This store does not do it, or not so; the text says what to do instead.
    #[error("{0}")]
    Refused(Box<str>),
}

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be made or reached.
    #[error("the store cannot be opened: {0}")]
    Unavailable(Box<dyn std::error::Error + Send + Sync>),
    /// It is not one of this version.
    #[error("the store cannot be used: {0}")]
    Foreign(#[from] Foreign),
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(cause) | StoreError::Broken(cause) => Self::Unavailable(cause),
            other => Self::Unavailable(other.into()),
        }
    }
}

impl From<std::io::Error> for OpenError {
    fn from(error: std::io::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

/// Opens the store of a configuration and brings it to the form of this version. Blocks until that is done;
/// several processes may do it at once.
pub fn open(store: &config::Store) -> Result<Arc<dyn Store>, OpenError> {
    match &store.place {
        StorePlace::Sqlite(path) => Ok(Arc::new(sqlite::Sqlite::open(path, store)?)),
        StorePlace::Postgres(url) => Ok(Arc::new(postgres::Postgres::open(url, store)?)),
    }
}

/// How long a note of an end is kept, in milliseconds: longer than any process remembers a verification.
pub(crate) const ENDS_KEPT: UnixMillis = 24 * 3600 * 1000;

/// What must be unique among users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Unique {
    Id,
    Username,
    Email,
    Phone,
}

/// A user to be made. Numbers are the store's to give.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "as in `User`")]
pub struct NewUser {
    pub id: UserId,
    pub username: Option<Username>,
    pub email: Option<Email>,
    pub phone: Option<Box<str>>,
    pub password: Option<Secret<String>>,
    pub role: Box<str>,
    pub anonymous: bool,
    pub banned_until: Option<UnixMillis>,
    pub app_metadata: Object,
    pub user_metadata: Object,
    pub email_confirmed_at: Option<UnixMillis>,
    pub phone_confirmed_at: Option<UnixMillis>,
    pub confirmation_sent_at: Option<UnixMillis>,
    pub created_at: UnixMillis,
}

/// A session to be made.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "as in `Session`")]
pub struct NewSession {
    pub id: SessionId,
    pub user: UserId,
    pub api: Api,
    pub name: Option<Box<str>>,
    pub client: Client,
    pub authentication: Authentication,
    pub refresh_counter: u64,
    pub created_at: UnixMillis,
    /// Its first opaque token.
    pub token: Option<TokenHash>,
    /// Also written to the user's `last_sign_in_at`.
    pub signs_in: SignIn,
    /// So many sessions, and so many opaque tokens, may its user have then: the others end with it.
    pub most: u32,
}

/// A session that its user has from now on: made, or found again.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// The session.
    pub session: Session,
    /// Its user, as it was when the session was written.
    pub user: User,
    /// What ended because the user had too much: the sessions that were not used for longest, the oldest opaque tokens.
    pub surplus: Vec<Ended>,
}

/// Whether a session is made by a log-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum SignIn {
    Yes,
    No,
}

/// Which sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// This one.
    One(SessionId),
    /// All of a user.
    All(UserId),
    /// All of a user but this one.
    Others(UserId, SessionId),
    /// What log-ins of a user made: all but its conversations.
    LogIns(UserId),
    /// The same but for this one.
    OtherLogIns(UserId, SessionId),
}

/// Which opaque tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// This one, by its number.
    One(i64),
    /// All of a session.
    OfSession(SessionId),
    /// All of a user.
    All(UserId),
    /// All of a user but this one, by its number.
    Others(UserId, i64),
}

/// A session with what the lists show of it.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SessionSummary {
    pub session: Session,
    pub job_count: u64,
}

/// An opaque token with all that it stands for.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct TokenOwner {
    pub token: SessionToken,
    pub session: Session,
    pub user: User,
}

/// What becomes of a row that a function looked at within the transaction.
#[derive(Clone, Debug)]
pub enum Change<T> {
    /// As it was.
    Keep,
    /// Written so. Ids, numbers and owners are not written.
    Write(T),
    /// Taken away, with all that hangs on it.
    Delete,
}

/// Looks at a user within the transaction that then writes it.
pub type UserChange = Box<dyn FnOnce(&User) -> Change<User> + Send>;

/// Looks at a session and its user within the transaction that then writes the session. Two changes of one
/// session never see the same row: the second sees what the first wrote.
pub type SessionChange = Box<dyn FnOnce(&Session, &User) -> Change<Session> + Send>;

/// A page of users, newest first.
#[derive(Clone, Debug)]
pub struct UserQuery {
    /// How many to leave out.
    pub offset: u64,
    /// How many at most.
    pub limit: u64,
    /// In their e-mail, username or `user_metadata.full_name`, in any case.
    pub containing: Option<Box<str>>,
    /// The oldest first.
    pub oldest_first: OldestFirst,
}

/// The order of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum OldestFirst {
    Yes,
    No,
}

/// What upkeep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Pruned {
    pub sessions: u64,
    pub codes: u64,
    /// Anonymous ones.
    pub users: u64,
    /// Of the users removed.
    pub jobs: u64,
}

/// How old what upkeep removes must be.
#[derive(Clone, Copy, Debug)]
pub struct PruneBefore {
    /// Sessions that ended before, and log-ins not used since before; both only without jobs.
    pub sessions: UnixMillis,
    /// Codes made before.
    pub codes: UnixMillis,
    /// Anonymous users without a session that were made before; `None`: they stay.
    pub anonymous: Option<UnixMillis>,
}

/// What is told of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobNews {
    /// The job, as far as it was told; its owner is who is told it.
    pub job: Job,
    /// The names of its files.
    pub files: Vec<Box<str>>,
    /// Whether who hears of an id that nobody has becomes its owner.
    pub claim: Claim,
}

/// Whether what nobody owns becomes the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Claim {
    Yes,
    No,
}

/// What became of news of a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// It is the caller's, and is kept so. Some of its files may be another owner's: those stay with that one.
    Mine {
        /// The job as it is kept now.
        job: Box<Job>,
        /// The names of files that another owns.
        lost: Vec<Box<str>>,
    },
    /// It is another owner's, and stays as it was.
    Anothers,
    /// Nobody owns it, and it was not to be claimed.
    Nobodys,
}

/// Which jobs upkeep removes.
#[derive(Clone, Copy, Debug)]
pub struct JobsPruned {
    /// Those of which nothing was heard since; `None`: age is no reason.
    pub before: Option<UnixMillis>,
    /// The oldest beyond so many of one user; `None`: any number stays.
    pub most: Option<u64>,
    /// When what is gone is forgotten altogether.
    pub forget: UnixMillis,
}

/// The contract. Both engines pass one suite of tests (`tests.rs`).
pub trait Store: Send + Sync {
    /// `sqlite` or `postgres`, for logs.
    fn engine(&self) -> &'static str;

    /// Whether it can be read and written now.
    fn ping(&self) -> Answer<'_, ()>;

    // ── Users ──

    /// Makes a user. `Taken` where id, username key, e-mail or phone are another's.
    fn add_user(&self, user: NewUser) -> Answer<'_, User>;
    /// Makes all of these users as they stand, but for their numbers; or none of them. How many.
    fn add_users(&self, users: Vec<User>) -> Answer<'_, u64>;
    /// The user with this id.
    fn user(&self, id: UserId) -> Answer<'_, Option<User>>;
    /// The user with this username key.
    fn user_by_name<'s>(&'s self, key: &'s str) -> Answer<'s, Option<User>>;
    /// The user with this e-mail.
    fn user_by_email<'s>(&'s self, email: &'s Email) -> Answer<'s, Option<User>>;
    /// Users who want to have this e-mail in place of theirs, a hundred at most.
    fn users_by_email_change<'s>(&'s self, email: &'s Email) -> Answer<'s, Vec<User>>;
    /// The user with this phone.
    fn user_by_phone<'s>(&'s self, phone: &'s str) -> Answer<'s, Option<User>>;
    /// Changes a user; the row as it is then, `None` where there is none (any more).
    fn change_user(&self, id: UserId, change: UserChange) -> Answer<'_, Option<User>>;
    /// A page of users, and how many there are in all.
    fn users(&self, query: UserQuery) -> Answer<'_, (Vec<User>, u64)>;

    // ── Sessions ──

    /// Makes a session. `None` where its user is gone.
    fn add_session(&self, session: NewSession) -> Answer<'_, Option<Opened>>;
    /// The user's most recently used conversation that has not ended (`Api::Session` only), with a new token, of
    /// which the user may have `most`; `None` where there is none. Writes `last_used_at` and the user's
    /// `last_sign_in_at`.
    fn resume_session(
        &self,
        user: UserId,
        token: TokenHash,
        now: UnixMillis,
        most: u32,
    ) -> Answer<'_, Option<Opened>>;
    /// A session and its user.
    fn session(&self, id: SessionId) -> Answer<'_, Option<(Session, User)>>;
    /// A user's session by its number.
    fn session_by_number(&self, user: UserId, number: i64) -> Answer<'_, Option<SessionSummary>>;
    /// All sessions of a user, ended ones too, the most recently used first.
    fn sessions_of(&self, user: UserId) -> Answer<'_, Vec<SessionSummary>>;
    /// Changes a session; the row as it is then. `None` where there was none, or it was deleted.
    fn change_session(&self, id: SessionId, change: SessionChange) -> Answer<'_, Option<Session>>;
    /// Marks sessions as ended; those that had ended stay as they were. Answers those that ended now.
    fn end_sessions(&self, which: Sessions, now: UnixMillis) -> Answer<'_, Vec<SessionId>>;
    /// Notes when sessions were last used; never moves the time back.
    fn touch_sessions(&self, used: Vec<(SessionId, UnixMillis)>) -> Answer<'_, ()>;

    // ── Opaque session tokens ──

    /// Gives a session another token. `None` where the session is gone or has ended.
    fn add_token(
        &self,
        session: SessionId,
        hash: TokenHash,
        now: UnixMillis,
    ) -> Answer<'_, Option<SessionToken>>;
    /// The token with this hash, unless it was revoked.
    fn token_owner(&self, hash: TokenHash) -> Answer<'_, Option<TokenOwner>>;
    /// Revokes tokens; answers the numbers of those that were good until now.
    fn revoke_tokens(&self, which: Tokens) -> Answer<'_, Vec<i64>>;

    // ── One-time codes ──

    /// Keeps a code in place of the user's last one of its kind.
    fn put_code(&self, code: Code) -> Answer<'_, ()>;
    /// Takes the code away if `hash` is its hash or its link's: a code is good once. `user`: whose; `None`:
    /// whoever's link it is.
    fn take_code(
        &self,
        user: Option<UserId>,
        kind: CodeKind,
        hash: TokenHash,
    ) -> Answer<'_, Option<Code>>;
    /// Voids every code of a user.
    fn void_codes(&self, user: UserId) -> Answer<'_, ()>;

    // ── Keys ──

    /// The signing keys, the newest first.
    fn keys(&self) -> Answer<'_, Vec<KeyRecord>>;
    /// Adds a key if `expected` is the newest key's `kid` (`None`: there is no key yet), and sets the end of all
    /// older ones that have none to `older_until`. `false`: somebody else was faster, and nothing was changed.
    fn add_key<'s>(
        &'s self,
        key: KeyRecord,
        expected: Option<&'s str>,
        older_until: UnixMillis,
    ) -> Answer<'s, bool>;
    /// Takes away keys that verify nothing any more.
    fn remove_keys(&self, ended_before: UnixMillis) -> Answer<'_, u64>;

    // ── Ends ──

    /// Notes what ended in this store, for other processes that run over it. It is kept for `ENDS_KEPT`.
    fn note_end(&self, ended: Ended, at: UnixMillis) -> Answer<'_, ()>;
    /// The number of the newest note; 0: there is none.
    fn last_end(&self) -> Answer<'_, i64>;
    /// Notes newer than the one of this number, in their order; not all at once where there are many.
    fn ends_after(&self, number: i64) -> Answer<'_, Vec<(i64, Ended)>>;

    // ── Bans ──

    /// Keeps what an operator has refused, for other processes that run over this store and for those that come later. It is
    /// kept for as long as any token that it is about may be good (`bans::KEPT`).
    fn add_ban(&self, banned: Banned, since: UnixSeconds) -> Answer<'_, ()>;
    /// Bans newer than the one of this number, in their order; not all at once where there are many. 0: from the first.
    fn bans_after(&self, number: i64) -> Answer<'_, Vec<(i64, Banned, UnixSeconds)>>;

    // ── Jobs ──

    /// Keeps a job and its files, or what is new of them: the first owner stays.
    fn put_job(&self, news: JobNews) -> Answer<'_, Kept>;
    /// What has this id in this space.
    fn job<'s>(&'s self, kind: JobKind, space: &'s str, job_id: &'s str)
    -> Answer<'s, Option<Job>>;
    /// Whether there was such a one that was deleted since, or removed by upkeep.
    fn job_is_gone<'s>(
        &'s self,
        kind: JobKind,
        space: &'s str,
        job_id: &'s str,
    ) -> Answer<'s, bool>;
    /// The jobs of a session, the newest first, at most `limit`.
    fn jobs_of(&self, session: SessionId, limit: u64) -> Answer<'_, Vec<Job>>;
    /// Removes jobs that are too old or too many of one user, with their files; a bounded number at a time. How many.
    fn prune_jobs(&self, before: JobsPruned) -> Answer<'_, u64>;

    // ── Upkeep ──

    /// Removes what is of no use any more, a bounded number of rows at a time.
    fn prune(&self, before: PruneBefore) -> Answer<'_, Pruned>;
    /// Writes a whole and consistent copy to a file that does not exist yet, while the store is in use.
    /// `Refused` where the file cannot be made, and by PostgreSQL, which has its own tools for it.
    fn back_up<'s>(&'s self, to: &'s std::path::Path) -> Answer<'s, ()>;
}

#[cfg(test)]
mod tests;
