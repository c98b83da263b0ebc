//! What this gateway shares with others, as a process holds it: Redis, made at the start whether it is there or not,
//! and looked after on the control thread; and the news that go over it.

mod bans;
mod wire;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use self::bans::Exchange;
use self::wire::Told;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::limits::shared::Shared;
use crate::limits::shared::leases::Leases;
use crate::observe::metrics::{Metrics, Registration};
use crate::resources::Resources;
use crate::server::Station;
use crate::state::bans::Bans;
use crate::state::redis::bus::{Bus, Heard};
use crate::state::redis::{OpenError, Redis};
use crate::state::{Ended, News, Notice, Origin, Revocations};
use crate::streams::Streams;

/// Makes the handle of a configuration that has Redis, into `resources`. Waits for nothing: a gateway whose Redis is
/// away starts, and says so. From now on others are told what ends here, and what is remembered counts for as long as
/// they can be heard.
///
/// # Errors
/// When it could never be reached.
pub fn open(config: &Config, resources: &mut Resources) -> Result<(), OpenError> {
    let Some(settings) = &config.redis else {
        return Ok(());
    };
    // The control thread asks too.
    let redis = Redis::new(settings, config.server.workers + 1)?;
    let bus = Bus::new(&redis, settings.history);
    let teller = Arc::clone(&bus);
    let revocations = &resources.revocations;
    revocations.trust().depend();
    revocations.subscribe(move |notice| tell(&teller, notice));
    let teller = Arc::clone(&bus);
    let streams = &resources.streams;
    streams.subscribe(move |news| teller.tell(wire::write_streams(news)));
    let shared = Shared::new(&redis);
    let teller = Arc::clone(&bus);
    shared
        .leases
        .subscribe(move |lease| teller.tell(wire::write_lease(lease)));
    resources.counts.shared = Some(shared);
    let teller = Arc::clone(&bus);
    let bans = &resources.bans;
    bans.subscribe(move |banned, at, origin| {
        if origin == Origin::Here {
            teller.tell(wire::write_ban(banned, at));
        }
    });
    resources.redis = Some(redis);
    resources.bus = Some(bus);
    Ok(())
}

/// Looks after Redis and hears the others until the process ends; the figures, to be held as long.
pub fn keep(station: &Station) -> Vec<Registration> {
    let resources = &station.resources;
    let (Some(redis), Some(bus)) = (&resources.redis, &resources.bus) else {
        return Vec::new();
    };
    let board = resources.board.part("redis");
    tokio::task::spawn_local(Arc::clone(redis).watch(board));
    let leases = resources.counts.shared.as_ref();
    let leases = leases.map(|shared| Arc::clone(&shared.leases));
    if let Some(leases) = &leases {
        tokio::task::spawn_local(Arc::clone(leases).keep(Arc::clone(redis)));
    }
    let settings = station.gate.load().config().redis.clone();
    let some = Arc::new(Notify::new());
    let nudge = Arc::clone(&some);
    resources.bans.subscribe(move |_, _, origin| {
        if origin == Origin::Here {
            nudge.notify_one();
        }
    });
    let exchange = Exchange {
        redis: Arc::clone(redis),
        bans: Arc::clone(&resources.bans),
        clock: resources.clock.clone(),
        some: Arc::clone(&some),
        bus: Arc::clone(bus),
    };
    tokio::task::spawn_local(exchange.run());
    let ear = Ear {
        bans: Arc::clone(&resources.bans),
        clock: resources.clock.clone(),
        some,
        is_new: Cell::new(true),
        revocations: Arc::clone(&resources.revocations),
        streams: Arc::clone(&resources.streams),
        leases,
        trusted: bus.silence() + settings.map_or(Duration::ZERO, |it| it.max_stale),
    };
    let mut figures = redis.figures(&resources.metrics);
    figures.push(staleness(bus, &resources.metrics));
    tokio::task::spawn_local(Arc::clone(bus).run(move |heard| ear.hear(heard)));
    figures
}

/// Tells the others what waits, when no request comes any more.
pub async fn close(resources: &Resources) {
    if let Some(bus) = &resources.bus
        && let Err(error) = bus.flush().await
    {
        tracing::warn!(%error, "other gateways were not told all that ended here");
    }
}

/// Tells running gateways what a command ended, if Redis is there.
pub async fn announce(settings: &config::Redis, ended: Ended) {
    if let Ok(redis) = Redis::new(settings, 1) {
        let bus = Bus::new(&redis, settings.history);
        bus.tell(wire::write(News::Ended(ended)));
        if let Err(error) = bus.flush().await {
            tracing::debug!(%error, "running gateways were not told through Redis");
        }
    }
}

/// What happened elsewhere is told by whom it happened to.
fn tell(bus: &Bus, notice: &Notice) {
    if notice.origin == Origin::Here {
        bus.tell(wire::write(notice.news));
    }
}

/// What is to be done with what others tell.
struct Ear {
    bans: Arc<Bans>,
    clock: Clock,
    /// Bans may be missing.
    some: Arc<Notify>,
    /// Nothing was heard yet.
    is_new: Cell<bool>,
    revocations: Arc<Revocations>,
    streams: Arc<Streams>,
    leases: Option<Arc<Leases>>,
    /// How long what is remembered counts after all was heard.
    trusted: Duration,
}

impl Ear {
    fn hear(&self, heard: Heard<'_>) {
        match heard {
            Heard::UpTo(moment) => {
                self.revocations.trust().extend(moment, self.trusted);
                if self.is_new.replace(false) {
                    // Those that became known between the first look and now.
                    self.some.notify_one();
                }
            }
            Heard::Gap => self.forget(),
            Heard::News(text) => match wire::read(text) {
                Some(Told::Verified(news)) => self.revocations.hear(news),
                Some(Told::Streams(news)) => {
                    self.streams.hear(&news);
                }
                Some(Told::LeaseTaken(lease)) => {
                    if let Some(leases) = &self.leases {
                        leases.end(&lease);
                    }
                }
                Some(Told::Banned(banned, at)) => {
                    self.bans.hear(&banned, at, self.clock.now());
                }
                Some(Told::Bans) => self.some.notify_one(),
                None => self.forget(),
            },
        }
    }

    /// Something may have ended unheard: the store is asked anew, of what is remembered and of live streams.
    fn forget(&self) {
        tracing::warn!(
            "news of other gateways may be missing: what is remembered is looked up anew"
        );
        self.revocations.forget();
        self.streams.doubt_all();
        self.some.notify_one();
    }
}

fn staleness(bus: &Arc<Bus>, metrics: &Metrics) -> Registration {
    let bus = Arc::downgrade(bus);
    metrics.gauge(
        "portcullis_news_age_seconds",
        "Time since all news of other gateways were heard.",
        &[],
        move || {
            let heard = bus.upgrade().and_then(|bus| bus.heard());
            heard.map_or(f64::NAN, |heard| heard.elapsed().as_secs_f64())
        },
    )
}
