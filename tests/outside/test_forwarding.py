"""Ordinary HTTP through the gateway, with ordinary clients: identity, refusals, bodies, ranges, HTTP/2."""

import json
import subprocess
from urllib.parse import unquote

import httpx
import pytest
from harness.app import heard
from harness.gateway import config
from harness.raw import Wire, ask, request
from harness.tokens import bearer, mint

ROUTES = """
[[upstream]]
name = "app"
endpoints = ["http://${APP}"]

[[route]]
name = "public"
path = "/page"
upstream = "app"
auth = "public"

[[route]]
name = "guests"
path = "/echo/guests/{*rest}"
upstream = "app"
auth = "optional"

[[route]]
name = "strict-guests"
path = "/echo/strict/{*rest}"
upstream = "app"
auth = "optional"
on_invalid = "reject"

[[route]]
name = "admins"
path = "/echo/admins/{*rest}"
upstream = "app"
auth = "required"
roles = ["admin"]

[[route]]
name = "problems"
path = "/echo/problem/{*rest}"
upstream = "app"
auth = "required"
style = "problem"

[[route]]
name = "details"
path = "/echo/detail/{*rest}"
upstream = "app"
auth = "required"
style = "detail"

[[route]]
name = "own-tokens"
path = "/echo/pass/{*rest}"
upstream = "app"
auth = "public"
credentials = "pass"

[[route]]
name = "small"
path = "/echo/small/{*rest}"
upstream = "app"
auth = "required"
max_body = "1KiB"

[[route]]
name = "all"
path = "/{*rest}"
upstream = "app"
auth = "required"

[route.headers]
request_set = { x-from = "portcullis" }
request_remove = ["x-unwanted"]
response_set = { x-served-by = "portcullis" }
"""


@pytest.fixture(scope="module")
def gateway(start):
    return start(config(ROUTES))


@pytest.fixture
def client(gateway):
    with httpx.Client(base_url=gateway.url, timeout=30) as client:
        yield client


def headers(echo: httpx.Response) -> dict[str, list[str]]:
    """The headers that the upstream saw."""
    found: dict[str, list[str]] = {}
    for name, value in echo.json()["headers"]:
        found.setdefault(name, []).append(value)
    return found


def test_the_identity_of_a_token_reaches_the_upstream(client):
    token = mint("user-7", session_id="s-7")
    answer = client.get("/echo/a", headers=bearer(token) | {"x-unwanted": "1"})
    assert answer.status_code == 200
    seen = headers(answer)
    assert seen["x-user-id"] == ["user-7"]
    assert seen["x-user-email"] == ["user-7@example.test"]
    assert seen["x-user-role"] == ["authenticated"]
    assert seen["x-user-anonymous"] == ["false"]
    assert seen["x-session-id"] == ["s-7"]
    assert seen["x-auth-status"] == ["authenticated"]
    assert len(seen["x-request-id"]) == 1
    assert seen["x-from"] == ["portcullis"]
    assert "authorization" not in seen and "x-unwanted" not in seen
    assert answer.headers["x-served-by"] == "portcullis"


@pytest.mark.parametrize("place", ["bearer", "token", "x-session-token", "?token", "?access_token", "cookie"])
def test_a_token_is_found_wherever_it_may_be_and_goes_no_further(client, place):
    token = mint("user-8")
    query, given = "a=1&b=%2f", {}
    if place == "bearer":
        given = bearer(token)
    elif place.startswith("?"):
        query = f"a=1&{place[1:]}={token}&b=%2f"
    elif place == "cookie":
        given = {"cookie": f"theme=dark; portcullis={token}; session=mine"}
    else:
        given = {place: token}
    answer = client.get(f"/echo/x?{query}", headers=given)
    assert answer.status_code == 200, answer.text
    assert token not in answer.text
    assert answer.json()["query"] == "a=1&b=%2f"
    assert headers(answer)["x-user-id"] == ["user-8"]
    if place == "cookie":
        assert headers(answer)["cookie"] == ["theme=dark; session=mine"]


def test_a_claim_beyond_ascii_is_percent_encoded(client):
    answer = client.get("/echo/a", headers=bearer(mint("用户 1", email="a@b.c\r\nx-evil: 1")))
    if answer.status_code == 401:
        answer = client.get("/echo/a", headers=bearer(mint("用户 1", email="ü@b.c")))
        assert headers(answer)["x-user-email"] == ["%C3%BC@b.c"]
    else:
        assert "x-evil" not in headers(answer)
    assert unquote(headers(answer)["x-user-id"][0]) == "用户 1"


