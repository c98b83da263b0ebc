"""The Supabase API field by field, as the clients read it: users, sessions, settings, and each failure's code."""

import json
import re
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import jwt
import pytest
from harness.supabase import ANONS, PASSWORD, SERVICES, Client, address, config, mail, mails

pytestmark = pytest.mark.timeout(120)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
ALWAYS = {
    "id", "aud", "role", "email", "phone", "app_metadata", "user_metadata", "identities", "created_at", "updated_at", "is_anonymous",
}
CONFIRMED = {"email_confirmed_at", "confirmed_at"}
VERSION = "2024-01-01"


class Api:
    """Raw calls with a key, and with the version that the clients name."""

    def __init__(self, gateway):
        self.gateway = gateway

    def call(self, method: str, path: str, body=None, bearer: str | None = None, key: str = ANONS[0], version: str | None = VERSION):
        """One call."""
        headers = {"apikey": key, "authorization": f"Bearer {bearer or key}"}
        if version:
            headers["x-supabase-api-version"] = version
        more = {} if body is None else {"json": body}
        return httpx.request(method, f"{self.gateway.url}/auth/v1{path}", headers=headers, timeout=20, **more)

    def done(self, *arguments, **more):
        """What a call answers, which must be a success."""
        answer = self.call(*arguments, **more)
        assert answer.status_code == 200, (arguments, answer.status_code, answer.text)
        return answer.json()

    def admin(self, method: str, path: str, body=None):
        """A call with the service key that must be a success."""
        return self.done(method, path, body, key=SERVICES[0])

    def member(self, email: str | None = None) -> dict:
        """The session of somebody who has just signed up."""
        return self.done("POST", "/signup", {"email": email or address(), "password": PASSWORD})

    def sign_in(self, email: str, password: str = PASSWORD) -> httpx.Response:
        """A sign-in, whatever comes of it."""
        return self.call("POST", "/token?grant_type=password", {"email": email, "password": password})


@pytest.fixture(scope="module")
def api(start):
    """As it comes."""
    return Api(start(config()))


def own(start, accounts: str = "", **tables: str) -> Api:
    """A gateway with lines added to `[accounts]`, and to the tables below it."""
    text = config(accounts)
    for name, lines in tables.items():
        header = f"[accounts.{name}]\n"
        assert header in text
        text = text.replace(header, header + lines + "\n", 1)
    return Api(start(text))


