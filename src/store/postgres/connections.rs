//! The connections to a server, and the thread that drives them: the gateway's workers come and go, and a connection
//! belongs to one runtime. A call is sent there, done there, and answered to whoever waits, on any runtime.

use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime,
    Transaction,
};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::super::{OpenError, StoreError};
use super::query::Failure;
use super::tls::Tls;
use crate::config::{self, store};

/// What a connection needs, and how long it may take.
pub(super) struct Connections {
    pool: Pool,
    /// For a call with all its statements.
    limit: Duration,
}

impl Connections {
    /// To the server at `url`; none is made yet.
    pub(super) fn of(url: &str, config: &config::Store) -> Result<Self, OpenError> {
        let (mut server, mode) =
            store::server(url).map_err(|wrong| OpenError::Unavailable(wrong.to_string().into()))?;
        server.ssl_mode(match mode {
            store::SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            store::SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            store::SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
        });
        server.connect_timeout(config.connect_timeout);
        server.tcp_user_timeout(config.statement_timeout * 2);
        server.keepalives_idle(Duration::from_secs(30));
        if server.get_application_name().is_none() {
            server.application_name("portcullis");
        }
        let limit = config.statement_timeout;
        let settings = settings(limit);
        let settle = Hook::async_fn(move |client: &mut ClientWrapper, _| {
            let settings = settings.clone();
            Box::pin(async move {
                let settled = client.batch_execute(&settings).await;
                settled.map_err(HookError::Backend)
            })
        });
        let manager = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let tls = Tls::of(mode, config.ca.as_deref())?;
        let pool = Pool::builder(Manager::from_config(server, tls, manager))
            .max_size(config.connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(limit))
            .create_timeout(Some(config.connect_timeout))
            .recycle_timeout(Some(config.connect_timeout))
            .post_create(settle)
            .build()
            .map_err(|error| OpenError::Unavailable(error.into()))?;
        Ok(Self { pool, limit })
    }

    /// Runs `work` with a connection that is given back if all went well, and closed if it may be in an unknown state.
    pub(super) async fn with<T>(
        &self,
        limit: Duration,
        work: impl AsyncFnOnce(&mut Object) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut held = Held(Some(self.pool.get().await?));
        let Some(client) = held.0.as_mut() else {
            return Err(Failure::Final(StoreError::Unavailable(
                "no connection".into(),
            )));
        };
        let result = match tokio::time::timeout(limit, work(client)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Final(StoreError::Unavailable(
                "it took too long".into(),
            ))),
        };
        if matches!(
            result,
            Ok(_) | Err(Failure::Final(StoreError::Taken(_)) | Failure::Conflict(_))
        ) {
            held.give_back();
        }
        result
    }

    /// Runs what changes nothing, once more on another connection if one broke.
    pub(super) async fn read<T>(
        &self,
        work: impl AsyncFn(&Object) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        for _ in 0..ATTEMPTS {
            let read = self.with(self.limit, async |client| work(client).await);
            match read.await {
                Err(Failure::Lost(_) | Failure::Conflict(_)) => {}
                done => return done.map_err(Failure::into_error),
            }
        }
        let last = self.with(self.limit, async |client| work(client).await);
        last.await.map_err(Failure::into_error)
    }

    /// Runs one statement that writes. What broke is not tried again: it may have been done.
    pub(super) async fn write<T>(
        &self,
        work: impl AsyncFn(&Object) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        for _ in 0..ATTEMPTS {
            let write = self.with(self.limit, async |client| work(client).await);
            match write.await {
                Err(Failure::Conflict(_)) => {}
                done => return done.map_err(Failure::into_error),
            }
        }
        let last = self.with(self.limit, async |client| work(client).await);
        last.await.map_err(Failure::into_error)
    }

    /// Runs `work` in a transaction, again where the server undid it or the connection was broken before it began.
    /// `work` must answer `Final` where it cannot be run again.
    pub(super) async fn transact<T>(
        &self,
        mut work: impl AsyncFnMut(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let mut attempts = 0;
        loop {
            let mut began = false;
            let run = self.with(self.limit, async |client| {
                let transaction = client.transaction().await?;
                began = true;
                let done = work(&transaction).await;
                match done {
                    Ok(done) => {
                        transaction.commit().await?;
                        Ok(done)
                    }
                    Err(failure) => {
                        transaction.rollback().await?;
                        Err(failure)
                    }
                }
            });
            let result = run.await;
            attempts += 1;
            match result {
                Err(Failure::Conflict(_)) if attempts <= ATTEMPTS => {}
                Err(Failure::Lost(_)) if !began && attempts <= ATTEMPTS => {}
                done => return done.map_err(Failure::into_error),
            }
        }
    }
}

