//! The body of a call: read whole, bounded in size and time, then as JSON or as a form. What is wrong with it is
//! told by name of the member, in both languages; never what came.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::typed;
use crate::body::Body;
use crate::identity::json;
use crate::refusal::{Language, Refusal};

/// What is wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It is larger than [`MAX_BODY`].
    TooLarge,
    /// It stopped arriving.
    TimedOut,
    /// Its sender broke off, or framed it badly.
    Broken,
    /// Its type is not one that the call takes.
    Type,
    /// It is no JSON object, or one with a member twice; or no form.
    Syntax,
    /// This member is missing.
    Missing(Box<str>),
    /// This member is of the wrong type.
    Wrong(Box<str>),
}

/// The largest body of a call, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

impl Flaw {
    /// The status to say it with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::Type => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Broken | Self::Syntax | Self::Missing(_) | Self::Wrong(_) => {
                StatusCode::BAD_REQUEST
            }
        }
    }

    /// The text to say it with.
    pub fn text(&self, language: Language) -> String {
        let fixed = |refusal: Refusal| refusal.text(language).to_owned();
        match (self, language) {
            (Self::TooLarge, _) => fixed(Refusal::BodyTooLarge),
            (Self::TimedOut, _) => fixed(Refusal::BodyTimeout),
            (Self::Broken, _) => fixed(Refusal::RequestMalformed),
            (Self::Type, Language::En) => "Content-Type must be application/json".to_owned(),
            (Self::Type, Language::Zh) => "Content-Type必须为application/json".to_owned(),
            (Self::Syntax, Language::En) => "The body is not a well-formed JSON object".to_owned(),
            (Self::Syntax, Language::Zh) => "请求体不是有效的JSON对象".to_owned(),
            (Self::Missing(field), Language::En) => format!("Missing field: {field}"),
            (Self::Missing(field), Language::Zh) => format!("缺少字段：{field}"),
            (Self::Wrong(field), Language::En) => format!("Invalid field: {field}"),
            (Self::Wrong(field), Language::Zh) => format!("字段无效：{field}"),
        }
    }

    /// Whether the connection must end with the answer, because the rest of the body is not read.
    pub fn ends_connection(&self) -> bool {
        matches!(self, Self::TooLarge | Self::TimedOut | Self::Broken)
    }
}

/// The kind of a body, by its `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `application/json`.
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// No type is given.
    None,
    /// Another type, or several.
    Other,
}

impl Kind {
    /// Reads `Content-Type`. A charset must be UTF-8: JSON has no other (RFC 8259 §8.1).
    pub fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(CONTENT_TYPE).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Self::None,
            (Some(value), None) => value.to_str().unwrap_or_default(),
            (Some(_), Some(_)) => return Self::Other,
        };
        let mut parts = value.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let is_utf8 = |part: &str| match part.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
                let value = value.trim().trim_matches('"');
                value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("utf8")
            }
            _ => true,
        };
        if !parts.all(is_utf8) {
            return Self::Other;
        }
        match () {
            () if kind.eq_ignore_ascii_case("application/json") => Self::Json,
            () if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") => Self::Form,
            () => Self::Other,
        }
    }
}

/// Reads a whole body; it must be there within `time`.
///
/// # Errors
/// When it is too large, too slow, or breaks off.
pub async fn read(headers: &HeaderMap, body: Body, time: Duration) -> Result<Bytes, Flaw> {
    let told = headers.get(CONTENT_LENGTH);
    let told = told.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|length| length > MAX_BODY as u64) {
        return Err(Flaw::TooLarge);
    }
    let whole = Limited::new(body, MAX_BODY).collect();
    match tokio::time::timeout(time, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Flaw::TooLarge),
        Ok(Err(_)) => Err(Flaw::Broken),
        Err(_) => Err(Flaw::TimedOut),
    }
}

/// Reads a body of JSON as a request.
///
/// # Errors
/// When it is no JSON object, or not such a one.
pub fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Flaw> {
    typed::read(json::parse_object(bytes).map_err(|_| Flaw::Syntax)?)
}

