//! Live streams: each SSE stream and WebSocket joins with its permit and learns here when it must end
//! (token expired, no longer allowed after a reload, draining). Writes to no socket: a carrier waits on
//! its `Membership` and says goodbye in its own protocol. One registry for the process: it outlives
//! every reload. Each worker has a shard of its own, so that no stream waits for another worker's.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::Method;
use slab::Slab;
use tokio::time::Sleep;

use crate::clock::{Clock, UnixSeconds};
use crate::policy::Permit;
use crate::refusal::Refusal;
use crate::state::{Notice, Revocations, Standing};

/// The live streams of the whole process.
pub struct Streams {
    shards: Box<[Mutex<Shard>]>,
    clock: Clock,
    /// What ended lately: a stream may only now begin whose session ended while its request was under way.
    revocations: Arc<Revocations>,
}

/// One live stream: who was let in, and where to, so that a reload can judge it again.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Member {
    pub permit: Permit,
    pub kind: Kind,
    pub route: Arc<str>,
    pub method: Method,
    pub host: Box<str>,
    pub path: Box<str>,
    pub since: UnixSeconds,
}

/// What kind of stream it is, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Server-sent events.
    Sse,
    /// A WebSocket.
    Websocket,
}

/// Why a stream must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The token's time is over.
    Expired,
    /// The caller may no longer do this: revoked, or a reload changed the policy.
    Revoked,
    /// The gateway is shutting down.
    Draining,
}

/// How a stream came to its end, for the access line and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The protocol's own end: the upstream said all it had, or the sides closed in order.
    Finished,
    /// The registry told it to.
    Told(End),
    /// The client went away first.
    ClientLeft,
    /// The upstream broke off.
    UpstreamDisconnected,
    /// The upstream was silent for longer than it may.
    UpstreamTimeout,
    /// The client was silent for longer than it may.
    Idle,
}

/// What becomes of a stream that is judged again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as it was.
    Keep,
    /// It goes on until this time, be that later or sooner than before.
    Extend(UnixSeconds),
    /// It ends now.
    End(End),
}

/// A stream's place in the registry; leaves it when dropped.
pub struct Membership {
    streams: Arc<Streams>,
    worker: usize,
    key: usize,
    slot: Arc<Slot>,
    nap: Option<Nap>,
}

/// One worker's streams, and what is told to those that join late.
#[derive(Default)]
struct Shard {
    slots: Slab<Arc<Slot>>,
    judge: Option<Arc<Judge>>,
    over: Option<End>,
}

/// What a reload asks of each stream.
type Judge = dyn Fn(&Member) -> Verdict + Send + Sync;

/// A stream as the registry keeps it: shared by the stream and by whoever ends or extends it.
struct Slot {
    member: Member,
    state: Mutex<State>,
}

struct State {
    fate: Fate,
    waker: Option<Waker>,
}

/// What is to become of a stream.
#[derive(Clone, Copy)]
enum Fate {
    Lasts,
    Until(UnixSeconds),
    Ends(End),
}

/// A sleep on the way to a deadline.
struct Nap {
    towards: UnixSeconds,
    sleep: Pin<Box<Sleep>>,
}

impl Member {
    /// Whose session it belongs to, where it is one of the gateway's own.
    fn standing(&self) -> Option<&Standing> {
        self.permit.identity()?.standing.as_ref()
    }
}

impl Kind {
    /// The metric's label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::Websocket => "websocket",
        }
    }
}

impl End {
    /// The stable word: the event's name or the close reason, and the metric's label.
    pub fn word(self) -> &'static str {
        self.refusal().word()
    }

    /// The row of the table of refusals that words it for the client.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Expired => Refusal::AuthExpired,
            Self::Revoked => Refusal::AuthRevoked,
            Self::Draining => Refusal::Draining,
        }
    }
}

impl Outcome {
    /// The metric's label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Told(end) => end.word(),
            Self::ClientLeft => "client_left",
            Self::UpstreamDisconnected => "upstream_disconnected",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Idle => "idle",
        }
    }
}

impl Streams {
    /// An empty registry with a shard for each of `workers`.
    pub fn new(workers: usize, clock: Clock) -> Arc<Self> {
        Self::heeding(&Revocations::new(), workers, clock)
    }

    /// The same, where the streams of a session end with it.
    pub fn heeding(revocations: &Arc<Revocations>, workers: usize, clock: Clock) -> Arc<Self> {
        let shards = (0..workers.max(1)).map(|_| Mutex::default()).collect();
        let streams = Arc::new(Self {
            shards,
            clock,
            revocations: Arc::clone(revocations),
        });
        let listening = Arc::downgrade(&streams);
        revocations.subscribe(move |notice| {
            if let Some(streams) = listening.upgrade() {
                streams.end_by(notice);
            }
        });
        streams
    }

    /// Now, by the clock that deadlines are judged by.
    pub fn now(&self) -> UnixSeconds {
        self.clock.now()
    }

    /// Takes a stream in; its deadline is the end of its identity, a guest has none.
    /// After `end_all` it is told at once, after `review` it is judged at once: a request that an older
    /// gate let in may only now have become a stream. So it is where its session ended in between.
    pub fn join(self: &Arc<Self>, worker: usize, member: Member) -> Membership {
        let slot = Arc::new(Slot::new(member));
        let (key, over, judge) = {
            let mut shard = self.shard(worker);
            let key = shard.slots.insert(Arc::clone(&slot));
            (key, shard.over, shard.judge.clone())
        };
        if let Some(end) = over {
            slot.apply(Verdict::End(end));
        }
        if let Some(judge) = judge {
            slot.apply(judge(&slot.member));
        }
        // Last: an end from here on finds it in the shard.
        if let Some(standing) = slot.member.standing()
            && !self.revocations.admits(standing)
        {
            slot.apply(Verdict::End(End::Revoked));
        }
        Membership {
            streams: Arc::clone(self),
            worker,
            key,
            slot,
            nap: None,
        }
    }

