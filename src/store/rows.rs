//! From the rows of a database to the records: written once for both engines. An engine says how it reads one cell.

use uuid::Uuid;

use super::StoreError;
use crate::clock::UnixSeconds;
use crate::records::{
    Api, Authentication, Client, Code, CodeKind, Email, Job, JobKind, KeyRecord, Object, Outsider,
    Owner, Session, SessionId, SessionToken, TokenHash, User, UserId, Username,
};
use crate::secret::Secret;
use crate::state::Ended;
use crate::state::bans::Banned;

/// The cells of one row. The error names what is wrong with a cell, never what is in it.
pub(super) trait Cells {
    /// `None`: NULL.
    fn integer(&self, at: usize) -> Result<Option<i64>, StoreError>;
    fn flag(&self, at: usize) -> Result<bool, StoreError>;
    fn text(&self, at: usize) -> Result<Option<String>, StoreError>;
    fn bytes(&self, at: usize) -> Result<Option<Vec<u8>>, StoreError>;
    fn id(&self, at: usize) -> Result<Option<Uuid>, StoreError>;
}

/// Reads a row from left to right.
pub(super) struct Row<'r> {
    cells: &'r dyn Cells,
    at: usize,
}

impl<'r> Row<'r> {
    pub(super) fn new(cells: &'r dyn Cells) -> Self {
        Self { cells, at: 0 }
    }

    fn next<T>(
        &mut self,
        read: impl FnOnce(&dyn Cells, usize) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let at = self.at;
        self.at += 1;
        read(self.cells, at)
    }

    fn there<T>(&self, value: Option<T>) -> Result<T, StoreError> {
        value.ok_or_else(|| unreadable(self.at - 1, "NULL"))
    }

    fn maybe_integer(&mut self) -> Result<Option<i64>, StoreError> {
        self.next(|cells, at| cells.integer(at))
    }

    pub(super) fn integer(&mut self) -> Result<i64, StoreError> {
        let value = self.maybe_integer()?;
        self.there(value)
    }

    fn count(&mut self) -> Result<u64, StoreError> {
        let count = self.integer()?;
        u64::try_from(count).map_err(|_| unreadable(self.at - 1, "negative"))
    }

    fn flag(&mut self) -> Result<bool, StoreError> {
        self.next(|cells, at| cells.flag(at))
    }

    fn maybe_text(&mut self) -> Result<Option<Box<str>>, StoreError> {
        Ok(self.next(|cells, at| cells.text(at))?.map(Into::into))
    }

    pub(super) fn text(&mut self) -> Result<Box<str>, StoreError> {
        let value = self.maybe_text()?;
        self.there(value)
    }

    fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        let value = self.next(|cells, at| cells.bytes(at))?;
        self.there(value)
    }

    fn hash(&mut self) -> Result<TokenHash, StoreError> {
        let bytes = self.bytes()?.try_into();
        let hash = bytes.map_err(|_| unreadable(self.at - 1, "no hash"))?;
        Ok(TokenHash(hash))
    }

    fn maybe_id(&mut self) -> Result<Option<Uuid>, StoreError> {
        self.next(|cells, at| cells.id(at))
    }

    pub(super) fn id(&mut self) -> Result<Uuid, StoreError> {
        let value = self.maybe_id()?;
        self.there(value)
    }

    /// A text that `read` understands.
    fn word<T>(&mut self, read: impl FnOnce(&str) -> Option<T>) -> Result<T, StoreError> {
        let text = self.text()?;
        read(&text).ok_or_else(|| unreadable(self.at - 1, "an unknown word"))
    }

    fn object(&mut self) -> Result<Object, StoreError> {
        self.word(|text| serde_json::from_str(text).ok())
    }
}

fn unreadable(at: usize, what: &str) -> StoreError {
    StoreError::Broken(format!("column {at} is {what}").into())
}

