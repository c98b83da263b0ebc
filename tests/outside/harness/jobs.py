"""Jobs of a service that knows no users (`studio.py`), asked for through a gateway by users of another issuer."""

import json

import httpx

from .tokens import bearer, mint

# The upstreams number their jobs in one space here.
ROUTES = """
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
name = "files"
path = "/downloads/{filename}"
upstream = "studio"

[[route.guard]]
path = ["filename"]
kind = "file"

[[route]]
name = "by-query"
path = "/view"
upstream = "recorder"

[[route.guard]]
query = ["job_id"]
space = "studio"

[[route]]
name = "in-session"
path = "/in-session"
upstream = "recorder"

[[route.guard]]
query = ["job_id"]
space = "studio"
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
space = "studio"
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


def hidden(answer: httpx.Response):
    """404 `not_owner`, and nothing else."""
    assert (answer.status_code, answer.json()["error"]) == (404, "not_owner"), answer.text


def counted(odd) -> dict[str, float]:
    lines = httpx.get(f"{odd.admin}/metrics").text.splitlines()
    lines = [line.removeprefix('portcullis_captures_total{result="') for line in lines if "portcullis_captures_total{" in line]
    return {line.split('"')[0]: float(line.rsplit(" ", 1)[1]) for line in lines}
