//! Which protocol a request asks to change to: a WebSocket handshake in its HTTP/1.1 form (RFC 6455 §4.2.1)
//! or its HTTP/2 form (RFC 8441 §5), another single token, or none. Crippled handshakes are refused here,
//! so that nothing behind has to ask again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method, Version};

use super::fields::{Fields, One};
use super::head::HeadRules;
use crate::refusal::Refusal;

/// What a request wants to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// It stays HTTP.
    None,
    /// A sound WebSocket handshake.
    Websocket(Handshake),
    /// Another protocol, lower case; its route says whether it is let through.
    Other(Box<str>),
}

/// The form of a WebSocket handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// `GET` with `Upgrade: websocket`, answered 101.
    Http1,
    /// Extended `CONNECT`, answered 200.
    Http2,
}

impl Upgrade {
    /// Reads an HTTP/1.1 request's wish.
    ///
    /// An `Upgrade` that `Connection` does not name is no wish (RFC 9110 §7.8), and one to h2c is not
    /// heard: it would open a tunnel past the gate.
    pub(super) fn read(
        method: &Method,
        version: Version,
        fields: &Fields<'_>,
    ) -> Result<Self, Refusal> {
        let stated = match fields.upgrade {
            One::None => return Ok(Self::None),
            One::Single(value) => value.to_str().map_err(|_| Refusal::UpgradeRefused)?.trim(),
            One::Many => return Err(Refusal::UpgradeRefused),
        };
        if !fields.connection_upgrade || version != Version::HTTP_11 {
            return Ok(Self::None);
        }
        let mut tokens = stated.split(',').map(str::trim);
        let alone = !stated.contains(',');
        match () {
            () if alone && stated.eq_ignore_ascii_case("websocket") => {
                check_handshake(method, fields)?;
                check_key(&fields.websocket_key)?;
                Ok(Self::Websocket(Handshake::Http1))
            }
            // Offered beside another protocol: two readers may choose differently.
            () if tokens.any(|token| token.eq_ignore_ascii_case("websocket")) => {
                Err(Refusal::UpgradeRefused)
            }
            () if alone && !stated.is_empty() && !stated.eq_ignore_ascii_case("h2c") => {
                Ok(Self::Other(stated.to_ascii_lowercase().into()))
            }
            () => Ok(Self::None),
        }
    }

    /// Reads an extended `CONNECT` to `protocol`.
    pub(super) fn read_extended(
        protocol: &str,
        fields: &Fields<'_>,
        rules: &HeadRules,
    ) -> Result<Self, Refusal> {
        if protocol != "websocket" || !rules.http2_websocket {
            return Err(Refusal::UpgradeRefused);
        }
        check_version(&fields.websocket_version)?;
        Ok(Self::Websocket(Handshake::Http2))
    }
}

/// `GET`, no body, version 13.
fn check_handshake(method: &Method, fields: &Fields<'_>) -> Result<(), Refusal> {
    let bodiless = match fields.content_length {
        One::None => true,
        One::Single(length) => length == "0",
        One::Many => false,
    };
    if method != Method::GET || !bodiless || !matches!(fields.transfer_encoding, One::None) {
        return Err(Refusal::UpgradeRefused);
    }
    check_version(&fields.websocket_version)
}

fn check_version(version: &One<'_>) -> Result<(), Refusal> {
    match version {
        One::Single(version) if *version == "13" => Ok(()),
        _ => Err(Refusal::WebsocketVersion),
    }
}

/// Sixteen bytes in base64.
fn check_key(key: &One<'_>) -> Result<(), Refusal> {
    let sound = |key: &HeaderValue| {
        let mut bytes = [0; 18];
        key.len() == 24 && STANDARD.decode_slice(key.as_bytes(), &mut bytes) == Ok(16)
    };
    match key {
        One::Single(key) if sound(key) => Ok(()),
        _ => Err(Refusal::UpgradeRefused),
    }
}
