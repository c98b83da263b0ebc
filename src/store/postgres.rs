//! The store on a server: PostgreSQL, for more than one gateway. Every call is sent to the thread that drives the
//! connections; rows that a function looks at are locked until what it made of them is committed.

mod connections;
mod jobs;
mod query;
mod tls;
mod writes;

use std::path::Path;
use std::time::Duration;

use self::connections::{Connections, Driver};
use self::query::{Failure, all, first, run};
use super::rows::Row;
use super::values::{self, Value};
use super::{
    Answer, JobNews, JobsPruned, Kept, NewSession, NewUser, OldestFirst, OpenError, Opened,
    PruneBefore, Pruned, SessionChange, SessionSummary, Sessions, Store, StoreError, TokenOwner,
    Tokens, UserChange, UserQuery, migrate, rows, sql,
};
use crate::clock::UnixSeconds;
use crate::config;
use crate::records::{
    Code, CodeKind, Email, Job, JobKind, KeyRecord, Session, SessionId, SessionToken, TokenHash,
    UnixMillis, User, UserId,
};
use crate::secret::Secret;
use crate::state::Ended;
use crate::state::bans::Banned;

/// The store on a server.
pub(super) struct Postgres {
    driver: Driver,
}

/// How a row is read.
type Read<T> = fn(&mut Row<'_>) -> Result<T, StoreError>;

impl Postgres {
    /// Connects, and brings the database to the form of this version.
    pub(super) fn open(url: &Secret<String>, config: &config::Store) -> Result<Self, OpenError> {
        let connections = Connections::of(url.expose(), config)?;
        let driver = Driver::start(connections, async |connections| migrate(connections).await)?;
        Ok(Self { driver })
    }

    /// A call of the thread that drives the connections.
    fn call<T, W>(&self, work: W) -> Answer<'_, T>
    where
        T: Send + 'static,
        W: AsyncFnOnce(&Connections) -> Result<T, StoreError> + Send + 'static,
    {
        Box::pin(self.driver.call(work))
    }

    /// The rows of a statement that changes nothing.
    fn read<T: Send + 'static>(
        &self,
        sql: &'static str,
        values: Vec<Value>,
        read: Read<T>,
    ) -> Answer<'_, Vec<T>> {
        self.call(async move |connections: &Connections| {
            connections
                .read(async |client| all(client, (sql, &values), read).await)
                .await
        })
    }

    /// The one row of a statement that changes nothing.
    fn one<T: Send + 'static>(
        &self,
        sql: &'static str,
        values: Vec<Value>,
        read: Read<T>,
    ) -> Answer<'_, Option<T>> {
        self.call(async move |connections: &Connections| {
            connections
                .read(async |client| first(client, (sql, &values), read).await)
                .await
        })
    }

    /// The rows of one statement that writes.
    fn write<T: Send + 'static>(
        &self,
        sql: &'static str,
        values: Vec<Value>,
        read: Read<T>,
    ) -> Answer<'_, Vec<T>> {
        self.call(async move |connections: &Connections| {
            connections
                .write(async |client| all(client, (sql, &values), read).await)
                .await
        })
    }

    /// The one row of a statement that writes.
    fn write_one<T: Send + 'static>(
        &self,
        sql: &'static str,
        values: Vec<Value>,
        read: Read<T>,
    ) -> Answer<'_, Option<T>> {
        let written = self.write(sql, values, read);
        Box::pin(async move { written.await.map(|mut rows| rows.pop()) })
    }

    /// One statement that writes and has no rows; how many it changed.
    fn run(&self, sql: &'static str, values: Vec<Value>) -> Answer<'_, u64> {
        self.call(async move |connections: &Connections| {
            connections
                .write(async |client| run(client, (sql, &values)).await)
                .await
        })
    }
}

