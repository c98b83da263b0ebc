//! What one caller has asked in one bucket: the rate (GCRA, one atomic number), the requests of the day (another), and
//! the streams at once. Exact whatever the number of threads that ask; a request that is refused has taken nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::{LimitFigures, Rate, StreamsExceeded};
use crate::identity::Keepsake;
use crate::streams::{End, Remote};

/// The counts of one caller in one bucket.
#[derive(Debug, Default)]
pub struct Meter {
    /// When the caller's burst will be whole again, in nanoseconds of the monotonic clock (the theoretical arrival
    /// time of the generic cell rate algorithm).
    whole: AtomicU64,
    /// The day (`DAY_BITS`) and its requests.
    day: AtomicU64,
    streams: Mutex<Held>,
}

/// Now, by both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds of the monotonic clock: what a clock that is set does not change.
    pub nanos: u64,
    /// The day, counted from 1970, where days are counted.
    pub day: u32,
    /// The time until it is over.
    pub day_left: Duration,
}

/// Which of the limits a request ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Limit {
    Rate,
    Daily,
    Streams,
}

/// A request too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Of which.
    pub limit: Limit,
    /// When it would be let in, as far as that is known.
    pub wait: Duration,
    /// What was taken before.
    pub spent: Spent,
}

/// What a caller has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// The time until its burst is whole again.
    pub ahead: Duration,
    /// Requests of the day.
    pub today: u64,
    /// Streams at once.
    pub streams: u32,
}

/// The streams of a caller, the oldest first: their numbers, and how each is told to end once it is one.
#[derive(Debug, Default)]
struct Held {
    /// No two have one number.
    next: u64,
    streams: Vec<(u64, Option<Remote>)>,
}

/// A stream's place among those of its caller; given back when dropped.
#[derive(Debug)]
pub struct Place {
    meter: Arc<Meter>,
    number: u64,
}

impl Keepsake for Meter {
    fn ahead(&self) -> u8 {
        (self.whole.load(Ordering::Relaxed) ^ self.day.load(Ordering::Relaxed)) as u8
    }
}

impl Meter {
    /// Takes one request.
    ///
    /// # Errors
    /// When it is one too many; then nothing is taken.
    pub fn take(&self, figures: &LimitFigures, now: Moment) -> Result<Spent, Exceeded> {
        let today = self.today(now.day);
        if let Some(daily) = figures.daily
            && today >= daily
        {
            // Said before the rate is looked at: who comes back tomorrow need not come back in a second.
            return Err(self.exceeded(Limit::Daily, now.day_left, now));
        }
        let ahead = match figures.rate {
            None => Duration::ZERO,
            Some(rate) => match self.pass(rate, now.nanos) {
                Ok(ahead) => ahead,
                Err(wait) => return Err(self.exceeded(Limit::Rate, wait, now)),
            },
        };
        let Some(daily) = figures.daily else {
            return Ok(Spent {
                ahead,
                ..Spent::default()
            });
        };
        match self.count(daily, now.day) {
            Some(today) => Ok(Spent {
                ahead,
                today,
                streams: 0,
            }),
            None => Err(self.exceeded(Limit::Daily, now.day_left, now)),
        }
    }

    /// Takes one request that is known to open a stream, and a place for it.
    ///
    /// # Errors
    /// When either is one too many; then nothing is taken.
    pub fn take_stream(
        self: &Arc<Self>,
        figures: &LimitFigures,
        now: Moment,
    ) -> Result<(Spent, Option<Place>), Exceeded> {
        let Some(most) = figures.streams else {
            return Ok((self.take(figures, now)?, None));
        };
        // Held to the end: nobody else is refused for a place that is given back at once.
        let mut held = self.held();
        if held.count() >= most {
            let mut exceeded = self.exceeded(Limit::Streams, STREAM_WAIT, now);
            exceeded.spent.streams = held.count();
            return Err(exceeded);
        }
        let spent = self.take(figures, now)?;
        let place = self.enter(&mut held);
        let streams = held.count();
        Ok((Spent { streams, ..spent }, Some(place)))
    }

    /// Takes a place for a stream, or that of the oldest one, which is told to end.
    ///
    /// # Errors
    /// When it is one too many.
    pub fn open_stream(
        self: &Arc<Self>,
        most: u32,
        too_many: StreamsExceeded,
    ) -> Result<Place, Exceeded> {
        let mut oldest = Vec::new();
        let mut held = self.held();
        while held.count() >= most {
            if too_many == StreamsExceeded::Refuse {
                return Err(Exceeded {
                    limit: Limit::Streams,
                    wait: STREAM_WAIT,
                    spent: Spent {
                        streams: held.count(),
                        ..Spent::default()
                    },
                });
            }
            oldest.extend(held.streams.remove(0).1);
        }
        let place = self.enter(&mut held);
        drop(held);
        for remote in oldest {
            remote.end(End::StreamsExceeded);
        }
        Ok(place)
    }

