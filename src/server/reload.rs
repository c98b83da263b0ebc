//! Reload, all or nothing: the new configuration is read, checked and built beside the running one, then the
//! pointer is swapped. Requests under way keep the gate that they began with; live streams are judged again
//! by the new one, and only those that it no longer allows end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
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

/// How long files must be unchanged before they are read.
const REST: Duration = Duration::from_millis(150);

/// A watch on the folders of every file that the configuration names (a file is often replaced by a rename, or
/// by a link that moves, which a watch on the file itself would miss).
pub struct Watch {
    station: Arc<Station>,
    watcher: RecommendedWatcher,
    watched: Vec<PathBuf>,
    changes: mpsc::Receiver<()>,
    /// The files as they were read.
    seen: Vec<Fingerprint>,
}

impl Watch {
    /// From here on no change is missed; `None`: this machine cannot tell of any.
    pub fn begin(station: Arc<Station>) -> Option<Self> {
        let (changed, changes) = mpsc::channel(1);
        let tell = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                // One pending change is as good as many.
                let _ = changed.try_send(());
            }
        };
        let watcher = match notify::recommended_watcher(tell) {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::warn!(%error, "files are not watched; SIGHUP reloads");
                return None;
            }
        };
        let seen = fingerprints(&station);
        let mut watch = Self {
            station,
            watcher,
            watched: Vec::new(),
            changes,
            seen,
        };
        watch.cover();
        Some(watch)
    }

    /// Reloads when one of them changes, for ever.
    pub async fn run(mut self) {
        while self.changes.recv().await.is_some() {
            let now = self.rest().await;
            if now != self.seen {
                self.seen = now;
                reload_and_tell(&self.station);
            }
            self.cover();
        }
    }

    /// The files once they rest: an editor writes in several steps. What else is written in their folders (a
    /// log, a database) does not hold this up.
    async fn rest(&self) -> Vec<Fingerprint> {
        let mut last = fingerprints(&self.station);
        loop {
            tokio::time::sleep(REST).await;
            let now = fingerprints(&self.station);
            if now == last {
                return now;
            }
            last = now;
        }
    }

    /// Watches every folder that is named now.
    fn cover(&mut self) {
        for file in &self.station.gate.load().config().files {
            let folder = file.parent().map_or_else(PathBuf::new, PathBuf::from);
            if !self.watched.contains(&folder)
                && self
                    .watcher
                    .watch(&folder, RecursiveMode::NonRecursive)
                    .is_ok()
            {
                self.watched.push(folder);
            }
        }
    }
}

/// When a file was written and how long it is; `None` where it is gone.
type Fingerprint = Option<(std::time::SystemTime, u64)>;

/// What tells one version of the watched files from another, links followed.
fn fingerprints(station: &Station) -> Vec<Fingerprint> {
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
