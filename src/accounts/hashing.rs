//! Where passwords are hashed: a few threads of their own, of the least priority, behind a short queue. A flood of
//! log-ins slows log-ins; what the workers proxy keeps its cores.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use super::hashes::{self, HashFailed, Match, Memory};
use crate::config::Passwords;
use crate::observe::metrics::{Metrics, Registration};
use crate::secret::Secret;

/// Threads that hash. Dropping it ends them when the queue is empty.
pub struct Hashing(Arc<Shared>);

/// Why nothing was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashingError {
    /// As many wait as may.
    #[error("too many passwords wait for being hashed")]
    Busy,
    /// The library failed.
    #[error(transparent)]
    Failed(#[from] HashFailed),
}

/// A password held against a hash.
#[derive(Debug)]
pub struct Compared {
    /// Whether it is the one.
    pub matches: bool,
    /// Its hash as hashes are made now, where the old one is not.
    pub renewed: Option<Secret<String>>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

struct Queue {
    jobs: VecDeque<Job>,
    rules: Arc<Passwords>,
    threads: usize,
    over: bool,
}

struct Job {
    rules: Arc<Passwords>,
    password: Secret<String>,
    task: Task,
}

enum Task {
    Make(oneshot::Sender<Result<Secret<String>, HashFailed>>),
    Compare(Secret<String>, oneshot::Sender<Compared>),
}

impl Hashing {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn start(rules: &Passwords) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                jobs: VecDeque::new(),
                rules: Arc::new(rules.clone()),
                threads: 0,
                over: false,
            }),
            wake: Condvar::new(),
        });
        let hashing = Self(shared);
        hashing.grow(rules.threads)?;
        Ok(hashing)
    }

    /// Other rules from now on. Threads are added at once, and leave after their next hash.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn configure(&self, rules: &Passwords) -> io::Result<()> {
        self.0.lock().rules = Arc::new(rules.clone());
        self.0.wake.notify_all();
        self.grow(rules.threads)
    }

    /// The hash of a password.
    ///
    /// # Errors
    /// When too many wait, or the library fails.
    pub async fn make(&self, password: Secret<String>) -> Result<Secret<String>, HashingError> {
        let (answer, made) = oneshot::channel();
        self.put(password, Task::Make(answer))?;
        Ok(made.await.map_err(|_| HashFailed)??)
    }

    /// Whether a password is the one of a hash.
    ///
    /// # Errors
    /// When too many wait.
    pub async fn compare(
        &self,
        password: Secret<String>,
        hash: Secret<String>,
    ) -> Result<Compared, HashingError> {
        let (answer, compared) = oneshot::channel();
        self.put(password, Task::Compare(hash, answer))?;
        Ok(compared.await.map_err(|_| HashFailed)?)
    }

    /// Shows at each scrape how many wait.
    pub fn show(&self, metrics: &Metrics) -> Registration {
        let shared = Arc::downgrade(&self.0);
        let waiting = move || {
            let shared = shared.upgrade();
            shared.map_or(f64::NAN, |shared| shared.lock().jobs.len() as f64)
        };
        let help = "Passwords that wait for being hashed";
        metrics.gauge("portcullis_passwords_waiting", help, &[], waiting)
    }

    fn put(&self, password: Secret<String>, task: Task) -> Result<(), HashingError> {
        let mut queue = self.0.lock();
        if queue.jobs.len() >= queue.rules.queue {
            // Those who left make room.
            queue.jobs.retain(Job::is_awaited);
        }
        if queue.jobs.len() >= queue.rules.queue {
            return Err(HashingError::Busy);
        }
        let rules = Arc::clone(&queue.rules);
        queue.jobs.push_back(Job {
            rules,
            password,
            task,
        });
        drop(queue);
        self.0.wake.notify_one();
        Ok(())
    }

    fn grow(&self, wanted: usize) -> io::Result<()> {
        let mut queue = self.0.lock();
        while queue.threads < wanted {
            let shared = Arc::clone(&self.0);
            thread::Builder::new()
                .name("portcullis-hash".to_owned())
                .spawn(move || shared.work())?;
            queue.threads += 1;
        }
        Ok(())
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.wake.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        // Without it, hashing is only less polite.
        if let Err(error) = yield_to_all() {
            tracing::debug!(%error, "passwords are hashed with the priority of everything else");
        }
        let mut memory = Memory::default();
        while let Some(job) = self.next() {
            job.run(&mut memory);
        }
    }

    /// The next job that somebody waits for; `None` when this thread is not needed any more.
    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if queue.threads > queue.rules.threads {
                queue.threads -= 1;
                return None;
            }
            match queue.jobs.pop_front() {
                Some(job) if job.is_awaited() => return Some(job),
                Some(_) => {}
                None if queue.over => return None,
                None => {
                    let woken = self.wake.wait(queue);
                    queue = woken.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl Job {
    fn is_awaited(&self) -> bool {
        match &self.task {
            Task::Make(answer) => !answer.is_closed(),
            Task::Compare(_, answer) => !answer.is_closed(),
        }
    }

    fn run(self, memory: &mut Memory) {
        match self.task {
            Task::Make(answer) => {
                let made = hashes::make(&self.rules, &self.password, memory);
                drop(answer.send(made));
            }
            Task::Compare(hash, answer) => {
                let matched = hashes::compare(&self.rules, &self.password, &hash, memory);
                let renewed = match matched {
                    Match::Outdated => hashes::make(&self.rules, &self.password, memory).ok(),
                    Match::Yes | Match::No => None,
                };
                let matches = matched != Match::No;
                drop(answer.send(Compared { matches, renewed }));
            }
        }
    }
}

/// Puts this thread behind all others: into the class `SCHED_IDLE` (`sched(7)`), from which a worker that wakes takes
/// the core at once. Niceness 19 left proxied requests a p99 of 1.6 times under a flood of log-ins, this 1.1
/// (benches/README.md).
#[cfg(target_os = "linux")]
fn yield_to_all() -> Result<(), thread_priority::Error> {
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
        set_thread_priority_and_policy, thread_native_id,
    };
    set_thread_priority_and_policy(
        thread_native_id(),
        ThreadPriority::Min,
        ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle),
    )
}

