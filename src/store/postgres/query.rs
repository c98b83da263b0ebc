//! Statements and rows as the driver has them, and what its errors mean.

use std::error::Error;

use deadpool_postgres::{GenericClient, HookError, PoolError};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use super::super::rows::{Cells, Row};
use super::super::values::Value;
use super::super::{StoreError, Unique};

/// Why a call did not do it, and whether it may be tried again.
#[derive(Debug)]
pub(super) enum Failure {
    /// For good.
    Final(StoreError),
    /// The server undid it because of another call: nothing was changed.
    Conflict(StoreError),
    /// The connection broke, or was broken before.
    Lost(StoreError),
}

impl Failure {
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Final(error) | Self::Conflict(error) | Self::Lost(error) => error,
        }
    }
}

/// All rows of a statement.
pub(super) async fn all<T>(
    client: &impl GenericClient,
    (sql, values): (&str, &[Value]),
    read: impl Fn(&mut Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, Failure> {
    let statement = client.prepare_cached(sql).await?;
    let rows = client.query(&statement, &parameters(values)).await?;
    let rows = rows.iter().map(|row| read(&mut Row::new(row)));
    rows.collect::<Result<_, _>>().map_err(Failure::Final)
}

/// The first row of a statement that has one at most.
pub(super) async fn first<T>(
    client: &impl GenericClient,
    query: (&str, &[Value]),
    read: impl Fn(&mut Row<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, Failure> {
    all(client, query, read).await.map(|mut rows| rows.pop())
}

/// Runs a statement without rows; how many it changed.
pub(super) async fn run(
    client: &impl GenericClient,
    (sql, values): (&str, &[Value]),
) -> Result<u64, Failure> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.execute(&statement, &parameters(values)).await?)
}

fn parameters(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    values
        .iter()
        .map(|value| value as &(dyn ToSql + Sync))
        .collect()
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Value(***)")
    }
}

impl ToSql for Value {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(integer) => integer.to_sql(kind, out),
            Self::Flag(flag) => flag.to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
            Self::Bytes(bytes) => (&**bytes).to_sql(kind, out),
            Self::Id(id) => id.to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn cell<'r, T: tokio_postgres::types::FromSql<'r>>(
    row: &'r tokio_postgres::Row,
    at: usize,
) -> Result<T, StoreError> {
    row.try_get(at)
        .map_err(|error| StoreError::Broken(error.into()))
}

impl Cells for tokio_postgres::Row {
    fn integer(&self, at: usize) -> Result<Option<i64>, StoreError> {
        cell(self, at)
    }

    fn flag(&self, at: usize) -> Result<bool, StoreError> {
        cell(self, at)
    }

    fn text(&self, at: usize) -> Result<Option<String>, StoreError> {
        cell(self, at)
    }

    fn bytes(&self, at: usize) -> Result<Option<Vec<u8>>, StoreError> {
        cell(self, at)
    }

    fn id(&self, at: usize) -> Result<Option<Uuid>, StoreError> {
        cell(self, at)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(refusal) = error.as_db_error() else {
            return Self::Lost(StoreError::Unavailable(told(&error).into()));
        };
        if let Some(unique) = taken(refusal.constraint()) {
            return Self::Final(StoreError::Taken(unique));
        }
        // Not its details: they hold what was written.
        let code = refusal.code();
        let text = format!("{} ({})", refusal.message(), code.code());
        if [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
        ]
        .contains(code)
        {
            return Self::Conflict(StoreError::Unavailable(text.into()));
        }
        // Classes of SQLSTATE: connections, resources, its operator, its machine; who may log in; what is locked.
        let passing = ["08", "53", "57", "58", "28", "55"];
        let read_only = *code == SqlState::READ_ONLY_SQL_TRANSACTION;
        let no_database = *code == SqlState::INVALID_CATALOG_NAME;
        match passing.iter().any(|class| code.code().starts_with(class)) || read_only || no_database
        {
            true => Self::Final(StoreError::Unavailable(text.into())),
            false => Self::Final(StoreError::Broken(text.into())),
        }
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                Self::from(error)
            }
            other => Self::Final(StoreError::Unavailable(other.to_string().into())),
        }
    }
}

/// An error of the driver and what is behind it, in one line.
fn told(error: &tokio_postgres::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Which column of users another row has.
fn taken(constraint: Option<&str>) -> Option<Unique> {
    match constraint? {
        "users_id_key" => Some(Unique::Id),
        "users_username_key_key" => Some(Unique::Username),
        "users_email_key" => Some(Unique::Email),
        "users_phone_key" => Some(Unique::Phone),
        _ => None,
    }
}
