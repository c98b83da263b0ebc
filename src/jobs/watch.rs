//! The watch on the answer to one request: what is heard in it becomes its caller's, or is told of what its caller has.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::Value;

use super::capture::{self, Finding, Miss};
use super::coding::Unreadable;
use super::keeper::{Keeper, Outcome};
use super::owner;
use crate::config::{Capture, CaptureFrom, OnFailure};
use crate::identity::Identity;
use crate::observe::event::Event;
use crate::observe::sparing::Sparing;
use crate::records::{Job, JobKind};
use crate::store::{Claim, JobNews, Kept};

/// Which job a request was about, for its access line.
pub type Note = Rc<RefCell<Option<Box<str>>>>;

/// A watch on one answer.
#[derive(Clone)]
pub struct Watch {
    pub(super) captures: Arc<[Capture]>,
    /// The path's parameter that is the id, for each capture.
    pub(super) params: Vec<Option<Box<str>>>,
    pub(super) keeper: Option<Arc<Keeper>>,
    pub(super) identity: Arc<Identity>,
    pub(super) client: Option<IpAddr>,
    pub(super) route: Arc<str>,
    pub(super) timeout: Duration,
    pub(super) note: Note,
}

/// What was heard, to be kept.
pub struct Heard {
    finding: Finding,
    /// The capture's place among its route's.
    capture: usize,
}

/// A job was not kept, and the route says that its answer must not pass then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job was not kept")]
pub struct NotKept;

impl Watch {
    /// Whether anything is listened for in this.
    pub fn listens_to(&self, from: CaptureFrom) -> bool {
        self.captures.iter().any(|capture| capture.from == from)
    }

    /// How much is read of an answer, an event or a message, at most.
    pub fn max_size(&self, from: CaptureFrom) -> usize {
        let captures = self.captures.iter().filter(|capture| capture.from == from);
        captures.map(|capture| capture.max_size).max().unwrap_or(0)
    }

    /// Whether what tells of jobs in this way must not pass before they are kept.
    pub fn is_closed(&self, from: CaptureFrom) -> bool {
        let closed = |it: &Capture| it.from == from && it.on_failure == OnFailure::Closed;
        self.captures.iter().any(closed)
    }

    /// What a document tells.
    pub fn hear(&self, from: CaptureFrom, document: &Value) -> Vec<Heard> {
        let mut heard = Vec::new();
        for (at, capture) in self.captures.iter().enumerate() {
            if capture.from != from {
                continue;
            }
            match capture::read(capture, document, self.params[at].as_deref()) {
                Ok(findings) => heard.extend(findings.into_iter().map(|finding| Heard {
                    finding,
                    capture: at,
                })),
                // Most events and messages tell of no job.
                Err(Miss::NoId) if from != CaptureFrom::Json => {}
                Err(Miss::NoId) => self.report(Outcome::NoId),
                Err(Miss::BadId) => self.report(Outcome::BadId),
            }
        }
        heard
    }

    /// What a text tells that may be JSON.
    pub fn hear_text(&self, from: CaptureFrom, text: &[u8]) -> Vec<Heard> {
        match crate::identity::json::parse(text) {
            Ok(document) => self.hear(from, &document),
            Err(_) => {
                if from == CaptureFrom::Json {
                    self.report(Outcome::NotJson);
                }
                Vec::new()
            }
        }
    }

    /// Keeps what was heard.
    ///
    /// # Errors
    /// When the store does not take it and the route says that nothing may pass then.
    pub async fn keep(&self, heard: Vec<Heard>) -> Result<(), NotKept> {
        for heard in heard {
            self.keep_one(heard).await?;
        }
        Ok(())
    }

