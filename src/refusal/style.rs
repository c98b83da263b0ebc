//! A refusal as an answer: the shape of its body and its headers. The one place where an error becomes a
//! response. Nothing of the request but its id comes back in it.

use std::fmt::Write as _;

use http::header::{self, HeaderMap, HeaderName};
use http::{HeaderValue, Method, Response, StatusCode, Version};

use super::{Language, Refusal};
use crate::body::Body;
use crate::observe::text;
use crate::records::Api;

/// The shape of a refusal's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorStyle {
    /// `{"code","data","msg","error","request_id"}`.
    #[default]
    Envelope,
    /// RFC 9457 problem details.
    Problem,
    /// `{"detail"}`, with `error` and `request_id`.
    Detail,
    /// As this log-in API tells its own failures.
    Api(Api),
}

/// How a client wants to be refused.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The body's shape.
    pub style: ErrorStyle,
    /// The language of its text.
    pub language: Language,
    /// The request's id.
    pub request_id: &'a str,
    /// The request's method: the answer to HEAD has no body (RFC 9110 §9.3.2).
    pub method: &'a Method,
    /// The request's version: `Connection` and `Upgrade` are fields of HTTP/1.1 only (RFC 9113 §8.2.2).
    pub version: Version,
}

/// The refusal as a response.
pub fn render(refusal: Refusal, wanted: &Wanted<'_>) -> Response<Body> {
    let text = body_text(refusal, wanted);
    let length = text.len();
    let head_only = wanted.method == Method::HEAD;
    let mut response = Response::new(if head_only {
        Body::Empty
    } else {
        Body::full(text)
    });
    *response.status_mut() = refusal.status();
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    headers.insert(header::CONTENT_TYPE, content_type(wanted.style));
    headers.insert(header::CACHE_CONTROL, fixed("no-store"));
    if head_only {
        // What the answer to GET would have; the connection tells the length of every other body itself.
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if let Some(challenge) = challenge(refusal) {
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    insert_for_status(headers, refusal.status());
    if matches!(wanted.version, Version::HTTP_10 | Version::HTTP_11) {
        insert_for_connection(headers, refusal);
    }
    response
}

/// The refusal's JSON alone, for those who are refused within a stream.
pub fn body_text(refusal: Refusal, wanted: &Wanted<'_>) -> String {
    let row = refusal.row();
    let status = row.status.as_u16();
    let message = refusal.text(wanted.language);
    if let ErrorStyle::Api(api) = wanted.style {
        return api_text(api, row.status, row.word, message);
    }
    let mut out = String::with_capacity(256);
    // Writing to a String can not fail.
    let _ = match wanted.style {
        ErrorStyle::Envelope => write!(out, "{{\"code\":{status},\"data\":null,\"msg\":"),
        ErrorStyle::Problem => {
            let title = row.status.canonical_reason().unwrap_or("Refused");
            write!(
                out,
                "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status},\"detail\":"
            )
        }
        ErrorStyle::Detail | ErrorStyle::Api(_) => out.write_str("{\"detail\":"),
    };
    text::push_json(&mut out, message);
    out.push_str(",\"error\":\"");
    out.push_str(row.word);
    out.push_str("\",\"request_id\":");
    text::push_json(&mut out, wanted.request_id);
    out.push('}');
    out
}

/// A failure of a log-in API as it tells one, to the member what its clients know.
pub fn api_text(api: Api, status: StatusCode, word: &str, message: &str) -> String {
    let mut out = String::with_capacity(128);
    // Writing to a String can not fail.
    let _ = match api {
        Api::App => write!(out, "{{\"code\":{},\"data\":null,\"msg\":", status.as_u16()),
        Api::Session => out.write_str("{\"success\":false,\"error\":"),
        Api::Token => out.write_str("{\"detail\":"),
        // The older of its two forms: all its clients read it, whatever version they asked for.
        Api::Supabase => write!(
            out,
            "{{\"code\":{},\"error_code\":\"{word}\",\"msg\":",
            status.as_u16()
        ),
    };
    text::push_json(&mut out, message);
    out.push('}');
    out
}

fn content_type(style: ErrorStyle) -> HeaderValue {
    fixed(match style {
        ErrorStyle::Problem => "application/problem+json",
        ErrorStyle::Envelope | ErrorStyle::Detail | ErrorStyle::Api(_) => {
            "application/json; charset=utf-8"
        }
    })
}

/// `WWW-Authenticate` as RFC 6750 §3 has it. A bad token is told no more than that it is bad, and a request
/// without one gets no `error` at all.
fn challenge(refusal: Refusal) -> Option<HeaderValue> {
    let text = match (refusal, refusal.status()) {
        (Refusal::TokenMissing, _) => r#"Bearer realm="portcullis""#,
        (Refusal::CredentialsConflict, _) => {
            r#"Bearer realm="portcullis", error="invalid_request""#
        }
        (Refusal::RoleMissing | Refusal::ConditionFailed, _) => {
            r#"Bearer realm="portcullis", error="insufficient_scope""#
        }
        (_, StatusCode::UNAUTHORIZED) => r#"Bearer realm="portcullis", error="invalid_token""#,
        _ => return None,
    };
    Some(fixed(text))
}

/// The fields that RFC 9110 asks for beside a status.
fn insert_for_status(headers: &mut HeaderMap, status: StatusCode) {
    let (name, value): (HeaderName, _) = match status {
        StatusCode::METHOD_NOT_ALLOWED => (
            header::ALLOW,
            "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        ),
        StatusCode::UPGRADE_REQUIRED => (header::SEC_WEBSOCKET_VERSION, "13"),
        StatusCode::SERVICE_UNAVAILABLE => (header::RETRY_AFTER, "1"),
        _ => return,
    };
    headers.insert(name, fixed(value));
}

/// The fields that HTTP/1.1 asks for: the upgrade that a 426 means, and the end of a connection on which it
/// is not certain where the next request begins, or whose request is not read to its end.
fn insert_for_connection(headers: &mut HeaderMap, refusal: Refusal) {
    match refusal {
        Refusal::WebsocketVersion => {
            headers.insert(header::UPGRADE, fixed("websocket"));
            headers.insert(header::CONNECTION, fixed("upgrade"));
        }
        Refusal::RequestMalformed
        | Refusal::UriTooLong
        | Refusal::HeadersTooLarge
        | Refusal::BodyTooLarge
        | Refusal::BodyTimeout
        | Refusal::Draining => {
            headers.insert(header::CONNECTION, fixed("close"));
        }
        _ => {}
    }
}

fn fixed(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

/// Fields that a refusal may have at once.
const HEADERS: usize = 6;

#[cfg(test)]
mod tests;
