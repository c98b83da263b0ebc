//! The failures of the Supabase API: each with its status, its stable code and its text, and `AccountError` in
//! these words. Two shapes of body; the client chooses by the version that it names.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::accounts::AccountError;
use crate::accounts::passwords::Weakness;
use crate::body::Body;
use crate::faces::page::{self, JSON};
use crate::openapi::Allow;
use crate::store::Unique;

/// A failure, before it has a shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) message: &'static str,
    pub(super) more: More,
}

/// What only some failures have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum More {
    /// Nothing.
    Nothing,
    /// Why a password is too weak: without it the Python client takes the failure for none of its own.
    Weak(Vec<&'static str>),
    /// When it is worth trying again.
    RetryAfter(Duration),
    /// It is about the API key, which another gateway checks elsewhere: a `message` and no code.
    Key,
    /// The methods that there are.
    Allow(HeaderValue),
}

/// Where an `AccountError` came up: some mean different things in different calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `/signup`.
    SignUp,
    /// `/token` with a password.
    SignIn,
    /// `/token` with a refresh token.
    Refresh,
    /// A call with a user's token.
    User,
    /// `/verify`, in either way.
    Verify,
    /// A call with a service key.
    Admin,
}

/// The shape of a failure's body, by the version that the client names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// From 2024-01-01 on: `{"code":"…","message":"…"}`.
    Dated,
    /// `{"code":400,"error_code":"…","msg":"…"}`.
    Old,
}

impl Shape {
    /// What a request's `X-Supabase-Api-Version` asks for; what is no date asks for the old one.
    pub fn of(version: Option<&HeaderValue>) -> Self {
        let date = version.and_then(|value| value.to_str().ok());
        match date.is_some_and(|date| is_date(date) && date >= DATED) {
            true => Self::Dated,
            false => Self::Old,
        }
    }
}

/// `2024-01-01`: dates in this form compare as texts.
fn is_date(text: &str) -> bool {
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u16>().ok()).flatten()
    };
    text.len() == 10
        && text.as_bytes()[4] == b'-'
        && text.as_bytes()[7] == b'-'
        && number(0..4).is_some()
        && number(5..7).is_some_and(|month| (1..=12).contains(&month))
        && number(8..10).is_some_and(|day| (1..=31).contains(&day))
}

impl Failure {
    /// A failure of nothing but these.
    pub const fn new(status: u16, code: &'static str, message: &'static str) -> Self {
        Self {
            status,
            code,
            message,
            more: More::Nothing,
        }
    }

    /// A field is missing, or holds what it must not.
    pub const fn invalid(message: &'static str) -> Self {
        Self::new(400, "validation_failed", message)
    }

    /// Of the API key.
    pub const fn key(message: &'static str) -> Self {
        Self {
            status: 401,
            code: "",
            message,
            more: More::Key,
        }
    }

    fn with(mut self, more: More) -> Self {
        self.more = more;
        self
    }

    /// Of the core, in a call.
    pub fn of(error: &AccountError, place: Place) -> Self {
        match error {
            AccountError::InvalidCredentials => INVALID_CREDENTIALS,
            AccountError::UserExists(unique) => exists(*unique, place),
            AccountError::WeakPassword(weaknesses) => weak(weaknesses),
            AccountError::PasswordTooLong => Self::invalid("Password is too long"),
            AccountError::PasswordUnfit => Self::invalid("Password cannot be used"),
            AccountError::InvalidEmail => {
                Self::invalid("Unable to validate email address: invalid format")
            }
            AccountError::InvalidUsername | AccountError::InvalidName => {
                Self::invalid("Username is invalid")
            }
            AccountError::InvalidPhone => {
                Self::invalid("Invalid phone number format (E.164 required)")
            }
            AccountError::MetadataTooLarge => Self::invalid("User metadata is too large"),
            AccountError::SignUpsOff => SIGNUP_DISABLED,
            AccountError::AnonymousOff => ANONYMOUS_DISABLED,
            AccountError::UserBanned | AccountError::UserDisabled => banned(place),
            AccountError::EmailNotConfirmed => not_confirmed(place),
            AccountError::SamePassword => SAME_PASSWORD,
            AccountError::CurrentPasswordWrong => CURRENT_INVALID,
            AccountError::CurrentPasswordRequired => CURRENT_REQUIRED,
            AccountError::ReauthenticationNeeded => REAUTHENTICATION_NEEDED,
            AccountError::NameMissing => NAME_MISSING,
            AccountError::RefreshUnknown => REFRESH_UNKNOWN,
            AccountError::RefreshMalformed => Self::invalid("Refresh token is not valid"),
            AccountError::RefreshReused => REFRESH_REUSED,
            AccountError::SessionGone if place == Place::Refresh => REFRESH_UNKNOWN,
            AccountError::SessionGone => SESSION_NOT_FOUND,
            AccountError::SessionExpired if place == Place::Refresh => SESSION_EXPIRED,
            AccountError::SessionExpired => SESSION_NOT_FOUND,
            AccountError::UserGone if place == Place::Refresh => REFRESH_UNKNOWN,
            AccountError::UserGone | AccountError::NotFound if place == Place::Admin => {
                NO_SUCH_USER
            }
            AccountError::UserGone | AccountError::NotFound => USER_GONE,
            AccountError::CodeInvalid if place == Place::Verify => OTP_EXPIRED,
            AccountError::CodeInvalid => NONCE_INVALID,
            // A client that is told 429 at a refresh signs its user out; one that is told 503 tries again.
            AccountError::TooMany { retry_after } if place == Place::Refresh => busy(*retry_after),
            AccountError::TooMany { retry_after } => TOO_MANY.with(More::RetryAfter(*retry_after)),
            AccountError::MailedJustNow { retry_after } => {
                TOO_MANY_MAILS.with(More::RetryAfter(*retry_after))
            }
            AccountError::Busy { retry_after } => busy(*retry_after),
            AccountError::Unavailable => busy(Duration::from_secs(1)),
            AccountError::Failed => FAILED,
        }
    }