/// Brings the database to the form of this version, alone: others that start now wait.
async fn migrate(connections: &Connections) -> Result<(), OpenError> {
    let migrated = connections.with(START, async |client| {
        let transaction = client.transaction().await?;
        transaction.batch_execute(ALONE).await?;
        // Its owner may have made it for a role that may not.
        let schema = first(&transaction, (SCHEMA, &[]), rows::count).await?;
        if schema == Some(0) {
            transaction
                .batch_execute("CREATE SCHEMA portcullis")
                .await?;
        }
        transaction.batch_execute(migrate::NOTES).await?;
        let applied = all(&transaction, (migrate::APPLIED, &[]), rows::applied).await?;
        let due = match migrate::due(migrate::POSTGRES, &applied) {
            Ok(due) => due,
            Err(foreign) => return Ok(Err(foreign)),
        };
        for step in due {
            transaction.batch_execute(step.sql).await?;
            let checksum = step.checksum();
            let values = [step.version.into(), step.name.into(), (&*checksum).into()];
            run(&transaction, (migrate::NOTE, &values)).await?;
            tracing::info!(
                version = step.version,
                name = step.name,
                "the store was brought forward"
            );
        }
        transaction.commit().await?;
        Ok(Ok(()))
    });
    migrated.await.map_err(Failure::into_error)??;
    Ok(())
}

/// How long a start waits for another one, and for what it has to do.
const START: Duration = Duration::from_secs(600);

/// The number of the lock is any that nobody else takes: "portcull" in ASCII.
const ALONE: &str = "SET LOCAL statement_timeout = '600s'; SET LOCAL idle_in_transaction_session_timeout = 0; \
    SELECT pg_advisory_xact_lock(8101822686402735212)";

const SCHEMA: &str = "SELECT count(*) FROM pg_namespace WHERE nspname = 'portcullis'";

/// Whether this server takes what is written.
const WRITABLE: &str = "SELECT count(*) FROM (SELECT 1) AS one \
    WHERE NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'";

