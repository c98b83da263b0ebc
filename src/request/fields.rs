//! The fields that decide how a head is read, found in one pass over it.

use http::Method;
use http::header::{self, HeaderMap, HeaderValue};

/// The fields that decide how a head is read, found in one pass.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) host: One<'a>,
    pub(super) transfer_encoding: One<'a>,
    pub(super) content_length: One<'a>,
    pub(super) upgrade: One<'a>,
    pub(super) websocket_version: One<'a>,
    pub(super) websocket_key: One<'a>,
    pub(super) connection_upgrade: bool,
    pub(super) origin: One<'a>,
    request_method: One<'a>,
    pub(super) accept: Lines<'a>,
    pub(super) accept_language: Lines<'a>,
    /// Asks an upstream's framework to take the request for one of another method.
    overrides_method: bool,
    /// A value that two readers could understand differently.
    pub(super) is_garbled: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn gather(headers: &'a HeaderMap) -> Self {
        let mut fields = Self::default();
        for (name, value) in headers {
            fields.is_garbled |= is_padded(value);
            match *name {
                header::HOST => fields.host.add(value),
                header::TRANSFER_ENCODING => fields.transfer_encoding.add(value),
                header::CONTENT_LENGTH => fields.content_length.add(value),
                header::CONNECTION => fields.connection_upgrade |= names_upgrade(value),
                header::UPGRADE => fields.upgrade.add(value),
                header::SEC_WEBSOCKET_VERSION => fields.websocket_version.add(value),
                header::SEC_WEBSOCKET_KEY => fields.websocket_key.add(value),
                header::ORIGIN => fields.origin.add(value),
                header::ACCESS_CONTROL_REQUEST_METHOD => fields.request_method.add(value),
                header::ACCEPT => fields.accept.add(value),
                header::ACCEPT_LANGUAGE => fields.accept_language.add(value),
                // A list of tokens (RFC 6455 §4.1); what cannot be read could hide a credential.
                header::SEC_WEBSOCKET_PROTOCOL => fields.is_garbled |= value.to_str().is_err(),
                _ => fields.overrides_method |= OVERRIDES.contains(&name.as_str()),
            }
        }
        fields
    }

    /// The method that a CORS preflight asks leave for. A browser's has no body, asks for no other protocol
    /// and has none of the fields that it asks leave to send: what has is an action in disguise.
    pub(super) fn preflight(&self, method: &Method) -> Option<Method> {
        let bodiless = matches!(self.transfer_encoding, One::None)
            && match self.content_length {
                One::None => true,
                One::Single(length) => length == "0",
                One::Many => false,
            };
        if !bodiless || self.overrides_method || !matches!(self.upgrade, One::None) {
            return None;
        }
        match (method, self.origin, self.request_method) {
            (&Method::OPTIONS, One::Single(_), One::Single(asked)) => {
                Method::from_bytes(asked.as_bytes()).ok()
            }
            _ => None,
        }
    }
}

/// A field that should come once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum One<'a> {
    #[default]
    None,
    Single(&'a HeaderValue),
    Many,
}

impl<'a> One<'a> {
    fn add(&mut self, value: &'a HeaderValue) {
        *self = match self {
            Self::None => Self::Single(value),
            Self::Single(_) | Self::Many => Self::Many,
        };
    }
}

/// A field that may come on several lines, of which the first two count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lines<'a>([Option<&'a HeaderValue>; 2]);

impl<'a> Lines<'a> {
    fn add(&mut self, value: &'a HeaderValue) {
        match self.0 {
            [None, _] => self.0[0] = Some(value),
            _ => self.0[1] = Some(value),
        }
    }

    pub(super) fn any(&self, test: impl Fn(&HeaderValue) -> bool) -> bool {
        self.0.iter().flatten().any(|value| test(value))
    }

    /// Whether there is one, and the test holds of each.
    pub(super) fn is_all(&self, test: impl Fn(&HeaderValue) -> bool) -> bool {
        self.0[0].is_some() && self.0.iter().flatten().all(|value| test(value))
    }

    pub(super) fn first(&self) -> Option<&'a HeaderValue> {
        self.0[0]
    }
}

fn names_upgrade(connection: &HeaderValue) -> bool {
    let tokens = connection.as_bytes().split(|&byte| byte == b',');
    tokens
        .map(<[u8]>::trim_ascii)
        .any(|token| token.eq_ignore_ascii_case(b"upgrade"))
}

/// Whether there is white space around it, which HTTP/1.1 cuts off and HTTP/2 forbids (RFC 9113 §8.2.1), but
/// h2 lets through: ` Bearer …` is no credential here, and one for the next reader.
fn is_padded(value: &HeaderValue) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_space(value.as_bytes().first()) || is_space(value.as_bytes().last())
}

/// The fields by which frameworks let a request have another method.
const OVERRIDES: &[&str] = &[
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];
