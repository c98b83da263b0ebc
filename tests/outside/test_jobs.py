"""Jobs of a service that knows no users, as their owners and strangers find them: two users, one service, one gateway or
several."""

import json
import time
import uuid

import httpx
import pytest
from harness import studio
from harness.accounts import SESSIONS, Person, at_once
from harness.examples import hurried
from harness.gateway import config
from harness.jobs import ROUTES, hidden, owns, tells, token
from harness.postgres import Relay, database
from harness.raw import Reply, ask, request
from harness.replicas import until
from harness.serve import serving
from starlette.middleware.cors import CORSMiddleware

pytestmark = pytest.mark.timeout(120)


def original(service) -> str:
    """`examples/jobs/original.toml` in front of this service."""
    return hurried("jobs", {"http://127.0.0.1:8000": f"http://{service.address}"}, "original.toml")


@pytest.fixture(scope="module")
def example(start, service):
    return start(original(service))


class User(Person):
    """Somebody who makes things."""

    def log_in(self):
        self.credential = self.register().session()
        return self

    def make(self, prompt: str = "iron", **more) -> str:
        return self.done("POST", "/api/generate-mod", self.credential, json={"prompt": prompt} | more)["job_id"]

    def asks(self, method: str, path: str, **more) -> httpx.Response:
        return self.call(method, path, self.credential, **more)


# ── The example ──


def test_a_job_and_its_files_are_their_maker_s(example, service):
    ada, bob = User(example).log_in(), User(example).log_in()
    job = ada.make()
    status = ada.asks("GET", f"/api/status/{job}")
    assert status.json()["status"] == "completed"
    file = status.json()["download_url"]
    assert ada.asks("GET", file).text == f"the bytes of {job}"
    image = ada.asks("POST", f"/api/jobs/{job}/regenerate-images", json={}).json()["images"][0]["url"]
    assert ada.asks("GET", image).text == f"a picture of {job}"
    assert ada.asks("POST", f"/api/jobs/{job}/select-image", json={}).json()["status"] == "selected"
    before = len(service.app.seen)
    for method, path in (
        ("GET", f"/api/status/{job}"),
        ("HEAD", f"/api/status/{job}"),
        ("GET", file),
        ("GET", image),
        ("POST", f"/api/jobs/{job}/select-image"),
        ("POST", f"/api/jobs/{job}/regenerate-images"),
        ("GET", "/api/status/nobody-s"),
        ("GET", "/downloads/nobody-s.zip"),
    ):
        answer = bob.asks(method, path)
        assert answer.status_code == 404, path
        method == "HEAD" or hidden(answer)
        assert httpx.request(method, example.url + path).status_code == 401, path
    assert service.app.seen[before:] == [], "the service was asked"


def test_what_stands_in_the_way_of_a_name_leads_to_nobody_s_bytes(example, service):
    """Spellings of another's job and file."""
    ada, bob = User(example).log_in(), User(example).log_in()
    hers, his = ada.make(), bob.make()
    file = ada.asks("GET", f"/api/status/{hers}").json()["download_url"]
    name = file.rsplit("/", 1)[1]
    before = len(service.app.seen)
    for spelling in (
        f"/api/status/{hers}/",
        f"/api/status/{hers.upper()}",
        f"/api/status/%{ord(hers[0]):x}{hers[1:]}",
        f"/api/status/%25{ord(hers[0]):x}{hers[1:]}",
        f"/api/status/{his}/../{hers}",
        f"/api/status/{his}%2f..%2f{hers}",
        f"/api/status/{his};/{hers}",
        f"/api/status/{hers};x=1",
        f"/api/status/{hers}.",
        f"/api/status/{hers}%20",
        f"/api/status/{hers}%00",
        f"/api/status//{hers}",
        f"/api//status/{hers}",
        f"/API/status/{hers}",
        f"/Api/Status/{hers}",
        f"/api/status/{his}/{hers}",
        f"/downloads/{name}%3f",
        f"/downloads/./{name}",
        f"/downloads/x/..%5c{name}",
        f"/Downloads/{name}",
        f"/downloads/{name.replace('.zip', '.ZIP')}",
        f"/downloads/{name.replace('.', '%2e')}",
        f"/downloads/{name.replace('.', '%252e')}",
    ):
        head = f"GET {spelling} HTTP/1.1\r\nhost: gateway.test\r\nauthorization: Bearer {bob.credential}\r\nconnection: close\r\n\r\n"
        assert ask(example.address, head.encode()).status in (400, 404), spelling
    assert service.app.seen[before:] == [], "the service was asked"


