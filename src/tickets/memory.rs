//! Tickets of one gateway. One lock for all of them: a ticket is made and used once for each stream.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Again, Id, Owner, Record, TicketError};
use crate::clock::UnixSeconds;

/// All of them, bounded.
#[derive(Default)]
pub(super) struct Memory(Mutex<Book>);

#[derive(Default)]
struct Book {
    tickets: HashMap<Id, (Record, Stage)>,
    owners: HashMap<Owner, Vec<Id>>,
    /// How many there were when the old ones were last thrown away.
    swept: usize,
}

/// Where a ticket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody has used it.
    Fresh,
    /// Its stream lives.
    InUse,
    /// Its stream has ended.
    Resting,
}

impl Memory {
    pub(super) fn put(
        &self,
        id: Id,
        record: Record,
        (per_user, now): (usize, UnixSeconds),
    ) -> Result<(), TicketError> {
        let mut book = self.book();
        book.make_room(&record.owner, (per_user, now));
        let owned = book.owners.get(&record.owner).map_or(0, Vec::len);
        if owned >= per_user || book.tickets.len() >= MOST {
            return Err(TicketError::TooMany);
        }
        book.insert(id, record, Stage::Fresh);
        Ok(())
    }

    /// What was sealed.
    pub(super) fn take(
        &self,
        id: &Id,
        again: Again,
        now: UnixSeconds,
    ) -> Result<Box<[u8]>, TicketError> {
        let mut book = self.book();
        let (record, stage) = book.tickets.get_mut(id).ok_or(TicketError::Invalid)?;
        match (*stage, again) {
            (Stage::InUse, _) => return Err(TicketError::InUse),
            (Stage::Resting, Again::Never) => return Err(TicketError::Invalid),
            (Stage::Fresh | Stage::Resting, _) if record.expires <= now => {
                book.remove(id);
                return Err(TicketError::Invalid);
            }
            (Stage::Fresh | Stage::Resting, Again::OnceEnded) => *stage = Stage::InUse,
            (Stage::Fresh, Again::Never) => {}
        }
        let sealed = record.sealed.clone();
        if again == Again::Never {
            book.remove(id);
        }
        Ok(sealed)
    }

    pub(super) fn rest(&self, id: Id, record: Record, (per_user, now): (usize, UnixSeconds)) {
        let mut book = self.book();
        book.remove(&id);
        book.make_room(&record.owner, (per_user, now));
        book.insert(id, record, Stage::Resting);
    }

    pub(super) fn remove(&self, id: &Id) {
        self.book().remove(id);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn insert(&mut self, id: Id, record: Record, stage: Stage) {
        self.owners.entry(record.owner).or_default().push(id);
        self.tickets.insert(id, (record, stage));
    }

    fn remove(&mut self, id: &Id) {
        let Some((record, _)) = self.tickets.remove(id) else {
            return;
        };
        if let Some(owned) = self.owners.get_mut(&record.owner) {
            owned.retain(|known| known != id);
            if owned.is_empty() {
                self.owners.remove(&record.owner);
            }
        }
    }

    /// Throws away what is over, and, where the user has too many all the same, what has rested for the longest.
    fn make_room(&mut self, owner: &Owner, (per_user, now): (usize, UnixSeconds)) {
        let owned = self.owners.get(owner).cloned().unwrap_or_default();
        let mut left = owned.len();
        for id in &owned {
            let over = self.tickets.get(id).is_none_or(|it| is_over(it, now));
            let resting = |(_, stage): &(Record, Stage)| *stage == Stage::Resting;
            let spare = left >= per_user && self.tickets.get(id).is_some_and(resting);
            if over || spare {
                self.remove(id);
                left -= 1;
            }
        }
        if self.tickets.len() > 2 * self.swept.max(SMALL) {
            let over = self.tickets.iter().filter(|(_, it)| is_over(it, now));
            let over: Vec<Id> = over.map(|(id, _)| *id).collect();
            for id in &over {
                self.remove(id);
            }
            self.swept = self.tickets.len();
        }
    }
}

fn is_over((record, stage): &(Record, Stage), now: UnixSeconds) -> bool {
    *stage != Stage::InUse && record.expires <= now
}

/// Tickets of all users together at most.
const MOST: usize = 200_000;
/// So few are never looked through as a whole.
const SMALL: usize = 512;
