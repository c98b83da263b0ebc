//! Limits that several gateways count together, in Redis: one script for each decision, by Redis's own clock, so that
//! neither races nor the gateways' clocks change what is let in. Leases of streams expire there and are renewed here, so
//! that a gateway which is gone gives them back; `leases.rs` keeps those of this one.

pub mod leases;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use self::leases::{Lease, Leases};
use crate::config::{LimitFigures, StreamsExceeded};
use crate::limits::days::Day;
use crate::limits::meter::{Exceeded, Limit, STREAM_WAIT, Spent, micros};
use crate::limits::meters::{Subject, network};
use crate::state::redis::{Away, Redis, Script};

/// What the gateways share.
#[derive(Debug)]
pub struct Shared {
    redis: Arc<Redis>,
    /// Streams of this gateway.
    pub leases: Arc<Leases>,
}

/// The name of a caller's counts in one bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(Box<str>);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Count a request.
    pub request: bool,
    /// Take a place for a stream, and what becomes of one too many.
    pub stream: Option<StreamsExceeded>,
}

/// The days around now, by this gateway's clock; which of them it is, Redis's clock says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calendar {
    /// The first second of yesterday, of today, of tomorrow, and of the day after.
    begins: [u64; 4],
}

/// What was given.
#[derive(Debug)]
pub struct Given {
    /// What the caller has taken by now.
    pub spent: Spent,
    /// Until the day is over.
    pub day_left: Duration,
    /// The stream's lease, where one was asked for.
    pub lease: Option<Lease>,
}

impl Calendar {
    /// Those around `today`.
    pub fn new(today: Day, (yesterday, tomorrow): (Day, Day)) -> Self {
        Self {
            begins: [
                yesterday.begins,
                today.begins,
                tomorrow.begins,
                tomorrow.ends,
            ],
        }
    }
}

impl Key {
    /// The counts of `subject` in the bucket of this name. A hash: names of users do not lie about in Redis.
    pub fn of(subject: Subject<'_>, bucket: &str) -> Self {
        let mut text = Vec::with_capacity(128);
        let mut push = |part: &[u8]| {
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part);
        };
        match subject {
            Subject::User(issuer, user) => {
                push(b"user");
                push(issuer.as_bytes());
                push(user.as_bytes());
            }
            Subject::Address(address) => {
                push(b"address");
                push(&address.map_or([0; 16], |it| network(it).to_be_bytes()));
                push(if address.is_some() { b"ip" } else { b"unix" });
            }
        }
        push(bucket.as_bytes());
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text);
        Self(URL_SAFE_NO_PAD.encode(&digest.as_ref()[..18]).into())
    }

    /// Both keys are of one slot of a cluster.
    fn meter(&self) -> String {
        format!("limits:{{{}}}", self.0)
    }

    /// Where its streams are.
    fn streams(&self) -> String {
        format!("limits:{{{}}}:streams", self.0)
    }
}

impl Shared {
    /// What is shared over `redis`.
    pub fn new(redis: &Arc<Redis>) -> Arc<Self> {
        Arc::new(Self {
            redis: Arc::clone(redis),
            leases: Arc::default(),
        })
    }

    /// Decides on a request, in one step. The inner error is of a caller that asks too much, and tells how long the day
    /// lasts.
    ///
    /// # Errors
    /// When Redis did not answer in time.
    pub async fn decide(
        &self,
        key: &Key,
        (figures, wish): (&LimitFigures, Wish),
        calendar: Calendar,
    ) -> Result<Result<Given, (Exceeded, Duration)>, Away> {
        let (interval, span) = figures.rate.map_or((0, 0), |rate| {
            let interval = micros(rate.interval);
            (interval, interval.saturating_mul(u64::from(rate.burst)))
        });
        let most = figures.streams.unwrap_or(0);
        let mode = match wish.stream {
            Some(_) if most == 0 => 0,
            None => 0,
            Some(StreamsExceeded::Refuse) => 1,
            Some(StreamsExceeded::EndOldest) => 2,
        };
        let [yesterday, today, tomorrow, after] = calendar.begins;
        let name = match mode {
            0 => String::new(),
            _ => uuid::Uuid::new_v4().simple().to_string(),
        };
        let arguments: [u64; 11] = [
            u64::from(wish.request),
            interval,
            span,
            figures.daily.unwrap_or(0),
            yesterday,
            today,
            tomorrow,
            after,
            mode,
            u64::from(most),
            leases::LIFE.as_secs() * 1000,
        ];
        let keys = [key.meter(), key.streams()];
        let told: (Vec<u64>, Vec<String>) = self
            .redis
            .script(&DECIDE, &keys, (&arguments[..], name))
            .await?;
        self.read(key, told).ok_or(Away::Refused)
    }

