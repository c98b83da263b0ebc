//! Reads `[limits]` and `[route.limits]`: how much a caller may ask, by class. The figures alone: who has asked how
//! much is for `limits` to know.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::check::seconds;
use super::named::{self, Named};
use super::raw::Table;
use super::route::{conditions, rests_on_user_metadata};
use super::units::{self, Wrong};
use super::{Auth, Condition, Issuer};

/// `[limits]`.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Limits {
    pub enabled: bool,
    pub store: LimitsStore,
    /// Where days begin.
    pub time_zone: TimeZone,
    /// Whether answers that are no refusals tell what is left.
    pub headers: bool,
    /// How many callers are remembered.
    pub capacity: usize,
    /// In order: the first that takes a caller counts. Those of the file, then those built in.
    pub classes: Vec<LimitClass>,
}

/// Where it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitsStore {
    /// In this process.
    Memory,
    /// In Redis, for all gateways together.
    Redis,
}

/// `[[limits.class]]`: callers that share their figures, each with counts of its own.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct LimitClass {
    pub name: Arc<str>,
    pub callers: Callers,
    /// One of them is needed; none: no role is.
    pub roles: Vec<Box<str>>,
    pub require: Vec<Condition>,
    pub figures: LimitFigures,
    pub streams_exceeded: StreamsExceeded,
    pub redis_away: RedisAway,
}

/// `callers` of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callers {
    /// No credential, or a bad one on a route that takes it for none.
    pub guests: bool,
    /// Users whose `is_anonymous` says so.
    pub anonymous: bool,
    /// All other users.
    pub users: bool,
}

/// How much one caller may ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitFigures {
    /// `None`: as fast as it likes.
    pub rate: Option<Rate>,
    /// Streams at once; `None`: any number.
    pub streams: Option<u32>,
    /// Requests from midnight to midnight; `None`: any number.
    pub daily: Option<u64>,
}

/// Figures that are other than those of a class; each that is `None` is the class's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in `LimitFigures`")]
pub struct Changes {
    pub rate: Option<Option<Rate>>,
    pub streams: Option<Option<u32>>,
    pub daily: Option<Option<u64>>,
}

/// So many requests in so much time, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time for which one request counts; at least a microsecond.
    pub interval: Duration,
    /// At least 1.
    pub burst: u32,
}

/// What becomes of a stream too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamsExceeded {
    /// It is refused.
    Refuse,
    /// It is let in, and the caller's oldest one ends.
    EndOldest,
}

/// What becomes of a class's requests while Redis is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisAway {
    /// This gateway counts alone.
    Open,
    /// They are refused.
    Closed,
}

/// `[route.limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteLimits {
    /// Whether its requests count at all.
    pub enabled: bool,
    /// Whether they count apart from those of other routes.
    pub bucket: Bucket,
    /// What stands in the place of the class's figures.
    pub changes: Changes,
    /// Whether each request opens a stream, so that a stream too many is refused before the upstream hears of it.
    pub opens_stream: bool,
}

/// `bucket` of a route's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// One for all routes that have none of their own.
    Shared,
    /// One of the route's own.
    Own,
}

/// Reads `[limits]`; `redis`: there is a `[redis]`.
pub(super) fn limits(mut table: Table<'_>, issuers: &Named<Issuer>, redis: bool) -> Limits {
    let stores = [
        ("memory", LimitsStore::Memory),
        ("redis", LimitsStore::Redis),
    ];
    let store = table.choice("store", &stores);
    if store == Some(LimitsStore::Redis) && !redis {
        table.problem("store", "`store` needs a Redis", "add [redis] with a url");
    }
    Limits {
        enabled: table.flag("enabled").unwrap_or(true),
        store: store.unwrap_or(match redis {
            true => LimitsStore::Redis,
            false => LimitsStore::Memory,
        }),
        time_zone: table.text("time_zone", time_zone).unwrap_or(TimeZone::UTC),
        headers: table.flag("headers").unwrap_or(false),
        capacity: table
            .integer("capacity", 1000..=100_000_000)
            .unwrap_or(100_000),
        classes: classes(&mut table, issuers),
    }
}

