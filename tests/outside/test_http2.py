"""Security catalogue §4, HTTP/2 to HTTP/1.1: what HTTP/2 can say and HTTP/1.1 cannot is refused, or put in its form."""

import subprocess

import h2.settings
import pytest
from harness.frames import CLOSE, TEXT, frame
from harness.gateway import config
from harness.http2 import Http2, head
from harness.raw import ask, request
from harness.tokens import mint


def fence(gateway, recorder):
    """What the upstream has seen before this was nothing."""
    assert ask(gateway.address, request("GET /public/fence")).status == 200
    assert recorder.take().target == "/public/fence"


def token() -> tuple[str, str]:
    """A good token's header."""
    return ("authorization", f"Bearer {mint('h2-user')}")


INNER = "\r\nx-user-id: evil\r\n\r\nGET /api/smuggled HTTP/1.1\r\nhost: x\r\n\r\n"

BAD = {
    "CR LF in a value": lambda: head("/api/x", "GET", token(), ("x-a", "b" + INNER)),
    "LF in a value": lambda: head("/api/x", "GET", token(), ("x-a", "b\nx-user-id: evil")),
    "CR in a value": lambda: head("/api/x", "GET", token(), ("x-a", "b\rc")),
    "NUL in a value": lambda: head("/api/x", "GET", token(), ("x-a", "b\0c")),
    "CR LF in a name": lambda: head("/api/x", "GET", token(), ("x-a: b\r\nx-user-id", "evil")),
    "a colon in a name": lambda: head("/api/x", "GET", token(), ("x-user-id:", "evil")),
    "a space in a name": lambda: head("/api/x", "GET", token(), ("x a", "b")),
    "an upper-case name": lambda: head("/api/x", "GET", token(), ("X-User-Id", "evil")),
    "an empty name": lambda: head("/api/x", "GET", token(), ("", "b")),
    "connection": lambda: head("/api/x", "GET", token(), ("connection", "x-user-id")),
    "transfer-encoding": lambda: head("/api/x", "POST", token(), ("transfer-encoding", "chunked")),
    "keep-alive": lambda: head("/api/x", "GET", token(), ("keep-alive", "1")),
    "upgrade": lambda: head("/api/x", "GET", token(), ("upgrade", "websocket")),
    "te other than trailers": lambda: head("/api/x", "GET", token(), ("te", "gzip")),
    "CR LF in the path": lambda: head("/api/x HTTP/1.1" + INNER, "GET", token()),
    "a space in the path": lambda: head("/api/x y", "GET", token()),
    "an empty path": lambda: head("", "GET", token()),
    "a path without a slash": lambda: head("api/x", "GET", token()),
    "a traversal": lambda: head("/public/../api/x", "GET", token()),
    "CR LF in the method": lambda: head("/api/x", "GET /x HTTP/1.1" + INNER, token()),
    "a space in the method": lambda: head("/api/x", "GE T", token()),
    "CR LF in the authority": lambda: head("/api/x", "GET", token(), authority="a.test" + INNER),
    "userinfo in the authority": lambda: head("/api/x", "GET", token(), authority="user@a.test"),
    "a path in the authority": lambda: head("/api/x", "GET", token(), authority="a.test/x"),
    "a host that differs": lambda: head("/api/x", "GET", token(), ("host", "other.test")),
    "two hosts": lambda: head("/api/x", "GET", token(), ("host", "gateway.test"), ("host", "other.test")),
    "a pseudo-header twice": lambda: [*head("/public/x", "GET"), (":path", "/api/x"), token()],
    "a pseudo-header late": lambda: [
        (":method", "GET"),
        (":scheme", "http"),
        token(),
        (":path", "/api/x"),
        (":authority", "a.test"),
    ],
    "an unknown pseudo-header": lambda: [*head("/api/x", "GET"), (":evil", "1"), token()],
    "no method": lambda: head("/api/x", "GET", token())[1:],
    "no path": lambda: [row for row in head("/api/x", "GET", token()) if row[0] != ":path"],
    "CONNECT": lambda: [(":method", "CONNECT"), (":authority", "a.test:80"), token()],
    "two different lengths": lambda: head("/api/x", "POST", token(), ("content-length", "0"), ("content-length", "5")),
    "a length that is none": lambda: head("/api/x", "POST", token(), ("content-length", "+0")),
}


