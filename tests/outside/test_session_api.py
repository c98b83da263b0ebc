"""The session API by an ordinary HTTP client: opaque tokens, conversations, and how they end."""

import re
import uuid

import httpx
import pytest
from harness.accounts import AUTH, PASSWORD, SESSIONS, Person, at_once, config, kept
from harness.app import heard
from harness.tokens import bearer
from httpx_sse import connect_sse
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

pytestmark = pytest.mark.timeout(120)
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture(scope="module")
def gateway(start):
    return start(config())


@pytest.fixture
def ada(gateway):
    return Person(gateway).register()


def refused(answer, status: int, error: str | None = None):
    """Holds a failure against the shape of this API."""
    body = answer.json()
    assert (answer.status_code, body["success"]) == (status, False), answer.text
    assert set(body) <= {"success", "valid", "error"} and body["error"]
    assert error is None or body["error"] == error


def new(person: Person, token: str, name: str | None = None) -> dict:
    """Another conversation of a person."""
    answer = person.call("POST", f"{SESSIONS}/new", token, json={"name": name} if name else {})
    assert answer.status_code == 201 and answer.json()["message"] == "New session created", answer.text
    kept(answer.json()["session"]["token"])
    return answer.json()["session"]


def test_registration(gateway):
    ada = Person(gateway)
    body = {"username": ada.name, "email": ada.email, "password": PASSWORD}
    answer = ada.call("POST", f"{AUTH}/register", json=body)
    said = answer.json()
    assert (answer.status_code, said["success"], said["message"]) == (201, True, "User registered successfully")
    assert set(said["user"]) == {"id", "username", "email", "created_at"}
    assert isinstance(said["user"]["id"], int) and TIME.fullmatch(said["user"]["created_at"])
    other = f"{uuid.uuid4().hex[:8]}"
    taken = body | {"username": ada.name.upper(), "email": f"{other}@mail.example"}
    refused(ada.call("POST", f"{AUTH}/register", json=taken), 409, "Username already exists")
    taken = body | {"username": other, "email": ada.email.upper()}
    refused(ada.call("POST", f"{AUTH}/register", json=taken), 409, "Email already exists")
    for bad in ({"username": "a b"}, {"username": ""}, {"username": "a@b"}, {"email": "nowhere"}, {"password": "short"}):
        refused(ada.call("POST", f"{AUTH}/register", json=body | {"username": other} | bad), 400)


def test_one_name_is_registered_once(gateway):
    """Many at the same time: one of them gets the name."""
    ada = Person(gateway)
    body = {"username": ada.name, "email": ada.email, "password": PASSWORD}
    answers = at_once(6, lambda: ada.call("POST", f"{AUTH}/register", json=body).status_code)
    assert sorted(answers) == [201] + [409] * 5


def test_a_log_in_resumes_the_conversation_with_a_new_token(ada):
    answers = []
    for key, name in (("username", ada.name), ("email", ada.email), ("username", ada.email)):
        said = ada.done("POST", f"{AUTH}/login", json={key: name, "password": PASSWORD})
        assert said["message"] == "Login successful" and set(said) == {"success", "message", "session", "user"}
        assert set(said["session"]) == {"id", "token", "name", "created_at"}
        assert set(said["user"]) == {"id", "username", "email"}
        assert uuid.UUID(kept(said["session"]["token"])).version == 4
        answers.append(said["session"])
    assert len({answer["id"] for answer in answers}) == 1 and isinstance(answers[0]["id"], int)
    assert len({answer["token"] for answer in answers}) == 3
    # Each device has its own: all are good.
    assert all(ada.passes(answer["token"]) for answer in answers)
    # A log-in of another API is no conversation, and is not resumed.
    ada.app()
    resumed = ada.done("GET", f"{AUTH}/me", ada.session())["current_session"]
    assert resumed["id"] == answers[0]["id"]


