"""Upstreams that are down, slow, resetting or lying: a clear answer or a clean end, never a hang or another's bytes."""

import contextlib
import json
import re
import socket
import time
from pathlib import Path

import httpx
import pytest
from harness.frames import handshake
from harness.gateway import config
from harness.misbehaving import ANSWERS, CUTS
from harness.raw import Cut, Wire, ask, request
from harness.tokens import mint

ROUTES = """
[[upstream]]
name = "misbehaving"
endpoints = ["http://${MISBEHAVING}"]
first_byte_timeout = "1s"
idle_timeout = "1s"

[upstream.eject]
failures = 0

[[upstream]]
name = "down"
endpoints = ["http://${DOWN}"]

[[upstream]]
name = "half"
endpoints = ["http://${DOWN}", "http://${MISBEHAVING}"]

[[route]]
name = "misbehaving"
path = "/m/{*name}"
upstream = "misbehaving"
auth = "required"

[[upstream]]
name = "long"
endpoints = ["http://${MISBEHAVING}"]

[[route]]
name = "long"
path = "/long/{*name}"
upstream = "long"
auth = "required"

[[route]]
name = "down"
path = "/down/{*name}"
upstream = "down"
auth = "required"

[[route]]
name = "half"
path = "/half/{*name}"
upstream = "half"
auth = "required"
"""