pub(super) fn user(row: &mut Row<'_>) -> Result<User, StoreError> {
    Ok(User {
        id: UserId(row.id()?),
        number: row.integer()?,
        username: match (row.maybe_text()?, row.maybe_text()?) {
            (Some(shown), Some(key)) => Some(Username { shown, key }),
            _ => None,
        },
        email: row.maybe_text()?.map(Email),
        phone: row.maybe_text()?,
        password: row.maybe_text()?.map(|hash| Secret::new(hash.into())),
        role: row.text()?,
        anonymous: row.flag()?,
        disabled: row.flag()?,
        banned_until: row.maybe_integer()?,
        app_metadata: row.object()?,
        user_metadata: row.object()?,
        email_confirmed_at: row.maybe_integer()?,
        phone_confirmed_at: row.maybe_integer()?,
        confirmation_sent_at: row.maybe_integer()?,
        recovery_sent_at: row.maybe_integer()?,
        reauthentication_sent_at: row.maybe_integer()?,
        email_change: match (row.maybe_text()?, row.maybe_integer()?) {
            (Some(email), Some(sent_at)) => Some((Email(email), sent_at)),
            _ => None,
        },
        last_sign_in_at: row.maybe_integer()?,
        created_at: row.integer()?,
        updated_at: row.integer()?,
        deleted_at: row.maybe_integer()?,
        invited_at: row.maybe_integer()?,
    })
}

pub(super) fn session(row: &mut Row<'_>) -> Result<Session, StoreError> {
    Ok(Session {
        id: SessionId(row.id()?),
        number: row.integer()?,
        user: UserId(row.id()?),
        api: row.word(Api::of_word)?,
        name: row.maybe_text()?,
        client: Client {
            request_id: None,
            user_agent: row.maybe_text()?,
            address: row
                .maybe_text()?
                .map(|address| address.parse())
                .transpose()
                .map_err(|_| unreadable(row.at - 1, "no address"))?,
        },
        authentication: Authentication {
            method: row.text()?,
            at: row.integer()?,
        },
        created_at: row.integer()?,
        last_used_at: row.integer()?,
        refreshed_at: row.maybe_integer()?,
        refresh_counter: row.count()?,
        ended_at: row.maybe_integer()?,
    })
}

pub(super) fn session_and_user(row: &mut Row<'_>) -> Result<(Session, User), StoreError> {
    Ok((session(row)?, user(row)?))
}

pub(super) fn summary(row: &mut Row<'_>) -> Result<super::SessionSummary, StoreError> {
    Ok(super::SessionSummary {
        session: session(row)?,
        job_count: row.count()?,
    })
}

pub(super) fn token(row: &mut Row<'_>) -> Result<SessionToken, StoreError> {
    Ok(SessionToken {
        number: row.integer()?,
        session: SessionId(row.id()?),
        user: UserId(row.id()?),
        created_at: row.integer()?,
    })
}

pub(super) fn token_owner(row: &mut Row<'_>) -> Result<super::TokenOwner, StoreError> {
    Ok(super::TokenOwner {
        token: token(row)?,
        session: session(row)?,
        user: user(row)?,
    })
}

pub(super) fn code(row: &mut Row<'_>) -> Result<Code, StoreError> {
    Ok(Code {
        user: UserId(row.id()?),
        kind: row.word(CodeKind::of_word)?,
        hash: row.hash()?,
        link_hash: row.hash()?,
        sent_to: Email(row.text()?),
        made_at: row.integer()?,
    })
}

pub(super) fn key(row: &mut Row<'_>) -> Result<KeyRecord, StoreError> {
    Ok(KeyRecord {
        kid: row.text()?,
        algorithm: row.text()?,
        sealed: row.bytes()?.into(),
        created_at: row.integer()?,
        signs_from: row.integer()?,
        verifies_until: row.maybe_integer()?,
    })
}

pub(super) fn job(row: &mut Row<'_>) -> Result<Job, StoreError> {
    numbered_job(row).map(|(_, job)| job)
}

