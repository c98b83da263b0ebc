"""A store that cannot be used for a while: 503 in time, readiness off, and back by itself with nothing lost."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
import pytest
from harness import accounts
from harness.accounts import PASSWORD, Person, at_once

STATEMENT = 2.0
"""Seconds that the store has for a call, in these tests."""
BACK = 20.0
"""Seconds within which a gateway must have found its store again."""

STORE = """
[store]
url = "%s"
connect_timeout = "1s"
statement_timeout = "2s"

[accounts]
"""


def ready(gateway) -> bool:
    """Whether `/readyz` says that the store is there."""
    answer = httpx.get(f"{gateway.admin}/readyz", timeout=10)
    return answer.status_code == 200


def becomes(gateway, state: bool):
    """Waits until readiness is so."""
    deadline = time.monotonic() + BACK
    while ready(gateway) is not state:
        assert time.monotonic() < deadline, httpx.get(f"{gateway.admin}/readyz").text
        time.sleep(0.05)


def start_at(start, url: str, folder: Path):
    """A gateway whose store is there."""
    return start(accounts.config().replace("[accounts]\n", STORE % url, 1), folder)


def refused_in_time(person: Person, method: str, path: str, token: str | None = None, **more):
    """A call that must be 503 before a client would give up."""
    began = time.monotonic()
    answer = person.call(method, path, token, **more)
    assert answer.status_code == 503, (path, answer.status_code, answer.text)
    assert time.monotonic() - began < 3 * STATEMENT + 2
    return answer


@pytest.fixture
def small(tmp_path):
    """A file system of a few megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "tmpfs", place], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path) -> Path:
    """Leaves no byte free."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    return filler


def test_a_full_disk(start, small, tmp_path):
    gateway = start_at(start, f"sqlite:{small}/users.db", tmp_path)
    ada = Person(gateway).register()
    token = ada.token()
    opaque = ada.session()
    filler = fill(small)
    becomes(gateway, False)
    eve = Person(gateway)
    body = {"username": eve.name, "email": eve.email, "password": PASSWORD}
    refused_in_time(eve, "POST", "/api/auth/register", json=body)
    refused_in_time(ada, "POST", "/auth/login", json={"username": ada.name, "password": PASSWORD})
    # What can be read goes on: who is in stays in.
    assert ada.passes(token) and ada.passes(opaque)
    filler.unlink()
    becomes(gateway, True)
    eve.register()
    assert ada.passes(eve.token()) and ada.passes(ada.token()) and ada.passes(token)


@contextlib.contextmanager
def immutable(files: list[Path]):
    """Files that nobody may write, those who have them open included: permission bits say nothing to root, this does.

    The memory that connections share (`-shm`) is left out: the kernel kills whoever writes to a mapped file that is so.
    """
    done = subprocess.run(["chattr", "+i", *files], capture_output=True)
    try:
        if done.returncode != 0:
            pytest.skip(f"files cannot be made immutable here: {done.stderr.decode().strip()}")
        yield
    finally:
        subprocess.run(["chattr", "-i", *files], capture_output=True)


def binds(folder: Path) -> bool:
    """Whether an immutable file refuses a descriptor that was open before. Some file systems look only at the opening."""
    probe = folder / "probe"
    with probe.open("wb", buffering=0) as file, immutable([probe]):
        try:
            file.write(b"x")
        except OSError:
            return True
    return False


def test_a_database_file_that_may_only_be_read(start, tmp_path):
    if not binds(tmp_path):
        pytest.skip("no file can be made read-only here while it is open")
    gateway = start_at(start, f"sqlite:{tmp_path}/users.db", tmp_path)
    ada = Person(gateway).register()
    token, spare = ada.token(), ada.token()
    opaque = ada.session()
    eve = Person(gateway)
    body = {"username": eve.name, "email": eve.email, "password": PASSWORD}
    with immutable([tmp_path / "users.db", tmp_path / "users.db-wal"]):
        becomes(gateway, False)
        refused_in_time(eve, "POST", "/api/auth/register", json=body)
        refused_in_time(ada, "POST", "/auth/login", json={"username": ada.name, "password": PASSWORD})
        refused_in_time(ada, "POST", "/auth/logout", spare)
        # What can be read goes on, also by connections that are made only now, and a log-out that was refused has ended
        # nothing.
        assert ada.passes(token) and ada.passes(opaque) and ada.passes(spare)
        reads = at_once(24, lambda: ada.call("GET", "/auth/me", token).status_code)
        assert set(reads) == {200}
    becomes(gateway, True)
    eve.register()
    ada.done("POST", "/auth/logout", spare)
    assert not ada.passes(spare)
    assert all(ada.passes(it) for it in (eve.token(), ada.token(), token, opaque))


def test_connections_that_were_opened_to_read_write_again(start, tmp_path):
    """SQLite opens what it may not write for reading, and says so only to each write: such a connection must not stay."""
    if not binds(tmp_path):
        pytest.skip("no file can be made read-only here while it is open")
    gateway = start_at(start, f"sqlite:{tmp_path}/users.db", tmp_path)
    ada = Person(gateway).register()
    token, file, away = ada.token(), tmp_path / "users.db", tmp_path / "away.db"
    with contextlib.closing(sqlite3.connect(file)) as other:
        # Another process keeps the log and the shared memory there.
        other.execute("SELECT count(*) FROM users").fetchone()
        file.rename(away)
        refused_in_time(ada, "GET", "/auth/me", token)
        gateway.signal(signal.SIGSTOP)
        away.rename(file)
        with immutable([tmp_path / "users.db", tmp_path / "users.db-wal"]):
            gateway.signal(signal.SIGCONT)
            reads = at_once(24, lambda: ada.call("GET", "/auth/me", token).status_code)
            assert set(reads) == {200}
            refused_in_time(ada, "POST", "/auth/login", json={"username": ada.name, "password": PASSWORD})
        becomes(gateway, True)
        assert ada.passes(ada.token())


def test_a_disk_that_is_mounted_read_only(start, small, tmp_path):
    """A machine that comes up with its disk read-only: the gateway says so and does not begin, and loses nothing."""
    before = start_at(start, f"sqlite:{small}/users.db", tmp_path)
    ada = Person(before).register()
    token = ada.token()
    before.stop()
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    try:
        with pytest.raises(AssertionError, match="did not start") as refused:
            start_at(start, f"sqlite:{small}/users.db", tmp_path)
        assert "the store cannot be opened: attempt to write a readonly database" in str(refused.value)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", small], check=True)
    after = start_at(start, f"sqlite:{small}/users.db", tmp_path)
    ada.gateway = after
    assert ada.passes(token) and ada.passes(ada.token())


def test_a_database_that_another_process_locks(start, tmp_path):
    gateway = start_at(start, f"sqlite:{tmp_path}/users.db", tmp_path)
    ada = Person(gateway).register()
    token, unseen = ada.token(), ada.token()
    eve = Person(gateway)
    body = {"username": eve.name, "email": eve.email, "password": PASSWORD}
    with contextlib.closing(sqlite3.connect(tmp_path / "users.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        becomes(gateway, False)
        refused_in_time(eve, "POST", "/api/auth/register", json=body)
        refused_in_time(ada, "POST", "/auth/login", json={"username": ada.name, "password": PASSWORD})
        refused_in_time(ada, "POST", "/auth/logout", token)
        # What can be read goes on, and nothing has ended.
        assert ada.passes(token) and ada.passes(unseen)
        other.execute("ROLLBACK")
    becomes(gateway, True)
    eve.register()
    assert ada.passes(token) and ada.passes(ada.token()) and ada.passes(eve.token())


def test_a_database_that_vanished(start, tmp_path):
    gateway = start_at(start, f"sqlite:{tmp_path}/users.db", tmp_path)
    ada = Person(gateway).register()
    token, unseen = ada.token(), ada.token()
    assert ada.passes(token)
    file, away = tmp_path / "users.db", tmp_path / "away.db"
    file.rename(away)
    becomes(gateway, False)
    refused_in_time(ada, "POST", "/auth/login", json={"username": ada.name, "password": PASSWORD})
    # Whoever was let in a moment ago is known; of others nobody can tell. No empty store is made in its place.
    assert ada.passes(token) and not file.exists()
    assert refused_in_time(ada, "GET", "/behind/x", unseen).json()["error"] == "store_unavailable"
    away.rename(file)
    becomes(gateway, True)
    assert ada.passes(unseen) and ada.passes(token) and ada.passes(ada.token())


class Postgres:
    """A server of a test's own, that can be stopped and killed."""

    def __init__(self, folder: Path):
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        found = shutil.which("postgres")
        self.bin = Path(found).parent if found else programs[-1] if programs else None
        if self.bin is None:
            pytest.skip("no PostgreSQL on this machine")
        self.folder = folder
        self.user = {}
        if os.geteuid() == 0:
            os.chown(folder, 65534, 65534)
            self.user = {"user": 65534, "group": 65534, "extra_groups": []}
        command = [self.bin / "initdb", "-U", "postgres", "-A", "trust", "--no-sync", "-D", folder / "data"]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, timeout=120, **self.user)
        self.start()

    @property
    def url(self) -> str:
        """Where its first database is."""
        return f"postgres://postgres@{str(self.folder).replace('/', '%2F')}/postgres"

    def start(self):
        """Starts it, and waits until it answers."""
        command = [self.bin / "postgres", "-D", self.folder / "data", "-k", self.folder, "-c", "listen_addresses="]
        log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self.user)
        deadline = time.monotonic() + 60
        ask = ["psql", "-X", "-q", "-d", self.url, "-c", "SELECT 1"]
        while subprocess.run(ask, capture_output=True).returncode != 0:
            assert time.monotonic() < deadline, (self.folder / "server.log").read_text()
            time.sleep(0.05)

    def signal(self, number: signal.Signals):
        """To every process of it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in [self.process.pid, *map(int, children)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self):
        """Ends it for good."""
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


@pytest.fixture
def postgres():
    # pytest's own folders are closed to whom it runs as.
    with tempfile.TemporaryDirectory(prefix="portcullis-pg-") as folder:
        server = Postgres(Path(folder))
        yield server
        server.stop()


def test_a_database_that_hangs(start, postgres, tmp_path):
    text = accounts.config(accounts='secret = "${ACCOUNTS_SECRET}"').replace("[accounts]\n", STORE % postgres.url, 1)
    gateway = start(text, tmp_path, ACCOUNTS_SECRET="kJ2vQ8xTz5WmN4rL7pYc3HdF6sGbA9eU")
    ada = Person(gateway).register()
    token, unseen = ada.token(), ada.token()
    assert ada.passes(token)
    postgres.signal(signal.SIGSTOP)
    refused_in_time(ada, "POST", "/auth/login", json={"username": ada.name, "password": PASSWORD})
    # Whoever was let in a moment ago is known; of others nobody can tell.
    assert ada.passes(token)
    assert refused_in_time(ada, "GET", "/behind/x", unseen).json()["error"] == "store_unavailable"
    becomes(gateway, False)
    postgres.signal(signal.SIGCONT)
    becomes(gateway, True)
    assert ada.passes(unseen) and ada.passes(ada.token())


def test_a_database_that_is_killed(start, postgres, tmp_path):
    text = accounts.config(accounts='secret = "${ACCOUNTS_SECRET}"').replace("[accounts]\n", STORE % postgres.url, 1)
    gateway = start(text, tmp_path, ACCOUNTS_SECRET="kJ2vQ8xTz5WmN4rL7pYc3HdF6sGbA9eU")
    people = [Person(gateway).register() for _ in range(3)]
    token = people[0].token()
    postgres.signal(signal.SIGKILL)
    postgres.process.wait(60)
    body = {"username": people[0].name, "password": PASSWORD}
    refused_in_time(people[0], "POST", "/auth/login", json=body)
    becomes(gateway, False)
    postgres.start()
    becomes(gateway, True)
    assert all(person.passes(person.token()) for person in people)
    assert people[0].passes(token)
