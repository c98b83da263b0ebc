"""A real Gradio app behind the gateway with the config of `examples/gradio`, driven by gradio_client and by a browser."""

import os

os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

import httpx
import pytest
from fastapi import FastAPI
from harness.examples import ISSUER, text, user
from harness.serve import serving
from harness.tokens import mint

pytestmark = pytest.mark.slow


def application():
    """A function that streams with progress, one that reads the caller, one that takes a file."""
    import gradio as gr

    def spell(word: str, progress=gr.Progress()):
        for at in progress.tqdm(range(len(word))):
            yield word[: at + 1]

    def who(request: gr.Request):
        return request.headers.get("x-user-id", "nobody")

    with gr.Blocks() as demo:
        given, shown = gr.Textbox(label="given"), gr.Textbox(label="shown")
        gr.Button("Spell").click(spell, given, shown, api_name="spell")
        gr.Button("Who").click(who, None, shown, api_name="who")
        file = gr.File()
        gr.Button("Keep").click(lambda path: path, file, file, api_name="keep")
    return gr.mount_gradio_app(FastAPI(), demo.queue(), path="/")


@pytest.fixture(scope="module")
def gradio():
    yield from serving(application())


@pytest.fixture(scope="module")
def gateway(start, gradio):
    return start(text("gradio", {"http://127.0.0.1:7860": f"http://{gradio.address}"}))


@pytest.fixture(scope="module")
def client(gateway):
    from gradio_client import Client

    return Client(gateway.url, headers=user("gradio-user"), verbose=False)


def test_a_function_answers_and_streams(client):
    assert client.predict("gate", api_name="/spell") == "gate"
    assert list(client.submit("portcullis", api_name="/spell")) == ["portcullis"[: at + 1] for at in range(10)]


def test_a_function_reads_who_calls(client):
    assert client.predict(api_name="/who") == "gradio-user"


def test_a_file_goes_up_and_comes_back(client, tmp_path):
    from gradio_client import handle_file

    sent = tmp_path / "sent.bin"
    sent.write_bytes(os.urandom(3_000_000))
    with open(client.predict(handle_file(sent), api_name="/keep"), "rb") as kept:
        assert kept.read() == sent.read_bytes()


def test_without_a_token_there_is_nothing(gateway):
    for path in (
        "/",
        "/config",
        "/gradio_api/info",
        "/gradio_api/queue/data?session_hash=x",
        "/gradio_api/file=/etc/passwd",
    ):
        assert httpx.get(gateway.url + path).status_code == 401, path
    assert httpx.post(gateway.url + "/gradio_api/queue/join", json={}).status_code == 401


def test_a_browser_with_the_cookie_uses_the_page(gateway, browser):
    browser.add_cookies([{"name": "portcullis", "value": mint("tab", iss=ISSUER), "url": gateway.url}])
    page = browser.new_page()
    page.goto(gateway.url + "/")
    page.get_by_label("given").fill("hello")
    page.get_by_role("button", name="Spell").click()
    shown = page.get_by_label("shown")
    page.wait_for_function("(shown) => shown.value === 'hello'", arg=shown.element_handle())
    page.get_by_role("button", name="Who").click()
    page.wait_for_function("(shown) => shown.value === 'tab'", arg=shown.element_handle())
    page.close()
