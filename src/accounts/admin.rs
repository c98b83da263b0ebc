//! What an operator does with users: the calls of the Supabase API's admin, and the command line.

use super::hashes;
use super::passwords;
use super::profile;
use super::tally::OK;
use super::{AccountError, Accounts, Told};
use crate::config::FirstAdmin;
use crate::records::{Object, SessionId, UnixMillis, User, UserId};
use crate::secret::Secret;
use crate::state::Ended;
use crate::store::{Change, NewUser, SessionChange, UserQuery};

/// A user to be made or changed by an operator; `None`: as it was, or as it is by default.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "as in `User`")]
pub struct AdminUser {
    /// Only where one is made.
    pub id: Option<UserId>,
    pub username: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub password: Option<NewPassword>,
    pub email_confirmed: Option<Confirmed>,
    pub phone_confirmed: Option<Confirmed>,
    /// Laid over what is there; a null takes a member away.
    pub user_metadata: Option<Object>,
    /// The same. `roles` in it are the user's rights.
    pub app_metadata: Option<Object>,
    pub role: Option<String>,
    pub ban: Option<Ban>,
    pub access: Option<Access>,
}

/// A password that an operator sets.
#[derive(Clone, Debug)]
pub enum NewPassword {
    /// It must meet the rules.
    Checked(Secret<String>),
    /// It need not.
    Unchecked(Secret<String>),
    /// A hash that another program made: bcrypt or argon2.
    Hash(Secret<String>),
}

/// Whether an address counts as confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Confirmed {
    Yes,
    No,
}

/// Until when a user is kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Ban {
    Until(UnixMillis),
    Lifted,
}

/// Whether anything of a user's is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Access {
    Enabled,
    Disabled,
}

/// What stays of a deleted user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// Nothing.
    Hard,
    /// Its row, in which nothing tells who it was.
    Soft,
}

impl Accounts {
    /// Makes a user.
    ///
    /// # Errors
    /// `UserExists`, `InvalidUsername`, `InvalidEmail`, `InvalidPhone`, `WeakPassword`, `PasswordTooLong`,
    /// `PasswordUnfit`, `MetadataTooLarge`, `Busy`, `Unavailable`, `Failed`.
    pub async fn admin_create(&self, new: AdminUser) -> Result<User, AccountError> {
        let now = self.now();
        let password = self.admin_password(new.password.as_ref()).await?;
        let mut said = new.user_metadata.clone().unwrap_or_default();
        profile::cleanse(&mut said);
        let base = profile::permanent(said, now)?;
        let app_metadata = new.app_metadata.clone().unwrap_or_default();
        let app_metadata = profile::merged(&base.app_metadata, &app_metadata);
        profile::fits(&base.user_metadata, &app_metadata)?;
        let confirmed = |which| (which == Some(Confirmed::Yes)).then_some(now);
        let user = NewUser {
            id: new.id.unwrap_or(base.id),
            username: new.username.as_deref().map(profile::username).transpose()?,
            email: new.email.as_deref().map(profile::email).transpose()?,
            phone: new.phone.as_deref().map(profile::phone).transpose()?,
            password,
            role: new.role.map_or(base.role.clone(), Into::into),
            banned_until: new.ban.and_then(Ban::until),
            app_metadata,
            email_confirmed_at: confirmed(new.email_confirmed),
            phone_confirmed_at: confirmed(new.phone_confirmed),
            ..base
        };
        let user = self.store.add_user(user).await?;
        let user = match new.access {
            Some(Access::Disabled) => {
                let off = AdminUser {
                    access: Some(Access::Disabled),
                    ..AdminUser::default()
                };
                self.admin_update(user.id, off).await?
            }
            _ => user,
        };
        self.told_admin("user_create", user.id);
        Ok(user)
    }

    /// Changes a user. A new password ends all its tokens; a ban, or being disabled, ends nothing and keeps
    /// everything out as long as it lasts.
    ///
    /// # Errors
    /// As `admin_create`, and `NotFound`.
    pub async fn admin_update(&self, id: UserId, new: AdminUser) -> Result<User, AccountError> {
        self.finish(move |it| async move { it.admin_update_to_the_end(id, new).await })
            .await
    }