def failed(answer, status: int, code: str) -> dict:
    """Holds a failure against status, code, and the headers without which clients read no code."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), (answer.status_code, answer.text)
    assert (answer.headers["x-supabase-api-version"], answer.headers["x-sb-error-code"]) == (VERSION, code)
    assert answer.json()["message"] and answer.headers["access-control-allow-origin"] == "*"
    return answer.json()


def has(user: dict, *members: str):
    """Holds a user against the members that it must have, and no others; all times are RFC 3339 in UTC."""
    assert set(user) == ALWAYS | set(members)
    for name, value in user.items():
        assert value is not None, name
        if name.endswith(("_at", "_until")):
            assert TIME.fullmatch(value), (name, value)


# ── Users ──


def test_a_user_who_came_by_e_mail(api):
    email = address()
    session = api.done("POST", "/signup", {"email": email, "password": PASSWORD, "data": {"name": "Ada"}})
    user = session["user"]
    has(user, *CONFIRMED, "last_sign_in_at")
    assert (user["aud"], user["role"], user["email"], user["phone"]) == ("authenticated", "authenticated", email, "")
    assert user["app_metadata"] == {"provider": "email", "providers": ["email"]}
    assert user["user_metadata"] == {"name": "Ada", "email_verified": True, "is_admin": False} and user["is_anonymous"] is False
    (identity,) = user["identities"]
    assert set(identity) == {
        "identity_id", "id", "user_id", "identity_data", "provider", "last_sign_in_at", "created_at", "updated_at", "email",
    }
    assert (identity["id"], identity["user_id"], identity["provider"], identity["email"]) == (user["id"], user["id"], "email", email)
    assert uuid.UUID(identity["identity_id"]) and identity["identity_id"] != user["id"]
    assert identity["identity_data"] == {"sub": user["id"], "email": email, "email_verified": True, "phone_verified": False}
    assert all(TIME.fullmatch(identity[name]) for name in ("last_sign_in_at", "created_at", "updated_at"))
    # The same everywhere, and every time.
    assert api.done("GET", "/user", bearer=session["access_token"]) == user
    assert api.admin("GET", f"/admin/users/{user['id']}") == user
    assert next(one for one in api.admin("GET", "/admin/users")["users"] if one["id"] == user["id"]) == user


def test_an_anonymous_user(api):
    user = api.done("POST", "/signup", {"data": {"theme": "dark"}})["user"]
    has(user, "last_sign_in_at")
    assert (user["email"], user["phone"], user["is_anonymous"]) == ("", "", True)
    assert (user["app_metadata"], user["identities"], user["role"]) == ({}, [], "authenticated")


def test_a_user_of_an_operator(api):
    attributes = {"email": address(), "phone": f"+49{uuid.uuid4().int % 10**9:09}", "email_confirm": True, "phone_confirm": True}
    user = api.admin("POST", "/admin/users", attributes | {"ban_duration": "24h"})
    has(user, *CONFIRMED, "phone_confirmed_at", "banned_until")
    assert user["phone"] == attributes["phone"].lstrip("+")
    failed(api.call("POST", "/admin/users", {"phone": attributes["phone"]}, key=SERVICES[0]), 422, "phone_exists")
    unconfirmed = api.admin("POST", "/admin/users", {"email": address(), "ban_duration": ""})
    has(unconfirmed)
    assert unconfirmed["identities"][0]["identity_data"]["email_verified"] is False
    claimed = {"email": address(), "user_metadata": {"email_verified": True}}
    assert "email_verified" not in api.admin("POST", "/admin/users", claimed)["user_metadata"]
    assert user["user_metadata"]["email_verified"] is True
    api.admin("DELETE", f"/admin/users/{user['id']}", {"should_soft_delete": True})
    left = api.admin("GET", f"/admin/users/{user['id']}")
    assert TIME.fullmatch(left["deleted_at"]) and (left["email"], left["phone"], left["identities"]) == ("", "", [])


def test_an_empty_password_or_id_of_an_operator_is_none(api):
    email = address()
    api.admin("POST", "/admin/users", {"email": email, "password": "", "email_confirm": True})
    for body in ({"email": email, "password": ""}, {"email": email}):
        failed(api.call("POST", "/token?grant_type=password", body), 400, "invalid_credentials")
    nil = {"email": address(), "id": "00000000-0000-0000-0000-000000000000"}
    failed(api.call("POST", "/admin/users", nil, key=SERVICES[0]), 400, "validation_failed")


def test_an_invitation_is_noted(api):
    email = address("invited")
    user = api.admin("POST", "/invite", {"email": email})
    has(user, "invited_at", "confirmation_sent_at")
    kept = api.admin("GET", f"/admin/users/{user['id']}")
    assert TIME.fullmatch(kept["invited_at"])
    # The address is not confirmed, but taken.
    failed(api.call("POST", "/signup", {"email": email, "password": PASSWORD}), 422, "user_already_exists")
    answer = api.done("POST", "/verify", {"type": "invite", "token_hash": mail(api.gateway, email)["token_hash"]})
    has(answer["user"], *CONFIRMED, "invited_at", "confirmation_sent_at", "last_sign_in_at")


@pytest.mark.parametrize(
    "kind, noted",
    [
        ("signup", {"confirmation_sent_at"}),
        ("invite", {"confirmation_sent_at", "invited_at"}),
        ("magiclink", {"recovery_sent_at"}),
        ("recovery", {"recovery_sent_at"}),
        ("email_change_new", {"email_change_sent_at", "new_email"}),
    ],
)
def test_a_link_of_an_operator_is_noted(api, kind, noted):
    email, more = address(), {}
    if kind in ("magiclink", "recovery", "email_change_new"):
        api.admin("POST", "/admin/users", {"email": email, "email_confirm": True})
        more = CONFIRMED
    body = {"type": kind, "email": email, "password": PASSWORD, "new_email": address("new"), "redirect_to": "https://app.example/in"}
    made = api.admin("POST", "/admin/generate_link", body)
    link = {name: made.pop(name) for name in ("action_link", "email_otp", "hashed_token", "redirect_to", "verification_type")}
    has(made, *noted, *more)
    assert (link["verification_type"], link["redirect_to"]) == (kind, "https://app.example/in")
    assert re.fullmatch(r"\d{6}", link["email_otp"]) and link["hashed_token"] in link["action_link"]


def test_what_was_mailed_is_noted(api):
    email, wanted = address(), address("new")
    token = api.member(email)["access_token"]
    look = lambda: api.done("GET", "/user", bearer=token)
    for path, body, kind, noted in [
        ("/recover", {"email": email}, "recovery", {"recovery_sent_at"}),
        ("/reauthenticate", None, "reauthentication", {"recovery_sent_at", "reauthentication_sent_at"}),
    ]:
        api.done("POST" if body else "GET", path, body, bearer=token)
        deadline = time.monotonic() + 20
        while mail(api.gateway, email)["kind"] != kind:
            assert time.monotonic() < deadline, kind
            time.sleep(0.02)
        has(look(), *CONFIRMED, "last_sign_in_at", *noted)
    failed(api.call("GET", "/reauthenticate", bearer=token), 429, "over_email_send_rate_limit")
    changed = api.done("PUT", "/user", {"email": wanted}, bearer=token)
    assert (changed["email"], changed["new_email"]) == (email, wanted)
    has(look(), *CONFIRMED, "last_sign_in_at", *noted, "email_change_sent_at", "new_email")
    answer = api.call("PUT", "/user", {"email": address("other")}, bearer=token)
    failed(answer, 429, "over_email_send_rate_limit")
    assert 0 < int(answer.headers["retry-after"]) <= 60


def test_a_sign_up_is_mailed_where_it_leads_and_again(start):
    api = own(start, "confirm_email = true", mail='resend_after = "0s"')
    email = address()
    for place in ("first", "second"):
        answer = api.done("POST", f"/signup?redirect_to=https://app.example/{place}", {"email": email, "password": PASSWORD})
        assert "access_token" not in answer
        has(answer, "confirmation_sent_at")
        found = []
        while len(found) < 1 + (place == "second"):
            found = mails(api.gateway, email)
        assert (found[-1]["kind"], found[-1]["redirect_to"]) == ("signup", f"https://app.example/{place}")
    failed(api.sign_in(email), 400, "email_not_confirmed")
    # Python's client says it so.
    other = address()
    client = Client(api.gateway)
    client.sign_up({"email": other, "password": PASSWORD, "options": {"email_redirect_to": "myapp://in/welcome"}})
    assert mail(api.gateway, other)["redirect_to"] == "myapp://in/welcome"


# ── Sessions, settings, keys ──


def test_a_session(api):
    email = address()
    first = api.member(email)
    answer = api.sign_in(email)
    session = answer.json()
    for one in (first, session):
        assert set(one) == {"access_token", "token_type", "expires_in", "expires_at", "refresh_token", "user"}
        assert (one["token_type"], one["expires_in"]) == ("bearer", 3600) and type(one["expires_in"]) is int
        claims = jwt.decode(one["access_token"], options={"verify_signature": False})
        assert set(claims) == {
            "iss", "sub", "aud", "iat", "exp", "email", "phone", "app_metadata", "user_metadata", "role", "aal", "amr",
            "session_id", "is_anonymous",
        }
        assert claims["exp"] == one["expires_at"] == claims["iat"] + 3600
        assert (claims["aud"], claims["role"], claims["aal"]) == ("authenticated", "authenticated", "aal1")
        assert [set(way) for way in claims["amr"]] == [{"method", "timestamp"}] and claims["amr"][0]["method"] == "password"
        assert claims["user_metadata"] == one["user"]["user_metadata"] and claims["app_metadata"] == one["user"]["app_metadata"]
        head = jwt.get_unverified_header(one["access_token"])
        assert set(head) == {"alg", "kid", "typ"} and (head["alg"], head["typ"]) == ("ES256", "JWT")
    assert answer.headers["cache-control"] == "no-store" and answer.headers["content-type"].startswith("application/json")
    (key,) = httpx.get(f"{api.gateway.url}/auth/v1/.well-known/jwks.json").json()["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "alg", "use", "key_ops", "kid"}
    assert (key["kid"], key["use"], key["key_ops"]) == (head["kid"], "sig", ["verify"])
    assert jwt.decode(session["access_token"], jwt.PyJWK(key).key, algorithms=["ES256"], audience="authenticated")["email"] == email


@pytest.mark.parametrize(
    "algorithm, members",
    [("ES256", {"crv", "x", "y"}), ("RS256", {"n", "e"}), ("EdDSA", {"crv", "x"}), ("HS256", None)],
)
def test_tokens_are_verified_with_the_published_keys(start, algorithm, members):
    """By a library, for each algorithm that the operator may choose; at both addresses, for as long as clients keep them."""
    api = Api(start(config(f'algorithm = "{algorithm}"')))
    token = api.member()["access_token"]
    head = jwt.get_unverified_header(token)
    assert head["alg"] == algorithm
    answers = [httpx.get(api.gateway.url + path) for path in ("/.well-known/jwks.json", "/auth/v1/.well-known/jwks.json")]
    assert {answer.headers["cache-control"] for answer in answers} == {"public, max-age=600"}
    keys = answers[0].json()["keys"]
    assert keys == answers[1].json()["keys"]
    if members is None:
        assert keys == []
    else:
        (key,) = keys
        assert set(key) == {"kty", "alg", "use", "key_ops", "kid"} | members and key["kid"] == head["kid"]
        claims = jwt.decode(token, jwt.PyJWK(key).key, algorithms=[algorithm], audience="authenticated")
        assert claims["iss"] == "https://gateway.test/auth/v1"
    route = f"{api.gateway.url}/behind/x"
    assert httpx.get(route, headers={"authorization": f"Bearer {token}"}).status_code == 200
    assert httpx.get(route, headers={"authorization": f"Bearer {token[:-8]}AAAAAAAA"}).status_code == 401


def test_anonymous_users_have_limits_of_their_own_until_they_are_permanent(start):
    classes = """[limits]
