//! Asks the store about jobs, within a time: whose one is, and what is new of one. What the store did not take in time is
//! told to it again for a while.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::config;
use crate::observe::access::Sink;
use crate::observe::event::Event;
use crate::observe::metrics::{Metrics, Registration};
use crate::records::{Job, JobKind, Owner, UnixMillis};
use crate::store::{Claim, JobNews, JobsPruned, Kept, Store, StoreError};

/// The one of the process, shared by all workers.
pub struct Keeper {
    store: Arc<dyn Store>,
    clock: Clock,
    sink: Sink,
    tally: Tally,
    /// Claims that the store has not heard of, or not yet said so.
    waiting: Mutex<VecDeque<Arc<JobNews>>>,
}

/// Why the store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// It failed.
    #[error(transparent)]
    Failed(#[from] StoreError),
    /// Not in time.
    #[error("the store did not answer in time")]
    Late,
}

/// What a capture came to, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words say it")]
pub enum Outcome {
    Kept,
    Conflict,
    Nobodys,
    NoId,
    BadId,
    NotJson,
    Unreadable,
    TooLarge,
    Cut,
    NotKept,
}

impl Keeper {
    /// Keeps jobs in this store, and shows how captures went.
    pub fn new(store: Arc<dyn Store>, clock: Clock, sink: Sink, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            sink,
            tally: Tally::new(metrics),
            waiting: Mutex::default(),
        })
    }

    /// Now.
    pub fn now(&self) -> UnixMillis {
        UnixMillis::try_from(self.clock.since_epoch().as_millis()).unwrap_or(UnixMillis::MAX)
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Keeps what is new of a job.
    ///
    /// # Errors
    /// When the store does not take it in time. A claim is then told to it again.
    pub async fn put(&self, news: JobNews, timeout: Duration) -> Result<Kept, Unanswered> {
        let kept = self.tell_store(news.clone(), timeout).await;
        if kept.is_err() && news.claim == Claim::Yes {
            let mut waiting = self.waiting();
            if waiting.len() == MOST_WAITING {
                waiting.pop_front();
            }
            waiting.push_back(Arc::new(news));
        }
        kept
    }

    async fn tell_store(&self, news: JobNews, timeout: Duration) -> Result<Kept, Unanswered> {
        match tokio::time::timeout(timeout, self.store.put_job(news)).await {
            Ok(kept) => Ok(kept?),
            Err(_) => Err(Unanswered::Late),
        }
    }

    /// What has this id.
    ///
    /// # Errors
    /// When the store does not answer in time.
    pub async fn find(
        &self,
        (kind, space, id): (JobKind, &str, &str),
        timeout: Duration,
    ) -> Result<Option<Job>, Unanswered> {
        match tokio::time::timeout(timeout, self.store.job(kind, space, id)).await {
            Ok(found) => Ok(found?),
            Err(_) => Err(Unanswered::Late),
        }
    }

    /// Whether it was deleted.
    ///
    /// # Errors
    /// When the store does not answer in time.
    pub async fn is_gone(
        &self,
        (kind, space, id): (JobKind, &str, &str),
        timeout: Duration,
    ) -> Result<bool, Unanswered> {
        match tokio::time::timeout(timeout, self.store.job_is_gone(kind, space, id)).await {
            Ok(gone) => Ok(gone?),
            Err(_) => Err(Unanswered::Late),
        }
    }

    /// Whether the store has still to hear that this is theirs.
    pub fn is_waiting(&self, (kind, space, id): (JobKind, &str, &str), owner: &Owner) -> bool {
        self.waiting().iter().any(|news| {
            let job = &news.job;
            let named = match kind {
                JobKind::File => news.files.iter().any(|file| **file == *id),
                kind => job.kind == kind && *job.job_id == *id,
            };
            named && *job.space == *space && job.owner.is_user(owner)
        })
    }

    /// Tells the store what it did not take; what it does not take now either waits on, behind the others. It waits until
    /// the store has said that it is kept: its owner is told so for as long.
    pub async fn tell_again(&self) {
        loop {
            let Some(news) = self.waiting().front().map(Arc::clone) else {
                return;
            };
            let late = self.now().saturating_sub(news.job.created_at) > LONGEST_WAIT;
            let told = match late {
                true => Ok(()),
                false => self.tell_store((*news).clone(), PATIENCE).await.map(drop),
            };
            let mut waiting = self.waiting();
            // It may have been given up meanwhile, for newer ones.
            let is_first = |first: &Arc<_>| Arc::ptr_eq(first, &news);
            let known = waiting.front().is_some_and(is_first);
            if known {
                waiting.pop_front();
            }
            if let Err(error) = told {
                if known {
                    waiting.push_back(news);
                }
                tracing::debug!(%error, "jobs still wait for the store");
                return;
            }
        }
    }

    /// Removes what is too old or too much.
    ///
    /// # Errors
    /// When the store does not do it.
    pub async fn look_after(&self, jobs: &config::Jobs) -> Result<u64, StoreError> {
        let ago = |time: Duration| {
            let time = UnixMillis::try_from(time.as_millis()).unwrap_or(UnixMillis::MAX);
            self.now().saturating_sub(time)
        };
        self.store
            .prune_jobs(JobsPruned {
                before: jobs.max_age.map(ago),
                most: jobs.max_per_user,
                forget: ago(GONE_KEPT),
            })
            .await
    }

    /// Counts what a capture came to.
    pub fn count(&self, outcome: Outcome) {
        self.tally.counts[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Writes an audit line.
    pub fn tell(&self, event: &Event<'_>) {
        self.sink.event(event);
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Arc<JobNews>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outcome {
    /// The stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Conflict => "conflict",
            Self::Nobodys => "nobodys",
            Self::NoId => "no_id",
            Self::BadId => "bad_id",
            Self::NotJson => "not_json",
            Self::Unreadable => "unreadable",
            Self::TooLarge => "too_large",
            Self::Cut => "cut",
            Self::NotKept => "not_kept",
        }
    }

    /// Every one, in the order of the enum.
    const ALL: [Self; 10] = [
        Self::Kept,
        Self::Conflict,
        Self::Nobodys,
        Self::NoId,
        Self::BadId,
        Self::NotJson,
        Self::Unreadable,
        Self::TooLarge,
        Self::Cut,
        Self::NotKept,
    ];
}

/// Counts captures by what they came to.
struct Tally {
    counts: [Arc<AtomicU64>; Outcome::ALL.len()],
    _shown: Vec<Registration>,
}

impl Tally {
    fn new(metrics: &Metrics) -> Self {
        let counts: [Arc<AtomicU64>; Outcome::ALL.len()] = Default::default();
        let shown = Outcome::ALL
            .into_iter()
            .zip(&counts)
            .map(|(outcome, count)| {
                let read = Arc::clone(count);
                metrics.counter(
                    "portcullis_captures",
                    "Answers that were looked at for jobs, by what came of it",
                    &[("result", outcome.word())],
                    move || read.load(Ordering::Relaxed) as f64,
                )
            });
        Self {
            _shown: shown.collect(),
            counts,
        }
    }
}

/// Claims that wait for the store at most; beyond, the oldest are given up.
const MOST_WAITING: usize = 1000;
/// Milliseconds after which a claim is given up.
const LONGEST_WAIT: UnixMillis = 3_600_000;
/// How long the store may take when it is told again.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it is known that a deleted job was one.
const GONE_KEPT: Duration = Duration::from_secs(365 * 86_400);
