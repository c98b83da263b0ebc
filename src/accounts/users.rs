//! Users, as they make and change themselves. What a user says of itself never gives it a right: roles come from an
//! operator only, and `is_admin` and `username` in its metadata are the gateway's to write.

use serde_json::Value;
use uuid::Uuid;

use super::attempts::Class;
use super::log_in::may_use;
use super::names;
use super::passwords;
use super::tally::OK;
use super::{AccountError, Accounts, Told};
use crate::records::{Api, Client, Email, Object, UnixMillis, User, UserId, Username};
use crate::secret::Secret;
use crate::store::NewUser;

/// Somebody who wants to be a user, as typed.
#[derive(Clone, Debug)]
pub struct Registration {
    /// One of the two there must be; an API may ask for both.
    pub username: Option<String>,
    /// An e-mail address.
    pub email: Option<String>,
    /// Its own choice.
    pub password: Secret<String>,
    /// What it says of itself.
    pub user_metadata: Object,
}

impl Accounts {
    /// Makes a user.
    ///
    /// # Errors
    /// `SignUpsOff`, `WeakPassword`, `PasswordTooLong`, `PasswordUnfit`, `InvalidUsername`, `InvalidEmail`,
    /// `MetadataTooLarge`, `UserExists`, `TooMany`, `Busy`, `Unavailable`, `Failed`.
    pub async fn register(
        &self,
        api: Api,
        new: Registration,
        client: &Client,
    ) -> Result<User, AccountError> {
        let registered = self.register_untold(new, client).await;
        self.tell(&Told {
            name: "register",
            result: registered.as_ref().map_or_else(AccountError::word, |_| OK),
            api: Some(api),
            user: registered.as_ref().ok().map(|user| user.id),
            client: Some(client),
            ..Told::default()
        });
        registered
    }

    /// The user with this id, as long as it may do anything.
    ///
    /// # Errors
    /// `UserGone`, `UserDisabled`, `UserBanned`, `Unavailable`, `Failed`.
    pub async fn user(&self, id: UserId) -> Result<User, AccountError> {
        let user = self.store.user(id).await?.ok_or(AccountError::UserGone)?;
        may_use(&user, self.now())?;
        Ok(user)
    }

    async fn register_untold(
        &self,
        new: Registration,
        client: &Client,
    ) -> Result<User, AccountError> {
        let settings = self.settings();
        if !settings.config.sign_up {
            return Err(AccountError::SignUpsOff);
        }
        self.attempts.take(Class::SignUp, client.address)?;
        passwords::check(&settings.config.password, &new.password)?;
        let username = new.username.as_deref().map(username).transpose()?;
        let email = new.email.as_deref().map(email).transpose()?;
        if username.is_none() && email.is_none() {
            return Err(AccountError::InvalidEmail);
        }
        let now = self.now();
        let user = NewUser {
            username,
            email,
            email_confirmed_at: Some(now),
            ..permanent(new.user_metadata, now)?
        };
        let hash = self.hashing.make(new.password).await?;
        let user = NewUser {
            password: Some(hash),
            ..user
        };
        Ok(self.store.add_user(user).await?)
    }
}

pub(super) fn username(text: &str) -> Result<Username, AccountError> {
    names::username(text).map_err(|_| AccountError::InvalidUsername)
}

pub(super) fn email(text: &str) -> Result<Email, AccountError> {
    names::email(text).map_err(|_| AccountError::InvalidEmail)
}

/// A user without credentials.
pub(super) fn anonymous(said: Object, now: UnixMillis) -> Result<NewUser, AccountError> {
    Ok(NewUser {
        anonymous: true,
        app_metadata: Object::new(),
        ..permanent(said, now)?
    })
}

/// A user with no name yet.
pub(super) fn permanent(said: Object, now: UnixMillis) -> Result<NewUser, AccountError> {
    let mut app_metadata = Object::new();
    app_metadata.insert("provider".to_owned(), Value::from("email"));
    app_metadata.insert("providers".to_owned(), Value::from(vec!["email"]));
    Ok(NewUser {
        id: UserId(Uuid::new_v4()),
        username: None,
        email: None,
        phone: None,
        password: None,
        role: "authenticated".into(),
        anonymous: false,
        banned_until: None,
        app_metadata,
        user_metadata: said,
        email_confirmed_at: None,
        phone_confirmed_at: None,
        confirmation_sent_at: None,
        created_at: now,
    })
}