enabled = true

[[limits.class]]
name = "anonymous"
rate = 1
per = "1h"
burst = 2

[[limits.class]]
name = "permanent"
rate = 1
per = "1h"
burst = 5
"""
    api = Api(start(config().replace("[limits]\nenabled = false\n", classes, 1)))
    session = api.done("POST", "/signup", {})
    ask = lambda: httpx.get(f"{api.gateway.url}/behind/x", headers={"authorization": f"Bearer {session['access_token']}"})
    assert [ask().status_code for _ in range(3)] == [200, 200, 429]
    assert ask().headers["ratelimit-policy"].startswith('"anonymous"')
    user = api.done("PUT", "/user", {"email": address(), "password": PASSWORD}, bearer=session["access_token"])
    session = api.done("POST", "/token?grant_type=refresh_token", {"refresh_token": session["refresh_token"]})
    assert session["user"]["id"] == user["id"]
    answers = [ask() for _ in range(6)]
    assert answers[0].status_code == 200 and answers[-1].status_code == 429
    assert answers[-1].headers["ratelimit-policy"].startswith('"permanent"')


def test_settings_and_health(api):
    settings = api.done("GET", "/settings")
    external = settings.pop("external")
    assert {name for name, on in external.items() if on} == {"anonymous_users", "email"}
    assert {"phone", "google", "github", "apple", "azure", "keycloak", "linkedin_oidc", "zoom"} <= set(external) and len(external) == 26
    assert settings == {
        "disable_signup": False,
        "mailer_autoconfirm": True,
        "phone_autoconfirm": False,
        "sms_provider": "",
        "saml_enabled": False,
        "saml_private_key_next_configured": False,
        "passkeys_enabled": False,
    }
    health = api.done("GET", "/health")
    assert set(health) == {"version", "name", "description"} and health["name"] == "GoTrue"


# ── Failures that need a gateway of their own, or a story ──


def test_a_password_that_the_rules_would_not_take_today_signs_in_and_is_told_so(start, tmp_path):
    text = config()
    api = Api(start(text, tmp_path))
    email = address()
    api.member(email)
    lines = len(api.gateway.log.kept)
    api.gateway.rewrite(text.replace("[accounts.password]\n", '[accounts.password]\nmin_length = 40\nrequire = ["digit"]\n', 1))
    api.gateway.log.wait("configuration reloaded", lines)
    deadline = time.monotonic() + 20
    while "weak_password" not in (session := api.sign_in(email).json()):
        assert time.monotonic() < deadline, session
    assert sorted(session["weak_password"]["reasons"]) == ["characters", "length"] and session["weak_password"]["message"]
    assert session["access_token"]
    client = Client(api.gateway)
    assert client.sign_in_with_password({"email": email, "password": PASSWORD}).session
    answer = api.call("POST", "/signup", {"email": address(), "password": PASSWORD})
    assert sorted(failed(answer, 422, "weak_password")["weak_password"]["reasons"]) == ["characters", "length"]
    answer = api.call("PUT", "/user", {"password": "short"}, bearer=session["access_token"])
    assert failed(answer, 422, "weak_password")["weak_password"]["reasons"]


def test_a_banned_user_is_told_so_wherever_something_of_its_own_is_shown(api):
    email = address()
    session = api.member(email)
    api.done("POST", "/recover", {"email": email})
    link = mail(api.gateway, email)["token_hash"]
    api.admin("PUT", f"/admin/users/{session['user']['id']}", {"ban_duration": "1h"})
    failed(api.sign_in(email), 400, "user_banned")
    failed(api.call("POST", "/token?grant_type=refresh_token", {"refresh_token": session["refresh_token"]}), 400, "user_banned")
    failed(api.call("GET", "/user", bearer=session["access_token"]), 403, "user_banned")
    failed(api.call("PUT", "/user", {"data": {}}, bearer=session["access_token"]), 403, "user_banned")
    failed(api.call("POST", "/verify", {"type": "recovery", "token_hash": link}), 403, "user_banned")


@pytest.mark.parametrize("limit", ["session_lifetime", "session_idle"])
def test_a_session_that_is_too_old_is_not_refreshed(start, limit):
    api = own(start, f'{limit} = "1s"')
    session = api.member()
    deadline = time.monotonic() + 20
    refresh = lambda: api.call("POST", "/token?grant_type=refresh_token", {"refresh_token": session["refresh_token"]})
    # Each good one would begin the idle time anew: only looked at when it must be over.
    while time.time() < session["expires_at"] - 3600 + 2.1:
        time.sleep(0.05)
    failed(refresh(), 400, "session_expired")
    assert time.monotonic() < deadline
    # Enforced at the refresh only: the access token lives on.
    assert api.done("GET", "/user", bearer=session["access_token"])


def test_an_access_token_that_expired(start):
    text = config('access_ttl = "1s"').replace("[limits]", '[tokens]\nleeway = "0s"\n\n[limits]', 1)
    api = Api(start(text))
    session = api.member()
    assert session["expires_in"] == 1
    while time.time() <= session["expires_at"]:
        time.sleep(0.05)
    for method, path, body in [("GET", "/user", None), ("PUT", "/user", {}), ("POST", "/logout", None), ("GET", "/reauthenticate", None)]:
        failed(api.call(method, path, body, bearer=session["access_token"]), 403, "bad_jwt")
    failed(api.call("GET", "/admin/users", bearer=session["access_token"], key=SERVICES[0]), 403, "bad_jwt")
    # What looks at no bearer goes on.
    body = {"refresh_token": session["refresh_token"]}
    assert api.done("POST", "/token?grant_type=refresh_token", body, bearer=session["access_token"])


def test_a_new_password_may_need_the_current_one(start):
    api = own(start, password="require_current = true")
    session = api.member()
    put = lambda body: api.call("PUT", "/user", body, bearer=session["access_token"])
    failed(put({"password": "another one of these"}), 400, "current_password_required")
    failed(put({"password": "another one of these", "current_password": "not this"}), 400, "current_password_invalid")
    assert put({"password": "another one of these", "current_password": PASSWORD}).status_code == 200


def test_a_new_password_may_need_a_code(start):
    api = own(start, password='require_recent = "1s"')
    email = address()
    session = api.member(email)
    put = lambda **more: api.call("PUT", "/user", {"password": "another one of these"} | more, bearer=session["access_token"])
    while time.time() < session["expires_at"] - 3600 + 2.1:
        time.sleep(0.05)
    failed(put(), 400, "reauthentication_needed")
    api.done("GET", "/reauthenticate", bearer=session["access_token"])
    code = mail(api.gateway, email)["code"]
    wrong = "000000" if code != "000000" else "000001"
    failed(put(nonce=wrong), 422, "reauthentication_not_valid")
    assert put(nonce=code).status_code == 200


def test_who_must_confirm_is_told_so_before_a_code(start):
    """An operator's user with an address that nobody has confirmed."""
    api = own(start)
    email = address()
    api.admin("POST", "/admin/users", {"email": email, "password": PASSWORD})
    session = api.sign_in(email).json()
    failed(api.call("GET", "/reauthenticate", bearer=session["access_token"]), 422, "email_not_confirmed")


