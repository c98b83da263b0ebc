"""An upstream that speaks HTTP/2: its hints, its trailers, and clients that leave it."""

import socket
import subprocess

import pytest
from harness.gateway import config
from harness.http2_upstream import Http2Upstream
from harness.raw import PATIENCE

ROUTE = """
[[upstream]]
name = "modern"
endpoints = ["http://${MODERN}"]
protocol = "http2"

[[route]]
name = "modern"
path = "/m/{*rest}"
upstream = "modern"
auth = "public"
"""


@pytest.fixture(scope="module")
def modern():
    upstream = Http2Upstream()
    yield upstream
    upstream.stop()


@pytest.fixture(scope="module")
def gateway(start, modern):
    return start(config(ROUTE), MODERN=modern.address)


@pytest.mark.parametrize(("version", "line"), [("--http1.1", "HTTP/1.1"), ("--http2-prior-knowledge", "HTTP/2")])
def test_curl_is_told_the_hints_the_answer_and_its_trailers(gateway, version, line):
    for body in ([], ["-d", "hello"]):
        told = subprocess.run(
            ["curl", "-sS", "--max-time", "20", version, "-i", "-H", "te: trailers", *body, gateway.url + "/m/hints"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        statuses = [row.split()[:2] for row in told.splitlines() if row.startswith("HTTP/")]
        assert statuses == [[line, "103"], [line, "102"], [line, "200"]]
        assert "link: </a.css>; rel=preload" in told
        assert ("ok hello" if body else "ok ") in told
        assert "x-sum: 7" in told


def test_a_client_that_leaves_before_the_first_byte_resets_its_stream(gateway, modern):
    with socket.create_connection(gateway.address, PATIENCE) as client:
        client.sendall(b"GET /m/never HTTP/1.1\r\nhost: a.test\r\n\r\n")
        while modern.asked.get(timeout=PATIENCE) != "/m/never":
            pass
    assert modern.left.get(timeout=PATIENCE) == ("/m/never", 8)