@pytest.mark.parametrize("name", BAD)
def test_what_has_no_place_in_http1_is_refused(guarded, recorder, name):
    with Http2(guarded.address) as client:
        outcome = client.outcome(client.send(BAD[name]()))
        assert outcome in ("reset", "closed") or 400 <= outcome < 500 or outcome == 501, outcome
    fence(guarded, recorder)


@pytest.mark.parametrize(("length", "body"), [("3", b"hello"), ("10", b"hello"), ("0", b"hello")])
def test_a_body_that_differs_from_its_length_is_refused(guarded, recorder, length, body):
    with Http2(guarded.address) as client:
        outcome = client.outcome(client.send(head("/api/x", "POST", token(), ("content-length", length)), body))
        assert outcome in ("reset", "closed") or 400 <= outcome < 500, outcome
    fence(guarded, recorder)


def test_crumbs_of_a_cookie_are_joined(guarded, recorder):
    good = mint("crumbs")
    with Http2(guarded.address) as client:
        crumbs = [("cookie", "a=1"), ("cookie", f"portcullis={good}"), ("cookie", "b=2")]
        assert client.outcome(client.send(head("/api/x", "GET", *crumbs))) == 200
    seen = recorder.take()
    assert seen.one("cookie") == "a=1; b=2"
    assert seen.one("x-user-id") == "crumbs"


def test_the_authority_becomes_the_host(guarded, recorder):
    with Http2(guarded.address) as client:
        assert client.outcome(client.send(head("/public/x?a=%2F", "GET", authority="A.test:81"))) == 200
        assert client.outcome(client.send(head("/public/y", "GET", ("host", "gateway.test")))) == 200
    first, second = recorder.take(), recorder.take()
    assert (first.target, first.one("host").lower()) == ("/public/x?a=%2F", "a.test:81")
    assert second.one("host") == "gateway.test"


def test_streams_of_one_connection_are_judged_each_on_its_own(guarded, recorder):
    with Http2(guarded.address) as client:
        users = [client.send(head(f"/api/{at}", "GET", ("token", mint(f"user-{at}")))) for at in range(20)]
        guests = [client.send(head("/api/none", "GET")) for _ in range(5)]
        assert [client.outcome(stream) for stream in users] == [200] * 20
        assert [client.outcome(stream) for stream in guests] == [401] * 5
    seen = {one.target: one.one("x-user-id") for one in (recorder.take() for _ in range(20))}
    assert seen == {f"/api/{at}": f"user-{at}" for at in range(20)}
    assert recorder.nothing()


def test_trailers_that_spoof_do_not_pass(guarded, recorder):
    with Http2(guarded.address) as client:
        stream = client.send(head("/api/x", "POST", token()), b"hello", [("x-user-id", "evil"), ("x_user_id", "evil")])
        assert client.outcome(stream) in (200, 400, "reset")
    for _ in range(1 if not recorder.nothing() else 0):
        assert recorder.take().all("x-user-id") == ["h2-user"]


def test_a_reset_stream_harms_nobody(guarded, recorder):
    """Rapid reset (CVE-2023-44487) in small: the connection may be ended, the gateway serves on."""
    with Http2(guarded.address) as client:
        for _ in range(500):
            stream = client.send(head("/api/x", "GET"))
            try:
                client.machine.reset_stream(stream)
            except Exception:  # noqa: BLE001  # the machine may know by now that the peer has gone
                break
            client.flush()
            if client.closed:
                break
    fence(guarded, recorder)


def test_concurrent_streams_are_bounded(guarded):
    with Http2(guarded.address) as client:
        assert client.settings()[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] == 128


HINTS = """
[[upstream]]
name = "hints"
endpoints = ["http://${MISBEHAVING}"]

[[upstream]]
name = "recorder"
endpoints = ["http://${RECORDER}"]

[[route]]
name = "hints"
path = "/m/{*name}"
upstream = "hints"
auth = "public"

[[route]]
name = "api"
path = "/api/{*rest}"
upstream = "recorder"
auth = "required"
"""


