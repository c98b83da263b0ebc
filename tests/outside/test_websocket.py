"""WebSockets through the gateway with the Python `websockets` client and a FastAPI application behind it."""

import json
import time

import pytest
from harness.app import heard
from harness.frames import CLOSE, PING, TEXT, Socket, frame
from harness.gateway import config
from harness.tokens import bearer, mint
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

ROUTES = """
[[upstream]]
name = "app"
endpoints = ["http://${APP}"]

[[route]]
name = "echo"
path = "/ws/echo/{*name}"
upstream = "app"
auth = "required"

[route.websocket]
on_reject = "close"
ping_interval = "0s"

[[route]]
name = "headers"
path = "/ws/headers/{*connection_id}"
upstream = "app"
auth = "optional"

[[route]]
name = "greeted"
path = "/ws/headers/greeted/{*connection_id}"
upstream = "app"
auth = "optional"

[route.websocket]
greeting = true

[[route]]
name = "admins"
path = "/ws/echo/admins/{*rest}"
upstream = "app"
auth = "required"
roles = ["admin"]

[route.websocket]
on_reject = "close"
close_forbidden = 4003

[[route]]
name = "status"
path = "/ws/echo/status/{*rest}"
upstream = "app"
auth = "required"

[[route]]
name = "pinged"
path = "/ws/echo/pinged/{*rest}"
upstream = "app"
auth = "required"

[route.websocket]
ping_interval = "200ms"

[[route]]
name = "idle"
path = "/ws/echo/idle/{*rest}"
upstream = "app"
auth = "required"

[route.websocket]
ping_interval = "0s"
idle_timeout = "1s"

[[route]]
name = "no-websocket"
path = "/ws/echo/never/{*rest}"
upstream = "app"
auth = "required"

[route.websocket]
enabled = false
"""


@pytest.fixture(scope="module")
def gateway(start):
    return start(config(ROUTES))


def told(socket) -> dict:
    """What the upstream saw of the handshake; headers as a dictionary of lists."""
    seen = json.loads(socket.recv(timeout=15))
    headers: dict[str, list[str]] = {}
    for name, value in seen["headers"]:
        headers.setdefault(name, []).append(value)
    return seen | {"headers": headers}


@pytest.mark.parametrize("place", ["query", "subprotocol", "header"])
def test_a_token_opens_the_tunnel_and_goes_no_further(gateway, place):
    token = mint("ws-1")
    how = {
        "query": {"path": f"/ws/headers/a?x=1&token={token}"},
        "subprotocol": {"path": "/ws/headers/a?x=1", "subprotocols": ["bearer", token]},
        "header": {"path": "/ws/headers/a?x=1", "additional_headers": bearer(token)},
    }[place]
    with connect(gateway.ws(how.pop("path")), **how) as socket:
        seen = told(socket)
        assert socket.subprotocol == ("bearer" if place == "subprotocol" else None)
    assert (seen["path"], seen["query"], seen["subprotocols"]) == ("/ws/headers/a", "x=1", [])
    assert seen["headers"]["x-user-id"] == ["ws-1"]
    assert seen["headers"]["x-auth-status"] == ["authenticated"]
    assert token not in json.dumps(seen)


def test_the_upstreams_choice_of_a_subprotocol_is_the_answer(gateway):
    token = mint()
    with connect(gateway.ws("/ws/echo/proto"), subprotocols=["bearer", token, "chat.v1"]) as socket:
        assert socket.subprotocol == "chat.v1"


def test_compression_is_negotiated_end_to_end(gateway):
    with connect(gateway.ws("/ws/echo/deflate"), additional_headers=bearer(mint()), max_size=None) as socket:
        assert "PerMessageDeflate" in repr(socket.protocol.extensions)
        for text in ("你好" * 5000, "", "x", "tail" * 100_000):
            socket.send(text)
            assert socket.recv(timeout=15) == text


def test_guests_and_bad_tokens_are_marked(gateway):
    with connect(gateway.ws("/ws/headers/guest"), additional_headers={"x-user-id": "evil"}) as socket:
        seen = told(socket)
    assert seen["headers"]["x-auth-status"] == ["guest"] and "x-user-id" not in seen["headers"]
    with connect(gateway.ws(f"/ws/headers/bad?token={mint(lifetime=-1)}")) as socket:
        seen = told(socket)
    assert seen["headers"]["x-auth-status"] == ["invalid_token"] and "x-user-id" not in seen["headers"]


