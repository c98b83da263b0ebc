"""The demo's page in a browser, as somebody uses it who sees it for the first time."""

import subprocess

import httpx
import pytest
from harness.demo import Demo

pytestmark = pytest.mark.slow
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def demo():
    """The demo."""
    running = Demo()
    yield running
    running.stop()


@pytest.fixture
def page(browser, demo):
    """Its page, in English, where every script error fails the test."""
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(demo.url + "/")
    page.evaluate("speak('en')")
    yield page
    page.close()
    assert errors == []


def shows(page, selector: str, text: str):
    """Waits until this part of the page has this text."""
    page.wait_for_function("([s, t]) => document.querySelector(s).textContent.includes(t)", arg=[selector, text])


def test_a_visitor_keeps_the_account_streams_and_signs_out(page, demo):
    page.click("#anonymous")
    shows(page, "#who", "anonymous user")
    name = page.inner_text("#me").split(" · ")[1]
    page.fill("#email", "ada@example.com")
    page.fill("#password", PASSWORD)
    page.click("#register")
    shows(page, "#me", f"ada@example.com · {name}")
    shows(page, "#account-said", "the id that it had")
    page.click("#ws-open")
    page.click("#es-open")
    page.click("#go")
    page.wait_for_selector("#picture.full")
    shows(page, "#ws-log", name)
    shows(page, "#es-log", "tick")
    token = page.input_value("#token")
    page.click("#sign-out")
    shows(page, "#who", "guest")
    shows(page, "#es-log", "auth_revoked")
    shows(page, "#ws-log", "close 4401 auth_revoked")
    answer = httpx.get(demo.url + "/api/v1/whoami", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 401


def test_one_registers_once_and_signs_in_again(page, demo):
    page.fill("#email", "bob@example.com")
    page.fill("#password", "short")
    page.click("#register")
    shows(page, "#account-said", "422")
    page.fill("#password", PASSWORD)
    page.click("#register")
    shows(page, "#who", "bob@example.com")
    page.reload()
    shows(page, "#who", "bob@example.com")
    before = page.input_value("#token")
    page.click("#renew")
    page.wait_for_function("before => document.getElementById('token').value !== before", arg=before)
    page.click("#sign-out-all")
    shows(page, "#who", "guest")
    page.fill("#email", "bob@example.com")
    page.fill("#password", "wrong horse")
    page.click("#sign-in")
    shows(page, "#account-said", "400")
    page.fill("#password", PASSWORD)
    page.click("#sign-in")
    shows(page, "#who", "bob@example.com")
    page.click("#sign-out")
    shows(page, "#who", "guest")


@pytest.fixture
def untouched():
    """A demo that nobody has registered at."""
    running = Demo()
    yield running
    running.stop()


def test_what_it_prints_to_try_works_as_it_stands(untouched):
    untouched.out.wait("Ctrl-C ends it")
    lines = [line.strip() for line in "\n".join(untouched.out.kept).replace("\\\n", "").split("\n")]
    variables = [line for line in lines if line.startswith(("TOKEN=", "EXPIRED="))]
    assert len(variables) == 2
    told = []
    for line in lines:
        if line.startswith("curl "):
            script = "\n".join([*variables, line + " -sS --noproxy '*' -w '\n%{http_code}'"])
            done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, (line, done.stderr)
            told.append((done.stdout.rsplit("\n", 1)[1], done.stdout))
    statuses = [status for status, _ in told]
    assert statuses == ["200", "200", "201", "200", "200", "200", "401", "401", "400"]
    assert "event: complete" in told[0][1] and '"finished":' in told[1][1]
    # Whatever one says oneself.
    assert '"x-user-id":"root"' not in told[5][1] and '"x-auth-status":"authenticated"' in told[5][1]
    words = ["token_missing", "token_expired", "credentials_conflict"]
    for word, (_, text) in zip(words, told[6:], strict=True):
        assert word in text
