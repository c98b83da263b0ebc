//! The threads that speak to the file: one writes, a few read. A call is sent to them through a queue with a bound and
//! is answered when it is done; one that writes, when its commit is on the disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, MAIN_DB};
use tokio::sync::oneshot;

use super::StoreError;
use super::file::{File, may_only_read};

/// Threads with a queue before them. Dropped, they finish what is in it.
pub(super) struct Threads {
    /// `None` only while it is dropped.
    queue: Option<SyncSender<Box<dyn Work>>>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// The thread that writes, with the connection of `place`.
    pub(super) fn writer(file: Arc<File>, place: usize) -> std::io::Result<Self> {
        let (queue, calls) = sync_channel(QUEUE);
        let write = move || {
            let mut tidied = Instant::now();
            while let Ok(first) = calls.recv() {
                let group: Vec<_> = std::iter::once(first)
                    .chain(calls.try_iter().take(GROUP - 1))
                    .collect();
                write(&file, place, group);
                if tidied.elapsed() > TIDY {
                    tidied = Instant::now();
                    tidy(&file, place);
                }
            }
        };
        Ok(Self {
            queue: Some(queue),
            handles: vec![spawn("store-writer", write)?],
        })
    }

    /// A thread for each of `places`.
    pub(super) fn readers(
        file: &Arc<File>,
        places: std::ops::Range<usize>,
    ) -> std::io::Result<Self> {
        let (queue, calls) = sync_channel(QUEUE);
        let calls = Arc::new(Mutex::new(calls));
        let handles = places.map(|place| {
            let (file, calls) = (Arc::clone(file), Arc::clone(&calls));
            spawn("store-reader", move || {
                while let Some(mut call) = next(&calls) {
                    let result = file.with(place, |connection| match call.run(connection) {
                        Ran::Well => Ok(()),
                        // The call says why; the connection is not trusted any more.
                        Ran::Badly => Err(stopped()),
                    });
                    call.answer(result.err().as_ref());
                }
            })
        });
        Ok(Self {
            handles: handles.collect::<std::io::Result<_>>()?,
            queue: Some(queue),
        })
    }

    /// Sends `work` to the threads, and waits for what it answers.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (to, answer) = oneshot::channel();
        let call = Box::new(Call {
            work: Some(work),
            result: None,
            to,
        });
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.try_send(call).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Unavailable("too many calls wait for it".into()),
            TrySendError::Disconnected(_) => stopped(),
        })?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.queue = None;
        for handle in self.handles.drain(..) {
            // One that panicked has nothing left to do.
            drop(handle.join());
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}

fn next(calls: &Mutex<Receiver<Box<dyn Work>>>) -> Option<Box<dyn Work>> {
    let calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
    calls.recv().ok()
}

fn stopped() -> StoreError {
    StoreError::Unavailable("its threads have stopped".into())
}

// ── A call ──

/// A call of any result.
trait Work: Send {
    /// Runs it and keeps the result; whether it went well.
    fn run(&mut self, connection: &Connection) -> Ran;
    /// Answers: the result, or that all was in vain.
    fn answer(self: Box<Self>, lost: Option<&StoreError>);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ran {
    Well,
    Badly,
}

struct Call<F, T> {
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    to: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Work for Call<F, T>
where
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn run(&mut self, connection: &Connection) -> Ran {
        let Some(work) = self.work.take() else {
            return Ran::Badly;
        };
        // The functions that callers give run here; a panic in one must not end the thread that serves all.
        let result = catch_unwind(AssertUnwindSafe(|| work(connection)))
            .unwrap_or_else(|_| Err(StoreError::Broken("a call panicked".into())));
        let ran = match result {
            Ok(_) => Ran::Well,
            Err(_) => Ran::Badly,
        };
        self.result = Some(result);
        ran
    }

    fn answer(self: Box<Self>, lost: Option<&StoreError>) {
        let result = match (self.result, lost) {
            // What failed by itself says best why.
            (Some(Err(error)), _) => Err(error),
            (_, Some(lost)) => Err(again(lost)),
            (Some(result), None) => result,
            (None, None) => Err(stopped()),
        };
        // Whoever asked may have left.
        drop(self.to.send(result));
    }
}

/// One failure told to many: its kind and its text.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Broken(cause) => StoreError::Broken(cause.to_string().into()),
        StoreError::Unavailable(cause) => StoreError::Unavailable(cause.to_string().into()),
        StoreError::Taken(_) | StoreError::Refused(_) => {
            StoreError::Broken("the commit failed".into())
        }
    }
}

// ── Writing ──

/// Writes what waits together: one sync of the disk for all. Where the database gives the transaction up, the calls
/// that had run in it are told so, and the others get another one.
fn write(file: &File, place: usize, group: Vec<Box<dyn Work>>) {
    let mut waiting = group.into_iter();
    let mut ran = Vec::new();
    while waiting.len() > 0 {
        let result = file.with(place, |connection| {
            // Here BEGIN IMMEDIATE would begin a transaction that reads: each call would fail by itself, and the
            // connection be kept for as long as the process lives.
            if connection.is_readonly(MAIN_DB)? {
                return Err(may_only_read());
            }
            connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let result = together(connection, &mut waiting, &mut ran);
            if result.is_err() && !connection.is_autocommit() {
                connection.execute_batch("ROLLBACK")?;
            }
            result
        });
        if result.is_err() && ran.is_empty() {
            // It did not even begin: those who wait would wait for nothing.
            ran.extend(&mut waiting);
        }
        for call in ran.drain(..) {
            call.answer(result.as_ref().err());
        }
    }
}

fn together(
    connection: &Connection,
    waiting: &mut impl Iterator<Item = Box<dyn Work>>,
    ran: &mut Vec<Box<dyn Work>>,
) -> Result<(), StoreError> {
    for call in waiting {
        ran.push(call);
        connection.prepare_cached("SAVEPOINT one")?.execute([])?;
        let well = ran.last_mut().map(|call| call.run(connection));
        if connection.is_autocommit() {
            return Err(StoreError::Unavailable(
                "the database gave the transaction up".into(),
            ));
        }
        if well != Some(Ran::Well) {
            connection.prepare_cached("ROLLBACK TO one")?.execute([])?;
        }
        connection.prepare_cached("RELEASE one")?.execute([])?;
    }
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

/// Lets SQLite look whether its statistics still fit.
fn tidy(file: &File, place: usize) {
    let done = file.with(place, |connection| {
        Ok(connection.execute_batch("PRAGMA optimize")?)
    });
    if let Err(error) = done {
        tracing::warn!(%error, "the store could not be tidied");
    }
}

/// Calls that wait, at most.
const QUEUE: usize = 4096;

/// Calls that are committed together, at most.
const GROUP: usize = 128;

/// How often the statistics are looked at.
const TIDY: Duration = Duration::from_secs(3600);