fn time_zone(name: &str) -> Result<TimeZone, Wrong> {
    TimeZone::get(name).map_err(|_| {
        Wrong::new(
            "is not a time zone",
            "write a name of the IANA data base: \"UTC\", \"Europe/Berlin\", \"Asia/Shanghai\"",
        )
    })
}

fn classes(table: &mut Table<'_>, issuers: &Named<Issuer>) -> Vec<LimitClass> {
    let mut classes: Vec<(usize, LimitClass)> = Vec::new();
    for mut table in table.tables("class") {
        let name = named::name(&mut table, |name| {
            classes.iter().any(|(_, known)| *known.name == *name)
        });
        let class = class(&mut table, name.unwrap_or_default(), issuers);
        classes.push((table.line, class));
    }
    for (at, (line, class)) in classes.iter().enumerate() {
        let shadow = classes[..at]
            .iter()
            .find(|(_, above)| above.takes_all_of(class));
        if let Some((_, above)) = shadow {
            let what = format!(
                "[limits.class \"{}\"] takes nobody: \"{}\" above takes them all",
                class.name, above.name
            );
            table
                .report
                .problem(*line, what, "put it above, or remove it");
        }
    }
    let mut classes: Vec<_> = classes.into_iter().map(|(_, class)| class).collect();
    for built_in in [LimitClass::anonymous(), LimitClass::permanent()] {
        if !classes.iter().any(|class| class.name == built_in.name) {
            classes.push(built_in);
        }
    }
    classes
}

fn class(table: &mut Table<'_>, name: Box<str>, issuers: &Named<Issuer>) -> LimitClass {
    // What the file does not say of a class that is built in is as it was.
    let base = [LimitClass::anonymous(), LimitClass::permanent()]
        .into_iter()
        .find(|class| *class.name == *name)
        .unwrap_or_else(|| LimitClass::unlimited(&name));
    let exceeded = [
        ("refuse", StreamsExceeded::Refuse),
        ("end_oldest", StreamsExceeded::EndOldest),
    ];
    let away = [("open", RedisAway::Open), ("closed", RedisAway::Closed)];
    let class = LimitClass {
        callers: callers(table).unwrap_or(base.callers),
        roles: table.texts("roles", units::filled).unwrap_or_default(),
        require: conditions(table),
        figures: changes(table).to(base.figures),
        streams_exceeded: table
            .choice("streams_exceeded", &exceeded)
            .unwrap_or(base.streams_exceeded),
        redis_away: table.choice("redis_away", &away).unwrap_or(base.redis_away),
        name: Arc::from(name),
    };
    let somebody = class.callers.anonymous || class.callers.users;
    for (key, empty) in [
        ("roles", class.roles.is_empty()),
        ("require", class.require.is_empty()),
    ] {
        if !empty && !somebody {
            let what = format!("`{key}` needs a caller that is known");
            table.problem(key, &what, "add \"users\" to callers, or remove it");
        }
    }
    let trusting = issuers.iter().all(|(_, issuer)| issuer.trust_user_metadata);
    if !trusting && rests_on_user_metadata(&class.require) {
        table.problem(
            "require",
            "`require` rests on user_metadata, which users can write themselves",
            "use app_metadata, or set trust_user_metadata = true on every issuer",
        );
    }
    class
}

fn callers(table: &mut Table<'_>) -> Option<Callers> {
    const WORDS: [&str; 3] = ["guests", "anonymous", "users"];
    let words = table.texts("callers", |word| {
        let place = WORDS.iter().position(|known| *known == word);
        place.ok_or_else(|| {
            Wrong::new(
                "is no kind of caller",
                "write \"guests\", \"anonymous\" or \"users\"",
            )
        })
    })?;
    if words.is_empty() {
        let mend = "name one kind at least, or leave the key out for all";
        table.problem("callers", "`callers` is empty: it takes nobody", mend);
    }
    Some(Callers {
        guests: words.contains(&0),
        anonymous: words.contains(&1),
        users: words.contains(&2),
    })
}

