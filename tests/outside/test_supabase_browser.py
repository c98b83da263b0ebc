"""supabase-js in a real browser, on a page of another origin than the gateway's."""

import os
from pathlib import Path

import pytest
from harness.gateway import ROOT
from harness.supabase import ANONS, PASSWORD, SERVICES, address, config

pytestmark = pytest.mark.slow

OPEN = """
([url, key]) => {
  window.auth = supabase.createClient(url, key).auth;
  window.said = async (call) => {
    const { data, error } = await call;
    return { data, error: error && { name: error.name, status: error.status, code: error.code, message: error.message } };
  };
}
"""


@pytest.fixture(scope="module")
def gateway(start):
    """Open to pages of every origin."""
    return start(config())


def opened(browser, fastapi, gateway, key=ANONS[0]):
    """A page of the application with a client on it."""
    modules = Path(os.environ.get("OUTSIDE_NODE_MODULES", ROOT / "tests" / ".cache" / "npm" / "node_modules"))
    page = browser.new_page()
    page.goto(f"http://{fastapi.address}/page")
    page.add_script_tag(path=modules / "@supabase" / "supabase-js" / "dist" / "umd" / "supabase.js")
    page.evaluate(OPEN, [gateway.url, key])
    return page


def said(page, call: str, *arguments):
    """What a call of the client answered."""
    return page.evaluate("([call, given]) => said(new Function('auth', 'given', `return ${call}`)(auth, given))", [call, arguments])


def test_a_page_of_another_origin_signs_in_and_reads_errors(browser, fastapi, gateway):
    page = opened(browser, fastapi, gateway)
    credentials = {"email": address(), "password": PASSWORD}
    up = said(page, "auth.signUp(given[0])", credentials)
    assert up["error"] is None and up["data"]["user"]["email"] == credentials["email"]
    taken = said(page, "auth.signUp(given[0])", credentials)["error"]
    assert (taken["status"], taken["code"]) == (422, "user_already_exists")
    weak = said(page, "auth.signUp(given[0])", {"email": address(), "password": "short"})["error"]
    assert weak["name"] == "AuthWeakPasswordError"
    wrong = said(page, "auth.signInWithPassword(given[0])", credentials | {"password": "not this one"})["error"]
    assert (wrong["name"], wrong["code"]) == ("AuthApiError", "invalid_credentials")
    assert said(page, "auth.getUser()")["data"]["user"]["id"] == up["data"]["user"]["id"]
    assert said(page, "auth.getClaims()")["data"]["claims"]["sub"] == up["data"]["user"]["id"]
    assert said(page, "auth.updateUser({data: {color: 'blue'}})")["error"] is None
    assert said(page, "auth.refreshSession()")["error"] is None
    assert said(page, "auth.signOut()")["error"] is None
    assert said(page, "auth.getSession()")["data"]["session"] is None
    page.close()


def test_a_wrong_key_is_no_network_failure(browser, fastapi, gateway):
    page = opened(browser, fastapi, gateway, "sb_publishable_nobody_knows_this_one")
    error = said(page, "auth.signInAnonymously()")["error"]
    assert (error["name"], error["status"], error["message"]) == ("AuthApiError", 401, "Invalid API key")
    page.close()


def test_lists_are_readable_across_origins(browser, fastapi, gateway):
    page = opened(browser, fastapi, gateway, SERVICES[0])
    for _ in range(3):
        assert said(page, "auth.admin.createUser(given[0])", {"email": address()})["error"] is None
    listed = said(page, "auth.admin.listUsers({page: 1, perPage: 1})")["data"]
    assert listed["nextPage"] == 2 and listed["total"] >= 3
    page.close()


def test_two_tabs_refresh_at_once(browser, fastapi, gateway):
    one, two = opened(browser, fastapi, gateway), opened(browser, fastapi, gateway)
    session = said(one, "auth.signInAnonymously()")["data"]["session"]
    said(two, "auth.setSession(given[0])", session)
    begin = "() => { window.answer = said(auth.refreshSession()); }"
    one.evaluate(begin)
    two.evaluate(begin)
    for page in (one, two):
        error = page.evaluate("() => answer")["error"]
        # The client's own word: the other tab has stored its answer first, and that one counts.
        assert error is None or error["name"] == "AuthRefreshDiscardedError"
    assert said(one, "auth.getUser()")["error"] is None and said(two, "auth.getUser()")["error"] is None
    one.close()
    two.close()


def test_a_link_from_a_mail_leads_into_the_application(browser, fastapi, start):
    """The browser follows it, and the client finds the session, or why there is none, in the address."""
    home = f"http://{fastapi.address}/page"
    gateway = start(config().replace('redirects = ["https://app.example", ', f'redirects = ["{home}", '))
    admin = opened(browser, fastapi, gateway, SERVICES[0])
    wanted = {"type": "magiclink", "email": address()}
    made = said(admin, "auth.admin.generateLink(given[0])", wanted)["data"]
    link = made["properties"]["action_link"].replace("https://gateway.test", gateway.url)
    admin.close()
    modules = Path(os.environ.get("OUTSIDE_NODE_MODULES", ROOT / "tests" / ".cache" / "npm" / "node_modules"))
    for spent in (False, True):
        page = browser.new_page()
        page.goto(home)
        page.evaluate("() => localStorage.clear()")
        page.goto(link)
        assert page.url.startswith(home + "#"), page.url
        page.add_script_tag(path=modules / "@supabase" / "supabase-js" / "dist" / "umd" / "supabase.js")
        page.evaluate(OPEN, [gateway.url, ANONS[0]])
        error = said(page, "auth.initialize().then(({ error }) => ({ data: null, error }))")["error"]
        user = said(page, "auth.getUser()")["data"]["user"]
        if spent:
            assert error["name"] == "AuthImplicitGrantRedirectError" and user is None, error
        else:
            assert error is None and user["id"] == made["user"]["id"]
        page.close()


def test_only_named_origins_where_they_are_named(browser, fastapi, start):
    gateway = start(config(supabase='cors_origins = ["https://elsewhere.example"]'))
    page = opened(browser, fastapi, gateway)
    error = said(page, "auth.signInAnonymously()")["error"]
    assert (error["name"], error["status"]) == ("AuthRetryableFetchError", 0)
    page.close()
