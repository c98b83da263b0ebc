"""What is heard of jobs in answers, events and messages, odd ones too; and that these pass as they are."""

import contextlib
import gzip
import json
import socket
import threading
import uuid
import zlib

import httpx
import pytest
from harness.accounts import at_once
from harness.gateway import config
from harness.jobs import counted, hidden, owns, tells, token
from websockets.sync.client import connect

pytestmark = pytest.mark.timeout(120)


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


ALONE = """
[[upstream]]
name = "alone"
endpoints = ["http://${ALONE}"]

[[route]]
name = "made"
path = "/made"
upstream = "alone"

[[route.capture]]
id = "/job_id"

[[route]]
name = "view"
path = "/view"
upstream = "alone"

[[route.guard]]
query = ["job_id"]
"""


@pytest.fixture
def answering(start):
    """Starts a gateway in front of an upstream that answers once, with these parts, and closes. It waits where one is an
    event."""
    with contextlib.ExitStack() as stack:

        def begin(*parts):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve():
                near, _ = listener.accept()
                with near:
                    near.recv(65536)
                    for part in parts:
                        part.wait() if isinstance(part, threading.Event) else near.sendall(part)

            threading.Thread(target=serve, daemon=True).start()
            return start(config(ALONE), ALONE="127.0.0.1:%d" % listener.getsockname()[1])

        yield begin


@pytest.mark.parametrize("framing", ["transfer-encoding: chunked", "content-length: 100"])
def test_an_answer_that_is_cut_is_nobody_s(answering, framing):
    """Its client never has the whole of it either, though the JSON is whole."""
    body = b'{"job_id":"cut"}'
    sized = b"%x\r\n%s\r\n" % (len(body), body) if "chunked" in framing else body
    gateway = answering(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n%s" % (framing.encode(), sized))
    seen = b""
    with pytest.raises(httpx.HTTPError):
        with httpx.stream("GET", f"{gateway.url}/made", headers=token("ada")) as answer:
            for part in answer.iter_raw():
                seen += part
    assert seen in body and seen != body
    assert counted(gateway)["cut"] == 1
    assert not owns(gateway, "ada", "cut")


def test_an_answer_is_not_waited_for(answering):
    """What has come of it passes; its last byte alone waits, for its end and its job."""
    rest = threading.Event()
    gateway = answering(b'HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{"job_', rest, b'id":"slow"}')
    with httpx.stream("GET", f"{gateway.url}/made", headers=token("ada"), timeout=20) as answer:
        parts = answer.iter_raw()
        seen = next(parts)
        assert seen and b'{"job_'.startswith(seen)
        rest.set()
        assert seen + b"".join(parts) == b'{"job_id":"slow"}'
    assert counted(gateway)["kept"] == 1


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


def test_events_tell_of_jobs(odd, service):
    job = uuid.uuid4().hex
    service.app.files[f"{job}.png"] = "a picture"
    with httpx.stream("GET", f"{odd.url}/events", params={"job": job}, headers=token("ada"), timeout=20) as answer:
        parts = answer.iter_text()
        said = ""
        while "running" not in said:
            said += next(parts)
        assert owns(odd, "ada", job), "the event was seen before its job was kept"
        said += "".join(parts)
    assert said.endswith(f'"file": "/downloads/{job}.png"}}\r\n\r\n')
    assert not owns(odd, "bob", job)
    file = f"{odd.url}/downloads/{job}.png"
    assert httpx.get(file, headers=token("ada")).text == "a picture"
    hidden(httpx.get(file, headers=token("bob")))


def test_events_that_are_packed_pass_unheard(odd):
    job = uuid.uuid4().hex
    params = {"job": job, "encoding": "gzip"}
    answer = httpx.get(f"{odd.url}/events", params=params, headers=token("ada"), timeout=20)
    assert job in answer.text and not owns(odd, "ada", job)


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
        tab.send(said := json.dumps({"job_id": f"{job}-claimed"}))
        assert json.loads(tab.recv())["status"] == said
        assert not owns(odd, "ada", f"{job}-claimed"), "a client cannot tell of jobs"
    assert service.app.extensions is None
