//! How somebody stays: a refresh token for the next pair, or, in the app API, an access token for another one.
//! The user is read afresh, so that what changed meanwhile is in the new token.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::attempts::Class;
use super::log_in::may_use;
use super::refresh::{self, Decision, Limits, Presented, Unread};
use super::tally::OK;
use super::{AccountError, Accounts, SignedIn, Told, Who};
use crate::identity::{access_token, jwt};
use crate::records::{Api, Client, Session, SessionId, UnixMillis, User, UserId};
use crate::refusal::Refusal;
use crate::state::Ended;
use crate::store::{Change, SessionChange};

/// What the transaction found, and did.
type Found = Result<(Session, User), AccountError>;

impl Accounts {
    /// Exchanges a refresh token for new tokens. Concurrent calls with one token, and calls with the one before the
    /// newest, get the same new one; what is older than that ends the session.
    ///
    /// # Errors
    /// `RefreshMalformed`, `RefreshUnknown` (also: the session has ended, the user is gone), `RefreshReused`,
    /// `SessionExpired`, `UserBanned`, `UserDisabled`, `Busy`, `Unavailable`, `Failed`.
    pub async fn refresh(
        &self,
        api: Api,
        presented: &str,
        client: &Client,
    ) -> Result<SignedIn, AccountError> {
        // Overload signs nobody out: clients take a 429 for the end, and try again after a 503.
        let taken = self.attempts.take(Class::Refresh, client.address);
        taken.map_err(|many| AccountError::Busy {
            retry_after: many.retry_after,
        })?;
        let token = Presented::read(presented).map_err(|unread| match unread {
            Unread::Malformed => AccountError::RefreshMalformed,
            Unread::Foreign => AccountError::RefreshUnknown,
        })?;
        let ours = token.is_ours(&self.vault, api);
        if !ours.map_err(|error| AccountError::failed(&error))? {
            return Err(AccountError::RefreshUnknown);
        }
        let client = client.clone();
        self.finish(move |it| async move { it.refresh_to_the_end(api, token, &client).await })
            .await
    }

    async fn refresh_to_the_end(
        &self,
        api: Api,
        token: Presented,
        client: &Client,
    ) -> Result<SignedIn, AccountError> {
        let id = token.session;
        let refreshed = self.rotate(api, token, client).await;
        if refreshed == Err(AccountError::RefreshReused) {
            self.ended(Ended::Session(id)).await;
            self.tally.count_theft(api);
        }
        let who = refreshed
            .as_ref()
            .map(|(session, user)| (user.id, session.id));
        self.told_renewal("refresh", (api, who, id), client);
        let (session, user) = refreshed?;
        let signed_in = self.tokens(user, session, Vec::new())?;
        self.renewed(&signed_in);
        Ok(signed_in)
    }

    /// A new access token for a session of the app API, whose old one was verified, be it expired.
    ///
    /// # Errors
    /// `SessionGone` (also: of another API), `SessionExpired`, `UserGone`, `UserBanned`, `UserDisabled`, `Busy`,
    /// `Unavailable`, `Failed`.
    pub async fn renew(&self, who: Who, client: &Client) -> Result<SignedIn, AccountError> {
        let taken = self.attempts.take(Class::Refresh, client.address);
        taken.map_err(|many| AccountError::Busy {
            retry_after: many.retry_after,
        })?;
        let now = self.now();
        let limits = self.settings().limits(Api::App);
        let client_now = client.clone();
        let renewed = self
            .look_and_change(who.session, move |session, user| {
                if session.api != Api::App || user.id != who.user || session.ended_at.is_some() {
                    return Err(AccountError::SessionGone);
                }
                may_use(user, now)?;
                still_alive(session, now, &limits)?;
                Ok(used(session, client_now, now))
            })
            .await
            .and_then(|found| found.ok_or(AccountError::SessionGone));
        let names = renewed
            .as_ref()
            .map(|(session, user)| (user.id, session.id));
        self.told_renewal("renew", (Api::App, names, who.session), client);
        let (session, user) = renewed?;
        let signed_in = self.tokens(user, session, Vec::new())?;
        self.renewed(&signed_in);
        Ok(signed_in)
    }

    /// The same by the text of the old access token, also of one that expired at most `within` ago.
    ///
    /// # Errors
    /// As `renew`; `RefreshUnknown` where the token is none of ours, `SessionExpired` where it is too old.
    pub async fn renew_expired(
        &self,
        access_token: &str,
        within: Duration,
        client: &Client,
    ) -> Result<SignedIn, AccountError> {
        let who = self.whose(access_token, within).await?;
        self.renew(who, client).await
    }

