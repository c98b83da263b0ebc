"""When sessions were last used is written in one batch, beside the requests that used them: on both stores."""

import contextlib
import sqlite3
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from harness import accounts
from harness.accounts import Person
from harness.postgres import database
from harness.tokens import bearer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

STATEMENT = 5
"""Seconds that the store has for a call. One that waited for it would take that long."""
STORE = """
[store]
url = "%s"
statement_timeout = "%ds"

[accounts]
secret = "${ACCOUNTS_SECRET}"
"""
PEOPLE, USES = 10, 10


class Sqlite:
    """A store in one file."""

    def __init__(self, folder: Path):
        self.file = folder / "users.db"
        self.url = f"sqlite:{self.file}"

    @contextlib.contextmanager
    def locked(self):
        """Nobody else writes; reading goes on."""
        connection = sqlite3.connect(self.file, isolation_level=None, timeout=STATEMENT)
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
        connection.close()

    def used(self, since: int) -> int:
        """How many sessions were used since then, in milliseconds."""
        with contextlib.closing(sqlite3.connect(self.file, timeout=STATEMENT)) as connection:
            return connection.execute("SELECT count(*) FROM sessions WHERE last_used_at >= ?", (since,)).fetchone()[0]

    def transactions(self, since: int) -> int:
        """In how many transactions that was written: here it is seen by watching."""
        return 1


class Postgres:
    """A database of a server."""

    def __init__(self, _: Path):
        self.url = database()

    @contextlib.contextmanager
    def locked(self):
        """Nobody else writes to the table; reading goes on."""
        command = ["psql", "-X", "-q", "-d", self.url]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as psql:
            psql.stdin.write("BEGIN; LOCK TABLE portcullis.sessions IN SHARE ROW EXCLUSIVE MODE;\n\\echo locked\n")
            psql.stdin.flush()
            assert psql.stdout.readline() == "locked\n"
            yield

    def used(self, since: int) -> int:
        """How many sessions were used since then, in milliseconds."""
        return self._number(f"SELECT count(*) FROM portcullis.sessions WHERE last_used_at >= {since}")

    def transactions(self, since: int) -> int:
        """In how many transactions that was written."""
        return self._number(f"SELECT count(DISTINCT xmin::text) FROM portcullis.sessions WHERE last_used_at >= {since}")

    def _number(self, query: str) -> int:
        command = ["psql", "-X", "-q", "-A", "-t", "-d", self.url, "-c", query]
        return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)


@pytest.mark.parametrize("engine", [Sqlite, Postgres])
def test_uses_of_sessions_are_written_together_and_nobody_waits_for_it(start, tmp_path, engine):
    store = engine(tmp_path)
    text = accounts.config().replace("[accounts]\n", STORE % (store.url, STATEMENT), 1)
    gateway = start(text, tmp_path, ACCOUNTS_SECRET="the secret of gateways that share a store")
    people = [Person(gateway).register() for _ in range(PEOPLE)]
    tokens = [token for who in people for token in (who.session(), who.token())]
    # Uses are noted to the second: those to come must be later than the log-ins.
    since = (int(time.time()) + 1) * 1000
    time.sleep(1.1)
    assert store.used(since) == 0
    log = len(gateway.log.kept)
    with store.locked(), httpx.Client(base_url=gateway.url, timeout=STATEMENT - 1) as client:
        for _ in range(USES):
            for token in tokens:
                assert client.get("/behind/use", headers=bearer(token)).status_code == 200
        # The store was asked, and did not take it: that is all that came of it.
        gateway.log.wait("uses of sessions were not written", log, 30)
        assert store.used(since) == 0
        assert client.get("/behind/use", headers=bearer(tokens[0])).status_code == 200
    deadline = time.monotonic() + 30
    while not (seen := store.used(since)):
        assert time.monotonic() < deadline, "no use was written"
    # All at once, each once.
    assert (seen, store.transactions(since)) == (len(tokens), 1)
