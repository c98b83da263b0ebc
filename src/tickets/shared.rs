//! Tickets of all gateways that share a Redis. Redis keeps hashes and what is sealed, nothing else. Each step is one
//! script, so that of several gateways exactly one uses a ticket. One whose stream lives is held by a lease that its
//! gateway renews: where that gateway dies, the ticket can be used again when the lease is over.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use super::{Again, Id, Owner, Record, TicketError};
use crate::clock::UnixSeconds;
use crate::state::redis::{Away, Redis, Script};

pub(super) struct Shared {
    redis: Arc<Redis>,
    /// Those in use here.
    held: Arc<Mutex<HashSet<Id>>>,
}

impl Shared {
    pub(super) fn new(redis: &Arc<Redis>) -> Self {
        Self {
            redis: Arc::clone(redis),
            held: Arc::default(),
        }
    }

    pub(super) async fn put(
        &self,
        id: Id,
        record: &Record,
        (per_user, now): (usize, UnixSeconds),
    ) -> Result<(), TicketError> {
        let counted: i64 = {
            let arguments = (now, record.expires, hex(&id), per_user);
            let key = [owner_key(&record.owner)];
            self.redis.script(&COUNT, &key, arguments).await?
        };
        if counted == 0 {
            return Err(TicketError::TooMany);
        }
        let left = record.expires.saturating_sub(now).max(1);
        let arguments = (
            FRESH,
            &*record.sealed,
            record.ends_at,
            left,
            hex(&record.owner),
        );
        let () = self
            .redis
            .script(&PUT, &[ticket_key(&id)], arguments)
            .await?;
        Ok(())
    }

    /// What was sealed.
    pub(super) async fn take(&self, id: &Id, again: Again) -> Result<Box<[u8]>, TicketError> {
        let again = again == Again::OnceEnded;
        let arguments = (i64::from(again), LEASE.as_secs());
        let key = [ticket_key(id)];
        let taken: (i64, Vec<u8>, String) = self.redis.script(&TAKE, &key, arguments).await?;
        match taken {
            (1, sealed, owner) => {
                self.uncount(*id, owner);
                if again {
                    self.held().insert(*id);
                }
                Ok(sealed.into())
            }
            (2, ..) => Err(TicketError::InUse),
            _ => Err(TicketError::Invalid),
        }
    }

    /// It is no longer one of its user's unused ones.
    fn uncount(&self, id: Id, owner: String) {
        let redis = Arc::clone(&self.redis);
        beside(async move {
            let key = redis.key(&format!("tickets:{owner}"));
            let mut command = ::redis::cmd("ZREM");
            redis.call(command.arg(key).arg(hex(&id))).await
        });
    }

    pub(super) fn rest(&self, id: Id, record: Record, per_user: usize) {
        self.held().remove(&id);
        let redis = Arc::clone(&self.redis);
        beside(async move {
            let arguments = (hex(&id), record.ends_at, per_user);
            let key = [format!("{}:resting", owner_key(&record.owner))];
            let over: Vec<String> = redis.script(&RESTING, &key, arguments).await?;
            let arguments = (
                RESTING_STAGE,
                &*record.sealed,
                record.ends_at,
                0,
                hex(&record.owner),
            );
            let () = redis.script(&PUT, &[ticket_key(&id)], arguments).await?;
            for id in over {
                redis.remove(&format!("ticket:{id}")).await?;
            }
            Ok(())
        });
    }

    pub(super) fn remove(&self, id: Id) {
        self.held().remove(&id);
        let redis = Arc::clone(&self.redis);
        beside(async move { redis.remove(&ticket_key(&id)).await });
    }

