//! Redis, as several gateways share it: one handle for the process, usable from every thread that runs tasks. Each
//! thread has a lane of its own (`lane.rs`): a connection that carries many calls at once and mends itself; so no call
//! waits for another thread, and none for longer than its time-out. `dial.rs` makes connections, `watch.rs` tells how
//! it is, `bus.rs` carries news from gateway to gateway. Decides nothing: what a call that failed means is its
//! caller's business.

pub mod bus;
mod dial;
mod figures;
mod lane;
mod watch;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, ToRedisArgs, Value};

use self::dial::Dial;
use self::lane::Lane;
use crate::config;

pub use self::dial::OpenError;

/// The handle. Shared by all workers; asks for nothing before the first call.
pub struct Redis {
    dial: Arc<Dial>,
    lanes: Box<[Arc<Lane>]>,
    prefix: Box<str>,
    timeout: Duration,
    /// Whether it answered when it was last asked (`watch.rs`).
    up: AtomicBool,
}

/// Why a call came to nothing. Whether it was carried out is not known, except where Redis was `Down`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Away {
    /// There is no connection; one is being sought.
    #[error("Redis cannot be reached")]
    Down,
    /// No answer came in time.
    #[error("Redis did not answer in time")]
    Late,
    /// It answered that it will not: out of memory, no permission, a script that failed.
    #[error("Redis refused the call")]
    Refused,
}

/// A script that runs in Redis as one step. Made once, `static` in a `LazyLock`; sent whole only where Redis does not
/// know it yet.
#[derive(Clone, Debug)]
pub struct Script {
    text: &'static str,
    hash: Box<str>,
}

impl Script {
    /// The script of this text (Lua).
    pub fn new(text: &'static str) -> Self {
        let hash = redis::Script::new(text).get_hash().into();
        Self { text, hash }
    }

    fn by_hash(&self, keys: &[String], arguments: impl ToRedisArgs) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&*self.hash).arg(keys.len()).arg(keys);
        command.arg(arguments);
        command
    }

    /// The same where Redis does not know the script.
    fn whole(&self, keys: &[String], arguments: impl ToRedisArgs) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(self.text).arg(keys.len()).arg(keys);
        command.arg(arguments);
        command
    }
}

impl Redis {
    /// A handle for this many threads. Opens no socket.
    ///
    /// # Errors
    /// When no connection could ever be made: certificates that cannot be used.
    pub fn new(config: &config::Redis, threads: usize) -> Result<Arc<Self>, OpenError> {
        Ok(Arc::new(Self {
            dial: Arc::new(Dial::new(config)?),
            lanes: (0..threads.max(1)).map(|_| Arc::default()).collect(),
            prefix: config.prefix.clone(),
            timeout: config.timeout,
            up: AtomicBool::new(false),
        }))
    }

    /// Whether a call of this thread would be sent at all. Costs next to nothing.
    pub fn available(&self) -> bool {
        self.lane().is_open()
    }

