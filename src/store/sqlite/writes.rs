//! The calls of more than one statement, as they run within a transaction of the writer.

use rusqlite::Connection;

use super::super::{
    Change, ENDS_KEPT, NewSession, NewUser, Opened, SessionChange, Sessions, SignIn, StoreError,
    Tokens, UserChange,
};
use super::super::{rows, sql, values};
use super::query::{all, first, run};
use crate::clock::UnixSeconds;
use crate::records::{
    Code, CodeKind, KeyRecord, Session, SessionId, TokenHash, UnixMillis, User, UserId,
};
use crate::state::Ended;
use crate::state::bans::{Banned, KEPT};

type Wrote<T> = Result<T, StoreError>;

pub(super) fn add_user(connection: &Connection, new: NewUser) -> Wrote<User> {
    let mut user = values::new_user(new);
    let values = values::add_user(&user);
    let number = first(connection, (sql::ADD_USER, &values), rows::number)?;
    user.number = number.ok_or_else(nothing)?;
    Ok(user)
}

pub(super) fn add_users(connection: &Connection, users: &[User]) -> Wrote<u64> {
    for user in users {
        first(
            connection,
            (sql::ADD_USER, &values::add_user(user)),
            rows::number,
        )?;
    }
    Ok(users.len() as u64)
}

pub(super) fn note_end(connection: &Connection, ended: Ended, at: UnixMillis) -> Wrote<()> {
    run(connection, (sql::FORGET_ENDS, &[(at - ENDS_KEPT).into()]))?;
    run(connection, (sql::NOTE_END, &values::note_end(ended, at))).map(drop)
}

pub(super) fn add_ban(connection: &Connection, banned: &Banned, since: UnixSeconds) -> Wrote<()> {
    let oldest = since.saturating_sub(KEPT);
    run(connection, (sql::FORGET_BANS, &[oldest.into()]))?;
    let values = values::ban(banned, since);
    run(connection, (sql::REPLACE_BAN, &values))?;
    run(connection, (sql::ADD_BAN, &values)).map(drop)
}

pub(super) fn change_user(
    connection: &Connection,
    id: UserId,
    change: UserChange,
) -> Wrote<Option<User>> {
    let Some(user) = first(connection, (sql::USER, &[id.into()]), rows::user)? else {
        return Ok(None);
    };
    match change(&user) {
        Change::Keep => Ok(Some(user)),
        Change::Write(mut changed) => {
            run(
                connection,
                (sql::WRITE_USER, &values::write_user(&changed, id)),
            )?;
            (changed.id, changed.number) = (user.id, user.number);
            Ok(Some(changed))
        }
        Change::Delete => {
            run(connection, (sql::DELETE_JOBS_OF_USER, &[id.into()]))?;
            run(connection, (sql::DELETE_USER, &[id.into()]))?;
            Ok(None)
        }
    }
}

pub(super) fn add_session(connection: &Connection, new: &NewSession) -> Wrote<Option<Opened>> {
    if new.signs_in == SignIn::Yes {
        sign_in(connection, new.user, new.created_at)?;
    }
    let mut session = values::new_session(new);
    let values = values::add_session(&session);
    let Some(number) = first(connection, (sql::ADD_SESSION, &values), rows::number)? else {
        return Ok(None);
    };
    session.number = number;
    if let Some(hash) = new.token {
        add_token(connection, session.id, hash, new.created_at)?;
    }
    opened(connection, session, new.created_at, new.most).map(Some)
}

fn sign_in(connection: &Connection, user: UserId, now: UnixMillis) -> Wrote<()> {
    run(connection, (sql::SIGN_IN, &[now.into(), user.into()])).map(drop)
}

/// A session that was written, with its user; what that user has too much ends.
fn opened(connection: &Connection, session: Session, now: UnixMillis, most: u32) -> Wrote<Opened> {
    let user = first(connection, (sql::USER, &[session.user.into()]), rows::user)?;
    let (end, revoke) = values::surplus(session.user, most, now);
    let mut surplus = all(
        connection,
        (sql::END_SURPLUS_SESSIONS, &end),
        rows::ended_session,
    )?;
    surplus.extend(all(
        connection,
        (sql::REVOKE_SURPLUS_TOKENS, &revoke),
        rows::ended_token,
    )?);
    Ok(Opened {
        session,
        user: user.ok_or_else(nothing)?,
        surplus,
    })
}

