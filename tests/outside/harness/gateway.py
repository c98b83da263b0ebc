"""The real binary as a process: started with a config file, watched by what it prints, stopped by SIGTERM."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

from . import tokens

ROOT = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("PORTCULLIS_BIN", ROOT / "target" / "debug" / "portcullis"))
START = 20.0
"""Seconds that a start, a stop or a log line may take before the test fails."""


class Lines:
    """Lines of a pipe, kept as they come, to be waited for."""

    def __init__(self, pipe):
        self.kept: list[str] = []
        self.ended = False
        self._news = threading.Condition()
        threading.Thread(target=self._read, args=(pipe,), daemon=True).start()

    def _read(self, pipe):
        for line in pipe:
            with self._news:
                self.kept.append(line.decode("utf-8", "replace").rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self.ended = True
            self._news.notify_all()

    def wait(self, pattern: str, start: int = 0, timeout: float = START) -> str:
        """The first line from `start` on that matches; an AssertionError when none comes."""
        expression = re.compile(pattern)
        deadline = time.monotonic() + timeout
        with self._news:
            at = start
            while True:
                for line in self.kept[at:]:
                    if expression.search(line):
                        return line
                at = len(self.kept)
                left = deadline - time.monotonic()
                if self.ended or left <= 0:
                    raise AssertionError(f"no line matches {pattern!r} in:\n" + "\n".join(self.kept[-40:]))
                self._news.wait(left)


class Gateway:
    """A running gateway. `url` is its public address, `admin` that of its probes and metrics."""

    def __init__(self, config: str, folder: Path, environment: dict[str, str], prefix: tuple[str, ...] = ()):
        self.file = folder / "portcullis.toml"
        self.file.write_text(config, encoding="utf-8")
        self.environment = {
            **os.environ,
            "PORTCULLIS_JWT_SECRET": tokens.SECRET,
            "RUST_BACKTRACE": "1",
            **environment,
        }
        self.process = subprocess.Popen(
            [*prefix, str(BINARY), "run", "--config", str(self.file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )
        self.out = Lines(self.process.stdout)
        self.log = Lines(self.process.stderr)
        try:
            self.url = self.out.wait(r"^portcullis listening on ").split(" on ")[1].strip()
            self.admin = self.out.wait(r"^portcullis admin on ").split(" on ")[1].strip()
        except AssertionError as problem:
            self.process.kill()
            raise AssertionError(f"the gateway did not start: {problem}\n" + "\n".join(self.log.kept)) from None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the public listener."""
        host, port = self.url.split("://")[1].rsplit(":", 1)
        return host, int(port)

    @property
    def authority(self) -> str:
        """`host:port` of the public listener."""
        return "%s:%d" % self.address

    def ws(self, path: str) -> str:
        """The WebSocket address of a path."""
        return "ws" + self.url.removeprefix("http") + path

    def rewrite(self, config: str):
        """Puts another config in the file's place, in one step."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(config, encoding="utf-8")
        fresh.replace(self.file)

    def signal(self, number: signal.Signals):
        """Sends a signal."""
        self.process.send_signal(number)

    def audit(self, start: int = 0) -> list[dict]:
        """The log's JSON lines from `start` on."""
        return [json.loads(line) for line in self.log.kept[start:] if line.startswith("{")]

    def stop(self):
        """SIGTERM, then looks at what was left behind: a clean exit, no panic, no token in the log."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(START)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the gateway did not end after SIGTERM\n" + "\n".join(self.log.kept[-40:])) from None
        text = "\n".join(self.log.kept + self.out.kept)
        assert code == 0, f"exit code {code}\n{text[-4000:]}"
        assert "panicked" not in text, text[-8000:]
        assert tokens.SECRET not in text, "the secret is in the log"
        for token in tokens.minted:
            assert token not in text, f"a token is in the log: {[l for l in text.splitlines() if token in l][:3]}"


NO_LIMITS = """[limits]
enabled = false
"""
"""Most tests ask often, and say nothing of limits."""

BASE = """
[server]
listen = ["127.0.0.1:0"]
workers = 2
{server}

[admin]
listen = "127.0.0.1:0"

[log]
format = "json"
level = "debug"

[tokens]
leeway = "0s"

{limits}
[[issuer]]
name = "own"
iss = "https://issuer.test/auth/v1"
audience = ["authenticated"]
algorithms = ["HS256"]
secret = "${PORTCULLIS_JWT_SECRET}"
"""


def config(routes: str, server: str = "") -> str:
    """A whole config: the base with `server` keys added, then upstreams and routes."""
    if "drain_timeout" not in server:
        server += '\ndrain_timeout = "2s"'
    return BASE.replace("{server}", server).replace("{limits}", NO_LIMITS) + routes


GUARDED = """
[[upstream]]
name = "recorder"
endpoints = ["http://${RECORDER}"]

[[route]]
name = "public"
path = "/public/{*rest}"
upstream = "recorder"
auth = "public"

[[route]]
name = "guests"
path = "/guests/{*rest}"
upstream = "recorder"
auth = "optional"

[[route]]
name = "api"
path = "/api/{*rest}"
upstream = "recorder"
auth = "required"

[[route]]
name = "admin"
path = "/api/admin/{*rest}"
upstream = "recorder"
auth = "required"
roles = ["admin"]
"""
