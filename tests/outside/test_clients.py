"""The clients of `examples/clients`, against the demo."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from harness.demo import Demo
from harness.gateway import ROOT

CLIENTS = ROOT / "examples" / "clients"
HERE = Path(__file__).parent
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def demo():
    """The demo."""
    running = Demo()
    yield running
    running.stop()


def run(*command: str, folder: Path | None = None) -> str:
    """What a client prints."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def node(name: str, folder: Path, url: str) -> str:
    """Runs a JavaScript client where its packages are."""
    shutil.copy(CLIENTS / "javascript" / name, folder)
    (folder / "node_modules").symlink_to(os.environ["OUTSIDE_NODE_MODULES"])
    return run("node", str(folder / name), url)


@pytest.mark.parametrize("name", ["client.py", "supabase_client.py"])
def test_python(demo, name):
    told = run(sys.executable, str(CLIENTS / "python" / name), demo.url)
    assert "complete" in told and told.strip().endswith("401"), told


@pytest.mark.parametrize("name", ["fetch.mjs", "supabase.mjs"])
def test_javascript(demo, tmp_path, name):
    told = node(name, tmp_path, demo.url)
    assert "complete" in told and told.strip().endswith("401"), told


def test_python_refreshes_once_for_all_that_fail_together(demo):
    """The access token is spoilt; the calls of four threads renew it with one refresh."""
    sys.path.insert(0, str(CLIENTS / "python"))
    try:
        from client import Client
    finally:
        sys.path.pop(0)
    from concurrent.futures import ThreadPoolExecutor

    client = Client(demo.url)
    client.register("threads", "threads@example.com", PASSWORD)
    client.log_in("threads", PASSWORD)
    spoilt = client.tokens.access[:-4] + "AAAA"
    asked = []
    client.http.event_hooks["request"].append(lambda request: asked.append(request.url.path))
    client.tokens.access = spoilt
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.http.get("/auth/me").status_code, range(4)))
    assert answers == [200] * 4
    assert client.tokens.access != spoilt
    assert asked.count("/auth/refresh") == 1, asked


def test_swift_can_be_read(demo):
    """There is no Swift here to run: the client has no error of syntax, and asks for calls that there are.

    Whether its types fit, and what it does, this does not show.
    """
    import tree_sitter_swift
    from tree_sitter import Language, Parser

    tree = Parser(Language(tree_sitter_swift.language())).parse((CLIENTS / "swift" / "Portcullis.swift").read_bytes())
    nodes = [tree.root_node]
    for node in nodes:
        nodes.extend(node.children)
    wrong = [(node.type, node.start_point) for node in nodes if node.is_error or node.is_missing]
    assert not wrong and not tree.root_node.has_error, wrong
    declared = [node.child_by_field_name("name") for node in nodes if node.type == "function_declaration"]
    assert {"register", "logIn", "logOut", "stream", "socket"} <= {node.text.decode() for node in declared if node}
    literals = [node.text.decode() for node in nodes if node.type == "line_str_text"]
    paths = {text for text in literals if text.startswith("auth/")}
    assert paths == {"auth/register", "auth/login", "auth/refresh", "auth/logout"}
    for path in paths:
        assert httpx.post(f"{demo.url}/{path}").status_code in (400, 401, 415), path


@pytest.fixture(scope="module")
def kotlin(tmp_path_factory) -> list[str]:
    """The Kotlin client and its driver, compiled with Debian's packages."""
    if not shutil.which("kotlinc"):
        pytest.skip("no kotlinc")
    jars = [f"/usr/share/java/{name}.jar" for name in ("okhttp", "okio", "com.android.json", "kotlin-stdlib")]
    folder = tmp_path_factory.mktemp("kotlin")
    text = (CLIENTS / "kotlin" / "Portcullis.kt").read_text(encoding="utf-8")
    # These two are functions of a companion since OkHttp 4; Okhttp3.kt has them.
    kept = [line for line in text.splitlines() if not (line.startswith("import okhttp3.") and ".Companion." in line)]
    (folder / "Portcullis.kt").write_text("\n".join(kept), encoding="utf-8")
    sources = [str(folder / "Portcullis.kt"), *map(str, (HERE / "clients" / "kotlin").glob("*.kt"))]
    run("kotlinc", "-nowarn", "-cp", ":".join(jars), *sources, "-d", str(folder / "client.jar"))
    return ["java", "-cp", ":".join([*jars, str(folder / "client.jar")]), "portcullis.MainKt"]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_kotlin(demo, kotlin):
    body = {"username": "phone", "email": "phone@example.com", "password": PASSWORD}
    httpx.post(demo.url + "/api/auth/register", json=body).raise_for_status()
    told = run(*kotlin, demo.url, "phone", PASSWORD).splitlines()
    assert told[:2] == ["user phone", "event start"]
    assert told[-3:] == ["event complete", "greeting connected", "after log-out 401"], told
