use super::tests::{PEER, hosted, parts, rules};
use super::*;
use crate::request::upgrade::Handshake;

fn extended(protocol: &'static str, lines: &[(&str, &str)]) -> Result<Head, Refusal> {
    let mut parts = parts("CONNECT", "https://example.com/ws", lines);
    parts.version = Version::HTTP_2;
    parts.extensions.insert(Protocol::from_static(protocol));
    Head::read(&mut parts, PEER, &rules())
}

const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
const V13: (&str, &str) = ("sec-websocket-version", "13");
const CONNECTION: (&str, &str) = ("connection", "keep-alive, Upgrade");

#[test]
fn a_sound_handshake_is_a_websocket() {
    let head = hosted("GET", &[("upgrade", "WebSocket"), CONNECTION, V13, KEY]).unwrap();
    assert_eq!(*head.upgrade(), Upgrade::Websocket(Handshake::Http1));
    assert!(head.is_websocket());
    let head = extended("websocket", &[V13]).unwrap();
    assert_eq!(*head.upgrade(), Upgrade::Websocket(Handshake::Http2));
    assert_eq!((head.method(), head.path()), (&Method::GET, "/ws"));
}

#[test]
fn a_crippled_handshake_is_refused() {
    let websocket = ("upgrade", "websocket");
    for (method, lines, refusal) in [
        (
            "POST",
            &[websocket, CONNECTION, V13, KEY][..],
            Refusal::UpgradeRefused,
        ),
        (
            "GET",
            &[websocket, CONNECTION, V13],
            Refusal::UpgradeRefused,
        ),
        (
            "GET",
            &[websocket, CONNECTION, V13, KEY, KEY],
            Refusal::UpgradeRefused,
        ),
        (
            "GET",
            &[websocket, CONNECTION, V13, ("sec-websocket-key", "short")],
            Refusal::UpgradeRefused,
        ),
        (
            "GET",
            &[
                websocket,
                CONNECTION,
                V13,
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=A"),
            ],
            Refusal::UpgradeRefused,
        ),
        (
            "GET",
            &[
                websocket,
                CONNECTION,
                V13,
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZWFh"),
            ],
            Refusal::UpgradeRefused,
        ),
        (
            "GET",
            &[websocket, CONNECTION, V13, KEY, ("content-length", "5")],
            Refusal::UpgradeRefused,
        ),
        (
            "GET",
            &[
                websocket,
                CONNECTION,
                V13,
                KEY,
                ("transfer-encoding", "chunked"),
            ],
            Refusal::UpgradeRefused,
        ),
        (
            "GET",
            &[websocket, CONNECTION, KEY],
            Refusal::WebsocketVersion,
        ),
        (
            "GET",
            &[websocket, CONNECTION, KEY, ("sec-websocket-version", "8")],
            Refusal::WebsocketVersion,
        ),
        (
            "GET",
            &[
                websocket,
                CONNECTION,
                KEY,
                ("sec-websocket-version", "13, 8"),
            ],
            Refusal::WebsocketVersion,
        ),
        (
            "GET",
            &[websocket, CONNECTION, KEY, V13, V13],
            Refusal::WebsocketVersion,
        ),
        (
            "GET",
            &[("upgrade", "h2c, websocket"), CONNECTION, V13, KEY],
            Refusal::UpgradeRefused,
        ),
        (
            "GET",
            &[("upgrade", "websocket, foo"), CONNECTION, V13, KEY],
            Refusal::UpgradeRefused,
        ),
        (
            "GET",
            &[websocket, websocket, CONNECTION, V13, KEY],
            Refusal::UpgradeRefused,
        ),
    ] {
        assert_eq!(
            hosted(method, lines).err(),
            Some(refusal),
            "{method} {lines:?}"
        );
    }
    assert_eq!(
        extended("websocket", &[]).err(),
        Some(Refusal::WebsocketVersion)
    );
    assert_eq!(
        extended("connect-udp", &[V13]).err(),
        Some(Refusal::UpgradeRefused)
    );
}

#[test]
fn extended_connect_can_be_switched_off() {
    let mut parts = parts("CONNECT", "https://a/", &[V13]);
    parts.version = Version::HTTP_2;
    parts.extensions.insert(Protocol::from_static("websocket"));
    let rules = HeadRules {
        http2_websocket: false,
        ..rules()
    };
    assert_eq!(
        Head::read(&mut parts, PEER, &rules).err(),
        Some(Refusal::UpgradeRefused)
    );
}

#[test]
fn other_upgrades_are_named_or_not_heard() {
    for (lines, upgrade) in [
        (&[("upgrade", "h2c"), CONNECTION][..], Upgrade::None),
        (&[("upgrade", "websocket")], Upgrade::None),
        (&[("upgrade", "a, b"), CONNECTION], Upgrade::None),
        (
            &[("upgrade", "Foo/1"), CONNECTION],
            Upgrade::Other("foo/1".into()),
        ),
        (&[], Upgrade::None),
    ] {
        assert_eq!(
            *hosted("GET", lines).unwrap().upgrade(),
            upgrade,
            "{lines:?}"
        );
    }
}
