"""Limits over three real gateways and one Redis: exact together, given back by a gateway that is gone, and what becomes
of them while Redis is away."""

import asyncio
import signal
import time

import httpx
import pytest
from harness import gateway
from harness.replicas import Open, Replica, until
from harness.tokens import bearer, mint

pytestmark = pytest.mark.timeout(180)

ROUTES = """
[redis]
url = "${REDIS}"
timeout = "{timeout}"

[[upstream]]
name = "recorder"
endpoints = ["http://${RECORDER}"]

[[upstream]]
name = "app"
endpoints = ["http://${APP}"]

[[route]]
name = "behind"
path = "/behind/{*rest}"
upstream = "recorder"
auth = "required"

[[route]]
name = "streams"
path = "/sse/{*rest}"
upstream = "app"
auth = "required"

[[route]]
name = "sockets"
path = "/ws/{*rest}"
upstream = "app"
auth = "required"
"""

BURST = """
[[limits.class]]
name = "all"
rate = 1
per = "1h"
burst = 130
"""

DAILY = """
[[limits.class]]
name = "all"
daily = 70
"""

STREAMS = """
[[limits.class]]
name = "all"
streams = 2
"""


def config(limits: str, timeout: str) -> str:
    """The configuration of each gateway."""
    text = gateway.config(ROUTES.replace("{timeout}", timeout))
    assert gateway.NO_LIMITS in text
    return text.replace(gateway.NO_LIMITS, limits)


@pytest.fixture
def replicas(tmp_path, redis, fastapi, recording):
    """Starts gateways over one Redis, with limits."""
    all: list[Replica] = []

    # What Redis says too late a gateway counts alone, and the wires to it are of this process, which is busy.
    def begin(limits: str, count: int = 3, timeout: str = "20s") -> list[Replica]:
        addresses = {"APP": fastapi.address, "RECORDER": recording.address}
        for _ in range(count):
            folder = tmp_path / f"replica-{len(all)}"
            folder.mkdir()
            all.append(Replica(config(limits, timeout), folder, addresses, redis))
        for replica in all:
            until(replica.ready, "Redis is not there")
        return all

    yield begin
    for replica in all:
        if replica.process.poll() is None:
            replica.stop()


