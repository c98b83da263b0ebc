//! Live streams: each SSE stream and WebSocket joins with its permit and learns here when it must end
//! (token expired, no longer allowed after a reload, draining). Writes to no socket: a carrier waits on
//! its `Membership` and says goodbye in its own protocol.

/// Why a stream must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The token's time is over.
    Expired,
    /// The caller may no longer do this: revoked, or a reload changed the policy.
    Revoked,
    /// The gateway is shutting down.
    Draining,
}

impl End {
    /// The stable word: the event's name or the close reason, and the metric's label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Expired => "auth_expired",
            Self::Revoked => "auth_revoked",
            Self::Draining => "draining",
        }
    }
}