@pytest.fixture(scope="module")
def closed():
    """A port that is bound and not listened on: connections to it are refused."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield "127.0.0.1:%d" % held.getsockname()[1]


@pytest.fixture(scope="module")
def gateway(start, closed):
    return start(config(ROUTES), DOWN=closed)


def get(path: str, *headers: str) -> bytes:
    """A request with a token."""
    return request(f"GET {path}", f"Authorization: Bearer {mint()}", *headers)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_is_none_is_502(gateway, name):
    with Wire(gateway.address) as wire:
        wire.send(get(f"/m/{name}"))
        reply = wire.reply()
        # RFC 9112 §6.3: a message with both is framed by the encoding, if it is not refused.
        if name == "length-and-chunked" and reply.status == 200:
            assert reply.body == b"ok"
        else:
            assert reply.status == 502, reply.head
            assert json.loads(reply.body)["error"] == "upstream_failed"
        wire.send(get("/m/fine"))
        assert wire.reply().status == 200, "the client's connection still serves"


@pytest.mark.parametrize("name", [*CUTS, "reset-in-body"])
def test_a_body_that_is_cut_short_is_seen_to_be(gateway, name):
    with Wire(gateway.address) as wire:
        wire.send(get(f"/m/{name}"))
        try:
            reply = wire.reply()
        except Cut:
            return
        assert reply.status == 502


def test_a_reset_is_502_or_tried_again(gateway):
    assert ask(gateway.address, get("/m/reset")).status == 502


def test_an_upstream_that_never_answers_is_504(gateway):
    begin = time.monotonic()
    reply = ask(gateway.address, get("/m/silent"))
    assert (reply.status, json.loads(reply.body)["error"]) == (504, "upstream_timeout")
    assert time.monotonic() - begin >= 0.9


def test_a_body_that_goes_silent_is_cut(gateway):
    with Wire(gateway.address) as wire:
        wire.send(get("/m/silent-in-body"))
        with pytest.raises(Cut):
            wire.reply()


def test_an_upstream_that_is_down_is_503(gateway):
    reply = ask(gateway.address, get("/down/x"))
    assert reply.status in (502, 503)
    assert json.loads(reply.body)["error"] == "upstream_unavailable"


def test_an_upstream_that_takes_no_connection_is_503(start):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        place = full.getsockname()
        # Nobody accepts: once the backlog is full, a connection is not even refused.
        with contextlib.ExitStack() as waiting:
            for _ in range(8):
                pending = waiting.enter_context(socket.socket())
                pending.setblocking(False)
                pending.connect_ex(place)
            # Its other times are longer than this test may take.
            short = 'name = "down"\nendpoints = ["http://${DOWN}"]\nconnect_timeout = "300ms"'
            routes = ROUTES.replace('name = "down"\nendpoints = ["http://${DOWN}"]', short)
            gateway = start(config(routes), DOWN="%s:%d" % place)
            reply = ask(gateway.address, get("/down/x"))
            assert (reply.status, json.loads(reply.body)["error"]) == (503, "upstream_unavailable")
            gateway.log.wait("the connection took longer than 300ms")


def test_an_upstream_that_is_down_does_not_fill_the_log(start, closed):
    gateway, asked = start(config(ROUTES), DOWN=closed), 0

    def told() -> list[dict]:
        return [line for line in gateway.audit() if "no connection to the upstream" in json.dumps(line)]

    with Wire(gateway.address) as wire:
        # The second line comes a second after the first, however many requests there were.
        while len(told()) < 2:
            wire.send(get("/down/x"))
            assert wire.reply().status == 503
            asked += 1
    first, second = told()[:2]
    assert first["held_back"] == 0 and first["upstream"] == "down"
    assert 0 < second["held_back"] <= asked - 2


def test_one_endpoint_of_two_down_is_not_seen(gateway):
    assert [ask(gateway.address, get("/half/x")).status for _ in range(12)] == [200] * 12


def test_a_dribbled_answer_arrives_whole(gateway):
    assert ask(gateway.address, get("/m/dribble")).body == b"slow!"


def test_bytes_behind_an_answer_reach_no_other_request(gateway):
    with Wire(gateway.address) as wire:
        for _ in range(8):
            wire.send(get("/m/more-than-said"))
            assert wire.reply().body == b"ok"
            wire.send(get("/m/fine"))
            reply = wire.reply()
            assert reply.status in (200, 502)
            assert b"secret" not in reply.body
        assert wire.kept == b""


def test_a_faulty_connection_is_not_used_again(gateway):
    for name in ("two-lengths", "unasked-101", "bad-status-line", "cut-in-length"):
        with Wire(gateway.address) as wire:
            wire.send(get("/m/number"))
            before = int(wire.reply().body)
            wire.send(get(f"/m/{name}"))
            try:
                wire.reply()
            except Cut:
                continue
            wire.send(get("/m/number"))
            assert int(wire.reply().body) != before


def test_an_upgrade_is_502_where_the_upstream_answers_nonsense(gateway):
    for name in ("bad-status-line", "close-at-once", "huge-header"):
        reply = ask(gateway.address, handshake(f"/m/{name}", f"Authorization: Bearer {mint()}"))
        assert reply.status == 502, name


def test_a_101_without_an_accept_is_given_none(gateway):
    reply = ask(gateway.address, handshake("/m/unasked-101", f"Authorization: Bearer {mint()}"))
    assert reply.status == 502 or reply.get("sec-websocket-accept") is None


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_in_its_handshake_cancels_it(gateway, misbehaving, how):
    name = f"silent-until-{how}"
    with Wire(gateway.address) as wire:
        wire.send(handshake(f"/long/{name}", f"Authorization: Bearer {mint()}"))
        assert misbehaving.asked.get(timeout=15) == name
        wire.reset() if how == "reset" else wire.close()
    assert misbehaving.left.get(timeout=15) == name


def test_clients_that_take_every_connection_leave_some_for_what_must_go_on(start, closed):
    gateway = start(config(ROUTES), prefix=("prlimit", "--nofile=160:256"), DOWN=closed)
    limits = Path(f"/proc/{gateway.process.pid}/limits").read_text(encoding="ascii")
    assert re.search(r"Max open files +256 +256 ", limits), limits
    with Wire(gateway.address) as early, contextlib.ExitStack() as mute:
        early.send(get("/m/fine"))
        assert early.reply().status == 200
        for _ in range(300):
            mute.enter_context(socket.create_connection(gateway.address))
        gateway.log.wait("turned away")
        assert httpx.get(gateway.admin + "/healthz").status_code == 200
        # This one goes to an upstream that there is no connection to yet.
        early.send(get("/long/fine"))
        assert early.reply().status == 200
    while True:
        with contextlib.suppress(OSError, Cut), Wire(gateway.address) as late:
            late.send(get("/m/fine"))
            assert late.reply().status == 200
            break
    turned = [line for line in gateway.audit() if "turned away" in json.dumps(line)]
    assert turned[0]["held_back"] == 0 and len(turned) < 20


def test_a_slow_client_head_is_ended_and_bothers_nobody(start, closed):
    gateway = start(config(ROUTES, server='header_timeout = "1s"'), DOWN=closed)
    with Wire(gateway.address) as slow:
        slow.send(b"GET /m/fine HTTP/1.1\r\nHost: a")
        assert ask(gateway.address, get("/m/fine")).status == 200
        ended = slow.rest()
        assert ended == b"" or b" 408 " in ended or b" 400 " in ended


def test_a_slow_client_body_is_ended(start, closed):
    gateway = start(config(ROUTES, server='body_timeout = "1s"'), DOWN=closed)
    with Wire(gateway.address) as slow:
        slow.send(request("POST /m/fine", f"Authorization: Bearer {mint()}", "Content-Length: 100", body=b"half"))
        slow.rest()