async def asked(all: list[Replica], token: str, count: int) -> dict[int, int]:
    """How `count` requests at once, at all gateways in turn, are answered."""
    told: dict[int, int] = {}

    async def call(replica: Replica, calls: int):
        async with httpx.AsyncClient(headers=bearer(token), timeout=60) as client:
            for _ in range(calls):
                status = (await client.get(f"{replica.url}/behind/x")).status_code
                told[status] = told.get(status, 0) + 1

    at_once = min(count, 60)
    shares = [count // at_once + (at < count % at_once) for at in range(at_once)]
    await asyncio.gather(*(call(all[at % len(all)], share) for at, share in enumerate(shares)))
    return told


@pytest.mark.parametrize(("limits", "most"), [(BURST, 130), (DAILY, 70), (BURST + "daily = 50\n", 50)], ids=["rate", "quota", "both"])
def test_a_thousand_requests_at_three_gateways_let_in_what_the_class_allows(replicas, limits, most):
    all = replicas(limits)
    told = asyncio.run(asked(all, mint("ada"), 1000))
    assert told == {200: most, 429: 1000 - most}
    assert asyncio.run(asked(all, mint("bob"), 30)) == {200: 30}


def opens(replica: Replica, token: str) -> bool:
    """Whether a stream would be let in; it is closed at once."""
    with httpx.stream("GET", f"{replica.url}/sse/endless/probe", headers=bearer(token), timeout=20) as answer:
        if answer.status_code == 429:
            answer.read()
            assert answer.json()["error"] == "streams_exceeded"
        return answer.status_code == 200


def test_streams_at_one_gateway_count_at_all_and_a_gateway_that_is_killed_gives_its_own_back(replicas):
    first, second, third = replicas(STREAMS)
    token = mint("ada")
    streams = [Open(first, token, "sse"), Open(second, token, "websocket")]
    assert not opens(third, token)
    begun = time.monotonic()
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    assert not opens(third, token), "its lease is good for a while"
    until(lambda: opens(third, token), "the lease of a gateway that is gone still counts", 40)
    print(f"free again {time.monotonic() - begun:.1f} s after the kill")
    assert streams[1].lives
    # The one that lives was renewed all the while.
    other = Open(third, token, "sse")
    assert not opens(second, token)
    assert other.lives


def test_the_oldest_stream_gives_way_at_whichever_gateway_it_is(replicas):
    all = replicas(STREAMS + 'streams_exceeded = "end_oldest"\n')
    token = mint("ada")
    streams = [Open(all[0], token, "sse"), Open(all[1], token, "websocket")]
    begun = time.monotonic()
    streams.append(Open(all[2], token, "sse"))
    assert streams[0].wait() == "streams_exceeded"
    print(f"the oldest ended {streams[0].ended - begun:.3f} s after the new one was asked for")
    streams.append(Open(all[0], token, "sse"))
    assert streams[1].wait() == "streams_exceeded"
    assert streams[2].lives and streams[3].lives


@pytest.mark.parametrize("away", ["open", "closed"])
def test_while_redis_is_away_a_class_is_counted_alone_or_refused(replicas, redis, away):
    all = replicas(f'{BURST}streams = 2\nredis_away = "{away}"\n', 2)
    token = mint("ada")
    assert asyncio.run(asked(all[:1], token, 15)) == {200: 15}
    assert asyncio.run(asked(all[1:], token, 5)) == {200: 5}
    redis.down()
    told = asyncio.run(asked(all, token, 400))
    if away == "open":
        assert told == {200: 115 + 110, 429: 175}, "each by itself, from what it last heard"
        assert all[0].figure("portcullis_limits_alone_total") > 0
    else:
        assert told == {503: 400}
        answer = httpx.get(f"{all[0].url}/behind/x", headers=bearer(token))
        assert answer.json()["error"] == "limits_unavailable"
    redis.up()
    for replica in all:
        until(replica.ready, "Redis is back")
    until(lambda: asyncio.run(asked(all, mint("bob"), 1)) == {200: 1}, "it is asked again")
    # It has forgotten all: what it kept was in memory.
    told = asyncio.run(asked(all, token, 400))
    assert told[200] == 130


@pytest.mark.parametrize(("limits", "most"), [(BURST, 130), (DAILY, 70)], ids=["rate", "quota"])
def test_who_has_used_up_all_gets_nothing_more_when_redis_goes_away(replicas, redis, limits, most):
    all = replicas(limits)
    token = mint("ada")
    assert asyncio.run(asked(all, token, 200)) == {200: most, 429: 200 - most}
    redis.down()
    assert asyncio.run(asked(all, token, 90)) == {429: 90}
    assert asyncio.run(asked(all, mint("bob"), 30)) == {200: 30}
    assert all[0].figure("portcullis_limits_alone_total") > 0


@pytest.mark.parametrize("too_many", ["refuse", "end_oldest"])
def test_streams_of_a_gateway_count_there_while_redis_is_away(replicas, redis, too_many):
    first, second = replicas(f'{STREAMS}streams_exceeded = "{too_many}"\n', 2)
    token = mint("ada")
    streams = [Open(first, token, "sse"), Open(first, token, "websocket")]
    redis.down()
    if too_many == "refuse":
        assert not opens(first, token)
        assert all(stream.lives for stream in streams)
    else:
        third = Open(first, token, "sse")
        assert streams[0].wait() == "streams_exceeded"
        assert streams[1].lives and third.lives
    assert opens(second, token), "it knows of none"


def test_redis_that_stands_still_holds_nobody_up(replicas, redis):
    all = replicas(BURST, 1, "250ms")
    token = mint("ada")
    assert asyncio.run(asked(all, token, 5)) == {200: 5}
    redis.pause()
    begun = time.monotonic()
    told = asyncio.run(asked(all, token, 50))
    took = time.monotonic() - begun
    redis.resume()
    assert told == {200: 50}
    assert took < 5, f"{took:.1f} s"