pub(super) fn add_token(
    connection: &Connection,
    session: SessionId,
    hash: TokenHash,
    now: UnixMillis,
) -> Wrote<Option<crate::records::SessionToken>> {
    let values = [hash.into(), now.into(), session.into()];
    first(connection, (sql::ADD_TOKEN, &values), rows::token)
}

pub(super) fn resume_session(
    connection: &Connection,
    user: UserId,
    hash: TokenHash,
    now: UnixMillis,
    most: u32,
) -> Wrote<Option<Opened>> {
    let found = first(connection, (sql::RESUMABLE, &[user.into()]), rows::session)?;
    let Some(mut session) = found else {
        return Ok(None);
    };
    add_token(connection, session.id, hash, now)?;
    run(
        connection,
        (sql::TOUCH_SESSION, &[now.into(), session.id.into()]),
    )?;
    sign_in(connection, user, now)?;
    session.last_used_at = session.last_used_at.max(now);
    opened(connection, session, now, most).map(Some)
}

pub(super) fn change_session(
    connection: &Connection,
    id: SessionId,
    change: SessionChange,
) -> Wrote<Option<Session>> {
    let query = (sql::SESSION, [id.into()]);
    let found = first(connection, (query.0, &query.1), rows::session_and_user)?;
    let Some((session, user)) = found else {
        return Ok(None);
    };
    match change(&session, &user) {
        Change::Keep => Ok(Some(session)),
        Change::Write(mut changed) => {
            let values = values::write_session(&changed, id);
            run(connection, (sql::WRITE_SESSION, &values))?;
            (changed.id, changed.number, changed.user) = (session.id, session.number, session.user);
            Ok(Some(changed))
        }
        Change::Delete => {
            run(connection, (sql::DELETE_SESSION, &[id.into()]))?;
            Ok(None)
        }
    }
}

pub(super) fn end_sessions(
    connection: &Connection,
    which: Sessions,
    now: UnixMillis,
) -> Wrote<Vec<SessionId>> {
    let (sql, values) = values::end_sessions(which, now);
    all(connection, (sql, &values), rows::session_id)
}

pub(super) fn touch_sessions(
    connection: &Connection,
    used: Vec<(SessionId, UnixMillis)>,
) -> Wrote<()> {
    for (session, at) in values::latest(used) {
        run(
            connection,
            (sql::TOUCH_SESSION, &[at.into(), session.into()]),
        )?;
    }
    Ok(())
}

pub(super) fn revoke_tokens(connection: &Connection, which: Tokens) -> Wrote<Vec<i64>> {
    let (sql, values) = values::revoke_tokens(which);
    all(connection, (sql, &values), rows::number)
}

pub(super) fn put_code(connection: &Connection, code: &Code) -> Wrote<()> {
    run(connection, (sql::PUT_CODE, &values::put_code(code))).map(drop)
}

pub(super) fn take_code(
    connection: &Connection,
    user: Option<UserId>,
    kind: CodeKind,
    hash: TokenHash,
) -> Wrote<Option<Code>> {
    let (sql, values) = values::take_code(user, kind, hash);
    first(connection, (sql, &values), rows::code)
}

pub(super) fn add_key(
    connection: &Connection,
    key: &KeyRecord,
    expected: Option<&str>,
    older_until: UnixMillis,
) -> Wrote<bool> {
    let newest = first(connection, (sql::NEWEST_KEY, &[]), rows::kid)?;
    if newest.as_deref() != expected {
        return Ok(false);
    }
    run(connection, (sql::END_KEYS, &[older_until.into()]))?;
    run(connection, (sql::ADD_KEY, &values::add_key(key)))?;
    Ok(true)
}

/// Where the disk does not take a byte, this says so.
pub(super) fn beat(connection: &Connection) -> Wrote<()> {
    run(connection, ("UPDATE pulse SET beats = beats + 1", &[])).map(drop)
}

pub(super) fn nothing() -> StoreError {
    StoreError::Broken("a statement answered no row".into())
}