/// Reads a form as a request whose members are texts.
///
/// # Errors
/// When it is no UTF-8, has a member twice, or is not such a request.
pub fn form<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Flaw> {
    let mut object = Map::new();
    for pair in bytes
        .split(|byte| *byte == b'&')
        .filter(|it| !it.is_empty())
    {
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let mut half = || unescape(halves.next().unwrap_or_default()).ok_or(Flaw::Syntax);
        let (name, value) = (half()?, half()?);
        if object.insert(name, Value::String(value)).is_some() {
            return Err(Flaw::Syntax);
        }
    }
    typed::read(object)
}

/// Decodes one half of a form's pair; `None` where an escape is none, or it is no UTF-8.
fn unescape(text: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => out.push(b' '),
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                rest = after;
            }
            byte => out.push(*byte),
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct LogIn {
        username: String,
        password: String,
    }

    #[test]
    fn the_kind_of_a_body_is_its_one_content_type() {
        for (types, kind) in [
            (&[][..], Kind::None),
            (&["application/json"], Kind::Json),
            (&["Application/JSON; charset=UTF-8"], Kind::Json),
            (&["application/json;charset=\"utf-8\""], Kind::Json),
            (&["application/json; charset=utf-16"], Kind::Other),
            (&["application/x-www-form-urlencoded"], Kind::Form),
            (&["application/jsonx"], Kind::Other),
            (&["text/plain"], Kind::Other),
            (&[""], Kind::Other),
            (&["application/json", "application/json"], Kind::Other),
        ] {
            let mut headers = HeaderMap::new();
            for value in types {
                headers.append(CONTENT_TYPE, HeaderValue::from_static(value));
            }
            assert_eq!(Kind::of(&headers), kind, "{types:?}");
        }
    }

    #[test]
    fn json_is_one_object_with_each_member_once() {
        for (text, flaw) in [
            ("", Flaw::Syntax),
            ("{", Flaw::Syntax),
            ("[]", Flaw::Syntax),
            ("null", Flaw::Syntax),
            ("{}x", Flaw::Syntax),
            ("\u{feff}{}", Flaw::Syntax),
            (
                r#"{"username":"a","username":"b","password":"c"}"#,
                Flaw::Syntax,
            ),
            (
                r#"{"username":"a","password":"b","x":{"y":1,"y":2}}"#,
                Flaw::Syntax,
            ),
            (r#"{"username":"\ud800","password":"b"}"#, Flaw::Syntax),
            ("{}", Flaw::Missing("username".into())),
            (r#"{"username":"a"}"#, Flaw::Missing("password".into())),
            (
                r#"{"username":7,"password":"b"}"#,
                Flaw::Wrong("username".into()),
            ),
        ] {
            assert_eq!(json::<LogIn>(text.as_bytes()), Err(flaw), "{text}");
        }
        let deep = format!("{{\"username\":{}", "[".repeat(50_000));
        assert_eq!(json::<LogIn>(deep.as_bytes()), Err(Flaw::Syntax));
    }

    #[test]
    fn a_form_is_read_like_json() {
        let login = form::<LogIn>(b"grant_type=password&username=a%40b+c&password=%E4%BD%A0&");
        let expected = LogIn {
            username: "a@b c".to_owned(),
            password: "\u{4f60}".to_owned(),
        };
        assert_eq!(login, Ok(expected));
        for (text, flaw) in [
            (&b"username=a"[..], Flaw::Missing("password".into())),
            (b"username=a&password=%ff", Flaw::Syntax),
            (b"username=a&password=%+1", Flaw::Syntax),
            (b"username=a&password=%4", Flaw::Syntax),
            (b"username=a&username=b&password=c", Flaw::Syntax),
        ] {
            assert_eq!(form::<LogIn>(text), Err(flaw), "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_body_is_bounded_whatever_its_head_says() {
        let time = Duration::from_secs(60);
        let none = HeaderMap::new();
        let fits = read(&none, Body::full(vec![b'x'; MAX_BODY]), time).await;
        assert_eq!(fits.map(|bytes| bytes.len()), Ok(MAX_BODY));
        let more = read(&none, Body::full(vec![b'x'; MAX_BODY + 1]), time).await;
        assert_eq!(more, Err(Flaw::TooLarge));
        let mut told = HeaderMap::new();
        told.insert(CONTENT_LENGTH, HeaderValue::from(MAX_BODY + 1));
        assert_eq!(read(&told, Body::Empty, time).await, Err(Flaw::TooLarge));
    }
}
