//! The work itself: jobs that take a number of steps and end in a picture. A job that is dropped in the
//! middle counts as cancelled, so that one can see whether a client that left really stopped its work.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::picture;

/// Every job and every picture, while there is room for them.
#[derive(Default)]
pub struct Studio {
    jobs: RefCell<Shelf<Rc<Job>>>,
    files: RefCell<Shelf<Bytes>>,
    started: Cell<u64>,
    finished: Cell<u64>,
    cancelled: Cell<u64>,
}

/// What a client asks for.
#[derive(Clone, Debug, Deserialize)]
pub struct Order {
    /// What the picture is drawn from; not empty.
    pub prompt: String,
    /// How many steps the work takes.
    #[serde(default = "default_steps")]
    pub steps: u32,
    /// How long a step takes, in milliseconds.
    #[serde(default = "default_delay")]
    pub delay_ms: u64,
}

/// One piece of work that was ordered.
pub struct Job {
    /// Its name in every call.
    pub id: Box<str>,
    /// What was ordered.
    pub order: Order,
    progress: watch::Sender<Progress>,
}

/// How far a job is.
#[derive(Clone, Debug, Serialize)]
pub struct Progress {
    /// Whether it goes on.
    pub status: Status,
    /// Steps done.
    pub step: u32,
    /// Steps in all.
    pub of: u32,
    /// `step` of `of`, in whole percent.
    pub percent: u32,
    /// The picture's file name, once there is one.
    pub filename: Option<Box<str>>,
}

/// What has become of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being worked on.
    Running,
    /// Its picture is there.
    Finished,
    /// Its client left.
    Cancelled,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Jobs that are being worked on.
    pub running: u64,
    /// Jobs that ended with a picture.
    pub finished: u64,
    /// Jobs that ended because nobody waited for them any more.
    pub cancelled: u64,
}

impl Order {
    /// Reads an order; the error is a sentence for the client.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let order: Self = serde_json::from_slice(body)
            .map_err(|error| format!("the body is not an order: {error}"))?;
        if order.prompt.trim().is_empty() {
            return Err("the prompt is empty".to_owned());
        }
        if order.prompt.len() > MAX_PROMPT {
            return Err(format!("the prompt is longer than {MAX_PROMPT} bytes"));
        }
        if !(1..=MAX_STEPS).contains(&order.steps) || order.delay_ms > MAX_DELAY_MS {
            return Err(format!(
                "steps must be 1 to {MAX_STEPS}, delay_ms at most {MAX_DELAY_MS}"
            ));
        }
        Ok(order)
    }
}

impl Studio {
    /// Takes an order; nothing happens until the work is run.
    pub fn open(self: &Rc<Self>, order: Order) -> Work {
        let progress = Progress {
            status: Status::Running,
            step: 0,
            of: order.steps,
            percent: 0,
            filename: None,
        };
        let job = Rc::new(Job {
            id: new_id().into(),
            order,
            progress: watch::Sender::new(progress),
        });
        self.jobs.borrow_mut().put(&job.id, Rc::clone(&job));
        self.started.set(self.started.get() + 1);
        Work {
            studio: Rc::clone(self),
            job,
        }
    }

    /// The job with this id, while it is remembered.
    pub fn job(&self, id: &str) -> Option<Rc<Job>> {
        self.jobs.borrow().find(id).cloned()
    }

    /// The picture with this file name, while it is kept.
    pub fn file(&self, name: &str) -> Option<Bytes> {
        self.files.borrow().find(name).cloned()
    }

    /// Counts since the start.
    pub fn stats(&self) -> Stats {
        let (finished, cancelled) = (self.finished.get(), self.cancelled.get());
        Stats {
            running: self.started.get() - finished - cancelled,
            finished,
            cancelled,
        }
    }
}

impl Job {
    /// How far it is now.
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Hears of each change. Changes that come faster than they are read are seen as one.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }
}

/// A job in somebody's hands: dropped before it is finished, it counts as cancelled.
pub struct Work {
    studio: Rc<Studio>,
    job: Rc<Job>,
}

