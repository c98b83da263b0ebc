//! The readiness board: each part of the gateway reports here, under its name, whether it can serve.
//! `/readyz` prints it; the gateway is ready when every part is.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::text;

/// The board. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<BTreeMap<Box<str>, Entry>>>);

/// One part's place on the board: dropping it takes the part off, unless a successor of the same name
/// (after a reload) has taken the place over.
#[derive(Debug)]
#[must_use = "dropping it takes the part off the board"]
pub struct Reporter {
    board: Board,
    name: Box<str>,
    turn: u64,
}

/// What a part last said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The part's name: `issuer:project`, `upstream:app`, `draining`.
    pub name: Box<str>,
    /// Why it is not ready; `None` when it is.
    pub reason: Option<Cow<'static, str>>,
}

#[derive(Debug)]
struct Entry {
    reason: Option<Cow<'static, str>>,
    turn: u64,
}

impl Board {
    /// Takes a place for the part `name`, not ready (`starting`) until it reports otherwise. Where the
    /// name is on the board already, what its predecessor said stands until the new one reports, so that a
    /// reload does not make a ready gateway look unready.
    pub fn part(&self, name: impl Into<Box<str>>) -> Reporter {
        let name = name.into();
        let mut parts = self.lock();
        let entry = parts.entry(name.clone()).or_insert(Entry {
            reason: Some(Cow::Borrowed("starting")),
            turn: 0,
        });
        entry.turn += 1;
        let turn = entry.turn;
        drop(parts);
        Reporter {
            board: self.clone(),
            name,
            turn,
        }
    }

    /// Whether every part is ready.
    pub fn ready(&self) -> bool {
        self.lock().values().all(|entry| entry.reason.is_none())
    }

    /// What each part last said, by name.
    pub fn parts(&self) -> Vec<Part> {
        let part = |(name, entry): (&Box<str>, &Entry)| Part {
            name: name.clone(),
            reason: entry.reason.clone(),
        };
        self.lock().iter().map(part).collect()
    }

    /// Whether every part is ready, and all of it as JSON:
    /// `{"ready":false,"parts":[{"name":"upstream:app","ready":false,"reason":"…"}]}`.
    pub fn render(&self) -> (bool, String) {
        let parts = self.parts();
        let ready = parts.iter().all(|part| part.reason.is_none());
        let mut out = format!("{{\"ready\":{ready},\"parts\":[");
        for (at, part) in parts.iter().enumerate() {
            out.push_str(if at == 0 { "{\"name\":" } else { ",{\"name\":" });
            text::push_json(&mut out, &part.name);
            match &part.reason {
                None => out.push_str(",\"ready\":true}"),
                Some(reason) => {
                    out.push_str(",\"ready\":false,\"reason\":");
                    text::push_json(&mut out, reason);
                    out.push('}');
                }
            }
        }
        out.push_str("]}");
        (ready, out)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reporter {
    /// The part can serve.
    pub fn ready(&self) {
        self.report(None);
    }

    /// The part cannot serve, for this short reason, which must hold no secret.
    pub fn not_ready(&self, reason: impl Into<Cow<'static, str>>) {
        self.report(Some(reason.into()));
    }

    fn report(&self, reason: Option<Cow<'static, str>>) {
        if let Some(entry) = self.board.lock().get_mut(&self.name)
            && entry.turn == self.turn
        {
            entry.reason = reason;
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        let mut parts = self.board.lock();
        if parts
            .get(&self.name)
            .is_some_and(|entry| entry.turn == self.turn)
        {
            parts.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_board_is_ready_and_one_unready_part_makes_it_unready() {
        let board = Board::default();
        assert!(board.ready());
        let upstream = board.part("upstream:app");
        assert!(!board.ready());
        upstream.ready();
        let issuer = board.part("issuer:project");
        issuer.not_ready("no \"keys\" yet");
        assert_eq!(
            board.render(),
            (
                false,
                concat!(
                    r#"{"ready":false,"parts":[{"name":"issuer:project","ready":false,"reason":"no \"keys\" yet"},"#,
                    r#"{"name":"upstream:app","ready":true}]}"#
                )
                .to_owned()
            )
        );
        drop(issuer);
        assert!(board.ready());
    }

    #[test]
    fn a_successor_takes_the_place_over_with_what_was_said() {
        let board = Board::default();
        let old = board.part("issuer:project");
        old.ready();
        let new = board.part("issuer:project");
        assert!(board.ready());
        // The old part's late word and its end count for nothing now.
        old.not_ready("late");
        drop(old);
        assert!(board.ready());
        assert_eq!(board.parts().len(), 1);
        new.not_ready("gone");
        assert!(!board.ready());
        drop(new);
        assert!(board.parts().is_empty());
    }
}
