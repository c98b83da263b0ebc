//! What the core says no with. Each face prints it in its own dialect.

use std::sync::LazyLock;
use std::time::Duration;

use super::hashing::HashingError;
use super::passwords::{Unfit, Weakness};
use crate::observe::sparing::Sparing;
use crate::store::{StoreError, Unique};

/// Why something was not done. Nothing was changed then, unless it says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// Unknown user, wrong password, or no password: nobody is told which.
    #[error("the name or the password is wrong")]
    InvalidCredentials,
    /// Another user has that.
    #[error("another user has this: {0:?}")]
    UserExists(Unique),
    /// The new password does not meet the rules.
    #[error("the password is too weak")]
    WeakPassword(Vec<Weakness>),
    /// Longer than its hash can take.
    #[error("the password is too long")]
    PasswordTooLong,
    /// It holds a NUL, or is no hash where one was given.
    #[error("the password cannot be used")]
    PasswordUnfit,
    /// No e-mail address, or none where there must be one.
    #[error("the e-mail address is invalid")]
    InvalidEmail,
    /// Not a username.
    #[error("the username is invalid")]
    InvalidUsername,
    /// Not a phone number.
    #[error("the phone number is invalid")]
    InvalidPhone,
    /// Not a session's name: empty, too long, or with control characters.
    #[error("the name is invalid")]
    InvalidName,
    /// What the user says of itself would not fit into a token.
    #[error("the metadata is too large")]
    MetadataTooLarge,
    /// Nobody can register.
    #[error("sign-ups are off")]
    SignUpsOff,
    /// Nobody can sign in without credentials.
    #[error("anonymous sign-ins are off")]
    AnonymousOff,
    /// The password is right, but the user is banned for some time.
    #[error("the user is banned")]
    UserBanned,
    /// The password is right, but an operator has switched the user off.
    #[error("the user is disabled")]
    UserDisabled,
    /// The password is right, but the address is not confirmed yet.
    #[error("the e-mail address is not confirmed")]
    EmailNotConfirmed,
    /// The new password is the old one.
    #[error("the password is the same")]
    SamePassword,
    /// Of a user that changes its own.
    #[error("the current password is wrong")]
    CurrentPasswordWrong,
    /// It must come with a new one.
    #[error("the current password is missing")]
    CurrentPasswordRequired,
    /// The session is too old to choose a new password in: a mailed code must come with it.
    #[error("the user must show again who it is")]
    ReauthenticationNeeded,
    /// An anonymous user cannot have a password before it has a name.
    #[error("an anonymous user needs an e-mail address first")]
    NameMissing,
    /// A well-formed refresh token, of no session that is alive.
    #[error("no such refresh token")]
    RefreshUnknown,
    /// Nothing that could be a refresh token.
    #[error("not a refresh token")]
    RefreshMalformed,
    /// The refresh token was spent long ago: **its session has ended by this**.
    #[error("the refresh token was used again")]
    RefreshReused,
    /// The session has ended.
    #[error("the session has ended")]
    SessionGone,
    /// The session, or its refresh token, is too old.
    #[error("the session has expired")]
    SessionExpired,
    /// The user is deleted.
    #[error("the user is gone")]
    UserGone,
    /// The code is wrong, used or too old, or nobody's.
    #[error("the code is invalid")]
    CodeInvalid,
    /// No such thing, or another user's.
    #[error("not found")]
    NotFound,
    /// Too many attempts.
    #[error("too many attempts")]
    TooMany {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// A mail of this kind went to this user a moment ago.
    #[error("mailed just now")]
    MailedJustNow {
        /// When another may go.
        retry_after: Duration,
    },
    /// There is too much to do (503).
    #[error("too much to do")]
    Busy {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// The store cannot be reached (503).
    #[error("the store is unavailable")]
    Unavailable,
    /// A bug, or a store that holds what it should not (500).
    #[error("failed")]
    Failed,
}

impl AccountError {
    /// The stable word: in audit lines and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::InvalidCredentials => "invalid_credentials",
            Self::UserExists(_) => "user_exists",
            Self::WeakPassword(_) => "weak_password",
            Self::PasswordTooLong => "password_too_long",
            Self::PasswordUnfit => "password_unfit",
            Self::InvalidEmail => "invalid_email",
            Self::InvalidUsername => "invalid_username",
            Self::InvalidPhone => "invalid_phone",
            Self::InvalidName => "invalid_name",
            Self::MetadataTooLarge => "metadata_too_large",
            Self::SignUpsOff => "sign_ups_off",
            Self::AnonymousOff => "anonymous_off",
            Self::UserBanned => "user_banned",
            Self::UserDisabled => "user_disabled",
            Self::EmailNotConfirmed => "email_not_confirmed",
            Self::SamePassword => "same_password",
            Self::CurrentPasswordWrong => "current_password_wrong",
            Self::CurrentPasswordRequired => "current_password_required",
            Self::ReauthenticationNeeded => "reauthentication_needed",
            Self::NameMissing => "name_missing",
            Self::RefreshUnknown => "refresh_unknown",
            Self::RefreshMalformed => "refresh_malformed",
            Self::RefreshReused => "refresh_reused",
            Self::SessionGone => "session_gone",
            Self::SessionExpired => "session_expired",
            Self::UserGone => "user_gone",
            Self::CodeInvalid => "code_invalid",
            Self::NotFound => "not_found",
            Self::TooMany { .. } => "too_many",
            Self::MailedJustNow { .. } => "mailed_just_now",
            Self::Busy { .. } => "busy",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
        }
    }

    /// Logs what only an operator can mend, and keeps it from clients.
    pub(super) fn failed(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "an account could not be looked after");
        Self::Failed
    }
}

/// Each call would say it.
static UNAVAILABLE: LazyLock<Sparing> = LazyLock::new(Sparing::default);

impl From<StoreError> for AccountError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Taken(what) => Self::UserExists(what),
            StoreError::Unavailable(error) => {
                if let Some(held_back) = UNAVAILABLE.turn() {
                    tracing::warn!(%error, held_back, "the store is unavailable");
                }
                Self::Unavailable
            }
            StoreError::Broken(error) => Self::failed(&*error),
            StoreError::Refused(_) => Self::failed(&error),
        }
    }
}

impl From<HashingError> for AccountError {
    fn from(error: HashingError) -> Self {
        match error {
            HashingError::Busy => Self::Busy {
                retry_after: Duration::from_secs(1),
            },
            HashingError::Failed(error) => Self::failed(&error),
        }
    }
}

impl From<Unfit> for AccountError {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Weak(weaknesses) => Self::WeakPassword(weaknesses),
            Unfit::TooLong => Self::PasswordTooLong,
            Unfit::Nul => Self::PasswordUnfit,
        }
    }
}
