//! The answer to a WebSocket handshake (RFC 6455 section 4.2.2; RFC 8441 over HTTP/2), where the gateway
//! has a part in it: the subprotocol behind a token, and the acceptance of a refused one.

use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use serde::Serialize;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::body::Body;
use crate::config;
use crate::policy::Permit;
use crate::refusal::Refusal;

/// What the client offered, without its credential.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'h> {
    /// The HTTP version of the handshake.
    pub version: Version,
    /// The request's headers, from which the token has been taken.
    pub headers: &'h HeaderMap,
    /// Whether the token came as `Sec-WebSocket-Protocol: bearer, <token>`.
    pub bearer: bool,
}

impl Offer<'_> {
    /// The answer's subprotocol where the upstream chose `chosen`. A browser that offered some fails
    /// without an answer, so `bearer` is it where the upstream chose none.
    pub fn subprotocol(&self, chosen: Option<&HeaderValue>) -> Option<HeaderValue> {
        let bearer = self.bearer.then(|| HeaderValue::from_static("bearer"));
        chosen.cloned().or(bearer)
    }

    /// Accepts a handshake that no upstream will see, so that `refuse::refuse` can say why.
    /// Refused itself (`request_malformed`) where there is no key.
    pub fn accept(&self) -> Result<Response<Body>, Refusal> {
        let mut response = Response::new(Body::Empty);
        let headers = response.headers_mut();
        if let Some(subprotocol) = self.subprotocol(self.first().as_ref()) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        // RFC 8441 section 5: a 2xx accepts, without the fields that switch protocols.
        if self.version == Version::HTTP_2 {
            return Ok(response);
        }
        let key = self.headers.get(SEC_WEBSOCKET_KEY);
        let accept = accept_key(key.ok_or(Refusal::RequestMalformed)?)?;
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        Ok(response)
    }

    /// The first subprotocol that the client offered.
    fn first(&self) -> Option<HeaderValue> {
        let offered = self.headers.get(SEC_WEBSOCKET_PROTOCOL)?.as_bytes();
        let first = offered.split(|&byte| byte == b',').next()?.trim_ascii();
        HeaderValue::from_bytes(first)
            .ok()
            .filter(|first| !first.is_empty())
    }
}

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`.
pub fn accept_key(key: &HeaderValue) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| Refusal::Internal)
}

/// The code with which a refused WebSocket is closed.
pub fn close_code(refusal: Refusal, websocket: &config::Websocket) -> u16 {
    match refusal.status() {
        StatusCode::UNAUTHORIZED => websocket.close_unauthenticated,
        StatusCode::FORBIDDEN => websocket.close_forbidden,
        StatusCode::TOO_MANY_REQUESTS => websocket.close_limited,
        StatusCode::INTERNAL_SERVER_ERROR => INTERNAL_ERROR,
        status if status.is_server_error() => TRY_AGAIN_LATER,
        _ => POLICY_VIOLATION,
    }
}

/// The greeting's text; `connection_id` is the path's parameter of that name, percent-decoded.
pub fn greeting(
    websocket: &config::Websocket,
    connection_id: Option<&str>,
    permit: &Permit,
) -> Option<String> {
    let greeting = Greeting {
        kind: "connected",
        message: &websocket.greeting_message,
        connection_id,
        user_id: permit.identity().map(|identity| &*identity.user_id),
        auth_status: permit.status().word(),
    };
    if !websocket.greeting {
        return None;
    }
    serde_json::to_string(&greeting).ok()
}

/// The greeting, in the order in which clients of the original service know it.
#[derive(Serialize)]
struct Greeting<'g> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'g str,
    connection_id: Option<&'g str>,
    user_id: Option<&'g str>,
    auth_status: &'static str,
}

/// Close codes of IANA's registry.
const POLICY_VIOLATION: u16 = 1008;
const INTERNAL_ERROR: u16 = 1011;
const TRY_AGAIN_LATER: u16 = 1013;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::WebsocketReject;
    use crate::identity::Caller;
    use crate::streams::tests::known;

    fn websocket() -> config::Websocket {
        config::Websocket {
            enabled: true,
            on_reject: WebsocketReject::Close,
            greeting: true,
            greeting_message: "hello".into(),
            ping_interval: None,
            idle_timeout: None,
            close_unauthenticated: 4401,
            close_forbidden: 4403,
            close_limited: 4429,
        }
    }

    fn headers(protocols: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(
            SEC_WEBSOCKET_KEY,
            HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="),
        );
        if !protocols.is_empty() {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocols));
        }
        headers
    }

    #[test]
    fn a_refused_handshake_is_accepted_as_the_rfc_says() {
        let headers = headers("");
        let offer = Offer {
            version: Version::HTTP_11,
            headers: &headers,
            bearer: false,
        };
        let response = offer.accept().expect("an answer");
        assert_eq!(response.status(), 101);
        assert_eq!(
            response.headers()[SEC_WEBSOCKET_ACCEPT],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert!(!response.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
        let offer = Offer {
            version: Version::HTTP_2,
            ..offer
        };
        let response = offer.accept().expect("an answer");
        assert_eq!(
            (response.status(), response.headers().len()),
            (StatusCode::OK, 0)
        );
    }

    #[test]
    fn a_handshake_without_a_key_is_refused() {
        let headers = HeaderMap::new();
        let offer = Offer {
            version: Version::HTTP_11,
            headers: &headers,
            bearer: true,
        };
        assert_eq!(offer.accept().err(), Some(Refusal::RequestMalformed));
    }

    #[test]
    fn a_browser_that_offered_protocols_gets_one() {
        let chat = HeaderValue::from_static("chat.v1");
        for (left, bearer, refused, chosen) in [
            ("", false, None, None),
            ("", true, Some("bearer"), Some("bearer")),
            ("chat.v1, chat.v2", true, Some("chat.v1"), Some("bearer")),
            ("chat.v1", false, Some("chat.v1"), None),
        ] {
            let headers = headers(left);
            let offer = Offer {
                version: Version::HTTP_11,
                headers: &headers,
                bearer,
            };
            let response = offer.accept().expect("an answer");
            let answer = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
            assert_eq!(answer.and_then(|answer| answer.to_str().ok()), refused);
            let none = offer.subprotocol(None);
            assert_eq!(none.as_ref().and_then(|none| none.to_str().ok()), chosen);
            assert_eq!(offer.subprotocol(Some(&chat)), Some(chat.clone()));
        }
    }

    #[test]
    fn close_codes_follow_the_status() {
        for (refusal, code) in [
            (Refusal::TokenMissing, 4401),
            (Refusal::RoleMissing, 4403),
            (Refusal::KeysUnavailable, 1013),
            (Refusal::UpstreamFailed, 1013),
            (Refusal::Internal, 1011),
            (Refusal::CredentialsConflict, 1008),
        ] {
            assert_eq!(
                close_code(refusal, &websocket()),
                code,
                "{}",
                refusal.word()
            );
        }
    }

    #[test]
    fn the_greeting_tells_who_is_known() {
        let read = |text: Option<String>| -> serde_json::Value {
            serde_json::from_str(&text.expect("a greeting")).expect("JSON")
        };
        let guest = greeting(&websocket(), None, &Permit::for_test(Caller::Guest));
        let expected = json!({"type": "connected", "message": "hello", "connection_id": null, "user_id": null, "auth_status": "guest"});
        assert_eq!(read(guest), expected);
        let user = greeting(&websocket(), Some("a/b \""), &known(9).permit);
        let expected = json!({"type": "connected", "message": "hello", "connection_id": "a/b \"", "user_id": "u", "auth_status": "authenticated"});
        assert_eq!(read(user), expected);
        let silent = config::Websocket {
            greeting: false,
            ..websocket()
        };
        assert_eq!(greeting(&silent, None, &known(9).permit), None);
    }
}
