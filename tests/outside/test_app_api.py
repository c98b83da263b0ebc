"""The app API by an ordinary HTTP client, and what its tokens are good for elsewhere."""

import re
import threading
import time
import uuid

import httpx
import jwt
import pytest
from harness.accounts import APP, PASSWORD, Person, at_once, config, kept
from harness.app import heard
from harness.tokens import bearer, mint
from httpx_sse import connect_sse
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

pytestmark = pytest.mark.timeout(120)
CHINESE, ENGLISH = {"accept-language": "zh-CN,zh;q=0.9"}, {"accept-language": "en"}


@pytest.fixture(scope="module")
def gateway(start):
    return start(config())


@pytest.fixture(scope="module")
def brief(start):
    """Tokens of the app API live for a second, and can be renewed for as long as a test takes."""
    return start(config(app='access_ttl = "1s"'))


@pytest.fixture
def ada(gateway):
    return Person(gateway).register()


def claims(token: str) -> dict:
    """What a token says, unverified."""
    return jwt.decode(token, options={"verify_signature": False})


def refused(answer, status: int, msg: str | None = None):
    """Holds a failure against the envelope."""
    body = answer.json()
    assert (answer.status_code, body["code"], body["data"]) == (status, status, None), answer.text
    assert set(body) == {"code", "data", "msg"} and body["msg"]
    assert msg is None or body["msg"] == msg


def expire(token: str):
    """Waits until the token has expired."""
    while time.time() <= claims(token)["exp"]:
        time.sleep(0.05)


def test_a_log_in_answers_the_envelope(ada):
    for name in (ada.name, ada.name.upper(), ada.email, ada.email.title()):
        answer = ada.call("POST", f"{APP}/access_token", json={"username": name, "password": PASSWORD})
        body = answer.json()
        kept(body["data"].get("access_token"))
        assert (answer.status_code, body["code"], body["msg"]) == (200, 200, "success")
        assert set(body["data"]) == {"access_token", "token_type"} and body["data"]["token_type"] == "bearer"
        assert answer.headers["cache-control"] == "no-store"


def test_userinfo_by_header_and_by_bearer(ada):
    token = ada.app()
    by_header = ada.done("GET", f"{APP}/userinfo", headers={"token": token})
    assert by_header == ada.done("GET", f"{APP}/userinfo", token)
    data = by_header["data"]
    assert uuid.UUID(data["id"]) and data["id"] == claims(token)["sub"]
    assert data | {"id": ""} == {
        "id": "",
        "username": ada.name,
        "email": ada.email,
        "avatar": None,
        "roles": [],
        "is_superuser": False,
        "is_active": True,
    }
    assert ada.done("GET", f"{APP}/usermenu", token)["data"] == []


def test_the_first_admin_has_the_role_and_its_menu(gateway):
    root = Person(gateway, "root", "the keys of the house")
    token = root.app()
    data = root.done("GET", f"{APP}/userinfo", token)["data"]
    assert (data["username"], data["roles"], data["is_superuser"]) == ("root", ["admin"], True)
    assert root.done("GET", f"{APP}/usermenu", token)["data"] == [{"name": "Users", "path": "/users"}]


def test_a_user_of_any_api_is_a_user_of_this_one(gateway):
    mona = Person(gateway)
    body = {"username": mona.name, "email": mona.email, "password": PASSWORD}
    assert mona.call("POST", "/auth/register", json=body).status_code == 201
    users = [claims(log_in())["sub"] for log_in in (mona.app, mona.token, mona.supabase)]
    users.append(mona.done("GET", f"{APP}/userinfo", mona.session("email"))["data"]["id"])
    users.append(claims(mona.app(mona.email))["sub"])
    users.append(claims(mona.token(mona.email))["sub"])
    assert len(set(users)) == 1
    via_supabase = Person(gateway)
    body = {"email": via_supabase.email, "password": PASSWORD}
    kept(via_supabase.done("POST", "/auth/v1/signup", json=body)["access_token"])
    data = via_supabase.done("GET", f"{APP}/userinfo", via_supabase.app(via_supabase.email))["data"]
    assert data["email"] == via_supabase.email


@pytest.mark.parametrize("language, wrong", [(CHINESE, "用户名或密码错误"), (ENGLISH, "Wrong username or password")])
def test_wrong_password_and_unknown_name_are_one_answer(ada, language, wrong):
    nobody = f"nobody-{uuid.uuid4().hex[:8]}"
    for name in (ada.name, ada.email, nobody, f"{nobody}@mail.example", "", "\u202e", "a" * 500):
        body = {"username": name, "password": "wrong horse battery"}
        refused(ada.call("POST", f"{APP}/access_token", json=body, headers=language), 401, wrong)


