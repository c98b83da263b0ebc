//! The calls of more than one statement.

use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::super::{
    Change, ENDS_KEPT, NewSession, Opened, PruneBefore, Pruned, SessionChange, SignIn, StoreError,
    UserChange,
};
use super::super::{rows, sql, values};
use super::connections::Connections;
use super::query::{Failure, all, first, run};
use crate::clock::UnixSeconds;
use crate::records::{
    KeyRecord, Session, SessionId, SessionToken, TokenHash, UnixMillis, User, UserId,
};
use crate::state::Ended;
use crate::state::bans::{Banned, KEPT};

type Wrote<T> = Result<T, Failure>;

/// Runs a change in a transaction. The function is given once: a call that the server undid is tried again only
/// where it had not been asked yet.
pub(super) async fn change_user(
    connections: &Connections,
    id: UserId,
    change: UserChange,
) -> Result<Option<User>, StoreError> {
    let mut change = Some(change);
    connections
        .transact(async |transaction| {
            let user = first(transaction, (sql::LOCK_USER, &[id.into()]), rows::user).await?;
            let Some(user) = user else {
                return Ok(None);
            };
            let change = change.take().ok_or_else(asked)?;
            match change(&user) {
                Change::Keep => Ok(Some(user)),
                Change::Write(mut changed) => {
                    let values = values::write_user(&changed, id);
                    run(transaction, (sql::WRITE_USER, &values)).await?;
                    (changed.id, changed.number) = (user.id, user.number);
                    Ok(Some(changed))
                }
                Change::Delete => {
                    run(transaction, (sql::DELETE_JOBS_OF_USER, &[id.into()])).await?;
                    run(transaction, (sql::DELETE_USER, &[id.into()])).await?;
                    Ok(None)
                }
            }
        })
        .await
}

pub(super) async fn change_session(
    connections: &Connections,
    id: SessionId,
    change: SessionChange,
) -> Result<Option<Session>, StoreError> {
    let mut change = Some(change);
    connections
        .transact(async |transaction| {
            let query = (sql::LOCK_SESSION, &[id.into()][..]);
            let Some((session, user)) = first(transaction, query, rows::session_and_user).await?
            else {
                return Ok(None);
            };
            let change = change.take().ok_or_else(asked)?;
            match change(&session, &user) {
                Change::Keep => Ok(Some(session)),
                Change::Write(mut changed) => {
                    let values = values::write_session(&changed, id);
                    run(transaction, (sql::WRITE_SESSION, &values)).await?;
                    (changed.id, changed.number, changed.user) =
                        (session.id, session.number, session.user);
                    Ok(Some(changed))
                }
                Change::Delete => {
                    run(transaction, (sql::DELETE_SESSION, &[id.into()])).await?;
                    Ok(None)
                }
            }
        })
        .await
}

fn nothing() -> Failure {
    Failure::Final(StoreError::Broken("a session's user is not there".into()))
}

fn asked() -> Failure {
    Failure::Final(StoreError::Unavailable("it met with another call".into()))
}

pub(super) async fn add_session(
    transaction: &Transaction<'_>,
    new: &NewSession,
) -> Wrote<Option<Opened>> {
    // First, so that the row is this transaction's: who changes the password waits, and ends this session too.
    if new.signs_in == SignIn::Yes {
        sign_in(transaction, new.user, new.created_at).await?;
    }
    let mut session = values::new_session(new);
    let values = values::add_session(&session);
    let Some(number) = first(transaction, (sql::ADD_SESSION, &values), rows::number).await? else {
        return Ok(None);
    };
    session.number = number;
    if let Some(hash) = new.token {
        add_token(transaction, session.id, hash, new.created_at).await?;
    }
    opened(transaction, session, new.created_at, new.most)
        .await
        .map(Some)
}

async fn sign_in(transaction: &Transaction<'_>, user: UserId, now: UnixMillis) -> Wrote<()> {
    let values = [now.into(), user.into()];
    run(transaction, (sql::SIGN_IN, &values)).await.map(drop)
}

/// A session that was written, with its user; what that user has too much ends.
async fn opened(
    transaction: &Transaction<'_>,
    session: Session,
    now: UnixMillis,
    most: u32,
) -> Wrote<Opened> {
    let user = (sql::USER, &[session.user.into()][..]);
    let user = first(transaction, user, rows::user).await?;
    let (end, revoke) = values::surplus(session.user, most, now);
    let end = (sql::END_SURPLUS_SESSIONS, &end[..]);
    let mut surplus = all(transaction, end, rows::ended_session).await?;
    let revoke = (sql::REVOKE_SURPLUS_TOKENS, &revoke[..]);
    surplus.extend(all(transaction, revoke, rows::ended_token).await?);
    Ok(Opened {
        session,
        user: user.ok_or_else(nothing)?,
        surplus,
    })
}