def test_a_preflight_tells_nothing_of_what_there_is(example, service):
    """It has no credential, and this service answers it for the jobs that there are."""
    job = User(example).log_in().make()
    assert httpx.options(f"http://{service.address}/api/status/{job}").status_code == 204
    before = len(service.app.seen)
    there, not_there = (
        preflight(example, "GET", f"/api/status/{name}") for name in (job, uuid.uuid4().hex)
    )
    assert there.status == not_there.status == 404 and there.body == not_there.body
    assert service.app.seen[before:] == [f"/api/status/{'0' * len(job)}"] * 2
    preflight(example, "GET", f"/downloads/{job}.zip?name={job}")
    assert service.app.seen[-1] == f"/downloads/{'0' * len(job)}.000"
    preflight(example, "POST", "/api/generate-mod")
    assert service.app.seen[-1] == "/api/generate-mod"


def preflight(gateway, method: str, target: str) -> Reply:
    """A browser's, and what is answered."""
    asks = ("origin: https://page.example", f"access-control-request-method: {method}", "connection: close")
    return ask(gateway.address, request(f"OPTIONS {target}", *asks))


PAGE = """
async ([address, credential]) => {
  const answer = await fetch(address, { headers: { authorization: `Bearer ${credential}` } });
  return [answer.status, await answer.text()];
}
"""


@pytest.fixture
def open_service():
    """The service as one that pages of any origin may use: it answers preflights as most do, whatever is asked for."""
    app = studio.build()
    app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["authorization"])
    yield from serving(app)


@pytest.mark.slow
def test_pages_of_another_origin_ask_for_their_jobs(start, open_service, browser):
    gateway = start(original(open_service))
    ada = User(gateway).log_in()
    job = ada.make()
    page = browser.new_page()
    page.goto(f"http://{open_service.address}/openapi.json")
    status, body = page.evaluate(PAGE, [f"{gateway.url}/api/status/{job}", ada.credential])
    assert (status, json.loads(body)["status"]) == (200, "completed")
    page.close()


def test_sessions_show_their_jobs_as_they_go_on(example):
    ada = User(example).log_in()
    first, second = ada.make("gold"), ada.make("mud")
    listed = ada.done("GET", f"{SESSIONS}/current/jobs", ada.credential)["jobs"]
    assert [job["job_id"] for job in listed] == [second, first]
    assert listed[1]["status"] == "queued" and listed[1]["progress"] == 0 and "aiDecisions" not in listed[1]
    assert listed[1]["created_at"].endswith("Z")
    ada.asks("GET", f"/api/status/{first}")
    session = ada.done("GET", SESSIONS, ada.credential)["sessions"][0]
    assert session["job_count"] == 2
    job = ada.done("GET", f"{SESSIONS}/{session['id']}", ada.credential)["jobs"][1]
    assert (job["status"], job["progress"]) == ("completed", 100)
    assert job["aiDecisions"] == {"itemName": "Sword of gold", "modName": "swords"}


def test_a_deleted_session_takes_its_jobs_and_closes_the_way_to_their_files(example, service):
    ada = User(example).log_in()
    job = ada.make()
    file = ada.asks("GET", f"/api/status/{job}").json()["download_url"]
    other = ada.done("POST", f"{SESSIONS}/new", ada.credential, json={})["session"]["token"]
    assert ada.call("GET", file, other).status_code == 200, "the scope is the user"
    session = ada.done("GET", SESSIONS, ada.credential)["sessions"]
    number = next(it["id"] for it in session if it["job_count"])
    ada.done("DELETE", f"{SESSIONS}/{number}", other)
    before = len(service.app.seen)
    hidden(ada.call("GET", file, other))
    hidden(ada.call("GET", f"/api/status/{job}", other))
    assert service.app.seen[before:] == []
    assert ada.done("GET", f"{SESSIONS}/current/jobs", other)["jobs"] == []


def test_the_first_owner_of_an_id_keeps_it(example):
    ada, bob = User(example).log_in(), User(example).log_in()
    job = uuid.uuid4().hex
    ada.make(job_id=job)
    at = len(example.out.kept)
    assert bob.make(job_id=job) == job, "his own answer passes"
    hidden(bob.asks("GET", f"/api/status/{job}"))
    assert ada.asks("GET", f"/api/status/{job}").status_code == 200
    example.out.wait(rf"audit\W+job_conflict.*generate.*{job}", at)


def test_only_good_answers_are_captured(example):
    ada = User(example).log_in()
    for status in (202, 201):
        job = uuid.uuid4().hex
        assert ada.asks("POST", "/api/generate-mod", json={"job_id": job, "answer": status}).status_code == status
        assert ada.asks("GET", f"/api/status/{job}").status_code == 200
    for status in (302, 400, 404, 500):
        job = uuid.uuid4().hex
        answer = ada.asks("POST", "/api/generate-mod", json={"job_id": job, "answer": status})
        assert answer.status_code == status
        hidden(ada.asks("GET", f"/api/status/{job}"))


def test_the_access_line_names_the_job(example):
    ada = User(example).log_in()
    at = len(example.out.kept)
    job = ada.make()
    ada.asks("GET", f"/api/status/{job}")
    example.out.wait(rf"POST.*generate.*job_id\W+{job}", at)
    example.out.wait(rf"GET.*status.*job_id\W+{job}", at)


