"""The Supabase API by the clients it is made for, unmodified: supabase-js from npm, supabase-auth from PyPI."""

import base64
import json
import os
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest
from harness.gateway import ROOT
from harness.supabase import ANONS, PASSWORD, SERVICES, Client, address, config, mail
from supabase_auth import SyncMemoryStorage
from supabase_auth.errors import (
    AuthApiError,
    AuthInvalidJwtError,
    AuthRetryableError,
    AuthWeakPasswordError,
)

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def gateway(start):
    """As it comes: ES256, anybody may sign up, addresses are taken at their word."""
    return start(config())


@pytest.fixture(scope="module")
def strict(start):
    """A spent refresh token gets no second chance."""
    return start(config('refresh_reuse = "0s"'))


@pytest.fixture(scope="module")
def confirming(start):
    """Addresses must be confirmed."""
    return start(config("confirm_email = true"))


@pytest.fixture(scope="module")
def closed(start):
    """Nobody may sign up."""
    return start(config("sign_up = false\nanonymous = false"))


def scenario(gateway, name: str, algorithm: str = "ES256"):
    """Runs one scenario of `clients/supabase/` under Node."""
    modules = Path(os.environ.get("OUTSIDE_NODE_MODULES", ROOT / "tests" / ".cache" / "npm" / "node_modules"))
    given = {
        "url": gateway.url,
        "issuer": "https://gateway.test/auth/v1",
        "anon": ANONS[0],
        "service": SERVICES[0],
        "anons": ANONS,
        "services": SERVICES,
        "mails": str(gateway.file.with_name("mails.jsonl")),
        "algorithm": algorithm,
    }
    done = subprocess.run(
        ["node", str(HERE / "clients" / "supabase" / "run.mjs"), name, json.dumps(given)],
        env=os.environ | {"OUTSIDE_NODE_MODULES": str(modules)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "sessions.journey",
        "sessions.refusals",
        "sessions.refreshing",
        "sessions.setting",
        "sessions.claims",
        "sessions.scopes",
        "users.updating",
        "users.changingEmail",
        "users.anonymous",
        "users.around",
        "mails.recovery",
        "mails.magic",
        "mails.reauthenticating",
        "links.following",
        "links.refused",
        "links.inviting",
        "links.generating",
        "admin.users",
        "admin.bans",
        "admin.deletion",
        "admin.strangers",
        "admin.keys",
    ],
)
def test_javascript(gateway, name):
    scenario(gateway, name)


def test_javascript_theft(strict):
    scenario(strict, "sessions.theft")


def test_javascript_confirmation(confirming):
    scenario(confirming, "mails.confirmation")


def test_javascript_lists_users_by_pages(start):
    # A gateway of its own: the client reads one digit of a page's number.
    scenario(start(config()), "admin.lists")


def test_javascript_closed(closed):
    scenario(closed, "users.closed")


@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
def test_claims_by_other_algorithms(start, algorithm):
    gateway = start(config(f'algorithm = "{algorithm}"'))
    scenario(gateway, "sessions.claims", algorithm)
    scenario(gateway, "sessions.journey", algorithm)
    client, _ = member(gateway)
    assert client.get_claims()["claims"]["sub"] == client.get_session().user.id


# ── Python ──


def member(gateway, email: str | None = None) -> tuple[Client, str]:
    """A client that has just registered."""
    client, email = Client(gateway), email or address()
    answer = client.sign_up({"email": email, "password": PASSWORD, "options": {"data": {"name": "Ada"}}})
    assert answer.session and answer.user.email == email
    return client, email


def signed_in(gateway, email: str, password: str = PASSWORD) -> Client:
    """A client that has signed in."""
    client = Client(gateway)
    assert client.sign_in_with_password({"email": email, "password": password}).session
    return client


def refused(status: int, code: str | None, call, *arguments) -> AuthApiError:
    """The error of a call, which must be this one."""
    with pytest.raises(AuthApiError) as raised:
        call(*arguments)
    assert (raised.value.status, raised.value.code) == (status, code), raised.value.message
    return raised.value


def refused_sign_in(gateway, email: str, password: str, code: str = "invalid_credentials"):
    """A sign-in that must fail."""
    return refused(400, code, Client(gateway).sign_in_with_password, {"email": email, "password": password})


