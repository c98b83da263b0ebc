"""The configs of `examples/jobs` in front of what people run: a real Gradio app, a real Llama Stack, and stand-ins that keep
to the published protocols of ComfyUI and of OpenAI's API. Two users each, who must not see each other's things."""

import contextlib
import io
import json
import os
import uuid

import httpx
import pytest
from harness import comfy, model
from harness.examples import ISSUER, hurried, user
from harness.llama import PREFIX, Llama
from harness.serve import serving
from harness.tokens import mint
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

pytestmark = pytest.mark.timeout(120)

def hidden(answer: httpx.Response):
    assert answer.status_code == 404 and "not_owner" in answer.text, (answer.status_code, answer.text)


def example(name: str, addresses: dict[str, str]) -> str:
    """One of these configs."""
    return hurried("jobs", addresses, name)


# ── ComfyUI ──


@pytest.fixture(scope="module")
def comfyui():
    yield from serving(comfy.build())


@pytest.fixture(scope="module")
def studio(start, comfyui):
    return start(example("comfyui.toml", {"http://127.0.0.1:8188": f"http://{comfyui.address}"}))


class Artist:
    """Somebody with a tab open, as ComfyUI's example clients are: a socket of their own id, prompts, pictures."""

    def __init__(self, gateway, name: str):
        self.gateway, self.headers, self.client = gateway, user(name), str(uuid.uuid4())
        self.open = contextlib.ExitStack()
        self.socket = self.tab()
        assert json.loads(self.socket.recv())["data"]["sid"] == self.client

    def tab(self):
        """A socket of this client's id."""
        url = self.gateway.ws(f"/ws?clientId={self.client}")
        return self.open.enter_context(connect(url, additional_headers=self.headers))

    def get(self, path: str, **params) -> httpx.Response:
        return httpx.get(self.gateway.url + path, params=params, headers=self.headers)

    def post(self, body: dict) -> httpx.Response:
        return httpx.post(f"{self.gateway.url}/prompt", json=body, headers=self.headers)

    def queue(self, words: str) -> dict:
        workflow = {"6": {"class_type": "CLIPTextEncode", "inputs": {"text": words}}}
        return self.post({"prompt": workflow, "client_id": self.client}).raise_for_status().json()

    def wait(self, prompt: str) -> dict:
        """The picture of a prompt, as the socket tells of it."""
        image = None
        while True:
            told = json.loads(self.socket.recv(timeout=10))
            assert told["data"].get("prompt_id", prompt) == prompt, "another's"
            if told["type"] == "executed":
                image = told["data"]["output"]["images"][0]
            if told["type"] == "executing" and told["data"]["node"] is None:
                return image


def test_comfyui_users_see_their_own_work_alone(studio, comfyui):
    ada, bob = Artist(studio, "ada"), Artist(studio, "bob")
    hers, his = ada.queue("a castle")["prompt_id"], bob.queue("a moat")["prompt_id"]
    image, other = ada.wait(hers), bob.wait(his)
    assert ada.get("/view", **image).text == "a picture of a castle"
    assert ada.get("/view", filename=image["filename"]).text == "a picture of a castle", "by its defaults"
    assert ada.get(f"/history/{hers}").json()[hers]["status"]["status_str"] == "success"
    before = len(comfyui.app.seen)
    hidden(bob.get("/view", **image))
    hidden(bob.get("/view", filename=image["filename"]))
    hidden(bob.get(f"/history/{hers}"))
    for trick in (
        {"filename": image["filename"], "subfolder": "theirs"},
        {"filename": image["filename"], "type": "temp"},
        {"filename": other["filename"], "subfolder": f"../{image['filename']}"},
        {"filename": f"../{image['filename']}"},
        {"filename": f"x/{other['filename']}"},
        {"filename": f"{image['filename']} [output]"},
    ):
        hidden(bob.get("/view", **trick))
        if trick["filename"] == image["filename"]:
            hidden(ada.get("/view", **trick))
    for path in (
        "/history",
        "/queue",
        "/interrupt",
        "/object_info",
        f"/api/history/{hers}",
        f"/api/view?filename={image['filename']}",
        "/api/object_info/LoadImage",
        f"/api/ws?clientId={ada.client}",
        "/upload/image",
        "/view/../history",
        "/system_stats",
    ):
        assert bob.get(path).status_code == 404, path
    assert comfyui.app.seen[before:] == [], "the service was asked"
    for artist in (ada, bob):
        artist.open.close()