REFUSED = [
    ({}, "token_missing"),
    ({"lifetime": -10}, "token_expired"),
    ({"key": "another-secret-of-the-right-length-but-wrong"}, "token_signature_invalid"),
    ({"aud": "somebody-else"}, "audience_mismatch"),
    ({"iss": "https://elsewhere.test"}, "issuer_unknown"),
    ({"nbf": 4102444800}, "token_not_yet_valid"),
    ({"exp": ...}, "token_claims_invalid"),
    ({"sub": ""}, "token_claims_invalid"),
]


@pytest.mark.parametrize(("token", "word"), REFUSED, ids=[word + str(at) for at, (_, word) in enumerate(REFUSED)])
def test_a_refusal_says_why_in_a_stable_word(client, token, word):
    answer = client.get("/json", headers=bearer(mint(**token)) if token else {})
    assert answer.status_code == 401
    body = answer.json()
    assert set(body) == {"code", "data", "msg", "error", "request_id"}
    assert (body["code"], body["data"], body["error"]) == (401, None, word)
    assert body["msg"] and body["request_id"]
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith("Bearer")
    assert ('error="invalid_token"' in challenge) == bool(token)


def test_messages_come_in_the_language_asked_for(client):
    assert client.get("/json", headers={"accept-language": "zh-CN,zh;q=0.9"}).json()["msg"] == "缺少Token，请登录"
    assert client.get("/json", headers={"accept-language": "en"}).json()["msg"] == "A token is needed"


def test_bodies_of_refusals_come_in_the_style_of_the_route(client):
    problem = client.get("/echo/problem/x")
    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.json()["status"] == 401
    detail = client.get("/echo/detail/x")
    assert "detail" in detail.json() and "code" not in detail.json()


def test_a_user_without_the_role_gets_403(client):
    answer = client.get("/echo/admins/x", headers=bearer(mint()))
    assert (answer.status_code, answer.json()["error"]) == (403, "role_missing")
    assert client.get("/echo/admins/x", headers=bearer(mint(role="admin"))).status_code == 200
    assert client.get("/echo/admins/x", headers=bearer(mint(app_metadata={"roles": ["admin"]}))).status_code == 200


def test_an_optional_route_lets_guests_in_and_marks_bad_tokens(client):
    guest = headers(client.get("/echo/guests/x", headers={"x-user-id": "spoof"}))
    assert guest["x-auth-status"] == ["guest"] and "x-user-id" not in guest
    bad = headers(client.get("/echo/guests/x", headers=bearer(mint(lifetime=-5))))
    assert bad["x-auth-status"] == ["invalid_token"] and "x-user-id" not in bad and "authorization" not in bad
    known = headers(client.get("/echo/guests/x", headers=bearer(mint("user-9"))))
    assert known["x-auth-status"] == ["authenticated"] and known["x-user-id"] == ["user-9"]


def test_an_optional_route_can_reject_bad_tokens(client):
    assert client.get("/echo/strict/x").status_code == 200
    assert client.get("/echo/strict/x", headers=bearer(mint(lifetime=-5))).json()["error"] == "token_expired"


def test_a_public_route_can_pass_the_upstreams_own_tokens(client):
    answer = client.get("/echo/pass/x?token=own", headers={"authorization": "Bearer own", "x-user-id": "spoof"})
    seen = headers(answer)
    assert answer.json()["query"] == "token=own"
    assert seen["authorization"] == ["Bearer own"]
    assert "x-user-id" not in seen


def test_json_and_head_and_methods_pass(client):
    token = bearer(mint())
    assert client.get("/json", headers=token).json() == {"hello": "世界"}
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]:
        assert client.request(method, "/echo/m", headers=token).json()["method"] == method
    head = client.head("/echo/m", headers=token)
    assert head.status_code == 200 and int(head.headers["content-length"]) > 0 and head.content == b""


def test_downloads_pass_with_their_ranges(client, fastapi):
    token = bearer(mint())
    whole = fastapi.app.state.file.read_bytes()
    assert client.get("/file", headers=token).content == whole
    part = client.get("/file", headers=token | {"range": "bytes=1000-1999"})
    assert (part.status_code, part.headers["content-range"]) == (206, f"bytes 1000-1999/{len(whole)}")
    assert part.content == whole[1000:2000]
    assert client.get("/file", headers=token | {"range": f"bytes={len(whole)}-"}).status_code == 416


