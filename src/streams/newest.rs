//! The newest token of each session that was seen lately. A stream may open with an older one, a moment after its
//! client has renewed it: it inherits the newer deadline, since that token, remembered by then, is not told again for
//! as long as it is remembered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::identity::Identity;
use crate::streams::index::Mark;

/// Bounded, in shards; the least recently told are forgotten first.
#[derive(Default)]
pub(super) struct Newest([Mutex<Halves>; SHARDS]);

#[derive(Default)]
struct Halves {
    young: HashMap<Mark, Arc<Identity>>,
    old: HashMap<Mark, Arc<Identity>>,
}

/// Whether a token told something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Novelty {
    Newer,
    Known,
}

impl Newest {
    /// Notes a token of the session with this mark.
    pub(super) fn note(&self, mark: Mark, identity: &Arc<Identity>) -> Novelty {
        let mut halves = self.shard(mark);
        let known = halves.young.get(&mark).or_else(|| halves.old.get(&mark));
        let newer = known.is_none_or(|known| {
            !is_same_session(known, identity) || known.ends_at < identity.ends_at
        });
        if !newer {
            return Novelty::Known;
        }
        if halves.young.len() >= HALF {
            halves.old = std::mem::take(&mut halves.young);
        }
        halves.old.remove(&mark);
        halves.young.insert(mark, Arc::clone(identity));
        Novelty::Newer
    }

    /// A token of the same session that lasts longer than this one.
    pub(super) fn after(&self, mark: Mark, identity: &Identity) -> Option<Arc<Identity>> {
        let halves = self.shard(mark);
        let known = halves.young.get(&mark).or_else(|| halves.old.get(&mark))?;
        let newer = known.ends_at > identity.ends_at && is_same_session(known, identity);
        newer.then(|| Arc::clone(known))
    }

    fn shard(&self, mark: Mark) -> MutexGuard<'_, Halves> {
        let shard = &self.0[mark.shard(SHARDS)];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether both are tokens of one session: the same issuer, subject and session.
pub(super) fn is_same_session(one: &Identity, other: &Identity) -> bool {
    one.session_id.is_some()
        && one.session_id == other.session_id
        && one.user_id == other.user_id
        && one.issuer == other.issuer
}

const SHARDS: usize = 16;
/// Tokens in half of a shard.
const HALF: usize = 256;
