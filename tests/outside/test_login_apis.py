"""What all four log-in APIs do and refuse alike, each in its own shape: strangers, floods, a store that is away, tokens of others."""

import contextlib
import json
import threading
import uuid

import httpx
import jwt
import pytest
from harness.accounts import APP, AUTH, PASSWORD, SESSIONS, SUPABASE, TOKEN, Person, at_once, config, kept, shaped
from harness.postgres import database
from harness.tokens import bearer, mint

pytestmark = pytest.mark.timeout(120)
VERSION = {"x-supabase-api-version": "2024-01-01"}
SECRET = "kJ2vQ8xTz5WmN4rL7pYc3HdF6sGbA9eU"


@pytest.fixture(params=["sqlite", "postgres"])
def stored(request, start, tmp_path):
    """All four APIs over each store, with lines added to the tables of `[accounts]`."""

    def begin(password: str = "", **lines: str):
        text = config(**lines)
        text = text.replace("[accounts.password]\n", f"[accounts.password]\n{password}\n", 1)
        if request.param == "sqlite":
            return start(text, tmp_path)
        text = text.replace("[accounts]\n", '[store]\nurl = "${STORE}"\n\n[accounts]\nsecret = "${ACCOUNTS_SECRET}"\n', 1)
        return start(text, tmp_path, STORE=database(), ACCOUNTS_SECRET=SECRET)

    return begin


@pytest.fixture(scope="module")
def gateway(start):
    return start(config(attempts="free = 1000"))


@pytest.fixture
def ada(gateway):
    return Person(gateway).register()


def log_ins(name: str, password: str) -> dict[str, tuple[str, dict]]:
    """A log-in at each API: its path and its body."""
    return {
        "app": (f"{APP}/access_token", {"username": name, "password": password}),
        "session": (f"{AUTH}/login", {"username": name, "password": password}),
        "token": (f"{TOKEN}/login", {"username": name, "password": password}),
        "supabase": (f"{SUPABASE}/token?grant_type=password", {"email": name, "password": password}),
    }



def refused(api: str, answer: httpx.Response, status: int, word: str | None = None):
    """Holds a failure against its status, its shape and its words."""
    told = shaped(api, answer)
    assert answer.status_code == status, (api, answer.status_code, answer.text)
    assert word is None or told == word, (api, told)
    if status in (429, 503):
        assert int(answer.headers["retry-after"]) > 0


# ── Users ──


def test_tokens_live_as_long_as_their_api_says(ada):
    """Where the operator says nothing: a quarter of an hour in the token API, an hour elsewhere."""
    lives = {token: jwt.decode(token, options={"verify_signature": False}) for token in (ada.app(), ada.token(), ada.supabase())}
    assert [claims["exp"] - claims["iat"] for claims in lives.values()] == [3600, 900, 3600]


def test_what_a_user_says_of_itself_shows_in_the_other_apis_and_gives_no_right(ada):
    data = {"avatar": "https://img.example/ada.png", "is_admin": True, "username": "root", "roles": ["admin"]}
    ada.done("PUT", f"{SUPABASE}/user", ada.supabase(), json={"data": data})
    shown = ada.done("GET", f"{APP}/userinfo", ada.app())["data"]
    assert (shown["avatar"], shown["username"]) == ("https://img.example/ada.png", ada.name)
    assert (shown["roles"], shown["is_superuser"]) == ([], False)
    said = jwt.decode(ada.app(), options={"verify_signature": False})["user_metadata"]
    assert (said["avatar"], said["username"], said["is_admin"]) == (data["avatar"], ada.name, False)


# ── Strangers ──


def told(answer: httpx.Response) -> tuple:
    """All that an answer tells, but for when it was given."""
    headers = sorted((name, value) for name, value in answer.headers.multi_items() if name != "date")
    return answer.status_code, answer.content, headers


