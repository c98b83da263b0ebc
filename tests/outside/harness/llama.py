"""Llama Stack, an OpenAI-compatible server that keeps by id what it makes, over a model that repeats what it is told. It knows
no users."""

import json
import subprocess
import sys
import time
import uuid
from pathlib import Path

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from .gateway import START
from .redis import free_port
from .serve import Served

PREFIX = "/v1/openai"
"""Where the paths of the OpenAI API are."""

RUN = """
version: "2"
image_name: small
apis: [agents, files, inference, safety, tool_runtime, vector_io]
providers:
  inference:
  - {provider_id: parrot, provider_type: "remote::vllm", config: {url: "http://{model}/v1"}}
  agents:
  - provider_id: agents
    provider_type: "inline::meta-reference"
    config:
      persistence_store: {type: sqlite, db_path: "{folder}/agents.db"}
      responses_store: {type: sqlite, db_path: "{folder}/responses.db"}
  files:
  - provider_id: files
    provider_type: "inline::localfs"
    config: {storage_dir: "{folder}/files", metadata_store: {type: sqlite, db_path: "{folder}/files.db"}}
  safety: []
  tool_runtime: []
  vector_io: []
metadata_store: {type: sqlite, db_path: "{folder}/registry.db"}
inference_store: {type: sqlite, db_path: "{folder}/inference.db"}
models:
- {model_id: small, provider_id: parrot, provider_model_id: small, model_type: llm, metadata: {}}
server: {host: 127.0.0.1}
"""


def parrot() -> FastAPI:
    """The model: it says all that it was told in the conversation."""
    app = FastAPI()

    @app.get("/v1/models")
    async def models():
        return {"object": "list", "data": [{"id": "small", "object": "model", "created": 1, "owned_by": "nobody"}]}

    @app.post("/v1/chat/completions")
    async def chat(request: Request):
        asked = await request.json()
        words = [text(message["content"]) for message in asked["messages"] if message["role"] == "user"]
        whole = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": 1, "model": "small"}
        if not asked.get("stream"):
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": " ".join(words)}}
            return whole | {"object": "chat.completion", "choices": [choice]}

        async def events():
            deltas = [({"role": "assistant", "content": f"{word} "}, None) for word in words] + [({}, "stop")]
            for delta, end in deltas:
                choice = {"index": 0, "delta": delta, "finish_reason": end}
                yield f"data: {json.dumps(whole | {'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return app


def text(content: str | list) -> str:
    """What a message says."""
    return content if isinstance(content, str) else " ".join(part["text"] for part in content)


class Llama:
    """The server as a process, and its model; `address` is its `host:port`."""

    def __init__(self, folder: Path):
        self.model = Served(parrot())
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        file = folder / "run.yaml"
        file.write_text(RUN.replace("{model}", self.model.address).replace("{folder}", str(folder)), encoding="utf-8")
        command = [sys.executable, "-m", "llama_stack.distribution.server.server", "--config", file, "--port", str(port)]
        self.log = folder / "llama.log"
        with self.log.open("wb") as log:
            environment = {"PATH": "", "HOME": str(folder), "HF_HUB_OFFLINE": "1"}
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 3 * START
        while not self.answers():
            assert time.monotonic() < deadline and self.process.poll() is None, self.log.read_text()[-4000:]
            time.sleep(0.1)

    def answers(self) -> bool:
        """Whether it serves."""
        try:
            return httpx.get(f"http://{self.address}/v1/health").is_success
        except httpx.TransportError:
            return False

    def stop(self):
        """Ends both."""
        self.process.kill()
        self.process.wait()
        self.model.stop()
