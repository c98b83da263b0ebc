//! The gateway's own accounts as a process holds them: opened at the start, before anything listens, and looked after
//! on the control thread: keys read again, uses of sessions written, old rows removed, readiness told.

use std::sync::Arc;
use std::time::Duration;

use crate::accounts::notes::Others;
use crate::accounts::{self, Accounts, Parts, keys};
use crate::config::{Config, StorePlace};
use crate::gate;
use crate::identity::bans::KeptBans;
use crate::identity::keyring::Keyring;
use crate::identity::sessions::OwnSessions;
use crate::identity::vault::Vault;
use crate::jobs::keeper::Keeper;
use crate::observe::readiness::Reporter;
use crate::records::UnixMillis;
use crate::resources::Resources;
use crate::server::ends::Follower;
use crate::server::{StartError, Station};
use crate::store::{self, Store};

/// Opens the accounts of a configuration, if it has any, into `resources`: the store, brought to the form of this
/// version; the keys, of which the first is made where there is none; and the core over both.
///
/// # Errors
/// When one of them cannot be opened. A gateway whose users cannot come in does not start.
pub async fn open(config: &Config, resources: &mut Resources) -> Result<(), StartError> {
    let Some(store) = open_store(config, resources).await? else {
        return Ok(());
    };
    let Some(accounts) = config.accounts.clone() else {
        return Ok(());
    };
    let vault = Arc::new(Vault::of(&accounts.secret)?);
    let clock = resources.clock.clone();
    let now = UnixMillis::try_from(clock.since_epoch().as_millis()).unwrap_or(UnixMillis::MAX);
    let prepared = keys::prepare(&*store, &vault, &accounts, now).await;
    prepared.map_err(accounts::OpenError::from)?;
    let keyring = Keyring::open(Arc::clone(&store), Arc::clone(&vault), clock.clone()).await?;
    let revocations = Arc::clone(&resources.revocations);
    let follower = Follower::begin(Arc::clone(&store), Arc::clone(&revocations)).await;
    tokio::task::spawn_local(follower.map_err(accounts::OpenError::from)?.run());
    // Another gateway may run over a server; one over a file is alone.
    let others = match config.store.as_ref().map(|store| &store.place) {
        Some(StorePlace::Postgres(_)) => Others::Gateways,
        _ => Others::None,
    };
    let parts = Parts {
        store: Arc::clone(&store),
        others,
        keyring: Arc::clone(&keyring),
        revocations: Arc::clone(&revocations),
        sightings: Arc::clone(&resources.sightings),
        vault,
        clock: clock.clone(),
        metrics: resources.metrics.clone(),
        sink: resources.sink.with(gate::switches(&config.log)),
    };
    resources.accounts = Some(Accounts::open(&accounts, parts).await?);
    resources.own = Some(OwnSessions::new(keyring, store, revocations, clock));
    Ok(())
}

/// Opens the store, where there is one, and what is kept in it whether there are accounts or not: jobs and bans.
async fn open_store(
    config: &Config,
    resources: &mut Resources,
) -> Result<Option<Arc<dyn Store>>, StartError> {
    let Some(place) = config.store.clone() else {
        return Ok(None);
    };
    // A PostgreSQL store waits for its server.
    let opened = tokio::task::spawn_blocking(move || store::open(&place)).await;
    let store = opened.map_err(std::io::Error::from)??;
    // Also where no route asks yet: a reload may bring one.
    let sink = resources.sink.with(gate::switches(&config.log));
    resources.jobs = Some(Keeper::new(
        Arc::clone(&store),
        resources.clock.clone(),
        sink,
        &resources.metrics,
    ));
    let (bans, clock) = (&resources.bans, resources.clock.clone());
    let kept = KeptBans::open(bans, Arc::clone(&store), clock).await;
    resources.kept_bans = Some(kept.map_err(store::OpenError::from)?);
    Ok(Some(store))
}