def test_no_answer_tells_who_has_an_account(ada):
    """Status, body and every header: an unknown name, an unknown address, and a wrong password are one answer."""
    for api in ("app", "session", "token", "supabase"):
        answers = []
        for name in (ada.name, ada.email, f"nobody-{uuid.uuid4().hex[:8]}", f"{uuid.uuid4().hex[:8]}@mail.example"):
            path, body = log_ins(name, "wrong horse battery")[api]
            answers.append(told(ada.call("POST", path, json=body, headers=VERSION)))
        assert len(set(map(repr, answers))) == 1, (api, answers)
        assert answers[0][0] == (400 if api == "supabase" else 401)


def test_no_answer_about_mails_tells_who_has_an_account(start):
    lines = 'hook = "file"\nfile = "mails.jsonl"\nresend_after = "0s"'
    text = config(accounts="confirm_email = true", attempts="free = 1000")
    gateway = start(text.replace("[api.app]\n", f"[accounts.mail]\n{lines}\n\n[api.app]\n", 1))
    ada = Person(gateway)
    up = lambda email: httpx.post(f"{gateway.url}{SUPABASE}/signup", json={"email": email, "password": PASSWORD}, headers=VERSION)
    first = up(ada.email)
    nobody = f"{uuid.uuid4().hex[:8]}@mail.example"
    for path, body in [
        ("/recover", {}),
        ("/otp", {"create_user": False}),
        ("/magiclink", {"create_user": False}),
        ("/resend", {"type": "signup"}),
        ("/resend", {"type": "email_change"}),
        ("/verify", {"type": "recovery", "token": "123456"}),
    ]:
        asked = [ada.call("POST", SUPABASE + path, json=body | {"email": email}, headers=VERSION) for email in (ada.email, nobody)]
        assert told(asked[0]) == told(asked[1]), path
    # A taken address looks like a new one: another user each time, made of the same members.
    again, other = up(ada.email), up(nobody)
    assert first.status_code == again.status_code == other.status_code == 200
    assert set(first.json()) == set(again.json()) == set(other.json())
    assert len({answer.json()["id"] for answer in (first, again, other)}) == 3
    assert again.json()["identities"] and again.json()["role"] == "authenticated"


# ── Floods ──


def test_guesses_wait_in_the_shape_of_each_api(start):
    for api in ("app", "session", "token", "supabase"):
        ada = Person(start(config(attempts='free = 1\ndelay = "60s"'))).register()
        path, body = log_ins(ada.email, "wrong horse battery")[api]
        answers = [ada.call("POST", path, json=body, headers=VERSION) for _ in range(3)]
        assert answers[0].status_code in (400, 401)
        refused(api, answers[-1], 429, {"supabase": "over_request_rate_limit"}.get(api))
        # The right password has to wait too: otherwise the answer would tell that it is right.
        path, body = log_ins(ada.email, PASSWORD)[api]
        refused(api, ada.call("POST", path, json=body, headers=VERSION), 429)


def test_a_stranger_who_guesses_does_not_shut_the_owner_out(start):
    """Failures count where they come from: the owner gets in from where it was before, and from where nobody failed."""
    text = config(attempts='free = 2\ndelay = "60s"').replace("workers = 2\n", 'workers = 2\ntrusted_proxies = ["127.0.0.1"]\n', 1)
    ada = Person(start(text)).register()
    home, abroad, thief = ({"x-forwarded-for": address} for address in ("198.51.100.7", "192.0.2.44", "203.0.113.9"))

    def log_in(password: str, headers: dict, name: str = ada.name) -> int:
        body = {"username": name, "password": password}
        return ada.call("POST", f"{TOKEN}/login", json=body, headers=headers).status_code

    assert log_in(PASSWORD, home) == 200
    assert [log_in("wrong horse battery", thief) for _ in range(4)][2:] == [429, 429]
    assert log_in(PASSWORD, thief) == 429
    assert log_in(PASSWORD, home) == 200 and log_in(PASSWORD, abroad) == 200
    # Whoever tries one password on many accounts is slowed as an address, and nobody else is.
    tried = [log_in("wrong horse battery", thief | {"x-forwarded-for": "203.0.113.77"}, f"user{number}") for number in range(40)]
    assert tried[-1] == 429 and tried.count(401) < 40
    assert log_in(PASSWORD, home) == 200