def test_the_greeting_comes_first(gateway):
    with connect(gateway.ws(f"/ws/headers/greeted/a/%E4%B8%96?token={mint('ws-2')}")) as socket:
        assert json.loads(socket.recv(timeout=15)) == {
            "type": "connected",
            "message": "WebSocket连接成功",
            "connection_id": "a/世",
            "user_id": "ws-2",
            "auth_status": "authenticated",
        }
        assert told(socket)["path"].lower() == "/ws/headers/greeted/a/%e4%b8%96"
    with connect(gateway.ws("/ws/headers/greeted/b")) as socket:
        greeting = json.loads(socket.recv(timeout=15))
        assert (greeting["user_id"], greeting["auth_status"]) == (None, "guest")


REFUSALS = [
    ("/ws/echo/x", None, 4401, "token_missing", 401),
    ("/ws/echo/x", {"lifetime": -1}, 4401, "token_expired", 401),
    ("/ws/echo/x", {"key": "another-secret-of-the-right-length-but-wrong"}, 4401, "token_signature_invalid", 401),
    ("/ws/echo/admins/x", {}, 4003, "role_missing", 403),
]


@pytest.mark.parametrize(("path", "token", "code", "word", "status"), REFUSALS, ids=[row[3] for row in REFUSALS])
def test_a_refusal_can_be_read_from_the_close(gateway, path, token, code, word, status):
    subprotocols = ["bearer", mint(**token)] if token is not None else None
    with connect(gateway.ws(path), subprotocols=subprotocols) as socket:
        body = json.loads(socket.recv(timeout=15))
        assert (body["code"], body["error"]) == (status, word)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=15)
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, word)


def test_a_refusal_is_the_status_where_the_route_says_so(gateway):
    with pytest.raises(InvalidStatus) as refused, connect(gateway.ws("/ws/echo/status/x")):
        pass
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body)["error"] == "token_missing"


def test_a_route_without_websocket_refuses_the_upgrade(gateway):
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(gateway.ws("/ws/echo/never/x"), additional_headers=bearer(mint())),
    ):
        pass
    assert refused.value.response.status_code == 400


@pytest.mark.parametrize("code", [1000, 3000, 4999])
def test_the_clients_close_reaches_the_upstream(gateway, fastapi, code):
    with connect(gateway.ws(f"/ws/echo/client-{code}"), additional_headers=bearer(mint())) as socket:
        socket.close(code, "bye")
    heard(fastapi.app, "closed", f"client-{code}:{code}")
    assert socket.close_code == code


def test_the_upstreams_close_reaches_the_client(gateway):
    for name, code in (("four-thousand", 4000), ("usual", 1000)):
        with connect(gateway.ws(f"/ws/headers/{name}")) as socket:
            told(socket)
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(timeout=15)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, "as asked")


def test_a_client_that_vanishes_is_gone_for_the_upstream(gateway, fastapi):
    socket = Socket(gateway.address)
    assert socket.shake(f"/ws/echo/vanish?token={mint()}").status == 101
    socket.reset()
    heard(fastapi.app, "closed", "vanish:1005")


def test_a_tunnel_ends_with_its_token(gateway, fastapi):
    begin = time.time()
    with connect(gateway.ws("/ws/echo/expiry"), subprotocols=["bearer", mint(lifetime=2)]) as socket:
        assert json.loads(socket.recv(timeout=15))["type"] == "auth_expiring"
        socket.send("hello")
        assert socket.recv(timeout=15) == "hello"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=15)
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4401, "auth_expired")
    assert time.time() - begin < 5
    heard(fastapi.app, "closed", "expiry:4401")


def test_a_tunnel_ends_at_a_message_boundary(gateway):
    """Half a message stands in the tunnel when the token expires: the close is still the next thing that is well-formed."""
    with Socket(gateway.address) as socket:
        assert socket.shake(f"/ws/echo/boundary?token={mint(lifetime=2)}").status == 101
        socket.send(frame(TEXT, b"half", fin=False))
        frames = socket.frames()
        assert frames[-1].opcode == CLOSE and frames[-1].code() == 4401


def test_a_silent_tunnel_is_pinged(gateway):
    with Socket(gateway.address) as socket:
        assert socket.shake(f"/ws/echo/pinged/x?token={mint()}").status == 101
        assert [socket.frame().opcode for _ in range(3)] == [PING] * 3


def test_an_idle_tunnel_is_ended(gateway):
    with Socket(gateway.address) as socket:
        assert socket.shake(f"/ws/echo/idle/x?token={mint()}").status == 101
        frames = socket.frames()
        assert [one.opcode for one in frames] == [CLOSE]


def test_tunnels_stay_apart(gateway):
    sockets = [
        connect(gateway.ws(f"/ws/echo/apart-{at}"), additional_headers=bearer(mint(f"u-{at}"))) for at in range(30)
    ]
    opened = [socket.__enter__() for socket in sockets]
    for at, socket in enumerate(opened):
        socket.send(f"message {at}")
    assert [socket.recv(timeout=15) for socket in opened] == [f"message {at}" for at in range(30)]
    for socket in opened:
        socket.close()
