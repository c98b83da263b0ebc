//! Live streams: each SSE stream and WebSocket joins with its permit and learns here when it must end
//! (token expired, revoked, no longer allowed, draining) or that it goes on (a newer token of its session). Writes to
//! no socket: a carrier waits on its `Membership` and says goodbye in its own protocol. One registry for the process:
//! it outlives every reload. Each worker has a shard of its own, so that no stream waits for another worker's.

mod doubts;
mod index;
mod listing;
mod membership;
mod newest;
mod renewal;
mod slot;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use slab::Slab;

pub use self::doubts::Doubtful;
use self::doubts::Doubts;
use self::index::{Index, Mark, Marks};
pub use self::listing::{Filter, Shown};
pub use self::membership::{Left, Membership, Remote, Told};
use self::newest::Newest;
use self::slot::Slot;
use crate::clock::{Clock, UnixSeconds};
use crate::identity::Identity;
use crate::policy::Permit;
use crate::refusal::Refusal;
use crate::state::bans::{Banned, Bans};
use crate::state::{Effect, Notice, Revocations};

/// The live streams of the whole process.
pub struct Streams {
    shards: Box<[Mutex<Shard>]>,
    clock: Clock,
    marks: Marks,
    newest: Newest,
    doubts: Doubts,
    judge: RwLock<Option<Arc<dyn Judge>>>,
    listeners: RwLock<Vec<Arc<Listener>>>,
    /// What ended lately: a stream may only now begin whose session ended while its request was under way.
    revocations: Arc<Revocations>,
    /// What an operator has refused, likewise.
    bans: Arc<Bans>,
}

/// One live stream: who was let in, and where to, so that it can be judged again.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Member {
    pub permit: Permit,
    pub kind: Kind,
    pub route: Arc<str>,
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
    /// The caller has opened another, and may have no more.
    StreamsExceeded,
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
    /// One side broke off, and which is not known: the protocol is not.
    Broken,
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

/// Who judges streams: the current gate.
pub trait Judge: Send + Sync {
    /// Judges a stream of this route all anew, its token included.
    fn review(&self, route: &str, permit: &Permit) -> Verdict;

    /// Whether the route would let this caller in, whose token was verified just now.
    fn allows(&self, route: &str, permit: &Permit) -> bool;

    /// The identity of a token that was just made for a session of the gateway's own.
    fn read(&self, token: &str) -> Option<Arc<Identity>>;
}

/// What other gateways must hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A newer token of a session was seen.
    Extended(Extended),
    /// An operator ended streams.
    Kill(Filter),
}

/// A session's new deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Extended {
    pub issuer: Box<str>,
    pub subject: Box<str>,
    pub session: Box<str>,
    pub until: UnixSeconds,
}

/// Hears of each, on the thread that tells it. Must not wait.
pub type Listener = dyn Fn(&Message) + Send + Sync;

/// One worker's streams, and what is told to those that join late.
#[derive(Default)]
struct Shard {
    slots: Slab<Arc<Slot>>,
    index: Index,
    /// Judges who joins: a request that an older gate let in may only now have become a stream.
    judge: Option<Arc<dyn Judge>>,
    over: Option<End>,
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
            Self::StreamsExceeded => Refusal::StreamsExceeded,
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
            Self::Broken => "broken",
        }
    }
}

impl Streams {
    /// An empty registry with a shard for each of `workers`.
    pub fn new(workers: usize, clock: Clock) -> Arc<Self> {
        Self::heeding((&Revocations::new(), &Bans::new()), workers, clock)
    }

    /// The same, where the streams of a session end with it, and those of a token that is refused as soon as that is known.
    pub fn heeding(
        (revocations, bans): (&Arc<Revocations>, &Arc<Bans>),
        workers: usize,
        clock: Clock,
    ) -> Arc<Self> {
        let shards = (0..workers.max(1)).map(|_| Mutex::default()).collect();
        let streams = Arc::new(Self {
            shards,
            clock,
            marks: Marks::default(),
            newest: Newest::default(),
            doubts: Doubts::default(),
            judge: RwLock::default(),
            listeners: RwLock::default(),
            revocations: Arc::clone(revocations),
            bans: Arc::clone(bans),
        });
        let listening = Arc::downgrade(&streams);
        revocations.subscribe(move |notice| {
            if let Some(streams) = listening.upgrade() {
                streams.heed(notice);
            }
        });
        let listening = Arc::downgrade(&streams);
        bans.subscribe(move |banned, _, _| {
            if let Some(streams) = listening.upgrade() {
                streams.end_banned(banned);
            }
        });
        streams
    }

    /// Calls `listener` with what other gateways must hear of, from now on.
    pub fn subscribe(&self, listener: impl Fn(&Message) + Send + Sync + 'static) {
        let listeners = self.listeners.write();
        let mut listeners = listeners.unwrap_or_else(PoisonError::into_inner);
        listeners.push(Arc::new(listener));
    }

    /// Now, by the clock that deadlines are judged by.
    pub fn now(&self) -> UnixSeconds {
        self.clock.now()
    }

