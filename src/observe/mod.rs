//! What can be seen from outside: logs, the access and audit lines, metrics, readiness, request ids.
//! Nothing here decides anything, and nothing here may see a token or a password. All text that came from
//! a client is escaped on its way out, and no sink that stalls can hold a request up.

pub mod access;
mod cells;
pub mod event;
pub mod exposition;
mod line;
pub mod log;
pub mod metrics;
pub mod process;
pub mod readiness;
pub mod request_id;
pub mod sparing;
pub mod text;
pub mod writer;

use std::sync::atomic::{AtomicU64, Ordering};

/// What kind of exchange a line or a figure is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A request and its answer.
    #[default]
    Http,
    /// A stream of server-sent events.
    Sse,
    /// A WebSocket tunnel.
    Websocket,
}

impl Kind {
    /// Every kind, in the order of the enum.
    pub const ALL: [Self; 3] = [Self::Http, Self::Sse, Self::Websocket];

    /// The stable word, in logs and labels alike.
    pub fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Sse => "sse",
            Self::Websocket => "websocket",
        }
    }
}

/// A number greater than every one before it: which of two holders of one name came later.
fn next_turn() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
