"""Gateways with users of their own: all four log-in APIs over one store, and people who use them."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx

from . import tokens

PASSWORD = "correct horse battery"
APP, AUTH, SESSIONS, TOKEN, SUPABASE = "/api/v1/base", "/api/auth", "/api/sessions", "/auth", "/auth/v1"

ACCOUNTS = """
[server]
listen = ["127.0.0.1:0"]
workers = 2
drain_timeout = "2s"

[admin]
listen = "127.0.0.1:0"

[log]
format = "json"
level = "debug"

[tokens]
leeway = "0s"

[limits]
enabled = false

[accounts]
issuer = "https://gateway.test/auth/v1"
{accounts}

[accounts.admin]
username = "root"
password = "the keys of the house"

[accounts.password]
argon2_memory = "7MiB"
argon2_iterations = 1

[accounts.attempts]
per_address = 0
anonymous_per_address = 0
refreshes_per_address = 0
{attempts}

[api.app]
mount = "/api/v1/base"
menu = { admin = [{ name = "Users", path = "/users" }] }
{app}

[api.session]
auth_mount = "/api/auth"
sessions_mount = "/api/sessions"

[api.token]
mount = "/auth"

[api.supabase]
mount = "/auth/v1"
{supabase}

[[upstream]]
name = "recorder"
endpoints = ["http://${RECORDER}"]

[[upstream]]
name = "app"
endpoints = ["http://${APP}"]

[[route]]
name = "behind"
path = "/behind/{*rest}"
upstream = "recorder"
auth = "required"

[[route]]
name = "streams"
path = "/sse/{*rest}"
upstream = "app"
auth = "required"

[[route]]
name = "sockets"
path = "/ws/{*rest}"
upstream = "app"
auth = "required"
"""


def config(**lines: str) -> str:
    """A whole config with lines added to its tables: `accounts`, `attempts`, `app`, `supabase`."""
    text = ACCOUNTS
    for name in ("accounts", "attempts", "app", "supabase"):
        text = text.replace("{%s}" % name, lines.pop(name, ""))
    assert not lines, lines
    return text


@dataclass
class Person:
    """Somebody with a username of their own, who can log in through each API."""

    gateway: object
    name: str = field(default_factory=lambda: f"ada-{uuid.uuid4().hex[:8]}")
    password: str = PASSWORD

    @property
    def email(self) -> str:
        """The address that goes with the name."""
        return f"{self.name}@mail.example"

    def call(self, method: str, path: str, token: str | None = None, **more) -> httpx.Response:
        """A call with a bearer token, or without."""
        headers = more.pop("headers", {}) | (tokens.bearer(token) if token else {})
        return httpx.request(method, self.gateway.url + path, headers=headers, timeout=20, **more)

    def done(self, method: str, path: str, token: str | None = None, **more):
        """What a call answers, which must be a success."""
        answer = self.call(method, path, token, **more)
        assert answer.is_success, (method, path, answer.status_code, answer.text)
        return answer.json()

    def register(self):
        """Through the session API."""
        body = {"username": self.name, "email": self.email, "password": self.password}
        self.done("POST", f"{AUTH}/register", json=body)
        return self

    def app(self, name: str | None = None) -> str:
        """A token of the app API."""
        body = {"username": name or self.name, "password": self.password}
        return kept(self.done("POST", f"{APP}/access_token", json=body)["data"]["access_token"])

    def session(self, key: str = "username") -> str:
        """An opaque token of the session API."""
        body = {key: getattr(self, {"username": "name"}.get(key, key)), "password": self.password}
        return kept(self.done("POST", f"{AUTH}/login", json=body)["session"]["token"])

    def token(self, name: str | None = None) -> str:
        """An access token of the token API."""
        body = {"username": name or self.name, "password": self.password}
        answer = self.done("POST", f"{TOKEN}/login", json=body)
        kept(answer["refresh_token"])
        return kept(answer["access_token"])

    def supabase(self) -> str:
        """An access token of the Supabase API."""
        body = {"email": self.email, "password": self.password}
        return kept(self.done("POST", f"{SUPABASE}/token?grant_type=password", json=body)["access_token"])

    def passes(self, token: str) -> bool:
        """Whether a proxied route takes the token; else it must be refused as one that has ended."""
        answer = self.call("GET", "/behind/passes", token)
        if answer.status_code != 200:
            assert (answer.status_code, answer.json()["error"]) == (401, "token_revoked"), answer.text
        return answer.status_code == 200


def kept(token: str) -> str:
    """The token, which must not be found in any log."""
    tokens.minted.add(token)
    return token


def at_once(count: int, call) -> list:
    """The answers of so many calls at the same time."""
    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(call) for _ in range(count)]]


def calls(gateway):
    """Every call that the gateway answers itself, by its document: method, path, the fields of its body, and its parameters."""
    document = httpx.get(f"{gateway.admin}/openapi.json", timeout=20).json()
    for path, methods in document["paths"].items():
        for method, call in methods.items():
            schema = call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            if "$ref" in schema:
                schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
            yield method.upper(), path, schema.get("properties", {}), call.get("parameters", [])


def shaped(api: str, answer: httpx.Response) -> str:
    """Holds a failure against the shape of its API, which is named, or one of whose calls is; its text, or its code."""
    body = answer.json()
    assert answer.headers["content-type"].startswith("application/json"), answer.headers
    if api.startswith("/"):
        mounts = {APP: "app", AUTH: "session", SESSIONS: "session", SUPABASE: "supabase", TOKEN: "token"}
        api = next(name for mount, name in mounts.items() if api.startswith(mount))
    match api:
        case "app":
            assert set(body) == {"code", "data", "msg"} and (body["code"], body["data"]) == (answer.status_code, None), body
            return body["msg"]
        case "session":
            assert set(body) <= {"success", "error", "valid"} and body["success"] is False, body
            return body["error"]
        case "token":
            assert set(body) == {"detail"}, body
            assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
            return body["detail"]
        case "supabase":
            assert set(body) == {"code", "message"} and body["message"], body
            assert (answer.headers["x-supabase-api-version"], answer.headers["x-sb-error-code"]) == ("2024-01-01", body["code"])
            return body["code"]
