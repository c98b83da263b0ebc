"""Security catalogue §6: the WebSocket handshake from raw sockets, in front of an upstream that keeps what it gets."""

import json

import pytest
from harness.frames import KEY, PING, TEXT, Socket, frame, handshake
from harness.gateway import GUARDED, config
from harness.raw import ask, request
from harness.recorder import accept
from harness.tokens import mint
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

OWN_CODES = GUARDED.replace(
    'auth = "required"\n\n[[route]]\nname = "admin"',
    'auth = "required"\norigins = ["https://app.test"]\n\n[[route]]\nname = "admin"',
)


@pytest.fixture(scope="module")
def listed(start):
    """As `guarded`, with `https://app.test` as the one origin that may send a cookie to `/api`."""
    assert OWN_CODES != GUARDED
    return start(config(OWN_CODES))


def bearer() -> str:
    """A good token's header line."""
    return f"Authorization: Bearer {mint()}"


def test_a_proper_handshake_is_answered_by_the_upstreams_own_accept(guarded, recorder):
    with Socket(guarded.address) as socket:
        reply = socket.shake("/api/ws", bearer(), "x-user-id: evil")
        assert reply.status == 101
        assert reply.get("sec-websocket-accept") == accept(KEY).decode()
    seen = recorder.take()
    assert seen.one("x-user-id") == "user-1"
    assert seen.one("upgrade").lower() == "websocket"
    assert seen.one("connection").lower() == "upgrade"
    assert seen.all("authorization") == []


def variant(*headers: str, line: str = "GET /api/ws") -> bytes:
    """A handshake made of exactly these lines, with a good token."""
    return request(line, bearer(), *headers)


UPGRADE, CONNECTION, KEY_LINE, VERSION = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
)