    /// A place that all gateways together have given: counted here too, whatever this one would say by itself.
    pub fn enter_given(self: &Arc<Self>) -> Place {
        self.enter(&mut self.held())
    }

    /// What all gateways together have counted: from there this one goes on, should it have to count alone. Never back:
    /// answers come in any order.
    pub fn learn(&self, spent: Spent, now: Moment) {
        let whole = now.nanos.saturating_add(nanos(spent.ahead));
        self.whole.fetch_max(whole, Ordering::Relaxed);
        if spent.today > 0 {
            let day = pack(now.day, spent.today);
            self.day.fetch_max(day, Ordering::Relaxed);
        }
    }

    fn enter(self: &Arc<Self>, held: &mut Held) -> Place {
        let number = held.next;
        held.next += 1;
        held.streams.push((number, None));
        Place {
            meter: Arc::clone(self),
            number,
        }
    }

    /// The generic cell rate algorithm: the time until the burst is whole again, or until one more may come.
    fn pass(&self, rate: Rate, now: u64) -> Result<Duration, Duration> {
        let interval = nanos(rate.interval);
        let span = interval.saturating_mul(u64::from(rate.burst));
        let full = now.saturating_add(span);
        let mut whole = self.whole.load(Ordering::Relaxed);
        loop {
            // Never farther ahead than a whole burst: it may have been counted by the figures of another class.
            let next = whole.clamp(now, full).saturating_add(interval);
            if next > full {
                return Err(Duration::from_nanos(next - full));
            }
            let swapped =
                self.whole
                    .compare_exchange_weak(whole, next, Ordering::Relaxed, Ordering::Relaxed);
            match swapped {
                Ok(_) => return Ok(Duration::from_nanos(next - now)),
                Err(other) => whole = other,
            }
        }
    }

    /// Counts a request of `day`: how many there are now, or `None` where there are `most` already.
    fn count(&self, most: u64, day: u32) -> Option<u64> {
        let counted = self
            .day
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |kept| {
                let count = count_on(kept, day);
                (count < most).then(|| pack(day, count + 1))
            });
        counted.ok().map(|kept| count_on(kept, day) + 1)
    }

    /// The requests of `day`. Where the count is that of a day to come, the clock was set back: it becomes this day's,
    /// lest it stand until then.
    fn today(&self, day: u32) -> u64 {
        let kept = self.day.load(Ordering::Relaxed);
        let count = count_on(kept, day);
        if kept >> COUNT_BITS > u64::from(day) {
            let mended = pack(day, count);
            let order = Ordering::Relaxed;
            // Who else changed it, mended it too.
            let _ = self.day.compare_exchange(kept, mended, order, order);
        }
        count
    }

    fn exceeded(&self, limit: Limit, wait: Duration, now: Moment) -> Exceeded {
        let whole = self.whole.load(Ordering::Relaxed);
        Exceeded {
            limit,
            wait,
            spent: Spent {
                ahead: Duration::from_nanos(whole.saturating_sub(now.nanos)),
                today: self.today(now.day),
                streams: 0,
            },
        }
    }

    /// Whether it says nothing that a new one would not say.
    pub fn is_blank(&self, now: Moment) -> bool {
        self.whole.load(Ordering::Relaxed) <= now.nanos
            && self.today(now.day) == 0
            && !self.has_streams()
    }

    /// Whether a stream has a place in it.
    pub fn has_streams(&self) -> bool {
        !self.held().streams.is_empty()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn count(&self) -> u32 {
        u32::try_from(self.streams.len()).unwrap_or(u32::MAX)
    }
}

impl Place {
    /// From now on the stream is told to end when its place is taken; at once where that was so already.
    pub fn bind(&self, remote: Remote) {
        let mut held = self.meter.held();
        let mut streams = held.streams.iter_mut();
        match streams.find(|(number, _)| *number == self.number) {
            Some((_, bound)) => *bound = Some(remote),
            None => {
                drop(held);
                remote.end(End::StreamsExceeded);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.meter.held();
        held.streams.retain(|(number, _)| *number != self.number);
        if held.streams.is_empty() {
            held.streams.shrink_to_fit();
        }
    }
}

/// The requests of `day` that `kept` tells of. A day that is past counts nothing; one that is still to come does:
/// the clock was set back, and nobody shall gain by it.
fn count_on(kept: u64, day: u32) -> u64 {
    let (on, count) = (kept >> COUNT_BITS, kept & COUNT_MASK);
    if on < u64::from(day) { 0 } else { count }
}

fn pack(day: u32, count: u64) -> u64 {
    (u64::from(day) << COUNT_BITS) | count.min(COUNT_MASK)
}

/// Whole microseconds.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Days to the year 47,000, requests to a trillion.
const COUNT_BITS: u32 = 40;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// When a place may come free is not known: soon enough to try again, and no storm.
pub(super) const STREAM_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
