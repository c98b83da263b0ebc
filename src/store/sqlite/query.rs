//! Statements and rows as rusqlite has them, and what its errors mean.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, ToSql, params_from_iter};
use uuid::Uuid;

use super::super::rows::{Cells, Row};
use super::super::values::Value;
use super::super::{StoreError, Unique};

/// All rows of a statement.
pub(super) fn all<T>(
    connection: &Connection,
    (sql, values): (&str, &[Value]),
    read: impl Fn(&mut Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(&mut Row::new(row))?);
    }
    Ok(found)
}

/// The first row of a statement that has one at most.
pub(super) fn first<T>(
    connection: &Connection,
    query: (&str, &[Value]),
    read: impl Fn(&mut Row<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    all(connection, query, read).map(|mut rows| rows.pop())
}

/// Runs a statement without rows; how many it changed.
pub(super) fn run(
    connection: &Connection,
    (sql, values): (&str, &[Value]),
) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let changed = statement.execute(params_from_iter(values))?;
    Ok(u64::try_from(changed).unwrap_or(u64::MAX))
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(integer) => ValueRef::Integer(*integer),
            Self::Flag(flag) => ValueRef::Integer(i64::from(*flag)),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
            Self::Id(id) => ValueRef::Blob(id.as_bytes()),
        }))
    }
}

impl Cells for rusqlite::Row<'_> {
    fn integer(&self, at: usize) -> Result<Option<i64>, StoreError> {
        Ok(self.get(at)?)
    }

    fn flag(&self, at: usize) -> Result<bool, StoreError> {
        Ok(self.get(at)?)
    }

    fn text(&self, at: usize) -> Result<Option<String>, StoreError> {
        Ok(self.get(at)?)
    }

    fn bytes(&self, at: usize) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.get(at)?)
    }

    fn id(&self, at: usize) -> Result<Option<Uuid>, StoreError> {
        let bytes: Option<[u8; 16]> = self.get(at)?;
        Ok(bytes.map(Uuid::from_bytes))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        if let Some(unique) = taken(&error) {
            return Self::Taken(unique);
        }
        let passing = matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::ReadOnly
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::DiskFull
                    | ErrorCode::CannotOpen
                    | ErrorCode::PermissionDenied
                    | ErrorCode::FileLockingProtocolFailed
                    | ErrorCode::OutOfMemory
                    | ErrorCode::OperationInterrupted
            )
        );
        match passing {
            true => Self::Unavailable(error.into()),
            false => Self::Broken(error.into()),
        }
    }
}

/// Which column of users another row has; SQLite says it in its text alone.
fn taken(error: &rusqlite::Error) -> Option<Unique> {
    let rusqlite::Error::SqliteFailure(failure, Some(text)) = error else {
        return None;
    };
    if failure.extended_code != rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE {
        return None;
    }
    match text.rsplit_once("users.")?.1 {
        "id" => Some(Unique::Id),
        "username_key" => Some(Unique::Username),
        "email" => Some(Unique::Email),
        "phone" => Some(Unique::Phone),
        _ => None,
    }
}
