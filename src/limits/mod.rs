//! How much a caller may ask: the class that it is in (`class.rs`), what it has taken (`meter.rs`), and what it is
//! told of that (`told.rs`). `meters.rs` keeps the meters of all callers, `near.rs` those that a worker has met,
//! `days.rs` knows when a day is over. Refuses
//! with 429; what a route demands of a caller is `policy`'s.

pub mod class;
pub mod days;
mod figures;
pub mod meter;
pub mod meters;
pub mod near;
pub mod shared;
pub mod told;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};

use self::class::{Rules, Terms};
use self::days::Days;
use self::figures::Refused;
use self::meter::{Exceeded, Limit, Meter, Moment, Place, Spent};
use self::meters::{Meters, Subject};
use self::near::Near;
use self::shared::{Calendar, Key, Shared, Wish};
use self::told::Told;
use crate::clock::Clock;
use crate::config::{self, LimitClass, LimitsStore, RedisAway, StreamsExceeded};
use crate::identity::{Caller, Keepsake};
use crate::observe::metrics::{Metrics, Registration};
use crate::policy::Permit;
use crate::refusal::Refusal;
use crate::request::head::Head;
use crate::streams::Remote;

/// The limits of a configuration.
pub struct Limits {
    classes: Vec<LimitClass>,
    /// Whether answers that are no refusals tell what is left.
    headers: bool,
    meters: Arc<Meters>,
    /// `None`: this gateway counts alone.
    shared: Option<Arc<Shared>>,
    days: Days,
    clock: Clock,
    /// In the order of the classes.
    refused: Box<[Arc<Refused>]>,
    _figures: Vec<Registration>,
}

/// A caller's class and meter: what is remembered with a verified one for the bucket that all routes share, so that it
/// need not be found again for each request.
#[derive(Clone, Debug)]
struct Seat {
    class: usize,
    meter: Arc<Meter>,
    /// Its counts in Redis, where gateways count together.
    key: Option<Key>,
}

impl Keepsake for Option<Seat> {
    fn ahead(&self) -> u8 {
        self.as_ref().map_or(0, |seat| seat.class as u8)
    }

    fn beyond(&self) -> Option<Arc<dyn Keepsake>> {
        Some(Arc::clone(&self.as_ref()?.meter) as _)
    }
}

/// Where counts are that outlive a configuration.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Those of this process.
    pub meters: Arc<Meters>,
    /// Those in Redis, where there is one.
    pub shared: Option<Arc<Shared>>,
}

/// One request on its way through the limits.
pub struct Admission<'l> {
    limits: &'l Limits,
    near: &'l Near,
    /// `None`: it is not limited.
    rules: Option<&'l Rules>,
    lease: Option<Lease>,
    told: Option<Box<Told>>,
}

/// A stream's place among those of its caller. Given back when it is dropped.
#[derive(Debug)]
pub enum Lease {
    /// In this process.
    Here(Place),
    /// Among all gateways, and here: should this one have to count alone, it knows its own.
    Shared(shared::leases::Lease, Place),
}

/// A request, as far as limits care.
#[derive(Clone, Copy)]
pub struct Ask<'r> {
    /// Leave to go on.
    pub permit: &'r Permit,
    /// Its head.
    pub head: &'r Head,
    /// When it came.
    pub at: Instant,
}

impl Limits {
    /// Compiles `[limits]`; the counts are in `counts`, whatever was configured before.
    pub fn build(
        config: &config::Limits,
        counts: &Counts,
        clock: Clock,
        metrics: &Metrics,
    ) -> Self {
        let Counts { meters, shared } = counts;
        meters.hold(config.capacity);
        let classes = config.classes.clone();
        Self {
            refused: classes
                .iter()
                .map(|class| meters.refused(&class.name))
                .collect(),
            _figures: figures::show(metrics, meters, &classes),
            classes,
            headers: config.headers,
            meters: Arc::clone(meters),
            shared: shared
                .clone()
                .filter(|_| config.store == LimitsStore::Redis),
            days: Days::new(config.time_zone.clone()),
            clock,
        }
    }

