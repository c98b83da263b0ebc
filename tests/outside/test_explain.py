"""`portcullis explain`: what it says of a request is what the gateway does with it."""

import subprocess

import httpx
import pytest
from harness.gateway import BINARY
from harness.tokens import ISSUER, SECRET, bearer, mint

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
name = "open"
path = "/open"
upstream = "app"
auth = "public"

[[route]]
name = "guests"
path = "/guests"
upstream = "app"
auth = "optional"

[[route]]
name = "editors"
path = "/edit/{{*rest}}"
upstream = "app"
auth = "required"
roles = ["editor"]

[[route]]
name = "status"
path = "/jobs/{{job_id}}"
upstream = "app"
auth = "optional"

[[route.guard]]
path = ["job_id"]

[[route.capture]]
id = "{{job_id}}"
status = "/status"

[[route]]
name = "files"
path = "/files"
upstream = "app"

[[route.guard]]
query = ["name"]
kind = "file"
scope = "session"
except_roles = ["admin"]
public = ["example.png"]

[[route]]
name = "pick"
path = "/pick"
upstream = "app"

[[route.guard]]
body = ["/job_id"]
unknown = "allow"

[[route.guard]]
query = ["client"]
kind = "client"
missing = "allow"
"""


@pytest.fixture
def explain(tmp_path):
    file = tmp_path / "portcullis.toml"
    file.write_text(CONFIG)

    def run(request: str, *words: str, token: str | None = None) -> tuple[int, str]:
        command = [BINARY, "explain", "-c", file, request, *words, *(["-t", "-"] if token else [])]
        done = subprocess.run(command, input=token or "", capture_output=True, text=True, timeout=30)
        assert not token or token not in done.stdout + done.stderr, "the token is shown"
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.parametrize(
    ("request_line", "claims", "decision"),
    [
        ("GET /nowhere", None, "404 route_not_found"),
        ("GET /open/../edit/a", None, "400 path_unsafe"),
        ("GET /edit/a", None, "401 token_missing"),
        ("GET /edit/a", {}, "403 role_missing"),
        ("GET /edit/a", {"lifetime": -3600}, "401 token_expired"),
        ("GET /edit/a", {"key": SECRET[::-1]}, "401 token_signature_invalid"),
        ("GET /edit/a", {"iss": "https://other.test"}, "401 issuer_unknown"),
        ("GET /edit/a", {"aud": "other"}, "401 audience_mismatch"),
        ("GET /edit/a?token=other", {}, "400 credentials_conflict"),
        # What a guard can tell before anybody asks the store.
        ("GET /jobs/1", None, "404 not_owner"),
        ("GET /files", {}, "404 not_owner"),
        ("GET /files?name=a&name=b", {}, "400 job_ambiguous"),
    ],
)
def test_a_refusal_is_told_with_its_reason(explain, request_line, claims, decision):
    token = mint(**claims) if claims is not None else None
    code, text = explain(request_line, token=token)
    assert f"decision    refused: {decision} (" in text and code == 2, text


def test_a_request_that_passes_is_told_step_by_step(explain):
    token = mint("ada", role="editor")
    code, text = explain("PUT /edit/%61b?x=1", "-H", "X-User-Id: mallory", "-H", "connection: x-user-id", token=token)
    assert code == 0, text
    for line in [
        "head        PUT /edit/ab at localhost",
        "route       editors -> upstream app",
        "            {rest} = ab",
        "credential  in Authorization",
        "  issuer    project",
        "  algorithm HS256",
        "  signature valid",
        "decision    passes as authenticated",
        "upstream    /edit/ab?x=1",
        "            x-user-id: ada",
        "            x-user-email: ada@example.test",
        "not sent    x-user-id, connection, authorization as it came",
    ]:
        assert line in text.splitlines(), text
    assert "mallory" not in text


def test_what_became_of_the_credential_is_told(explain):
    token = mint("ada")
    for words, line in [
        (("GET /edit/a?token=other",), "credential  two that differ"),
        (("GET /open",), "credential  not looked at: the route is public"),
        (("GET /guests",), "credential  in Authorization"),
    ]:
        assert line in explain(*words, token=token)[1].splitlines(), words
    for words, line in [
        (("GET /guests",), "credential  none"),
        (("GET /guests?token=bad",), "credential  in the query"),
        (("GET /guests", "-H", "cookie: portcullis=bad"), "credential  in a cookie"),
    ]:
        assert line in explain(*words)[1].splitlines(), words
    # Where a request did not come that far, nothing is said of it.
    told = explain("GET /nowhere", token=token)[1]
    assert "route       none" in told and "credential" not in told
    told = explain("GET /a/../b", token=token)[1]
    assert "route" not in told and "credential" not in told


def test_a_guest_is_told_as_one(explain):
    for token, status in [(None, "guest"), (mint(lifetime=-3600), "invalid_token")]:
        code, text = explain("GET /guests", token=token)
        assert code == 0 and f"            x-auth-status: {status}" in text.splitlines(), text
        assert "x-user-id" not in text


STORE = "the gateway would ask its store whose it is, and what nobody has"


@pytest.mark.parametrize(
    ("request_line", "role", "guards", "condition"),
    [
        ("GET /jobs/a%20b", "", [f'job "a b": its owner\'s alone; {STORE} is refused'], True),
        ("GET /files?name=a", "", [f'file "a": its session\'s alone; {STORE} is refused'], True),
        ("GET /files?name=a", "admin", ['file "a": its session\'s alone, and of roles that the caller has'], False),
        ("GET /files?name=example.png", "", ['file "example.png": everybody\'s'], False),
        (
            "POST /pick?client=c",
            "",
            [
                f"job in the body, which is not here: its owner's alone; {STORE} passes",
                f'client "c": its owner\'s alone; {STORE} becomes the caller\'s',
            ],
            True,
        ),
        ("POST /pick", "admin", [f"job in the body, which is not here: its owner's alone; {STORE} passes", "client: none is named"], True),
    ],
)
def test_what_a_guard_asks_for_is_told(explain, request_line, role, guards, condition):
    code, text = explain(request_line, token=mint("ada", role=role))
    assert code == 0, text
    assert [line[12:] for line in text.splitlines() if line.startswith("guard ")] == guards
    passes = "decision    passes as authenticated"
    condition = ", if the store says that what it names is the caller's to name" if condition else ""
    assert passes + condition in text.splitlines(), text


def test_what_an_answer_is_listened_to_for_is_told(explain):
    text = explain("GET /jobs/a", token=mint("ada"))[1]
    assert "capture     a job in a JSON answer is told of, if somebody has it" in text.splitlines(), text


def test_a_preflight_names_nothing_of_anybody_s(explain):
    asks = ["-H", "origin: https://a.test", "-H", "access-control-request-method: GET"]
    text = explain("OPTIONS /jobs/1a", *asks)[1]
    assert "guard" not in text and "upstream    /jobs/00" in text.splitlines(), text


def test_it_says_what_the_gateway_does(explain, start):
    gateway = start('[server]\nlisten = ["127.0.0.1:0"]\n[admin]\nlisten = "127.0.0.1:0"\n' + CONFIG)
    for path, token in [("/edit/a", None), ("/edit/a", mint("ada")), ("/jobs/1", None), ("/files", mint("ada")), ("/x", None)]:
        answer = httpx.get(gateway.url + path, headers=bearer(token) if token else {})
        told = explain(f"GET {path}", token=token)[1]
        assert f"refused: {answer.status_code} {answer.json()['error']} (" in told, (path, told)
