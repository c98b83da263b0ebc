"""The gateway against its own OpenAPI document: Schemathesis makes calls of it, good and bad, and judges the answers."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from harness.accounts import config
from harness.supabase import ANONS, SERVICES

HERE = Path(__file__).parent
LEFT_OUT = [
    # What a username, an e-mail address or a strong password is, a schema cannot say (RFC 8265, RFC 6531): what it lets
    # through may still be told 400 or 422.
    "positive_data_acceptance",
    # The Supabase API's admin calls take `apikey` for the bearer that is not there, and answer for it: 403.
    "missing_required_header",
]


@pytest.fixture(scope="module")
def gateway(start):
    supabase = f'anon_keys = ["{ANONS[0]}"]\nservice_keys = ["{SERVICES[0]}"]'
    # The names of users are made up by the hundred, the log-ins fail by the hundred.
    return start(config(attempts="free = 1000", supabase=supabase))


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("phases, most", [("examples,coverage", 120), ("fuzzing", 20)])
def test_every_answer_is_one_that_the_document_has(gateway, tmp_path, phases, most):
    """No 5xx; statuses, bodies, types of content and `Allow` as documented; what breaks a schema is refused."""
    command = [sys.executable, "-B", "-m", "schemathesis.cli", "run", f"{gateway.admin}/openapi.json"]
    options = {
        "--url": gateway.url,
        "--phases": phases,
        "--exclude-checks": ",".join(LEFT_OUT),
        "--max-time": str(most),
        "--max-examples": "15",
        "--seed": "1",
        "--warnings": "off",
    }
    given = {
        "OUTSIDE_GATEWAY": gateway.url,
        "OUTSIDE_ANON": ANONS[0],
        "OUTSIDE_SERVICE": SERVICES[0],
        "SCHEMATHESIS_HOOKS": "clients.schemathesis_hooks",
        "PYTHONPATH": str(HERE),
    }
    done = subprocess.run(
        [*command, *(word for option in options.items() for word in option), "--continue-on-failure", "--no-shrink"],
        env=os.environ | given,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-4000:]
    # How much was asked.
    print(done.stdout[done.stdout.rfind("API Operations:") :])


@pytest.mark.slow
def test_the_page_shows_every_call_and_asks_nobody_else(browser, gateway):
    """Swagger UI in a real browser: all that it needs comes from the admin listener."""
    page, asked = browser.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{gateway.admin}/docs")
    page.wait_for_selector(".opblock")
    paths = httpx.get(f"{gateway.admin}/openapi.json").json()["paths"]
    shown = page.locator(".opblock").count()
    assert shown == sum(len(methods) for methods in paths.values()) and shown > 40
    page.locator(".opblock", has_text="/api/v1/base/access_token").click()
    assert "username" in page.locator(".opblock.is-open").inner_text()
    assert asked and all(url.startswith((gateway.admin, "data:")) for url in asked), asked
    page.close()
