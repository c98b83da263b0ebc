//! Codes that an operator asks for: invitations, which go by mail, and links that the operator sends itself.

use super::admin::{AdminUser, NewPassword};
use super::codes::{self, Made};
use super::mail::{Addressee, Errand};
use super::profile;
use super::{AccountError, Accounts};
use crate::records::{CodeKind, Object, User};
use crate::secret::Secret;
use crate::store::{Change, Unique};

/// For whom a link is made, and what for.
#[derive(Clone, Debug)]
pub enum LinkFor {
    /// Whoever is to confirm an address and has this password then.
    SignUp(Secret<String>),
    /// Whoever is to confirm an address and has no password yet.
    Invite,
    /// Somebody who is to log in; where nobody has the address, a new user.
    LogIn,
    /// Somebody who has forgotten the password.
    Recovery,
    /// Somebody who gets another address: this one.
    EmailChange(String),
}

/// A link that was made.
pub struct Link {
    /// Whom it lets in.
    pub user: User,
    /// What it was made for.
    pub kind: CodeKind,
    /// To be typed.
    pub code: Secret<String>,
    /// To be put into a link.
    pub token: Secret<String>,
}

impl Accounts {
    /// Makes a user who has this address, unless somebody who has not confirmed it is there, and mails a code that
    /// confirms it.
    ///
    /// # Errors
    /// `UserExists`, `InvalidEmail`, `MetadataTooLarge`, `Busy`, `Unavailable`, `Failed`.
    pub async fn invite(
        &self,
        (email, redirect_to): (&str, Option<String>),
        said: Object,
    ) -> Result<User, AccountError> {
        let user = self.newcomer(email, said, None).await?;
        let user = self.noted(&user, CodeKind::Invite).await?;
        self.courier.give(Errand {
            kind: CodeKind::Invite,
            to: Addressee::User(user.id),
            redirect_to,
        })?;
        self.told_admin("invite", user.id);
        Ok(user)
    }

    /// Makes a code without mailing it: whoever has it is let in as the user.
    ///
    /// # Errors
    /// As `admin_create`, and `NotFound`.
    pub async fn link(
        &self,
        email: &str,
        (link_for, said): (LinkFor, Object),
    ) -> Result<Link, AccountError> {
        let found = self.store.user_by_email(&profile::email(email)?).await?;
        let (user, kind) = match (link_for, found) {
            (LinkFor::SignUp(password), _) => {
                let password = Some(NewPassword::Checked(password));
                let user = self.newcomer(email, said, password).await?;
                (user, CodeKind::Signup)
            }
            (LinkFor::Invite, _) => (self.newcomer(email, said, None).await?, CodeKind::Invite),
            (LinkFor::LogIn, Some(user)) => (user, CodeKind::Magiclink),
            (LinkFor::LogIn, None) => (self.newcomer(email, said, None).await?, CodeKind::Signup),
            (LinkFor::Recovery, Some(user)) => (user, CodeKind::Recovery),
            (LinkFor::EmailChange(new), Some(user)) => {
                (self.renaming(&user, &new).await?, CodeKind::EmailChange)
            }
            (LinkFor::Recovery | LinkFor::EmailChange(_), None) => {
                return Err(AccountError::NotFound);
            }
        };
        let user = self.noted(&user, kind).await?;
        let pending = user.email_change.as_ref().map(|(email, _)| email);
        let to = match kind {
            CodeKind::EmailChange => pending,
            _ => user.email.as_ref(),
        };
        let Made { digits, link } = self
            .make_code(user.id, kind, to.ok_or(AccountError::InvalidEmail)?)
            .await?;
        self.told_admin("link_create", user.id);
        Ok(Link {
            user,
            kind,
            code: digits,
            token: link,
        })
    }

    /// Where a link leads that was to lead to `wanted`; `None`: the operator has named no place.
    pub fn destination(&self, wanted: Option<&str>) -> Option<String> {
        let settings = self.settings();
        let place = settings.config.mail.destination(wanted);
        place.map(str::to_owned)
    }

    /// The address at which links are taken.
    pub fn issuer(&self) -> Box<str> {
        self.settings().config.issuer.clone()
    }

    /// Who is to confirm this address. Of somebody who claimed it before and never confirmed it nothing stays that
    /// would let them in.
    async fn newcomer(
        &self,
        email: &str,
        said: Object,
        password: Option<NewPassword>,
    ) -> Result<User, AccountError> {
        let known = self.store.user_by_email(&profile::email(email)?).await?;
        let confirmed = |user: &User| user.email_confirmed_at.is_some();
        if known.as_ref().is_some_and(confirmed) {
            return Err(AccountError::UserExists(Unique::Email));
        }
        let new = AdminUser {
            password,
            user_metadata: Some(said),
            ..AdminUser::default()
        };
        match known {
            Some(user) => self.admin_update(user.id, new).await,
            None => {
                let email = Some(email.to_owned());
                self.admin_create(AdminUser { email, ..new }).await
            }
        }
    }

    /// The user, with a note of when this was made for it: clients show that.
    async fn noted(&self, user: &User, kind: CodeKind) -> Result<User, AccountError> {
        let now = self.now();
        let noted =
            Box::new(move |user: &User| Change::Write(codes::noted(user.clone(), (kind, now))));
        let user = self.store.change_user(user.id, noted).await?;
        user.ok_or(AccountError::NotFound)
    }

    /// The user, with the address that it is to confirm.
    async fn renaming(&self, user: &User, new: &str) -> Result<User, AccountError> {
        let email = profile::email(new)?;
        if self.store.user_by_email(&email).await?.is_some() {
            return Err(AccountError::UserExists(Unique::Email));
        }
        let now = self.now();
        let change = Box::new(move |user: &User| {
            let mut user = user.clone();
            user.email_change = Some((email.clone(), now));
            Change::Write(user)
        });
        let user = self.store.change_user(user.id, change).await?;
        user.ok_or(AccountError::NotFound)
    }
}
