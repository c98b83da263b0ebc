//! Small whole answers, and the two probes, which stand on the admin listener and, where `public_probes`
//! says so, on the public one.

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};

use crate::body::Body;
use crate::observe::readiness::Board;
use crate::refusal::Refusal;

/// An answer that no cache may keep.
pub fn page(
    content_type: &'static str,
    status: StatusCode,
    text: impl Into<bytes::Bytes>,
) -> Response<Body> {
    let text = text.into();
    let length = HeaderValue::from(text.len());
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_LENGTH, length);
    response
}

/// An answer in JSON.
pub fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(text) => page(JSON, status, text),
        // Texts, numbers and maps of texts: there is no value of ours that fails.
        Err(_) => page(JSON, StatusCode::INTERNAL_SERVER_ERROR, "{}"),
    }
}

/// `/healthz`: the process is alive.
pub fn healthz() -> Response<Body> {
    page(JSON, StatusCode::OK, r#"{"status":"ok"}"#)
}

/// `/readyz`: 200 when every part can serve, else 503; each part is named.
pub fn readyz(board: &Board) -> Response<Body> {
    match board.render() {
        (true, text) => page(JSON, StatusCode::OK, text),
        (false, text) => page(JSON, StatusCode::SERVICE_UNAVAILABLE, text),
    }
}

/// For calls that change nothing.
///
/// # Errors
/// For any method but `GET` and `HEAD`.
pub fn read_only(method: &Method) -> Result<(), Refusal> {
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Refusal::MethodRefused),
    }
}

/// The answer as `method` gets it: without its body for `HEAD`.
pub fn for_method(method: &Method, mut response: Response<Body>) -> Response<Body> {
    if method == Method::HEAD {
        *response.body_mut() = Body::Empty;
    }
    response
}

/// The type of what the gateway answers in JSON.
pub const JSON: &str = "application/json; charset=utf-8";
