"""Streams live as long as their session: newer tokens, tickets, ends, by real clients against the real binary."""

import contextlib
import json
import os
import sqlite3
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from harness import supabase
from harness.gateway import ROOT, config
from harness.lost import ticket, vanishing
from harness.replicas import until
from harness.tokens import bearer, mint
from httpx_sse import connect_sse
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(90)

ROUTES = """
[[upstream]]
name = "app"
endpoints = ["http://${APP}"]

[[route]]
name = "all"
path = "/{*rest}"
upstream = "app"
auth = "required"
[route.sse]
enrich = ["start"]
"""


@pytest.fixture(scope="module")
def gateway(start):
    return start(config(ROUTES))


def node(gateway, scenario: str, token: str) -> dict:
    """What the npm clients saw."""
    modules = Path(os.environ.get("OUTSIDE_NODE_MODULES", ROOT / "tests" / ".cache" / "npm" / "node_modules"))
    run = subprocess.run(
        ["node", str(HERE / "clients" / "lives.mjs"), gateway.url, scenario, token],
        capture_output=True,
        text=True,
        timeout=80,
        env=os.environ | {"OUTSIDE_NODE_MODULES": str(modules)},
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_an_event_source_resumes_with_its_ticket(gateway):
    seen = node(gateway, "resume", mint("resumed"))
    assert seen == {"opened": 3, "users": ["resumed"] * 3}


def test_where_nothing_is_resumed_a_ticket_is_good_once_for_an_event_source_too(start):
    gateway = start(config(ROUTES + "\n[tickets]\nresume = false\n"))
    used = ticket(gateway, mint("once"), "/sse")
    seen = node(gateway, "back", f"/sse?count=1&ticket={used}")
    assert seen == {"opened": 1, "user": "once"}
    assert node(gateway, "back", f"/sse?count=1&ticket={used}") == {"opened": 0, "code": 401}


@pytest.fixture
def impatient(start):
    """A gateway that gives up clients after two seconds."""
    return start(config(ROUTES + 'heartbeat = "500ms"\nretry = "300ms"\n', 'send_timeout = "2s"'))


def test_a_client_that_is_gone_without_a_word_does_not_hold_its_stream(impatient):
    client = vanishing(impatient, f"/sse/silent/gone?token={mint('gone')}")
    begun = time.monotonic()
    until(lambda: figure(impatient, "portcullis_streams{") == 0, "its stream lives")
    print(f"gone: its stream ended after {time.monotonic() - begun:.3f} s")
    client.close()


def figure(gateway, name: str) -> float:
    """The sum of the metrics whose lines begin so."""
    page = httpx.get(gateway.admin + "/metrics", timeout=20).text
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(name))


def test_an_event_source_comes_again_until_the_gateway_has_seen_its_stream_break(impatient):
    token = mint("lost")
    used = ticket(impatient, token, "/sse/silent/lost")
    client = vanishing(impatient, f"/sse/silent/lost?ticket={used}")
    seen = node(impatient, "back", f"/sse/silent/lost?ticket={used}")
    print(f"lost: {seen}")
    # It was let in once the first was over, asked more than once for that, and was never told to stay away.
    assert seen["user"] == "lost" and seen["opened"] > 1, seen
    assert figure(impatient, 'portcullis_refusals_total{reason="ticket_in_use"}') == seen["opened"] - 1
    client.close()


def test_a_session_that_is_refreshed_keeps_its_streams_and_one_that_is_left_loses_them(start):
    routes = ROUTES.replace('path = "/{*rest}"', 'path = "/{*rest}"\nexpiring_notice = "2s"')
    gateway = start(supabase.config('access_ttl = "4s"', more=routes + '\n[tokens]\nleeway = "1s"\n'))
    seen = node(gateway, "refresh", supabase.ANONS[0])
    assert seen["lived"] and seen["warned"] >= 2 and "expired" not in seen, seen


