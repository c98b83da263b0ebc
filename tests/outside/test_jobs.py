"""Jobs of a service that knows no users, as their owners and strangers find them: two users, one service, one gateway."""

import gzip
import json
import socket
import threading
import time
import uuid
import zlib

import httpx
import pytest
from harness import studio
from harness.accounts import SESSIONS, Person, at_once
from harness.examples import text
from harness.gateway import config
from harness.postgres import Relay, database
from harness.raw import Reply, ask, request
from harness.replicas import until
from harness.serve import Served
from harness.tokens import bearer, mint
from starlette.middleware.cors import CORSMiddleware
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def service():
    app = studio.build()
    served = Served(app)
    served.app = app
    yield served
    served.stop()


def original(service) -> str:
    """`examples/jobs/original.toml` as it stands, for users in a hurry."""
    whole = text("jobs", {"http://127.0.0.1:8000": f"http://{service.address}"}, "original.toml")
    return whole + "\n[limits]\nenabled = false\n"


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


def hidden(answer: httpx.Response):
    """404 `not_owner`, and nothing else."""
    assert (answer.status_code, answer.json()["error"]) == (404, "not_owner"), answer.text


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


def test_pages_of_another_origin_ask_for_their_jobs(start, browser):
    """Where the service answers preflights as most do, by who asks and not for what."""
    app = studio.build()
    app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["authorization"])
    served = Served(app)
    gateway = start(original(served))
    ada = User(gateway).log_in()
    job = ada.make()
    page = browser.new_page()
    page.goto(f"http://{served.address}/openapi.json")
    status, body = page.evaluate(PAGE, [f"{gateway.url}/api/status/{job}", ada.credential])
    assert (status, json.loads(body)["status"]) == (200, "completed")
    page.close()
    served.stop()


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


# ── Odd answers ──

ODD = """
[[upstream]]
name = "studio"
endpoints = ["http://${STUDIO}"]

[[route]]
name = "odd"
path = "/odd"
upstream = "studio"

[[route.capture]]
id = "/job_id"
status = "/status"
files = ["/file"]
max_size = "64KiB"

[[route]]
name = "huge"
path = "/huge"
upstream = "studio"

[[route.capture]]
id = "/job_id"

[[route]]
name = "status"
path = "/api/status/{job_id}"
upstream = "studio"
auth = "optional"

[[route.guard]]
path = ["job_id"]
except_roles = ["admin"]

[[route]]
name = "by-query"
path = "/view"
upstream = "recorder"

[[route.guard]]
query = ["job_id"]

[[route]]
name = "in-session"
path = "/in-session"
upstream = "recorder"

[[route.guard]]
query = ["job_id"]
scope = "session"

[[route]]
name = "by-body"
path = "/body"
upstream = "studio"

[[route.guard]]
body = ["/job_id"]
max_size = "64KiB"

[[route]]
name = "gradual"
path = "/gradual"
upstream = "recorder"

[[route.guard]]
query = ["job_id"]
unknown = "allow"

[[route]]
name = "events"
path = "/events"
upstream = "studio"
sse.heartbeat = "0s"

[[route.capture]]
from = "sse"
id = "/job_id"
status = "/status"
files = ["/file"]

[[route]]
name = "job-events"
path = "/watch/{job_id}/events"
upstream = "studio"

[[route.guard]]
path = ["job_id"]

[[route]]
name = "socket"
path = "/socket/{name}"
upstream = "studio"

[[route.capture]]
from = "websocket"
claim = true
id = "/job_id"
status = "/status"

[[route]]
name = "guarded-socket"
path = "/guarded/{job_id}"
upstream = "studio"
websocket.on_reject = "close"

[[route.guard]]
path = ["job_id"]

[[upstream]]
name = "recorder"
endpoints = ["http://${RECORDER}"]
"""

# All upstreams number their jobs in one space here.
SPACED = ODD.replace('query = ["job_id"]', 'query = ["job_id"]\nspace = "studio"')