@pytest.mark.parametrize(
    "status, given, zh, en",
    [
        (400, {"content": "{"}, "请求体不是有效的JSON对象", "The body is not a well-formed JSON object"),
        (400, {"content": "[]"}, "请求体不是有效的JSON对象", "The body is not a well-formed JSON object"),
        (400, {"content": b"\xff"}, "请求体不是有效的JSON对象", "The body is not a well-formed JSON object"),
        (400, {"content": '{"username":"a"}'}, "缺少字段：password", "Missing field: password"),
        (400, {"content": '{"username":1,"password":"b"}'}, "字段无效：username", "Invalid field: username"),
        (415, {"kind": "text/plain", "content": "{}"}, None, None),
        (415, {"kind": "application/x-www-form-urlencoded", "content": "username=a&password=b"}, None, None),
        (413, {"content": '{"username":"' + "a" * 70_000 + '"}'}, None, None),
    ],
)
def test_bad_bodies_are_told_in_both_languages(ada, status, given, zh, en):
    for language, msg in ((CHINESE, zh), (ENGLISH, en)):
        headers = language | {"content-type": given.get("kind", "application/json")}
        answer = ada.call("POST", f"{APP}/access_token", headers=headers, content=given["content"])
        refused(answer, status, msg)
        is_chinese = any("一" <= letter <= "鿿" for letter in answer.json()["msg"])
        assert is_chinese == (language is CHINESE)


def test_what_is_no_call(ada):
    answer = ada.call("GET", f"{APP}/access_token")
    refused(answer, 405)
    assert answer.headers["allow"] == "POST, OPTIONS"
    answer = ada.call("OPTIONS", f"{APP}/userinfo")
    assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    for path in ("/userinfo/", "/Userinfo", "/none", ""):
        assert ada.call("GET", APP + path).status_code == 404


