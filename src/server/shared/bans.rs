//! Bans as several gateways share them: besides the news, all of them are kept in Redis, for those that are started later
//! and for those that missed some. Each gateway puts there what it knows and takes what it does not: a Redis that lost its
//! memory gets it back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::wire::{self, Told};
use crate::clock::Clock;
use crate::state::bans::{Bans, KEPT};
use crate::state::redis::bus::Bus;
use crate::state::redis::{Away, Redis};

/// The bans of this gateway, and those in Redis.
pub(super) struct Exchange {
    pub(super) redis: Arc<Redis>,
    pub(super) bans: Arc<Bans>,
    pub(super) clock: Clock,
    /// Some may be new, here or there.
    pub(super) some: Arc<Notify>,
    /// Where others hear that there are new ones.
    pub(super) bus: Arc<Bus>,
}

impl Exchange {
    /// Exchanges at the start and whenever there may be something new, until the process ends.
    pub(super) async fn run(self) {
        loop {
            match self.once().await {
                Ok(()) => self.some.notified().await,
                Err(error) => {
                    tracing::debug!(%error, "bans were not exchanged");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn once(&self) -> Result<(), Away> {
        let key = self.redis.key("bans");
        let mut new = 0;
        for known in self.bans.all().chunks(AT_ONCE) {
            let mut add = redis::cmd("ZADD");
            // The later of two times counts, as here; the time is no part of what is banned.
            add.arg(&key).arg("GT").arg("CH");
            for (banned, at) in known {
                add.arg(*at).arg(wire::write_ban(banned, 0));
            }
            new += self.redis.call::<u64>(&add).await?;
        }
        if new > 0 {
            // Who has looked already looks again.
            self.bus.tell(wire::BANS);
        }
        let now = self.clock.now();
        let mut forget = redis::cmd("ZREMRANGEBYSCORE");
        forget.arg(&key).arg("-inf").arg(now.saturating_sub(KEPT));
        self.redis.call::<()>(&forget).await?;
        let mut all = redis::cmd("ZRANGE");
        all.arg(&key).arg(0).arg(-1).arg("WITHSCORES");
        let all: Vec<(String, u64)> = self.redis.call(&all).await?;
        for (text, at) in all {
            if let Some(Told::Banned(banned, _)) = wire::read(&text) {
                self.bans.hear(&banned, at, now);
            }
        }
        Ok(())
    }
}

const PAUSE: Duration = Duration::from_secs(1);
const AT_ONCE: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::bans::Banned;
    use crate::state::redis::testing::Server;

    #[tokio::test]
    async fn each_takes_what_others_know_and_a_redis_that_forgot_gets_it_back() {
        let server = Server::start().await;
        let gateway = || {
            let redis = server.handle();
            Exchange {
                bus: Bus::new(&redis, 1000),
                redis,
                bans: Bans::new(),
                clock: Clock::manual(1000),
                some: Arc::default(),
            }
        };
        let (one, two, late) = (gateway(), gateway(), gateway());
        one.bans.add(&Banned::User("u".into()), 900);
        two.bans.add(&Banned::User("u".into()), 950);
        two.bans.add(&Banned::Session("s".into()), 900);
        for exchange in [&one, &two, &one] {
            exchange.once().await.unwrap();
        }
        let flush = redis::cmd("FLUSHALL");
        late.redis.call::<()>(&flush).await.unwrap();
        one.once().await.unwrap();
        late.once().await.unwrap();
        for exchange in [&one, &late] {
            let mut all = exchange.bans.all();
            all.sort_by_key(|(_, at)| *at);
            let expected = [
                (Banned::Session("s".into()), 900),
                (Banned::User("u".into()), 950),
            ];
            assert_eq!(all, expected);
        }
    }
}
