"""Gateways with the Supabase API, and the unmodified Python client against them."""

import json
import time
import uuid
from pathlib import Path

import jwt
from supabase_auth import SyncGoTrueClient

PROJECT = "a-secret-of-the-project-that-signs-its-keys"
PASSWORD = "correct horse battery"


def _legacy(role: str) -> str:
    """An API key as older projects have it: a JWT without a user, which nobody here can verify."""
    claims = {"iss": "supabase", "role": role, "iat": 1700000000, "exp": 2500000000}
    return jwt.encode(claims, PROJECT, algorithm="HS256")


ANONS = ["sb_publishable_for_the_outside_tests", _legacy("anon")]
SERVICES = ["sb_secret_for_the_outside_tests_only", _legacy("service_role")]

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

[limits]
enabled = false

[accounts]
issuer = "https://gateway.test/auth/v1"
{accounts}

[accounts.password]
argon2_memory = "7MiB"
argon2_iterations = 1

[accounts.attempts]
per_address = 0
anonymous_per_address = 0
refreshes_per_address = 0

[accounts.mail]
hook = "file"
file = "mails.jsonl"
redirects = ["https://app.example", "myapp://in"]

[api.supabase]
mount = "/auth/v1"
anon_keys = [{anons}]
service_keys = [{services}]
{supabase}

[[upstream]]
name = "recorder"
endpoints = ["http://${RECORDER}"]

[[route]]
name = "behind"
path = "/behind/{*rest}"
upstream = "recorder"
auth = "required"
"""


def config(accounts: str = "", supabase: str = "", more: str = "") -> str:
    """A whole config with lines added to its tables."""
    quoted = {"anons": ANONS, "services": SERVICES}
    text = ACCOUNTS.replace("{accounts}", accounts).replace("{supabase}", supabase)
    for name, keys in quoted.items():
        text = text.replace("{%s}" % name, ", ".join(f'"{key}"' for key in keys))
    return text + more


def mails(gateway, to: str) -> list[dict]:
    """What the hook wrote for an address, the oldest first."""
    file = Path(gateway.file).with_name("mails.jsonl")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [mail for mail in map(json.loads, lines) if mail["to"] == to]


def mail(gateway, to: str) -> dict:
    """The newest mail to an address, when it is there."""
    deadline = time.monotonic() + 10
    while not (found := mails(gateway, to)):
        assert time.monotonic() < deadline, f"no mail to {to}"
        time.sleep(0.02)
    return found[-1]


def address(name: str = "ada") -> str:
    """An address that nobody has."""
    return f"{name}-{uuid.uuid4().hex[:8]}@mail.example"


class Client(SyncGoTrueClient):
    """`supabase-auth` wired as the `supabase` package wires it: PKCE, and the user's token in every later call."""

    def __init__(self, gateway, key: str = ANONS[0]):
        headers = {"apiKey": key, "Authorization": f"Bearer {key}"}
        super().__init__(url=f"{gateway.url}/auth/v1", headers=headers, auto_refresh_token=False, flow_type="pkce")
        self.key = key
        self.events: list[str] = []
        self.on_auth_state_change(self._heard)

    def _heard(self, event, session):
        self.events.append(event)
        self._headers["Authorization"] = f"Bearer {session.access_token if session else self.key}"