impl Work {
    /// What is being worked on.
    pub fn job(&self) -> &Rc<Job> {
        &self.job
    }

    /// Works one step; `None` when there is none left.
    pub async fn step(&self) -> Option<Progress> {
        let progress = self.job.progress();
        if progress.step == progress.of {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(self.job.order.delay_ms)).await;
        self.job.progress.send_modify(|progress| {
            progress.step += 1;
            progress.percent = progress.step * 100 / progress.of;
        });
        Some(self.job.progress())
    }

    /// Draws the picture and keeps it; gives its file name and its bytes.
    pub fn finish(self) -> Result<(Box<str>, Bytes), png::EncodingError> {
        let image = Bytes::from(picture::draw(&self.job.order.prompt)?);
        let filename: Box<str> = format!("{}.png", self.job.id).into();
        self.studio.files.borrow_mut().put(&filename, image.clone());
        self.studio.finished.set(self.studio.finished.get() + 1);
        self.job.progress.send_modify(|progress| {
            progress.status = Status::Finished;
            progress.filename = Some(filename.clone());
        });
        Ok((filename, image))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.job.progress.borrow().status == Status::Running {
            self.studio.cancelled.set(self.studio.cancelled.get() + 1);
            self.job
                .progress
                .send_modify(|progress| progress.status = Status::Cancelled);
        }
    }
}

/// Named things, the oldest of which makes room for a new one.
struct Shelf<T> {
    things: HashMap<Box<str>, T>,
    order: VecDeque<Box<str>>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self {
            things: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<T> Shelf<T> {
    fn put(&mut self, name: &str, thing: T) {
        if self.order.len() == MAX_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.things.remove(&oldest);
        }
        self.order.push_back(name.into());
        self.things.insert(name.into(), thing);
    }

    fn find(&self, name: &str) -> Option<&T> {
        self.things.get(name)
    }
}

/// Sixteen hex digits that nobody guesses. A machine without randomness gives zeroes: then jobs share a
/// name, which a demo survives.
fn new_id() -> String {
    let mut bytes = [0_u8; 8];
    let _ = getrandom::fill(&mut bytes);
    format!("{:016x}", u64::from_be_bytes(bytes))
}

fn default_steps() -> u32 {
    20
}

fn default_delay() -> u64 {
    120
}

const MAX_PROMPT: usize = 1_000;
const MAX_STEPS: u32 = 1_000;
const MAX_DELAY_MS: u64 = 60_000;
const MAX_KEPT: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn order(steps: u32) -> Order {
        Order {
            prompt: "hills".to_owned(),
            steps,
            delay_ms: 0,
        }
    }

    #[test]
    fn orders_out_of_range_are_refused_with_a_sentence() {
        for body in [
            "",
            "[]",
            r#"{"steps":3}"#,
            r#"{"prompt":"  "}"#,
            r#"{"prompt":"a","steps":0}"#,
            r#"{"prompt":"a","delay_ms":60001}"#,
        ] {
            assert!(Order::parse(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(Order::parse(br#"{"prompt":"a"}"#).unwrap().steps, 20);
    }

    #[tokio::test]
    async fn finished_and_dropped_work_is_counted_apart() {
        let studio = Rc::new(Studio::default());
        let dropped = studio.open(order(2));
        let finished = studio.open(order(2));
        assert_eq!(studio.stats().running, 2);
        drop(dropped);
        while finished.step().await.is_some() {}
        let (name, image) = finished.finish().unwrap();
        assert_eq!(studio.file(&name), Some(image));
        assert_eq!(
            studio.stats(),
            Stats {
                running: 0,
                finished: 1,
                cancelled: 1
            }
        );
    }

    #[test]
    fn the_oldest_job_makes_room() {
        let studio = Rc::new(Studio::default());
        let first = studio.open(order(1)).job().id.clone();
        for _ in 0..MAX_KEPT {
            studio.open(order(1));
        }
        assert!(studio.job(&first).is_none());
    }
}
