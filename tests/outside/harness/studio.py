"""A service that makes things and knows no users, as the original one: it answers whoever asks. And how it can go wrong."""

import asyncio
import gzip
import json
import uuid

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse

from .serve import watched


def build() -> FastAPI:
    """The application. `app.seen` holds the path of every request."""
    app = watched()
    app.jobs, app.files, app.bodies = {}, {}, []

    original(app)
    odd(app)
    return app


def original(app: FastAPI):
    """The calls of the original service."""

    @app.post("/api/generate-mod")
    async def generate(request: Request):
        asked = await request.json()
        job = asked.get("job_id") or uuid.uuid4().hex
        app.jobs[job] = {"job_id": job, "status": "queued", "progress": 0, "prompt": asked.get("prompt")}
        return JSONResponse(app.jobs[job], asked.get("answer", 200))

    @app.get("/api/status/{job}")
    async def status(job: str):
        state = app.jobs[job]
        name = f"{job}.zip"
        app.files[name] = f"the bytes of {job}"
        decisions = {"itemName": f"Sword of {state['prompt']}", "modName": "swords"}
        state |= {"status": "completed", "progress": 100, "download_url": f"/downloads/{name}", "aiDecisions": decisions}
        return state

    @app.options("/api/status/{job}")
    async def leave(job: str):
        return Response(status_code=204 if job in app.jobs else 404)

    @app.post("/api/jobs/{job}/select-image")
    async def select(job: str):
        return {"job_id": job, "status": "selected"}

    @app.post("/api/jobs/{job}/regenerate-images")
    async def regenerate(job: str):
        name = f"image {uuid.uuid4().hex}.png"
        app.files[name] = f"a picture of {job}"
        return {"job_id": job, "status": "drawing", "images": [{"url": "/downloads/" + name.replace(" ", "%20")}]}

    @app.get("/downloads/{name}")
    async def download(name: str):
        return Response(app.files[name])


def odd(app: FastAPI):
    """Answers of every kind to what the request asks for: a JSON body of `body`, `headers`, `chunks`, `pause`."""

    @app.post("/odd")
    async def answer(request: Request):
        asked = await request.json()
        body = asked["body"].encode("latin-1")
        parts = asked.get("chunks", 1)
        size = max(1, -(-len(body) // parts))

        async def stream():
            for at in range(0, len(body), size):
                yield body[at : at + size]
                await asyncio.sleep(asked.get("pause", 0))

        headers = {"content-type": "application/json", **asked.get("headers", {})}
        if asked.get("length"):
            return Response(body, asked.get("status", 200), headers)
        return StreamingResponse(stream(), asked.get("status", 200), headers)

    @app.get("/huge")
    async def huge(size: int):
        async def stream():
            yield b'{"job_id":"huge","rest":"'
            for _ in range(size // 65536):
                yield b"x" * 65536
            yield b'"}'

        return StreamingResponse(stream(), headers={"content-type": "application/json"})

    @app.post("/body")
    async def body(request: Request):
        raw = await request.body()
        app.bodies.append((raw, dict(request.headers)))
        return {"length": len(raw)}

    @app.get("/events")
    async def events(job: str, encoding: str = ""):
        async def stream():
            yield b": hello\n\n"
            yield f'event: start\ndata: {{"job_id": "{job}",\ndata: "status": "running"}}\n'.encode()
            yield b"\ndata: no json\n\n"
            done = f'data: {{"job_id": "{job}", "status": "done", "file": "/downloads/{job}.png"}}\r\n\r\n'
            for byte in done.encode():
                yield bytes([byte])

        if encoding:
            whole = b"".join([part async for part in stream()])
            headers = {"content-type": "text/event-stream", "content-encoding": "gzip"}
            return Response(gzip.compress(whole), headers=headers)
        return StreamingResponse(stream(), headers={"content-type": "text/event-stream"})

    @app.websocket("/socket/{job}")
    async def socket(socket: WebSocket, job: str):
        app.seen.append(f"/socket/{job}")
        await socket.accept()
        app.extensions = socket.headers.get("sec-websocket-extensions")
        await socket.send_text("no json")
        await socket.send_bytes(b'{"job_id": "binary"}')
        await socket.send_text(json.dumps({"job_id": job, "status": "running"}))
        async for said in socket.iter_text():
            await socket.send_text(json.dumps({"job_id": job, "status": said}))
