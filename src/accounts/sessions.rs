//! What users do with their sessions: log out, and look after conversations.

use super::tally::OK;
use super::{AccountError, Accounts, Told, Who};
use crate::records::{Api, Client, Session, User, UserId};
use crate::state::Ended;
use crate::store::{Sessions, Tokens};

/// How much a log-out ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// What is in hand.
    Local,
    /// All tokens of the user, in every API.
    Global,
    /// All but what is in hand.
    Others,
}

impl Accounts {
    /// Logs out. What a log-in made ends as a session; a conversation stays, and the token in hand ends.
    ///
    /// # Errors
    /// `SessionGone`, `Unavailable`, `Failed`.
    pub async fn log_out(
        &self,
        api: Api,
        who: Who,
        (scope, client): (Scope, &Client),
    ) -> Result<(), AccountError> {
        match scope {
            Scope::Local => self.end_in_hand(who).await?,
            Scope::Global => self.end_all(who.user).await?,
            Scope::Others => self.end_others(who).await?,
        }
        self.tell(&Told {
            name: match scope {
                Scope::Local => "log_out",
                Scope::Global => "log_out_everywhere",
                Scope::Others => "log_out_others",
            },
            result: OK,
            api: Some(api),
            user: Some(who.user),
            session: Some(who.session),
            client: Some(client),
            ..Told::default()
        });
        Ok(())
    }

    async fn end_in_hand(&self, who: Who) -> Result<(), AccountError> {
        match who.token {
            Some(number) => {
                self.store.revoke_tokens(Tokens::One(number)).await?;
                self.ended(Ended::Token(number));
            }
            None => {
                self.store
                    .end_sessions(Sessions::One(who.session), self.now())
                    .await?;
                self.ended(Ended::Session(who.session));
            }
        }
        Ok(())
    }

    /// Ends every token of a user. Conversations stay, for the next log-in.
    pub(super) async fn end_all(&self, user: UserId) -> Result<(), AccountError> {
        self.end_log_ins(user, None).await?;
        self.store.revoke_tokens(Tokens::All(user)).await?;
        self.ended(Ended::User(user));
        Ok(())
    }

    /// Ends every token of a user but the one in hand.
    pub(super) async fn end_others(&self, who: Who) -> Result<(), AccountError> {
        match who.token {
            Some(number) => {
                self.end_log_ins(who.user, None).await?;
                self.store
                    .revoke_tokens(Tokens::Others(who.user, number))
                    .await?;
                self.ended(Ended::UserExceptToken(who.user, number));
            }
            None => {
                self.end_log_ins(who.user, Some(&who)).await?;
                self.store.revoke_tokens(Tokens::All(who.user)).await?;
                self.ended(Ended::UserExceptSession(who.user, who.session));
            }
        }
        Ok(())
    }

    /// Ends what log-ins made, in the store.
    async fn end_log_ins(&self, user: UserId, but: Option<&Who>) -> Result<(), AccountError> {
        let sessions = self.store.sessions_of(user).await?;
        let live = sessions.into_iter().map(|it| it.session).filter(|session| {
            session.api != Api::Session
                && session.ended_at.is_none()
                && but.is_none_or(|but| but.session != session.id)
        });
        for session in live {
            self.store
                .end_sessions(Sessions::One(session.id), self.now())
                .await?;
        }
        Ok(())
    }

    /// Ends one session with all its tokens.
    pub(super) async fn end_session(&self, session: &Session) -> Result<(), AccountError> {
        match session.api {
            Api::Session => {
                self.store
                    .revoke_tokens(Tokens::OfSession(session.id))
                    .await?;
            }
            _ => {
                self.store
                    .end_sessions(Sessions::One(session.id), self.now())
                    .await?;
            }
        }
        self.ended(Ended::Session(session.id));
        Ok(())
    }

    /// The session in hand, and its user, as they are now.
    ///
    /// # Errors
    /// `SessionGone`, `Unavailable`, `Failed`.
    pub async fn session(&self, who: Who) -> Result<(Session, User), AccountError> {
        let found = self.store.session(who.session).await?;
        found
            .filter(|(session, _)| session.user == who.user)
            .ok_or(AccountError::SessionGone)
    }
}
