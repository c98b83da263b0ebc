//! The database file and the connections to it: made closed to others, opened with what an acknowledged write needs,
//! and opened again when the file was taken away or another put in its place.

use std::fs::{self, File as FsFile, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::StoreError;

/// The file, with a place for each connection that is kept.
pub(super) struct File {
    path: PathBuf,
    /// How long a connection waits for another process to let go of the file.
    patience: Duration,
    places: Vec<Mutex<Option<Open>>>,
    reopening: Mutex<()>,
}

/// A connection, and which file it is to.
struct Open {
    connection: Connection,
    identity: Identity,
    /// Which log stands beside it.
    log: Option<Identity>,
}

/// A file by what stays when it is renamed, and changes when another takes its name.
type Identity = (u64, u64);

impl File {
    /// With room for `places` connections; none is opened yet.
    pub(super) fn new(path: &Path, patience: Duration, places: usize) -> Self {
        Self {
            path: path.to_path_buf(),
            patience,
            places: (0..places).map(|_| Mutex::default()).collect(),
            reopening: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` with the connection of one place, opened again if need be, and closes it after a failure:
    /// what it was about is seen afresh then.
    pub(super) fn with<T>(
        &self,
        place: usize,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut open = lock(&self.places[place]);
        if !open.as_ref().is_some_and(|open| self.is_still(open)) {
            drop(open);
            self.reopen(place)?;
            open = lock(&self.places[place]);
        }
        let Some(current) = open.as_ref() else {
            return Err(StoreError::Unavailable("the database file changes".into()));
        };
        let result = work(&current.connection);
        if matches!(
            result,
            Err(StoreError::Unavailable(_) | StoreError::Broken(_))
        ) {
            *open = None;
        }
        drop(open);
        if result.as_ref().is_err_and(is_read_only) {
            self.close_all();
        }
        result
    }

    /// Closes every connection. One that is opened while the disk may only be read is for reading, and so is the memory
    /// that it shares with those that are opened later: as long as any of them is left, none can write again.
    fn close_all(&self) {
        // Held to the end: one that was opened between two that are closed would hand it on.
        let _alone = lock(&self.reopening);
        for place in &self.places {
            *lock(place) = None;
        }
    }

    fn is_still(&self, open: &Open) -> bool {
        identity(&self.path).is_ok_and(|identity| identity == open.identity)
    }

    /// Closes every connection to another file before it opens one to this.
    fn reopen(&self, place: usize) -> Result<(), StoreError> {
        let _alone = lock(&self.reopening);
        let gone: Vec<_> = self.places.iter().filter_map(|at| self.close(at)).collect();
        // Never made here: a store that was taken away is not an empty store.
        let identity = identity(&self.path).map_err(unavailable)?;
        for (file, log) in gone {
            if file != identity {
                self.remove_log(log).map_err(unavailable)?;
            }
        }
        let connection = connect(&self.path, self.patience)?;
        *lock(&self.places[place]) = Some(Open {
            connection,
            identity,
            log: self::identity(&self.beside("-wal")).ok(),
        });
        Ok(())
    }

    /// Closes a connection to what is not the file any more; which file that was, and which log.
    fn close(&self, place: &Mutex<Option<Open>>) -> Option<(Identity, Option<Identity>)> {
        let mut open = lock(place);
        if open.as_ref().is_none_or(|open| self.is_still(open)) {
            return None;
        }
        open.take().map(|open| (open.identity, open.log))
    }

    /// Takes the log of another file away: SQLite would take it for this one's. A log that came with this file is
    /// another one, and stays.
    fn remove_log(&self, log: Option<Identity>) -> io::Result<()> {
        let path = self.beside("-wal");
        if log.is_none() || identity(&path).ok() != log {
            return Ok(());
        }
        fs::remove_file(path)?;
        match fs::remove_file(self.beside("-shm")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(ending);
        path.into()
    }
}

fn unavailable(error: io::Error) -> StoreError {
    StoreError::Unavailable(error.into())
}

/// What a call is told whose connection was opened for reading, because the file could not be opened for writing.
pub(super) fn may_only_read() -> StoreError {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
    rusqlite::Error::SqliteFailure(code, Some("the database file may only be read".to_owned()))
        .into()
}

/// Whether a call failed because what it has may not be written.
fn is_read_only(error: &StoreError) -> bool {
    let StoreError::Unavailable(cause) = error else {
        return false;
    };
    let cause = cause.downcast_ref::<rusqlite::Error>();
    cause.and_then(rusqlite::Error::sqlite_error_code) == Some(ErrorCode::ReadOnly)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Makes the file where there is none: readable by its owner alone, and with a name that survives a power loss.
/// SQLite gives the two files beside it the same mode.
pub(super) fn make(path: &Path) -> io::Result<()> {
    match make_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Makes the file, which must not be there yet.
pub(super) fn make_new(path: &Path) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    sync_folder(path)
}

/// Makes sure that the name of `path` is on the disk.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    FsFile::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// The mode, where others than the owner can open the file.
pub(super) fn open_to_others(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).ok()?.mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

/// A connection to a file that is there.
pub(super) fn connect(path: &Path, patience: Duration) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(patience)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // FULL: each commit is on the disk before it is answered. The log is written in one piece, so that this is one
    // sync for a commit.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
         PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384; PRAGMA trusted_schema = OFF; \
         PRAGMA journal_size_limit = 67108864; PRAGMA analysis_limit = 400;",
    )?;
    Ok(connection)
}

/// More than there are statements.
const STATEMENTS: usize = 128;
