//! News from gateway to gateway, each heard by all others within milliseconds. They go through a stream that is bounded
//! in length, and each gateway knows its place in it: one that was cut off asks for what it missed, and is told where
//! that is not to be had any more. Silence is told from being cut off: every answer says up to when all was heard.
//!
//! (A stream that is waited on, not pub/sub channels: those have no memory, and a subscriber cannot tell a quiet
//! channel from a broken one.)

mod outbox;
mod place;

use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::{RedisError, RedisResult, Value};

use self::outbox::Outbox;
use self::place::{Found, Place};
use super::dial::Line;
use super::lane::jittered;
use super::{Away, Redis, Script};

/// One gateway's place among all that share the stream.
pub struct Bus {
    redis: Arc<Redis>,
    /// What the stream is called in Redis.
    key: String,
    /// By what others tell what is ours.
    own: Box<str>,
    outbox: Outbox,
    history: usize,
    heard: Mutex<Option<Instant>>,
}

/// What a gateway hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'n> {
    /// What another one told.
    News(&'n str),
    /// Some of what others told may be missing.
    Gap,
    /// All that others told before this moment was heard.
    UpTo(Instant),
}

impl Bus {
    /// A place on the bus. Nothing is sent or heard before `run`, except by `flush`.
    pub fn new(redis: &Arc<Redis>, history: usize) -> Arc<Self> {
        Arc::new(Self {
            redis: Arc::clone(redis),
            key: redis.key("news"),
            own: uuid::Uuid::new_v4().to_string().into(),
            outbox: Outbox::default(),
            history,
            heard: Mutex::default(),
        })
    }

    /// The last moment up to which all that others told was heard; `None`: there is none yet.
    pub fn heard(&self) -> Option<Instant> {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the others, in order, as soon as Redis takes it; one of them may hear it twice. Does not wait. What waits
    /// for longer than is bearable is replaced by a word that something is missing.
    pub fn tell(&self, news: impl Into<Box<str>>) {
        self.outbox.put(news.into());
    }

    /// How long a gateway may hear nothing before it must take itself for cut off.
    pub fn silence(&self) -> Duration {
        WAIT + 2 * self.redis.timeout
    }

    /// Sends and hears until the process ends. `ear` must not wait.
    pub async fn run(self: Arc<Self>, ear: impl Fn(Heard<'_>)) {
        tokio::join!(self.send(), self.listen(ear));
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// When Redis did not take all of it. It waits on.
    pub async fn flush(&self) -> Result<(), Away> {
        while let Some(batch) = self.outbox.next() {
            let mut command = redis::cmd("XADD");
            command.arg(&self.key).arg("MAXLEN").arg("~");
            command.arg(self.history).arg("*").arg(FROM).arg(&*self.own);
            if batch.gap {
                command.arg(GAP).arg(1);
            }
            for news in &batch.news {
                command.arg(NEWS).arg(&**news);
            }
            self.redis.call::<()>(&command).await?;
            self.outbox.sent(&batch);
        }
        Ok(())
    }

    async fn send(&self) {
        let mut pause = SHORTEST;
        loop {
            match self.flush().await {
                Ok(()) => {
                    pause = SHORTEST;
                    self.outbox.some().await;
                }
                Err(error) => {
                    tracing::debug!(%error, "news were not sent");
                    tokio::time::sleep(jittered(pause)).await;
                    pause = (pause * 2).min(LONGEST);
                }
            }
        }
    }

    async fn listen(&self, ear: impl Fn(Heard<'_>)) {
        let mut place = None;
        let mut pause = SHORTEST;
        loop {
            let begun = Instant::now();
            let Err(error) = self.follow(&mut place, &ear).await;
            tracing::debug!(%error, "news are not heard");
            if begun.elapsed() > LONGEST {
                pause = SHORTEST;
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST);
        }
    }

    /// Hears over one connection, until it fails.
    async fn follow(
        &self,
        place: &mut Option<Place>,
        ear: &impl Fn(Heard<'_>),
    ) -> Result<std::convert::Infallible, RedisError> {
        let mut line = self.redis.dial.patient_line().await?;
        loop {
            let asked = Instant::now();
            let found = self.look(&mut line, place.as_ref()).await?;
            let more = found.is_full();
            let (now, gap) = Place::after(place.take(), &found);
            if gap {
                ear(Heard::Gap);
                // It may have forgotten what it had taken of ours.
                self.outbox.repeat();
            }
            for entry in found.entries {
                if *entry.from != *self.own {
                    entry.tell(ear);
                }
            }
            let now = place.insert(now);
            if !more {
                *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
                ear(Heard::UpTo(asked));
                self.wait(&mut line, now).await?;
            }
        }
    }

    /// What is new since a place; at the first time only where the newest is.
    async fn look(&self, line: &mut Line, place: Option<&Place>) -> RedisResult<Found> {
        let keys = std::slice::from_ref(&self.key);
        // A stream that is empty has no place to stand at.
        let after = place.map_or_else(String::new, Place::last);
        let arguments = (after, BATCH, FROM, &*self.own);
        let limit = 2 * self.redis.timeout;
        let by_hash = within(limit, line.send(&LOOK.by_hash(keys, &arguments))).await;
        let answer = match by_hash {
            Err(error) if is_unknown(&error) => {
                within(limit, line.send(&LOOK.whole(keys, &arguments))).await
            }
            answer => answer,
        };
        Found::read(answer?)
    }

    /// Waits until there is something new, but not for long.
    async fn wait(&self, line: &mut Line, place: &Place) -> RedisResult<Value> {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(1).arg("BLOCK");
        command.arg(super::millis(WAIT)).arg("STREAMS");
        command.arg(&self.key).arg(place.last());
        within(WAIT + self.redis.timeout, line.send(&command)).await
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").finish_non_exhaustive()
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let late = |_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
    tokio::time::timeout(limit, work).await.map_err(late)?
}

fn is_unknown(error: &RedisError) -> bool {
    super::Fault::of(error) == super::Fault::Unknown
}

/// In one step, so that nothing is cut off in between: which server this is, the oldest and the newest entry, and
/// those after a place. An empty stream is begun.
static LOOK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
        local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
        if #oldest == 0 then
            redis.call('XADD', KEYS[1], '*', ARGV[3], ARGV[4])
            oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
        end
        local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
        local entries = {}
        if ARGV[1] ~= '' then
            entries = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
        end
        return {run, oldest[1][1], newest[1][1], entries}
        ",
    )
});

/// Fields of an entry.
const FROM: &str = "from";
const NEWS: &str = "news";
const GAP: &str = "gap";

/// How long Redis is asked to wait for something new. Its answers are what tells silence from being cut off.
const WAIT: Duration = Duration::from_millis(300);
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);
/// Entries that are read at once.
const BATCH: usize = 500;

#[cfg(test)]
mod tests;
