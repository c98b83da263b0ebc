//! What this gateway shares with others, as a process holds it: Redis, made at the start whether it is there or not,
//! and looked after on the control thread.

use std::sync::Arc;

use crate::config::Config;
use crate::observe::metrics::Registration;
use crate::resources::Resources;
use crate::server::Station;
use crate::state::redis::{OpenError, Redis};

/// Makes the handle of a configuration that has Redis, into `resources`. Waits for nothing: a gateway whose Redis is
/// away starts, and says so.
///
/// # Errors
/// When it could never be reached.
pub fn open(config: &Config, resources: &mut Resources) -> Result<(), OpenError> {
    if let Some(redis) = &config.redis {
        // The control thread asks too.
        resources.redis = Some(Redis::new(redis, config.server.workers + 1)?);
    }
    Ok(())
}

/// Looks after Redis until the process ends; its figures, to be held as long.
pub fn keep(station: &Station) -> Vec<Registration> {
    let Some(redis) = &station.resources.redis else {
        return Vec::new();
    };
    let board = station.resources.board.part("redis");
    tokio::task::spawn_local(Arc::clone(redis).watch(board));
    redis.figures(&station.resources.metrics)
}
