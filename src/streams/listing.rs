//! Live streams as an operator sees them: which there are, and the end of some.

use std::sync::Arc;

use crate::clock::UnixSeconds;
use crate::identity::Identity;
use crate::streams::slot::{Fate, Slot};
use crate::streams::{End, Kind, Message, Streams, Verdict, lock};

/// Which streams are meant: those of whom all that is given is true. With nothing given: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Filter {
    /// The issuer's name in the configuration.
    pub issuer: Option<Box<str>>,
    pub user: Option<Box<str>>,
    pub session: Option<Box<str>>,
    pub route: Option<Box<str>>,
    pub kind: Option<Kind>,
}

/// A stream.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Shown {
    /// `None`: a guest's.
    pub identity: Option<Arc<Identity>>,
    pub route: Arc<str>,
    pub kind: Kind,
    pub path: Box<str>,
    pub since: UnixSeconds,
    /// `None`: it has no deadline, or is ending.
    pub until: Option<UnixSeconds>,
}

impl Filter {
    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn means(&self, slot: &Slot) -> bool {
        let is = |wanted: &Option<Box<str>>, it: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| it == Some(wanted))
        };
        let identity = slot.identity();
        let identity = identity.as_deref();
        is(&self.route, Some(&slot.route))
            && self.kind.is_none_or(|kind| kind == slot.kind)
            && is(&self.issuer, identity.map(|it| &*it.issuer))
            && is(&self.user, identity.map(|it| &*it.user_id))
            && is(
                &self.session,
                identity.and_then(|it| it.session_id.as_deref()),
            )
    }
}

impl Streams {
    /// The streams that are meant, at most `limit`, and how many there are in all.
    pub fn list(&self, filter: &Filter, limit: usize) -> (Vec<Shown>, usize) {
        let slots = self.shards.iter().flat_map(|shard| lock(shard).snapshot());
        let (mut shown, mut count) = (Vec::new(), 0);
        for slot in slots.filter(|slot| filter.means(slot)) {
            count += 1;
            if shown.len() < limit {
                shown.push(Shown::of(&slot));
            }
        }
        (shown, count)
    }

    /// Ends the streams that are meant, here and on other gateways; answers how many they are here.
    pub fn kill(&self, filter: &Filter) -> usize {
        self.tell(&Message::Kill(filter.clone()));
        self.end_where(filter, End::Revoked)
    }

    pub(super) fn end_where(&self, filter: &Filter, end: End) -> usize {
        let slots = self.shards.iter().flat_map(|shard| lock(shard).snapshot());
        let meant = slots.filter(|slot| filter.means(slot));
        meant.map(|slot| slot.apply(Verdict::End(end))).count()
    }
}

impl Shown {
    fn of(slot: &Slot) -> Self {
        Self {
            identity: slot.identity(),
            route: Arc::clone(&slot.route),
            kind: slot.kind,
            path: slot.path.clone(),
            since: slot.since,
            until: match slot.fate() {
                Fate::Until(until) => Some(until),
                Fate::Lasts | Fate::Ends(_) => None,
            },
        }
    }
}