pub(super) async fn add_token(
    transaction: &Transaction<'_>,
    session: SessionId,
    hash: TokenHash,
    now: UnixMillis,
) -> Wrote<Option<SessionToken>> {
    let values = [hash.into(), now.into(), session.into()];
    first(transaction, (sql::ADD_TOKEN, &values), rows::token).await
}

pub(super) async fn resume_session(
    transaction: &Transaction<'_>,
    user: UserId,
    hash: TokenHash,
    now: UnixMillis,
    most: u32,
) -> Wrote<Option<Opened>> {
    // First, as every log-in does: none waits for a row of another that waits for one of its own.
    first(transaction, (sql::LOCK_USER, &[user.into()]), rows::user).await?;
    let found = first(
        transaction,
        (sql::LOCK_RESUMABLE, &[user.into()]),
        rows::session,
    )
    .await?;
    let Some(mut session) = found else {
        return Ok(None);
    };
    add_token(transaction, session.id, hash, now).await?;
    let touch = [now.into(), session.id.into()];
    run(transaction, (sql::TOUCH_SESSION, &touch)).await?;
    sign_in(transaction, user, now).await?;
    session.last_used_at = session.last_used_at.max(now);
    opened(transaction, session, now, most).await.map(Some)
}

pub(super) async fn touch_sessions(
    client: &impl GenericClient,
    sessions: &Vec<Uuid>,
    times: &Vec<UnixMillis>,
) -> Wrote<()> {
    let parameters: [&(dyn ToSql + Sync); 2] = [sessions, times];
    let statement = client.prepare_cached(TOUCH_SESSIONS).await?;
    client.execute(&statement, &parameters).await?;
    Ok(())
}

pub(super) async fn add_users(transaction: &Transaction<'_>, users: &[User]) -> Wrote<u64> {
    for user in users {
        let add = (sql::ADD_USER, &values::add_user(user)[..]);
        first(transaction, add, rows::number).await?;
    }
    Ok(users.len() as u64)
}

pub(super) async fn note_end(
    transaction: &Transaction<'_>,
    ended: Ended,
    at: UnixMillis,
) -> Wrote<()> {
    // One after the other: a number must not be seen before a lower one, or a reader would go past that.
    run(transaction, (LOCK_ENDS, &[])).await?;
    run(transaction, (sql::FORGET_ENDS, &[(at - ENDS_KEPT).into()])).await?;
    run(transaction, (sql::NOTE_END, &values::note_end(ended, at))).await?;
    Ok(())
}

pub(super) async fn add_ban(
    transaction: &Transaction<'_>,
    banned: &Banned,
    since: UnixSeconds,
) -> Wrote<()> {
    // As with ends.
    run(transaction, (LOCK_BANS, &[])).await?;
    let oldest = since.saturating_sub(KEPT);
    run(transaction, (sql::FORGET_BANS, &[oldest.into()])).await?;
    let values = values::ban(banned, since);
    run(transaction, (sql::REPLACE_BAN, &values)).await?;
    run(transaction, (sql::ADD_BAN, &values)).await?;
    Ok(())
}

pub(super) async fn add_key(
    transaction: &Transaction<'_>,
    key: &KeyRecord,
    expected: Option<&str>,
    older_until: UnixMillis,
) -> Wrote<bool> {
    run(transaction, (LOCK_KEYS, &[])).await?;
    let newest = first(transaction, (sql::NEWEST_KEY, &[]), rows::kid).await?;
    if newest.as_deref() != expected {
        return Ok(false);
    }
    run(transaction, (sql::END_KEYS, &[older_until.into()])).await?;
    run(transaction, (sql::ADD_KEY, &values::add_key(key))).await?;
    Ok(true)
}

pub(super) async fn prune(transaction: &Transaction<'_>, before: PruneBefore) -> Wrote<Pruned> {
    let since = |before: UnixMillis| [before.into(), MOST.into()];
    let mut pruned = Pruned {
        sessions: run(transaction, (sql::PRUNE_SESSIONS, &since(before.sessions))).await?,
        codes: run(transaction, (sql::PRUNE_CODES, &since(before.codes))).await?,
        ..Pruned::default()
    };
    if let Some(before) = before.anonymous {
        let users = (sql::PRUNE_USERS, &since(before)[..]);
        for user in all(transaction, users, rows::user_id).await? {
            pruned.users += 1;
            pruned.jobs += run(transaction, (sql::DELETE_JOBS_OF_USER, &[user.into()])).await?;
        }
    }
    Ok(pruned)
}

/// Rows of a kind at a time.
const MOST: u64 = 500;

const LOCK_BANS: &str = "LOCK TABLE bans IN EXCLUSIVE MODE";
const LOCK_ENDS: &str = "LOCK TABLE ends IN EXCLUSIVE MODE";
const LOCK_KEYS: &str = "LOCK TABLE keys IN SHARE ROW EXCLUSIVE MODE";
const TOUCH_SESSIONS: &str = "UPDATE sessions s SET last_used_at = used.at \
    FROM unnest($1::UUID[], $2::BIGINT[]) AS used (id, at) \
    WHERE s.id = used.id AND s.last_used_at < used.at";
