"""Several gateways over one PostgreSQL and one Redis, each with a way of its own to Redis, and what is open at them."""

import contextlib
import re
import threading
import time
import uuid
from pathlib import Path

import httpx
from httpx_sse import connect_sse
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from . import accounts
from .gateway import Gateway
from .redis import Redis, Wire
from .tokens import bearer

SHARED = """
[store]
url = "${STORE}"
connect_timeout = "10s"

[redis]
url = "${REDIS}"
{redis}
"""


class Replica(Gateway):
    """A gateway, and its wire to Redis."""

    def __init__(self, text: str, folder: Path, environment: dict[str, str], redis: Redis):
        self.wire = Wire(redis)
        super().__init__(text, folder, environment | {"REDIS": self.wire.url})

    def ready(self) -> bool:
        """What its readiness says of Redis."""
        parts = httpx.get(self.admin + "/readyz", timeout=20).json()["parts"]
        return next(part["ready"] for part in parts if part["name"] == "redis")

    def figure(self, name: str) -> float:
        """One of its metrics, labels included."""
        page = httpx.get(self.admin + "/metrics", timeout=20).text
        return float(re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)[1])

    def status(self, token: str) -> int:
        """What a proxied call with this token is answered."""
        return httpx.get(self.url + "/behind/x", headers=bearer(token), timeout=20).status_code

    def stop(self):
        """The end."""
        self.wire.mend()
        try:
            super().stop()
        finally:
            self.wire.stop()


def config(redis: str = "", **lines: str) -> str:
    """The configuration of each of them."""
    lines["accounts"] = lines.get("accounts", "") + '\nsecret = "${ACCOUNTS_SECRET}"'
    return accounts.config(**lines) + SHARED.replace("{redis}", redis)


class Open:
    """A live stream: `end` is how it ended, `ended` when."""

    def __init__(self, replica: Gateway, token: str, kind: str = "sse"):
        self.end = None
        self.ended = None
        self.first = threading.Event()
        self.over = threading.Event()
        self.replica, self.token = replica, token
        kinds = {"sse": self._events, "silent": lambda: self._events("silent"), "websocket": self._socket}
        threading.Thread(target=kinds[kind], daemon=True).start()
        assert self.first.wait(20), f"the {kind} stream did not begin: {self.end}"

    @property
    def lives(self) -> bool:
        """Whether it goes on."""
        return not self.over.is_set()

    def wait(self, seconds: float = 20.0):
        """How it ended, which must be soon."""
        assert self.over.wait(seconds), f"the stream lives {seconds} s later"
        return self.end

    def _events(self, what: str = "endless"):
        url = f"{self.replica.url}/sse/{what}/{uuid.uuid4().hex}"
        try:
            with httpx.Client(timeout=60) as client, connect_sse(client, "GET", url, headers=bearer(self.token)) as source:
                for event in source.iter_sse():
                    self.end = event.event
                    self.first.set()
        except Exception as problem:
            self.end = problem
        self._finish()

    def _socket(self):
        try:
            with connect(self.replica.ws("/ws/echo/x"), additional_headers=bearer(self.token)) as socket:
                socket.send("a")
                socket.recv(timeout=20)
                self.first.set()
                while True:
                    socket.recv()
        except ConnectionClosed as closed:
            self.end = closed.rcvd and closed.rcvd.reason
        except Exception as problem:
            self.end = problem
        self._finish()

    def _finish(self):
        self.ended = time.monotonic()
        self.over.set()


class Load:
    """Calls with one token at all replicas, until it is over: `answers` counts what came back, `slowest` is in seconds."""

    def __init__(self, replicas: list[Gateway], token: str):
        self.answers: dict[int | str, int] = {}
        self.slowest = 0.0
        self.going = True
        self.threads = [threading.Thread(target=self._call, args=(replica, token), daemon=True) for replica in replicas]
        for thread in self.threads:
            thread.start()

    def _call(self, replica: Gateway, token: str):
        with httpx.Client(base_url=replica.url, headers=bearer(token), timeout=20) as client:
            while self.going:
                begun = time.monotonic()
                answer: int | str = "broken off"
                with contextlib.suppress(httpx.HTTPError):
                    answer = client.get("/behind/load").status_code
                self.slowest = max(self.slowest, time.monotonic() - begun)
                self.answers[answer] = self.answers.get(answer, 0) + 1
                time.sleep(0.005)

    def stop(self) -> dict[int | str, int]:
        """The end; what was answered, and how often."""
        self.going = False
        for thread in self.threads:
            thread.join()
        return self.answers


def until(what, message: str, seconds: float = 20.0) -> float:
    """Waits until something is so; how long that took."""
    begun = time.monotonic()
    while not what():
        assert time.monotonic() - begun < seconds, f"{message} after {seconds} s"
        time.sleep(0.01)
    return time.monotonic() - begun
