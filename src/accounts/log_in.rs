//! How somebody gets in: with a password, into a conversation, or without credentials. Whoever the name is, and
//! whether it is anybody's, one hash is worked out; what it takes and what is answered tell nothing.

use super::attempts::Class;
use super::names::LoginName;
use super::passwords::{self, Weakness};
use super::profile;
use super::tokens;
use super::{AccountError, Accounts, SignedIn, Told};
use crate::records::{
    Api, Authentication, Client, Object, Session, SessionId, UnixMillis, User, UserId,
};
use crate::secret::Secret;
use crate::store::{Change, NewSession, Opened, SignIn};

/// A name and a password, as they were typed.
#[derive(Clone, Debug)]
pub struct Login {
    /// A username, or an e-mail address.
    pub name: String,
    /// Of any length: a caller need not check it.
    pub password: Secret<String>,
}

/// A conversation somebody has logged into.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Conversation {
    pub user: User,
    pub session: Session,
    /// The new opaque token. It is not told again.
    pub token: Secret<String>,
}

impl Accounts {
    /// Logs in and makes a session.
    ///
    /// # Errors
    /// `InvalidCredentials`, `UserDisabled`, `UserBanned`, `EmailNotConfirmed` (the last three only with the right
    /// password), `TooMany`, `Busy`, `Unavailable`, `Failed`.
    pub async fn log_in(
        &self,
        api: Api,
        login: Login,
        client: &Client,
    ) -> Result<SignedIn, AccountError> {
        let signed_in = self.log_in_untold(api, login, client).await;
        let who = signed_in.as_ref().map(|it| (it.user.id, it.session.id));
        self.told_log_in(api, who, client);
        signed_in
    }

    /// Logs in to the user's most recently used conversation that has not ended, or to a first one, with a new token.
    ///
    /// # Errors
    /// As `log_in`.
    pub async fn log_in_conversation(
        &self,
        login: Login,
        client: &Client,
    ) -> Result<Conversation, AccountError> {
        let conversation = self.log_in_conversation_untold(login, client).await;
        let who = conversation.as_ref().map(|it| (it.user.id, it.session.id));
        self.told_log_in(Api::Session, who, client);
        conversation
    }

    /// Makes a user without credentials, and logs it in.
    ///
    /// # Errors
    /// `AnonymousOff`, `MetadataTooLarge`, `TooMany`, `Unavailable`, `Failed`.
    pub async fn sign_in_anonymously(
        &self,
        api: Api,
        user_metadata: Object,
        client: &Client,
    ) -> Result<SignedIn, AccountError> {
        let signed_in = self.anonymous_untold(api, user_metadata, client).await;
        let who = signed_in.as_ref().map(|it| (it.user.id, it.session.id));
        self.told_log_in(api, who, client);
        signed_in
    }

    async fn log_in_untold(
        &self,
        api: Api,
        login: Login,
        client: &Client,
    ) -> Result<SignedIn, AccountError> {
        let (user, weaknesses) = self.check_password(login, client).await?;
        let (user, session) = self.new_session(user, api, "password", client).await?;
        self.tokens(user, session, weaknesses)
    }

    async fn log_in_conversation_untold(
        &self,
        login: Login,
        client: &Client,
    ) -> Result<Conversation, AccountError> {
        let (user, _) = self.check_password(login, client).await?;
        let (token, hash) = tokens::opaque();
        let most = self.settings().config.max_sessions;
        let resumed = self.store.resume_session(user.id, hash, self.now(), most);
        let opened = match resumed.await? {
            Some(opened) => opened,
            None => {
                let new = self.conversation(user.id, client, SignIn::Yes);
                let new = NewSession {
                    token: Some(hash),
                    ..new
                };
                self.store
                    .add_session(new)
                    .await?
                    .ok_or(AccountError::InvalidCredentials)?
            }
        };
        let (user, session) = self.still_the_same(&user, opened).await?;
        Ok(Conversation {
            user,
            session,
            token,
        })
    }

    async fn anonymous_untold(
        &self,
        api: Api,
        user_metadata: Object,
        client: &Client,
    ) -> Result<SignedIn, AccountError> {
        if !self.settings().config.anonymous {
            return Err(AccountError::AnonymousOff);
        }
        self.attempts.take(Class::Anonymous, client.address)?;
        let user = profile::anonymous(user_metadata, self.now())?;
        let user = self.store.add_user(user).await?;
        let (user, session) = self.new_session(user, api, "anonymous", client).await?;
        self.tokens(user, session, Vec::new())
    }

    /// The user whose password it is, and what the password lacks by now.
    async fn check_password(
        &self,
        login: Login,
        client: &Client,
    ) -> Result<(User, Vec<Weakness>), AccountError> {
        self.attempts.take(Class::LogIn, client.address)?;
        let name = LoginName::read(&login.name);
        let attempt = self.attempts.begin(name.key(), client.address).await?;
        let user = self.find(&name).await?;
        let rules = &self.settings().config.password;
        let weaknesses = passwords::weaknesses(rules, &login.password);
        match self.is_password(user.as_ref(), login.password).await? {
            Some(renewed) => {
                attempt.succeeded();
                let user = user.ok_or(AccountError::Failed)?;
                let user = self.rehash(user, renewed).await?;
                self.may_log_in(&user)?;
                Ok((user, weaknesses))
            }
            None => {
                attempt.failed();
                Err(AccountError::InvalidCredentials)
            }
        }
    }

