"""Fixtures that every test file uses: upstreams for the session, gateways on demand."""

from pathlib import Path

import pytest
from harness import app as application
from harness import browser as chromium
from harness import jobs, studio
from harness.gateway import GUARDED, Gateway, config
from harness.misbehaving import Misbehaving
from harness.recorder import Recorder, well_formed
from harness.redis import Redis
from harness.serve import serving


@pytest.fixture(scope="session")
def fastapi(tmp_path_factory):
    """The FastAPI application, served by uvicorn; `.app` is the application itself."""
    yield from serving(application.build(tmp_path_factory.mktemp("app")))


@pytest.fixture(scope="session")
def recording():
    """The recording upstream of the session. Use `recorder` in a test."""
    recorder = Recorder()
    yield recorder
    recorder.stop()


@pytest.fixture
def recorder(recording):
    """The recording upstream, empty at first; every head that it saw is held against invariant 3 at the end."""
    while not recording.requests.empty():
        recording.requests.get()
    start = len(recording.every)
    yield recording
    for seen in recording.every[start:]:
        assert not well_formed(seen.raw), (well_formed(seen.raw), seen.raw)


@pytest.fixture(scope="session")
def misbehaving():
    """The upstream that breaks the rules."""
    upstream = Misbehaving()
    yield upstream
    upstream.stop()


@pytest.fixture(scope="module")
def start(tmp_path_factory, fastapi, recording, misbehaving):
    """Starts gateways from a config's text; `${APP}`, `${RECORDER}` and `${MISBEHAVING}` stand for the upstreams, and `prefix`
    is what stands before the command."""
    running = []

    def begin(text: str, folder: Path | None = None, prefix: tuple[str, ...] = (), **environment: str) -> Gateway:
        addresses = {"APP": fastapi.address, "RECORDER": recording.address, "MISBEHAVING": misbehaving.address}
        gateway = Gateway(text, folder or tmp_path_factory.mktemp("gateway"), addresses | environment, prefix)
        running.append(gateway)
        return gateway

    yield begin
    problems = []
    for gateway in running:
        try:
            gateway.stop()
        except AssertionError as problem:
            problems.append(str(problem))
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="module")
def guarded(start):
    """A gateway in front of the recording upstream: `/public`, `/guests`, `/api` (a user), `/api/admin` (the role)."""
    return start(config(GUARDED))


@pytest.fixture(scope="module")
def service():
    """The service that makes things and knows no users; `.app` is the application itself."""
    yield from serving(studio.build())


@pytest.fixture(scope="module")
def odd(start, service):
    """A gateway in front of it, which knows users of another issuer, and keeps its jobs in a file of its own."""
    return start(config(jobs.ROUTES), STUDIO=service.address)


@pytest.fixture
def redis(tmp_path):
    """A Redis server of the test's own, which it may stop, restart and pause."""
    server = Redis(tmp_path)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """The browser of the session."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = chromium.launch(playwright, tmp_path_factory.mktemp("profile"))
        yield browser
        browser.close()