def test_a_wrong_password_and_bad_bodies(ada):
    for name in (ada.name, "nobody-at-all", ""):
        body = {"username": name, "password": "wrong horse battery"}
        refused(ada.call("POST", f"{AUTH}/login", json=body), 401, "Invalid credentials")
    json = {"content-type": "application/json"}
    refused(ada.call("POST", f"{AUTH}/login", headers=json, content="{"), 400)
    refused(ada.call("POST", f"{AUTH}/login", json={"password": "b"}), 400)
    refused(ada.call("POST", f"{AUTH}/login", json={"username": 7, "password": "b"}), 400)
    refused(ada.call("POST", f"{AUTH}/login", content="username=a"), 415)
    refused(ada.call("POST", f"{AUTH}/login", headers=json, content=" " * 70_000), 413)
    refused(ada.call("GET", f"{AUTH}/login"), 405)
    # Clients compare these texts: no other language.
    answer = ada.call("GET", f"{AUTH}/me", headers={"accept-language": "zh"})
    refused(answer, 401, "Invalid session")


def test_verify_and_me(ada):
    token = ada.session()
    for headers in (bearer(token), {"X-Session-Token": token}):
        said = ada.done("GET", f"{AUTH}/verify", headers=headers)
        assert (said["success"], said["valid"]) == (True, True)
        assert set(said["user"]) == {"id", "username", "email", "created_at"}
        assert {"id", "name", "created_at", "last_used_at"} <= set(said["session"])
        assert all(TIME.fullmatch(said["session"][key]) for key in ("created_at", "last_used_at"))
        said = ada.done("GET", f"{AUTH}/me", headers=headers)
        assert said["user"]["username"] == ada.name
        assert set(said["current_session"]) == {"id", "name", "created_at"}
    for bad in (None, "nonsense", str(uuid.uuid4()), token[:-1], token.upper() + "0"):
        answer = ada.call("GET", f"{AUTH}/verify", bad)
        assert answer.status_code == 401
        assert answer.json() == {"success": False, "valid": False, "error": "Invalid session"}
    # The tokens of the other APIs are as good here.
    for jwt in (ada.app(), ada.token(), ada.supabase()):
        assert ada.done("GET", f"{AUTH}/verify", jwt)["user"]["email"] == ada.email


def test_conversations(ada):
    token = ada.session()
    made = new(ada, token, "给猫的画")
    assert made["name"] == "给猫的画" and isinstance(made["id"], int)
    unnamed = ada.call("POST", f"{SESSIONS}/new", token)
    assert unnamed.status_code == 201 and unnamed.json()["session"]["name"]
    kept(unnamed.json()["session"]["token"])
    listed = ada.done("GET", SESSIONS, token)["sessions"]
    assert {one["id"] for one in listed} >= {made["id"], unnamed.json()["session"]["id"]} and len(listed) == 3
    assert all({"id", "name", "created_at", "last_used_at", "job_count"} <= set(one) for one in listed)
    assert all(one["job_count"] == 0 and one["id"] < 1_000_000 for one in listed)
    path = f"{SESSIONS}/{made['id']}"
    shown = ada.done("GET", path, token)
    assert shown["session"]["name"] == "给猫的画" and shown["jobs"] == []
    assert ada.done("GET", f"{SESSIONS}/current/jobs", made["token"])["jobs"] == []
    renamed = ada.done("PATCH", path, token, json={"name": "dogs"})
    assert (renamed["message"], renamed["session"]["name"]) == ("Session updated", "dogs")
    for bad in ("", " ", "a\nb", "x" * 201):
        refused(ada.call("PATCH", path, token, json={"name": bad}), 400)
    assert ada.passes(made["token"])
    assert ada.done("DELETE", path, token)["message"] == "Session deleted"
    assert not ada.passes(made["token"]) and ada.passes(token)
    refused(ada.call("GET", path, token), 404, "Session not found")
    refused(ada.call("DELETE", path, token), 404, "Session not found")


