//! Reload, all or nothing: the new configuration is read, checked and built beside the running one, then the
//! pointer is swapped. Requests under way keep the gate that they began with; live streams are judged again
//! by the new one, and only those that it no longer allows end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::gate::Gate;
use crate::server::{StartError, Station, accounts, tls};
use crate::streams::Judge;

/// Reads the configuration again and swaps the gate.
///
/// # Errors
/// The new configuration's problems; the running one stays.
pub fn reload(station: &Station) -> Result<(), StartError> {
    let config = station.source.read()?;
    let tls = config.server.tls.as_ref().map(tls::load).transpose()?;
    let running = station.gate.load();
    for change in running.needs_restart(&config) {
        tracing::warn!(key = change, "this change waits for a restart");
    }
    let gate = Arc::new(Gate::build(config, &station.resources)?);
    crate::rehearsal::run_tests(&gate)?;
    station.tls.store(tls);
    station.gate.store(Arc::clone(&gate));
    let judge: Arc<dyn Judge> = gate;
    station.resources.streams.review(&judge);
    accounts::configure(station);
    station.reloaded.notify_one();
    tracing::info!("configuration reloaded");
    Ok(())
}

/// Reloads and logs what came of it.
pub fn reload_and_tell(station: &Station) {
    if let Err(error) = reload(station) {
        tracing::error!(%error, "the configuration was not reloaded; the running one stays");
    }
}

/// Watches the folders of every file that the configuration names (a file is often replaced by a rename, or
/// by a link that moves, which a watch on the file itself would miss) and reloads when one changes.
pub async fn watch(station: Arc<Station>) {
    let (changed, mut changes) = mpsc::channel(1);
    let tell = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // One pending change is as good as many.
            let _ = changed.try_send(());
        }
    };
    let mut watcher = match notify::recommended_watcher(tell) {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "files are not watched; SIGHUP reloads");
            return;
        }
    };
    let mut watched: Vec<PathBuf> = Vec::new();
    let mut seen = fingerprints(&station);
    loop {
        for file in &station.gate.load().config().files {
            let folder = file.parent().map_or_else(PathBuf::new, PathBuf::from);
            if !watched.contains(&folder)
                && watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok()
            {
                watched.push(folder);
            }
        }
        if changes.recv().await.is_none() {
            return;
        }
        // An editor writes in several steps: wait until it is quiet.
        while tokio::time::timeout(Duration::from_millis(150), changes.recv())
            .await
            .is_ok()
        {}
        let now = fingerprints(&station);
        if now != seen {
            seen = now;
            reload_and_tell(&station);
        }
    }
}

/// What tells one version of the watched files from another, links followed.
fn fingerprints(station: &Station) -> Vec<Option<(std::time::SystemTime, u64)>> {
    let gate = station.gate.load();
    let files = &gate.config().files;
    files
        .iter()
        .map(|file| {
            let meta = std::fs::metadata(file).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        })
        .collect()
}
