//! The store in one file: SQLite. One thread writes, and commits what waits together; a few read. Every answer of a
//! write comes after its commit is on the disk.

mod file;
mod jobs;
mod query;
mod threads;
mod upkeep;
mod writes;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use self::file::File;
use self::query::{all, first, run};
use self::threads::Threads;
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
use crate::state::Ended;
use crate::state::bans::Banned;

/// The store in one file.
pub(super) struct Sqlite {
    writer: Threads,
    readers: Threads,
    file: Arc<File>,
    patience: Duration,
}

/// Threads that read.
const READERS: usize = 4;

impl Sqlite {
    /// Opens the file, made where it is missing, and brings it to the form of this version.
    pub(super) fn open(path: &Path, config: &config::Store) -> Result<Self, OpenError> {
        file::make(path)?;
        if let Some(mode) = file::open_to_others(path) {
            let path = path.display();
            tracing::warn!(
                "others can open {path} (mode {mode:04o}), which holds password hashes: chmod 600 it"
            );
        }
        migrate(path)?;
        let patience = config.statement_timeout;
        let file = Arc::new(File::new(path, patience, READERS + 1));
        Ok(Self {
            writer: Threads::writer(Arc::clone(&file), READERS)?,
            readers: Threads::readers(&file, 0..READERS)?,
            file,
            patience,
        })
    }

    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<'_, T> {
        Box::pin(self.writer.call(work))
    }

    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<'_, T> {
        Box::pin(self.readers.call(work))
    }

    /// The one row of a statement with one parameter.
    fn one<T: Send + 'static>(
        &self,
        sql: &'static str,
        value: Value,
        read: fn(&mut rows::Row<'_>) -> Result<T, StoreError>,
    ) -> Answer<'_, Option<T>> {
        self.read(move |connection| first(connection, (sql, &[value]), read))
    }
}

/// Brings the file to the form of this version, alone: others that start now wait.
fn migrate(path: &Path) -> Result<(), OpenError> {
    let mut connection = patiently(|| file::connect(path, START))?;
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive)
        .map_err(StoreError::from)?;
    run(&transaction, (migrate::NOTES, &[]))?;
    let applied = all(&transaction, (migrate::APPLIED, &[]), rows::applied)?;
    for step in migrate::due(migrate::SQLITE, &applied)? {
        transaction
            .execute_batch(step.sql)
            .map_err(StoreError::from)?;
        let checksum = step.checksum();
        let values = [step.version.into(), step.name.into(), (&*checksum).into()];
        run(&transaction, (migrate::NOTE, &values))?;
        tracing::info!(
            version = step.version,
            name = step.name,
            "the store was brought forward"
        );
    }
    transaction.commit().map_err(StoreError::from)?;
    let optimize = connection.execute_batch("PRAGMA optimize = 0x10002");
    optimize.map_err(StoreError::from)?;
    Ok(())
}

/// Tries again for a while: who turns the log on first keeps others out, and SQLite does not wait for that.
fn patiently(
    mut connect: impl FnMut() -> Result<Connection, StoreError>,
) -> Result<Connection, StoreError> {
    let begin = std::time::Instant::now();
    loop {
        match connect() {
            Err(StoreError::Unavailable(_)) if begin.elapsed() < START => {
                std::thread::sleep(Duration::from_millis(20));
            }
            connected => return connected,
        }
    }
}

/// How long a start waits for another one.
const START: Duration = Duration::from_secs(30);