def test_comfyui_sockets_are_their_owners(studio):
    ada = Artist(studio, "ada")
    with pytest.raises(InvalidStatus) as refused:
        connect(studio.ws(f"/ws?clientId={ada.client}"), additional_headers=user("bob")).__enter__()
    assert refused.value.response.status_code == 404
    workflow = {"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "x"}}}
    bob = Artist(studio, "bob")
    hidden(bob.post({"prompt": workflow, "client_id": ada.client}))
    prompt = ada.queue("a castle")["prompt_id"]
    hidden(bob.post({"prompt": workflow, "client_id": bob.client, "prompt_id": prompt}))
    hidden(bob.post({"prompt": workflow}))
    assert json.loads(ada.tab().recv())["data"]["sid"] == ada.client
    for artist in (ada, bob):
        artist.open.close()


def test_comfyui_workflows_read_nobody_s_files(studio, comfyui):
    """A workflow may name any file to the nodes that load them: they are not let in."""
    ada, bob = Artist(studio, "ada"), Artist(studio, "bob")
    image = ada.wait(ada.queue("a castle")["prompt_id"])
    say = {"class_type": "CLIPTextEncode", "inputs": {"text": "x"}}
    for load in (
        {"class_type": "LoadImage", "inputs": {"image": f"{image['filename']} [output]"}},
        {"class_type": "loadimage", "inputs": {}},
        {"class_type": "LoadImage ", "inputs": {}},
        {"class_type": ["LoadImage"], "inputs": {}},
        {"class_type": "CLIPTextEncode", "Class_Type": "LoadImage", "inputs": {"text": "x"}},
    ):
        before = len(comfyui.app.seen)
        answer = bob.post({"prompt": {"6": say, "7": load}, "client_id": bob.client})
        assert answer.status_code in (400, 404), answer.text
        assert comfyui.app.seen[before:] == [], "the service was asked"
    double = '{"prompt":{"7":{"class_type":"SaveImage","class_type":"LoadImage","inputs":{}}},"client_id":"%s"}' % bob.client
    headers = bob.headers | {"content-type": "application/json"}
    assert httpx.post(f"{studio.url}/prompt", content=double, headers=headers).status_code == 400
    hidden(bob.get("/object_info/LoadImage"))
    assert bob.get("/object_info/SaveImage").json()["SaveImage"]
    for artist in (ada, bob):
        artist.open.close()


# ── Gradio ──


def application():
    """A function that makes a file of a text, and one that takes a file."""
    import gradio as gr
    from fastapi import FastAPI

    def write(words: str, request: gr.Request):
        path = f"/tmp/gradio-{uuid.uuid4().hex}.txt"
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{request.headers.get('x-user-id')}: {words}")
        return path

    def read(path):
        with open(path, encoding="utf-8") as file:
            return file.read()

    with gr.Blocks() as demo:
        given, shown, file = gr.Textbox(label="given"), gr.Textbox(label="shown"), gr.File()
        gr.Button("Write").click(write, given, file, api_name="write")
        gr.Button("Read").click(read, file, shown, api_name="read")
    return gr.mount_gradio_app(FastAPI(), demo.queue(), path="/")


@pytest.fixture(scope="module")
def gradio():
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    yield from serving(application())


@pytest.fixture(scope="module")
def app(start, gradio):
    return start(example("gradio.toml", {"http://127.0.0.1:7860": f"http://{gradio.address}"}))


@pytest.mark.slow
def test_gradio_users_see_their_own_work_alone(app, tmp_path):
    from gradio_client import Client, handle_file

    ada, bob = (Client(app.url, headers=user(who), verbose=False) for who in ("ada", "bob"))
    with open(ada.predict("a castle", api_name="/write"), encoding="utf-8") as file:
        assert file.read() == "ada: a castle"
    sent = tmp_path / "secret.txt"
    sent.write_text("only ada knows", encoding="utf-8")
    assert ada.predict(handle_file(sent), api_name="/read") == "only ada knows"

    def call(who: str, function: str, data: list) -> httpx.Response:
        """Without a client: a call, and its events."""
        made = httpx.post(f"{app.url}/gradio_api/call/{function}", json={"data": data}, headers=user(who))
        if made.status_code != 200:
            return made
        events = f"{app.url}/gradio_api/call/{function}/{made.json()['event_id']}"
        hidden(httpx.get(events, headers=user("eve")))
        return httpx.get(events, headers=user(who), timeout=20)

    events = call("ada", "write", ["a moat"])
    path = json.loads(events.text.split("data: ")[1])[0]["path"]
    file = f"{app.url}/gradio_api/file={path}"
    assert httpx.get(file, headers=user("ada")).text == "ada: a moat"
    hidden(httpx.get(file, headers=user("bob")))
    hidden(httpx.get(f"{app.url}/gradio_api/file=/etc/passwd", headers=user("bob")))
    upload = {"files": ("a.txt", b"uploaded by ada")}
    kept = httpx.post(f"{app.url}/gradio_api/upload", files=upload, headers=user("ada")).json()[0]
    given = {"path": kept, "meta": {"_type": "gradio.FileData"}}
    assert "uploaded by ada" in call("ada", "read", [given]).text
    hidden(call("bob", "read", [given]))
    hidden(call("bob", "read", [[{"deep": given}]]))
    hidden(httpx.get(f"{app.url}/gradio_api/file={kept}", headers=user("bob")))
    assert httpx.get(f"{app.url}/gradio_api/file={kept}", headers=user("ada")).text == "uploaded by ada"
    # The queue of another's page.
    params = {"session_hash": ada.session_hash}
    hidden(httpx.get(f"{app.url}/gradio_api/queue/data", params=params, headers=user("bob")))
    asked = {"data": ["x"], "fn_index": 0, "session_hash": ada.session_hash}
    hidden(httpx.post(f"{app.url}/gradio_api/queue/join", json=asked, headers=user("bob")))
    for path in ("/monitoring/summary", "/gradio_api/run/write", f"/gradio_api/file/{kept[1:]}", "/gradio_api/runs"):
        assert httpx.get(app.url + path, headers=user("bob")).status_code == 404, path
    with open(bob.predict("his own", api_name="/write"), encoding="utf-8") as file:
        assert file.read() == "bob: his own"


@pytest.mark.slow
def test_gradio_works_in_a_browser(app, browser):
    browser.add_cookies([{"name": "portcullis", "value": mint("tab", iss=ISSUER), "url": app.url}])
    page = browser.new_page()
    page.goto(app.url + "/")
    page.get_by_label("given").fill("hello")
    page.get_by_role("button", name="Write").click()
    page.wait_for_selector("a[href*='gradio-']")
    page.get_by_role("button", name="Read").click()
    shown = page.get_by_label("shown")
    page.wait_for_function("(shown) => shown.value === 'tab: hello'", arg=shown.element_handle())
    page.close()


# ── OpenAI ──


@pytest.fixture(scope="module")
def served_model():
    yield from serving(model.build())


@pytest.fixture(scope="module")
def models(start, served_model):
    return start(example("openai.toml", {"http://127.0.0.1:8000": f"http://{served_model.address}"}))


def client(gateway, who: str, prefix: str = ""):
    """The client of the OpenAI API, as this user."""
    import openai

    return openai.OpenAI(base_url=f"{gateway.url}{prefix}/v1", api_key=mint(who, iss=ISSUER), max_retries=0)


def nothing(call, why: str = "not_owner"):
    """It finds nothing, and the gateway says why."""
    import openai

    with pytest.raises(openai.NotFoundError) as refused:
        call()
    assert refused.value.response.json()["error"] == why


def test_openai_users_see_their_own_work_alone(models, served_model):
    ada, bob = client(models, "ada"), client(models, "bob")
    said = ada.responses.create(model="small", input="hello")
    assert ada.responses.retrieve(said.id).output_text == "You said: hello"
    with ada.responses.create(model="small", input="again", stream=True) as stream:
        streamed = next(iter(stream)).response.id
        # Known before its event was seen.
        assert ada.responses.retrieve(streamed).id == streamed
    file = ada.files.create(file=("a.jsonl", io.BytesIO(b"questions")), purpose="batch")
    batch = ada.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")
    done = ada.batches.retrieve(batch.id)
    assert ada.files.content(done.output_file_id).text == "results of questions"
    before = len(served_model.app.seen)
    for name in (said.id, streamed):
        nothing(lambda: bob.responses.retrieve(name))
        nothing(lambda: bob.responses.delete(name))
        nothing(lambda: bob.responses.create(model="small", input="what did she say?", previous_response_id=name))
    for name in (file.id, done.output_file_id):
        nothing(lambda: bob.files.retrieve(name))
        nothing(lambda: bob.files.content(name))
        nothing(lambda: bob.batches.create(input_file_id=name, endpoint="/v1/responses", completion_window="24h"))
        given = [{"role": "user", "content": [{"type": "input_file", "file_id": name}]}]
        nothing(lambda: bob.responses.create(model="small", input=given))
    nothing(lambda: bob.batches.retrieve(batch.id))
    nothing(bob.files.list, "route_not_found")
    assert served_model.app.seen[before:] == [], "the service was asked"
    assert ada.responses.create(model="small", input="more", previous_response_id=said.id).previous_response_id == said.id
    assert ada.responses.delete(said.id) is None


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    server = Llama(tmp_path_factory.mktemp("llama"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def behind(start, llama):
    """The example in front of Llama Stack, which has the same paths in another place."""
    whole = example("openai.toml", {"http://127.0.0.1:8000": f"http://{llama.address}"})
    return start(whole.replace('path = "/v1/', f'path = "{PREFIX}/v1/'))


@pytest.mark.slow
def test_llama_stack_s_users_see_their_own_work_alone(behind, llama):
    import openai

    ada, bob = client(behind, "ada", PREFIX), client(behind, "bob", PREFIX)
    anybody = openai.OpenAI(base_url=f"http://{llama.address}{PREFIX}/v1", api_key="x", max_retries=0)
    assert [model.id for model in ada.models.list()] == ["small"]
    asked = [{"role": "user", "content": "hello"}]
    assert ada.chat.completions.create(model="small", messages=asked).choices[0].message.content == "hello"
    chunks = ada.chat.completions.create(model="small", messages=asked, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).strip() == "hello"

    said = ada.responses.create(model="small", input="my secret")
    with ada.responses.create(model="small", input="and another", stream=True) as stream:
        streamed = [event.response.id for event in stream if event.type == "response.completed"][0]
    more = ada.responses.create(model="small", input="go on", previous_response_id=said.id)
    assert more.output_text.split() == ["my", "secret", "go", "on"]
    file = ada.files.create(file=("a.txt", io.BytesIO(b"only ada knows")), purpose="assistants")
    for who in (ada, anybody):
        assert who.responses.retrieve(said.id).output_text.strip() == "my secret"
        assert who.responses.retrieve(streamed).output_text.strip() == "and another"
        assert who.files.content(file.id).text == "only ada knows"
    for name in (said.id, streamed, more.id, "resp-nobody-s"):
        nothing(lambda: bob.responses.retrieve(name))
        nothing(lambda: bob.responses.input_items.list(name))
        steal = {"model": "small", "input": "what did she say?", "previous_response_id": name}
        for stream in (False, True):
            nothing(lambda: bob.responses.create(**steal, stream=stream))
    for call in (bob.files.retrieve, bob.files.content, bob.files.delete):
        nothing(lambda: call(file.id))
    # These would tell of everybody's.
    for call in (bob.files.list, bob.chat.completions.list):
        nothing(call, "route_not_found")
    assert httpx.get(f"{behind.url}{PREFIX}/v1/responses", headers=user("bob")).status_code == 404
    his = bob.responses.create(model="small", input="his own")
    assert bob.responses.retrieve(his.id).output_text.strip() == "his own"
    nothing(lambda: ada.responses.retrieve(his.id))
    assert ada.files.delete(file.id).deleted