def test_a_code_comes_with_whose_it_is_or_as_a_link(api):
    for body in [
        {"type": "recovery", "token": "123456"},
        {"type": "recovery", "token_hash": "x", "email": address()},
        {"type": "recovery", "token_hash": "x", "token": "123456", "email": address()},
        {"token_hash": "x"},
        {"type": "recovery", "token": "", "email": address()},
    ]:
        failed(api.call("POST", "/verify", body), 400, "validation_failed")


def test_keys_are_in_no_log(start):
    api = Api(start(config()))
    for key in (*ANONS, *SERVICES, "sb_secret_that_nobody_knows"):
        assert api.call("GET", "/admin/users", key=key).status_code in (200, 401, 403)
        answer = httpx.get(f"{api.gateway.url}/auth/v1/health", params={"apikey": key})
        assert answer.status_code == (401 if "nobody" in key else 200)
    api.gateway.stop()
    text = "\n".join(api.gateway.out.kept + api.gateway.log.kept)
    assert "/auth/v1/health" in text
    assert not any(key in text for key in (*ANONS, *SERVICES, "sb_secret_that_nobody_knows"))


def test_without_mails(start):
    api = Api(start(config().replace('hook = "file"\nfile = "mails.jsonl"', 'hook = "off"', 1)))
    for path, body in [
        ("/recover", {"email": address()}),
        ("/otp", {"email": address()}),
        ("/magiclink", {"email": address()}),
        ("/resend", {"type": "signup", "email": address()}),
    ]:
        failed(api.call("POST", path, body), 422, "otp_disabled")
    failed(api.call("POST", "/invite", {"email": address()}, key=SERVICES[0]), 422, "otp_disabled")