def test_registrations_of_one_address_wait_in_the_shape_of_each_api(start):
    for api, path in (("session", f"{AUTH}/register"), ("token", f"{TOKEN}/register"), ("supabase", f"{SUPABASE}/signup")):
        gateway = start(config().replace("\nper_address = 0", "\nper_address = 1", 1))
        people = [Person(gateway) for _ in range(2)]
        bodies = [{"username": person.name, "email": person.email, "password": PASSWORD} for person in people]
        answers = [people[0].call("POST", path, json=body, headers=VERSION) for body in bodies]
        assert answers[0].is_success
        refused(api, answers[1], 429)


def test_a_full_queue_of_passwords_is_503_and_proxied_requests_go_on(start, recorder):
    """More log-ins than may wait: the others are told to come back, and whoever asks for nothing of the kind is answered."""
    text = config(attempts="free = 1000").replace('argon2_memory = "7MiB"', 'argon2_memory = "32MiB"\nthreads = 1\nqueue = 1', 1)
    ada = Person(start(text)).register()
    token = ada.app()
    for api in ("app", "session", "token", "supabase"):
        path, body = log_ins(ada.email, PASSWORD)[api]
        answers = at_once(8, lambda: ada.call("POST", path, json=body, headers=VERSION))
        busy = [answer for answer in answers if answer.status_code != 200]
        assert busy and len(busy) < 8, [answer.status_code for answer in answers]
        for answer in busy:
            refused(api, answer, 503, {"supabase": "service_unavailable"}.get(api))
    over = threading.Event()

    def flood():
        while not over.is_set():
            at_once(6, lambda: ada.call("POST", path, json=body, headers=VERSION))

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        assert all(ada.passes(token) for _ in range(20))
    finally:
        over.set()
        thread.join()


def test_audit_lines_say_who_did_what_and_no_secret(start):
    gateway = start(config(accounts='refresh_reuse = "0s"', attempts='free = 1\ndelay = "60s"'))
    ada = Person(gateway).register()
    user = ada.done("GET", f"{APP}/userinfo", ada.app())["data"]["id"]

    def said(audit: str, result: str, api: str, *, by: bool = True):
        line = json.loads(gateway.out.wait(f'"audit":"{audit}","result":"{result}","api":"{api}"'))
        assert (line["client"], line["request_id"] != "") == ("127.0.0.1", True), line
        assert not by or line["user_id"] == user, line

    said("register", "ok", "session", by=False)
    said("log_in", "ok", "app")
    ada.done("POST", f"{AUTH}/logout", ada.session())
    said("log_out", "ok", "session")
    change = {"password": "another horse battery", "current_password": PASSWORD}
    ada.done("PATCH", f"{AUTH}/me", ada.session(), json=change)
    said("password_change", "ok", "session")
    ada.password = change["password"]
    assert ada.call("POST", f"{SUPABASE}/logout", ada.supabase()).status_code == 204
    said("log_out_everywhere", "ok", "supabase")
    first = ada.done("POST", f"{TOKEN}/login", json={"username": ada.name, "password": ada.password})["refresh_token"]
    second = ada.done("POST", f"{TOKEN}/refresh", json={"refresh_token": first})["refresh_token"]
    ada.done("POST", f"{TOKEN}/refresh", json={"refresh_token": second})
    refused("token", ada.call("POST", f"{TOKEN}/refresh", json={"refresh_token": first}), 401)
    said("refresh", "refresh_reused", "token", by=False)
    for _ in range(3):
        ada.call("POST", f"{TOKEN}/login", json={"username": ada.name, "password": "a wrong one of these"})
    said("log_in", "invalid_credentials", "token", by=False)
    said("log_in", "too_many", "token", by=False)
    text = "\n".join(gateway.out.kept + gateway.log.kept)
    for secret in (PASSWORD, ada.password, "a wrong one of these", ada.name, first, second):
        assert secret not in text, secret


# ── A store that is away ──