    /// Whether the body was not read to its end: what follows it is no request.
    pub fn leaves_body(&self) -> bool {
        matches!(self.status, 408 | 413)
    }

    /// As an answer to the request with this id.
    pub fn render(&self, shape: Shape, request_id: &str) -> Response<Body> {
        // The numbers of the tables here are all statuses.
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let text = self.body(shape, request_id).to_string();
        let mut response = page::page(JSON, status, text);
        let headers = response.headers_mut();
        match &self.more {
            More::RetryAfter(wait) => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                headers.insert(http::header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
            }
            More::Allow(methods) => {
                headers.insert(http::header::ALLOW, methods.clone());
            }
            More::Nothing | More::Weak(_) => {}
            More::Key => return response,
        }
        headers.insert(ERROR_CODE, HeaderValue::from_static(self.code));
        if shape == Shape::Dated {
            headers.insert(VERSION, HeaderValue::from_static(DATED));
        }
        response
    }

    fn body(&self, shape: Shape, request_id: &str) -> Value {
        let mut body = match (shape, &self.more) {
            (_, More::Key) => json!({"message": self.message}),
            (Shape::Dated, _) => json!({"code": self.code, "message": self.message}),
            (Shape::Old, _) => {
                json!({"code": self.status, "error_code": self.code, "msg": self.message})
            }
        };
        if let More::Weak(reasons) = &self.more {
            body["weak_password"] = json!({"reasons": reasons});
        }
        if shape == Shape::Old && self.status >= 500 {
            body["error_id"] = json!(request_id);
        }
        body
    }
}

fn exists(unique: Unique, place: Place) -> Failure {
    match (unique, place) {
        (Unique::Phone, _) => Failure::new(422, "phone_exists", "Phone number already registered"),
        (_, Place::SignUp) => USER_EXISTS,
        (Unique::Id, _) => Failure::new(422, "user_already_exists", "User already registered"),
        (Unique::Username | Unique::Email, _) => Failure::new(
            422,
            "email_exists",
            "A user with this email address has already been registered",
        ),
    }
}

fn weak(weaknesses: &[Weakness]) -> Failure {
    let reasons = reasons(weaknesses);
    let message = match reasons.as_slice() {
        ["length"] => "Password is too short.",
        ["characters"] => "Password should contain at least one character of each required set.",
        _ => "Password is too weak.",
    };
    Failure::new(422, "weak_password", message).with(More::Weak(reasons))
}

/// Each once, in the words of this API.
pub fn reasons(weaknesses: &[Weakness]) -> Vec<&'static str> {
    let mut reasons = Vec::new();
    for weakness in weaknesses {
        if !reasons.contains(&weakness.word()) {
            reasons.push(weakness.word());
        }
    }
    reasons
}

fn banned(place: Place) -> Failure {
    let status = match place {
        Place::SignUp | Place::SignIn | Place::Refresh => 400,
        Place::User | Place::Verify | Place::Admin => 403,
    };
    Failure::new(status, "user_banned", "User is banned")
}

fn not_confirmed(place: Place) -> Failure {
    let status = match place {
        Place::User => 422,
        _ => 400,
    };
    Failure::new(status, "email_not_confirmed", "Email not confirmed")
}

/// 503 is the only failure that both clients try again.
fn busy(retry_after: Duration) -> Failure {
    UNAVAILABLE.with(More::RetryAfter(retry_after))
}

const DATED: &str = "2024-01-01";