def test_without_a_good_token_there_is_no_user(ada):
    token = ada.app()
    head, body, signature = token.split(".")
    for given in (None, "nonsense", f"{head}.{body}.{signature[::-1]}", mint("stranger"), str(uuid.uuid4())):
        for method, path in (("GET", "/userinfo"), ("GET", "/usermenu"), ("POST", "/refresh_token")):
            answer = ada.call(method, APP + path, headers={"token": given} if given else {})
            refused(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
    two = {"token": token} | bearer(ada.app())
    refused(ada.call("GET", f"{APP}/userinfo", headers=two), 400)
    same = {"token": token} | bearer(token)
    assert ada.call("GET", f"{APP}/userinfo", headers=same).status_code == 200


def test_guesses_have_to_wait_and_are_told_so_in_the_envelope(start):
    person = Person(start(config(attempts='free = 2\ndelay = "60s"'))).register()
    body = {"username": person.name, "password": "wrong horse battery"}
    answers = [person.call("POST", f"{APP}/access_token", json=body, headers=CHINESE) for _ in range(4)]
    assert [answer.status_code for answer in answers][:2] == [401, 401]
    refused(answers[-1], 429, "请求过于频繁，请稍后再试")
    assert int(answers[-1].headers["retry-after"]) > 0
    # The others of the house are not shut out.
    assert Person(person.gateway).register().app()


def test_a_token_is_renewed_by_several_at_once(ada):
    token = ada.app()
    answers = at_once(8, lambda: ada.done("POST", f"{APP}/refresh_token", headers={"token": token})["data"])
    for answer in answers:
        fresh = kept(answer["access_token"])
        assert answer["token_type"] == "bearer"
        assert claims(fresh)["session_id"] == claims(token)["session_id"]
        assert ada.passes(fresh)
    assert ada.passes(token)


def test_an_expired_token_is_renewed_by_several_at_once(brief):
    ada = Person(brief).register()
    token = ada.app()
    expire(token)
    refused(ada.call("GET", f"{APP}/userinfo", headers={"token": token}), 401)
    assert ada.call("GET", "/behind/late", token).json()["error"] == "token_expired"
    answers = at_once(8, lambda: ada.done("POST", f"{APP}/refresh_token", headers={"token": token})["data"])
    assert {claims(kept(answer["access_token"]))["session_id"] for answer in answers} == {claims(token)["session_id"]}


def test_an_expired_token_of_an_ended_session_is_not_renewed(brief):
    ada = Person(brief).register()
    token = ada.app()
    assert ada.call("POST", "/auth/v1/logout?scope=global", ada.supabase()).status_code == 204
    expire(token)
    refused(ada.call("POST", f"{APP}/refresh_token", headers={"token": token}), 401)
    head, body, _ = ada.app().split(".")
    refused(ada.call("POST", f"{APP}/refresh_token", headers={"token": f"{head}.{body}.c2lnbmVk"}), 401)


@pytest.mark.parametrize(
    "language, msg",
    [(CHINESE, "Token过期时间超过1秒，请重新登录"), (ENGLISH, "The token expired more than 1 second ago; log in again")],
)
def test_a_token_that_expired_too_long_ago_is_not_renewed(start, language, msg):
    ada = Person(start(config(app='access_ttl = "1s"\nrenew_within = "1s"'))).register()
    token = ada.app()
    while time.time() <= claims(token)["exp"] + 2:
        time.sleep(0.05)
    refused(ada.call("POST", f"{APP}/refresh_token", headers=language | {"token": token}), 401, msg)


def test_the_upstream_sees_who_it_is_and_no_token(ada, recorder):
    for token in (ada.app(), ada.token(), ada.supabase()):
        said = claims(token)
        spoofed = {"x-user-id": "root", "X_Session_Id": "1", "token": token}
        assert ada.call("GET", "/behind/me", headers=spoofed).status_code == 200
        seen = recorder.take()
        assert seen.one("x-user-id") == said["sub"] and seen.one("x-session-id") == said["session_id"]
        assert str(uuid.UUID(seen.one("x-session-id"))) == said["session_id"]
        assert (seen.one("x-user-email"), seen.one("x-auth-status")) == (ada.email, "authenticated")
        assert token.encode() not in seen.raw


def test_a_log_out_elsewhere_ends_the_token_with_its_streams(ada, fastapi):
    """The same user, two sessions of the app API; one is ended, with all that hangs on it, at once."""
    ended, other = ada.app(), ada.app()
    name = uuid.uuid4().hex[:8]
    with httpx.Client(base_url=ada.gateway.url, timeout=20) as client:
        with (
            connect_sse(client, "GET", f"/sse/endless/{name}", headers=bearer(ended)) as source,
            connect(ada.gateway.ws(f"/ws/echo/{name}"), additional_headers=bearer(ended)) as socket,
            connect(ada.gateway.ws(f"/ws/echo/{name}-other"), additional_headers=bearer(other)) as spared,
        ):
            events = source.iter_sse()
            assert next(events).event == "tick"
            socket.send("hello")
            assert socket.recv(timeout=15) == "hello"
            assert ada.call("POST", "/auth/logout", ended).status_code == 200
            assert not ada.passes(ended)
            last = list(events)[-1]
            assert last.event == "auth_revoked" and last.json()["error"] == "auth_revoked"
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(timeout=15)
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4401, "auth_revoked")
            spared.send("still here")
            assert spared.recv(timeout=15) == "still here"
    heard(fastapi.app, "left", name)
    refused(ada.call("GET", f"{APP}/userinfo", headers={"token": ended}), 401)
    refused(ada.call("POST", f"{APP}/refresh_token", headers={"token": ended}), 401)
    assert ada.passes(other)


def test_a_log_out_races_with_renewals(ada):
    """Whatever a renewal gave while its session ended is no good afterwards."""
    token = ada.app()
    got = []

    def renew():
        while (answer := ada.call("POST", f"{APP}/refresh_token", headers={"token": token})).status_code == 200:
            got.append(kept(answer.json()["data"]["access_token"]))
        refused(answer, 401)

    threads = [threading.Thread(target=renew) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(got) < 8:
        time.sleep(0.01)
    assert ada.call("POST", "/auth/logout", token).status_code == 200
    for thread in threads:
        thread.join()
    assert not any(ada.passes(token) for token in got[-8:])


def test_users_and_tokens_outlive_a_restart(start, tmp_path):
    first = start(config(), tmp_path)
    ada = Person(first).register()
    live, ended, opaque = ada.app(), ada.app(), ada.session()
    assert ada.call("POST", "/auth/logout", ended).status_code == 200
    assert ada.passes(live) and ada.passes(opaque)
    first.stop()
    ada.gateway = start(config(), tmp_path)
    assert ada.passes(live) and ada.passes(opaque) and not ada.passes(ended)
    fresh = kept(ada.done("POST", f"{APP}/refresh_token", headers={"token": live})["data"]["access_token"])
    assert claims(fresh)["session_id"] == claims(live)["session_id"]
    assert claims(ada.app())["sub"] == claims(live)["sub"]
    again = {"username": ada.name.upper(), "email": "other@mail.example", "password": PASSWORD}
    assert ada.call("POST", "/api/auth/register", json=again).status_code == 409
    for name in ("portcullis.db", "portcullis.secret"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("portcullis.db*"))
    assert not any(secret.encode() in stored for secret in (PASSWORD, live, opaque))
    assert not re.search(rb"-----BEGIN", stored)