impl Store for Postgres {
    fn engine(&self) -> &'static str {
        "postgres"
    }

    fn ping(&self) -> Answer<'_, ()> {
        let writable = self.one(WRITABLE, Vec::new(), rows::count);
        Box::pin(async move {
            match writable.await? {
                Some(1) => Ok(()),
                _ => Err(StoreError::Unavailable("the server is read-only".into())),
            }
        })
    }

    fn add_user(&self, user: NewUser) -> Answer<'_, User> {
        let mut user = values::new_user(user);
        let number = self.write_one(sql::ADD_USER, values::add_user(&user), rows::number);
        Box::pin(async move {
            let nothing = || StoreError::Broken("a statement answered no row".into());
            user.number = number.await?.ok_or_else(nothing)?;
            Ok(user)
        })
    }

    fn add_users(&self, users: Vec<User>) -> Answer<'_, u64> {
        self.call(async move |connections: &Connections| {
            connections
                .transact(async |transaction| writes::add_users(transaction, &users).await)
                .await
        })
    }

    fn user(&self, id: UserId) -> Answer<'_, Option<User>> {
        self.one(sql::USER, vec![id.into()], rows::user)
    }

    fn user_by_name<'s>(&'s self, key: &'s str) -> Answer<'s, Option<User>> {
        self.one(sql::USER_BY_NAME, vec![key.into()], rows::user)
    }

    fn user_by_email<'s>(&'s self, email: &'s Email) -> Answer<'s, Option<User>> {
        self.one(sql::USER_BY_EMAIL, vec![(&*email.0).into()], rows::user)
    }

    fn users_by_email_change<'s>(&'s self, email: &'s Email) -> Answer<'s, Vec<User>> {
        let email = vec![(&*email.0).into()];
        self.read(sql::USERS_BY_EMAIL_CHANGE, email, rows::user)
    }

    fn user_by_phone<'s>(&'s self, phone: &'s str) -> Answer<'s, Option<User>> {
        self.one(sql::USER_BY_PHONE, vec![phone.into()], rows::user)
    }

    fn change_user(&self, id: UserId, change: UserChange) -> Answer<'_, Option<User>> {
        self.call(async move |connections: &Connections| {
            writes::change_user(connections, id, change).await
        })
    }

    fn users(&self, query: UserQuery) -> Answer<'_, (Vec<User>, u64)> {
        let pattern = values::pattern(query.containing.as_deref());
        let page = match query.oldest_first {
            OldestFirst::Yes => sql::USERS_OLDEST_FIRST,
            OldestFirst::No => sql::USERS_NEWEST_FIRST,
        };
        let values = vec![pattern.clone(), query.limit.into(), query.offset.into()];
        let users = self.read(page, values, rows::user);
        let count = self.one(sql::COUNT_USERS, vec![pattern], rows::count);
        Box::pin(async move { Ok((users.await?, count.await?.unwrap_or(0))) })
    }

    fn add_session(&self, session: NewSession) -> Answer<'_, Option<Opened>> {
        self.call(async move |connections: &Connections| {
            connections
                .transact(async |transaction| writes::add_session(transaction, &session).await)
                .await
        })
    }

    fn resume_session(
        &self,
        user: UserId,
        token: TokenHash,
        now: UnixMillis,
        most: u32,
    ) -> Answer<'_, Option<Opened>> {
        self.call(async move |connections: &Connections| {
            connections
                .transact(async |transaction| {
                    writes::resume_session(transaction, user, token, now, most).await
                })
                .await
        })
    }

    fn session(&self, id: SessionId) -> Answer<'_, Option<(Session, User)>> {
        self.one(sql::SESSION, vec![id.into()], rows::session_and_user)
    }

    fn session_by_number(&self, user: UserId, number: i64) -> Answer<'_, Option<SessionSummary>> {
        let values = vec![number.into(), user.into()];
        self.one(sql::SESSION_BY_NUMBER, values, rows::summary)
    }

    fn sessions_of(&self, user: UserId) -> Answer<'_, Vec<SessionSummary>> {
        self.read(sql::SESSIONS_OF, vec![user.into()], rows::summary)
    }

    fn change_session(&self, id: SessionId, change: SessionChange) -> Answer<'_, Option<Session>> {
        self.call(async move |connections: &Connections| {
            writes::change_session(connections, id, change).await
        })
    }

    fn end_sessions(&self, which: Sessions, now: UnixMillis) -> Answer<'_, Vec<SessionId>> {
        let (sql, values) = values::end_sessions(which, now);
        self.write(sql, values, rows::session_id)
    }

    fn touch_sessions(&self, used: Vec<(SessionId, UnixMillis)>) -> Answer<'_, ()> {
        let (sessions, times) = values::latest(used)
            .into_iter()
            .map(|(session, at)| (session.0, at))
            .unzip();
        self.call(async move |connections: &Connections| {
            connections
                .write(async |client| writes::touch_sessions(client, &sessions, &times).await)
                .await
        })
    }

    fn add_token(
        &self,
        session: SessionId,
        hash: TokenHash,
        now: UnixMillis,
    ) -> Answer<'_, Option<SessionToken>> {
        let values = vec![hash.into(), now.into(), session.into()];
        self.write_one(sql::ADD_TOKEN, values, rows::token)
    }

    fn token_owner(&self, hash: TokenHash) -> Answer<'_, Option<TokenOwner>> {
        self.one(sql::TOKEN_OWNER, vec![hash.into()], rows::token_owner)
    }

    fn revoke_tokens(&self, which: Tokens) -> Answer<'_, Vec<i64>> {
        let (sql, values) = values::revoke_tokens(which);
        self.write(sql, values, rows::number)
    }

    fn put_code(&self, code: Code) -> Answer<'_, ()> {
        let put = self.run(sql::PUT_CODE, values::put_code(&code));
        Box::pin(async move { put.await.map(drop) })
    }

    fn take_code(
        &self,
        user: Option<UserId>,
        kind: CodeKind,
        hash: TokenHash,
    ) -> Answer<'_, Option<Code>> {
        let (sql, values) = values::take_code(user, kind, hash);
        self.write_one(sql, values, rows::code)
    }

    fn void_codes(&self, user: UserId) -> Answer<'_, ()> {
        let void = self.run(sql::VOID_CODES, vec![user.into()]);
        Box::pin(async move { void.await.map(drop) })
    }

    fn keys(&self) -> Answer<'_, Vec<KeyRecord>> {
        self.read(sql::KEYS, Vec::new(), rows::key)
    }

    fn add_key<'s>(
        &'s self,
        key: KeyRecord,
        expected: Option<&'s str>,
        older_until: UnixMillis,
    ) -> Answer<'s, bool> {
        let expected = expected.map(str::to_owned);
        self.call(async move |connections: &Connections| {
            let expected = expected.as_deref();
            connections
                .transact(async |transaction| {
                    writes::add_key(transaction, &key, expected, older_until).await
                })
                .await
        })
    }

    fn remove_keys(&self, ended_before: UnixMillis) -> Answer<'_, u64> {
        self.run(sql::REMOVE_KEYS, vec![ended_before.into()])
    }

    fn note_end(&self, ended: Ended, at: UnixMillis) -> Answer<'_, ()> {
        self.call(async move |connections: &Connections| {
            connections
                .transact(async |transaction| writes::note_end(transaction, ended, at).await)
                .await
        })
    }

    fn last_end(&self) -> Answer<'_, i64> {
        let last = self.one(sql::LAST_END, Vec::new(), rows::number);
        Box::pin(async move { last.await.map(Option::unwrap_or_default) })
    }

    fn ends_after(&self, number: i64) -> Answer<'_, Vec<(i64, Ended)>> {
        self.read(sql::ENDS_AFTER, vec![number.into()], rows::end)
    }

    fn add_ban(&self, banned: Banned, since: UnixSeconds) -> Answer<'_, ()> {
        self.call(async move |connections: &Connections| {
            connections
                .transact(async |transaction| writes::add_ban(transaction, &banned, since).await)
                .await
        })
    }

    fn bans_after(&self, number: i64) -> Answer<'_, Vec<(i64, Banned, UnixSeconds)>> {
        self.read(sql::BANS_AFTER, vec![number.into()], rows::ban)
    }

    fn put_job(&self, news: JobNews) -> Answer<'_, Kept> {
        self.call(async move |connections: &Connections| {
            connections
                .transact(async |transaction| jobs::put(transaction, news.clone()).await)
                .await
        })
    }

    fn job<'s>(
        &'s self,
        kind: JobKind,
        space: &'s str,
        job_id: &'s str,
    ) -> Answer<'s, Option<Job>> {
        self.one(sql::JOB, values::place(kind, space, job_id), rows::job)
    }

    fn job_is_gone<'s>(
        &'s self,
        kind: JobKind,
        space: &'s str,
        job_id: &'s str,
    ) -> Answer<'s, bool> {
        let gone = self.one(sql::GONE, values::place(kind, space, job_id), rows::count);
        Box::pin(async move { Ok(gone.await?.is_some_and(|count| count > 0)) })
    }

    fn jobs_of(&self, session: SessionId, limit: u64) -> Answer<'_, Vec<Job>> {
        let values = vec![session.into(), limit.into()];
        self.read(sql::JOBS_OF, values, rows::job)
    }

    fn prune_jobs(&self, before: JobsPruned) -> Answer<'_, u64> {
        self.call(async move |connections: &Connections| {
            connections
                .transact(async |transaction| jobs::prune(transaction, before).await)
                .await
        })
    }

    fn prune(&self, before: PruneBefore) -> Answer<'_, Pruned> {
        self.call(async move |connections: &Connections| {
            connections
                .transact(async |transaction| writes::prune(transaction, before).await)
                .await
        })
    }

    fn back_up<'s>(&'s self, _: &'s Path) -> Answer<'s, ()> {
        let instead =
            "a store on PostgreSQL is copied with its own tools: pg_dump --schema=portcullis";
        Box::pin(async move { Err(StoreError::Refused(instead.into())) })
    }
}