/// Names the version of the shape; without it the clients read no code.
pub const VERSION: HeaderName = HeaderName::from_static("x-supabase-api-version");
const ERROR_CODE: HeaderName = HeaderName::from_static("x-sb-error-code");

/// A path that is there, but not for this method.
pub(super) fn not_allowed(allow: Allow) -> Failure {
    let failure = Failure::new(405, "method_not_allowed", "This method is not allowed here");
    failure.with(More::Allow(allow.value()))
}

pub(super) const NO_AUTHORIZATION: Failure = Failure::new(
    401,
    "no_authorization",
    "This endpoint requires a valid Bearer token",
);
pub(super) const BAD_JWT: Failure = Failure::new(
    403,
    "bad_jwt",
    "invalid JWT: unable to parse or verify signature",
);
pub(super) const EXPIRED_JWT: Failure =
    Failure::new(403, "bad_jwt", "invalid JWT: token is expired");
pub(super) const JWT_WITHOUT_SUB: Failure =
    Failure::new(403, "bad_jwt", "invalid claim: missing sub claim");
pub(super) const NOT_ADMIN: Failure = Failure::new(403, "not_admin", "User not allowed");
pub(super) const SESSION_NOT_FOUND: Failure = Failure::new(
    403,
    "session_not_found",
    "Session from session_id claim in JWT does not exist",
);
const USER_GONE: Failure = Failure::new(
    403,
    "user_not_found",
    "User from sub claim in JWT does not exist",
);
const NO_SUCH_USER: Failure = Failure::new(404, "user_not_found", "User not found");
pub(super) const NOT_A_UUID: Failure =
    Failure::new(404, "validation_failed", "user_id must be an UUID");
pub(super) const NOT_FOUND: Failure = Failure::new(404, "not_found", "There is nothing here");
pub(super) const BAD_JSON: Failure =
    Failure::new(400, "bad_json", "Could not parse request body as JSON");
pub(super) const UNSUPPORTED_GRANT: Failure =
    Failure::new(400, "invalid_credentials", "unsupported_grant_type");
const INVALID_CREDENTIALS: Failure =
    Failure::new(400, "invalid_credentials", "Invalid login credentials");
pub(super) const PHONE_DISABLED: Failure =
    Failure::new(400, "phone_provider_disabled", "Phone logins are disabled");
pub(super) const OTP_DISABLED: Failure =
    Failure::new(422, "otp_disabled", "Mails are switched off here");
const SIGNUP_DISABLED: Failure = Failure::new(
    422,
    "signup_disabled",
    "Signups not allowed for this instance",
);
const ANONYMOUS_DISABLED: Failure = Failure::new(
    422,
    "anonymous_provider_disabled",
    "Anonymous sign-ins are disabled",
);
const USER_EXISTS: Failure = Failure::new(422, "user_already_exists", "User already registered");
const SAME_PASSWORD: Failure = Failure::new(
    422,
    "same_password",
    "New password should be different from the old password.",
);
const CURRENT_INVALID: Failure = Failure::new(
    400,
    "current_password_invalid",
    "Current password is not valid",
);
const CURRENT_REQUIRED: Failure = Failure::new(
    400,
    "current_password_required",
    "Current password required when setting new password.",
);
const REAUTHENTICATION_NEEDED: Failure = Failure::new(
    400,
    "reauthentication_needed",
    "Password update requires reauthentication",
);
const NAME_MISSING: Failure = Failure::new(
    422,
    "validation_failed",
    "Updating password of an anonymous user without an email or phone is not allowed",
);
const REFRESH_UNKNOWN: Failure = Failure::new(
    400,
    "refresh_token_not_found",
    "Invalid Refresh Token: Refresh Token Not Found",
);
const REFRESH_REUSED: Failure = Failure::new(
    400,
    "refresh_token_already_used",
    "Invalid Refresh Token: Already Used",
);
const SESSION_EXPIRED: Failure = Failure::new(
    400,
    "session_expired",
    "Invalid Refresh Token: Session Expired",
);
const OTP_EXPIRED: Failure = Failure::new(403, "otp_expired", "Token has expired or is invalid");
const NONCE_INVALID: Failure = Failure::new(
    422,
    "reauthentication_not_valid",
    "Nonce has expired or is invalid",
);
const TOO_MANY: Failure =
    Failure::new(429, "over_request_rate_limit", "Request rate limit reached");
const TOO_MANY_MAILS: Failure = Failure::new(
    429,
    "over_email_send_rate_limit",
    "For security purposes, you can only request this again after some time.",
);
const UNAVAILABLE: Failure = Failure::new(
    503,
    "service_unavailable",
    "Too much to do, try again in a moment",
);
const FAILED: Failure = Failure::new(500, "unexpected_failure", "Unexpected failure");
