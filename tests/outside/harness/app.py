"""An ordinary FastAPI application as the upstream: SSE by sse-starlette, WebSockets, downloads, echoes."""

import asyncio
import json
import queue
from pathlib import Path

from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, StreamingResponse
from sse_starlette.sse import EventSourceResponse
from starlette.routing import Route

HEARD_WITHIN = 15.0
"""Seconds in which the application must have noticed what the test waits for."""


def build(folder: Path) -> FastAPI:
    """The application; what it notices goes to `app.state.heard` as (what, where)."""
    app = FastAPI()
    app.state.heard = queue.Queue()
    app.state.file = folder / "picture.bin"
    app.state.file.write_bytes(bytes(range(256)) * 4096)
    plain(app)
    events(app)
    sockets(app)
    return app


def heard(app: FastAPI, what: str, where: str):
    """Waits until the application has noticed this; other news is dropped."""
    while app.state.heard.get(timeout=HEARD_WITHIN) != (what, where):
        pass


def plain(app: FastAPI):
    """Ordinary requests."""

    @app.get("/page")
    async def page():
        return HTMLResponse("<!doctype html><title>page</title>")

    @app.get("/json")
    async def answer():
        return {"hello": "世界"}

    @app.api_route("/echo", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
    @app.api_route("/echo/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
    async def echo(request: Request):
        body = await request.body()
        return JSONResponse(
            {
                "method": request.method,
                "path": request.scope["raw_path"].decode(),
                "query": request.scope["query_string"].decode(),
                "headers": [[k.decode("latin-1"), v.decode("latin-1")] for k, v in request.headers.raw],
                "length": len(body),
                "body": body[:4096].decode("latin-1"),
            }
        )

    app.router.routes.append(Route("/mirror", Mirror(), methods=["POST"]))

    @app.get("/file")
    async def file():
        return FileResponse(app.state.file)

    @app.api_route("/before-first-byte/{name}", methods=["GET", "POST"])
    async def before_first_byte(name: str, request: Request):
        await request.body()
        app.state.heard.put(("asked", name))
        while (await request.receive())["type"] != "http.disconnect":
            pass
        app.state.heard.put(("left", name))
        return Response("nobody reads this")

    @app.get("/slow-json")
    async def slow():
        await asyncio.sleep(0.3)
        return {"slow": True}


class Mirror:
    """Sends each piece of the body back as it comes; plain ASGI, for a streaming response reads the requests's end itself."""

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


def events(app: FastAPI):
    """Event streams."""

    async def job(count: int, pause: float):
        yield {"event": "start", "data": json.dumps({"job_id": "j1", "user_id": "spoofed"})}
        for step in range(count):
            yield {"event": "progress", "data": json.dumps({"step": step}), "id": str(step)}
            await asyncio.sleep(pause)
        yield {"event": "complete", "data": '{"big":123456789012345678901234567890,"ok":true}'}

    @app.api_route("/sse", methods=["GET", "POST"])
    async def stream(request: Request, count: int = 3, pause: float = 0.0):
        await request.body()
        return EventSourceResponse(job(count, pause), ping=3600)

    @app.get("/sse/messages")
    async def messages():
        async def unnamed():
            for step in range(3):
                yield {"data": f"message {step}"}

        return EventSourceResponse(unnamed(), ping=3600)

    @app.api_route("/sse/endless/{name}", methods=["GET", "POST"])
    async def endless(name: str):
        async def ticks():
            try:
                step = 0
                while True:
                    yield {"event": "tick", "data": str(step)}
                    step += 1
                    await asyncio.sleep(0.05)
            finally:
                app.state.heard.put(("left", name))

        return EventSourceResponse(ticks(), ping=3600)

    @app.get("/sse/silent/{name}")
    async def silent(name: str):
        async def once():
            try:
                yield {"event": "start", "data": "{}"}
                await asyncio.sleep(3600)
            finally:
                app.state.heard.put(("left", name))

        return EventSourceResponse(once(), ping=3600)

    @app.get("/sse/breaks")
    async def breaks():
        async def half():
            yield 'event: start\ndata: {"job_id":"j2"}\n\n'
            yield 'event: progress\ndata: {"step":'
            await asyncio.sleep(0.05)
            raise RuntimeError("broken on purpose")

        return StreamingResponse(half(), media_type="text/event-stream")


def sockets(app: FastAPI):
    """WebSockets."""

    @app.websocket("/ws/echo/{name:path}")
    async def echo(socket: WebSocket, name: str):
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(subprotocol="chat.v1" if "chat.v1" in offered else None)
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    app.state.heard.put(("closed", f"{name}:{message.get('code')}"))
                    return
                if message.get("text") is not None:
                    await socket.send_text(message["text"])
                else:
                    await socket.send_bytes(message["bytes"])
        except WebSocketDisconnect as ended:
            app.state.heard.put(("closed", f"{name}:{ended.code}"))

    @app.websocket("/ws/headers/{name:path}")
    async def headers(socket: WebSocket, name: str):
        await socket.accept()
        await socket.send_json(
            {
                "path": socket.scope["raw_path"].decode(),
                "query": socket.scope["query_string"].decode(),
                "subprotocols": socket.scope.get("subprotocols", []),
                "headers": [[k.decode("latin-1"), v.decode("latin-1")] for k, v in socket.headers.raw],
            }
        )
        await socket.close(4000 if name == "four-thousand" else 1000, "as asked")
