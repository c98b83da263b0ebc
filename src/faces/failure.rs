//! A failure of a call on its way to a client: a status, a text, when to try again. The texts of what the core says
//! no with are here in both languages, for the APIs that have no words of their own.

use std::time::Duration;

use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};

use super::body::Flaw;
use super::{Call, page};
use crate::accounts::AccountError;
use crate::accounts::passwords::Weakness;
use crate::body::Body;
use crate::records::Api;
use crate::refusal::style::api_text;
use crate::refusal::{Language, Refusal};
use crate::store::Unique;

/// A failure, told.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    status: StatusCode,
    text: String,
    retry_after: Option<Duration>,
    ends_connection: bool,
}

impl Failure {
    /// A failure with this status and text.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
            retry_after: None,
            ends_connection: false,
        }
    }

    /// A refusal as a failure.
    pub fn refused(refusal: Refusal, language: Language) -> Self {
        let failure = Self::new(refusal.status(), refusal.text(language));
        match refusal.status() {
            StatusCode::SERVICE_UNAVAILABLE => failure.again_after(SOON),
            _ => failure,
        }
    }

    /// A flaw of the body as a failure.
    pub fn flawed(flaw: &Flaw, language: Language) -> Self {
        Self {
            ends_connection: flaw.ends_connection(),
            ..Self::new(flaw.status(), flaw.text(language))
        }
    }

    /// It is worth trying again after this.
    pub fn again_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }

    /// The failure in the dialect of `api`.
    pub fn render(&self, api: Api, call: &Call<'_>) -> Response<Body> {
        self.render_as(api_text(api, self.status, "", &self.text), call)
    }

    /// The failure with another body.
    pub fn render_as(&self, body: String, call: &Call<'_>) -> Response<Body> {
        let mut response = page::page(page::JSON, self.status, body);
        let headers = response.headers_mut();
        if let Some(time) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(time)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §15.5.2; no word on why.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.ends_connection {
            call.close_after(&mut response);
        }
        response
    }
}

/// What the core says no with, in the words of either language.
pub fn account(error: &AccountError, language: Language) -> Failure {
    let (status, en, zh) = words(error);
    let text = match language {
        Language::En => en,
        Language::Zh => zh,
    };
    let failure = Failure::new(status, text);
    match error {
        AccountError::TooMany { retry_after }
        | AccountError::MailedJustNow { retry_after }
        | AccountError::Busy { retry_after } => failure.again_after(*retry_after),
        AccountError::Unavailable => failure.again_after(SOON),
        _ => failure,
    }
}

#[rustfmt::skip]
fn words(error: &AccountError) -> (StatusCode, &'static str, &'static str) {
    use AccountError as E;
    const BAD: StatusCode = StatusCode::BAD_REQUEST;
    const WHO: StatusCode = StatusCode::UNAUTHORIZED;
    const NO: StatusCode = StatusCode::FORBIDDEN;
    const TAKEN: StatusCode = StatusCode::CONFLICT;
    const LATER: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
    match error {
        E::InvalidCredentials => (WHO, "Invalid credentials", "用户名或密码错误"),
        E::UserExists(Unique::Username) => (TAKEN, "Username already exists", "用户名已存在"),
        E::UserExists(Unique::Email) => (TAKEN, "Email already exists", "邮箱已存在"),
        E::UserExists(_) => (TAKEN, "User already exists", "用户已存在"),
        E::WeakPassword(lacks) if lacks.contains(&Weakness::Length) => (BAD, "The password is too short", "密码太短"),
        E::WeakPassword(_) => (BAD, "The password is too weak", "密码强度不足"),
        E::PasswordTooLong => (BAD, "The password is too long", "密码太长"),
        E::PasswordUnfit => (BAD, "The password is not valid", "密码无效"),
        E::InvalidEmail => (BAD, "The email is not valid", "邮箱格式错误"),
        E::InvalidUsername => (BAD, "The username is not valid", "用户名格式错误"),
        E::InvalidPhone => (BAD, "The phone number is not valid", "手机号格式错误"),
        E::InvalidName => (BAD, "The name is not valid", "名称无效"),
        E::MetadataTooLarge => (BAD, "The metadata is too large", "用户信息过大"),
        E::NameMissing => (BAD, "An email is needed first", "请先设置邮箱"),
        E::SamePassword => (BAD, "The new password is the old one", "新密码不能与旧密码相同"),
        E::CurrentPasswordRequired => (BAD, "The current password is needed", "需要当前密码"),
        E::ReauthenticationNeeded => (BAD, "Log in again first", "请先重新登录"),
        E::CodeInvalid => (BAD, "The code is not valid", "验证码无效"),
        E::SignUpsOff => (NO, "Registration is disabled", "注册已关闭"),
        E::AnonymousOff => (NO, "Anonymous sign-ins are disabled", "匿名登录已关闭"),
        E::UserBanned | E::UserDisabled => (NO, "The account is disabled", "账户已被禁用"),
        E::EmailNotConfirmed => (NO, "The email is not confirmed", "邮箱未验证"),
        E::CurrentPasswordWrong => (NO, "The current password is wrong", "当前密码错误"),
        E::RefreshUnknown | E::RefreshMalformed | E::RefreshReused
        | E::SessionGone | E::UserGone => (WHO, "The session has ended; log in again", "会话已结束，请重新登录"),
        E::SessionExpired => (WHO, "The session has expired; log in again", "会话已过期，请重新登录"),
        E::NotFound => (StatusCode::NOT_FOUND, "Not found", "资源不存在"),
        E::TooMany { .. } | E::MailedJustNow { .. } => (StatusCode::TOO_MANY_REQUESTS, "Too many requests; try again later", "请求过于频繁，请稍后再试"),
        E::Busy { .. } => (LATER, "Too much to do; try again later", "服务繁忙，请稍后再试"),
        E::Unavailable => (LATER, "Not available; try again later", "服务暂不可用，请稍后再试"),
        E::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "The gateway failed", "网关内部错误"),
    }
}

/// When what is away may be back.
const SOON: Duration = Duration::from_secs(1);

/// A fraction counts as a whole second: whoever comes too early is refused again.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
