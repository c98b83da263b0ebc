//! What the Supabase API answers. A member that is not set is left out, never empty: the Python client reads an empty text as
//! a date that is none.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::accounts::SignedIn;
use crate::faces::account;
use crate::identity::access_token::{AUDIENCE, user_metadata};
use crate::records::{Object, User};

use super::refusals;

/// A user.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UserReply {
    #[schemars(extend("format" = "uuid"))]
    id: String,
    aud: &'static str,
    role: Box<str>,
    /// Empty, not null, where there is none: the clients read a text. So is `phone`.
    email: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_confirmed_at: Option<String>,
    phone: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_confirmed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invited_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmation_sent_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_sent_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_email: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_change_sent_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reauthentication_sent_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sign_in_at: Option<String>,
    app_metadata: Object,
    user_metadata: Object,
    identities: Vec<IdentityReply>,
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    #[schemars(extend("format" = "date-time"))]
    updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    banned_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<String>,
    is_anonymous: bool,
}

/// A way in which a user signs in: there is one, the e-mail.
#[derive(Debug, Serialize, JsonSchema)]
pub struct IdentityReply {
    #[schemars(extend("format" = "uuid"))]
    identity_id: String,
    /// What the provider calls the user: for an e-mail, the user's id.
    #[schemars(extend("format" = "uuid"))]
    id: String,
    #[schemars(extend("format" = "uuid"))]
    user_id: String,
    identity_data: IdentityData,
    provider: &'static str,
    #[schemars(extend("format" = "date-time"))]
    last_sign_in_at: String,
    #[schemars(extend("format" = "date-time"))]
    created_at: String,
    #[schemars(extend("format" = "date-time"))]
    updated_at: String,
    email: Box<str>,
}

/// What the provider says of the user.
#[derive(Debug, Serialize, JsonSchema)]
pub struct IdentityData {
    #[schemars(extend("format" = "uuid"))]
    sub: String,
    email: Box<str>,
    email_verified: bool,
    phone_verified: bool,
}

/// A session: what every sign-in and refresh answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TokenReply {
    pub(super) access_token: String,
    pub(super) token_type: &'static str,
    /// Whole seconds.
    pub(super) expires_in: u64,
    /// Unix seconds: the token's `exp`.
    pub(super) expires_at: u64,
    pub(super) refresh_token: String,
    user: UserReply,
    #[serde(skip_serializing_if = "Option::is_none")]
    weak_password: Option<WeakPassword>,
}

/// The password was right, but would not be taken today.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WeakPassword {
    message: &'static str,
    reasons: Vec<&'static str>,
}

/// A user, and what lets it in: the operator sends it.
#[derive(Serialize, JsonSchema)]
pub struct LinkReply {
    #[serde(flatten)]
    pub(super) user: UserReply,
    pub(super) action_link: String,
    pub(super) email_otp: String,
    pub(super) hashed_token: String,
    pub(super) redirect_to: String,
    pub(super) verification_type: &'static str,
}

/// A page of users.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UsersReply {
    pub(super) users: Vec<UserReply>,
    pub(super) aud: &'static str,
}

/// `{}`: done, and nothing more is told.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Done {}

/// What this is.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Health {
    pub(super) version: &'static str,
    pub(super) name: &'static str,
    pub(super) description: &'static str,
}

/// What is switched on.
#[derive(Debug, Serialize, JsonSchema)]
#[expect(clippy::struct_excessive_bools, reason = "the protocol's")]
pub struct Settings {
    pub(super) external: External,
    pub(super) disable_signup: bool,
    pub(super) mailer_autoconfirm: bool,
    pub(super) phone_autoconfirm: bool,
    pub(super) sms_provider: &'static str,
    pub(super) saml_enabled: bool,
    pub(super) saml_private_key_next_configured: bool,
    pub(super) passkeys_enabled: bool,
}

/// Ways to sign in.
#[derive(Debug, Serialize, JsonSchema)]
pub struct External {
    pub(super) anonymous_users: bool,
    pub(super) email: bool,
    pub(super) phone: bool,
    /// None of them is there.
    #[serde(flatten)]
    pub(super) others: BTreeMap<&'static str, bool>,
}