/// Elsewhere threads have the priority of their process.
#[cfg(not(target_os = "linux"))]
fn yield_to_all() -> Result<(), io::Error> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::accounts::testing::rules;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    fn poll_once(future: impl Future) -> bool {
        pin!(future)
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    /// A pool whose threads never come, so that what is put stays in the queue.
    fn stuck(queue: usize) -> Hashing {
        Hashing::start(&Passwords {
            threads: 0,
            queue,
            ..rules()
        })
        .unwrap()
    }

    #[tokio::test]
    async fn it_makes_hashes_and_compares_with_them() {
        let hashing = Hashing::start(&rules()).unwrap();
        let hash = hashing.make(secret("correct horse")).await.unwrap();
        for (password, expected) in [("correct horse", true), ("wrong", false)] {
            let compared = hashing.compare(secret(password), hash.clone()).await;
            let compared = compared.unwrap();
            assert_eq!(compared.matches, expected);
            assert!(compared.renewed.is_none());
        }
    }

    #[tokio::test]
    async fn an_old_hash_is_made_anew_with_the_right_password_only() {
        let hashing = Hashing::start(&rules()).unwrap();
        let old = secret("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW");
        let wrong = hashing.compare(secret("other"), old.clone()).await.unwrap();
        assert!(wrong.renewed.is_none());
        let right = hashing.compare(secret("U*U"), old).await.unwrap();
        let renewed = right.renewed.unwrap();
        assert!(renewed.expose().starts_with("$argon2id$v=19$"));
        let again = hashing.compare(secret("U*U"), renewed).await.unwrap();
        assert!(again.matches && again.renewed.is_none());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_those_who_left_make_room() {
        let hashing = stuck(2);
        let mut first = Box::pin(hashing.make(secret("one")));
        assert!(!poll_once(&mut first));
        assert!(!poll_once(Box::pin(hashing.make(secret("left at once")))));
        assert_eq!(hashing.0.lock().jobs.len(), 2);
        let mut third = Box::pin(hashing.make(secret("three")));
        assert!(!poll_once(&mut third), "the one that left made room");
        let busy = hashing.make(secret("four")).await;
        assert_eq!(busy.err(), Some(HashingError::Busy));
        hashing.configure(&rules()).unwrap();
        assert!(first.await.is_ok() && third.await.is_ok());
    }

    #[tokio::test]
    async fn nothing_is_hashed_for_those_who_left() {
        let hashing = stuck(8);
        assert!(!poll_once(Box::pin(hashing.make(secret("left")))));
        let mut stays = Box::pin(hashing.make(secret("stays")));
        assert!(!poll_once(&mut stays));
        let shared = Arc::clone(&hashing.0);
        shared.lock().rules = Arc::new(rules());
        shared.lock().threads = 1;
        let job = shared.next().unwrap();
        assert_eq!(job.password.expose(), "stays");
        assert!(shared.lock().jobs.is_empty());
    }
}
