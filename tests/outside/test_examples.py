"""Every example is loaded, and the ones with an ordinary client are used by it."""

import asyncio
import json
import os
import queue
import re
import subprocess
import tomllib

import httpx
import pytest
import yaml
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from harness.examples import EXAMPLES, ISSUER, text
from harness.gateway import BINARY, ROOT
from harness.serve import Served
from harness.tokens import SECRET, mint
from websockets.sync.client import connect

CONFIGS = sorted(path.relative_to(ROOT) for path in EXAMPLES.glob("*/*.toml"))
VARIABLES = {
    "PORTCULLIS_JWT_SECRET": SECRET,
    "SUPABASE_JWT_SECRET": SECRET,
    "SUPABASE_URL": "https://abcdefghijklmnopqrst.supabase.co",
    "TEXT_API_KEY": "sk-upstream",
    "PORTCULLIS_SECRET": "0e7d31b2a95c4f68a1b7d2c3e4f50617",
    "SUPABASE_ANON_KEY": "sb_publishable_9f8e7d6c5b4a3928",
    "SUPABASE_SERVICE_KEY": "sb_secret_9f8e7d6c5b4a39281706f5e4",
}
DRAIN_TIMEOUT = 30
"""Seconds: the default of `[server] drain_timeout`."""


def check(path) -> subprocess.CompletedProcess:
    """`portcullis check` on a file."""
    return subprocess.run(
        [str(BINARY), "check", str(path)],
        cwd=ROOT,
        env=os.environ | VARIABLES,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("path", [*CONFIGS, "config/portcullis.toml"], ids=str)
def test_an_example_passes_check(path):
    done = check(path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_the_compose_file_the_image_and_their_config_fit_together():
    folder = EXAMPLES / "compose"
    compose = yaml.safe_load((folder / "compose.yaml").read_text(encoding="utf-8"))
    whole = (folder / "portcullis.toml").read_text(encoding="utf-8")
    config = tomllib.loads(whole)
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    gateway = compose["services"]["portcullis"]
    # The image is built from here, and reads the config where the file is mounted.
    assert (folder / gateway["build"]).resolve() == ROOT
    mounts = dict(volume.split(":")[:2] for volume in gateway["volumes"])
    inside = mounts.pop("./portcullis.toml")
    assert f'CMD ["run", "--config", "{inside}"]' in image
    # Every variable that it wants is given, and none that it does not.
    assert set(re.findall(r"\$\{(\w+)\}", whole)) == set(gateway["environment"])
    # What must outlive the container lies in the volume, on a folder that the image has for its user.
    (volume, kept), *others = mounts.items()
    assert not others and volume in compose["volumes"]
    assert config["store"]["url"].removeprefix("sqlite:").startswith(kept + "/")
    user = re.search(r"^USER (\d+):(\d+)$", image, re.MULTILINE)
    assert f"install -d -m 700 -o {user[1]} -g {user[2]} {kept.lstrip('/')}" in image
    # Ports: the published one, the probed one, the service's.
    (listen,) = config["server"]["listen"]
    assert gateway["ports"] == [f"{listen.split(':')[1]}:{listen.split(':')[1]}"]
    assert f'"probe", "http://{config["admin"]["listen"]}/healthz"' in image
    (endpoint,) = config["upstream"][0]["endpoints"]
    service = compose["services"][httpx.URL(endpoint).host]
    assert set(service["networks"]) == {"inside"} and compose["networks"]["inside"]["internal"]
    assert "inside" in gateway["networks"] and "ports" not in service
    # A drain has its time.
    assert int(gateway["stop_grace_period"].rstrip("s")) > DRAIN_TIMEOUT


def test_check_names_what_is_wrong_with_its_file_and_line(tmp_path):
    file = tmp_path / "bad.toml"
    good = (EXAMPLES / "faceflip" / "portcullis.toml").read_text(encoding="utf-8")
    file.write_text(
        good.replace('upstream = "faceflip"', 'upstream = "nobody"', 1).replace(
            'auth = "optional"', 'auth = "maybe"', 1
        ),
        encoding="utf-8",
    )
    done = check(file)
    told = done.stdout + done.stderr
    assert done.returncode != 0
    assert "bad.toml" in told and "nobody" in told and "maybe" in told


@pytest.fixture(scope="module")
def openai_upstream():
    """What a text service answers, and which headers it was asked with."""
    app = FastAPI()
    asked = queue.Queue()

    @app.post("/v1/chat/completions")
    async def chat(request: Request):
        asked.put(dict(request.headers))
        body = await request.json()
        message = {"id": "c1", "created": 1, "model": body["model"]}

        async def pieces():
            for word in ("Hello", " ", "world"):
                choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
                yield f"data: {json.dumps(message | {'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"
                await asyncio.sleep(0.01)
            yield "data: [DONE]\n\n"

        if body.get("stream"):
            return StreamingResponse(pieces(), media_type="text/event-stream")
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hello world"}, "finish_reason": "stop"}
        return message | {"object": "chat.completion", "choices": [choice]}

    @app.get("/v1/models")
    async def models():
        return {"object": "list", "data": [{"id": "org/small", "object": "model", "created": 1, "owned_by": "us"}]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str):
        return {"id": name, "object": "model", "created": 1, "owned_by": "us"}

    served = Served(app)
    served.asked = asked
    yield served
    served.stop()


def test_the_openai_client_talks_through_the_example(start, openai_upstream):
    import openai

    gateway = start(
        text("openai", {"http://127.0.0.1:8000": f"http://{openai_upstream.address}"}), TEXT_API_KEY="sk-upstream"
    )
    token = mint("writer", iss=ISSUER, aud="text")
    messages = [{"role": "user", "content": "hi"}]
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key=token, organization="mine", max_retries=0) as client:
        whole = client.chat.completions.create(model="small", messages=messages)
        assert whole.choices[0].message.content == "Hello world"
        stream = client.chat.completions.create(model="small", messages=messages, stream=True)
        assert "".join(piece.choices[0].delta.content for piece in stream) == "Hello world"
        assert [model.id for model in client.models.list()] == ["org/small"]
    for _ in range(2):
        headers = openai_upstream.asked.get(timeout=10)
        assert headers["authorization"] == "Bearer sk-upstream"
        assert headers["x-user-id"] == "writer"
        assert "openai-organization" not in headers
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key="sk-stranger", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            client.models.list()
        assert refused.value.body == "token_malformed" or refused.value.response.json()["error"] == "token_malformed"
        with pytest.raises(openai.NotFoundError):
            client.files.list()


def test_the_original_services_routes(start, tmp_path):
    """The application behind `examples/faceflip`, as it always was."""
    from fastapi import WebSocket
    from sse_starlette.sse import EventSourceResponse

    app = FastAPI()

    @app.post("/api/v1/faceflip/generate/stream")
    async def generate(request: Request):
        user = request.headers["x-user-id"]

        async def events():
            yield {"event": "start", "data": "{}"}
            yield {"event": "complete", "data": json.dumps({"image": "…", "user_id": "wrong", "owner": user})}

        return EventSourceResponse(events(), ping=3600)

    @app.websocket("/ws/{rest:path}")
    async def socket(socket: WebSocket, rest: str):
        await socket.accept()
        await socket.send_json(
            {"status": socket.headers.get("x-auth-status"), "user": socket.headers.get("x-user-id"), "path": rest}
        )
        await socket.close()

    import httpx

    served = Served(app)
    try:
        gateway = start(text("faceflip", {"http://127.0.0.1:8000": f"http://{served.address}"}))
        token = mint("flip", iss=ISSUER)
        path = gateway.url + "/api/v1/faceflip/generate/stream"
        assert httpx.post(path).json()["error"] == "token_missing"
        told = httpx.post(path, headers={"token": token}).text
        last = json.loads([line for line in told.splitlines() if line.startswith("data: ")][-1][6:])
        assert last == {"image": "…", "user_id": "flip", "user_email": "flip@example.test", "owner": "flip"}
        with connect(gateway.ws(f"/ws/realtime/tab/1?token={token}")) as live:
            greeting = json.loads(live.recv(timeout=10))
            assert (greeting["connection_id"], greeting["user_id"]) == ("tab/1", "flip")
            assert json.loads(live.recv(timeout=10)) == {
                "status": "authenticated",
                "user": "flip",
                "path": "realtime/tab/1",
            }
        with connect(gateway.ws("/ws/ws/simple/a?token=nonsense")) as simple:
            assert json.loads(simple.recv(timeout=10)) == {
                "status": "invalid_token",
                "user": None,
                "path": "ws/simple/a",
            }
        with connect(gateway.ws("/ws/test/a")) as test:
            assert json.loads(test.recv(timeout=10))["user"] is None
    finally:
        served.stop()
