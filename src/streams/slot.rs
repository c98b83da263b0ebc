//! A stream as the registry keeps it: shared by the stream and by whoever ends or extends it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use crate::clock::UnixSeconds;
use crate::identity::Identity;
use crate::policy::Permit;
use crate::streams::{End, Kind, Member, Verdict};

/// One stream.
pub(super) struct Slot {
    pub(super) kind: Kind,
    pub(super) route: Arc<str>,
    pub(super) path: Box<str>,
    pub(super) since: UnixSeconds,
    state: Mutex<State>,
}

struct State {
    permit: Permit,
    fate: Fate,
    waker: Option<Waker>,
}

/// What is to become of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lasts,
    Until(UnixSeconds),
    Ends(End),
}

impl Slot {
    pub(super) fn new(member: Member) -> Self {
        let identity = member.permit.identity();
        let fate = identity.map_or(Fate::Lasts, |identity| Fate::Until(identity.ends_at));
        Self {
            kind: member.kind,
            route: member.route,
            path: member.path,
            since: member.since,
            state: Mutex::new(State {
                permit: member.permit,
                fate,
                waker: None,
            }),
        }
    }

    /// What is to become of the stream; a change of it wakes `cx`.
    pub(super) fn listen(&self, cx: &Context<'_>) -> Fate {
        let mut state = self.state();
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        state.fate
    }

    /// What is to become of it.
    pub(super) fn fate(&self) -> Fate {
        self.state().fate
    }

    /// Who was let in, by the newest token that is known of.
    pub(super) fn permit(&self) -> Permit {
        self.state().permit.clone()
    }

    /// Whose it is, likewise.
    pub(super) fn identity(&self) -> Option<Arc<Identity>> {
        self.state().permit.identity().cloned()
    }

    /// Changes what is to become of the stream. An end is final: the first one stays.
    pub(super) fn apply(&self, verdict: Verdict) {
        let waker = {
            let mut state = self.state();
            let before = state.fate;
            state.fate = match (verdict, before) {
                (Verdict::Keep, _) | (_, Fate::Ends(_)) => return,
                (Verdict::Extend(until), _) => Fate::Until(until),
                (Verdict::End(end), _) => Fate::Ends(end),
            };
            // A later deadline is noticed at the one before.
            let later =
                matches!((before, state.fate), (Fate::Until(old), Fate::Until(new)) if new >= old);
            match later {
                true => None,
                false => state.waker.take(),
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes over a newer token of its session, and with it the later deadline.
    pub(super) fn renew(&self, newer: &Arc<Identity>) {
        let mut state = self.state();
        if let Fate::Until(until) = state.fate
            && until <= newer.ends_at
        {
            state.permit = state.permit.renewed(newer);
            state.fate = Fate::Until(newer.ends_at);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