def test_a_store_that_is_away_is_503_in_the_shape_of_each_api(start, tmp_path):
    ada = Person(start(config(), tmp_path)).register()
    tokens = {"app": ada.app(), "session": ada.session(), "token": ada.token(), "supabase": ada.supabase()}
    refresh = ada.done("POST", f"{TOKEN}/login", json=log_ins(ada.name, PASSWORD)["token"][1])["refresh_token"]
    (tmp_path / "portcullis.db").rename(tmp_path / "away.db")
    people = {"username": "eve", "email": "eve@mail.example", "password": PASSWORD}
    calls = [(api, "POST", path, body) for api, (path, body) in log_ins(ada.email, PASSWORD).items()]
    calls += [
        ("app", "GET", f"{APP}/userinfo", None),
        ("app", "POST", f"{APP}/refresh_token", None),
        ("session", "POST", f"{AUTH}/register", people),
        ("session", "GET", f"{AUTH}/verify", None),
        ("session", "GET", SESSIONS, None),
        ("session", "POST", f"{AUTH}/logout", None),
        ("token", "POST", f"{TOKEN}/register", people),
        ("token", "GET", f"{TOKEN}/me", None),
        ("token", "POST", f"{TOKEN}/logout", None),
        ("supabase", "POST", f"{SUPABASE}/signup", people),
        ("supabase", "GET", f"{SUPABASE}/user", None),
        ("supabase", "POST", f"{SUPABASE}/logout", None),
    ]
    for api, method, path, body in calls:
        more = {"json": body} if body else {}
        answer = ada.call(method, path, None if body else tokens[api], headers=VERSION, **more)
        refused(api, answer, 503)
    refused("token", ada.call("POST", f"{TOKEN}/refresh", json={"refresh_token": refresh}), 503)
    # What looks at no credential goes on, with one that nobody can judge now.
    for path in ("/health", "/settings", "/.well-known/jwks.json"):
        assert ada.call("GET", SUPABASE + path, tokens["supabase"]).status_code == 200, path
    (tmp_path / "away.db").rename(tmp_path / "portcullis.db")
    for api, token in tokens.items():
        assert ada.passes(token), f"a log-out that was refused has ended the token of {api}"


# ── Users who are kept out ──


def test_a_user_who_is_switched_off_is_out_of_every_api(start, tmp_path):
    """At once, where this gateway does it; with the right password it is told why, with a wrong one nothing."""
    keys = 'anon_keys = ["sb_publishable_of_this_test"]\nservice_keys = ["sb_secret_of_this_test_only_so"]'
    ada = Person(start(config(supabase=keys, attempts="free = 1000"), tmp_path)).register()
    anon = VERSION | {"apikey": "sb_publishable_of_this_test"}
    service = anon | {"apikey": "sb_secret_of_this_test_only_so"}

    def post(api: str, password: str) -> httpx.Response:
        path, body = log_ins(ada.email, password)[api]
        return ada.call("POST", path, json=body, headers=anon)

    app, opaque = post("app", PASSWORD).json()["data"]["access_token"], post("session", PASSWORD).json()["session"]["token"]
    pair, session = post("token", PASSWORD).json(), post("supabase", PASSWORD).json()
    for token in (app, opaque, pair["access_token"], session["access_token"]):
        assert ada.passes(kept(token))
    user = f"{SUPABASE}/admin/users/{session['user']['id']}"
    assert ada.call("PUT", user, json={"ban_duration": "1h"}, headers=service).status_code == 200

    for api, status in (("app", 403), ("session", 403), ("token", 403), ("supabase", 400)):
        refused(api, post(api, PASSWORD), status, {"supabase": "user_banned"}.get(api))
        refused(api, post(api, "wrong horse battery"), 400 if api == "supabase" else 401)
    for token in (app, opaque, pair["access_token"], session["access_token"]):
        assert not ada.passes(token)
    for api, method, path, token, status in [
        ("app", "GET", f"{APP}/userinfo", app, 401),
        ("app", "GET", f"{APP}/usermenu", app, 401),
        ("app", "POST", f"{APP}/refresh_token", app, 401),
        ("session", "GET", f"{AUTH}/verify", opaque, 401),
        ("session", "GET", f"{AUTH}/me", opaque, 401),
        ("session", "GET", SESSIONS, opaque, 401),
        ("token", "GET", f"{TOKEN}/me", pair["access_token"], 401),
        ("token", "GET", f"{TOKEN}/protected", pair["access_token"], 401),
        ("token", "POST", f"{TOKEN}/refresh", pair["refresh_token"], 401),
        ("supabase", "GET", f"{SUPABASE}/user", session["access_token"], 403),
    ]:
        refused(api, ada.call(method, path, token, headers=anon), status)
    # A ban ends nothing: what it kept out is let in again.
    assert ada.call("PUT", user, json={"ban_duration": "none"}, headers=service).status_code == 200
    for token in (app, opaque, pair["access_token"], session["access_token"]):
        assert ada.passes(token)
    assert ada.call("DELETE", user, json={}, headers=service).status_code == 200
    for token in (app, opaque, pair["access_token"], session["access_token"]):
        assert not ada.passes(token)
    refused("app", ada.call("POST", f"{APP}/refresh_token", app), 401)
    refused("token", ada.call("POST", f"{TOKEN}/refresh", pair["refresh_token"]), 401, "Invalid refresh token")
    for api in ("app", "session", "token", "supabase"):
        refused(api, post(api, PASSWORD), 400 if api == "supabase" else 401)