impl Store for Sqlite {
    fn engine(&self) -> &'static str {
        "sqlite"
    }

    fn ping(&self) -> Answer<'_, ()> {
        self.write(writes::beat)
    }

    fn add_user(&self, user: NewUser) -> Answer<'_, User> {
        self.write(move |connection| writes::add_user(connection, user))
    }

    fn add_users(&self, users: Vec<User>) -> Answer<'_, u64> {
        self.write(move |connection| writes::add_users(connection, &users))
    }

    fn user(&self, id: UserId) -> Answer<'_, Option<User>> {
        self.one(sql::USER, id.into(), rows::user)
    }

    fn user_by_name<'s>(&'s self, key: &'s str) -> Answer<'s, Option<User>> {
        self.one(sql::USER_BY_NAME, key.into(), rows::user)
    }

    fn user_by_email<'s>(&'s self, email: &'s Email) -> Answer<'s, Option<User>> {
        self.one(sql::USER_BY_EMAIL, (&*email.0).into(), rows::user)
    }

    fn users_by_email_change<'s>(&'s self, email: &'s Email) -> Answer<'s, Vec<User>> {
        let email = (&*email.0).into();
        self.read(move |connection| {
            all(
                connection,
                (sql::USERS_BY_EMAIL_CHANGE, &[email]),
                rows::user,
            )
        })
    }

    fn user_by_phone<'s>(&'s self, phone: &'s str) -> Answer<'s, Option<User>> {
        self.one(sql::USER_BY_PHONE, phone.into(), rows::user)
    }

    fn change_user(&self, id: UserId, change: UserChange) -> Answer<'_, Option<User>> {
        self.write(move |connection| writes::change_user(connection, id, change))
    }

    fn users(&self, query: UserQuery) -> Answer<'_, (Vec<User>, u64)> {
        let pattern = values::pattern(query.containing.as_deref());
        let page = match query.oldest_first {
            OldestFirst::Yes => sql::USERS_OLDEST_FIRST,
            OldestFirst::No => sql::USERS_NEWEST_FIRST,
        };
        let values = [pattern, query.limit.into(), query.offset.into()];
        self.read(move |connection| {
            let users = all(connection, (page, &values), rows::user)?;
            let count = first(connection, (sql::COUNT_USERS, &values[..1]), rows::count)?;
            Ok((users, count.unwrap_or(0)))
        })
    }

    fn add_session(&self, session: NewSession) -> Answer<'_, Option<Opened>> {
        self.write(move |connection| writes::add_session(connection, &session))
    }

    fn resume_session(
        &self,
        user: UserId,
        token: TokenHash,
        now: UnixMillis,
        most: u32,
    ) -> Answer<'_, Option<Opened>> {
        self.write(move |connection| writes::resume_session(connection, user, token, now, most))
    }

    fn session(&self, id: SessionId) -> Answer<'_, Option<(Session, User)>> {
        self.one(sql::SESSION, id.into(), rows::session_and_user)
    }

    fn session_by_number(&self, user: UserId, number: i64) -> Answer<'_, Option<SessionSummary>> {
        let values = [number.into(), user.into()];
        self.read(move |connection| {
            first(connection, (sql::SESSION_BY_NUMBER, &values), rows::summary)
        })
    }

    fn sessions_of(&self, user: UserId) -> Answer<'_, Vec<SessionSummary>> {
        self.read(move |connection| {
            all(
                connection,
                (sql::SESSIONS_OF, &[user.into()]),
                rows::summary,
            )
        })
    }

    fn change_session(&self, id: SessionId, change: SessionChange) -> Answer<'_, Option<Session>> {
        self.write(move |connection| writes::change_session(connection, id, change))
    }

    fn end_sessions(&self, which: Sessions, now: UnixMillis) -> Answer<'_, Vec<SessionId>> {
        self.write(move |connection| writes::end_sessions(connection, which, now))
    }

    fn touch_sessions(&self, used: Vec<(SessionId, UnixMillis)>) -> Answer<'_, ()> {
        self.write(move |connection| writes::touch_sessions(connection, used))
    }

    fn add_token(
        &self,
        session: SessionId,
        hash: TokenHash,
        now: UnixMillis,
    ) -> Answer<'_, Option<SessionToken>> {
        self.write(move |connection| writes::add_token(connection, session, hash, now))
    }

    fn token_owner(&self, hash: TokenHash) -> Answer<'_, Option<TokenOwner>> {
        self.one(sql::TOKEN_OWNER, hash.into(), rows::token_owner)
    }

    fn revoke_tokens(&self, which: Tokens) -> Answer<'_, Vec<i64>> {
        self.write(move |connection| writes::revoke_tokens(connection, which))
    }

    fn put_code(&self, code: Code) -> Answer<'_, ()> {
        self.write(move |connection| writes::put_code(connection, &code))
    }

    fn take_code(
        &self,
        user: Option<UserId>,
        kind: CodeKind,
        hash: TokenHash,
    ) -> Answer<'_, Option<Code>> {
        self.write(move |connection| writes::take_code(connection, user, kind, hash))
    }

    fn void_codes(&self, user: UserId) -> Answer<'_, ()> {
        self.write(move |connection| run(connection, (sql::VOID_CODES, &[user.into()])).map(drop))
    }

    fn keys(&self) -> Answer<'_, Vec<KeyRecord>> {
        self.read(|connection| all(connection, (sql::KEYS, &[]), rows::key))
    }

    fn add_key<'s>(
        &'s self,
        key: KeyRecord,
        expected: Option<&'s str>,
        older_until: UnixMillis,
    ) -> Answer<'s, bool> {
        let expected = expected.map(str::to_owned);
        self.write(move |connection| {
            writes::add_key(connection, &key, expected.as_deref(), older_until)
        })
    }

    fn remove_keys(&self, ended_before: UnixMillis) -> Answer<'_, u64> {
        self.write(move |connection| run(connection, (sql::REMOVE_KEYS, &[ended_before.into()])))
    }

    fn note_end(&self, ended: Ended, at: UnixMillis) -> Answer<'_, ()> {
        self.write(move |connection| writes::note_end(connection, ended, at))
    }

    fn last_end(&self) -> Answer<'_, i64> {
        self.read(|connection| {
            first(connection, (sql::LAST_END, &[]), rows::number).map(Option::unwrap_or_default)
        })
    }

    fn ends_after(&self, number: i64) -> Answer<'_, Vec<(i64, Ended)>> {
        self.read(move |connection| all(connection, (sql::ENDS_AFTER, &[number.into()]), rows::end))
    }

    fn add_ban(&self, banned: Banned, since: UnixSeconds) -> Answer<'_, ()> {
        self.write(move |connection| writes::add_ban(connection, &banned, since))
    }

    fn bans_after(&self, number: i64) -> Answer<'_, Vec<(i64, Banned, UnixSeconds)>> {
        self.read(move |connection| all(connection, (sql::BANS_AFTER, &[number.into()]), rows::ban))
    }

    fn put_job(&self, news: JobNews) -> Answer<'_, Kept> {
        self.write(move |connection| jobs::put(connection, news))
    }

    fn job<'s>(
        &'s self,
        kind: JobKind,
        space: &'s str,
        job_id: &'s str,
    ) -> Answer<'s, Option<Job>> {
        let values = values::place(kind, space, job_id);
        self.read(move |connection| first(connection, (sql::JOB, &values), rows::job))
    }

    fn job_is_gone<'s>(
        &'s self,
        kind: JobKind,
        space: &'s str,
        job_id: &'s str,
    ) -> Answer<'s, bool> {
        let values = values::place(kind, space, job_id);
        self.read(move |connection| {
            let gone = first(connection, (sql::GONE, &values), rows::count)?;
            Ok(gone.is_some_and(|count| count > 0))
        })
    }

    fn jobs_of(&self, session: SessionId, limit: u64) -> Answer<'_, Vec<Job>> {
        let values = [session.into(), limit.into()];
        self.read(move |connection| all(connection, (sql::JOBS_OF, &values), rows::job))
    }

    fn prune_jobs(&self, before: JobsPruned) -> Answer<'_, u64> {
        Box::pin(async move {
            let crowded = move |connection: &Connection| jobs::crowded(connection, before);
            let crowded = self.readers.call(crowded).await?;
            let prune = move |connection: &Connection| jobs::prune(connection, before, crowded);
            self.writer.call(prune).await
        })
    }

    fn prune(&self, before: PruneBefore) -> Answer<'_, Pruned> {
        Box::pin(async move {
            let found = self
                .readers
                .call(move |connection| upkeep::find(connection, before));
            let found = found.await?;
            let remove = move |connection: &Connection| upkeep::remove(connection, found, before);
            self.writer.call(remove).await
        })
    }

    fn back_up<'s>(&'s self, to: &'s Path) -> Answer<'s, ()> {
        let (from, to, patience) = (self.file.path().to_owned(), to.to_owned(), self.patience);
        // On a thread that reads, with connections of its own.
        self.read(move |_| upkeep::back_up(&from, &to, patience))
    }
}
