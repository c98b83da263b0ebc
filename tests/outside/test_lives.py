"""Streams live as long as their session: newer tokens, tickets, ends, by real clients against the real binary."""

import json
import os
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from harness import supabase
from harness.gateway import ROOT, config
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


def ticket(gateway, token: str, path: str) -> str:
    answer = httpx.post(f"{gateway.url}/_portcullis/tickets", json={"path": path}, headers=bearer(token))
    assert answer.status_code == 200, answer.text
    return answer.json()["ticket"]


def test_an_event_source_resumes_with_its_ticket(gateway):
    seen = node(gateway, "resume", mint("resumed"))
    assert seen == {"opened": 3, "users": ["resumed"] * 3}


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