# ── Stores ──


def test_two_replicas_over_one_database(start, service):
    url = database()
    base = config(ROUTES + f'\n[store]\nurl = "{url}"\n')
    one, other = (start(base, STUDIO=service.address) for _ in range(2))

    def race():
        job = uuid.uuid4().hex
        assert tells(one, "ada", {"job_id": job}).status_code == 200
        return owns(other, "ada", job) and not owns(other, "bob", job)

    assert all(at_once(8, lambda: all(race() for _ in range(4))))
    for _ in range(10):
        job = uuid.uuid4().hex
        places = iter([(one, "ada"), (other, "bob")] * 2)
        at_once(4, lambda: tells(*next(places), {"job_id": job}))
        owners = [[owns(place, who, job) for who in ("ada", "bob")] for place in (one, other)]
        assert owners[0] == owners[1] and sorted(owners[0]) == [False, True]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_jobs_that_are_too_many_or_too_old_are_forgotten_and_nobody_gets_them(start, service, tmp_path, kind):
    url = database() if kind == "postgres" else f"sqlite:{tmp_path / 'jobs.db'}"

    def gateway(jobs: str):
        return start(config(ROUTES + f'\n[store]\nurl = "{url}"\n[jobs]\n{jobs}\n'), STUDIO=service.address)

    def kept(gateway, who: str, ids: list[str]) -> list[bool]:
        return [owns(gateway, who, job) for job in ids]

    keeper = gateway("")
    made = {who: [uuid.uuid4().hex for _ in range(4)] for who in ("ada", "bob")}
    for who, ids in made.items():
        for job in ids:
            assert tells(keeper, who, {"job_id": job}).status_code == 200
            # Which is older is told by the millisecond.
            time.sleep(0.002)
    assert kept(keeper, "ada", made["ada"]) == [True] * 4
    keeper.stop()

    keeper = gateway("max_per_user = 2")
    for who, ids in made.items():
        until(lambda who=who, ids=ids: kept(keeper, who, ids) == [False, False, True, True], "there are too many")
    assert kept(keeper, "bob", made["ada"]) == [False] * 4
    keeper.stop()

    keeper = gateway('max_age = "1s"')
    for who, ids in made.items():
        until(lambda who=who, ids=ids: kept(keeper, who, ids) == [False] * 4, "they are too old")
    new = uuid.uuid4().hex
    tells(keeper, "ada", {"job_id": new})
    assert owns(keeper, "ada", new)


@pytest.mark.parametrize("away", ["cut", "stall"])
def test_a_store_that_is_away_or_silent(start, service, away):
    """The answer passes, and the refusal says why; where the route says so, the answer is a refusal."""
    url = database()
    route = """
    [[route]]
    name = "closed"
    host = "closed.example"
    path = "/odd"
    upstream = "studio"
    [[route.capture]]
    id = "/job_id"
    on_failure = "closed"
    """
    relay = Relay(url)
    settings = f'\n[store]\nurl = "{relay.url}"\nstatement_timeout = "10s"\n[jobs]\nstore_timeout = "500ms"\n'
    gateway = start(config(ROUTES + route + settings), STUDIO=service.address)

    def closed(body):
        headers = token("ada") | {"host": "closed.example"}
        return httpx.post(f"{gateway.url}/odd", json={"body": json.dumps(body)}, headers=headers, timeout=20)

    before, during = uuid.uuid4().hex, uuid.uuid4().hex
    tells(gateway, "ada", {"job_id": before})
    assert owns(gateway, "ada", before)
    kept = uuid.uuid4().hex
    assert closed({"job_id": kept}).json() == {"job_id": kept}
    assert owns(gateway, "ada", kept)
    getattr(relay, away)()
    at = len(gateway.out.kept)
    assert tells(gateway, "ada", {"job_id": during}).json() == {"job_id": during}
    assert during in gateway.out.wait(r'"audit":"job_not_kept"', at)
    answer = httpx.get(f"{gateway.url}/view", params={"job_id": during}, headers=token("ada"), timeout=20)
    assert (answer.status_code, answer.json()["error"]) == (503, "store_unavailable")
    refused = closed({"job_id": uuid.uuid4().hex})
    assert (refused.status_code, refused.json()["error"]) == (503, "job_not_kept")
    assert closed({"no": "job"}).json() == {"no": "job"}, "there was nothing to keep"
    large = {"job_id": uuid.uuid4().hex, "more": "x" * 2_000_000}
    assert closed(large).json() == large, "it passes unheard"
    relay.mend()

    def told_again() -> bool:
        answer = httpx.get(f"{gateway.url}/view", params={"job_id": during}, headers=token("ada"), timeout=20)
        assert answer.status_code == 200 or answer.json()["error"] in ("store_unavailable", "job_not_kept"), answer.text
        return answer.status_code == 200

    until(told_again, "the store was not told again", 30)
    assert owns(gateway, "ada", before) and not owns(gateway, "bob", during)