    /// A request's way through them, under the rules of its route. `near` is its worker's.
    pub fn admission<'l>(&'l self, rules: Option<&'l Rules>, near: &'l Near) -> Admission<'l> {
        Admission {
            limits: self,
            near,
            rules,
            lease: None,
            told: None,
        }
    }

    /// What counts for `caller` under `rules`; `None`: nothing does.
    pub fn terms<'r>(&self, rules: &'r Rules, caller: &Caller) -> Option<&'r Terms> {
        class::find(&self.classes, caller).map(|class| rules.terms(class))
    }

    /// Now. Days are looked up only where they count.
    fn moment(&self, at: Instant, terms: &Terms) -> Moment {
        let nanos = self.meters.nanos(at);
        if terms.figures.daily.is_none() {
            return Moment {
                nanos,
                ..Moment::default()
            };
        }
        let now = self.clock.now();
        let day = self.days.at(now);
        Moment {
            nanos,
            day: day.number,
            day_left: day.left(now),
        }
    }

    /// Keeps what all gateways together have counted, by the day of Redis's clock, for when this one counts alone.
    fn learn(&self, seat: &Seat, terms: &Terms, (mut spent, day_left): (Spent, Duration)) {
        let now = self.moment(Instant::now(), terms);
        // About midnight it may be another day than this gateway's.
        if terms.figures.daily.is_none() || now.day_left.abs_diff(day_left) > HALF_A_DAY {
            spent.today = 0;
        }
        seat.meter.learn(spent, now);
    }

    /// The caller's class and meter; `None`: no class takes it.
    fn seat<'p>(
        &self,
        permit: &'p Permit,
        (rules, near): (&Rules, &Near),
    ) -> Option<Cow<'p, Seat>> {
        match permit.identity() {
            Some(identity) if rules.bucket.is_empty() => {
                let make = || Arc::new(self.find_seat(permit, (rules, near)));
                let kept: Option<&Option<Seat>> = identity.remembered.get_or_init(make);
                kept?.as_ref().map(Cow::Borrowed)
            }
            _ => self.find_seat(permit, (rules, near)).map(Cow::Owned),
        }
    }

    fn find_seat(&self, permit: &Permit, (rules, near): (&Rules, &Near)) -> Option<Seat> {
        let class = class::find(&self.classes, permit.caller())?;
        let subject = match permit.identity() {
            Some(identity) => Subject::User(&identity.issuer, &identity.user_id),
            None => Subject::Address(permit.client()),
        };
        let now = || Moment {
            nanos: self.meters.nanos(Instant::now()),
            day: self.days.at(self.clock.now()).number,
            day_left: Duration::ZERO,
        };
        let find = || self.meters.obtain(subject, &rules.bucket, now);
        let meter = match subject {
            Subject::User(..) => find(),
            Subject::Address(client) => near.obtain(client, &rules.bucket, find),
        };
        let key = self.shared.as_ref();
        let key = key.map(|_| Key::of(subject, &rules.bucket));
        Some(Seat { class, meter, key })
    }

    fn calendar(&self, terms: &Terms) -> Calendar {
        if terms.figures.daily.is_none() {
            return Calendar::default();
        }
        let today = self.days.at(self.clock.now());
        Calendar::new(today, self.days.around(today))
    }
}