# ── Tokens of one API sent to another ──


def test_tokens_of_one_api_sent_to_another(ada):
    """Access tokens and opaque ones are the user's everywhere, except where only a JWT is read; refresh tokens are their API's own."""
    pair = ada.done("POST", f"{TOKEN}/login", json={"username": ada.name, "password": PASSWORD})
    session = ada.done("POST", f"{SUPABASE}/token?grant_type=password", json={"email": ada.email, "password": PASSWORD})
    access = {"app": ada.app(), "token": pair["access_token"], "supabase": session["access_token"]}
    refresh = {"token": pair["refresh_token"], "supabase": session["refresh_token"]}
    opaque = ada.session()
    for token in (*access.values(), *refresh.values()):
        kept(token)
    outside = mint(str(uuid.uuid4()))
    reads = {
        "app": ("GET", f"{APP}/userinfo", 401),
        "session": ("GET", f"{AUTH}/me", 401),
        "token": ("GET", f"{TOKEN}/me", 401),
        "supabase": ("GET", f"{SUPABASE}/user", 403),
    }
    for api, (method, path, status) in reads.items():
        for token in access.values():
            assert ada.call(method, path, token, headers=VERSION).status_code == 200, api
        seen = ada.call(method, path, opaque, headers=VERSION)
        # The Supabase API's clients have JWTs, and read them.
        assert seen.status_code == (403 if api == "supabase" else 200)
        for token in (*refresh.values(), outside, "a.b.c", "null", "undefined"):
            answer = ada.call(method, path, headers=VERSION | bearer(token))
            refused(api, answer, answer.status_code)
            assert answer.status_code in (status, 401), (api, token, answer.text)
    # What renews: only what its own API gave for it.
    for name, token in {**access, "opaque": opaque, "outside": outside}.items():
        for headers, body in ((bearer(token), {}), ({}, {"refresh_token": token})):
            answer = ada.call("POST", f"{TOKEN}/refresh", json=body, headers=headers)
            refused("token", answer, 401, "Invalid refresh token")
        answer = ada.call("POST", f"{SUPABASE}/token?grant_type=refresh_token", json={"refresh_token": token}, headers=VERSION)
        refused("supabase", answer, 400, "validation_failed")
    answer = ada.call("POST", f"{TOKEN}/refresh", json={"refresh_token": refresh["supabase"]})
    refused("token", answer, 401, "Invalid refresh token")
    answer = ada.call("POST", f"{SUPABASE}/token?grant_type=refresh_token", json={"refresh_token": refresh["token"]}, headers=VERSION)
    refused("supabase", answer, 400, "refresh_token_not_found")
    for token in (*refresh.values(), opaque, access["token"], outside):
        answer = ada.call("POST", f"{APP}/refresh_token", headers={"token": token})
        assert answer.status_code in (200, 401)
        assert answer.status_code == 401 or token == access["token"], token
    # A proxied route takes what opens something, and nothing that only renews.
    for token in (*access.values(), opaque):
        assert ada.passes(token)
    for token in refresh.values():
        assert ada.call("GET", "/behind/x", token).status_code == 401
    # And nothing of all that has ended anything, or spent a refresh token.
    assert ada.call("POST", f"{TOKEN}/refresh", json={"refresh_token": refresh["token"]}).status_code == 200
    body = {"refresh_token": refresh["supabase"]}
    assert ada.call("POST", f"{SUPABASE}/token?grant_type=refresh_token", json=body, headers=VERSION).status_code == 200