@pytest.fixture(scope="module")
def odd(start, service):
    """A gateway that knows users of another issuer, and keeps its jobs in a file of its own."""
    return start(config(SPACED), STUDIO=service.address)


def token(sub: str, **claims) -> dict[str, str]:
    return bearer(mint(sub, **claims))


def tells(odd, who: str, body, **how) -> httpx.Response:
    """What comes of an answer with this body."""
    body = body if isinstance(body, (str, bytes)) else json.dumps(body)
    body = body.decode("latin-1") if isinstance(body, bytes) else body
    asked = {"body": body, **how}
    return httpx.post(f"{odd.url}/odd", json=asked, headers=token(who) | {"accept-encoding": "identity"}, timeout=30)


def owns(odd, who: str, job: str, **claims) -> bool:
    answer = httpx.get(f"{odd.url}/view", params={"job_id": job}, headers=token(who, **claims))
    if answer.status_code != 200:
        hidden(answer)
    return answer.status_code == 200


@pytest.mark.parametrize("chunks", [1, 3, 1000])
@pytest.mark.parametrize("length", [True, False])
def test_an_answer_passes_as_it_is_however_it_comes(odd, chunks, length):
    job = uuid.uuid4().hex
    body = json.dumps({"a": "é" * 50, "job_id": job}, ensure_ascii=False).encode()
    answer = tells(odd, "ada", body, chunks=chunks, length=length)
    assert answer.content == body
    assert owns(odd, "ada", job) and not owns(odd, "bob", job)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, identity"])
def test_a_compressed_answer_is_heard(odd, coding):
    import brotli

    job = uuid.uuid4().hex
    plain = json.dumps({"job_id": job}).encode()
    packed = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd}
    packed = packed[coding.split(",")[0]](plain)
    with httpx.Client() as client:
        asked = {"body": packed.decode("latin-1"), "headers": {"content-encoding": coding}}
        with client.stream("POST", f"{odd.url}/odd", json=asked, headers=token("ada")) as answer:
            assert b"".join(answer.iter_raw()) == packed
    assert owns(odd, "ada", job) and not owns(odd, "bob", job)


def zstd(plain: bytes) -> bytes:
    """A frame of one raw block (RFC 8878 section 3.1.1)."""
    block = (1 | len(plain) << 3).to_bytes(3, "little") + plain
    return b"\x28\xb5\x2f\xfd\x20" + bytes([len(plain)]) + block


def counted(odd) -> dict[str, float]:
    lines = httpx.get(f"{odd.admin}/metrics").text.splitlines()
    lines = [line.removeprefix('portcullis_captures_total{result="') for line in lines if "portcullis_captures_total{" in line]
    return {line.split('"')[0]: float(line.rsplit(" ", 1)[1]) for line in lines}


@pytest.mark.parametrize(
    ("body", "how", "result"),
    [
        ("not json", {}, "not_json"),
        ("", {"length": True}, None),
        ('{"job_id":"%s"', {}, "not_json"),
        ('{"job_id":"x","job_id":"%s"}', {}, "not_json"),
        ('{"id":"%s"}', {}, "no_id"),
        ('{"job_id":{"id":"%s"}}', {}, "bad_id"),
        ('{"job_id":["%s"]}', {}, "bad_id"),
        ('{"job_id":1.5,"x":"%s"}', {}, "bad_id"),
        ('{"job_id":null,"x":"%s"}', {}, "no_id"),
        ('[{"job_id":"%s"}]', {}, "no_id"),
        ('\ufeff{"job_id":"%s"}', {}, "not_json"),
        ('{"job_id":"%s"}', {"headers": {"content-encoding": "gzip"}}, "unreadable"),
        ('{"job_id":"%s"}', {"headers": {"content-encoding": "rot13"}}, "unreadable"),
        ('{"job_id":"%s"}', {"headers": {"content-type": "image/png"}}, None),
        ('{"job_id":"%s","x":"' + "x" * 70000 + '"}', {}, "too_large"),
        ('{"job_id":"%s"}', {"status": 500}, None),
    ],
)
def test_an_odd_answer_passes_and_is_told_of(odd, body, how, result):
    job = uuid.uuid4().hex
    body = (body.replace("%s", job)).encode()
    before = counted(odd)
    with httpx.Client() as client:
        asked = {"body": body.decode("latin-1")} | how
        with client.stream("POST", f"{odd.url}/odd", json=asked, headers=token("ada")) as answer:
            assert (answer.status_code, b"".join(answer.iter_raw())) == (how.get("status", 200), body)
    changed = {name: count - before[name] for name, count in counted(odd).items() if count != before[name]}
    assert changed == ({result: 1} if result else {})
    assert not owns(odd, "ada", job)


