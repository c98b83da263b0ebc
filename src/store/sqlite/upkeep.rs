//! What is done now and then: removing what is of no use, and copying the file.

use std::fs::File as FsFile;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::super::rows;
use super::super::{PruneBefore, Pruned, StoreError, sql};
use super::file;
use super::query::{all, first, run};
use crate::records::{CodeKind, SessionId, UnixMillis, UserId};

/// What may be removed. It is looked for by a reader, because a search must not keep writers waiting, and looked at
/// again by the writer.
#[derive(Default)]
pub(super) struct Found {
    sessions: Vec<SessionId>,
    users: Vec<UserId>,
    codes: Vec<(UserId, CodeKind)>,
}

pub(super) fn find(connection: &Connection, before: PruneBefore) -> Result<Found, StoreError> {
    let since = |before: UnixMillis| [before.into(), MOST.into()];
    let sessions = (sql::STALE_SESSIONS, &since(before.sessions)[..]);
    let codes = (sql::OLD_CODES, &since(before.codes)[..]);
    Ok(Found {
        sessions: all(connection, sessions, rows::session_id)?,
        codes: all(connection, codes, rows::user_and_kind)?,
        users: match before.anonymous {
            Some(before) => {
                let users = (sql::FORGOTTEN_USERS, &since(before)[..]);
                all(connection, users, rows::user_id)?
            }
            None => Vec::new(),
        },
    })
}

pub(super) fn remove(
    connection: &Connection,
    found: Found,
    before: PruneBefore,
) -> Result<Pruned, StoreError> {
    let mut pruned = Pruned::default();
    for id in found.sessions {
        let values = [before.sessions.into(), id.into()];
        pruned.sessions += run(connection, (sql::PRUNE_SESSION, &values))?;
    }
    for (user, kind) in found.codes {
        let values = [before.codes.into(), user.into(), kind.word().into()];
        pruned.codes += run(connection, (sql::PRUNE_CODE, &values))?;
    }
    for id in found.users {
        let values = [before.anonymous.into(), id.into()];
        let removed = run(connection, (sql::PRUNE_USER, &values))?;
        pruned.users += removed;
        if removed > 0 {
            pruned.jobs += run(connection, (sql::DELETE_JOBS_OF_USER, &[id.into()]))?;
        }
    }
    Ok(pruned)
}

/// Rows of a kind at a time: a few milliseconds for the writer.
const MOST: u64 = 500;

/// Copies the database at `from` to `to`, which must not be there: one file that needs no other beside it.
pub(super) fn back_up(from: &Path, to: &Path, patience: Duration) -> Result<(), StoreError> {
    file::make_new(to).map_err(|error| {
        StoreError::Refused(format!("{} cannot be made: {error}", to.display()).into())
    })?;
    let copied = copy(from, to, patience);
    if copied.is_err() {
        // Half a copy is worse than none.
        drop(std::fs::remove_file(to));
    }
    copied
}

fn copy(from: &Path, to: &Path, patience: Duration) -> Result<(), StoreError> {
    let source = file::connect(from, patience)?;
    let mut target = Connection::open(to)?;
    {
        let backup = Backup::new(&source, &mut target)?;
        // All pages in one step are one moment of the store: those who write meanwhile write to the log. A step
        // that must wait for another process was patient already.
        if backup.step(-1)? != StepResult::Done {
            return Err(StoreError::Unavailable("the database is locked".into()));
        }
    }
    first(&target, ("PRAGMA journal_mode = DELETE", &[]), rows::kid)?;
    target.close().map_err(|(_, error)| error)?;
    let synced = FsFile::open(to).and_then(|file| file.sync_all());
    synced
        .and_then(|()| file::sync_folder(to))
        .map_err(|error| StoreError::Unavailable(error.into()))
}