    async fn admin_update_to_the_end(
        &self,
        id: UserId,
        new: AdminUser,
    ) -> Result<User, AccountError> {
        let found = self.store.user(id).await?.ok_or(AccountError::NotFound)?;
        let now = self.now();
        let new_password = new.password.is_some();
        let kept_out = new.ban.is_some_and(|ban| ban.until().is_some())
            || new.access == Some(Access::Disabled);
        let password = self.admin_password(new.password.as_ref()).await?;
        let username = new.username.as_deref().map(profile::username).transpose()?;
        let email = new.email.as_deref().map(profile::email).transpose()?;
        let phone = new.phone.as_deref().map(profile::phone).transpose()?;
        let mut said = new.user_metadata.clone().unwrap_or_default();
        profile::cleanse(&mut said);
        let app = new.app_metadata.clone().unwrap_or_default();
        profile::fits(
            &profile::merged(&found.user_metadata, &said),
            &profile::merged(&found.app_metadata, &app),
        )?;
        if new_password {
            self.end_all(id).await?;
        }
        let change = Box::new(move |user: &User| {
            let mut user = user.clone();
            let named = username.is_some() || email.is_some() || phone.is_some();
            user.anonymous &= !named;
            user.username = username.or(user.username);
            user.phone = phone.or(user.phone);
            if let Some(email) = email.filter(|new| user.email.as_ref() != Some(new)) {
                user.email = Some(email);
                user.email_change = None;
                user.email_confirmed_at = Some(now);
            }
            user.password = password.or(user.password);
            user.user_metadata = profile::merged(&user.user_metadata, &said);
            user.app_metadata = profile::merged(&user.app_metadata, &app);
            if let Some(role) = new.role {
                user.role = role.into();
            }
            set_confirmed(&mut user.email_confirmed_at, new.email_confirmed, now);
            set_confirmed(&mut user.phone_confirmed_at, new.phone_confirmed, now);
            if let Some(ban) = new.ban {
                user.banned_until = ban.until();
            }
            if let Some(access) = new.access {
                user.disabled = access == Access::Disabled;
            }
            user.updated_at = now;
            Change::Write(user)
        });
        let user = self.store.change_user(id, change).await?;
        let user = user.ok_or(AccountError::NotFound)?;
        if new_password {
            self.end_all(id).await?;
            self.store.void_codes(id).await?;
        }
        match kept_out {
            // Live streams end too.
            true => self.ended(Ended::User(id)).await,
            false => self.revocations.recheck(id),
        }
        self.told_admin("user_update", id);
        Ok(user)
    }

    /// A user, whatever may be said of it.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`, `Failed`.
    pub async fn admin_user(&self, id: UserId) -> Result<User, AccountError> {
        self.store.user(id).await?.ok_or(AccountError::NotFound)
    }

    /// A page of users, and how many there are in all.
    ///
    /// # Errors
    /// `Unavailable`, `Failed`.
    pub async fn admin_users(&self, query: UserQuery) -> Result<(Vec<User>, u64), AccountError> {
        Ok(self.store.users(query).await?)
    }

    /// Deletes a user, with all that is its own.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`, `Failed`.
    pub async fn admin_delete(&self, id: UserId, deletion: Deletion) -> Result<(), AccountError> {
        self.finish(move |it| async move { it.admin_delete_to_the_end(id, deletion).await })
            .await
    }

    async fn admin_delete_to_the_end(
        &self,
        id: UserId,
        deletion: Deletion,
    ) -> Result<(), AccountError> {
        self.admin_user(id).await?;
        if deletion == Deletion::Soft {
            self.end_all(id).await?;
        }
        let now = self.now();
        let change = Box::new(move |user: &User| match deletion {
            Deletion::Hard => Change::Delete,
            Deletion::Soft => Change::Write(effaced(user, now)),
        });
        self.store.change_user(id, change).await?;
        self.ended(Ended::User(id)).await;
        if deletion == Deletion::Soft {
            self.delete_sessions(id).await?;
        }
        self.told_admin("user_delete", id);
        Ok(())
    }

    /// Ends all tokens of a user.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`, `Failed`.
    pub async fn admin_log_out(&self, id: UserId) -> Result<(), AccountError> {
        self.finish(move |it| async move { it.admin_log_out_to_the_end(id).await })
            .await
    }

