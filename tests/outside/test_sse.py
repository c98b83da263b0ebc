"""Event streams through the gateway: sse-starlette behind it, httpx-sse, curl, raw sockets and the npm client before it."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from harness.app import heard
from harness.gateway import ROOT, config
from harness.raw import Wire, request
from harness.tokens import bearer, mint
from httpx_sse import connect_sse

HERE = Path(__file__).parent

ROUTES = """
[[upstream]]
name = "app"
endpoints = ["http://${APP}"]

[[route]]
name = "plain"
path = "/sse"
upstream = "app"
auth = "required"

[route.sse]
enrich = ["start", "error"]

[[route]]
name = "streams"
path = "/sse/{*rest}"
upstream = "app"
auth = "required"

[route.sse]
on_reject = "event"
reject_retry = "10m"
heartbeat = "200ms"
enrich = ["start", "error"]

[[route]]
name = "bare"
path = "/sse/silent/bare"
upstream = "app"
auth = "required"

[route.sse]
heartbeat = "0s"

[[route]]
name = "pending"
path = "/before-first-byte/{*rest}"
upstream = "app"
auth = "required"
"""


@pytest.fixture(scope="module")
def gateway(start):
    return start(config(ROUTES))


@pytest.fixture
def client(gateway):
    with httpx.Client(base_url=gateway.url, timeout=20) as client:
        yield client


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_event_stream_passes_whole_and_enriched_where_asked(client, method):
    token = mint("user-1")
    with connect_sse(client, method, "/sse?count=3", headers=bearer(token)) as source:
        events = list(source.iter_sse())
    assert [event.event for event in events] == ["start", "progress", "progress", "progress", "complete"]
    assert json.loads(events[0].data) == {"job_id": "j1", "user_id": "user-1", "user_email": "user-1@example.test"}
    assert json.loads(events[1].data) == {"step": 0} and events[1].id == "0"
    assert events[-1].data == '{"big":123456789012345678901234567890,"ok":true}'


def test_events_that_are_not_enriched_are_the_upstreams_bytes(client, fastapi):
    direct = httpx.get(f"http://{fastapi.address}/sse/messages").content
    through = client.get("/sse/messages", headers=bearer(mint())).content
    assert re.sub(rb"(?m)^:[^\r\n]*\r?\n(\r?\n)?", b"", through) == direct


def test_headers_of_the_stream_are_untouched(client):
    with client.stream("GET", "/sse", headers=bearer(mint()) | {"accept-encoding": "gzip"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in answer.headers and "content-length" not in answer.headers
        answer.read()


def test_each_event_arrives_when_it_is_written(client, fastapi):
    """The endless stream never ends by itself: what is read was not buffered."""
    with connect_sse(client, "GET", "/sse/endless/arrives", headers=bearer(mint())) as source:
        events = source.iter_sse()
        assert [next(events).data for _ in range(5)] == ["0", "1", "2", "3", "4"]
    heard(fastapi.app, "left", "arrives")


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_cancels_the_upstreams_work(gateway, fastapi, how):
    wire = Wire(gateway.address)
    wire.send(request(f"POST /sse/endless/{how}", f"Authorization: Bearer {mint()}", "Content-Length: 0"))
    wire.until(b"event: tick")
    wire.close() if how == "close" else wire.reset()
    heard(fastapi.app, "left", how)


def test_a_client_that_leaves_in_a_silence_cancels_it_too(gateway, fastapi):
    with Wire(gateway.address) as wire:
        wire.send(request("GET /sse/silent/silence", f"Authorization: Bearer {mint()}"))
        wire.until(b"event: start")
    heard(fastapi.app, "left", "silence")


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_a_client_that_leaves_before_the_first_byte_cancels_it(gateway, fastapi, http2):
    name = f"sse-{http2}"
    with httpx.Client(http1=not http2, http2=http2, base_url=gateway.url, timeout=1) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"/before-first-byte/{name}", headers=bearer(mint()))
    heard(fastapi.app, "left", name)


def test_a_silent_upstream_is_bridged_by_comments(gateway):
    with Wire(gateway.address) as wire:
        wire.send(request("GET /sse/silent/heartbeat", f"Authorization: Bearer {mint()}"))
        wire.until(b"event: start")
        for _ in range(3):
            wire.until(b": ping")


def test_the_head_and_a_comment_come_before_the_first_event(gateway):
    with Wire(gateway.address) as wire:
        wire.send(request("GET /sse/silent/first", f"Authorization: Bearer {mint()}"))
        assert wire.head().status == 200
        assert next(wire.chunks()).startswith(b":")


def test_without_heartbeats_the_head_comes_all_the_same_and_no_comment(gateway):
    with Wire(gateway.address) as wire:
        wire.send(request("GET /sse/silent/bare", f"Authorization: Bearer {mint()}"))
        assert wire.head().status == 200
        assert next(wire.chunks()).startswith(b"event: start")


def test_an_expired_token_gets_the_status_or_an_event_as_the_route_says(client):
    expired = bearer(mint(lifetime=-3))
    answer = client.get("/sse", headers=expired)
    assert (answer.status_code, answer.json()["error"]) == (401, "token_expired")
    with connect_sse(client, "GET", "/sse/messages", headers=expired | {"accept": "text/event-stream"}) as source:
        assert source.response.status_code == 200
        (event,) = list(source.iter_sse())
    assert event.event == "auth_error" and event.retry == 600_000
    body = json.loads(event.data)
    assert (body["code"], body["error"]) == (401, "token_expired")
    missing = client.get("/sse/messages", headers={"accept": "text/event-stream"})
    assert '"token_missing"' in missing.text


def test_a_stream_ends_with_its_token(client, fastapi):
    begin = time.time()
    token = mint("expiring", lifetime=2)
    with connect_sse(client, "GET", "/sse/endless/expiry", headers=bearer(token)) as source:
        events = list(source.iter_sse())
    assert events[-1].event == "auth_expired"
    assert json.loads(events[-1].data)["error"] == "auth_expired"
    assert events[-2].event == "tick" and len(events) > 3
    assert time.time() - begin < 5
    heard(fastapi.app, "left", "expiry")


def test_an_upstream_that_breaks_off_ends_with_an_error_event(client):
    with connect_sse(client, "GET", "/sse/breaks", headers=bearer(mint("u-1"))) as source:
        events = list(source.iter_sse())
    assert [event.event for event in events] == ["start", "error"]
    last = json.loads(events[-1].data)
    assert last["error"] == "upstream_disconnected"
    assert (last["user_id"], last["user_email"]) == ("u-1", "u-1@example.test")


def test_fifty_streams_stay_apart(gateway):
    """Each stream carries its own user, whatever connection to the upstream it got."""
    import asyncio

    async def one(client, at):
        answer = await client.post("/sse?count=5&pause=0.01", headers=bearer(mint(f"many-{at}")))
        start = [line for line in answer.text.splitlines() if line.startswith("data: ")][0]
        return json.loads(start[6:])["user_id"]

    async def all_of_them():
        async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
            return await asyncio.gather(*(one(client, at) for at in range(50)))

    assert asyncio.run(all_of_them()) == [f"many-{at}" for at in range(50)]


def node(gateway, scenario: str, token: str) -> dict:
    """What the npm `eventsource` client saw."""
    modules = Path(os.environ.get("OUTSIDE_NODE_MODULES", ROOT / "tests" / ".cache" / "npm" / "node_modules"))
    environment = os.environ | {"OUTSIDE_NODE_MODULES": str(modules)}
    run = subprocess.run(
        ["node", str(HERE / "clients" / "eventsource.mjs"), gateway.url, scenario, token],
        capture_output=True,
        text=True,
        timeout=40,
        env=environment,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_the_npm_eventsource_client_reads_a_stream_with_a_header(gateway):
    seen = node(gateway, "header", mint("npm"))
    assert seen["opened"] and seen["events"] == ["start", "progress", "progress", "progress", "complete"]


def test_the_npm_eventsource_client_reads_a_stream_with_a_query_token(gateway):
    assert node(gateway, "query", mint("npm"))["events"][-1] == "complete"


def test_the_npm_eventsource_client_sees_the_status_of_a_refusal(gateway):
    assert node(gateway, "status", mint(lifetime=-3))["code"] == 401


def test_the_npm_eventsource_client_reads_why_in_an_event(gateway):
    seen = node(gateway, "event", mint(lifetime=-3))
    assert json.loads(seen["data"])["error"] == "token_expired"
