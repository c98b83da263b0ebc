"""A stand-in for an OpenAI-compatible server, as far as things of its own making are concerned: responses (also as
events), files and batches, by the published API. It knows no users."""

import json
import uuid

from fastapi import FastAPI, Request, Response, UploadFile
from fastapi.responses import JSONResponse, StreamingResponse

from .serve import watched


def build() -> FastAPI:
    """The application. `app.seen` holds the path of every request."""
    app = watched()
    app.responses, app.files, app.batches = {}, {}, {}

    def said(asked: dict) -> dict:
        text = {"type": "output_text", "text": f"You said: {asked['input']}", "annotations": []}
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}
        response = {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": 1,
            "status": "completed",
            "model": asked.get("model", "small"),
            "output": [message],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "previous_response_id": asked.get("previous_response_id"),
        }
        app.responses[response["id"]] = response
        return response

    @app.post("/v1/responses")
    async def respond(request: Request):
        asked = await request.json()
        response = said(asked)
        if not asked.get("stream"):
            return response

        async def events():
            begun = response | {"status": "in_progress", "output": []}
            for number, (kind, body) in enumerate(
                [("response.created", begun), ("response.completed", response)],
            ):
                event = {"type": kind, "sequence_number": number, "response": body}
                yield f"event: {kind}\ndata: {json.dumps(event)}\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/v1/responses/{name}")
    async def response(name: str):
        return app.responses[name]

    @app.delete("/v1/responses/{name}")
    async def forget(name: str):
        return {"id": name, "object": "response", "deleted": app.responses.pop(name) is not None}

    @app.post("/v1/files")
    async def upload(file: UploadFile):
        name = f"file-{uuid.uuid4().hex}"
        app.files[name] = await file.read()
        return shown(name)

    def shown(name: str) -> dict:
        size = len(app.files[name])
        return {
            "id": name,
            "object": "file",
            "bytes": size,
            "created_at": 1,
            "filename": "a",
            "purpose": "batch",
            "status": "processed",
        }

    @app.get("/v1/files/{name}")
    async def file(name: str):
        return shown(name)

    @app.get("/v1/files/{name}/content")
    async def content(name: str):
        return Response(app.files[name])

    @app.post("/v1/batches")
    async def batch(request: Request):
        asked = await request.json()
        name, output = f"batch_{uuid.uuid4().hex}", f"file-{uuid.uuid4().hex}"
        app.files[output] = b"results of " + app.files[asked["input_file_id"]]
        app.batches[name] = {
            "id": name,
            "object": "batch",
            "status": "validating",
            "endpoint": asked["endpoint"],
            "input_file_id": asked["input_file_id"],
            "completion_window": "24h",
            "created_at": 1,
        }
        app.batches[name]["later"] = {"status": "completed", "output_file_id": output}
        return {key: value for key, value in app.batches[name].items() if key != "later"}

    @app.get("/v1/batches/{name}")
    async def look(name: str):
        batch = dict(app.batches[name])
        return JSONResponse(batch | batch.pop("later"))

    return app