/// How often something is tried again.
const ATTEMPTS: usize = 4;

/// A connection that is closed unless it is given back.
struct Held(Option<Object>);

impl Held {
    fn give_back(mut self) {
        self.0 = None;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}

/// What every connection is told first: whatever the database's own settings are, a commit is on the disk when it is
/// answered, and what the server should not wait for ends there too.
fn settings(limit: Duration) -> String {
    let limit = limit.as_millis();
    format!(
        "SET search_path = portcullis; SET statement_timeout = {limit}; \
         SET idle_in_transaction_session_timeout = {}; \
         SET default_transaction_isolation = 'read committed'; \
         SELECT set_config('synchronous_commit', 'on', FALSE) \
         WHERE current_setting('synchronous_commit') = 'off'",
        limit * 4
    )
}

// ── The thread ──

type Call = Box<dyn FnOnce(Rc<Connections>) -> Pending + Send>;
type Pending = std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// The thread that drives the connections. Dropped, it ends when the calls that it has are done.
pub(super) struct Driver {
    /// `None` only while it is dropped.
    calls: Option<mpsc::UnboundedSender<Call>>,
    room: Arc<Semaphore>,
    handle: Option<JoinHandle<()>>,
}

impl Driver {
    /// Starts the thread. What `begin` does first decides whether it stays.
    pub(super) fn start<B>(connections: Connections, begin: B) -> Result<Self, OpenError>
    where
        B: AsyncFnOnce(&Connections) -> Result<(), OpenError> + Send + 'static,
    {
        let (calls, queue) = mpsc::unbounded_channel();
        let (began, begun) = std::sync::mpsc::channel();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(tokio::runtime::LocalOptions::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(began.send(Err(error.into()))),
            };
            runtime.block_on(async {
                let result = begin(&connections).await;
                let well = result.is_ok();
                drop(began.send(result));
                if well {
                    serve(connections, queue).await;
                }
            });
        };
        let handle = std::thread::Builder::new()
            .name("store-postgres".to_owned())
            .spawn(run)?;
        let driver = Self {
            calls: Some(calls),
            room: Arc::new(Semaphore::new(QUEUE)),
            handle: Some(handle),
        };
        begun
            .recv()
            .unwrap_or_else(|_| Err(OpenError::Unavailable("its thread stopped".into())))?;
        Ok(driver)
    }

    /// Sends `work` to the thread, and waits for what it answers. `work` is done whether or not somebody waits.
    pub(super) async fn call<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: AsyncFnOnce(&Connections) -> Result<T, StoreError> + Send + 'static,
    {
        let room = Arc::clone(&self.room).try_acquire_owned();
        let room =
            room.map_err(|_| StoreError::Unavailable("too many calls wait for it".into()))?;
        let (to, answer) = oneshot::channel();
        let call: Call = Box::new(move |connections| {
            Box::pin(async move {
                // Whoever asked may have left.
                drop(to.send(work(&connections).await));
                drop(room);
            })
        });
        let stopped = || StoreError::Unavailable("its thread has stopped".into());
        let calls = self.calls.as_ref().ok_or_else(stopped)?;
        calls.send(call).map_err(|_| stopped())?;
        answer
            .await
            .unwrap_or_else(|_| Err(StoreError::Broken("a call panicked".into())))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.calls = None;
        if let Some(handle) = self.handle.take() {
            // One that panicked has nothing left to do.
            drop(handle.join());
        }
    }
}

/// Takes calls until nobody is left who could send one, and lets those that are running end.
async fn serve(connections: Connections, mut queue: mpsc::UnboundedReceiver<Call>) {
    let connections = Rc::new(connections);
    let mut running = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            call = queue.recv() => match call {
                Some(call) => {
                    running.spawn_local(call(Rc::clone(&connections)));
                }
                None => break,
            },
            Some(_) = running.join_next() => {}
        }
    }
    while running.join_next().await.is_some() {}
}

/// Calls at once, with those that wait for a connection.
const QUEUE: usize = 4096;
