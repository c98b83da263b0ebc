//! Users, as they make and change themselves. What a user says of itself never gives it a right: roles come from an
//! operator only, and `is_admin` and `username` in its metadata are the gateway's to write.

use super::attempts::Class;
use super::log_in::may_use;
use super::mail::{Addressee, Errand};
use super::passwords;
use super::profile;
use super::tally::OK;
use super::{AccountError, Accounts, SignedIn, Told, Who};
use crate::config::MailHook;
use crate::records::{Api, Client, CodeKind, Email, Object, User, UserId, Username};
use crate::secret::Secret;
use crate::store::{Change, NewUser, Unique};

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
    /// Where a link in a mail should lead.
    pub redirect_to: Option<String>,
}

/// What came of a sign-up.
#[derive(Clone, Debug)]
pub enum SignedUp {
    /// It is confirmed, and logged in.
    In(Box<SignedIn>),
    /// It must confirm its address first. Where the address is another's, this user is made up.
    Unconfirmed(Box<User>),
}

/// What a user changes of itself; `None`: as it was.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct UserUpdate {
    pub username: Option<String>,
    pub email: Option<String>,
    pub password: Option<Secret<String>>,
    pub current_password: Option<Secret<String>>,
    /// The code of `Accounts::reauthenticate`.
    pub nonce: Option<String>,
    /// Laid over what is there; a null takes a member away.
    pub user_metadata: Option<Object>,
    /// Where a link in a mail should lead.
    pub redirect_to: Option<String>,
}

/// What of an update is checked and ready to be written.
struct Ready {
    username: Option<Username>,
    email: Option<Email>,
    password: Option<Secret<String>>,
    user_metadata: Option<Object>,
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