impl Admission<'_> {
    /// Takes one request, and a place for its stream where it is known to open one that may be refused.
    ///
    /// # Errors
    /// When it is one too many, or nobody can count it.
    pub async fn admit(&mut self, ask: Ask<'_>) -> Result<(), Refusal> {
        let Some(rules) = self.rules else {
            return Ok(());
        };
        // A browser asks for leave on its own, and never for a stream.
        if ask.head.preflight().is_some() {
            self.rules = None;
            return Ok(());
        }
        let limits = self.limits;
        let Some(seat) = limits.seat(ask.permit, (rules, self.near)) else {
            self.rules = None;
            return Ok(());
        };
        let terms = rules.terms(seat.class);
        let known = terms.streams_exceeded == StreamsExceeded::Refuse
            && (rules.opens_stream || opens_stream(ask.head));
        if let (Some(shared), Some(key)) = (&limits.shared, &seat.key) {
            let wish = Wish {
                request: true,
                stream: known.then_some(StreamsExceeded::Refuse),
            };
            let asked = self.ask_redis((shared, key), &seat, (terms, wish));
            // Boxed: what waits for Redis would make every request larger.
            if let Some(lease) = Box::pin(asked).await? {
                self.lease = lease;
                return Ok(());
            }
        }
        let now = limits.moment(ask.at, terms);
        let taken = match known {
            true => seat.meter.take_stream(&terms.figures, now),
            false => seat
                .meter
                .take(&terms.figures, now)
                .map(|spent| (spent, None)),
        };
        let (spent, place) =
            taken.map_err(|exceeded| self.refuse(&seat, (terms, exceeded), now))?;
        self.lease = place.map(Lease::Here);
        if limits.headers {
            self.told = Told::passed(terms, spent, now).map(Box::new);
        }
        Ok(())
    }

    /// The lease of a stream that is about to open: the one that the request came in with, or a new one. `None`: any
    /// number may.
    ///
    /// # Errors
    /// When it is one too many, or nobody can count it.
    pub async fn stream(&mut self, permit: &Permit) -> Result<Option<Lease>, Refusal> {
        if let Some(lease) = self.lease.take() {
            return Ok(Some(lease));
        }
        let limits = self.limits;
        let Some((rules, seat)) = self
            .rules
            .and_then(|rules| Some((rules, limits.seat(permit, (rules, self.near))?)))
        else {
            return Ok(None);
        };
        let terms = rules.terms(seat.class);
        let Some(most) = terms.figures.streams else {
            return Ok(None);
        };
        if let (Some(shared), Some(key)) = (&limits.shared, &seat.key) {
            let wish = Wish {
                request: false,
                stream: Some(terms.streams_exceeded),
            };
            let asked = self.ask_redis((shared, key), &seat, (terms, wish));
            if let Some(lease) = Box::pin(asked).await? {
                return Ok(lease);
            }
        }
        match seat.meter.open_stream(most, terms.streams_exceeded) {
            Ok(place) => Ok(Some(Lease::Here(place))),
            Err(exceeded) => {
                let now = limits.moment(Instant::now(), terms);
                Err(self.refuse(&seat, (terms, exceeded), now))
            }
        }
    }

    /// Asks where all gateways count. `None`: Redis is away, and this gateway counts alone meanwhile.
    async fn ask_redis(
        &mut self,
        (shared, key): (&Shared, &Key),
        seat: &Seat,
        (terms, wish): (&Terms, Wish),
    ) -> Result<Option<Option<Lease>>, Refusal> {
        let calendar = self.limits.calendar(terms);
        let now = |day_left| Moment {
            day_left,
            ..Moment::default()
        };
        match shared.decide(key, (&terms.figures, wish), calendar).await {
            Ok(Ok(given)) => {
                self.limits
                    .learn(seat, terms, (given.spent, given.day_left));
                if self.limits.headers && wish.request {
                    let now = now(given.day_left);
                    self.told = Told::passed(terms, given.spent, now).map(Box::new);
                }
                let lease = given.lease;
                Ok(Some(lease.map(|lease| {
                    Lease::Shared(lease, seat.meter.enter_given())
                })))
            }
            Ok(Err((exceeded, day_left))) => {
                self.limits.learn(seat, terms, (exceeded.spent, day_left));
                Err(self.refuse(seat, (terms, exceeded), now(day_left)))
            }
            Err(_) if terms.redis_away == RedisAway::Open => {
                self.limits.meters.alone();
                Ok(None)
            }
            Err(_) => Err(Refusal::LimitsUnavailable),
        }
    }

    fn refuse(
        &mut self,
        seat: &Seat,
        (terms, exceeded): (&Terms, Exceeded),
        now: Moment,
    ) -> Refusal {
        self.limits.refused[seat.class].count(exceeded.limit);
        self.told = Told::refused(terms, &exceeded, now).map(Box::new);
        exceeded.limit.refusal()
    }

    /// Seconds after which a refused client may try again.
    pub fn retry_after(&self) -> Option<u64> {
        self.told.as_ref()?.retry_after()
    }

    /// Tells the client, in the head of its answer.
    pub fn tell(self, status: StatusCode, headers: &mut HeaderMap) {
        if let Some(told) = self.told {
            told.put(status, headers);
        }
    }
}

impl Limit {
    /// What the client is told.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Rate => Refusal::RateLimited,
            Self::Daily => Refusal::QuotaExceeded,
            Self::Streams => Refusal::StreamsExceeded,
        }
    }
}

impl Lease {
    /// From now on the stream is told to end when its place is another's.
    pub fn bind(&self, remote: Remote) {
        match self {
            Self::Here(place) => place.bind(remote),
            Self::Shared(lease, place) => {
                place.bind(remote.clone());
                lease.bind(remote);
            }
        }
    }
}

/// Whether nothing but a stream can come of it.
fn opens_stream(head: &Head) -> bool {
    head.is_websocket() || head.accepts_nothing_but_events()
}

const HALF_A_DAY: Duration = Duration::from_secs(12 * 3600);

#[cfg(test)]
mod tests;