def test_python_goes_in_and_out(gateway):
    client, email = member(gateway)
    assert client.events == ["SIGNED_IN"]
    user = client.get_user().user
    assert user.email == email and user.user_metadata["name"] == "Ada" and not user.is_anonymous
    assert user.identities[0].provider == "email" and user.identities[0].identity_id
    session = client.get_session()
    assert session.expires_in == 3600 and session.token_type == "bearer"
    claims = client.get_claims()["claims"]
    assert claims["sub"] == user.id and claims["aal"] == "aal1" and claims["amr"][0]["method"] == "password"
    client.sign_out()
    assert client.get_session() is None
    refused(403, "session_not_found", Client(gateway).get_user, session.access_token)
    again = signed_in(gateway, email.upper())
    assert again.get_user().user.id == user.id


def test_python_is_refused(gateway):
    _, email = member(gateway)
    client = Client(gateway)
    refused(422, "user_already_exists", client.sign_up, {"email": email, "password": PASSWORD})
    wrong = refused_sign_in(gateway, email, "not this one")
    unknown = refused_sign_in(gateway, address("nobody"), "not this one")
    assert wrong.message == unknown.message == "Invalid login credentials"
    with pytest.raises(AuthWeakPasswordError) as weak:
        client.sign_up({"email": address(), "password": "short"})
    assert weak.value.reasons == ["length"]
    for token in ["not.a.token", "nonsense"]:
        refused(403, "bad_jwt", Client(gateway).get_user, token)


def test_python_refreshes_and_may_race(gateway):
    client, _ = member(gateway)
    first = client.get_session()
    second = client.refresh_session().session
    assert "TOKEN_REFRESHED" in client.events and second.refresh_token != first.refresh_token
    barrier = threading.Barrier(12)

    def refresh(_):
        racer = Client(gateway)
        barrier.wait()
        return racer.refresh_session(second.refresh_token).session

    with ThreadPoolExecutor(12) as pool:
        racers = list(pool.map(refresh, range(12)))
    assert len({session.refresh_token for session in racers}) == 1
    assert Client(gateway).set_session(first.access_token, first.refresh_token).user.id == first.user.id


def test_python_is_forgiven_one_lost_answer_and_caught_at_theft(strict):
    client, _ = member(strict)
    tokens = [client.get_session().refresh_token]
    for _ in range(3):
        tokens.append(client.refresh_session().session.refresh_token)
    assert Client(strict).refresh_session(tokens[2]).session.refresh_token == tokens[3]
    refused(400, "refresh_token_already_used", Client(strict).refresh_session, tokens[0])
    refused(400, "refresh_token_not_found", Client(strict).refresh_session, tokens[3])
    refused(403, "session_not_found", Client(strict).get_user, client.get_session().access_token)
    refused(400, "validation_failed", Client(strict).refresh_session, "short")


def test_python_sets_a_session(gateway):
    client, _ = member(gateway)
    session = client.get_session()
    live = Client(gateway)
    assert live.set_session(session.access_token, session.refresh_token).user.id == session.user.id
    head, body, signature = session.access_token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    late = base64.urlsafe_b64encode(json.dumps(claims | {"exp": int(time.time()) - 9}).encode()).decode().rstrip("=")
    expired = Client(gateway)
    answer = expired.set_session(f"{head}.{late}.{signature}", session.refresh_token)
    assert answer.session.refresh_token != session.refresh_token
    with pytest.raises(AuthInvalidJwtError):
        Client(gateway).get_claims(f"{head}.{late}.{signature}")


def test_python_updates_its_user(gateway):
    client, email = member(gateway)
    other = signed_in(gateway, email)
    user = client.update_user({"data": {"plan": "pro", "name": None}}).user
    assert user.user_metadata["plan"] == "pro" and "name" not in user.user_metadata
    refused(422, "same_password", client.update_user, {"password": PASSWORD})
    client.update_user({"password": "a new one altogether"})
    assert client.get_user()
    refused(403, "session_not_found", other.get_user)
    refused_sign_in(gateway, email, PASSWORD)
    signed_in(gateway, email, "a new one altogether")