    /// Renews the leases of those that are in use here, for ever.
    pub(super) async fn renew(&self) {
        loop {
            tokio::time::sleep(LEASE / 3).await;
            let held: Vec<Id> = self.held().iter().copied().collect();
            for id in held {
                let renewed: Result<(), Away> = {
                    let arguments = (LEASE.as_secs(),);
                    let key = [ticket_key(&id)];
                    self.redis.script(&RENEW, &key, arguments).await
                };
                if let Err(error) = renewed {
                    tracing::debug!(%error, "the lease of a ticket was not renewed");
                    break;
                }
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, HashSet<Id>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs beside whatever goes on: nobody waits when a stream leaves.
fn beside(work: impl Future<Output = Result<(), Away>> + Send + 'static) {
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    runtime.spawn(async move {
        if let Err(error) = work.await {
            tracing::debug!(%error, "a ticket was not given back");
        }
    });
}

fn ticket_key(id: &Id) -> String {
    format!("ticket:{}", hex(id))
}

fn owner_key(owner: &Owner) -> String {
    format!("tickets:{}", hex(owner))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl From<Away> for TicketError {
    fn from(error: Away) -> Self {
        tracing::debug!(%error, "tickets cannot be looked up");
        Self::Away
    }
}

const FRESH: &str = "f";
const RESTING_STAGE: &str = "r";
/// How long a ticket is taken for being in use after its gateway was last heard of.
const LEASE: Duration = Duration::from_secs(30);

/// Counts one of a user's unused tickets: now, its end, its name, the most. 0: there are too many.
static COUNT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1]) \
         if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[4]) then return 0 end \
         redis.call('ZADD', KEYS[1], ARGV[2], ARGV[3]) \
         redis.call('EXPIRE', KEYS[1], 3600) \
         return 1",
    )
});

/// Keeps one: stage, what is sealed, the token's end, seconds (0: until that end), whose it is.
static PUT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('HSET', KEYS[1], 's', ARGV[1], 'd', ARGV[2], 'e', ARGV[3], 'o', ARGV[5]) \
         if ARGV[4] == '0' then redis.call('EXPIREAT', KEYS[1], ARGV[3]) \
         else redis.call('EXPIRE', KEYS[1], ARGV[4]) end \
         return redis.status_reply('OK')",
    )
});

/// Uses one: whether it may be used again, and for how long it is held then. 1, what is sealed and whose it
/// is; 2: it is in use.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local kept = redis.call('HMGET', KEYS[1], 's', 'd', 'h', 'e', 'o') \
         if not kept[1] then return {0, '', ''} end \
         local now = tonumber(redis.call('TIME')[1]) \
         if kept[1] == 'u' and tonumber(kept[3]) > now then return {2, '', ''} end \
         if ARGV[1] == '0' then \
           if kept[1] ~= 'f' then return {0, '', ''} end \
           redis.call('DEL', KEYS[1]) \
           return {1, kept[2], kept[5]} \
         end \
         redis.call('HSET', KEYS[1], 's', 'u', 'h', now + tonumber(ARGV[2])) \
         redis.call('EXPIREAT', KEYS[1], math.max(tonumber(kept[4]), now + tonumber(ARGV[2]))) \
         return {1, kept[2], kept[5]}",
    )
});

/// Renews the lease of one that is in use: seconds.
static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('HGET', KEYS[1], 's') ~= 'u' then return redis.status_reply('OK') end \
         local until_ = tonumber(redis.call('TIME')[1]) + tonumber(ARGV[1]) \
         redis.call('HSET', KEYS[1], 'h', until_) \
         local left = redis.call('TTL', KEYS[1]) \
         if left < tonumber(ARGV[1]) then redis.call('EXPIREAT', KEYS[1], until_) end \
         return redis.status_reply('OK')",
    )
});

/// Counts one of a user's resting tickets: its name, its end, the most. Names those that must go for it.
static RESTING: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local now = tonumber(redis.call('TIME')[1]) \
         redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now) \
         redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1]) \
         redis.call('EXPIREAT', KEYS[1], ARGV[2]) \
         local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[3]) \
         if over <= 0 then return {} end \
         local popped, names = redis.call('ZPOPMIN', KEYS[1], over), {} \
         for at = 1, #popped, 2 do if popped[at] ~= ARGV[1] then names[#names + 1] = popped[at] end end \
         return names",
    )
});