    /// Takes a stream in; its deadline is the end of its identity, or of a newer one of its session; a guest has none.
    /// After `end_all` it is told at once, after `review` it is judged at once: a request that an older
    /// gate let in may only now have become a stream. So it is where its session ended in between.
    pub fn join(self: &Arc<Self>, worker: usize, member: Member) -> Membership {
        let slot = Arc::new(Slot::new(member));
        let identity = slot.identity();
        let worker = worker % self.shards.len();
        let (key, over, judge) = {
            let mut shard = lock(&self.shards[worker]);
            let key = shard.slots.insert(Arc::clone(&slot)) as u32;
            for mark in identity.iter().flat_map(|it| self.marks.all(it)) {
                shard.index.insert(mark, key);
            }
            (key, shard.over, shard.judge.clone())
        };
        if let Some(end) = over {
            slot.apply(Verdict::End(end));
        }
        if let Some(judge) = judge {
            slot.apply(judge.review(&slot.route, &slot.permit()));
        }
        // Last: what happens from here on finds it in the shard.
        if let Some(identity) = &identity {
            self.catch_up(&slot, identity);
        }
        Membership::new(self, slot, (worker as u32, key))
    }

    /// What a stream missed that joins only now: the end of its session, doubts, a newer token.
    fn catch_up(&self, slot: &Arc<Slot>, identity: &Identity) {
        if let Some(standing) = &identity.standing {
            self.take_effect(slot, self.revocations.meanwhile(standing));
        }
        if self.bans.refuses(identity.presented()) {
            slot.apply(Verdict::End(End::Revoked));
        }
        let newer = self.marks.session(identity);
        if let Some(newer) = newer.and_then(|mark| self.newest.after(mark, identity)) {
            self.renew_slot(slot, &newer);
        }
    }

    /// From now on `judge` is asked about those whose session has a newer token. A start calls it once the gate stands.
    pub fn judged_by(&self, judge: Arc<dyn Judge>) {
        let mut current = self.judge.write().unwrap_or_else(PoisonError::into_inner);
        *current = Some(judge);
    }

    /// Judges every stream, and from now on each one that joins. A reload calls it once the new gate
    /// stands. `judge` runs outside every lock of the registry.
    pub fn review(&self, judge: &Arc<dyn Judge>) {
        self.judged_by(Arc::clone(judge));
        for shard in &self.shards {
            let slots = {
                let mut shard = lock(shard);
                shard.judge = Some(Arc::clone(judge));
                shard.snapshot()
            };
            for slot in slots {
                slot.apply(judge.review(&slot.route, &slot.permit()));
            }
        }
    }

    /// The store must be asked whether the streams of its sessions may go on: some news may have been missed.
    pub fn doubt_all(&self) {
        let slots = self.shards.iter().flat_map(|shard| lock(shard).snapshot());
        for slot in slots {
            let identity = slot.identity();
            if identity.is_some_and(|it| it.standing.is_some()) {
                self.doubts.add(&slot);
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

    /// Tells other gateways.
    fn tell(&self, message: &Message) {
        for listener in self.listeners() {
            listener(message);
        }
    }

    fn listeners(&self) -> Vec<Arc<Listener>> {
        let listeners = self.listeners.read();
        listeners.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn judge(&self) -> Option<Arc<dyn Judge>> {
        let judge = self.judge.read();
        judge.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends or doubts the streams that some news are about.
    fn heed(&self, notice: &Notice) {
        for slot in self.marked(self.marks.about(notice.news)) {
            let identity = slot.identity();
            if let Some(standing) = identity.as_ref().and_then(|it| it.standing.as_ref()) {
                self.take_effect(&slot, notice.effect(standing));
            }
        }
    }

    /// Ends the streams whose newest token is refused.
    fn end_banned(&self, banned: &Banned) {
        let slots = self.shards.iter().flat_map(|shard| lock(shard).snapshot());
        for slot in slots {
            let identity = slot.identity();
            let refused = identity.is_some_and(|it| {
                banned.is_about(it.presented()) && self.bans.refuses(it.presented())
            });
            if refused {
                slot.apply(Verdict::End(End::Revoked));
            }
        }
    }

    fn take_effect(&self, slot: &Arc<Slot>, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::End => slot.apply(Verdict::End(End::Revoked)),
            Effect::Doubt => self.doubts.add(slot),
        }
    }

    /// Streams about which the store must be asked; waits until there are some. Whoever asks applies the verdict.
    pub async fn doubted(&self) -> Vec<Doubtful> {
        self.doubts.take().await
    }

    /// The streams with this mark, in each shard as it is now. Some may be another's: marks are short.
    fn marked(&self, mark: Mark) -> impl Iterator<Item = Arc<Slot>> {
        self.shards
            .iter()
            .flat_map(move |shard| lock(shard).marked(mark))
    }

    /// How many streams there are, by route and kind, in the order of their routes' names.
    pub fn count(&self) -> BTreeMap<(Arc<str>, &'static str), usize> {
        let mut count = BTreeMap::new();
        for shard in &self.shards {
            for (_, slot) in &lock(shard).slots {
                let key = (Arc::clone(&slot.route), slot.kind.word());
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

    fn leave(&self, membership: &Membership) {
        let identity = membership.slot.identity();
        let mut shard = lock(&self.shards[membership.worker as usize]);
        if shard.slots.try_remove(membership.key as usize).is_some() {
            for mark in identity.iter().flat_map(|it| self.marks.all(it)) {
                shard.index.remove(mark, membership.key);
            }
        }
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

    /// Those with this mark, likewise.
    fn marked(&self, mark: Mark) -> Vec<Arc<Slot>> {
        let keys = self.index.find(mark);
        keys.filter_map(|key| self.slots.get(key as usize).cloned())
            .collect()
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

/// A panic of another holder leaves nothing half done here, so its poison is of no interest.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests;
