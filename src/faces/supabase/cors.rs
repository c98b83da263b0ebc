//! Pages of other origins: the answer to a browser's question beforehand (Fetch §4.8), and the headers without which a page
//! could read no answer, failures included.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderMap, VARY,
};
use http::{HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::request::head::OriginHeader;

/// Which pages may call.
#[derive(Clone, Debug)]
pub enum Origins {
    /// Any: nothing is said by cookies, so a page can say no more than any program can.
    Any,
    /// Pages of these.
    These(Vec<HeaderValue>),
}

impl Origins {
    /// Compiles `cors_origins`.
    pub fn build(origins: &[Box<str>]) -> Self {
        match origins.iter().any(|origin| **origin == *"*") {
            true => Self::Any,
            // The config reads origins as texts of visible ASCII.
            false => Self::These(
                origins
                    .iter()
                    .filter_map(|origin| HeaderValue::from_str(origin).ok())
                    .collect(),
            ),
        }
    }

    /// Lets a page of `origin` read an answer, if it may.
    pub fn open(&self, origin: &OriginHeader, headers: &mut HeaderMap) {
        let allowed = match (self, origin) {
            (Self::Any, _) => HeaderValue::from_static("*"),
            (Self::These(known), OriginHeader::One(origin)) if known.contains(origin) => {
                origin.clone()
            }
            (Self::These(_), _) => {
                headers.append(VARY, HeaderValue::from_static("Origin"));
                return;
            }
        };
        if matches!(self, Self::These(_)) {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(EXPOSED),
        );
    }
}

/// The answer to `OPTIONS`. It asks for no key: browsers send none along.
pub fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    for (name, value) in [
        (
            ACCESS_CONTROL_ALLOW_METHODS,
            "GET, POST, PUT, PATCH, DELETE, OPTIONS",
        ),
        (ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED),
        (ACCESS_CONTROL_MAX_AGE, "7200"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// All that the clients send, the data API's and tracing's included.
const ALLOWED: &str = "authorization, apikey, content-type, accept, x-client-info, x-supabase-api-version, \
                       x-retry-count, x-jwt-aud, traceparent, tracestate, baggage";

/// Without the version no page can read the code of a failure; without the others it sees one page of users.
const EXPOSED: &str = "x-supabase-api-version, x-total-count, link, retry-after, x-sb-error-code";

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(origins: &[&str], origin: OriginHeader) -> HeaderMap {
        let origins: Vec<Box<str>> = origins.iter().map(|&it| it.into()).collect();
        let mut headers = HeaderMap::new();
        Origins::build(&origins).open(&origin, &mut headers);
        headers
    }

    fn from(origin: &'static str) -> OriginHeader {
        OriginHeader::One(HeaderValue::from_static(origin))
    }

    #[test]
    fn any_page_may_read_where_any_may_and_never_with_credentials() {
        let headers = opened(&["*"], from("https://a.example"));
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!headers.contains_key("access-control-allow-credentials"));
        let exposed = headers[ACCESS_CONTROL_EXPOSE_HEADERS].to_str().unwrap();
        assert!(exposed.contains("x-supabase-api-version") && exposed.contains("link"));
        assert!(!headers.contains_key(VARY));
    }

    #[test]
    fn only_named_origins_may_read_where_some_are_named() {
        for (origin, allowed) in [
            (from("https://a.example"), Some("https://a.example")),
            (from("https://a.example.evil.example"), None),
            (from("https://A.example"), None),
            (from("null"), None),
            (OriginHeader::Missing, None),
            (OriginHeader::Several, None),
        ] {
            let headers = opened(&["https://b.example", "https://a.example"], origin.clone());
            let told = headers.get(ACCESS_CONTROL_ALLOW_ORIGIN);
            assert_eq!(
                told.map(|value| value.to_str().unwrap()),
                allowed,
                "{origin:?}"
            );
            assert_eq!(headers[VARY], "Origin");
        }
    }

    #[test]
    fn a_browser_is_told_all_that_the_clients_send() {
        let response = preflight();
        assert_eq!(response.status(), 204);
        let allowed = response.headers()[ACCESS_CONTROL_ALLOW_HEADERS]
            .to_str()
            .unwrap();
        for name in [
            "authorization",
            "apikey",
            "content-type",
            "x-client-info",
            "x-supabase-api-version",
        ] {
            assert!(allowed.split(", ").any(|it| it == name), "{name}");
        }
    }
}
