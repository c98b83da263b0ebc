"""The log-in APIs at other mounts, for some hosts, and off; and what no client should send to any of their calls."""

import httpx
import pytest
from harness import tokens
from harness.accounts import PASSWORD, Person, calls, config, shaped
from harness.postgres import database
from harness.supabase import ANONS, SERVICES

MOUNTS = {
    "app": ({"mount": "/phone"}, "GET", "/phone/userinfo"),
    "session": ({"auth_mount": "/talk/auth", "sessions_mount": "/talk/sessions"}, "GET", "/talk/auth/me"),
    "token": ({"mount": "/oauth"}, "GET", "/oauth/me"),
    "supabase": ({"mount": "/supabase/auth/v1"}, "GET", "/supabase/auth/v1/user"),
}
USUAL = {"app": "/api/v1/base/userinfo", "session": "/api/auth/me", "token": "/auth/me", "supabase": "/auth/v1/user"}

BASE = """
[server]
listen = ["127.0.0.1:0"]
workers = 2

[admin]
listen = "127.0.0.1:0"

[limits]
enabled = false

[accounts]
issuer = "https://gateway.test/auth/v1"

[accounts.password]
argon2_memory = "7MiB"
argon2_iterations = 1

[[upstream]]
name = "recorder"
endpoints = ["http://${RECORDER}"]

[[route]]
name = "all"
path = "/{*rest}"
upstream = "recorder"
auth = "public"
"""


def mounted(names, **more) -> str:
    """A config in which these APIs are where nobody expects them."""
    text = BASE
    for name in names:
        keys = MOUNTS[name][0] | more
        lines = [f"{key} = {value if isinstance(value, list) else repr(value)}" for key, value in keys.items()]
        text += f"\n[api.{name}]\n" + "\n".join(lines).replace("'", '"') + "\n"
    return text


def asks(gateway, path: str, host: str = "anywhere.test") -> bool:
    """Whether an API answers there, which asks for a token; else the upstream does."""
    answer = httpx.get(gateway.url + path, headers={"host": host}, timeout=20)
    assert answer.status_code in (200, 401), (path, answer.status_code, answer.text)
    return answer.status_code == 401


def test_every_api_can_be_mounted_elsewhere(start):
    gateway = start(mounted(MOUNTS))
    for name, (_, _, path) in MOUNTS.items():
        assert asks(gateway, path), name
        assert not asks(gateway, USUAL[name]), f"{name} is where it is not mounted"
    body = {"username": "ada", "email": "ada@mail.example", "password": PASSWORD}
    assert httpx.post(f"{gateway.url}/talk/auth/register", json=body).status_code == 201
    pair = httpx.post(f"{gateway.url}/oauth/login", json=body).json()
    bearer = {"authorization": f"Bearer {pair['access_token']}"}
    for name, (_, method, path) in MOUNTS.items():
        assert httpx.request(method, gateway.url + path, headers=bearer).status_code == 200, name
    conversations = httpx.get(f"{gateway.url}/talk/sessions", headers=bearer).json()
    assert conversations["success"] is True


@pytest.mark.parametrize("name", MOUNTS)
def test_every_api_can_be_off(start, name):
    """What is not mounted is a path like any other, and the others are there still."""
    gateway = start(mounted([other for other in MOUNTS if other != name]))
    for other, (_, _, path) in MOUNTS.items():
        assert asks(gateway, path) is (other != name), other


def test_every_api_can_be_limited_to_hosts(start):
    gateway = start(mounted(MOUNTS, hosts=["login.test", "*.phones.test"]))
    for name, (_, _, path) in MOUNTS.items():
        for host, there in {
            "login.test": True,
            "LOGIN.test": True,
            "login.test:443": True,
            "new.phones.test": True,
            "anywhere.test": False,
            "login.test.evil.test": False,
            "xlogin.test": False,
        }.items():
            assert asks(gateway, path, host) is there, (name, host)


# ── Bad input ──