def test_anothers_session_is_one_that_does_not_exist(ada, gateway):
    eve = Person(gateway).register()
    hers, mine = eve.session(), new(ada, ada.session())
    for number in (mine["id"], 999_999, 0, "-1", "1.0", "00x", "9" * 30, "%31x", str(uuid.uuid4())):
        path = f"{SESSIONS}/{number}"
        refused(eve.call("GET", path, hers), 404, "Session not found")
        refused(eve.call("PATCH", path, hers, json={"name": "mine now"}), 404, "Session not found")
        refused(eve.call("DELETE", path, hers), 404, "Session not found")
    assert mine["id"] not in {one["id"] for one in eve.done("GET", SESSIONS, hers)["sessions"]}
    assert ada.passes(mine["token"])
    for method, path in (("GET", ""), ("GET", f"/{mine['id']}"), ("POST", "/new"), ("DELETE", f"/{mine['id']}")):
        refused(ada.call(method, SESSIONS + path), 401, "Invalid session")


def test_the_upstream_sees_the_conversations_uuid(ada, recorder):
    token, again = ada.session(), ada.session()
    user = ada.done("GET", "/api/v1/base/userinfo", token)["data"]["id"]
    sessions = set()
    for headers in (bearer(token), {"X-Session-Token": again}, {"token": token}):
        assert ada.call("GET", "/behind/me", headers=headers | {"x-session-id": "1"}).status_code == 200
        seen = recorder.take()
        assert (seen.one("x-user-id"), seen.one("x-user-email")) == (user, ada.email)
        sessions.add(str(uuid.UUID(seen.one("x-session-id"))))
        assert token.encode() not in seen.raw and again.encode() not in seen.raw
    assert len(sessions) == 1


def streams(person: Person, token: str, name: str):
    """An event stream and a WebSocket of one token; with their client, to be closed."""
    client = httpx.Client(base_url=person.gateway.url, timeout=20)
    source = connect_sse(client, "GET", f"/sse/endless/{name}", headers=bearer(token))
    socket = connect(person.gateway.ws(f"/ws/echo/{name}"), additional_headers=bearer(token))
    return client, source, socket


ENDS = {
    "log-out": lambda ada, token: ada.call("POST", f"{AUTH}/logout", token),
    "global log-out": lambda ada, token: ada.call("POST", "/auth/v1/logout?scope=global", ada.supabase()),
    "deleted": lambda ada, token: ada.call(
        "DELETE", f"{SESSIONS}/{ada.done('GET', f'{AUTH}/me', token)['current_session']['id']}", ada.app()
    ),
    "password": lambda ada, token: ada.call(
        "PATCH", f"{AUTH}/me", ada.app(), json={"password": "another horse", "current_password": PASSWORD}
    ),
}


@pytest.mark.parametrize("how", ENDS)
def test_what_ends_a_token_ends_its_streams_at_once(ada, fastapi, how):
    token, name = ada.session(), uuid.uuid4().hex[:8]
    client, source, socket = streams(ada, token, name)
    with client, source as source, socket as socket:
        events = source.iter_sse()
        assert next(events).event == "tick"
        assert ENDS[how](ada, token).is_success
        assert not ada.passes(token)
        last = list(events)[-1]
        assert last.event == "auth_revoked" and last.json()["error"] == "auth_revoked"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=15)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4401, "auth_revoked")
    heard(fastapi.app, "left", name)
    refused(ada.call("GET", f"{AUTH}/me", token), 401, "Invalid session")


def test_a_log_out_ends_the_token_in_hand_and_no_other(ada):
    phone, laptop = ada.session(), ada.session()
    number = ada.done("GET", f"{AUTH}/me", phone)["current_session"]["id"]
    client, source, socket = streams(ada, laptop, "laptop")
    with client, source as source, socket as socket:
        assert ada.done("POST", f"{AUTH}/logout", phone)["message"] == "Logged out successfully"
        assert not ada.passes(phone) and ada.passes(laptop)
        socket.send("still here")
        assert socket.recv(timeout=15) == "still here"
    refused(ada.call("POST", f"{AUTH}/logout", phone), 401)
    # The conversation outlives it, and is resumed.
    assert ada.done("POST", f"{AUTH}/logout", laptop)
    assert ada.done("GET", f"{AUTH}/me", ada.session())["current_session"]["id"] == number