def test_hints_of_the_upstream_come_before_the_answer(start):
    gateway = start(config(HINTS))
    with Http2(gateway.address) as client:
        streams = [client.send(head("/m/hints")) for _ in range(3)]
        for stream in streams:
            assert client.outcome(stream) == 200
            assert client.bodies[stream] == b"ok"
            assert client.hints[stream] == [
                {":status": "103", "link": "</a.css>; rel=preload"},
                {":status": "102"},
            ]
    told = subprocess.run(
        ["curl", "-sS", "--max-time", "20", "--http2-prior-knowledge", "-i", gateway.url + "/m/hints"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    statuses = [line.strip() for line in told.splitlines() if line.startswith("HTTP/")]
    assert statuses == ["HTTP/2 103", "HTTP/2 102", "HTTP/2 200"]
    assert "link: </a.css>; rel=preload" in told and told.endswith("ok")


def test_a_body_is_asked_for_only_when_it_is_wanted(start, recorder):
    gateway = start(config(HINTS))
    with Http2(gateway.address) as client:
        asks = [("expect", "100-continue"), ("content-length", "5")]
        stream = client.machine.get_next_available_stream_id()
        client.machine.send_headers(stream, head("/api/x", "POST", token(), *asks))
        client.flush()
        while stream not in client.hints:
            client.step()
        assert client.hints[stream] == [{":status": "100"}]
        client.machine.send_data(stream, b"hello", end_stream=True)
        client.flush()
        assert client.outcome(stream) == 200
        stream = open_stream(client, head("/api/x", "POST", *asks))
        assert (client.heads[stream][":status"], client.hints.get(stream)) == ("401", None)
    assert recorder.take().body == b"hello"


WEBSOCKET = """
[[upstream]]
name = "app"
endpoints = ["http://${APP}"]

[[route]]
name = "sockets"
path = "/ws/{*rest}"
upstream = "app"
auth = "required"
origins = ["https://app.test"]

[route.websocket]
ping_interval = "0s"
"""


def extended(path: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    """An extended CONNECT (RFC 8441)."""
    return [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "gateway.test"),
        ("sec-websocket-version", "13"),
        *more,
    ]


def open_stream(client: Http2, headers: list[tuple[str, str]]) -> int:
    """Opens a stream that stays open, and waits for its head or its end."""
    stream = client.machine.get_next_available_stream_id()
    client.machine.send_headers(stream, headers)
    client.flush()
    while stream not in client.heads and stream not in client.ended and not client.closed:
        client.step()
    return stream


def test_a_websocket_over_http2_runs_through_the_same_checks(start):
    gateway = start(config(WEBSOCKET))
    with Http2(gateway.address) as client:
        assert client.settings().get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL) == 1
        for headers, status in [
            ([], "401"),
            ([("token", mint(lifetime=-1))], "401"),
            ([("cookie", f"portcullis={mint()}"), ("origin", "https://evil.test")], "403"),
            ([("cookie", f"portcullis={mint()}")], "403"),
            ([token()], "200"),
            ([("cookie", f"portcullis={mint()}"), ("origin", "https://app.test")], "200"),
        ]:
            stream = open_stream(client, extended("/ws/echo/h2", *headers))
            assert client.heads[stream][":status"] == status, headers
        client.machine.send_data(stream, frame(TEXT, b"over HTTP/2"))
        client.flush()
        while len(client.bodies.get(stream, b"")) < 13:
            client.step()
        assert client.bodies[stream] == b"\x81\x0bover HTTP/2"


def test_a_websocket_over_http2_ends_with_its_token(start):
    gateway = start(config(WEBSOCKET).replace("[[route]]", '[[route]]\nexpiring_notice = "0s"', 1))
    with Http2(gateway.address) as client:
        client.settings()
        stream = open_stream(client, extended("/ws/echo/h2-expiry", ("token", mint(lifetime=2))))
        assert client.heads[stream][":status"] == "200"
        while not client.bodies.get(stream):
            client.step()
        assert client.bodies[stream][0] == 0x80 | CLOSE
        assert client.bodies[stream][2:4] == (4401).to_bytes(2)


def test_websocket_over_http2_can_be_switched_off(start):
    gateway = start(config(WEBSOCKET).replace("[admin]", "[server.http2]\nwebsocket = false\n\n[admin]", 1))
    with Http2(gateway.address) as client:
        assert client.settings().get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL, 0) == 0
        outcome = client.outcome(client.send(extended("/ws/echo/off", token())))
        assert outcome in ("reset", "closed") or outcome >= 400