/// A job, and its number.
pub(super) fn numbered_job(row: &mut Row<'_>) -> Result<(i64, Job), StoreError> {
    let number = row.integer()?;
    let job = Job {
        kind: row.word(JobKind::of_word)?,
        space: row.text()?,
        job_id: row.text()?,
        owner: Owner {
            user: UserId(row.id()?),
            outside: match (row.maybe_text()?, row.maybe_text()?) {
                (Some(issuer), Some(subject)) => Some(Outsider { issuer, subject }),
                _ => None,
            },
            session: row.maybe_id()?.map(SessionId),
            outside_session: row.maybe_text()?,
        },
        status: row.maybe_text()?,
        progress: row
            .maybe_text()?
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|_| unreadable(row.at - 1, "no JSON"))?,
        extra: row.object()?,
        created_at: row.integer()?,
        updated_at: row.integer()?,
    };
    Ok((number, job))
}

/// The number of a job that was added, and its session where that is still there.
pub(super) fn added_job(row: &mut Row<'_>) -> Result<(i64, Option<SessionId>), StoreError> {
    Ok((row.integer()?, row.maybe_id()?.map(SessionId)))
}

pub(super) fn user_and_job_kind(row: &mut Row<'_>) -> Result<(UserId, JobKind), StoreError> {
    Ok((UserId(row.id()?), row.word(JobKind::of_word)?))
}

pub(super) fn count(row: &mut Row<'_>) -> Result<u64, StoreError> {
    row.count()
}

/// A step that was applied, and its checksum.
pub(super) fn applied(row: &mut Row<'_>) -> Result<(i64, Box<str>), StoreError> {
    Ok((row.integer()?, row.text()?))
}

pub(super) fn kid(row: &mut Row<'_>) -> Result<Box<str>, StoreError> {
    row.text()
}

pub(super) fn user_and_kind(row: &mut Row<'_>) -> Result<(UserId, CodeKind), StoreError> {
    Ok((UserId(row.id()?), row.word(CodeKind::of_word)?))
}

/// What ended, with its number in the order of telling.
pub(super) fn end(row: &mut Row<'_>) -> Result<(i64, Ended), StoreError> {
    let (number, kind) = (row.integer()?, row.text()?);
    let (user, session) = (row.maybe_id()?.map(UserId), row.maybe_id()?.map(SessionId));
    let ended = match (&*kind, user, session, row.maybe_integer()?) {
        ("session", _, Some(session), _) => Ended::Session(session),
        ("user", Some(user), ..) => Ended::User(user),
        ("user_except_session", Some(user), Some(session), _) => {
            Ended::UserExceptSession(user, session)
        }
        ("user_except_token", Some(user), _, Some(token)) => Ended::UserExceptToken(user, token),
        ("token", _, _, Some(token)) => Ended::Token(token),
        _ => return Err(unreadable(1, "no end")),
    };
    Ok((number, ended))
}

/// What is refused, since when, with its number in the order of telling.
pub(super) fn ban(row: &mut Row<'_>) -> Result<(i64, Banned, UnixSeconds), StoreError> {
    let (number, kind, whose) = (row.integer()?, row.text()?, row.text()?);
    let banned = match &*kind {
        "user" => Banned::User(whose),
        "session" => Banned::Session(whose),
        _ => return Err(unreadable(1, "no ban")),
    };
    Ok((number, banned, row.count()?))
}

pub(super) fn number(row: &mut Row<'_>) -> Result<i64, StoreError> {
    row.integer()
}

pub(super) fn ended_session(row: &mut Row<'_>) -> Result<Ended, StoreError> {
    session_id(row).map(Ended::Session)
}

pub(super) fn ended_token(row: &mut Row<'_>) -> Result<Ended, StoreError> {
    number(row).map(Ended::Token)
}

pub(super) fn session_id(row: &mut Row<'_>) -> Result<SessionId, StoreError> {
    row.id().map(SessionId)
}

pub(super) fn maybe_session_id(row: &mut Row<'_>) -> Result<Option<SessionId>, StoreError> {
    Ok(row.maybe_id()?.map(SessionId))
}

pub(super) fn user_id(row: &mut Row<'_>) -> Result<UserId, StoreError> {
    row.id().map(UserId)
}