    async fn admin_log_out_to_the_end(&self, id: UserId) -> Result<(), AccountError> {
        self.admin_user(id).await?;
        self.end_all(id).await?;
        self.told_admin("log_out_everywhere", id);
        Ok(())
    }

    /// Ends one session with all its tokens, whoever's it is.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`, `Failed`.
    pub async fn admin_end_session(&self, id: SessionId) -> Result<(), AccountError> {
        self.finish(move |it| async move { it.admin_end_session_to_the_end(id).await })
            .await
    }

    async fn admin_end_session_to_the_end(&self, id: SessionId) -> Result<(), AccountError> {
        let (session, _) = self
            .store
            .session(id)
            .await?
            .ok_or(AccountError::NotFound)?;
        self.end_session(&session).await?;
        self.tell(&Told {
            name: "session_end",
            result: OK,
            user: Some(session.user),
            session: Some(id),
            by: Some(OPERATOR),
            ..Told::default()
        });
        Ok(())
    }

    /// Makes the first admin of the config where there is nobody of its name.
    pub(super) async fn make_first_admin(&self, admin: &FirstAdmin) -> Result<(), AccountError> {
        let name = super::names::LoginName::read(&admin.username);
        if self.find(&name).await?.is_some() {
            return Ok(());
        }
        let (username, email) = match admin.username.contains('@') {
            true => (None, Some(admin.username.to_string())),
            false => (Some(admin.username.to_string()), None),
        };
        let roles = ("roles".to_owned(), vec!["admin"].into());
        let new = AdminUser {
            username,
            email,
            password: Some(NewPassword::Unchecked(admin.password.clone())),
            email_confirmed: Some(Confirmed::Yes),
            app_metadata: Some(Object::from_iter([roles])),
            ..AdminUser::default()
        };
        match self.admin_create(new).await {
            // Another replica was faster.
            Err(AccountError::UserExists(_)) => Ok(()),
            made => made.map(drop),
        }
    }

    async fn admin_password(
        &self,
        new: Option<&NewPassword>,
    ) -> Result<Option<Secret<String>>, AccountError> {
        let settings = self.settings();
        let rules = &settings.config.password;
        let plain = match new {
            None => return Ok(None),
            Some(NewPassword::Hash(hash)) if hashes::is_hash(hash.expose()) => {
                return Ok(Some(hash.clone()));
            }
            Some(NewPassword::Hash(_)) => return Err(AccountError::PasswordUnfit),
            Some(NewPassword::Checked(plain)) => {
                passwords::check(rules, plain)?;
                plain
            }
            Some(NewPassword::Unchecked(plain)) => {
                passwords::hashable(rules, plain)?;
                plain
            }
        };
        Ok(Some(self.hashing.make(plain.clone()).await?))
    }

    async fn delete_sessions(&self, user: UserId) -> Result<(), AccountError> {
        for summary in self.store.sessions_of(user).await? {
            let change: SessionChange = Box::new(|_, _| Change::Delete);
            self.store
                .change_session(summary.session.id, change)
                .await?;
        }
        Ok(())
    }

    pub(super) fn told_admin(&self, name: &'static str, user: UserId) {
        self.tell(&Told {
            name,
            result: OK,
            user: Some(user),
            by: Some(OPERATOR),
            ..Told::default()
        });
    }
}

impl Ban {
    fn until(self) -> Option<UnixMillis> {
        match self {
            Self::Until(until) => Some(until),
            Self::Lifted => None,
        }
    }
}

fn set_confirmed(at: &mut Option<UnixMillis>, confirmed: Option<Confirmed>, now: UnixMillis) {
    match confirmed {
        None => {}
        Some(Confirmed::Yes) => *at = at.or(Some(now)),
        Some(Confirmed::No) => *at = None,
    }
}

/// The row of a user of whom nothing is left to tell.
fn effaced(user: &User, now: UnixMillis) -> User {
    User {
        username: None,
        email: None,
        phone: None,
        password: None,
        app_metadata: Object::new(),
        user_metadata: Object::new(),
        email_change: None,
        updated_at: now,
        deleted_at: Some(now),
        ..user.clone()
    }
}

/// Who did it.
const OPERATOR: &str = "operator";