@pytest.mark.slow
def test_a_client_that_refreshes_by_its_own_timer_keeps_its_streams(start):
    """supabase-js looks every thirty seconds, and refreshes what ends within ninety."""
    gateway = start(supabase.config('access_ttl = "35s"', more=ROUTES + '\n[tokens]\nleeway = "0s"\n'))
    seen = node(gateway, "timer", supabase.ANONS[0])
    assert seen["lived"] and seen["refreshed"] >= 1 and "expired" not in seen, seen


OPERATOR = "kQ7fT2vX9mLr4ZsW8nYb3HcJ6pDg1RaE"


def test_what_an_operator_revokes_stays_revoked_over_a_restart(start, tmp_path):
    """Of a gateway that has no users of its own."""
    text = config(ROUTES).replace("[admin]", f'[admin]\ntoken = "{OPERATOR}"') + '\n[store]\nurl = "sqlite:kept.db"\n'
    ada, bob = mint("ada"), mint("bob")
    gateway = start(text, tmp_path)
    body = {"user": "ada", "revoke": True}
    told = httpx.post(gateway.admin + "/streams/end", json=body, headers=bearer(OPERATOR), timeout=20)
    assert told.json() == {"ended": 0, "revoked": True, "kept": True}
    gateway.stop()
    again = start(text, tmp_path)
    refused = httpx.get(f"{again.url}/sse?count=1", headers=bearer(ada), timeout=20)
    assert (refused.status_code, refused.json()["error"]) == (401, "token_revoked")
    assert httpx.get(f"{again.url}/sse?count=1", headers=bearer(bob), timeout=20).status_code == 200


def test_an_operator_is_told_that_the_store_did_not_take_it_yet(start, tmp_path):
    text = config(ROUTES).replace("[admin]", f'[admin]\ntoken = "{OPERATOR}"') + '\n[store]\nurl = "sqlite:kept.db"\n'
    ada = mint("ada")
    gateway = start(text, tmp_path)
    body = {"user": "ada", "revoke": True}
    with contextlib.closing(sqlite3.connect(tmp_path / "kept.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        told = httpx.post(gateway.admin + "/streams/end", json=body, headers=bearer(OPERATOR), timeout=60)
        assert told.json() == {"ended": 0, "revoked": True, "kept": False}
        assert httpx.get(f"{gateway.url}/sse?count=1", headers=bearer(ada), timeout=20).status_code == 401
        other.execute("ROLLBACK")
        until(lambda: other.execute("SELECT whose FROM bans").fetchall() == [("ada",)], "it is not kept", 60)


def test_any_request_with_a_newer_token_extends_the_streams_of_its_session(gateway):
    first = mint("extended", lifetime=3, session_id="extended-1")
    newer = mint("extended", lifetime=60, session_id="extended-1")
    begin = time.time()
    with (
        httpx.Client(base_url=gateway.url, timeout=30) as client,
        connect_sse(client, "GET", "/sse/endless/extended", headers=bearer(first)) as source,
    ):
        assert httpx.get(f"{gateway.url}/sse?count=1", headers=bearer(newer)).status_code == 200
        for event in source.iter_sse():
            assert event.event != "auth_expired"
            if time.time() - begin > 5:
                break


def test_a_websocket_by_ticket_lives_until_the_session_is_renewed_no_more(gateway):
    begin = time.time()
    token = mint("by-ticket", lifetime=4, session_id="by-ticket")
    path = "/ws/echo/by-ticket"
    used = ticket(gateway, token, path)
    with connect(gateway.ws(f"{path}?ticket={used}")) as socket:
        assert json.loads(socket.recv(timeout=15))["type"] == "auth_expiring"
        newer = mint("by-ticket", lifetime=7, session_id="by-ticket")
        renewed = httpx.post(f"{gateway.url}/_portcullis/streams/renew", headers=bearer(newer))
        assert renewed.json()["extended"] == 1
        assert json.loads(socket.recv(timeout=15))["type"] == "auth_expiring"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=20)
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4401, "auth_expired")
    assert time.time() - begin > 5, "later than its first token"
    assert "pt_" not in "\n".join(gateway.log.kept + gateway.out.kept)
