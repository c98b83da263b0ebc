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
}

impl<'a> Fields<'a> {
    pub(super) fn gather(headers: &'a HeaderMap) -> Self {
        let mut fields = Self::default();
        for (name, value) in headers {
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
                _ => {}
            }
        }
        fields
    }

    /// The method that a CORS preflight asks leave for.
    pub(super) fn preflight(&self, method: &Method) -> Option<Method> {
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
