//! The credential: found wherever the route allows it, taken out of the request, never printed.

use crate::secret::Secret;

/// A token as it came, and where it stood.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The token's text: visible ASCII, at most 8 KiB.
    pub token: Secret<Box<str>>,
    /// Where it stood.
    pub place: Place,
}

/// Where a credential stood, for `explain`, for the log, and because a cookie needs an `Origin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `Authorization: Bearer`.
    Bearer,
    /// A header of its own.
    Header,
    /// A query parameter.
    Query,
    /// A cookie: sent by the browser on its own, so cross-site requests carry it too.
    Cookie,
    /// `Sec-WebSocket-Protocol: bearer, <token>`.
    Subprotocol,
}