def test_bodies_stream_both_ways(client):
    piece = bytes(range(256)) * 256

    def pieces():
        for _ in range(64):
            yield piece

    with client.stream("POST", "/mirror", headers=bearer(mint()), content=pieces()) as answer:
        assert answer.read() == piece * 64
    with client.stream("POST", "/mirror", headers=bearer(mint()), content=piece * 64) as answer:
        assert answer.read() == piece * 64


def test_a_body_over_the_limit_is_413(client):
    token = bearer(mint())
    assert client.post("/echo/small/x", headers=token, content=b"a" * 1024).json()["length"] == 1024
    assert client.post("/echo/small/x", headers=token, content=b"a" * 1025).status_code == 413
    chunked = client.post("/echo/small/x", headers=token, content=iter([b"a" * 1000, b"a" * 1000]))
    assert chunked.status_code == 413


def test_expect_100_continue_is_answered_before_the_body(gateway):
    with Wire(gateway.address) as wire:
        wire.send(
            request("POST /echo/e", f"Authorization: Bearer {mint()}", "Content-Length: 5", "Expect: 100-continue")
        )
        assert b" 100 " in wire.until(b"\r\n\r\n")
        wire.send(b"hello")
        assert json.loads(wire.reply().body)["body"] == "hello"


def test_a_refused_body_is_never_asked_for(gateway):
    reply = ask(gateway.address, request("POST /echo/e", "Content-Length: 5", "Expect: 100-continue"))
    assert (reply.status, reply.interim) == (401, [])


def test_no_route_is_404(start):
    gateway = start(config(ROUTES[: ROUTES.index('[[route]]\nname = "guests"')]))
    answer = httpx.get(gateway.url + "/nothing/here", headers=bearer(mint()))
    assert (answer.status_code, answer.json()["error"]) == (404, "route_not_found")


def test_a_client_that_leaves_before_the_first_byte_cancels_the_upstream(gateway, fastapi):
    with Wire(gateway.address) as wire:
        wire.send(
            request("POST /before-first-byte/h1", f"Authorization: Bearer {mint()}", "Content-Length: 2", body=b"{}")
        )
        heard(fastapi.app, "asked", "h1")
    heard(fastapi.app, "left", "h1")


def curl(*arguments: str) -> str:
    """What curl prints."""
    return subprocess.run(
        ["curl", "-sS", "--max-time", "20", *arguments], check=True, capture_output=True, text=True
    ).stdout


def test_http2_without_tls_by_prior_knowledge(gateway):
    answer = curl(
        "--http2-prior-knowledge",
        "-w",
        "\n%{http_version} %{http_code}",
        "-H",
        f"token: {mint('h2-user')}",
        gateway.url + "/echo/h2",
    )
    body, told = answer.rsplit("\n", 1)
    assert told == "2 200"
    assert ["x-user-id", "h2-user"] in json.loads(body)["headers"]
    assert curl("--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code}", gateway.url + "/echo/h2") == "401"


def test_http2_streams_an_event_stream(gateway):
    answer = curl("--http2-prior-knowledge", "-N", "-X", "POST", "-H", f"token: {mint()}", gateway.url + "/sse?count=3")
    assert answer.count("event: progress") == 3 and answer.count("event: complete") == 1


def test_python_httpx_speaks_http2_to_it(gateway):
    with httpx.Client(http1=False, http2=True, base_url=gateway.url) as client:
        answers = [client.get("/echo/h2", headers=bearer(mint(f"user-{at}"))) for at in range(20)]
        assert all(answer.http_version == "HTTP/2" for answer in answers)
        assert [headers(answer)["x-user-id"] for answer in answers] == [[f"user-{at}"] for at in range(20)]
        big = client.post("/mirror", headers=bearer(mint()), content=b"z" * 5_000_000)
        assert big.content == b"z" * 5_000_000


def test_probes_and_metrics_answer_on_the_admin_port(gateway):
    assert httpx.get(gateway.admin + "/healthz").status_code == 200
    assert httpx.get(gateway.admin + "/readyz").status_code == 200
    metrics = httpx.get(gateway.admin + "/metrics").text
    for name in ["portcullis_requests_total", "portcullis_refusals_total", "portcullis_request_duration_seconds"]:
        assert name in metrics
    assert "user-7" not in metrics