/// The public keys: RFC 7517 §5.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Jwks {
    keys: Vec<Object>,
}

/// A failure, in either of its two shapes.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the protocol's")]
pub enum FailureReply {
    /// From 2024-01-01 on.
    Dated {
        code: String,
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        weak_password: Option<Reasons>,
    },
    /// Before.
    Old {
        code: u16,
        error_code: String,
        msg: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        weak_password: Option<Reasons>,
    },
    /// Of the API key.
    Key { message: String },
}

/// Why a password is too weak.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Reasons {
    reasons: Vec<String>,
}

impl UserReply {
    /// A user as it is.
    pub fn of(user: &User) -> Self {
        let time = |at: Option<i64>| at.map(account::time);
        let confirmed = [user.email_confirmed_at, user.phone_confirmed_at];
        let (new_email, asked_at) = user.email_change.clone().unzip();
        Self {
            id: user.id.to_string(),
            aud: AUDIENCE,
            role: user.role.clone(),
            email: account::shown_email(user),
            email_confirmed_at: time(user.email_confirmed_at),
            phone: user.phone.clone().unwrap_or_default(),
            phone_confirmed_at: time(user.phone_confirmed_at),
            invited_at: time(user.invited_at),
            confirmation_sent_at: time(user.confirmation_sent_at),
            confirmed_at: time(confirmed.into_iter().flatten().min()),
            recovery_sent_at: time(user.recovery_sent_at),
            new_email: new_email.map(|email| email.0),
            email_change_sent_at: time(asked_at),
            reauthentication_sent_at: time(user.reauthentication_sent_at),
            last_sign_in_at: time(user.last_sign_in_at),
            app_metadata: user.app_metadata.clone(),
            user_metadata: user_metadata(user),
            identities: IdentityReply::of(user).into_iter().collect(),
            created_at: account::time(user.created_at),
            updated_at: account::time(user.updated_at),
            banned_until: time(user.banned_until),
            deleted_at: time(user.deleted_at),
            is_anonymous: user.anonymous,
        }
    }
}

impl IdentityReply {
    /// `None`: an anonymous user.
    fn of(user: &User) -> Option<Self> {
        let email = user.email.as_ref().filter(|_| !user.anonymous)?;
        let (id, created_at) = (user.id.to_string(), account::time(user.created_at));
        Some(Self {
            // A row's id in the protocol. There are no such rows here: one for each user, and always the same.
            identity_id: Uuid::from_u128(user.id.0.as_u128() ^ EMAIL_IDENTITY).to_string(),
            id: id.clone(),
            user_id: id.clone(),
            identity_data: IdentityData {
                sub: id,
                email: email.0.clone(),
                email_verified: user.email_confirmed_at.is_some(),
                phone_verified: false,
            },
            provider: "email",
            last_sign_in_at: account::time(user.last_sign_in_at.unwrap_or(user.created_at)),
            created_at,
            updated_at: account::time(user.updated_at),
            email: email.0.clone(),
        })
    }
}

impl TokenReply {
    /// A session that began, or goes on.
    pub fn of(signed_in: &SignedIn) -> Self {
        let weaknesses = signed_in.weaknesses.as_slice();
        Self {
            access_token: signed_in.access_token.expose().clone(),
            token_type: "bearer",
            expires_in: signed_in.expires_in,
            expires_at: signed_in.expires_at,
            refresh_token: match &signed_in.refresh_token {
                Some(token) => token.expose().clone(),
                None => String::new(),
            },
            user: UserReply::of(&signed_in.user),
            weak_password: (!weaknesses.is_empty()).then(|| WeakPassword {
                message: "The password no longer meets the rules.",
                reasons: refusals::reasons(weaknesses),
            }),
        }
    }
}

/// Leaves version and variant of a UUID as they are.
const EMAIL_IDENTITY: u128 = 0x656d_6169_6c69_0064_0065_6e74_6974_7901;