def test_python_signs_in_anonymously_and_stays_the_same_user(gateway):
    client = Client(gateway)
    user = client.sign_in_anonymously({"options": {"data": {"theme": "dark"}}}).user
    assert user.is_anonymous and user.email == "" and user.identities == []
    email = address("anon")
    upgraded = client.update_user({"email": email, "password": PASSWORD}).user
    assert (upgraded.id, upgraded.is_anonymous, upgraded.email) == (user.id, False, email)
    client.refresh_session()
    assert client.get_claims()["claims"]["is_anonymous"] is False
    assert signed_in(gateway, email).get_user().user.id == user.id


def test_python_signs_out_in_three_scopes(gateway):
    phone, email = member(gateway)
    laptop, tablet = signed_in(gateway, email), signed_in(gateway, email)
    held = phone.get_session().access_token
    phone.sign_out({"scope": "local"})
    refused(403, "session_not_found", Client(gateway).get_user, held)
    assert laptop.get_user() and tablet.get_user()
    laptop.sign_out({"scope": "others"})
    refused(403, "session_not_found", tablet.get_user)
    assert laptop.get_user()
    held, fresh = laptop.get_session().access_token, signed_in(gateway, email)
    fresh.sign_out()
    refused(403, "session_not_found", Client(gateway).get_user, held)
    assert signed_in(gateway, email).get_user()


def test_python_resets_a_password(gateway):
    client, email = member(gateway)
    # Its own token goes with every call, also when the session is gone.
    signed_in(gateway, email).sign_out()
    client.reset_password_for_email(email, {"redirect_to": "https://app.example/reset"})
    client.reset_password_for_email(address("nobody"))
    code = mail(gateway, email)["code"]
    refused(403, "otp_expired", client.verify_otp, {"email": email, "token": "12", "type": "recovery"})
    answer = client.verify_otp({"email": email, "token": code, "type": "recovery"})
    assert answer.session and "PASSWORD_RECOVERY" in client.events or "SIGNED_IN" in client.events
    client.update_user({"password": "remembered this time"})
    signed_in(gateway, email, "remembered this time")
    refused(403, "otp_expired", Client(gateway).verify_otp, {"email": email, "token": code, "type": "recovery"})


def follow(link: str) -> dict:
    """What an application finds behind the `#` of the address that a link leads to."""
    answer = httpx.get(link)
    assert answer.status_code == 303, answer.text
    place, _, fragment = answer.headers["location"].partition("#")
    return {"place": place} | {name: values[0] for name, values in parse_qs(fragment).items()}


def test_python_invites_and_makes_links(gateway):
    admin = Client(gateway, SERVICES[0]).admin
    email = address("invited")
    invited = admin.invite_user_by_email(email, {"data": {"team": "red"}, "redirect_to": "https://app.example/welcome"}).user
    assert invited.email == email and not invited.email_confirmed_at and invited.user_metadata["team"] == "red"
    sent = mail(gateway, email)
    assert (sent["kind"], sent["redirect_to"]) == ("invite", "https://app.example/welcome")
    newcomer = Client(gateway)
    answer = newcomer.verify_otp({"token_hash": sent["token_hash"], "type": "invite"})
    assert answer.session and answer.user.id == invited.id and answer.user.email_confirmed_at
    newcomer.update_user({"password": PASSWORD})
    signed_in(gateway, email)
    refused(422, "email_exists", admin.invite_user_by_email, email)

    made = admin.generate_link({"type": "magiclink", "email": email, "options": {"redirect_to": "https://app.example/in"}})
    assert made.user.id == invited.id
    assert (made.properties.verification_type, made.properties.redirect_to) == ("magiclink", "https://app.example/in")
    link = made.properties.action_link.replace("https://gateway.test", gateway.url)
    found = follow(link)
    assert (found["place"], found["type"], found["token_type"]) == ("https://app.example/in", "magiclink", "bearer")
    client = Client(gateway)
    client.set_session(found["access_token"], found["refresh_token"])
    assert client.get_user().user.id == invited.id
    again = follow(link)
    assert (again["error"], again["error_code"]) == ("access_denied", "otp_expired") and "access_token" not in again
    code = admin.generate_link({"type": "recovery", "email": email}).properties.email_otp
    assert Client(gateway).verify_otp({"email": email, "token": code, "type": "recovery"}).session
    refused(404, "user_not_found", admin.generate_link, {"type": "recovery", "email": address("nobody")})
    refused(403, "not_admin", Client(gateway).admin.generate_link, {"type": "magiclink", "email": email})
    refused(403, "not_admin", Client(gateway).admin.invite_user_by_email, address("nobody"))
    refused(403, "not_admin", signed_in(gateway, email).admin.generate_link, {"type": "magiclink", "email": email})


