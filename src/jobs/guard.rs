//! Holds what a request names against who asks: another's, or what nobody knows, is 404 before the upstream is asked.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::keeper::{Keeper, Unanswered};
use super::named::{self, Named, Naming};
use super::owner;
use crate::config::{Guard, GuardPlace, Missing, Scope, Unknown};
use crate::identity::Identity;
use crate::observe::sparing::Sparing;
use crate::policy::Permit;
use crate::records::{Job, JobKind, Object, Owner};
use crate::refusal::Refusal;
use crate::store::{Claim, JobNews, Kept};

/// Who asks, and who can tell.
pub(super) struct Guarded<'g> {
    pub(super) permit: &'g Permit,
    pub(super) keeper: Option<&'g Arc<Keeper>>,
    pub(super) timeout: Duration,
}

impl Guarded<'_> {
    /// Lets a request pass one guard.
    pub(super) async fn pass(&self, guard: &Guard, naming: &mut Naming<'_>) -> Result<(), Refusal> {
        // Read also for those who may have everything: what is ambiguous is so for them too.
        let names = match naming.read(&guard.place).await? {
            Named::Names(names) => names,
            Named::Nothing => {
                return match guard.missing {
                    Missing::Allow => Ok(()),
                    Missing::Deny => Err(Refusal::NotOwner),
                };
            }
        };
        if guard.kind == JobKind::Job
            && let Some(name) = names.first()
        {
            naming.note.borrow_mut().get_or_insert_with(|| name.clone());
        }
        let identity = self.permit.identity();
        if identity.is_some_and(|identity| is_excepted(guard, identity)) {
            return Ok(());
        }
        let owner = identity.map(|identity| owner::of(identity));
        for name in &names {
            let name = stripped(guard, name);
            if is_public(guard, name) {
                continue;
            }
            let asker = Asker {
                guard,
                keeper: self.keeper.ok_or(Refusal::StoreUnavailable)?,
                owner: owner.as_ref(),
                timeout: self.timeout,
            };
            asker.ask(name).await?;
        }
        Ok(())
    }
}

/// A guard, and what a request names there, as far as its head tells.
pub struct Asked<'g> {
    /// The guard.
    pub guard: &'g Guard,
    /// `None`: what it asks for stands in the body.
    pub named: Option<Result<Named, Refusal>>,
}

impl<'g> Asked<'g> {
    pub(super) fn of<'r>(
        guard: &'g Guard,
        query: Option<&str>,
        params: &dyn Fn(&str) -> Option<&'r str>,
    ) -> Self {
        let named = match &guard.place {
            GuardPlace::Path(names) => Some(named::in_path(params, names)),
            GuardPlace::Query(names) => Some(named::in_query(query.unwrap_or_default(), names)),
            GuardPlace::Body(..) => None,
        };
        Self { guard, named }
    }

    /// What can be told without asking whose it is.
    ///
    /// # Errors
    /// As `Jobs::admit`.
    pub fn verdict(&self, permit: &Permit) -> Result<(), Refusal> {
        match &self.named {
            None => Ok(()),
            Some(Err(refusal)) => Err(*refusal),
            Some(Ok(Named::Nothing)) if self.guard.missing == Missing::Deny => {
                Err(Refusal::NotOwner)
            }
            // A guest owns nothing.
            Some(Ok(Named::Names(_)))
                if permit.identity().is_none()
                    && self.guard.unknown != Unknown::Allow
                    && !self.is_public() =>
            {
                Err(Refusal::NotOwner)
            }
            Some(Ok(_)) => Ok(()),
        }
    }

    /// Whether only the store can tell if this caller may name it.
    pub fn is_for_the_store(&self, permit: &Permit) -> bool {
        let identity = permit.identity();
        let excepted = identity.is_some_and(|identity| is_excepted(self.guard, identity));
        let named = matches!(&self.named, None | Some(Ok(Named::Names(_))));
        named && !excepted && !self.is_public()
    }

    /// Whether all that is named there is everybody's.
    pub fn is_public(&self) -> bool {
        let public = |name: &str| is_public(self.guard, stripped(self.guard, name));
        matches!(&self.named, Some(Ok(Named::Names(names))) if names.iter().all(|name| public(name)))
    }
}