/// Gives the core the settings of a configuration that was reloaded.
pub fn configure(station: &Station) {
    let gate = station.gate.load_full();
    let accounts = station.resources.accounts.clone();
    if let (Some(accounts), Some(config)) = (accounts, gate.config().accounts.clone()) {
        tokio::task::spawn_local(async move {
            if let Err(error) = accounts.configure(&config, gate.sink()).await {
                tracing::error!(%error, "the settings of [accounts] were not taken over");
            }
        });
    }
}

/// Looks after the store and the jobs in it until the process ends.
pub async fn keep_jobs(station: Arc<Station>) {
    let Some(keeper) = station.resources.jobs.clone() else {
        return;
    };
    let board = station.resources.board.part("store");
    board.ready();
    for round in 1_u64.. {
        tokio::time::sleep(TICK).await;
        tell(&board, &**keeper.store()).await;
        keeper.tell_again().await;
        if is_due(round) {
            let jobs = station.gate.load().config().jobs;
            if let Err(error) = keeper.look_after(&jobs).await {
                tracing::warn!(%error, "old jobs were not removed");
            }
        }
    }
}

/// Hears what an operator has refused at other gateways over the same store, until the process ends.
pub async fn keep_bans(station: Arc<Station>) {
    let Some(kept) = station.resources.kept_bans.clone() else {
        return;
    };
    loop {
        tokio::time::sleep(LOOK).await;
        kept.keep_again().await;
        if let Err(error) = kept.catch_up().await {
            tracing::debug!(%error, "what was refused at other gateways could not be read");
        }
    }
}

/// Looks after the accounts until the process ends.
pub async fn keep(station: Arc<Station>) {
    let Some(own) = station.resources.own.clone() else {
        return;
    };
    for round in 1_u64.. {
        tokio::time::sleep(TICK).await;
        if let Some(accounts) = &station.resources.accounts {
            accounts.note_again().await;
        }
        if round.is_multiple_of(KEYS)
            && let Err(error) = own.keyring().refresh().await
        {
            tracing::debug!(%error, "the keys were not read again");
        }
        if round.is_multiple_of(USES)
            && let Err(error) = own.flush_uses().await
        {
            tracing::debug!(%error, "uses of sessions were not written");
        }
        if round.is_multiple_of(REGISTER) {
            let remembered = station.gate.load().config().tokens.cache_time;
            own.revocations().prune(remembered * 2);
        }
        if is_due(round)
            && let Some(accounts) = &station.resources.accounts
            && let Err(error) = accounts.look_after().await
        {
            tracing::warn!(%error, "old rows were not removed");
        }
    }
}

/// Whether rows are looked after in this round: also soon after the start, for who is started anew again and again.
fn is_due(round: u64) -> bool {
    round % ROWS == 1
}

/// Writes what waits, when no request comes any more.
pub async fn close(resources: &Resources) {
    if let Some(own) = &resources.own
        && let Err(error) = own.flush_uses().await
    {
        tracing::warn!(%error, "uses of sessions were not written");
    }
}

/// Whether the store answers, in time.
async fn tell(board: &Reporter, store: &dyn Store) {
    match tokio::time::timeout(PATIENCE, store.ping()).await {
        Ok(Ok(())) => board.ready(),
        // The log has the cause: it may hold a host's name.
        Ok(Err(_)) => board.not_ready("the store is unavailable"),
        Err(_) => board.not_ready("the store does not answer"),
    }
}

impl From<accounts::OpenError> for StartError {
    fn from(error: accounts::OpenError) -> Self {
        Self::Accounts(Box::new(error))
    }
}

/// How long a ban at another gateway may take to be known here, as an end (`server/ends.rs`).
const LOOK: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_secs(1);
/// How long the store may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(2);
/// In ticks, each.
const KEYS: u64 = 5;
const USES: u64 = 10;
const REGISTER: u64 = 60;
const ROWS: u64 = 600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::AccountError;

    #[test]
    fn why_the_accounts_cannot_be_opened_is_said_once_and_with_its_mend() {
        let error = StartError::from(accounts::OpenError::from(AccountError::Failed));
        let told = format!("{:#}", anyhow::Error::from(error));
        assert_eq!(told.matches("failed").count(), 1, "{told}");
        assert!(told.contains("the log has the cause"), "{told}");
        assert!(told.contains("mount them"), "{told}");
    }
}
