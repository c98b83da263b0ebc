"""A stand-in for ComfyUI that keeps to its documented protocol: prompts are queued, told of over the socket of the client
that queued them, and found in the history; pictures are found by type, folder and name."""

import asyncio
import json
import uuid

from fastapi import FastAPI, Request, Response, WebSocket

from .serve import watched


def build() -> FastAPI:
    """The application. `app.seen` holds the path of every request."""
    app = watched()
    app.history, app.sockets, app.pictures = {}, {}, {}

    async def tell(client: str, kind: str, data: dict):
        if client in app.sockets:
            await app.sockets[client].send_text(json.dumps({"type": kind, "data": data}))

    async def run(prompt: str, client: str, text: str):
        image = {"filename": f"ComfyUI_{len(app.pictures):05}_.png", "subfolder": "", "type": "output"}
        app.pictures["output", "", image["filename"]] = f"a picture of {text}"
        app.pictures["output", "theirs", image["filename"]] = "another picture of the same name"
        outputs = {"9": {"images": [image]}}
        status = {"status_str": "success", "completed": True, "messages": []}
        app.history[prompt] = {"prompt": [0, prompt, {}, {}, ["9"]], "outputs": outputs, "status": status}
        await tell(client, "execution_start", {"prompt_id": prompt})
        await tell(client, "executing", {"node": "9", "prompt_id": prompt})
        await tell(client, "progress", {"value": 1, "max": 2, "prompt_id": prompt, "node": "9"})
        await tell(client, "executed", {"node": "9", "output": outputs["9"], "prompt_id": prompt})
        await tell(client, "executing", {"node": None, "prompt_id": prompt})

    @app.post("/prompt")
    async def queue(request: Request):
        asked = await request.json()
        prompt = asked.get("prompt_id") or str(uuid.uuid4())
        text = asked["prompt"]["6"]["inputs"]["text"]
        app.task = asyncio.get_running_loop().create_task(run(prompt, asked.get("client_id"), text))
        return {"prompt_id": prompt, "number": 1, "node_errors": {}}

    @app.get("/history/{prompt}")
    async def history(prompt: str):
        return {prompt: app.history[prompt]} if prompt in app.history else {}

    @app.get("/object_info/{node}")
    async def describe(node: str):
        return {node: {"input": {}, "name": node}}

    @app.get("/view")
    async def view(filename: str, subfolder: str = "", type: str = "output"):
        picture = app.pictures.get((type, subfolder, filename))
        return Response(picture, 200 if picture else 404, media_type="image/png")

    @app.websocket("/ws")
    async def socket(socket: WebSocket, clientId: str = ""):
        client = clientId or uuid.uuid4().hex
        await socket.accept()
        app.sockets[client] = socket
        queue = {"status": {"exec_info": {"queue_remaining": 0}}, "sid": client}
        await socket.send_text(json.dumps({"type": "status", "data": queue}))
        async for _ in socket.iter_text():
            pass

    return app
