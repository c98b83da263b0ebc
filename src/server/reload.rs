//! Reload, all or nothing: the new configuration is read, checked and built beside the running one, then the
//! pointer is swapped. Requests under way keep the gate that they began with; live streams are judged again
//! by the new one, and only those that it no longer allows end.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::gate::Gate;
use crate::server::{StartError, Station, accounts, tls};
use crate::streams::Judge;

/// Reads the configuration again and swaps the gate.
///
/// # Errors
/// The new configuration's problems; the running one stays.
pub fn reload(station: &Station) -> Result<(), StartError> {
    // Looked at before they are read: what changes meanwhile is a change yet to come.
    let before = Prints::of(&station.gate.load().config().files);
    match take_over(station, &before) {
        Ok(read) => {
            station.seen.set(read);
            tracing::info!("configuration reloaded");
            Ok(())
        }
        Err(error) => {
            station.seen.set(before);
            Err(error)
        }
    }
}

/// The same, and the files that were read for it.
fn take_over(station: &Station, before: &Prints) -> Result<Prints, StartError> {
    let config = station.source.read()?;
    let read = before.and(&config.files);
    let tls = config.server.tls.as_ref().map(tls::load).transpose()?;
    let running = station.gate.load();
    for change in running.needs_restart(&config) {
        tracing::warn!(key = change, "this change waits for a restart");
    }
    tell_warnings(&config);
    let gate = Arc::new(Gate::build(config, &station.resources)?);
    crate::rehearsal::run_tests(&gate)?;
    station.tls.store(tls);
    station.gate.store(Arc::clone(&gate));
    let judge: Arc<dyn Judge> = gate;
    station.resources.streams.review(&judge);
    accounts::configure(station);
    station.reloaded.notify_one();
    Ok(read)
}

/// Logs what is probably not meant.
pub fn tell_warnings(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!(line = warning.line, mend = warning.mend, "{}", warning.what);
    }
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
        let mut watch = Self {
            station,
            watcher,
            watched: Vec::new(),
            changes,
        };
        watch.cover();
        Some(watch)
    }

    /// Reloads when one of them changes, for ever.
    pub async fn run(mut self) {
        while self.changes.recv().await.is_some() {
            self.rest().await;
            // A signal may have had them read already.
            match self.station.seen.is(&self.prints()) {
                true => tracing::debug!("the watched files are as they were read"),
                false => reload_and_tell(&self.station),
            }
            self.cover();
        }
    }

    /// Waits until the files rest: an editor writes in several steps. What else is written in their folders (a
    /// log, a database) does not hold this up.
    async fn rest(&self) {
        let mut last = self.prints();
        loop {
            tokio::time::sleep(REST).await;
            let now = self.prints();
            if now == last {
                return;
            }
            last = now;
        }
    }

    fn prints(&self) -> Prints {
        Prints::of(&self.station.gate.load().config().files)
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

/// What stood in the watched files when they were last read.
pub struct Seen(Mutex<Prints>);

impl Seen {
    /// As they are now.
    pub fn now(files: &[PathBuf]) -> Self {
        Self(Mutex::new(Prints::of(files)))
    }

    fn set(&self, prints: Prints) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = prints;
    }

    fn is(&self, prints: &Prints) -> bool {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) == *prints
    }
}

/// What tells one version of some files from another.
#[derive(Clone, PartialEq, Eq)]
struct Prints(Vec<(PathBuf, Fingerprint)>);

/// When a file was written and how long it is, links followed; `None` where it is gone.
type Fingerprint = Option<(SystemTime, u64)>;

impl Prints {
    fn of(files: &[PathBuf]) -> Self {
        let print = |file: &PathBuf| (file.clone(), fingerprint(file));
        Self(files.iter().map(print).collect())
    }

    /// The same of exactly `files`: those that were not looked at before are now.
    fn and(&self, files: &[PathBuf]) -> Self {
        let print = |file: &PathBuf| {
            let known = self.0.iter().find(|(known, _)| known == file);
            known
                .cloned()
                .unwrap_or_else(|| (file.clone(), fingerprint(file)))
        };
        Self(files.iter().map(print).collect())
    }
}

fn fingerprint(file: &Path) -> Fingerprint {
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}
