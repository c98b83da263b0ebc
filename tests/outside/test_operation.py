"""Operating it: reload by signal and by file, drain, certificates; nothing is dropped on the way."""

import json
import os
import re
import signal
import ssl
import subprocess
import threading
import time

import httpx
import pytest
from harness import certificates
from harness.app import heard
from harness.gateway import BINARY, START, config
from harness.raw import Wire, request
from harness.tokens import SECRET, bearer, mint
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

ROUTES = """
[[upstream]]
name = "app"
endpoints = ["http://${APP}"]

[[route]]
name = "kept"
path = "/sse/{*rest}"
upstream = "app"
auth = "required"

[[route]]
name = "kept-sockets"
path = "/ws/{*rest}"
upstream = "app"
auth = "required"

[[route]]
name = "all"
path = "/{*rest}"
upstream = "app"
auth = "required"

[route.headers]
response_set = { x-generation = "1" }
"""


def text(generation: int = 1, routes: str = ROUTES, server: str = "watch = false") -> str:
    """The config of a generation."""
    return config(routes.replace('x-generation = "1"', f'x-generation = "{generation}"'), server)


def until(what, message: str):
    """Asks again until it holds; fails after START seconds."""
    deadline = time.monotonic() + START
    while not what():
        assert time.monotonic() < deadline, message


def generation(gateway) -> str:
    """The generation that answers."""
    return httpx.get(gateway.url + "/json", headers=bearer(mint())).headers["x-generation"]


class Traffic:
    """Requests without a pause from several connections, while something happens."""

    def __init__(self, gateway):
        self.gateway, self.ending, self.answers, self.failures = gateway, threading.Event(), 0, []
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(4)]

    def _run(self):
        token = bearer(mint("traffic"))
        with httpx.Client(base_url=self.gateway.url, timeout=20) as client:
            while not self.ending.is_set():
                try:
                    status = client.get("/json", headers=token).status_code
                except httpx.HTTPError as problem:
                    status = repr(problem)
                if status != 200:
                    self.failures.append(status)
                self.answers += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        until(lambda: self.answers > 20, "no traffic")
        return self

    def __exit__(self, *_):
        self.ending.set()
        for thread in self.threads:
            thread.join()
        assert self.failures == []


def stream(gateway, path: str, token: str) -> Wire:
    """An event stream whose first event has come."""
    wire = Wire(gateway.address)
    wire.send(request(f"GET {path}", f"Authorization: Bearer {token}"))
    wire.until(b"event: ")
    return wire


@pytest.mark.parametrize("how", ["signal", "file"])
def test_a_reload_takes_effect_and_drops_nothing(start, how):
    server = "watch = true" if how == "file" else "watch = false"
    gateway = start(text(server=server))
    with (
        Traffic(gateway),
        stream(gateway, "/sse/endless/reload", mint()) as events,
        connect(gateway.ws("/ws/echo/reload"), additional_headers=bearer(mint())) as socket,
    ):
        for number in (2, 3):
            gateway.rewrite(text(number, server=server))
            if how == "signal":
                gateway.signal(signal.SIGHUP)
            until(lambda: generation(gateway) == str(number), f"generation {number} never came")
            events.kept = b""
            events.until(b"event: tick")
            socket.send("still here")
            assert socket.recv(timeout=15) == "still here"


def test_what_a_signal_had_read_is_not_read_again(start):
    gateway = start(text(server="watch = true"))
    folder = gateway.file.parent
    secret = folder / "secret"
    secret.touch(0o600)
    secret.write_text(SECRET)

    def named(number: int) -> str:
        whole = text(number, server="watch = true")
        return whole.replace('secret = "${PORTCULLIS_JWT_SECRET}"', 'secret_file = "secret"')

    def told(words: str) -> int:
        return sum(words in line for line in gateway.log.kept)

    def rewrite_and_signal(config: str):
        """Both at once, as far as the gateway can tell."""
        begin = len(gateway.log.kept)
        gateway.signal(signal.SIGSTOP)
        gateway.rewrite(config)
        gateway.signal(signal.SIGHUP)
        gateway.signal(signal.SIGCONT)
        gateway.log.wait("the watched files are as they were read", begin)

    rewrite_and_signal(named(2))
    assert (generation(gateway), told("configuration reloaded")) == ("2", 1)
    # What is written beside the files, those among them that the new config was the first to name, is no change.
    begin = len(gateway.log.kept)
    (folder / "other").write_text("x")
    gateway.log.wait("the watched files are as they were read", begin)
    assert told("configuration reloaded") == 1
    secret.write_text(SECRET + "\n")
    until(lambda: told("configuration reloaded") == 2, "a change of a file that was named was not seen")
    rewrite_and_signal("nonsense")
    assert told("was not reloaded") == 1
    gateway.rewrite(named(3))
    until(lambda: generation(gateway) == "3", "a change was not seen")
    assert told("configuration reloaded") == 3


