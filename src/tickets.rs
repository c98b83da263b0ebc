//! Tickets: what stands for a token in the URL of an `EventSource` or a `WebSocket`, so that no token is ever in one.
//! A ticket is good once, for a short time, on one path with one method. What it stands for is sealed under a key that
//! follows from the ticket, the method and the path: whoever keeps it (`memory.rs`, `shared.rs`) can open nothing, and
//! at another path there is no such ticket. An event stream that broke off may be resumed with the ticket that opened
//! it, since an `EventSource` asks for its URL again.

mod form;
mod memory;
mod shared;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};

use self::form::{Key, Ticket};
use self::memory::Memory;
use self::shared::Shared;
use crate::clock::{Clock, UnixSeconds};
use crate::config;
use crate::identity::Identity;
use crate::refusal::Refusal;
use crate::secret::Secret;
use crate::state::redis::Redis;
use crate::streams::{End, Left};

/// All tickets of the process, or of all gateways that share a Redis.
pub struct Tickets {
    shelf: Shelf,
    clock: Clock,
}

/// Where they are kept.
enum Shelf {
    Memory(Memory),
    Shared(Shared),
}

/// What a ticket is for.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Use<'u> {
    pub method: &'u str,
    pub path: &'u str,
    /// Whether it may open this once more after the stream that it opens has ended.
    pub again: Again,
}

/// Whether a ticket may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Again {
    Never,
    OnceEnded,
}

/// A ticket that was made.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Issued {
    pub ticket: Secret<String>,
    /// Seconds.
    pub expires_in: u64,
}

/// A ticket that was used.
#[derive(Debug)]
pub struct Redeemed {
    /// The token that it stands for, to be verified anew.
    pub token: Secret<Box<str>>,
    /// What it must be given back by; `None`: it is spent.
    pub hold: Option<Hold>,
}

/// What is kept of a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    sealed: Box<[u8]>,
    owner: Owner,
    /// When it is forgotten if nobody uses it.
    expires: UnixSeconds,
    /// When the token ends.
    ends_at: UnixSeconds,
}

/// The hash that a ticket is known by.
type Id = [u8; 32];
/// The hash of whose tickets are counted.
type Owner = [u8; 16];

/// Why there is no ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// There is none, or none any more, or it is for something else.
    #[error("no such ticket")]
    Invalid,
    /// The stream that it opened lives still.
    #[error("the ticket's stream is open")]
    InUse,
    /// The user has too many.
    #[error("too many tickets")]
    TooMany,
    /// Where they are kept cannot be reached.
    #[error("tickets cannot be looked up")]
    Away,
    /// The library failed.
    #[error("the ticket could not be made")]
    Failed,
}

impl Tickets {
    /// Tickets of this process.
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            shelf: Shelf::Memory(Memory::default()),
            clock,
        })
    }

    /// Tickets of all gateways that share this Redis.
    pub fn shared(redis: &Arc<Redis>, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            shelf: Shelf::Shared(Shared::new(redis)),
            clock,
        })
    }

    /// Makes one for the bearer of a token.
    ///
    /// # Errors
    /// `TooMany`, `Away`, `Failed`.
    pub async fn issue(
        &self,
        settings: &config::Tickets,
        bearer: &Identity,
        place: &Use<'_>,
    ) -> Result<Issued, TicketError> {
        let ticket = Ticket::random().ok_or(TicketError::Failed)?;
        let key = ticket.key(place).ok_or(TicketError::Failed)?;
        let now = self.clock.now();
        let record = Record {
            sealed: key.seal(bearer).ok_or(TicketError::Failed)?,
            owner: owner(bearer),
            expires: now.saturating_add(settings.lifetime).min(bearer.ends_at),
            ends_at: bearer.ends_at,
        };
        let expires_in = record.expires.saturating_sub(now);
        match &self.shelf {
            Shelf::Memory(memory) => memory.put(key.id, record, (settings.per_user, now))?,
            Shelf::Shared(shared) => {
                shared
                    .put(key.id, &record, (settings.per_user, now))
                    .await?
            }
        }
        Ok(Issued {
            ticket: ticket.text(),
            expires_in,
        })
    }

    /// Uses one: of several at once exactly one does.
    ///
    /// # Errors
    /// `Invalid`, `InUse`, `Away`.
    pub async fn redeem(
        self: &Arc<Self>,
        text: &str,
        place: &Use<'_>,
        per_user: usize,
    ) -> Result<Redeemed, TicketError> {
        let ticket = Ticket::read(text).ok_or(TicketError::Invalid)?;
        let key = ticket.key(place).ok_or(TicketError::Failed)?;
        let sealed = match &self.shelf {
            Shelf::Memory(memory) => memory.take(&key.id, place.again, self.clock.now())?,
            Shelf::Shared(shared) => shared.take(&key.id, place.again).await?,
        };
        // From here on it is given back, whatever happens.
        let id = key.id;
        let opened = key.open(&sealed);
        let hold = (place.again == Again::OnceEnded).then(|| Hold {
            tickets: Arc::clone(self),
            key: Some(key),
            per_user,
        });
        let token = opened.ok_or_else(|| {
            tracing::warn!("a ticket's record was damaged: {}", id[0]);
            TicketError::Invalid
        })?;
        Ok(Redeemed { token, hold })
    }

    fn spend(self: &Arc<Self>, id: Id) {
        match &self.shelf {
            Shelf::Memory(memory) => memory.remove(&id),
            Shelf::Shared(shared) => shared.remove(id),
        }
    }

    fn rest(self: &Arc<Self>, id: Id, record: Record, per_user: usize) {
        match &self.shelf {
            Shelf::Memory(memory) => memory.rest(id, record, (per_user, self.clock.now())),
            Shelf::Shared(shared) => shared.rest(id, record, per_user),
        }
    }

    /// Looks after tickets that are in use, where others must know that they are; for ever.
    pub async fn keep(&self) {
        if let Shelf::Shared(shared) = &self.shelf {
            shared.renew().await;
        }
    }
}

/// A ticket in use: when its stream has ended it may be used again; when no stream came of it, it is spent.
pub struct Hold {
    tickets: Arc<Tickets>,
    key: Option<Key>,
    per_user: usize,
}

impl Hold {
    /// Its stream has ended. Where the session lives, the ticket may open it again, and stands for its newest token.
    pub fn leave(mut self, left: &Left) {
        let over = matches!(left.end, Some(End::Expired | End::Revoked));
        if let (Some(key), Some(identity), false) = (&self.key, left.permit.identity(), over)
            && let Some(sealed) = key.seal(identity)
        {
            let record = Record {
                sealed,
                owner: owner(identity),
                expires: identity.ends_at,
                ends_at: identity.ends_at,
            };
            self.tickets.rest(key.id, record, self.per_user);
            self.key = None;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.tickets.spend(key.id);
        }
    }
}

/// Whose tickets are counted together.
fn owner(identity: &Identity) -> Owner {
    let text = [identity.issuer.as_bytes(), identity.user_id.as_bytes()].join(&0);
    let hash = digest(&SHA256, &text);
    let mut owner = Owner::default();
    owner.copy_from_slice(&hash.as_ref()[..16]);
    owner
}

impl From<TicketError> for Refusal {
    fn from(error: TicketError) -> Self {
        match error {
            TicketError::Invalid => Self::TicketInvalid,
            TicketError::InUse => Self::TicketInUse,
            TicketError::TooMany => Self::TicketsExceeded,
            TicketError::Away => Self::TicketsUnavailable,
            TicketError::Failed => Self::Internal,
        }
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hold")
    }
}
