"""Databases on the PostgreSQL server that `tests/run` starts; its URL is in PORTCULLIS_TEST_POSTGRES."""

import contextlib
import os
import socket
import subprocess
import threading
import urllib.parse
import uuid

import pytest


def database() -> str:
    """The URL of a new and empty database; skips the test where there is no server."""
    url = os.environ.get("PORTCULLIS_TEST_POSTGRES")
    if not url:
        pytest.skip("no PostgreSQL: PORTCULLIS_TEST_POSTGRES is not set")
    name = f"outside_{uuid.uuid4().hex}"
    command = ["psql", "-X", "-q", "-d", url, "-c", f"CREATE DATABASE {name} TEMPLATE template0"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return f"{url.rsplit('/', 1)[0]}/{name}"


class Relay:
    """A way to a database that can be cut; `url` is the database by it."""

    def __init__(self, url: str):
        host, name = url.split("@")[1].rsplit("/", 1)
        self.folder = urllib.parse.unquote(host)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "postgres://postgres@127.0.0.1:%d/%s?sslmode=disable" % (self.listener.getsockname()[1], name)
        self.whole = True
        self.flows = threading.Event()
        self.flows.set()
        self.open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Breaks what is open, and lets nothing through."""
        self.whole = False
        for end in self.open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.open.clear()

    def stall(self):
        """Keeps what is open, and lets nothing through."""
        self.flows.clear()

    def mend(self):
        """Lets through again."""
        self.whole = True
        self.flows.set()

    def _accept(self):
        while True:
            near, _ = self.listener.accept()
            if not self.whole:
                near.close()
                continue
            far = socket.socket(socket.AF_UNIX)
            far.connect(f"{self.folder}/.s.PGSQL.5432")
            self.open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(one, other), daemon=True).start()

    def _copy(self, one: socket.socket, other: socket.socket):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                self.flows.wait()
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