    /// Whether it is the user's password; if so, its new hash where there should be one. Works out one hash,
    /// whoever it is.
    pub(super) async fn is_password(
        &self,
        user: Option<&User>,
        password: Secret<String>,
    ) -> Result<Option<Option<Secret<String>>>, AccountError> {
        let own = user.and_then(|user| user.password.as_ref());
        // None at all is no password, though a hash from elsewhere may be one of it.
        let possible = (1..=passwords::LONGEST).contains(&password.expose().len());
        let (hash, password) = match own {
            Some(hash) if possible => (hash.clone(), password),
            _ => (
                self.decoy.load().as_ref().clone(),
                // Nobody's, but as long as a password is.
                Secret::new(password.expose().chars().take(32).collect()),
            ),
        };
        let compared = self.hashing.compare(password, hash).await?;
        let matches = compared.matches && own.is_some() && possible;
        Ok(matches.then_some(compared.renewed))
    }

    pub(super) async fn find(&self, name: &LoginName) -> Result<Option<User>, AccountError> {
        Ok(match name {
            LoginName::Username(key) => self.store.user_by_name(key).await?,
            LoginName::Email(email) => self.store.user_by_email(email).await?,
            LoginName::Nobody(_) => None,
        })
    }

    /// Keeps the new hash, unless the password was changed meanwhile. That it cannot be kept now stops nobody.
    async fn rehash(
        &self,
        user: User,
        renewed: Option<Secret<String>>,
    ) -> Result<User, AccountError> {
        let Some(renewed) = renewed else {
            return Ok(user);
        };
        let old = user.password.clone();
        let change = Box::new(move |user: &User| match user.password == old {
            true => Change::Write(User {
                password: Some(renewed),
                ..user.clone()
            }),
            false => Change::Keep,
        });
        match self.store.change_user(user.id, change).await {
            Ok(Some(user)) => Ok(user),
            Ok(None) => Err(AccountError::InvalidCredentials),
            Err(error) => {
                tracing::warn!(%error, "a password's hash could not be renewed");
                Ok(user)
            }
        }
    }

    /// What is told only to those who know the password.
    pub(super) fn may_log_in(&self, user: &User) -> Result<(), AccountError> {
        let unconfirmed = user.email.is_some() && user.email_confirmed_at.is_none();
        match may_use(user, self.now()) {
            Ok(()) if unconfirmed && self.settings().config.confirm_email => {
                Err(AccountError::EmailNotConfirmed)
            }
            allowed => allowed,
        }
    }

    /// A new session of a user that was just found to be who it says.
    pub(super) async fn new_session(
        &self,
        user: User,
        api: Api,
        method: &str,
        client: &Client,
    ) -> Result<(User, Session), AccountError> {
        let now = self.now();
        let session = NewSession {
            id: SessionId(uuid::Uuid::new_v4()),
            user: user.id,
            api,
            name: None,
            client: client.clone(),
            authentication: authentication(method, now),
            refresh_counter: first_counter(api),
            created_at: now,
            token: None,
            signs_in: SignIn::Yes,
            most: self.settings().config.max_sessions,
        };
        let opened = self.store.add_session(session).await?;
        let opened = opened.ok_or(AccountError::InvalidCredentials)?;
        self.still_the_same(&user, opened).await
    }

    /// The user and the session as they were written. A password that was changed, or a user that was switched off,
    /// while the old password was looked at, ended what there was then: not this session, so it ends here. What
    /// is changed from now on finds the session, and ends it.
    async fn still_the_same(
        &self,
        seen: &User,
        opened: Opened,
    ) -> Result<(User, Session), AccountError> {
        let Opened {
            session,
            user,
            surplus,
        } = opened;
        self.ended_surplus(surplus).await;
        if user.password == seen.password && may_use(&user, self.now()).is_ok() {
            return Ok((user, session));
        }
        self.end_session(&session).await?;
        Err(AccountError::InvalidCredentials)
    }

    /// A conversation to be made, without a token yet.
    pub(super) fn conversation(
        &self,
        user: UserId,
        client: &Client,
        signs_in: SignIn,
    ) -> NewSession {
        let now = self.now();
        NewSession {
            id: SessionId(uuid::Uuid::new_v4()),
            user,
            api: Api::Session,
            name: None,
            client: client.clone(),
            authentication: authentication("password", now),
            refresh_counter: 0,
            created_at: now,
            token: None,
            signs_in,
            most: self.settings().config.max_sessions,
        }
    }

    fn told_log_in(
        &self,
        api: Api,
        who: Result<(UserId, SessionId), &AccountError>,
        client: &Client,
    ) {
        let outcome = who.map_err(Clone::clone);
        let result = self.tally.count(api, &outcome);
        self.tell(&Told {
            name: "log_in",
            result,
            api: Some(api),
            user: outcome.as_ref().ok().map(|who| who.0),
            session: outcome.as_ref().ok().map(|who| who.1),
            client: Some(client),
            ..Told::default()
        });
    }
}

/// Whether a user may do anything now.
pub(super) fn may_use(user: &User, now: UnixMillis) -> Result<(), AccountError> {
    match user {
        user if user.deleted_at.is_some() => Err(AccountError::UserGone),
        user if user.disabled => Err(AccountError::UserDisabled),
        user if user.banned_until.is_some_and(|until| now < until) => Err(AccountError::UserBanned),
        _ => Ok(()),
    }
}

fn authentication(method: &str, at: UnixMillis) -> Authentication {
    Authentication {
        method: method.into(),
        at,
    }
}

/// The place of the first refresh token; 0: the API has none.
fn first_counter(api: Api) -> u64 {
    match api {
        Api::Token | Api::Supabase => 1,
        Api::App | Api::Session => 0,
    }
}