PAYLOADS = [
    "'",
    "' OR '1'='1' --",
    "ada'; DELETE FROM users; --",
    "\" UNION SELECT password FROM users --",
    "$1); DROP TABLE sessions; --",
    "\\'; SELECT pg_sleep(30); --",
    "%' OR '1' LIKE '%",
]
NOBODY = "11111111-2222-4333-8444-555555555555"
CREDENTIALS = f'anon_keys = ["{ANONS[0]}"]\nservice_keys = ["{SERVICES[0]}"]'


def all_four() -> str:
    """A config with every API, and somewhere for mails to go."""
    text = config(attempts="free = 1000", supabase=CREDENTIALS)
    return text.replace("[api.app]\n", '[accounts.mail]\nhook = "file"\nfile = "mails.jsonl"\n\n[api.app]\n', 1)


@pytest.fixture(params=["sqlite", "postgres"])
def gateway(request, start, tmp_path):
    """All four APIs over each store."""
    text = all_four()
    if request.param == "sqlite":
        return start(text, tmp_path)
    text = text.replace("[accounts]\n", '[store]\nurl = "${STORE}"\n\n[accounts]\nsecret = "${ACCOUNTS_SECRET}"\n', 1)
    return start(text, tmp_path, STORE=database(), ACCOUNTS_SECRET="kJ2vQ8xTz5WmN4rL7pYc3HdF6sGbA9eU")


def credentials(ada: Person, path: str) -> dict:
    """Who may make a call of this path."""
    if "/admin/" in path or path.endswith("/invite"):
        return {"apikey": SERVICES[0]} | tokens.bearer(SERVICES[0])
    return {"apikey": ANONS[0]} | tokens.bearer(ada.token())


@pytest.mark.timeout(240)
def test_sql_in_every_field_is_text(gateway):
    """In each field, path and query of each call: no 5xx, no word of the database, and the users are who they were."""
    root, ada = Person(gateway, "root", "the keys of the house"), Person(gateway).register()
    seen = 0
    with httpx.Client(base_url=gateway.url, timeout=20) as client:
        for number, (method, path, fields, parameters) in enumerate(calls(gateway)):
            headers = credentials(ada, path)
            text = PAYLOADS[number % len(PAYLOADS)]
            places = [(place["in"], place["name"]) for place in parameters if place["in"] in ("path", "query")]
            for kind, name in [("body", name) for name in fields] + places:
                body = {it: text if it == name else f"{it}-1@mail.example" for it in fields}
                url = path
                for place, other in places:
                    if place == "path":
                        url = url.replace("{%s}" % other, httpx.QueryParams({"x": text if name == other else "7"})["x"].replace("/", ""))
                query = {other: text for place, other in places if place == "query" and kind == "query"}
                more = {"json": body} if fields else {}
                answer = client.request(method, url, params=query, headers=headers, follow_redirects=False, **more)
                assert answer.status_code < 500, (method, path, name, answer.status_code, answer.text)
                told = answer.text.lower()
                assert not any(word in told for word in ("sqlite", "syntax error", "postgres")), (path, name, told)
                seen += 1
                if answer.status_code == 401 or "logout" in path:
                    headers = credentials(ada, path)
    assert seen > 60, seen
    assert root.token() and ada.passes(ada.token()), "somebody is gone"
    listed = httpx.get(f"{gateway.url}/auth/v1/admin/users", headers=credentials(ada, "/admin/"), timeout=20)
    assert {"root@", ada.email} & {user["email"] for user in listed.json()["users"]}


VALUES = {
    "null": None,
    "boolean": True,
    "integer": 7,
    "number": 1.5,
    "string": "text",
    "array": ["a"],
    "object": {"$ne": ""},
}


def mistyped(field: dict) -> list:
    """Values of every type that a field has not."""
    kinds = field.get("type", [])
    return [value for kind, value in VALUES.items() if kind not in kinds] if kinds else []


