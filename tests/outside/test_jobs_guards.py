"""Whose requests may name a job: who its owner is, and every way to name it."""

import gzip
import json
import uuid

import httpx
import pytest
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
