//! Whose the streams of one shard are: pairs of a mark (a keyed hash of 32 bits) and a stream's place, in order, so that
//! an end or an extension looks at its own streams only. Two marks may be alike: whoever finds a stream asks itself
//! whether it is meant. A pair takes 8 bytes, in a tree some 15; a stream has two.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use uuid::Uuid;

use crate::config::OWN_ISSUER;
use crate::identity::Identity;
use crate::records::{SessionId, UserId};
use crate::state::{Ended, News, Standing};
use crate::streams::Extended;

/// A hash of what streams are looked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Mark(u32);

impl Mark {
    /// Which of `count` shards is this one's.
    pub(super) fn shard(self, count: usize) -> usize {
        self.0 as usize % count
    }
}

/// Makes marks: nobody outside can tell which are alike.
#[derive(Default)]
pub(super) struct Marks(RandomState);

/// The streams of a shard, by their marks.
#[derive(Default)]
pub(super) struct Index(BTreeSet<(Mark, u32)>);

/// What a mark is made of.
#[derive(Hash)]
enum Thing<'t> {
    User(&'t str, &'t str),
    Session(&'t str, &'t str, &'t str),
    OwnUser(UserId),
    OwnSession(SessionId),
    OwnToken(i64),
}

impl Marks {
    fn of(&self, thing: &Thing<'_>) -> Mark {
        Mark(self.0.hash_one(thing) as u32)
    }

    /// Of the user that it speaks for.
    pub(super) fn user(&self, identity: &Identity) -> Mark {
        match &identity.standing {
            Some(standing) => self.of(&Thing::OwnUser(standing.user)),
            None => self.of(&Thing::User(&identity.issuer, &identity.user_id)),
        }
    }

    /// Of its session; `None`: it names none.
    pub(super) fn session(&self, identity: &Identity) -> Option<Mark> {
        if let Some(Standing { session, .. }) = &identity.standing {
            return Some(self.own_session(*session));
        }
        let session = identity.session_id.as_deref()?;
        Some(self.of(&Thing::Session(
            &identity.issuer,
            &identity.user_id,
            session,
        )))
    }

    pub(super) fn own_session(&self, session: SessionId) -> Mark {
        self.of(&Thing::OwnSession(session))
    }

    /// Of a session that is named by its texts.
    pub(super) fn named(&self, session: &Extended) -> Mark {
        let own = (*session.issuer == *OWN_ISSUER).then(|| Uuid::try_parse(&session.session).ok());
        match own.flatten() {
            Some(id) => self.own_session(SessionId(id)),
            None => self.of(&Thing::Session(
                &session.issuer,
                &session.subject,
                &session.session,
            )),
        }
    }

    /// Of those that some news are about.
    pub(super) fn about(&self, news: News) -> Mark {
        match news {
            News::Ended(Ended::Session(session)) => self.own_session(session),
            News::Ended(Ended::Token(token)) => self.of(&Thing::OwnToken(token)),
            News::Ended(
                Ended::User(user)
                | Ended::UserExceptSession(user, _)
                | Ended::UserExceptToken(user, _),
            )
            | News::Changed(user) => self.of(&Thing::OwnUser(user)),
        }
    }

    /// All that a stream of this identity is found by.
    pub(super) fn all(&self, identity: &Identity) -> impl Iterator<Item = Mark> {
        let token = identity.token_number();
        let token = token.map(|number| self.of(&Thing::OwnToken(number)));
        let rest = self.session(identity).into_iter().chain(token);
        std::iter::once(self.user(identity)).chain(rest)
    }
}

impl Index {
    pub(super) fn insert(&mut self, mark: Mark, key: u32) {
        self.0.insert((mark, key));
    }

    pub(super) fn remove(&mut self, mark: Mark, key: u32) {
        self.0.remove(&(mark, key));
    }

    /// The places of the streams with this mark.
    pub(super) fn find(&self, mark: Mark) -> impl Iterator<Item = u32> {
        let range = (mark, 0)..=(mark, u32::MAX);
        self.0.range(range).map(|(_, key)| *key)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
