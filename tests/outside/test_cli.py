"""The commands around a gateway, as a shell and a person use them."""

import json
import os
import subprocess
import tomllib

import jsonschema_rs
import pytest
from harness.gateway import BINARY, ROOT
from harness.tokens import ISSUER, SECRET, mint

CONFIG = f"""
[[issuer]]
name = "project"
iss = "{ISSUER}"
audience = ["authenticated"]
algorithms = ["HS256"]
secret = "{SECRET}"

[[upstream]]
name = "app"
endpoints = ["http://127.0.0.1:9"]

[[route]]
name = "all"
path = "/{{*rest}}"
upstream = "app"
auth = "required"
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with a `portcullis.toml`."""
    (tmp_path / "portcullis.toml").write_text(CONFIG)
    return tmp_path


def run(folder, *words: str, stdout=subprocess.PIPE, **environment: str) -> subprocess.CompletedProcess:
    """A command in that folder."""
    return subprocess.run(
        [str(BINARY), *words],
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )


COMMANDS = {
    "schema": (),
    "check": (),
    "explain": ("GET /",),
    "explain-passes": ("-t", "TOKEN", "GET /"),
    "token-mint": ("--sub", "ada"),
    "token-inspect": ("TOKEN",),
    "token-verify": ("TOKEN",),
    "help": (),
    "version": (),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_reader_that_has_gone_is_no_matter(folder, name):
    command, _, _ = name.partition("-passes")
    words = {"help": ["--help"], "version": ["--version"]}.get(name) or command.split("-")
    words += [mint() if word == "TOKEN" else word for word in COMMANDS[name]]
    whole = run(folder, *words)
    assert whole.stdout, whole.stderr
    # As in `portcullis schema | head -1`, with a reader that is quicker still.
    read, write = os.pipe()
    os.close(read)
    try:
        cut = run(folder, *words, stdout=write)
    finally:
        os.close(write)
    assert (cut.returncode, cut.stderr) == (whole.returncode, whole.stderr)


def test_an_output_that_takes_nothing_is_told(folder):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = run(folder, "schema", stdout=full)
    assert done.returncode != 0 and "No space left" in done.stderr


@pytest.mark.parametrize("how", ["here", "environment", "argument"])
def test_every_command_finds_the_config_in_the_same_places(folder, tmp_path_factory, how):
    where, words, environment = {
        "here": (folder, [], {}),
        "environment": (
            tmp_path_factory.mktemp("elsewhere"),
            [],
            {"PORTCULLIS_CONFIG": str(folder / "portcullis.toml")},
        ),
        "argument": (tmp_path_factory.mktemp("elsewhere"), ["--config", str(folder / "portcullis.toml")], {}),
    }[how]
    minted = run(where, "token", "mint", "--sub", "ada", *words, **environment)
    assert minted.returncode == 0, minted.stderr
    token = minted.stdout.strip()
    for command in [("token", "verify", token), ("check",), ("explain", "-t", token, "GET /")]:
        done = run(where, *command, *words, **environment)
        assert done.returncode == 0, done.stdout + done.stderr


def test_an_end_that_was_hardly_meant_is_told(folder):
    # Milliseconds where the RFC has seconds: the token is good, for some fifty thousand years.
    odd = mint(exp=1_893_456_000_000)
    for words in [("token", "inspect", odd), ("token", "verify", odd), ("explain", "-t", odd, "GET /")]:
        done = run(folder, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "exp looks like milliseconds" in done.stdout, done.stdout
    for words in [("token", "verify", mint()), ("explain", "-t", mint(), "GET /")]:
        done = run(folder, *words)
        assert "valid until 20" in done.stdout and "milliseconds" not in done.stdout, done.stdout


def test_the_schema_takes_every_config_here_and_no_mistake(folder):
    schema = json.loads(run(folder, "schema").stdout)
    validator = jsonschema_rs.validator_for(schema)
    files = [ROOT / "config" / "portcullis.toml", *sorted((ROOT / "examples").glob("*/*.toml"))]
    for file in files:
        whole = tomllib.loads(file.read_text(encoding="utf-8"))
        assert [str(error) for error in validator.iter_errors(whole)] == [], file
    good = tomllib.loads(CONFIG)
    assert validator.is_valid(good)
    route = good["route"][0]
    for bad in [
        good | {"sever": {}},
        good | {"server": {"workers": "two"}},
        good | {"server": {"listen": "127.0.0.1:80"}},
        good | {"route": [route | {"auth": True}]},
        good | {"route": [route | {"pth": "/"}]},
        good | {"route": route},
        good | {"route": [{name: value for name, value in route.items() if name != "path"}]},
    ]:
        assert not validator.is_valid(bad), bad


def test_a_secret_that_others_can_read_is_told(start):
    listeners = '[server]\nlisten = ["127.0.0.1:0"]\n[admin]\nlisten = "127.0.0.1:0"\n'
    gateway = start(listeners + CONFIG)
    assert gateway.file.stat().st_mode & 0o077
    told = gateway.log.wait("`secret` is written out in a file that others can open")
    assert json.loads(told)["level"] == "WARN"
    found = run(gateway.file.parent, "check")
    assert found.returncode == 0 and "chmod 600" in found.stdout
