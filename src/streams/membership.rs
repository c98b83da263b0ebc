//! A stream's own view of the registry: what it is told, and when.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

use crate::clock::UnixSeconds;
use crate::policy::Permit;
use crate::streams::slot::{Fate, Slot};
use crate::streams::{End, Streams, Verdict};

/// A stream's place in the registry; leaves it when dropped.
pub struct Membership {
    pub(super) streams: Arc<Streams>,
    pub(super) slot: Arc<Slot>,
    pub(super) worker: u32,
    pub(super) key: u32,
    nap: Option<Nap>,
    /// The deadline that its client was warned of; 0: of none.
    warned: UnixSeconds,
    farewell: Option<Box<Farewell>>,
}

/// What a stream is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It ends at this time, unless a newer token comes.
    Expiring(UnixSeconds),
    /// It must end.
    End(End),
}

/// How a stream left.
#[derive(Clone, Debug)]
pub struct Left {
    /// With the newest token that was known of.
    pub permit: Permit,
    /// What it was told; `None`: it left by itself.
    pub end: Option<End>,
}

/// Tells one stream to end; keeps it from nothing.
#[derive(Clone)]
pub struct Remote(Weak<Slot>);

impl Remote {
    /// Tells it, if it still lives.
    pub fn end(&self, end: End) {
        if let Some(slot) = self.0.upgrade() {
            slot.apply(Verdict::End(end));
        }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").finish_non_exhaustive()
    }
}

type Farewell = dyn FnOnce(Left) + Send;

/// A sleep on the way to a deadline.
struct Nap {
    until: UnixSeconds,
    sleep: Pin<Box<Sleep>>,
}

impl Membership {
    pub(super) fn new(streams: &Arc<Streams>, slot: Arc<Slot>, (worker, key): (u32, u32)) -> Self {
        Self {
            streams: Arc::clone(streams),
            slot,
            worker,
            key,
            nap: None,
            warned: 0,
            farewell: None,
        }
    }

    /// Ready when the stream must end, and from then on.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if let Told::End(end) = ready!(self.poll_told(cx, 0)) {
                return Poll::Ready(end);
            }
        }
    }

    /// Ready `notice` seconds before each deadline, once (0: never), when the stream must end, and from then on. Asks
    /// the clock again at each wake: a deadline moves when its stream is extended, and the wall clock may jump.
    pub fn poll_told(&mut self, cx: &mut Context<'_>, notice: u64) -> Poll<Told> {
        loop {
            let until = match self.slot.listen(cx) {
                Fate::Ends(end) => return Poll::Ready(Told::End(end)),
                Fate::Lasts => return Poll::Pending,
                Fate::Until(until) => until,
            };
            if self.nap.as_ref().is_none_or(|nap| nap.until != until) {
                let left = until.saturating_sub(self.streams.now());
                if left == 0 {
                    self.slot.apply(Verdict::End(End::Expired));
                    continue;
                }
                let warns = notice > 0 && self.warned != until;
                if warns && left <= notice {
                    self.warned = until;
                    return Poll::Ready(Told::Expiring(until));
                }
                let first = if warns { left - notice } else { left };
                self.nap = Some(Nap::new(until, first));
            }
            if let Some(nap) = &mut self.nap {
                ready!(nap.sleep.as_mut().poll(cx));
            }
            self.nap = None;
        }
    }

    /// Waits until the stream must end.
    pub async fn ended(&mut self) -> End {
        poll_fn(|cx| self.poll_end(cx)).await
    }

    /// When it ends, as far as is known; `None`: never, or now.
    pub fn until(&self) -> Option<UnixSeconds> {
        match self.slot.fate() {
            Fate::Until(until) => Some(until),
            Fate::Lasts | Fate::Ends(_) => None,
        }
    }

    /// Now, by the clock that deadlines are judged by.
    pub fn now(&self) -> UnixSeconds {
        self.streams.now()
    }

    /// Who was let in, by the newest token that is known of.
    pub fn permit(&self) -> Permit {
        self.slot.permit()
    }

    /// What ends it from elsewhere.
    pub fn remote(&self) -> Remote {
        Remote(Arc::downgrade(&self.slot))
    }

    /// Calls `farewell` once the stream has left.
    pub fn upon_leaving(&mut self, farewell: impl FnOnce(Left) + Send + 'static) {
        self.farewell = Some(Box::new(farewell));
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.streams.leave(self);
        if let Some(farewell) = self.farewell.take() {
            farewell(Left {
                permit: self.slot.permit(),
                end: match self.slot.fate() {
                    Fate::Ends(end) => Some(end),
                    Fate::Lasts | Fate::Until(_) => None,
                },
            });
        }
    }
}

impl Nap {
    /// Sleeps until a second before the time, then in steps: the clock counts whole seconds, and a
    /// stream ends within a tenth after its last. Never for long, since the wall clock may be set.
    fn new(until: UnixSeconds, left: u64) -> Self {
        let length = match left {
            0 | 1 => STEP,
            _ => Duration::from_secs(left - 1).min(LONGEST_NAP),
        };
        Self {
            until,
            sleep: Box::pin(tokio::time::sleep(length)),
        }
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").finish_non_exhaustive()
    }
}

/// How often the clock is asked in a deadline's last second.
const STEP: Duration = Duration::from_millis(100);
/// How late a wall clock that was set forward may be noticed.
pub(super) const LONGEST_NAP: Duration = Duration::from_secs(30);
