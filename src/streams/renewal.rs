//! How streams go on: by a newer token of their session, seen here, made here, or told of by another gateway.

use std::sync::Arc;

use crate::identity::Identity;
use crate::identity::sightings::{Minted, Sighting, Sightings};
use crate::streams::index::Mark;
use crate::streams::newest::{Novelty, is_same_session};
use crate::streams::slot::{Fate, Slot};
use crate::streams::{End, Extended, Message, Streams, Verdict};

impl Streams {
    /// From now on the streams of a session live as long as its newest token.
    pub fn follow(self: &Arc<Self>, sightings: &Sightings) {
        let listening = Arc::downgrade(self);
        sightings.subscribe(move |sighting| {
            let Some(streams) = listening.upgrade() else {
                return;
            };
            match sighting {
                Sighting::Verified(identity) => {
                    streams.renew(identity);
                }
                Sighting::Minted(minted) => streams.renew_by(minted),
            }
        });
    }

    /// Lets the streams of a token's session go on until that token ends, where that is later; answers how many
    /// there are that last as long now. A token without a session extends nothing. A stream that its route would not
    /// let in with what the newer token says ends.
    pub fn renew(&self, newer: &Arc<Identity>) -> usize {
        let Some(mark) = self.session_mark(newer) else {
            return 0;
        };
        // First: a stream that joins meanwhile either finds it here or is found below.
        if self.newest.note(mark, newer) == Novelty::Newer {
            self.tell_extended(newer);
        }
        let slots = self.marked(mark);
        let renewed = slots.filter(|slot| {
            let of_session = slot
                .identity()
                .is_some_and(|it| is_same_session(&it, newer));
            of_session && self.renew_slot(slot, newer)
        });
        renewed.count()
    }

    /// The mark of a session that other tokens can extend: of one that its token names. Opaque tokens of one session
    /// end one by one: a stream that took another's for its own would not hear of it.
    fn session_mark(&self, identity: &Identity) -> Option<Mark> {
        if identity.token_number().is_some() {
            return None;
        }
        identity.session_id.as_ref()?;
        self.marks.session(identity)
    }

    /// The same by a token that was made here just now: read only where there is a stream that lives by it.
    fn renew_by(&self, minted: Minted<'_>) {
        let mark = self.marks.own_session(minted.session);
        // Where there is none now, one may be about to join, or be another gateway's.
        if let Some(identity) = self.judge().and_then(|judge| judge.read(minted.token)) {
            debug_assert!(
                self.session_mark(&identity) == Some(mark),
                "the same session"
            );
            self.renew(&identity);
        }
    }

    /// Whether the stream lasts as long as `newer` after it was renewed by it.
    pub(super) fn renew_slot(&self, slot: &Slot, newer: &Arc<Identity>) -> bool {
        let Fate::Until(until) = slot.fate() else {
            return false;
        };
        if until > newer.ends_at {
            return false;
        }
        // Its own session may have ended by news that have not come to it yet; the newer token may be too young for
        // them to mean it.
        let before = slot.identity();
        let standing = before.as_ref().and_then(|it| it.standing.as_ref());
        if standing.is_some_and(|standing| self.revocations.has_ended(standing)) {
            slot.apply(Verdict::End(End::Revoked));
            return false;
        }
        let permit = slot.permit().renewed(newer);
        if let Some(judge) = self.judge()
            && !judge.allows(&slot.route, &permit)
        {
            slot.apply(Verdict::End(End::Revoked));
            return false;
        }
        slot.renew(newer);
        true
    }

    /// Takes over what another gateway tells; answers how many streams it was about.
    pub fn hear(&self, message: &Message) -> usize {
        match message {
            Message::Extended(extended) => self.extend(extended),
            Message::Kill(filter) => self.end_where(filter, End::Revoked),
        }
    }

    /// Moves the deadline of a session's streams, where it becomes a later one.
    fn extend(&self, extended: &Extended) -> usize {
        let slots = self.marked(self.marks.named(extended));
        let extended = slots.filter(|slot| {
            let meant = slot.identity().is_some_and(|it| {
                *it.issuer == *extended.issuer
                    && it.user_id == extended.subject
                    && it.session_id.as_deref() == Some(&extended.session)
            });
            let later =
                meant && matches!(slot.fate(), Fate::Until(until) if until < extended.until);
            if later {
                slot.apply(Verdict::Extend(extended.until));
            }
            later
        });
        extended.count()
    }

    fn tell_extended(&self, newer: &Identity) {
        let listeners = self.listeners();
        if listeners.is_empty() {
            return;
        }
        let Some(session) = newer.session_id.clone() else {
            return;
        };
        let message = Message::Extended(Extended {
            issuer: (*newer.issuer).into(),
            subject: newer.user_id.clone(),
            session,
            until: newer.ends_at,
        });
        for listener in listeners {
            listener(&message);
        }
    }
}