def test_too_many_of_one_address(start):
    """Whoever may wait is told how long; a refresh is told 503, for at 429 the clients sign their user out."""
    text = config().replace("per_address = 0\nanonymous_per_address = 0\nrefreshes_per_address = 0", "{limits}", 1)
    limits = "per_address = {0}\nanonymous_per_address = {1}\nrefreshes_per_address = {2}"
    for numbers, call, status, code in [
        ((1, 0, 0), lambda api: api.call("POST", "/signup", {"email": address(), "password": PASSWORD}), 429, "over_request_rate_limit"),
        ((1, 0, 0), lambda api: api.sign_in(address()), 429, "over_request_rate_limit"),
        ((1, 0, 0), lambda api: api.call("POST", "/recover", {"email": address()}), 429, "over_request_rate_limit"),
        ((1, 0, 0), lambda api: api.call("POST", "/otp", {"email": address(), "create_user": False}), 429, "over_request_rate_limit"),
        ((1, 0, 0), lambda api: api.call("POST", "/resend", {"type": "signup", "email": address()}), 429, "over_request_rate_limit"),
        ((1, 0, 0), lambda api: api.call("POST", "/verify", {"type": "email", "token_hash": "x"}), 429, "over_request_rate_limit"),
        ((0, 1, 0), lambda api: api.call("POST", "/signup", {}), 429, "over_request_rate_limit"),
        ((0, 0, 1), lambda api: api.call("POST", "/token?grant_type=refresh_token", {"refresh_token": "abcdefghij12"}), 503, "service_unavailable"),
    ]:
        api = Api(start(text.replace("{limits}", limits.format(*numbers))))
        assert call(api).status_code != status
        answer = call(api)
        failed(answer, status, code)
        assert int(answer.headers["retry-after"]) > 0