    /// Judges every stream, and from now on each one that joins. A reload calls it once the new gate
    /// stands. `judge` runs outside every lock of the registry.
    pub fn review(&self, judge: impl Fn(&Member) -> Verdict + Send + Sync + 'static) {
        let judge: Arc<Judge> = Arc::new(judge);
        for shard in &self.shards {
            let slots = {
                let mut shard = lock(shard);
                shard.judge = Some(Arc::clone(&judge));
                shard.snapshot()
            };
            for slot in slots {
                slot.apply(judge(&slot.member));
            }
        }
    }

    /// Tells every stream to end, and from now on each one that joins.
    pub fn end_all(&self, end: End) {
        for shard in &self.shards {
            let slots = {
                let mut shard = lock(shard);
                shard.over = Some(end);
                shard.snapshot()
            };
            for slot in slots {
                slot.apply(Verdict::End(end));
            }
        }
    }

    /// Ends the streams of what ended.
    fn end_by(&self, notice: &Notice) {
        let slots = self.shards.iter().flat_map(|shard| lock(shard).snapshot());
        for slot in slots {
            if slot.member.standing().is_some_and(|it| notice.ends(it)) {
                slot.apply(Verdict::End(End::Revoked));
            }
        }
    }

    /// Lets the streams that `whose` names go on until `until`; answers how many they are.
    pub fn extend(&self, until: UnixSeconds, whose: impl Fn(&Member) -> bool) -> usize {
        let slots = self.shards.iter().flat_map(|shard| lock(shard).snapshot());
        slots
            .filter(|slot| whose(&slot.member))
            .map(|slot| slot.apply(Verdict::Extend(until)))
            .count()
    }

    /// How many streams there are, by route and kind, in the order of their routes' names.
    pub fn count(&self) -> BTreeMap<(Arc<str>, &'static str), usize> {
        let mut count = BTreeMap::new();
        for shard in &self.shards {
            for (_, slot) in &lock(shard).slots {
                let key = (Arc::clone(&slot.member.route), slot.member.kind.word());
                *count.entry(key).or_default() += 1;
            }
        }
        count
    }

    /// How many streams there are.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| lock(shard).slots.len())
            .sum()
    }

    /// Whether there is no stream.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A worker's shard. A worker beyond the first configuration's number shares another's.
    fn shard(&self, worker: usize) -> MutexGuard<'_, Shard> {
        lock(&self.shards[worker % self.shards.len()])
    }
}

impl Membership {
    /// Ready when the stream must end, and from then on. Asks the clock again at each wake: a deadline
    /// moves when its stream is extended, and the wall clock may jump.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let until = match self.slot.listen(cx) {
                Fate::Ends(end) => return Poll::Ready(end),
                Fate::Lasts => return Poll::Pending,
                Fate::Until(until) => until,
            };
            if self.nap.as_ref().is_none_or(|nap| nap.towards != until) {
                let left = until.saturating_sub(self.streams.clock.now());
                if left == 0 {
                    self.slot.apply(Verdict::End(End::Expired));
                    continue;
                }
                self.nap = Some(Nap::towards(until, left));
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

    /// Whose stream it is.
    pub fn member(&self) -> &Member {
        &self.slot.member
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.streams.shard(self.worker).slots.try_remove(self.key);
    }
}

impl Shard {
    /// The streams of now, to be told without holding the shard.
    fn snapshot(&self) -> Vec<Arc<Slot>> {
        self.slots
            .iter()
            .map(|(_, slot)| Arc::clone(slot))
            .collect()
    }
}

impl Slot {
    fn new(member: Member) -> Self {
        let fate = member
            .permit
            .identity()
            .map_or(Fate::Lasts, |identity| Fate::Until(identity.ends_at));
        let state = Mutex::new(State { fate, waker: None });
        Self { member, state }
    }

    /// What is to become of the stream; a change of it wakes `cx`.
    fn listen(&self, cx: &Context<'_>) -> Fate {
        let mut state = lock(&self.state);
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        state.fate
    }

    /// Changes what is to become of the stream. An end is final: the first one stays.
    fn apply(&self, verdict: Verdict) {
        let waker = {
            let mut state = lock(&self.state);
            state.fate = match (verdict, state.fate) {
                (Verdict::Keep, _) | (_, Fate::Ends(_)) => return,
                (Verdict::Extend(until), _) => Fate::Until(until),
                (Verdict::End(end), _) => Fate::Ends(end),
            };
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Nap {
    /// Sleeps until a second before the deadline, then in steps: the clock counts whole seconds, and a
    /// stream ends within a tenth after its last. Never for long, since the wall clock may be set.
    fn towards(towards: UnixSeconds, left: u64) -> Self {
        let length = match left {
            0 | 1 => STEP,
            _ => Duration::from_secs(left - 1).min(LONGEST_NAP),
        };
        Self {
            towards,
            sleep: Box::pin(tokio::time::sleep(length)),
        }
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").finish_non_exhaustive()
    }
}

/// A panic of another holder leaves nothing half done here, so its poison is of no interest.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often the clock is asked in a deadline's last second.
const STEP: Duration = Duration::from_millis(100);
/// How late a wall clock that was set forward may be noticed.
const LONGEST_NAP: Duration = Duration::from_secs(30);

#[cfg(test)]
pub(crate) mod tests;