# ── Bodies ──


def test_passwords_that_bcrypt_would_cut_are_refused(stored):
    """72 bytes are a password, 73 are none, and nobody gets in with 72 of 73, or with what follows a NUL."""
    gateway = stored(password='hash = "bcrypt"\nbcrypt_cost = 10', attempts="free = 1000")
    whole = "x" * 71 + "!"
    for register, log_in in [(f"{AUTH}/register", f"{AUTH}/login"), (f"{TOKEN}/register", f"{TOKEN}/login")]:
        ada = Person(gateway)
        body = {"username": ada.name, "email": ada.email}
        for bad in (whole + "y", "密" * 25, "correct\0horse battery", "\0" * 12):
            answer = ada.call("POST", register, json=body | {"password": bad})
            assert answer.status_code == 400, (register, bad, answer.text)
        assert ada.call("POST", register, json=body | {"password": whole}).status_code == 201
        assert ada.call("POST", log_in, json=body | {"password": whole}).status_code == 200
        for wrong in (whole + "y", whole[:-1], whole + "\0"):
            assert ada.call("POST", log_in, json=body | {"password": wrong}).status_code == 401, wrong
    ada, up = Person(gateway), f"{SUPABASE}/signup"
    for bad in (whole + "y", "密" * 25, "correct\0horse battery"):
        answer = ada.call("POST", up, json={"email": ada.email, "password": bad}, headers=VERSION)
        refused("supabase", answer, 400, "validation_failed")
    session = ada.call("POST", up, json={"email": ada.email, "password": whole}, headers=VERSION).json()
    token = kept(session["access_token"])
    for bad in (whole + "y", "correct\0horse battery"):
        answer = ada.call("PUT", f"{SUPABASE}/user", token, json={"password": bad}, headers=VERSION)
        refused("supabase", answer, 400, "validation_failed")
        change = {"password": bad, "current_password": whole}
        refused("session", ada.call("PATCH", f"{AUTH}/me", token, json=change), 400)
    for api, (path, body) in log_ins(ada.email, whole + "y").items():
        refused(api, ada.call("POST", path, json=body, headers=VERSION), 400 if api == "supabase" else 401)
    ada.password = whole
    assert ada.app(ada.email) and ada.supabase()


def test_one_address_is_registered_once_whichever_way_it_comes(stored):
    """A race of all the ways to become a user, in several spellings: one wins, the others are told so, and there is one user."""
    gateway = stored(attempts="free = 1000")
    for _ in range(5):
        ada = Person(gateway)
        ways = [
            (f"{AUTH}/register", {"username": ada.name, "email": ada.email, "password": PASSWORD}, 409),
            (f"{TOKEN}/register", {"username": ada.name.upper(), "email": ada.email, "password": PASSWORD}, 400),
            (f"{SUPABASE}/signup", {"email": ada.email.upper(), "password": PASSWORD}, 422),
        ] * 2
        waiting = iter(list(ways))
        lock = threading.Lock()

        def register():
            with lock:
                path, body, lost = next(waiting)
            answer = ada.call("POST", path, json=body, headers=VERSION)
            assert answer.status_code in (200, 201, lost), (path, answer.status_code, answer.text)
            return answer.is_success

        assert at_once(len(ways), register).count(True) == 1
        with contextlib.suppress(StopIteration):
            next(waiting)
        users = {ada.call("GET", f"{APP}/userinfo", token).json()["data"]["id"] for token in (ada.app(ada.email), ada.supabase())}
        assert len(users) == 1