    /// Makes a user and logs it in, unless its address must be confirmed first.
    ///
    /// # Errors
    /// As `register`; where addresses are confirmed, nobody is told that one is taken.
    pub async fn sign_up(
        &self,
        api: Api,
        new: Registration,
        client: &Client,
    ) -> Result<SignedUp, AccountError> {
        let mut made_up = profile::made_up(&new, self.now());
        let (said, redirect_to) = (new.user_metadata.clone(), new.redirect_to.clone());
        let confirms = self.settings().config.confirm_email;
        match self.register(api, new, client).await {
            Ok(user) if confirms => Ok(SignedUp::Unconfirmed(Box::new(user))),
            Ok(user) => {
                let (user, session) = self.new_session(user, api, "password", client).await?;
                let signed_in = self.tokens(user, session, Vec::new())?;
                Ok(SignedUp::In(Box::new(signed_in)))
            }
            Err(AccountError::UserExists(Unique::Email)) if confirms => {
                if made_up.username.is_none() {
                    made_up.username = self.free_name(&said).await?;
                }
                // Whoever lost the first mail signs up again. One who has confirmed the address is sent nothing.
                if let Some(email) = made_up.email.clone() {
                    self.send(Errand {
                        kind: CodeKind::Signup,
                        to: Addressee::Address(email),
                        redirect_to,
                    });
                }
                Ok(SignedUp::Unconfirmed(Box::new(made_up)))
            }
            Err(error) => Err(error),
        }
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

    /// Changes the user itself. A new password ends every other token of the user, in every API; the one in hand
    /// lives on. A new address replaces the old one at once, or, in the Supabase API and where addresses are
    /// confirmed, when it is confirmed.
    ///
    /// # Errors
    /// `WeakPassword`, `PasswordTooLong`, `PasswordUnfit`, `SamePassword`, `CurrentPasswordRequired`,
    /// `CurrentPasswordWrong`, `NameMissing`, `InvalidUsername`, `InvalidEmail`, `UserExists`, `MetadataTooLarge`,
    /// `UserGone`, `UserDisabled`, `UserBanned`, `TooMany`, `MailedJustNow`, `Busy`, `Unavailable`, `Failed`.
    pub async fn change_user(
        &self,
        api: Api,
        who: Who,
        (update, client): (UserUpdate, &Client),
    ) -> Result<User, AccountError> {
        let client = client.clone();
        self.finish(
            move |it| async move { it.change_to_the_end(api, who, (update, &client)).await },
        )
        .await
    }

    async fn change_to_the_end(
        &self,
        api: Api,
        who: Who,
        (update, client): (UserUpdate, &Client),
    ) -> Result<User, AccountError> {
        let with_password = update.password.is_some();
        let changed = self.change_user_untold(api, who, (update, client)).await;
        self.tell(&Told {
            name: match with_password {
                true => "password_change",
                false => "user_change",
            },
            result: changed.as_ref().map_or_else(AccountError::word, |_| OK),
            api: Some(api),
            user: Some(who.user),
            session: Some(who.session),
            client: Some(client),
            ..Told::default()
        });
        changed
    }

    async fn register_untold(
        &self,
        mut new: Registration,
        client: &Client,
    ) -> Result<User, AccountError> {
        let settings = self.settings();
        if !settings.config.sign_up {
            return Err(AccountError::SignUpsOff);
        }
        self.attempts.take(Class::SignUp, client.address)?;
        passwords::check(&settings.config.password, &new.password)?;
        let mut username = new.username.as_deref().map(profile::username).transpose()?;
        let email = new.email.as_deref().map(profile::email).transpose()?;
        if username.is_none() && email.is_none() {
            return Err(AccountError::InvalidEmail);
        }
        if username.is_none() {
            username = self.free_name(&new.user_metadata).await?;
        }
        profile::cleanse(&mut new.user_metadata);
        let now = self.now();
        let confirms = settings.config.confirm_email && email.is_some();
        let user = NewUser {
            username,
            email,
            email_confirmed_at: (!confirms).then_some(now),
            confirmation_sent_at: confirms.then_some(now),
            ..profile::permanent(new.user_metadata, now)?
        };
        let hash = self.hashing.make(new.password).await?;
        let user = NewUser {
            password: Some(hash),
            ..user
        };
        let user = self.store.add_user(user).await?;
        if confirms {
            self.send(Errand {
                kind: CodeKind::Signup,
                to: Addressee::User(user.id),
                redirect_to: new.redirect_to,
            });
        }
        Ok(user)
    }

    async fn change_user_untold(
        &self,
        api: Api,
        who: Who,
        (update, client): (UserUpdate, &Client),
    ) -> Result<User, AccountError> {
        let user = self.user(who.user).await?;
        let settings = self.settings();
        let redirect = update.redirect_to.clone();
        if update.password.is_some() && api == Api::Supabase {
            let nonce = update.nonce.as_deref();
            self.is_present(who, &user, (nonce, client)).await?;
        }
        let ready = self.ready(api, &user, (update, client)).await?;
        let new_password = ready.password.is_some();
        let by_mail = settings.config.confirm_email || (api == Api::Supabase && !user.anonymous);
        let to_confirm = ready.email.is_some() && by_mail;
        if to_confirm {
            self.attempts.take(Class::Mail, client.address)?;
            self.may_mail_again(user.email_change.as_ref().map(|(_, asked_at)| *asked_at))?;
        }
        if new_password {
            // Before, so that a crash in between leaves nothing alive that should have ended.
            self.end_others(who).await?;
        }
        let now = self.now();
        let change = Box::new(move |user: &User| {
            Change::Write(ready.applied_to(user.clone(), (now, by_mail)))
        });
        let changed = self.store.change_user(who.user, change).await?;
        let changed = changed.ok_or(AccountError::UserGone)?;
        if new_password {
            // And again, for what the old password let in meanwhile.
            self.end_others(who).await?;
            self.store.void_codes(who.user).await?;
        }
        self.revocations.recheck(who.user);
        if to_confirm {
            self.send(Errand {
                kind: CodeKind::EmailChange,
                to: Addressee::User(who.user),
                redirect_to: redirect,
            });
        }
        Ok(changed)
    }

    /// Checks an update, and hashes its password.
    async fn ready(
        &self,
        api: Api,
        user: &User,
        (update, client): (UserUpdate, &Client),
    ) -> Result<Ready, AccountError> {
        let mut username = update
            .username
            .as_deref()
            .map(profile::username)
            .transpose()?;
        let email = update.email.as_deref().map(profile::email).transpose()?;
        let email = email.filter(|new| user.email.as_ref() != Some(new));
        if let Some(email) = &email
            && self.store.user_by_email(email).await?.is_some()
        {
            return Err(AccountError::UserExists(Unique::Email));
        }
        let mut user_metadata = update.user_metadata;
        if let Some(said) = &mut user_metadata {
            if username.is_none() && user.username.is_none() {
                username = self.free_name(said).await?;
            }
            profile::cleanse(said);
            let merged = profile::merged(&user.user_metadata, said);
            profile::fits(&merged, &user.app_metadata)?;
        }
        let nameless = user.username.is_none() && user.email.is_none() && user.phone.is_none();
        let password = match update.password {
            None => None,
            Some(_) if nameless && username.is_none() && email.is_none() => {
                return Err(AccountError::NameMissing);
            }
            Some(new) => {
                let current = update.current_password;
                Some(self.new_password(api, user, (new, current), client).await?)
            }
        };
        Ok(Ready {
            username,
            email,
            password,
            user_metadata,
        })
    }

    /// The hash of a new password.
    async fn new_password(
        &self,
        api: Api,
        user: &User,
        (new, current): (Secret<String>, Option<Secret<String>>),
        client: &Client,
    ) -> Result<Secret<String>, AccountError> {
        let settings = self.settings();
        passwords::check(&settings.config.password, &new)?;
        let asks = settings.config.password.require_current || api == Api::Session;
        match current {
            _ if user.password.is_none() => {}
            Some(current) => {
                // Counted like log-ins: whoever has stolen a token shall not guess the password by it.
                let name = user.id.to_string();
                let attempt = self.attempts.begin(&name, client.address).await?;
                if self
                    .is_password(Some(user), current.clone())
                    .await?
                    .is_none()
                {
                    attempt.failed();
                    return Err(AccountError::CurrentPasswordWrong);
                }
                attempt.succeeded();
                if current == new {
                    return Err(AccountError::SamePassword);
                }
            }
            None if asks => return Err(AccountError::CurrentPasswordRequired),
            None => {
                if self.is_password(Some(user), new.clone()).await?.is_some() {
                    return Err(AccountError::SamePassword);
                }
            }
        }
        Ok(self.hashing.make(new).await?)
    }

    /// The username that somebody without one says that it has, where it is a username and nobody's yet.
    async fn free_name(&self, said: &Object) -> Result<Option<Username>, AccountError> {
        let text = said.get("username").and_then(|name| name.as_str());
        let Some(name) = text.and_then(|text| profile::username(text).ok()) else {
            return Ok(None);
        };
        let taken = self.store.user_by_name(&name.key).await?;
        Ok(taken.is_none().then_some(name))
    }

    /// Whether anything can be mailed.
    pub fn mails(&self) -> bool {
        self.settings().config.mail.hook != MailHook::Off
    }
}

impl Ready {
    fn applied_to(self, mut user: User, (now, by_mail): (i64, bool)) -> User {
        if let Some(username) = self.username {
            user.username = Some(username);
            user.anonymous = false;
        }
        match self.email {
            Some(email) if by_mail => user.email_change = Some((email, now)),
            Some(email) => profile::confirm(&mut user, email, now),
            None => {}
        }
        if let Some(password) = self.password {
            user.password = Some(password);
        }
        if let Some(said) = self.user_metadata {
            user.user_metadata = profile::merged(&user.user_metadata, &said);
        }
        user.updated_at = now;
        user
    }
}