@pytest.mark.timeout(240)
def test_wrong_types_in_every_field(start):
    """Refused in the shape of the API that was asked, without a word of what was sent."""
    gateway = start(all_four())
    ada, seen = Person(gateway).register(), 0
    with httpx.Client(base_url=gateway.url, timeout=20) as client:
        for method, path, fields, _ in calls(gateway):
            if path.startswith("/_portcullis"):
                continue
            headers = credentials(ada, path) | {"x-supabase-api-version": "2024-01-01"}
            url = path.replace("{id}", NOBODY if "/admin/" in path else "7") + "?grant_type=password"
            for name, value in [(name, value) for name, field in fields.items() for value in mistyped(field)]:
                body = {other: f"{other}-1@mail.example" for other in fields} | {name: value}
                answer = client.request(method, url, json=body, headers=headers)
                assert 400 <= answer.status_code < 500, (method, path, name, value, answer.status_code, answer.text)
                told = shaped(path, answer)
                assert "7" not in told and "$ne" not in told and "text" not in told, told
                seen += 1
    assert seen > 300, seen


@pytest.mark.timeout(240)
def test_ten_megabytes_to_every_call_are_refused(start):
    """They are sent, not only announced: 413, or whatever is refused before a body is looked at. The gateway stays small."""
    gateway = start(all_four())
    ada = Person(gateway).register()
    large = b'{"username": "' + b"a" * 10_485_760 + b'"}'

    def resident() -> int:
        status = open(f"/proc/{gateway.process.pid}/status", encoding="ascii").read()
        return int(status.split("VmRSS:")[1].split()[0])

    before, refused = resident(), 0
    for method, path, fields, _ in calls(gateway):
        if not fields:
            continue
        headers = credentials(ada, path) | {"content-type": "application/json"}
        url = gateway.url + path.replace("{id}", "7") + "?grant_type=password"
        try:
            answer = httpx.request(method, url, content=large, headers=headers, timeout=30)
        except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
            # The answer was there and the connection closed before all of it was sent.
            refused += 1
            continue
        assert answer.status_code in (404, 413), (method, path, answer.status_code, answer.text)
        refused += answer.status_code == 413
    assert refused >= 12, refused
    # Kilobytes.
    assert resident() - before < 30_000
    assert ada.passes(ada.token())


@pytest.mark.parametrize(
    "one, other",
    [
        ("ada", "ADA"),
        ("ada", "\uff41\uff44\uff41"),
        ("caf\u00e9", "cafe\u0301"),
        ("\u03c3", "\u03a3"),
    ],
)
def test_names_that_look_alike_are_one_user(gateway, one, other):
    """Case, width, composition: whoever takes one form has taken them all, and logs in by each."""
    body = {"username": one, "email": "first@mail.example", "password": PASSWORD}
    assert httpx.post(f"{gateway.url}/api/auth/register", json=body).status_code == 201
    again = httpx.post(f"{gateway.url}/api/auth/register", json=body | {"username": other, "email": "second@mail.example"})
    assert (again.status_code, again.json()["error"]) == (409, "Username already exists")
    for name in (one, other):
        assert httpx.post(f"{gateway.url}/auth/login", json={"username": name, "password": PASSWORD}).status_code == 200


@pytest.mark.parametrize(
    "one, other",
    [
        ("ada@mail.example", "ADA@MAIL.example"),
        ("ada@b\u00fccher.example", "ada@xn--bcher-kva.example"),
        ("ada@mail.example", "ada@\uff4d\uff41\uff49\uff4c.example"),
        ("ren\u00e9@mail.example", "rene\u0301@mail.example"),
    ],
)
def test_addresses_that_look_alike_are_one_user(gateway, one, other):
    headers = {"apikey": ANONS[0], "x-supabase-api-version": "2024-01-01"}
    up = f"{gateway.url}/auth/v1/signup"
    assert httpx.post(up, json={"email": one, "password": PASSWORD}, headers=headers).status_code == 200
    again = httpx.post(up, json={"email": other, "password": PASSWORD}, headers=headers)
    assert (again.status_code, again.json()["code"]) == (422, "user_already_exists")
    for email in (one, other):
        body = {"email": email, "password": PASSWORD}
        assert httpx.post(f"{gateway.url}/auth/v1/token?grant_type=password", json=body, headers=headers).status_code == 200
