"""Whose requests may name a job: who its owner is, and every way to name it."""

import gzip
import json
import uuid
from urllib.parse import quote

import httpx
import pytest
from harness import accounts
from harness.accounts import SESSIONS, Person
from harness.jobs import hidden, owns, tells, token
from harness.tokens import bearer
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

pytestmark = pytest.mark.timeout(120)


def test_issuer_subject_and_session_tell_owners_apart(odd):
    job, session = uuid.uuid4().hex, str(uuid.uuid4())
    asked = {"body": json.dumps({"job_id": job})}
    httpx.post(f"{odd.url}/odd", json=asked, headers=token("ada", session_id=session)).raise_for_status()
    assert owns(odd, "ada", job) and not owns(odd, "Ada", job) and not owns(odd, "ada ", job)

    def here(**claims) -> int:
        return httpx.get(f"{odd.url}/in-session", params={"job_id": job}, headers=token("ada", **claims)).status_code

    assert here(session_id=session) == 200
    assert here() == 404 and here(session_id=...) == 404
    nowhere = uuid.uuid4().hex
    asked = {"body": json.dumps({"job_id": nowhere})}
    httpx.post(f"{odd.url}/odd", json=asked, headers=token("ada", session_id=...)).raise_for_status()
    answer = httpx.get(f"{odd.url}/in-session", params={"job_id": nowhere}, headers=token("ada", session_id=...))
    hidden(answer)
    assert owns(odd, "ada", nowhere)


HOUSE = """
[[upstream]]
name = "studio"
endpoints = ["http://${STUDIO}"]

[[route]]
name = "generate"
path = "/api/generate-mod"
upstream = "studio"

[[route.capture]]
id = "/job_id"
status = "/status"

[[route]]
name = "status"
path = "/api/status/{job_id}"
upstream = "studio"

[[route.guard]]
path = ["job_id"]

[[route]]
name = "select"
path = "/api/jobs/{job_id}/select-image"
upstream = "studio"

[[route.guard]]
path = ["job_id"]
scope = "session"
"""


def test_jobs_belong_to_the_session_of_any_credential_of_the_gateway_s_own(start, service):
    """Opaque tokens and JWTs, of all log-in APIs."""
    gateway = start(accounts.config() + HOUSE, STUDIO=service.address)
    ada, bob = Person(gateway).register(), Person(gateway).register()
    credentials = {"session": ada.session(), "app": ada.app(), "token": ada.token(), "supabase": ada.supabase()}
    jobs = {
        api: ada.done("POST", "/api/generate-mod", credential, json={})["job_id"] for api, credential in credentials.items()
    }
    other = bob.session()
    for api, credential in credentials.items():
        (job,) = ada.done("GET", f"{SESSIONS}/current/jobs", credential)["jobs"]
        assert (job["job_id"], job["status"]) == (jobs[api], "queued")
        for made, job in jobs.items():
            assert ada.done("GET", f"/api/status/{job}", credential)["job_id"] == job
            here = ada.call("POST", f"/api/jobs/{job}/select-image", credential)
            assert here.status_code == 200 if made == api else hidden(here) is None, (api, made)
    listed = ada.done("GET", SESSIONS, credentials["session"])["sessions"]
    assert sorted(session["job_count"] for session in listed) == [1] * 4
    for session in listed:
        (job,) = ada.done("GET", f"{SESSIONS}/{session['id']}", credentials["session"])["jobs"]
        hidden(bob.call("GET", f"/api/status/{job['job_id']}", other))
        if job["job_id"] != jobs["session"]:
            ada.done("DELETE", f"{SESSIONS}/{session['id']}", credentials["session"])
            hidden(ada.call("GET", f"/api/status/{job['job_id']}", credentials["session"]))
    assert ada.done("GET", f"/api/status/{jobs['session']}", credentials["session"])["job_id"] == jobs["session"]


def test_guests_own_nothing_and_a_role_may_see_all(odd, service):
    job = uuid.uuid4().hex
    service.app.jobs[job] = {"job_id": job, "prompt": "x"}
    tells(odd, "ada", {"job_id": job})
    status = f"{odd.url}/api/status/{job}"
    hidden(httpx.get(status))
    hidden(httpx.get(status, headers=bearer("not a token")))
    assert httpx.get(status, headers=token("ada")).status_code == 200
    assert httpx.get(status, headers=token("eve", role="admin")).status_code == 200
    hidden(httpx.get(status, headers=token("eve")))


