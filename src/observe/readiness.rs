//! The readiness board: each part of the gateway reports here, under its name, whether it can serve.
//! `/readyz` prints it; the gateway is ready when every part is.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{next_turn, text};

/// The board. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<Places>>);

/// By name and turn; `None`: nothing was reported yet.
type Places = BTreeMap<(Box<str>, u64), Option<State>>;

/// `None`: ready; otherwise why not.
type State = Option<Cow<'static, str>>;

/// One part's place on the board: dropping it takes the part off. At a reload the new part and the old one
/// of the same name stand there for a while; the later one that has reported is shown.
#[derive(Debug)]
#[must_use = "dropping it takes the part off the board"]
pub struct Reporter {
    board: Board,
    place: (Box<str>, u64),
}

/// What a part last said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The part's name: `issuer:project`, `upstream:app`, `draining`.
    pub name: Box<str>,
    /// Why it is not ready; `None` when it is.
    pub reason: Option<Cow<'static, str>>,
}

impl Board {
    /// Takes a place for the part `name`: not ready (`starting`) until it reports otherwise. Where the name
    /// is on the board already, what its predecessor says stands until the new one reports, so that a
    /// reload does not make a ready gateway look unready.
    pub fn part(&self, name: impl Into<Box<str>>) -> Reporter {
        let place = (name.into(), next_turn());
        self.lock().insert(place.clone(), None);
        Reporter {
            board: self.clone(),
            place,
        }
    }

    /// Whether every part is ready.
    pub fn ready(&self) -> bool {
        self.parts().iter().all(|part| part.reason.is_none())
    }

    /// What each part last said, by name.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        // Turns of one name come in their order, so a later report takes an earlier one's place.
        for ((name, _turn), state) in self.lock().iter() {
            let known = parts.last_mut().filter(|part| part.name == *name);
            match (known, state) {
                (Some(part), Some(reason)) => part.reason.clone_from(reason),
                (Some(_), None) => {}
                (None, state) => parts.push(Part {
                    name: name.clone(),
                    reason: state.clone().unwrap_or(Some(Cow::Borrowed("starting"))),
                }),
            }
        }
        parts
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

    fn lock(&self) -> MutexGuard<'_, Places> {
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

    fn report(&self, state: State) {
        self.board.lock().insert(self.place.clone(), Some(state));
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.board.lock().remove(&self.place);
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
    fn a_successor_takes_the_place_over_once_it_reports() {
        let board = Board::default();
        let old = board.part("issuer:project");
        old.ready();
        let new = board.part("issuer:project");
        assert!(board.ready());
        assert_eq!(board.parts().len(), 1);
        new.not_ready("no keys");
        assert!(!board.ready());
        // The old part's late word counts for nothing, and its end takes nothing away.
        old.ready();
        assert!(!board.ready());
        drop(old);
        assert_eq!(board.parts().len(), 1);
        new.ready();
        assert!(board.ready());
        drop(new);
        assert!(board.parts().is_empty());
    }

    #[test]
    fn a_successor_that_is_given_up_leaves_its_predecessor_in_place() {
        let board = Board::default();
        let old = board.part("upstream:app");
        old.not_ready("no endpoint is up");
        let new = board.part("upstream:app");
        new.ready();
        drop(new);
        assert!(!board.ready());
        drop(old);
    }
}
