//! One thread's connection to Redis: made at the first call, shared by all calls of the thread, mended in the
//! background with growing pauses. While the first attempt is under way calls wait for it, within their time; once it
//! has failed they are told at once.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::{Cmd, RedisResult, Value};
use tokio::sync::watch;

use super::dial::{Dial, Line};
use super::figures::Counts;

/// One thread's connection.
pub(super) struct Lane {
    state: watch::Sender<State>,
    pub(super) counts: Counts,
}

/// A connection that calls may use.
#[derive(Clone)]
pub(super) struct Link {
    line: Line,
    /// Which one it is, for a late complaint about one that was replaced.
    turn: u64,
}

#[derive(Clone)]
enum State {
    /// Nobody seeks a connection.
    Idle(u64),
    /// The first attempt is under way.
    Seeking(u64),
    Up(Link),
    /// An attempt failed; the next is made after a pause.
    Down(u64),
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(State::Idle(0)),
            counts: Counts::default(),
        }
    }
}

impl Lane {
    /// Whether a call would be tried.
    pub(super) fn is_open(&self) -> bool {
        !matches!(*self.state.borrow(), State::Down(_))
    }

    /// The connection; waits for the first attempt to have one. `None`: there is none, and the next attempt is not
    /// waited for.
    pub(super) async fn link(self: &Arc<Self>, dial: &Arc<Dial>) -> Option<Link> {
        if let State::Up(link) = &*self.state.borrow() {
            return Some(link.clone());
        }
        let mut state = self.state.subscribe();
        loop {
            match &*state.borrow_and_update() {
                State::Up(link) => return Some(link.clone()),
                State::Down(_) => return None,
                State::Idle(_) | State::Seeking(_) => {}
            }
            self.seek(dial);
            state.changed().await.ok()?;
        }
    }

    /// A connection broke off: another is sought, unless that was seen already.
    pub(super) fn gave_up(self: &Arc<Self>, link: &Link, dial: &Arc<Dial>) {
        self.state.send_if_modified(|state| match state {
            State::Up(current) if current.turn == link.turn => {
                *state = State::Idle(link.turn);
                true
            }
            _ => false,
        });
        self.seek(dial);
    }

    /// A call got no answer in time: its connection is not used again, whatever became of it.
    pub(super) fn stalled(self: &Arc<Self>, dial: &Arc<Dial>) {
        let link = match &*self.state.borrow() {
            State::Up(link) => Some(link.clone()),
            _ => None,
        };
        if let Some(link) = link {
            self.gave_up(&link, dial);
        }
    }

    /// Seeks a connection, unless somebody does already.
    fn seek(self: &Arc<Self>, dial: &Arc<Dial>) {
        let begin = self.state.send_if_modified(|state| match state {
            State::Idle(turn) => {
                *state = State::Seeking(*turn + 1);
                true
            }
            _ => false,
        });
        if begin {
            let seeker = Seeker(Arc::downgrade(self));
            tokio::spawn(seeker.run(Arc::clone(dial)));
        }
    }

    fn turn(&self) -> u64 {
        match &*self.state.borrow() {
            State::Idle(turn) | State::Seeking(turn) | State::Down(turn) => *turn,
            State::Up(link) => link.turn,
        }
    }
}

impl Link {
    /// Sends a command and waits for its answer, for ever.
    pub(super) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.line.send(command).await
    }
}

/// Who seeks a connection for a lane, until one is there or the lane is gone.
struct Seeker(Weak<Lane>);

impl Seeker {
    async fn run(self, dial: Arc<Dial>) {
        let mut pause = SHORTEST;
        loop {
            let dialled = dial.line().await;
            let Some(lane) = self.0.upgrade() else {
                return;
            };
            let turn = lane.turn();
            match dialled {
                Ok(line) => {
                    lane.state.send_replace(State::Up(Link { line, turn }));
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "Redis cannot be reached");
                    lane.state.send_replace(State::Down(turn));
                }
            }
            drop(lane);
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST);
        }
    }
}

/// Where the runtime ends before a connection was found, the next caller seeks anew.
impl Drop for Seeker {
    fn drop(&mut self) {
        if let Some(lane) = self.0.upgrade() {
            lane.state.send_if_modified(|state| match state {
                State::Seeking(turn) | State::Down(turn) => {
                    *state = State::Idle(*turn);
                    true
                }
                State::Idle(_) | State::Up(_) => false,
            });
        }
    }
}

/// Between three quarters of a pause and all of it, so that many lanes do not knock at once.
pub(super) fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness they do knock at once.
    let _ = getrandom::fill(&mut byte);
    pause.mul_f64(1.0 - f64::from(byte[0]) / 1024.0)
}

const SHORTEST: Duration = Duration::from_millis(50);
/// How long a Redis that is back may go unnoticed.
const LONGEST: Duration = Duration::from_secs(1);