def test_a_small_answer_that_unpacks_to_much_is_not_heard(odd):
    job = uuid.uuid4().hex
    packed = gzip.compress(json.dumps({"job_id": job, "x": "x" * 50_000_000}).encode())
    before = counted(odd)["too_large"]
    assert tells(odd, "ada", packed, headers={"content-encoding": "gzip"}, length=True).status_code == 200
    assert counted(odd)["too_large"] == before + 1 and not owns(odd, "ada", job)


@pytest.mark.slow
def test_a_huge_answer_passes_in_constant_memory(odd):
    def memory() -> int:
        with open(f"/proc/{odd.process.pid}/status", encoding="utf-8") as status:
            return int(next(line for line in status if line.startswith("VmHWM")).split()[1])

    before, size = memory(), 0
    with httpx.stream("GET", f"{odd.url}/huge", params={"size": 1 << 30}, headers=token("ada"), timeout=100) as answer:
        for part in answer.iter_raw():
            size += len(part)
    assert size > 1 << 30 and memory() - before < 100_000
    assert not owns(odd, "ada", "huge")


CUT = """
[[upstream]]
name = "cut"
endpoints = ["http://${CUT}"]

[[route]]
name = "cut"
path = "/cut"
upstream = "cut"

[[route.capture]]
id = "/job_id"

[[route]]
name = "view"
path = "/view"
upstream = "cut"

[[route.guard]]
query = ["job_id"]
"""


