//! What users do with their sessions: log out, and look after conversations.

use super::log_in::Conversation;
use super::tally::OK;
use super::tokens;
use super::{AccountError, Accounts, Told, Who};
use crate::records::{Api, Client, Job, Session, SessionId, User, UserId};
use crate::state::Ended;
use crate::store::{Change, NewSession, SessionChange, SessionSummary, Sessions, SignIn, Tokens};

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
        let client = client.clone();
        self.finish(
            move |it| async move { it.log_out_to_the_end(api, who, (scope, &client)).await },
        )
        .await
    }

    async fn log_out_to_the_end(
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
                self.ended(Ended::Token(number)).await;
            }
            None => {
                self.store
                    .end_sessions(Sessions::One(who.session), self.now())
                    .await?;
                self.ended(Ended::Session(who.session)).await;
            }
        }
        Ok(())
    }

    /// Ends every token of a user. Conversations stay, for the next log-in.
    pub(super) async fn end_all(&self, user: UserId) -> Result<(), AccountError> {
        let log_ins = Sessions::LogIns(user);
        self.store.end_sessions(log_ins, self.now()).await?;
        self.store.revoke_tokens(Tokens::All(user)).await?;
        self.ended(Ended::User(user)).await;
        Ok(())
    }

    /// Ends every token of a user but the one in hand.
    pub(super) async fn end_others(&self, who: Who) -> Result<(), AccountError> {
        match who.token {
            Some(number) => {
                let log_ins = Sessions::LogIns(who.user);
                self.store.end_sessions(log_ins, self.now()).await?;
                self.store
                    .revoke_tokens(Tokens::Others(who.user, number))
                    .await?;
                self.ended(Ended::UserExceptToken(who.user, number)).await;
            }
            None => {
                let others = Sessions::OtherLogIns(who.user, who.session);
                self.store.end_sessions(others, self.now()).await?;
                self.store.revoke_tokens(Tokens::All(who.user)).await?;
                self.ended(Ended::UserExceptSession(who.user, who.session))
                    .await;
            }
        }
        Ok(())
    }

    /// Tells what a log-in ended because its user had too much of it.
    pub(super) async fn ended_surplus(&self, surplus: Vec<Ended>) {
        if surplus.is_empty() {
            return;
        }
        let told = self.finish(move |it| async move {
            for ended in surplus {
                it.ended(ended).await;
            }
            Ok(())
        });
        if let Err(error) = told.await {
            tracing::warn!(%error, "the end of sessions beyond max_sessions was not told");
        }
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
        self.ended(Ended::Session(session.id)).await;
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

    /// Makes another conversation of a user, with its first token.
    ///
    /// # Errors
    /// `InvalidName`, `UserGone`, `UserDisabled`, `UserBanned`, `Unavailable`, `Failed`.
    pub async fn new_conversation(
        &self,
        who: Who,
        name: Option<&str>,
        client: &Client,
    ) -> Result<Conversation, AccountError> {
        let user = self.user(who.user).await?;
        let (token, hash) = tokens::opaque();
        let new = NewSession {
            name: name.map(session_name).transpose()?,
            token: Some(hash),
            ..self.conversation(user.id, client, SignIn::No)
        };
        let opened = self.store.add_session(new).await?;
        let opened = opened.ok_or(AccountError::UserGone)?;
        self.ended_surplus(opened.surplus).await;
        Ok(Conversation {
            session: opened.session,
            user: opened.user,
            token,
        })
    }

    /// All sessions of a user, ended ones too, the most recently used first.
    ///
    /// # Errors
    /// `Unavailable`, `Failed`.
    pub async fn sessions_of(&self, user: UserId) -> Result<Vec<SessionSummary>, AccountError> {
        Ok(self.store.sessions_of(user).await?)
    }

    /// A user's session by its number.
    ///
    /// # Errors
    /// `NotFound` (also: another user's), `Unavailable`, `Failed`.
    pub async fn session_by_number(
        &self,
        user: UserId,
        number: i64,
    ) -> Result<SessionSummary, AccountError> {
        let found = self.store.session_by_number(user, number).await?;
        found.ok_or(AccountError::NotFound)
    }

    /// Gives a session another name.
    ///
    /// # Errors
    /// `InvalidName`, `NotFound`, `Unavailable`, `Failed`.
    pub async fn rename_session(
        &self,
        user: UserId,
        number: i64,
        name: &str,
    ) -> Result<Session, AccountError> {
        let name = session_name(name)?;
        let found = self.session_by_number(user, number).await?;
        let change: SessionChange = Box::new(move |session, _| {
            Change::Write(Session {
                name: Some(name),
                ..session.clone()
            })
        });
        let changed = self.store.change_session(found.session.id, change).await?;
        changed.ok_or(AccountError::NotFound)
    }

    /// Deletes a session with its tokens and jobs.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`, `Failed`.
    pub async fn delete_session(
        &self,
        who: Who,
        number: i64,
        client: &Client,
    ) -> Result<(), AccountError> {
        let client = client.clone();
        self.finish(move |it| async move { it.delete_to_the_end(who, number, &client).await })
            .await
    }

    async fn delete_to_the_end(
        &self,
        who: Who,
        number: i64,
        client: &Client,
    ) -> Result<(), AccountError> {
        let found = self.session_by_number(who.user, number).await?;
        let id = found.session.id;
        let change: SessionChange = Box::new(|_, _| Change::Delete);
        self.store.change_session(id, change).await?;
        self.ended(Ended::Session(id)).await;
        self.tell(&Told {
            name: "session_delete",
            result: OK,
            user: Some(who.user),
            session: Some(id),
            client: Some(client),
            ..Told::default()
        });
        Ok(())
    }

    /// The jobs of a session, the newest first.
    ///
    /// # Errors
    /// `Unavailable`, `Failed`.
    pub async fn jobs_of(&self, session: SessionId, limit: u64) -> Result<Vec<Job>, AccountError> {
        Ok(self.store.jobs_of(session, limit).await?)
    }
}

/// A session's name: a line of text.
fn session_name(text: &str) -> Result<Box<str>, AccountError> {
    let text = text.trim();
    let fits = (1..=200).contains(&text.chars().count());
    match fits && !text.chars().any(char::is_control) {
        true => Ok(text.into()),
        false => Err(AccountError::InvalidName),
    }
}