REFUSED = {
    "version 12": variant(UPGRADE, CONNECTION, KEY_LINE, "Sec-WebSocket-Version: 12"),
    "version 8": variant(UPGRADE, CONNECTION, KEY_LINE, "Sec-WebSocket-Version: 8"),
    "no version": variant(UPGRADE, CONNECTION, KEY_LINE),
    "two versions": variant(UPGRADE, CONNECTION, KEY_LINE, "Sec-WebSocket-Version: 13, 8"),
    "no key": variant(UPGRADE, CONNECTION, VERSION),
    "two keys": variant(UPGRADE, CONNECTION, KEY_LINE, KEY_LINE, VERSION),
    "a short key": variant(UPGRADE, CONNECTION, "Sec-WebSocket-Key: AAAA", VERSION),
    "a key that is no base64": variant(UPGRADE, CONNECTION, "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==", VERSION),
    "POST": variant(UPGRADE, CONNECTION, KEY_LINE, VERSION, "Content-Length: 0", line="POST /api/ws"),
    "h2c and websocket": variant("Upgrade: h2c, websocket", CONNECTION, KEY_LINE, VERSION),
    "websocket and h2c": variant("Upgrade: websocket, h2c", CONNECTION, KEY_LINE, VERSION),
    "two upgrades": variant(UPGRADE, "Upgrade: h2c", CONNECTION, KEY_LINE, VERSION),
    "a body": variant(UPGRADE, CONNECTION, KEY_LINE, VERSION, "Content-Length: 5") + b"hello",
    "a chunked body": variant(UPGRADE, CONNECTION, KEY_LINE, VERSION, "Transfer-Encoding: chunked")
    + b"5\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_handshake_that_is_not_proper_makes_no_tunnel(guarded, recorder, name):
    with Socket(guarded.address) as socket:
        socket.send(REFUSED[name])
        reply = socket.reply()
        assert reply.status in (400, 426, 501), reply.head
        if reply.status == 426:
            assert reply.get("sec-websocket-version") == "13"
    while not recorder.nothing():
        # Refused by the gateway is best; what is passed on must not have been an upgrade.
        assert recorder.take().all("upgrade") == []


@pytest.mark.parametrize(
    "headers",
    [
        [UPGRADE, KEY_LINE, VERSION],
        [CONNECTION, KEY_LINE, VERSION],
        ["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__"],
    ],
    ids=["no Connection", "no Upgrade", "h2c"],
)
def test_what_asks_for_no_websocket_is_no_upgrade(guarded, recorder, headers):
    with Socket(guarded.address) as socket:
        socket.send(variant(*headers))
        reply = socket.reply()
        assert reply.status != 101
    if reply.status == 200:
        seen = recorder.take()
        assert seen.all("upgrade") == [] and seen.all("http2-settings") == []


@pytest.mark.parametrize(
    "form", [["Upgrade: WebSocket", "Connection: keep-alive, Upgrade"], ["upgrade: WEBSOCKET", "connection: upgrade"]]
)
def test_names_are_matched_in_any_case(guarded, recorder, form):
    with Socket(guarded.address) as socket:
        socket.send(variant(*form, KEY_LINE, VERSION))
        assert socket.reply().status == 101
    recorder.take()


def test_no_token_no_upstream(guarded, recorder):
    with Socket(guarded.address) as socket:
        reply = socket.shake("/api/ws")
        assert reply.status == 401
    assert recorder.nothing()


def test_the_credential_is_in_neither_target_nor_protocols(guarded, recorder):
    token = mint("ws-user")
    for target, headers, protocols in [
        (f"/api/ws?a=1&token={token}", [], []),
        (f"/api/ws?a=1&access_token={token}", [], []),
        ("/api/ws?a=1", [f"Sec-WebSocket-Protocol: bearer, {token}"], []),
        ("/api/ws?a=1", [f"Sec-WebSocket-Protocol: bearer, {token}, chat.v1, chat.v2"], ["chat.v1, chat.v2"]),
        (
            "/api/ws?a=1",
            ["Sec-WebSocket-Protocol: bearer", f"Sec-WebSocket-Protocol: {token}", "Sec-WebSocket-Protocol: chat.v1"],
            ["chat.v1"],
        ),
    ]:
        with Socket(guarded.address) as socket:
            reply = socket.shake(target, *headers)
            assert reply.status == 101, (target, headers)
            assert token.encode() not in reply.head
            if headers:
                assert reply.get("sec-websocket-protocol") == "bearer"
        seen = recorder.take()
        assert token.encode() not in seen.raw
        assert seen.target == "/api/ws?a=1"
        assert [
            value.replace(",", ", ").replace("  ", " ") for value in seen.all("sec-websocket-protocol")
        ] == protocols
        assert seen.one("x-user-id") == "ws-user"


@pytest.mark.parametrize("status", [200, 403, 426, 500])
def test_nothing_is_tunnelled_when_the_upstream_does_not_switch(guarded, recorder, status):
    with Socket(guarded.address) as socket:
        socket.send(
            handshake(f"/api/ws/status/{status}", bearer())
            + frame(TEXT, b"early")
            + request("GET /api/smuggled", "x-user-id: evil")
        )
        assert socket.reply().status == (502 if status == 200 else status) or status == 200
        behind = socket.rest()
        assert b"HTTP/1.1 200" not in behind
    assert recorder.take().target == f"/api/ws/status/{status}"
    assert recorder.tunnelled(f"/api/ws/status/{status}") == b""
    assert recorder.nothing()


def test_early_bytes_follow_the_upstreams_101(guarded, recorder):
    early = frame(TEXT, b"early") + frame(PING, b"bird")
    with Socket(guarded.address) as socket:
        socket.send(handshake("/api/ws/early", bearer()) + early)
        assert socket.reply().status == 101
        socket.send(frame(TEXT, b"late"))
    recorder.take()
    tunnelled = recorder.tunnelled("/api/ws/early")
    assert tunnelled.startswith(early)
    assert len(tunnelled) >= len(early)


FOREIGN = [
    "https://evil.test",
    "null",
    "",
    "https://app.test.evil.test",
    "https://xapp.test",
    "http://app.test",
    "https://app.test:8443",
    "https://APP.test.",
    "https://app.test/",
    "https://app.test, https://evil.test",
    "app.test",
    "https://app.test@evil.test",
]


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_cookie_from_a_foreign_page_opens_no_websocket(listed, recorder, origin):
    with Socket(listed.address) as socket:
        reply = socket.shake("/api/ws", f"Cookie: portcullis={mint()}", f"Origin: {origin}")
        assert reply.status == 403, reply.head
        assert b"origin_forbidden" in reply.body
    assert recorder.nothing()


def test_two_origins_open_nothing(listed, recorder):
    with Socket(listed.address) as socket:
        reply = socket.shake(
            "/api/ws", f"Cookie: portcullis={mint()}", "Origin: https://app.test", "Origin: https://app.test"
        )
        assert reply.status in (400, 403)
    assert recorder.nothing()


def test_a_cookie_with_no_origin_opens_nothing(listed, recorder):
    with Socket(listed.address) as socket:
        assert socket.shake("/api/ws", f"Cookie: portcullis={mint()}").status == 403
    assert recorder.nothing()


def test_the_listed_origin_may_use_the_cookie(listed, recorder):
    with Socket(listed.address) as socket:
        assert socket.shake("/api/ws", f"Cookie: portcullis={mint()}", "Origin: https://app.test").status == 101
    assert recorder.take().all("cookie") == []


def test_without_a_list_only_the_requests_own_origin_may_use_the_cookie(guarded, recorder):
    for origin, status in [
        ("http://gateway.test", 101),
        ("http://gateway.test:80", 101),
        ("http://other.test", 403),
        ("http://gateway.test:8080", 403),
    ]:
        with Socket(guarded.address) as socket:
            assert socket.shake("/api/ws", f"Cookie: portcullis={mint()}", f"Origin: {origin}").status == status, origin
        if status == 101:
            recorder.take()
    assert recorder.nothing()


def test_tokens_that_a_page_must_know_need_no_origin(listed, recorder):
    token = mint()
    for target, headers in [
        (f"/api/ws?token={token}", []),
        ("/api/ws", [f"Sec-WebSocket-Protocol: bearer, {token}"]),
        ("/api/ws", [f"token: {token}"]),
    ]:
        with Socket(listed.address) as socket:
            assert socket.shake(target, *headers, "Origin: https://evil.test").status == 101
        recorder.take()


def test_a_pending_handshake_with_a_conflict_is_400(guarded, recorder):
    reply = ask(
        guarded.address, handshake(f"/api/ws?token={mint('a')}", f"Sec-WebSocket-Protocol: bearer, {mint('b')}")
    )
    assert reply.status == 400
    assert recorder.nothing()


OTHER_CODES = """
[[upstream]]
name = "recorder"
endpoints = ["http://${RECORDER}"]

[[route]]
name = "sockets"
path = "/ws"
upstream = "recorder"
auth = "required"
[route.websocket]
on_reject = "close"
close_unauthenticated = 4501
close_forbidden = 1008

[[route]]
name = "editors"
path = "/editors"
upstream = "recorder"
auth = "required"
roles = ["editor"]
[route.websocket]
on_reject = "close"
close_forbidden = 4503
"""


def test_close_codes_of_refusals_are_those_of_the_config(start, recorder):
    gateway = start(config(OTHER_CODES))
    expected = {
        ("/ws", None): (4501, "token_missing"),
        ("/ws", mint(lifetime=-3600)): (4501, "token_expired"),
        ("/editors", mint()): (4503, "role_missing"),
        ("/editors", None): (4401, "token_missing"),
    }
    for (path, token), (code, word) in expected.items():
        headers = {"authorization": f"Bearer {token}"} if token else {}
        with connect(gateway.ws(path), additional_headers=headers) as socket:
            assert json.loads(socket.recv(timeout=20))["error"] == word
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(timeout=20)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, word)
    assert recorder.nothing()