    async fn keep_one(&self, heard: Heard) -> Result<(), NotKept> {
        let capture = &self.captures[heard.capture];
        let finding = heard.finding;
        if capture.kind == JobKind::Job {
            let mut note = self.note.borrow_mut();
            note.get_or_insert_with(|| finding.id.clone());
        }
        let Some(keeper) = &self.keeper else {
            if let Some(held_back) = NOT_KEPT.turn() {
                tracing::warn!(route = %self.route, held_back, "a job was not kept: there is no store");
            }
            return verdict(capture);
        };
        let now = keeper.now();
        let id = finding.id.clone();
        let news = JobNews {
            job: Job {
                kind: capture.kind,
                space: (&*capture.space).into(),
                job_id: finding.id,
                owner: owner::of(&self.identity),
                status: finding.status,
                progress: finding.progress,
                extra: finding.extra,
                created_at: now,
                updated_at: now,
            },
            files: finding.files,
            claim: match capture.claim {
                true => Claim::Yes,
                false => Claim::No,
            },
        };
        match keeper.put(news, self.timeout).await {
            Ok(Kept::Mine { lost, .. }) => {
                keeper.count(Outcome::Kept);
                for file in lost {
                    self.tell("file_conflict", "not_owner", &file);
                    keeper.count(Outcome::Conflict);
                }
                Ok(())
            }
            Ok(Kept::Anothers) => {
                self.tell("job_conflict", "not_owner", &id);
                keeper.count(Outcome::Conflict);
                Ok(())
            }
            Ok(Kept::Nobodys) => {
                keeper.count(Outcome::Nobodys);
                Ok(())
            }
            Err(error) => {
                if let Some(held_back) = NOT_KEPT.turn() {
                    tracing::error!(route = %self.route, %error, held_back, "a job was not kept");
                }
                self.tell("job_not_kept", "store_unavailable", &id);
                keeper.count(Outcome::NotKept);
                verdict(capture)
            }
        }
    }

    /// Nothing was heard, and why.
    pub fn report(&self, outcome: Outcome) {
        let why = outcome.word();
        if let Some(held_back) = NOT_HEARD.turn() {
            tracing::warn!(route = %self.route, why, held_back, "an answer was not looked at for jobs");
        }
        if let Some(keeper) = &self.keeper {
            keeper.count(outcome);
        }
    }

    fn tell(&self, name: &'static str, result: &'static str, job_id: &str) {
        if let Some(keeper) = &self.keeper {
            keeper.tell(&Event {
                name,
                result,
                user_id: Some(&self.identity.user_id),
                session_id: self.identity.session_id.as_deref(),
                client: self.client,
                route: Some(&self.route),
                job_id: Some(job_id),
                ..Event::default()
            });
        }
    }
}

#[cfg(test)]
impl Watch {
    /// A watch by a route with these lines in `[[route.capture]]`, for the tests of those who listen. Keeps nothing.
    pub(crate) fn for_test(lines: &str) -> Self {
        let caller = crate::streams::tests::known(0).permit;
        let identity = caller.identity().map(Arc::clone);
        Self {
            captures: Arc::new([capture::tests::capture(lines)]),
            params: vec![None],
            keeper: None,
            identity: identity.expect("a known caller"),
            client: None,
            route: "r".into(),
            timeout: Duration::from_secs(10),
            note: Note::default(),
        }
    }
}

#[cfg(test)]
impl Heard {
    /// The id that was heard.
    pub(crate) fn id(&self) -> &str {
        &self.finding.id
    }
}

/// Each answer would say it; the figures count all of them.
static NOT_KEPT: LazyLock<Sparing> = LazyLock::new(Sparing::default);
static NOT_HEARD: LazyLock<Sparing> = LazyLock::new(Sparing::default);

fn verdict(capture: &Capture) -> Result<(), NotKept> {
    match capture.on_failure {
        OnFailure::Open => Ok(()),
        OnFailure::Closed => Err(NotKept),
    }
}

impl From<Unreadable> for Outcome {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Unknown | Unreadable::Broken => Self::Unreadable,
            Unreadable::TooLarge => Self::TooLarge,
        }
    }
}