def test_a_query_that_can_be_read_in_two_ways_is_refused(odd, recorder):
    job, other = uuid.uuid4().hex, uuid.uuid4().hex
    tells(odd, "ada", {"job_id": job})
    tells(odd, "bob", {"job_id": other})
    for query, status in (
        (f"job_id={job}", 200),
        (f"x=1&job%5fid={job}", 200),
        (f"job_id={job}&job_id={job}", 400),
        (f"job_id={job}&job_id={other}", 400),
        (f"job_id={job};job_id={other}", 400),
        (f"x=1;job_id={other}&job_id={job}", 400),
        (f"job_id={job}&JOB_ID={other}", 400),
        (f"job_id={job}&job_id[]={other}", 400),
        (f"job_id[]={other}", 400),
        (f"job_id={other}", 404),
        ("job_id=", 404),
        ("", 404),
    ):
        answer = httpx.get(f"{odd.url}/view?{query}", headers=token("ada"))
        assert answer.status_code == status, query
        if status == 400:
            assert answer.json()["error"] == "job_ambiguous"


def test_files_whose_names_differ_by_encoding_alone_are_two(odd, service):
    """Each is read once: what one name is when it is read again is another's."""
    mark = uuid.uuid4().hex
    names = [f"a b-{mark}", f"a%20b-{mark}", f"a%2520b-{mark}", f"\u00e9-{mark}", f"e\u0301-{mark}", f"A b-{mark}", f"a+b-{mark}"]
    owners = {f"owner-{at}": name for at, name in enumerate(names)}
    for owner, name in owners.items():
        service.app.files[name] = f"{owner}'s bytes"
        tells(odd, owner, {"job_id": uuid.uuid4().hex, "file": f"/downloads/{quote(name)}"})
    for owner in owners:
        for maker, name in owners.items():
            answer = httpx.get(f"{odd.url}/downloads/{quote(name)}", headers=token(owner))
            if owner == maker:
                assert answer.text == f"{owner}'s bytes", name
            else:
                hidden(answer)


def test_a_body_names_a_job_and_goes_on_byte_for_byte(odd, service):
    job, other = uuid.uuid4().hex, uuid.uuid4().hex
    tells(odd, "ada", {"job_id": job})
    tells(odd, "bob", {"job_id": other})

    def send(body, **headers) -> int:
        headers = token("ada") | {"content-type": "application/json"} | headers
        return httpx.post(f"{odd.url}/body", content=body, headers=headers, timeout=20).status_code

    good = f'  {{ "x": 1e2, "job_id" : "{job}", "é": [] }}\n'.encode()
    for body in (good, iter([good[:7], good[7:]])):
        assert send(body) == 200
        raw, headers = service.app.bodies[-1]
        assert raw == good
        assert headers.get("content-length", str(len(good))) == str(len(good))
    count = len(service.app.bodies)
    assert send(json.dumps({"job_id": other})) == 404
    assert send("{}") == 404
    assert send("") == 404
    assert send(f'{{"job_id":"{job}","job_id":"{other}"}}') == 400
    assert send(f'{{"job_id":"{job}","Job_ID":"{other}"}}') == 400
    assert send(f"job_id={job}", **{"content-type": "application/x-www-form-urlencoded"}) == 400
    assert send(gzip.compress(good), **{"content-encoding": "gzip"}) == 400
    assert send(json.dumps({"job_id": job, "x": "x" * 70_000})) == 413
    assert send(iter([good] * 2000)) == 413
    assert len(service.app.bodies) == count, "the service was asked"


def test_what_nobody_owns_may_pass_for_a_while(odd, recorder):
    job = uuid.uuid4().hex

    def gradual(who: str, job: str) -> int:
        return httpx.get(f"{odd.url}/gradual", params={"job_id": job}, headers=token(who)).status_code

    assert gradual("bob", job) == 200
    tells(odd, "ada", {"job_id": job})
    assert gradual("bob", job) == 404 and gradual("ada", job) == 200
    for odd_name in (f"{job}%2e", f"x/../{job}", f"../{job}", f"{job}\\", f" {job}", f"{job}?", "ü"):
        assert gradual("bob", odd_name) == 404, odd_name


def test_guarded_streams_are_their_owners(odd, service):
    job = uuid.uuid4().hex
    before = len(service.app.seen)
    hidden(httpx.get(f"{odd.url}/watch/{job}/events", headers=token("bob") | {"accept": "text/event-stream"}))
    with pytest.raises(InvalidStatus) as refused:
        connect(odd.ws(f"/guarded/{job}"), additional_headers=token("bob"))
    assert refused.value.response.status_code == 404
    assert service.app.seen[before:] == []