def test_a_failure_of_the_gateways_has_an_id_in_the_old_shape(start, tmp_path):
    api = Api(start(config(), tmp_path))
    away = tmp_path / "away.db"
    (tmp_path / "portcullis.db").rename(away)
    body = {"email": address(), "password": PASSWORD}
    failed(api.sign_in(body["email"]), 503, "service_unavailable")
    answer = api.call("POST", "/token?grant_type=password", body, version=None)
    assert answer.status_code == 503 and "x-supabase-api-version" not in answer.headers
    told = answer.json()
    assert set(told) == {"code", "error_code", "msg", "error_id"}
    assert (told["code"], told["error_code"]) == (503, "service_unavailable")
    # By which an operator finds what happened.
    api.gateway.out.wait(f'"request_id":"{told["error_id"]}"')
    away.rename(tmp_path / "portcullis.db")


# ── The mail hooks ──


@pytest.fixture
def mailer():
    """A webhook: what it is told, and what it answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.server.told.append((self.path, self.headers["authorization"], self.headers["content-type"], body))
            self.send_response(self.server.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.told, server.status = [], 204
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def hook(lines: str) -> str:
    """A config with another mail hook."""
    return config().replace('hook = "file"\nfile = "mails.jsonl"', lines, 1)


def test_mails_go_to_a_webhook(start, mailer):
    lines = f'hook = "webhook"\nurl = "http://127.0.0.1:{mailer.server_port}/send"\nsecret = "${{HOOK}}"\nresend_after = "0s"'
    api = Api(start(hook(lines), HOOK="the secret of the hook"))
    email = address()
    user = api.member(email)["user"]
    api.done("POST", "/recover?redirect_to=https://app.example/reset", {"email": email})
    deadline = time.monotonic() + 20
    while not mailer.told:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    path, authorization, kind, body = mailer.told[0]
    assert (path, authorization, kind) == ("/send", "Bearer the secret of the hook", "application/json")
    assert set(body) == {"kind", "to", "user_id", "code", "token_hash", "redirect_to"}
    assert (body["kind"], body["to"], body["user_id"]) == ("recovery", email, user["id"])
    assert api.done("POST", "/verify", {"type": "recovery", "email": email, "token": body["code"]})["user"]["id"] == user["id"]
    # A hook that fails is told to the operator, without what it was given, and to nobody else.
    mailer.status = 500
    api.done("POST", "/recover", {"email": email})
    line = api.gateway.log.wait("a mail was not sent")
    while len(mailer.told) < 2:
        time.sleep(0.02)
    secrets = (mailer.told[1][3]["code"], mailer.told[1][3]["token_hash"], "the secret of the hook")
    assert not any(secret in line for secret in secrets[1:]) and email not in line
    assert not any(secrets[1] in line or secrets[2] in line for line in api.gateway.log.kept)


def test_mails_go_to_the_log(start):
    api = Api(start(hook('hook = "log"')))
    email = address()
    api.member(email)
    api.done("POST", "/recover", {"email": email})
    line = json.loads(api.gateway.log.wait(f'"to":"{email}"'))
    assert api.done("POST", "/verify", {"type": "recovery", "token_hash": line["token_hash"]})["user"]["email"] == email