def test_a_session_of_another_api_is_listed_until_it_is_deleted(ada):
    token, jwt = ada.session(), ada.app()
    number = ada.done("GET", f"{AUTH}/me", jwt)["current_session"]["id"]
    assert ada.done("POST", f"{AUTH}/logout", jwt)["success"] and not ada.passes(jwt)
    listed = {one["id"]: one["is_active"] for one in ada.done("GET", SESSIONS, token)["sessions"]}
    assert listed[number] is False and list(listed.values()).count(True) == 1
    assert ada.done("GET", f"{SESSIONS}/{number}", token)["session"]["is_active"] is False
    assert ada.done("DELETE", f"{SESSIONS}/{number}", token)["success"]


def test_a_changed_password_ends_every_other_token(ada):
    here, there = ada.session(), ada.session()
    others = [there, new(ada, here)["token"], ada.app(), ada.token(), ada.supabase()]
    assert all(map(ada.passes, others))
    change = {"password": "a better horse", "current_password": "not this one"}
    refused(ada.call("PATCH", f"{AUTH}/me", here, json=change), 403)
    refused(ada.call("PATCH", f"{AUTH}/me", here, json={"password": "a better horse"}), 400)
    refused(ada.call("PATCH", f"{AUTH}/me", here, json={"password": "short", "current_password": PASSWORD}), 400)
    assert all(map(ada.passes, others))
    said = ada.done("PATCH", f"{AUTH}/me", here, json=change | {"current_password": PASSWORD})
    assert said["user"]["username"] == ada.name
    assert not any(map(ada.passes, others)) and ada.passes(here)
    refused(ada.call("POST", f"{AUTH}/login", json={"username": ada.name, "password": PASSWORD}), 401)
    ada.password = "a better horse"
    assert all(map(ada.passes, (ada.session(), ada.app(), ada.token(), ada.supabase())))


def test_a_changed_name_is_the_name_everywhere(ada, gateway):
    token, eve = ada.session(), Person(gateway).register()
    refused(ada.call("PATCH", f"{AUTH}/me", token, json={"username": eve.name.upper()}), 409, "Username already exists")
    refused(ada.call("PATCH", f"{AUTH}/me", token, json={"email": eve.email}), 409, "Email already exists")
    refused(ada.call("PATCH", f"{AUTH}/me", token, json={}), 400)
    old, ada.name = ada.name, f"lovelace-{uuid.uuid4().hex[:8]}"
    said = ada.done("PATCH", f"{AUTH}/me", token, json={"username": ada.name, "email": ada.email})
    assert (said["user"]["username"], said["user"]["email"]) == (ada.name, ada.email)
    assert ada.passes(token) and ada.passes(ada.app()) and ada.passes(ada.supabase())
    refused(ada.call("POST", f"{AUTH}/login", json={"username": old, "password": PASSWORD}), 401)


def test_users_and_conversations_outlive_a_restart(start, tmp_path):
    first = start(config(), tmp_path)
    ada = Person(first).register()
    token = ada.session()
    gone, named = ada.session(), new(ada, token, "kept")
    assert ada.done("POST", f"{AUTH}/logout", gone)
    before = ada.done("GET", SESSIONS, token)["sessions"]
    first.stop()
    ada.gateway = start(config(), tmp_path)
    after = ada.done("GET", SESSIONS, token)["sessions"]
    assert {one["id"]: one["name"] for one in after} == {one["id"]: one["name"] for one in before}
    assert "kept" in {one["name"] for one in after}
    assert ada.passes(named["token"]) and not ada.passes(gone)
    assert new(ada, token)["id"] > max(one["id"] for one in before)