    /// Runs a script as one step. `keys` are given their prefix here; where Redis is a cluster they must share a part
    /// in braces. Keys that are not in `keys` must not be touched.
    ///
    /// # Errors
    /// When Redis did not answer as expected, in time.
    pub async fn script<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[impl AsRef<str>],
        arguments: impl ToRedisArgs,
    ) -> Result<T, Away> {
        let keys: Vec<String> = keys.iter().map(|key| self.key(key.as_ref())).collect();
        let begun = Instant::now();
        let lane = self.lane();
        let answer = match self
            .ask(lane, &script.by_hash(&keys, &arguments), begun)
            .await
        {
            Err(Fault::Unknown) => {
                let whole = script.whole(&keys, &arguments);
                self.ask(lane, &whole, begun).await
            }
            answer => answer,
        };
        self.told(lane, begun, answer)
    }

    /// What is kept under a key.
    ///
    /// # Errors
    /// When Redis did not answer as expected, in time.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Away> {
        self.call(redis::cmd("GET").arg(self.key(key))).await
    }

    /// Keeps a value under a key for a while, in the place of any other.
    ///
    /// # Errors
    /// When Redis did not answer as expected, in time.
    pub async fn set(&self, key: &str, value: &[u8], expires: Duration) -> Result<(), Away> {
        let mut command = redis::cmd("SET");
        command.arg(self.key(key)).arg(value);
        self.call(command.arg("PX").arg(millis(expires))).await
    }

    /// The same where nothing is kept under the key yet; whether it was kept.
    ///
    /// # Errors
    /// When Redis did not answer as expected, in time.
    pub async fn add(&self, key: &str, value: &[u8], expires: Duration) -> Result<bool, Away> {
        let mut command = redis::cmd("SET");
        command.arg(self.key(key)).arg(value);
        let command = command.arg("PX").arg(millis(expires)).arg("NX");
        let kept: Option<()> = self.call(command).await?;
        Ok(kept.is_some())
    }

    /// What was kept under a key, which is empty from now on: of all that take it, one gets it.
    ///
    /// # Errors
    /// When Redis did not answer as expected, in time. It may have been taken then.
    pub async fn take(&self, key: &str) -> Result<Option<Vec<u8>>, Away> {
        self.call(redis::cmd("GETDEL").arg(self.key(key))).await
    }

    /// Empties a key.
    ///
    /// # Errors
    /// When Redis did not answer as expected, in time.
    pub async fn remove(&self, key: &str) -> Result<(), Away> {
        self.call(redis::cmd("DEL").arg(self.key(key))).await
    }

    /// Any command, whose keys have their prefix already (`key`).
    ///
    /// # Errors
    /// When Redis did not answer as expected, in time.
    pub async fn call<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Away> {
        let begun = Instant::now();
        let lane = self.lane();
        let answer = self.ask(lane, command, begun).await;
        self.told(lane, begun, answer)
    }

    /// A key as Redis knows it.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// One command within the time that is left, sent again once where its connection broke off.
    async fn ask(&self, lane: &Arc<Lane>, command: &Cmd, begun: Instant) -> Result<Value, Fault> {
        let asked = async {
            for _ in 0..TRIES {
                let mut link = lane.link(&self.dial).await.ok_or(Fault::Away(Away::Down))?;
                match link.send(command).await {
                    Ok(value) => return Ok(value),
                    Err(error) => {
                        tracing::debug!(%error, "a call to Redis failed");
                        match Fault::of(&error) {
                            Fault::Away(Away::Down) => lane.gave_up(&link, &self.dial),
                            fault => return Err(fault),
                        }
                    }
                }
            }
            Err(Fault::Away(Away::Down))
        };
        let left = self.timeout.saturating_sub(begun.elapsed());
        match tokio::time::timeout(left, asked).await {
            Ok(answer) => answer,
            Err(_) => {
                lane.stalled(&self.dial);
                Err(Fault::Away(Away::Late))
            }
        }
    }

    fn told<T: FromRedisValue>(
        &self,
        lane: &Lane,
        begun: Instant,
        answer: Result<Value, Fault>,
    ) -> Result<T, Away> {
        let read = |value| redis::from_redis_value(value).map_err(|_| Away::Refused);
        let answer = answer.map_err(Away::from).and_then(read);
        lane.counts
            .note(begun.elapsed(), answer.as_ref().err().copied());
        answer
    }

    /// The lane of this thread. Threads beyond the number that was asked for share one with another.
    fn lane(&self) -> &Arc<Lane> {
        &self.lanes[seat() % self.lanes.len()]
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

/// Why one command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Away(Away),
    /// Redis does not know a script by its hash.
    Unknown,
}

impl Fault {
    fn of(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoScript) => Self::Unknown,
            // A server that is not yet, or no longer, the one to ask: another connection finds the right one.
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly,
            )
            | ErrorKind::ClusterConnectionNotFound
            | ErrorKind::Io => Self::Away(Away::Down),
            _ => Self::Away(Away::Refused),
        }
    }
}

impl From<Fault> for Away {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Away(away) => away,
            Fault::Unknown => Self::Refused,
        }
    }
}

/// This thread's number among those that asked Redis.
fn seat() -> usize {
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SEAT: Cell<Option<usize>> = const { Cell::new(None) };
    }
    SEAT.get().unwrap_or_else(|| {
        let seat = TAKEN.fetch_add(1, Ordering::Relaxed);
        SEAT.set(Some(seat));
        seat
    })
}

/// At least one: Redis knows no shorter time.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// How often a command is sent whose connection breaks off.
const TRIES: usize = 2;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