/// What the table says of the figures; 0 is no limit.
fn changes(table: &mut Table<'_>) -> Changes {
    let rate = table.integer("rate", 0..=1_000_000u32);
    let per = table.duration("per");
    let burst = table.integer("burst", 1..=1_000_000u32);
    if rate.unwrap_or(0) == 0 {
        for (key, given) in [("per", per.is_some()), ("burst", burst.is_some())] {
            if given {
                let what = format!("`{key}` says nothing without a `rate`");
                table.problem(key, &what, "add rate, or remove it");
            }
        }
    }
    let streams = table.integer("streams", 0..=1_000_000u32);
    let daily = table.integer("daily", 0..=1_000_000_000_000u64);
    let per = per.unwrap_or(seconds(1));
    Changes {
        rate: rate.map(|rate| (rate > 0).then(|| Rate::new(rate, per, burst))),
        streams: streams.map(|streams| Some(streams).filter(|it| *it > 0)),
        daily: daily.map(|daily| Some(daily).filter(|it| *it > 0)),
    }
}

/// Reads `[route.limits]`.
pub(super) fn route(mut table: Table<'_>, auth: Auth) -> RouteLimits {
    let buckets = [("shared", Bucket::Shared), ("own", Bucket::Own)];
    let enabled = table.flag("enabled");
    let bucket = table.choice("bucket", &buckets);
    let changes = changes(&mut table);
    let opens_stream = table.flag("opens_stream").unwrap_or(false);
    let own = changes != Changes::default();
    if own && bucket == Some(Bucket::Shared) {
        let what = "`bucket` is shared, whose figures are those of the class";
        table.problem("bucket", what, "write \"own\", or remove the figures");
    }
    RouteLimits {
        // A public route knows no callers; it is limited where it says that it is.
        enabled: enabled.unwrap_or(auth != Auth::Public || table.is_given()),
        bucket: match own {
            true => Bucket::Own,
            false => bucket.unwrap_or(Bucket::Shared),
        },
        changes,
        opens_stream,
    }
}

impl RouteLimits {
    /// What the gateway itself answers is not counted: its log-in APIs have limits of their own.
    pub(super) fn off() -> Self {
        Self {
            enabled: false,
            bucket: Bucket::Shared,
            changes: Changes::default(),
            opens_stream: false,
        }
    }
}

impl Rate {
    /// `rate` requests in each `per`; a burst of one second's worth unless said otherwise.
    pub fn new(rate: u32, per: Duration, burst: Option<u32>) -> Self {
        let interval = (per / rate.max(1)).max(Duration::from_micros(1));
        let worth = seconds(1).as_nanos() / interval.as_nanos();
        let worth = u32::try_from(worth).unwrap_or(u32::MAX);
        Self {
            interval,
            burst: burst.unwrap_or(worth).max(1),
        }
    }
}

impl Changes {
    /// The figures that they make of `base`.
    pub fn to(self, base: LimitFigures) -> LimitFigures {
        LimitFigures {
            rate: self.rate.unwrap_or(base.rate),
            streams: self.streams.unwrap_or(base.streams),
            daily: self.daily.unwrap_or(base.daily),
        }
    }
}

impl LimitClass {
    fn anonymous() -> Self {
        Self {
            callers: Callers {
                users: false,
                ..Callers::ALL
            },
            figures: LimitFigures {
                rate: Some(Rate::new(5, seconds(1), None)),
                streams: Some(2),
                daily: Some(1000),
            },
            ..Self::unlimited("anonymous")
        }
    }

    fn permanent() -> Self {
        Self {
            callers: Callers {
                users: true,
                guests: false,
                anonymous: false,
            },
            figures: LimitFigures {
                rate: Some(Rate::new(10, seconds(1), None)),
                streams: Some(2),
                daily: None,
            },
            ..Self::unlimited("permanent")
        }
    }

    fn unlimited(name: &str) -> Self {
        Self {
            name: name.into(),
            callers: Callers::ALL,
            roles: Vec::new(),
            require: Vec::new(),
            figures: LimitFigures::default(),
            streams_exceeded: StreamsExceeded::Refuse,
            redis_away: RedisAway::Open,
        }
    }

    /// Whether it leaves nobody for `other` behind it.
    fn takes_all_of(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.callers, other.callers);
        self.roles.is_empty()
            && self.require.is_empty()
            && (mine.guests || !theirs.guests)
            && (mine.anonymous || !theirs.anonymous)
            && (mine.users || !theirs.users)
    }
}

impl Callers {
    const ALL: Self = Self {
        guests: true,
        anonymous: true,
        users: true,
    };
}

#[cfg(test)]
mod tests;