    /// The script's answer: what was exceeded (0: nothing) and for how long, what was spent; the lease and those that had
    /// to give way to it. `None`: it is none.
    fn read(
        &self,
        key: &Key,
        (numbers, names): (Vec<u64>, Vec<String>),
    ) -> Option<Result<Given, (Exceeded, Duration)>> {
        let [which, wait, ahead, today, streams, day_left] = numbers[..] else {
            return None;
        };
        let spent = Spent {
            ahead: Duration::from_micros(ahead),
            today,
            streams: u32::try_from(streams).unwrap_or(u32::MAX),
        };
        let day_left = Duration::from_micros(day_left);
        let limit = match which {
            0 => {
                let mut names = names.into_iter();
                let lease = names.next().map(|name| self.leases.add(key, name.into()));
                for name in names {
                    self.leases.give_way(&name);
                }
                return Some(Ok(Given {
                    spent,
                    day_left,
                    lease,
                }));
            }
            1 => Limit::Rate,
            2 => Limit::Daily,
            3 => Limit::Streams,
            _ => return None,
        };
        let exceeded = Exceeded {
            limit,
            wait: match limit {
                Limit::Streams => STREAM_WAIT,
                Limit::Rate | Limit::Daily => Duration::from_micros(wait),
            },
            spent,
        };
        Some(Err((exceeded, day_left)))
    }
}

/// The same rules as `meter.rs` has, over all gateways.
///
/// Keys: the counts (`w`: when the burst is whole again, in microseconds; `d`, `n`: the day's first second and its
/// requests), and the streams by when their leases expire. Arguments: whether a request counts, interval and span of the rate
/// in microseconds (0: none), requests of a day (0: any), the first seconds of four days, the mode of streams (0: no stream,
/// 1: refuse, 2: end the oldest), how many (0: any), the life of a lease in milliseconds, its name.
static DECIDE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000000 + time[2]
        local ms = math.floor(now / 1000)
        local interval, span = tonumber(ARGV[2]), tonumber(ARGV[3])
        local daily = tonumber(ARGV[4])
        local mode, most = tonumber(ARGV[9]), tonumber(ARGV[10])
        local streams = {}
        if mode > 0 then
            redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ms)
            streams = redis.call('ZRANGE', KEYS[2], 0, -1)
            if mode == 1 and #streams >= most then
                return {{3, 0, 0, 0, #streams, 0}, {}}
            end
        end
        local ahead, today, left = 0, 0, 0
        if ARGV[1] == '1' and (interval > 0 or daily > 0) then
            local kept = redis.call('HMGET', KEYS[1], 'w', 'd', 'n')
            local whole = tonumber(kept[1] or 0) or 0
            local day, ends = tonumber(ARGV[5]), tonumber(ARGV[6])
            for at = 6, 7 do
                if tonumber(time[1]) >= tonumber(ARGV[at]) then
                    day, ends = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
                end
            end
            today = tonumber(kept[3] or 0) or 0
            -- A day to come counts: the clock was set back, and nobody gains by it.
            if (tonumber(kept[2] or 0) or 0) < day then
                today = 0
            end
            left = math.max(ends * 1000000 - now, 0)
            ahead = math.max(whole - now, 0)
            if daily > 0 and today >= daily then
                redis.call('HSET', KEYS[1], 'd', string.format('%.0f', day))
                return {{2, left, ahead, today, #streams, left}, {}}
            end
            if interval > 0 then
                whole = math.min(math.max(whole, now), now + span) + interval
                if whole > now + span then
                    return {{1, whole - now - span, ahead, today, #streams, left}, {}}
                end
                ahead = whole - now
                redis.call('HSET', KEYS[1], 'w', string.format('%.0f', whole))
            end
            local life = ahead
            if daily > 0 then
                today = today + 1
                redis.call('HSET', KEYS[1], 'd', string.format('%.0f', day), 'n', today)
                life = math.max(life, left)
            end
            redis.call('PEXPIRE', KEYS[1], string.format('%.0f', life / 1000 + 60000))
        end
        local names = {}
        if mode > 0 then
            -- By the time when they were opened: whose expiry comes first was renewed first.
            table.sort(streams)
            names[1] = string.format('%016.0f', ms) .. ARGV[12]
            while #streams >= most do
                redis.call('ZREM', KEYS[2], streams[1])
                names[#names + 1] = table.remove(streams, 1)
            end
            redis.call('ZADD', KEYS[2], string.format('%.0f', ms + ARGV[11]), names[1])
            redis.call('PEXPIRE', KEYS[2], ARGV[11])
            streams[#streams + 1] = names[1]
        end
        return {{0, 0, ahead, today, #streams, left}, names}
        ",
    )
});

#[cfg(test)]
mod tests;