def test_a_folder_that_is_always_written_to_does_not_hold_a_reload_up(start):
    # A log or a database beside the config: the folder is never quiet.
    gateway = start(text(server="watch = true"))
    ended = threading.Event()

    def write():
        with (gateway.file.parent / "busy.log").open("ab", buffering=0) as log:
            while not ended.wait(0.01):
                log.write(b"a line\n")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in (2, 3):
            gateway.rewrite(text(number, server="watch = true"))
            until(lambda: generation(gateway) == str(number), f"generation {number} never came")
    finally:
        ended.set()
        writer.join()


BAD = {
    "not TOML": lambda good: good + "\n[[[",
    "an unknown key": lambda good: good + "\nunknown_key = 1\n",
    "a route without an upstream": lambda good: good.replace('upstream = "app"\nauth', 'upstream = "nobody"\nauth', 1),
    "a short secret": lambda good: good.replace("${PORTCULLIS_JWT_SECRET}", "short"),
    "a failing test": lambda good: (
        good + '\n[[test]]\nname = "t"\nrequest = "GET /json"\n[test.expect]\ndecision = "allow"\n'
    ),
    "a missing variable": lambda good: good.replace("${APP}", "${NOT_SET_ANYWHERE}"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_reload_of_a_bad_config_keeps_the_old_one(start, name):
    gateway = start(text())
    seen = len(gateway.log.kept)
    with Traffic(gateway), stream(gateway, "/sse/endless/bad", mint()) as events:
        gateway.rewrite(BAD[name](text(2)))
        gateway.signal(signal.SIGHUP)
        gateway.log.wait(r"(?i)reload", start=seen)
        assert generation(gateway) == "1"
        events.kept = b""
        events.until(b"event: tick")
        gateway.rewrite(text(3))
        gateway.signal(signal.SIGHUP)
        until(lambda: generation(gateway) == "3", "a good config behind a bad one never came")


def test_a_stream_that_is_no_longer_allowed_is_closed_and_the_others_are_kept(start, fastapi):
    gateway = start(text())
    admin, user = mint("boss", role="admin"), mint("user")
    kept = stream(gateway, "/sse/endless/kept", admin)
    closed = stream(gateway, "/sse/endless/closed", user)
    with (
        connect(gateway.ws("/ws/echo/no-more"), additional_headers=bearer(user)) as socket,
        connect(gateway.ws("/ws/echo/on"), additional_headers=bearer(admin)) as on,
    ):
        gateway.rewrite(text(2, ROUTES.replace('auth = "required"\n\n', 'auth = "required"\nroles = ["admin"]\n\n')))
        gateway.signal(signal.SIGHUP)
        heard(fastapi.app, "left", "closed")
        closed.until(b"event: auth_")
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv(timeout=15)
        assert ended.value.rcvd.code in (4401, 4403)
        kept.kept = b""
        kept.until(b"event: tick")
        on.send("on")
        assert on.recv(timeout=15) == "on"
    kept.close()
    closed.close()


def test_sigterm_drains(start, fastapi):
    gateway = start(text(server='watch = false\ndrain_timeout = "5s"'))
    events = stream(gateway, "/sse/endless/drained", mint())
    pending = Wire(gateway.address)
    pending.send(request("GET /slow-json", f"Authorization: Bearer {mint()}"))
    with (
        connect(gateway.ws("/ws/echo/drained"), additional_headers=bearer(mint())) as socket,
        httpx.Client(base_url=gateway.admin) as admin,
    ):
        assert admin.get("/readyz").status_code == 200
        gateway.signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv(timeout=15)
        assert ended.value.rcvd.code == 1012
    last = events.rest()
    assert b"retry: " in last, "a drained stream says when to come back"
    answer = pending.reply()
    assert (answer.status, json.loads(answer.body)) == (200, {"slow": True})
    heard(fastapi.app, "left", "drained")
    assert gateway.process.wait(START) == 0


def test_sigterm_waits_for_a_tunnel_that_is_all_there_is(start):
    gateway = start(text())
    with connect(gateway.ws("/ws/echo/alone"), additional_headers=bearer(mint())) as socket:
        gateway.signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv(timeout=15)
    assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (1012, "draining")
    assert gateway.process.wait(START) == 0


def test_readiness_turns_off_while_requests_finish(start):
    gateway = start(text(server='watch = false\ndrain_timeout = "20s"'))
    with Wire(gateway.address) as pending:
        pending.send(
            request("POST /before-first-byte/drain-ready", f"Authorization: Bearer {mint()}", "Content-Length: 0")
        )
        with httpx.Client(base_url=gateway.admin) as admin:
            assert admin.get("/healthz").status_code == 200
            gateway.signal(signal.SIGTERM)
            until(lambda: admin.get("/readyz").status_code == 503, "still ready")
            assert admin.get("/healthz").status_code == 200
        try:
            with Wire(gateway.address) as late:
                late.send(request("GET /json", f"Authorization: Bearer {mint()}"))
                assert b" 200 " not in late.rest()
        except ConnectionRefusedError:
            pass
    assert gateway.process.wait(START) == 0


TLS = """
[server.tls]
certificate = "certificate.pem"
key = "key.pem"
"""


@pytest.fixture
def tls(start, tmp_path):
    certificates.write(tmp_path, "first")
    whole = text(server="watch = true").replace("\n[admin]", TLS + "\n[admin]", 1)
    return start(whole, tmp_path)


def trusting() -> ssl.SSLContext:
    """A context that takes any certificate and offers both protocols."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_tls_speaks_both_protocols(tls):
    assert tls.url.startswith("https://")
    for http2, version in ((False, "HTTP/1.1"), (True, "HTTP/2")):
        with httpx.Client(http2=http2, verify=trusting(), base_url=tls.url) as client:
            answer = client.get("/echo/tls", headers=bearer(mint("tls-user")))
            assert (answer.http_version, answer.status_code) == (version, 200)
            assert ["x-user-id", "tls-user"] in answer.json()["headers"]
            assert ["x-forwarded-proto", "https"] in answer.json()["headers"]
    with connect(tls.ws("/ws/echo/tls"), ssl=trusting(), additional_headers=bearer(mint())) as socket:
        socket.send("over TLS")
        assert socket.recv(timeout=15) == "over TLS"


def test_a_changed_certificate_is_read_again_and_drops_nothing(tls, tmp_path):
    def shown() -> str:
        with Wire(tls.address, trusting()) as wire:
            return certificates.common_name(wire.socket.getpeercert(binary_form=True))

    assert shown() == "first"
    with Wire(tls.address, trusting()) as wire:
        wire.send(request("GET /sse/endless/certificate", f"Authorization: Bearer {mint()}"))
        wire.until(b"event: tick")
        certificates.write(tmp_path, "second")
        until(lambda: shown() == "second", "the new certificate is never shown")
        wire.kept = b""
        wire.until(b"event: tick")


def test_an_http_request_to_a_tls_port_is_no_answer_from_the_upstream(tls):
    with Wire(tls.address) as wire:
        wire.send(request("GET /json", f"Authorization: Bearer {mint()}"))
        assert b" 200 " not in wire.rest()


def addresses(pipe) -> tuple[str, str]:
    """The public and the admin address, read from the pipe and nothing behind them."""
    seen = b""
    while seen.count(b"\n") < 2:
        byte = os.read(pipe, 1)
        assert byte, f"the gateway did not start: {seen}"
        seen += byte
    public, admin = (line.split(" on ")[1] for line in seen.decode().splitlines())
    return public, admin


def dropped(admin: str) -> float:
    """The counter of lines that were dropped."""
    page = httpx.get(admin + "/metrics").text
    return float(re.search(r"^portcullis_access_lines_dropped_total (\S+)", page, re.M)[1])


def test_a_pipe_that_nobody_reads_costs_lines_and_no_request(tmp_path):
    """Its reader stalls: lines gather up to their bound, then they go and are counted; nobody waits."""
    file = tmp_path / "portcullis.toml"
    routes = ROUTES.replace("${APP}", "127.0.0.1:9").replace('path = "/{*rest}"', 'path = "/app/{*rest}"')
    file.write_text(config(routes).replace("[log]", "[log]\naccess = true"), encoding="utf-8")
    mine, theirs = os.pipe()
    environment = {**os.environ, "PORTCULLIS_JWT_SECRET": SECRET}
    command = [str(BINARY), "run", "--config", str(file)]
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environment) as process:
        os.close(theirs)
        try:
            public, admin = addresses(mine)
            with httpx.Client(base_url=public, timeout=START) as client:
                # Each line is two kilobytes long; a worker may have a megabyte of them waiting.
                for turn in range(20_000):
                    assert client.get("/" + "a" * 2000).status_code == 404
                    if turn % 100 == 99 and dropped(admin) > 0:
                        break
                else:
                    raise AssertionError("no line was dropped")
                # The reader comes back: what was kept comes whole, and lines are written again.
                threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(mine, 1 << 16), b"")]).start()
                assert client.get("/again").status_code == 404
        finally:
            process.terminate()
            assert process.wait(START) == 0