@pytest.mark.parametrize("key", SERVICES)
def test_python_administers_users(gateway, key):
    client = Client(gateway, key)
    admin = client.admin
    email = address("managed")
    attributes = {"email": email, "password": PASSWORD, "email_confirm": True, "app_metadata": {"roles": ["editor"]}}
    user = admin.create_user(attributes).user
    assert user.app_metadata["roles"] == ["editor"] and user.email_confirmed_at
    refused(422, "email_exists", admin.create_user, attributes)
    assert admin.get_user_by_id(user.id).user.email == email
    assert any(one.id == user.id for one in admin.list_users())
    assert len(admin.list_users(page=1, per_page=1)) == 1
    changed = admin.update_user_by_id(user.id, {"user_metadata": {"nick": "a"}, "ban_duration": "1h"}).user
    assert changed.user_metadata["nick"] == "a"
    refused_sign_in(gateway, email, PASSWORD, "user_banned")
    admin.update_user_by_id(user.id, {"ban_duration": "none"})
    held = signed_in(gateway, email).get_session()
    # Signed in as somebody, the admin calls stay the admin's.
    client.sign_in_with_password({"email": email, "password": PASSWORD})
    assert client.admin.get_user_by_id(user.id).user.id == user.id
    admin.delete_user(user.id)
    refused(404, "user_not_found", admin.get_user_by_id, user.id)
    refused(403, "user_not_found", Client(gateway).get_user, held.access_token)
    refused(400, "refresh_token_not_found", Client(gateway).refresh_session, held.refresh_token)
    soft = admin.create_user({"email": email, "password": PASSWORD, "email_confirm": True}).user
    admin.delete_user(soft.id, should_soft_delete=True)
    assert admin.get_user_by_id(soft.id).user.email != email
    refused(403, "not_admin", Client(gateway).admin.list_users)


def test_python_with_another_key(gateway):
    refused(401, None, Client(gateway, "sb_publishable_nobody_knows_this").sign_in_anonymously)


def test_python_keeps_going_with_a_dead_token_in_its_headers(gateway):
    client, email = member(gateway)
    dead = client.get_session().access_token
    signed_in(gateway, email).sign_out()
    assert client._headers["Authorization"] == f"Bearer {dead}"
    assert client.sign_in_with_password({"email": email, "password": PASSWORD}).session
    client._headers["Authorization"] = f"Bearer {dead}"
    assert client.refresh_session().session
    client._headers["Authorization"] = f"Bearer {dead}"
    assert client.get_claims()


def test_a_gateway_that_is_gone_can_be_tried_again(start):
    gateway = start(config())
    client, _ = member(gateway)
    gateway.stop()
    with pytest.raises(AuthRetryableError):
        client.refresh_session()


def test_sessions_outlive_a_restart(start, tmp_path):
    gateway = start(config(), tmp_path)
    client, email = member(gateway)
    session = client.refresh_session().session
    gateway.stop()
    again = start(config(), tmp_path)
    assert Client(again).get_user(session.access_token).user.email == email
    assert Client(again).refresh_session(session.refresh_token).session
    with httpx.Client(base_url=again.url) as http:
        assert len(http.get("/auth/v1/.well-known/jwks.json").json()["keys"]) == 1


def test_another_process_with_the_same_storage_may_race(gateway):
    """Two processes of one application share a storage, not a lock."""
    client, _ = member(gateway)
    stored = client.get_session()
    storages = [SyncMemoryStorage() for _ in range(2)]
    answers = []

    def run(storage):
        other = Client(gateway)
        other._storage = storage
        for _ in range(5):
            answers.append(other.refresh_session(stored.refresh_token).session.refresh_token)

    threads = [threading.Thread(target=run, args=(storage,)) for storage in storages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 10 and len(set(answers)) == 1
