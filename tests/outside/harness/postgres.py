"""Databases on the PostgreSQL server that `tests/run` starts; its URL is in PORTCULLIS_TEST_POSTGRES."""

import os
import subprocess
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