@pytest.mark.parametrize("framing", ["transfer-encoding: chunked", "content-length: 100"])
def test_an_answer_that_is_cut_is_nobody_s(start, framing):
    """Its client never has the whole of it either, though the JSON is whole."""
    body = b'{"job_id":"cut"}'
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            near, _ = listener.accept()
            near.recv(65536)
            sized = b"%x\r\n%s\r\n" % (len(body), body) if "chunked" in framing else body
            near.sendall(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n%s" % (framing.encode(), sized))
            near.close()

        threading.Thread(target=serve, daemon=True).start()
        gateway = start(config(CUT), CUT="127.0.0.1:%d" % listener.getsockname()[1])
        seen = b""
        with pytest.raises(httpx.HTTPError):
            with httpx.stream("GET", f"{gateway.url}/cut", headers=token("ada")) as answer:
                for part in answer.iter_raw():
                    seen += part
        assert seen in body and seen != body
        assert counted(gateway)["cut"] == 1
        assert not owns(gateway, "ada", "cut")


def test_the_answer_is_kept_before_it_is_whole(odd):
    """A client that has read the answer may ask at once; many do."""
    def one():
        job = uuid.uuid4().hex
        assert tells(odd, "ada", {"job_id": job}).status_code == 200
        return owns(odd, "ada", job)

    assert all(at_once(16, lambda: all(one() for _ in range(5))))


def test_one_of_many_owns_an_id(odd):
    for _ in range(5):
        job = uuid.uuid4().hex
        users = [f"racer-{at}" for at in range(6)]
        names = iter(users)
        at_once(6, lambda: tells(odd, next(names), {"job_id": job}))
        assert sum(owns(odd, user, job) for user in users) == 1


@pytest.mark.parametrize("job", ["a/b", "../../etc/passwd", "a b", "a%2Fb", "ünïcödé", "a&b=c", "12", "a;b", "a+b"])
def test_odd_ids_are_their_owners_alone(odd, job):
    job = f"{job}-{uuid.uuid4().hex}"
    assert tells(odd, "ada", {"job_id": job}).status_code == 200
    assert owns(odd, "ada", job) and not owns(odd, "bob", job)


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


# ── Requests ──


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


# ── Streams ──


def test_events_tell_of_jobs(odd):
    job = uuid.uuid4().hex
    with httpx.stream("GET", f"{odd.url}/events", params={"job": job}, headers=token("ada"), timeout=20) as answer:
        parts = answer.iter_text()
        said = ""
        while "running" not in said:
            said += next(parts)
        assert owns(odd, "ada", job), "the event was seen before its job was kept"
        said += "".join(parts)
    assert said.endswith(f'"file": "/downloads/{job}.png"}}\r\n\r\n')
    assert not owns(odd, "bob", job)


def test_events_that_are_packed_pass_unheard(odd):
    job = uuid.uuid4().hex
    params = {"job": job, "encoding": "gzip"}
    answer = httpx.get(f"{odd.url}/events", params=params, headers=token("ada"), timeout=20)
    assert job in answer.text and not owns(odd, "ada", job)


def test_guarded_streams_are_their_owners(odd, service):
    job = uuid.uuid4().hex
    before = len(service.app.seen)
    hidden(httpx.get(f"{odd.url}/watch/{job}/events", headers=token("bob") | {"accept": "text/event-stream"}))
    with pytest.raises(InvalidStatus) as refused:
        connect(odd.ws(f"/guarded/{job}"), additional_headers=token("bob"))
    assert refused.value.response.status_code == 404
    assert service.app.seen[before:] == []


def test_messages_tell_of_jobs(odd, service):
    job = uuid.uuid4().hex
    with connect(odd.ws(f"/socket/{job}"), additional_headers=token("ada")) as tab:
        assert tab.recv() == "no json"
        assert tab.recv() == b'{"job_id": "binary"}'
        assert json.loads(tab.recv())["status"] == "running"
        assert owns(odd, "ada", job), "the message was seen before its job was kept"
        assert not owns(odd, "bob", job) and not owns(odd, "ada", "binary")
        for said in ("done", "x" * 100_000):
            tab.send(said)
            assert json.loads(tab.recv())["status"] == said
    assert service.app.extensions is None


# ── Stores ──


def test_two_replicas_over_one_database(start, service):
    url = database()
    base = config(SPACED + f'\n[store]\nurl = "{url}"\n')
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
        return start(config(SPACED + f'\n[store]\nurl = "{url}"\n[jobs]\n{jobs}\n'), STUDIO=service.address)

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


def test_a_store_that_is_away(start, service, tmp_path):
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
    settings = f'\n[store]\nurl = "{relay.url}"\nstatement_timeout = "1s"\n[jobs]\nstore_timeout = "500ms"\n'
    gateway = start(config(SPACED + route + settings), STUDIO=service.address)

    def closed(body):
        headers = token("ada") | {"host": "closed.example"}
        return httpx.post(f"{gateway.url}/odd", json={"body": json.dumps(body)}, headers=headers, timeout=20)

    before, during = uuid.uuid4().hex, uuid.uuid4().hex
    tells(gateway, "ada", {"job_id": before})
    assert owns(gateway, "ada", before)
    kept = uuid.uuid4().hex
    assert closed({"job_id": kept}).json() == {"job_id": kept}
    assert owns(gateway, "ada", kept)
    relay.cut()
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
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        answer = httpx.get(f"{gateway.url}/view", params={"job_id": during}, headers=token("ada"), timeout=20)
        if answer.status_code == 200:
            break
        assert answer.json()["error"] in ("store_unavailable", "job_not_kept"), answer.text
        time.sleep(0.1)
    assert answer.status_code == 200, "it was told again"
    assert owns(gateway, "ada", before) and not owns(gateway, "bob", during)