fn is_excepted(guard: &Guard, identity: &Identity) -> bool {
    let roles = &guard.except_roles;
    roles.iter().any(|role| identity.roles.contains(role))
}

/// A name without what is cut from its front.
fn stripped<'n>(guard: &Guard, name: &'n str) -> &'n str {
    name.strip_prefix(&*guard.strip).unwrap_or(name)
}

/// Whether everybody may name this.
fn is_public(guard: &Guard, name: &str) -> bool {
    guard.public.iter().any(|public| **public == *name)
}

/// Somebody who asks for one thing. A guest owns nothing.
struct Asker<'a> {
    guard: &'a Guard,
    keeper: &'a Keeper,
    owner: Option<&'a Owner>,
    timeout: Duration,
}

impl Asker<'_> {
    async fn ask(&self, name: &str) -> Result<(), Refusal> {
        let guard = self.guard;
        let place = (guard.kind, &*guard.space, name);
        // Asked first: what waits no longer is in the store by then.
        let waits = |owner| self.keeper.is_waiting(place, owner);
        let waits = self.owner.is_some_and(waits);
        let found = self.keeper.find(place, self.timeout).await;
        if let Some(job) = found.map_err(unanswered)? {
            return self.judge(&job);
        }
        match guard.unknown {
            // Nobody is known to own it; but the store has still to hear that it is the caller's.
            Unknown::Deny if waits => Err(Refusal::JobNotKept),
            Unknown::Deny => Err(Refusal::NotOwner),
            Unknown::Allow => {
                let gone = self.keeper.is_gone(place, self.timeout).await;
                let plain = is_plain(name, &guard.place);
                match gone.map_err(unanswered)? || !plain {
                    true => Err(Refusal::NotOwner),
                    false => Ok(()),
                }
            }
            Unknown::Claim => self.claim(name).await,
        }
    }

    fn judge(&self, job: &Job) -> Result<(), Refusal> {
        let mine = self.owner.is_some_and(|owner| match self.guard.scope {
            Scope::User => job.owner.is_user(owner),
            Scope::Session => job.owner.is_session(owner),
        });
        mine.then_some(()).ok_or(Refusal::NotOwner)
    }

    /// Who uses a client's id first is its owner.
    async fn claim(&self, name: &str) -> Result<(), Refusal> {
        let owner = self.owner.ok_or(Refusal::NotOwner)?;
        let now = self.keeper.now();
        let news = JobNews {
            job: Job {
                kind: self.guard.kind,
                space: (&*self.guard.space).into(),
                job_id: name.into(),
                owner: owner.clone(),
                status: None,
                progress: None,
                extra: Object::new(),
                created_at: now,
                updated_at: now,
            },
            files: Vec::new(),
            claim: Claim::Yes,
        };
        match self.keeper.put(news, self.timeout).await {
            // Another request may have been faster, in another session.
            Ok(Kept::Mine { job, .. }) => self.judge(&job),
            Ok(Kept::Anothers | Kept::Nobodys) => Err(Refusal::NotOwner),
            Err(error) => Err(unanswered(error)),
        }
    }
}

/// Each guarded request would say it.
static UNANSWERED: LazyLock<Sparing> = LazyLock::new(Sparing::default);

fn unanswered(error: Unanswered) -> Refusal {
    if let Some(held_back) = UNANSWERED.turn() {
        tracing::error!(%error, held_back, "nobody can tell whose a job is");
    }
    Refusal::StoreUnavailable
}

/// Whether a name that nobody has can be nothing but itself: one that an upstream might read as another name may
/// be another's.
fn is_plain(name: &str, place: &GuardPlace) -> bool {
    let several = matches!(place, GuardPlace::Path(names) if names.len() > 1)
        || matches!(place, GuardPlace::Query(names) if names.len() > 1)
        || matches!(place, GuardPlace::Body(pointers, _) if pointers.len() > 1);
    let segments = name.split('/');
    let plain = |segment: &str| !segment.is_empty() && !segment.starts_with('.');
    // The brackets of several parts in one name are ours.
    let odd: &[char] = match several {
        true => &['%', '\\', ';', '?', '#'],
        false => &['%', '\\', ';', '?', '#', '"'],
    };
    name.is_ascii() && !name.contains(odd) && segments.into_iter().all(plain) && name.trim() == name
}