    /// Whose an access token is that we signed, and that expired at most `within` ago, if at all.
    async fn whose(&self, token: &str, within: Duration) -> Result<Who, AccountError> {
        let token = jwt::read(token).map_err(|_| AccountError::RefreshUnknown)?;
        let verified = match self.keyring.verify(&token.jws) {
            Err(Refusal::KeyUnknown) if self.keyring.reload().await => {
                self.keyring.verify(&token.jws)
            }
            verified => verified,
        };
        verified.map_err(|refusal| match refusal {
            Refusal::KeysUnavailable => AccountError::Unavailable,
            _ => AccountError::RefreshUnknown,
        })?;
        let claims = token
            .jws
            .claims()
            .map_err(|_| AccountError::RefreshUnknown)?;
        let settings = self.settings();
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let id = |name: &str| text(name).and_then(|id| Uuid::try_parse(id).ok());
        let ours = text("iss") == Some(&*settings.config.issuer)
            && text("aud") == Some(access_token::AUDIENCE);
        let expires = claims.get("exp").and_then(Value::as_u64);
        match (ours, id("sub"), id("session_id"), expires) {
            (true, Some(_), Some(_), Some(expires))
                if self.clock.now() > expires.saturating_add(within.as_secs()) =>
            {
                Err(AccountError::SessionExpired)
            }
            (true, Some(user), Some(session), Some(_)) => Ok(Who {
                user: UserId(user),
                session: SessionId(session),
                token: None,
            }),
            _ => Err(AccountError::RefreshUnknown),
        }
    }

    /// The decision on a token and what follows from it, in one transaction of the store.
    async fn rotate(&self, api: Api, token: Presented, client: &Client) -> Found {
        let settings = self.settings();
        let (now, limits) = (self.now(), settings.limits(api));
        let reuse = settings.config.refresh_reuse;
        let client = client.clone();
        let verdict: Arc<OnceLock<AccountError>> = Arc::default();
        let theft = Arc::clone(&verdict);
        let found = self
            .look_and_change(token.session, move |session, user| {
                if session.api != api || session.ended_at.is_some() || user.deleted_at.is_some() {
                    return Err(AccountError::RefreshUnknown);
                }
                may_use(user, now)?;
                still_alive(session, now, &limits)?;
                match refresh::decide(session, token.counter, now, reuse) {
                    Decision::Rotate(counter) => Ok(Session {
                        refresh_counter: counter,
                        refreshed_at: Some(now),
                        ..used(session, client, now)
                    }),
                    Decision::Again(_) => Ok(session.clone()),
                    Decision::NeverMade => Err(AccountError::RefreshMalformed),
                    Decision::Theft => {
                        // The call fails, and yet the end is written.
                        let _ = theft.set(AccountError::RefreshReused);
                        Ok(Session {
                            ended_at: Some(now),
                            ..session.clone()
                        })
                    }
                }
            })
            .await?;
        match verdict.get() {
            Some(error) => Err(error.clone()),
            None => found.ok_or(AccountError::RefreshUnknown),
        }
    }

    /// Looks at a session and its user, and writes what comes of the session, in one transaction. `None`: there is
    /// no such session.
    async fn look_and_change(
        &self,
        id: SessionId,
        look: impl FnOnce(&Session, &User) -> Result<Session, AccountError> + Send + 'static,
    ) -> Result<Option<(Session, User)>, AccountError> {
        let seen: Arc<OnceLock<Result<User, AccountError>>> = Arc::default();
        let sees = Arc::clone(&seen);
        let change: SessionChange = Box::new(move |session, user| {
            let (answer, change) = match look(session, user) {
                Ok(next) if next == *session => (Ok(user.clone()), Change::Keep),
                Ok(next) => (Ok(user.clone()), Change::Write(next)),
                Err(error) => (Err(error), Change::Keep),
            };
            let _ = sees.set(answer);
            change
        });
        let session = self.store.change_session(id, change).await?;
        let (Some(session), Some(user)) = (session, seen.get()) else {
            return Ok(None);
        };
        Ok(Some((session, user.clone()?)))
    }

    fn told_renewal(
        &self,
        name: &'static str,
        (api, who, session): (Api, Result<(UserId, SessionId), &AccountError>, SessionId),
        client: &Client,
    ) {
        self.tell(&Told {
            name,
            result: who.map_or_else(AccountError::word, |_| OK),
            api: Some(api),
            user: who.ok().map(|who| who.0),
            session: Some(session),
            client: Some(client),
            ..Told::default()
        });
    }
}

fn still_alive(session: &Session, now: UnixMillis, limits: &Limits) -> Result<(), AccountError> {
    match refresh::is_alive(session, now, limits) {
        true => Ok(()),
        false => Err(AccountError::SessionExpired),
    }
}

/// The session, used by this client now.
fn used(session: &Session, client: Client, now: UnixMillis) -> Session {
    Session {
        client,
        refreshed_at: Some(now),
        last_used_at: now.max(session.last_used_at),
        ..session.clone()
    }
}
