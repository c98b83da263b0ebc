"""A real browser: native EventSource, fetch streaming and WebSocket from a page, as users' pages do it."""

import json

import pytest
from harness.app import heard
from harness.gateway import config
from harness.lost import ticket, vanishing
from harness.tokens import mint

pytestmark = pytest.mark.slow

ROUTES = """
[[upstream]]
name = "app"
endpoints = ["http://${APP}"]

[[route]]
name = "page"
path = "/page"
upstream = "app"
auth = "public"

[[route]]
name = "streams"
path = "/sse/{*rest}"
upstream = "app"
auth = "required"

[route.sse]
on_reject = "event"

[[route]]
name = "generate"
path = "/sse"
upstream = "app"
auth = "required"

[route.sse]
enrich = ["start"]

[[route]]
name = "sockets"
path = "/ws/{*rest}"
upstream = "app"
auth = "required"

[route.websocket]
on_reject = "close"
greeting = true
"""

EVENT_SOURCE = """
([path, names, last]) => new Promise((resolve) => {
  const seen = { opened: false, events: [] };
  const source = new EventSource(path);
  const end = () => { source.close(); resolve(seen); };
  source.onopen = () => { seen.opened = true; };
  for (const name of names) {
    source.addEventListener(name, (event) => {
      if (event instanceof MessageEvent) {
        seen.events.push([name, event.data]);
        if (name === last) end();
      } else {
        seen.failed = true;
        end();
      }
    });
  }
  if (!names.includes("error")) source.onerror = () => { seen.failed = true; end(); };
})
"""

FETCH = """
async ([path, token]) => {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { method: "POST", headers, body: "{}" });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", pieces = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    text += value;
    pieces += 1;
  }
  return { status: answer.status, type: answer.headers.get("content-type"), text, pieces };
}
"""

SOCKET = """
([path, protocols, say]) => new Promise((resolve) => {
  const seen = { opened: false, messages: [] };
  const socket = new WebSocket(path, protocols);
  socket.onopen = () => { seen.opened = true; seen.protocol = socket.protocol; if (say) socket.send(say); };
  socket.onmessage = (event) => {
    seen.messages.push(event.data);
    if (say && event.data === say) socket.close(4000, "done");
  };
  socket.onclose = (event) => resolve({ ...seen, code: event.code, reason: event.reason, clean: event.wasClean });
})
"""


@pytest.fixture(scope="module")
def gateway(start):
    return start(config(ROUTES))


@pytest.fixture
def page(browser, gateway):
    browser.clear_cookies()
    page = browser.new_page()
    page.goto(gateway.url + "/page")
    yield page
    page.close()


def test_eventsource_with_a_query_token_opens_at_once_and_reads_events(page, gateway):
    seen = page.evaluate(
        EVENT_SOURCE, [f"/sse?count=3&token={mint('tab')}", ["start", "progress", "complete"], "complete"]
    )
    assert seen["opened"]
    assert [name for name, _ in seen["events"]] == ["start", "progress", "progress", "progress", "complete"]
    assert json.loads(seen["events"][0][1])["user_id"] == "tab"


def test_eventsource_with_a_cookie(page, browser, gateway):
    browser.add_cookies([{"name": "portcullis", "value": mint("cookie"), "url": gateway.url}])
    seen = page.evaluate(EVENT_SOURCE, ["/sse?count=1", ["start", "complete"], "complete"])
    assert json.loads(seen["events"][0][1])["user_id"] == "cookie"


@pytest.mark.parametrize(
    ("token", "word"),
    [(None, "token_missing"), ({"lifetime": -1}, "token_expired"), ({"aud": "x"}, "audience_mismatch")],
)
def test_eventsource_reads_why_it_was_refused(page, token, word):
    query = "" if token is None else f"?token={mint(**token)}"
    seen = page.evaluate(EVENT_SOURCE, [f"/sse/messages{query}", ["auth_error", "message"], "auth_error"])
    ((name, data),) = seen["events"]
    assert name == "auth_error" and json.loads(data)["error"] == word


def test_eventsource_fails_on_a_refusal_by_status(page):
    assert page.evaluate(EVENT_SOURCE, ["/sse", ["start"], "start"])["failed"]


def test_eventsource_is_told_when_its_token_expires(page, fastapi):
    seen = page.evaluate(
        EVENT_SOURCE, [f"/sse/endless/tab?token={mint(lifetime=2)}", ["tick", "auth_expired"], "auth_expired"]
    )
    assert len(seen["events"]) > 2
    assert json.loads(seen["events"][-1][1])["error"] == "auth_expired"
    heard(fastapi.app, "left", "tab")


BACK = """
(path) => new Promise((resolve) => {
  const seen = { opened: 0 };
  const source = new EventSource(path);
  source.onopen = () => { seen.opened += 1; };
  source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve({ ...seen, gaveUp: true }); };
  source.addEventListener("start", ({ data }) => {
    source.close();
    resolve({ ...seen, user: JSON.parse(data).user_id });
  });
})
"""


def test_eventsource_comes_back_by_its_ticket_where_the_gateway_has_not_seen_its_stream_break(browser, start):
    sse = 'on_reject = "event"\nenrich = ["start"]\nheartbeat = "500ms"\nretry = "300ms"'
    gateway = start(config(ROUTES.replace('on_reject = "event"', sse, 1), 'send_timeout = "2s"'))
    path = "/sse/silent/back"
    target = f"{path}?ticket={ticket(gateway, mint('back'), path)}"
    client = vanishing(gateway, target)
    page = browser.new_page()
    page.goto(gateway.url + "/page")
    seen = page.evaluate(BACK, target)
    page.close()
    client.close()
    print(f"back: {seen}")
    assert seen["user"] == "back" and seen["opened"] > 1 and "gaveUp" not in seen, seen


def test_a_tab_that_is_closed_cancels_the_upstreams_work(browser, gateway, fastapi):
    page = browser.new_page()
    page.goto(gateway.url + "/page")
    page.evaluate(
        f"() => {{ window.source = new EventSource('/sse/endless/closed-tab?token={mint()}'); return new Promise((r) => window.source.addEventListener('tick', r)); }}"
    )
    page.close()
    heard(fastapi.app, "left", "closed-tab")


def test_fetch_streams_a_post(page):
    seen = page.evaluate(FETCH, ["/sse?count=4&pause=0.05", mint("fetch")])
    assert (seen["status"], seen["type"].split(";")[0]) == (200, "text/event-stream")
    assert seen["text"].count("event: progress") == 4 and "event: complete" in seen["text"]
    assert seen["pieces"] >= 3, "it came in pieces, as it was written"


@pytest.mark.parametrize(("token", "word"), [(None, "token_missing"), ({"lifetime": -1}, "token_expired")])
def test_fetch_reads_the_status_and_the_reason(page, token, word):
    seen = page.evaluate(FETCH, ["/sse", token and mint(**token)])
    assert seen["status"] == 401 and json.loads(seen["text"])["error"] == word


def test_fetch_that_is_aborted_cancels_the_upstreams_work(page, fastapi):
    page.evaluate(
        """async ([path, token]) => {
          const abort = new AbortController();
          const answer = await fetch(path, { method: "POST", headers: { token }, signal: abort.signal });
          await answer.body.getReader().read();
          abort.abort();
        }""",
        ["/sse/endless/aborted", mint()],
    )
    heard(fastapi.app, "left", "aborted")


def test_websocket_with_the_token_as_a_subprotocol(page):
    seen = page.evaluate(SOCKET, ["/ws/echo/tab", ["bearer", mint("tab")], "你好"])
    greeting = json.loads(seen["messages"][0])
    assert (seen["opened"], seen["protocol"], seen["code"], seen["clean"]) == (True, "bearer", 4000, True)
    assert (greeting["type"], greeting["user_id"]) == ("connected", "tab")
    assert seen["messages"][1] == "你好"


def test_websocket_with_a_subprotocol_of_the_application(page):
    assert page.evaluate(SOCKET, ["/ws/echo/tab", ["bearer", mint(), "chat.v1"], "x"])["protocol"] == "chat.v1"


def test_websocket_with_a_query_token_and_large_messages(page):
    seen = page.evaluate(SOCKET, [f"/ws/echo/tab?token={mint()}", [], "x" * 1_000_000])
    assert seen["code"] == 4000 and len(seen["messages"][1]) == 1_000_000


def test_websocket_with_the_cookie_of_the_pages_own_origin(page, browser, gateway):
    browser.add_cookies([{"name": "portcullis", "value": mint("cookie"), "url": gateway.url}])
    seen = page.evaluate(SOCKET, ["/ws/echo/tab", [], "x"])
    assert json.loads(seen["messages"][0])["user_id"] == "cookie"


def test_websocket_with_the_cookie_from_another_origin_is_refused(page, browser, gateway, fastapi):
    """`localhost` and 127.0.0.1 are two origins; the page is on the one, the cookie and the socket on the other."""
    host = gateway.authority.replace("127.0.0.1", "localhost")
    browser.add_cookies(
        [{"name": "portcullis", "value": mint("victim"), "url": f"http://{gateway.authority}", "sameSite": "Lax"}]
    )
    page.goto(f"http://{host}/page")
    seen = page.evaluate(SOCKET, [gateway.ws("/ws/echo/hijack"), [], "x"])
    assert seen["code"] in (1006, 4401, 4403), seen
    assert not any("victim" in message for message in seen["messages"])


@pytest.mark.parametrize(
    ("token", "word"),
    [(None, "token_missing"), ({"lifetime": -1}, "token_expired"), ({"iss": "https://x.test"}, "issuer_unknown")],
)
def test_websocket_reads_why_it_was_refused(page, token, word):
    seen = page.evaluate(SOCKET, ["/ws/echo/tab", [] if token is None else ["bearer", mint(**token)], None])
    assert (seen["code"], seen["reason"], seen["clean"]) == (4401, word, True)
    assert json.loads(seen["messages"][0])["error"] == word


def test_websocket_is_told_when_its_token_expires(page):
    seen = page.evaluate(SOCKET, ["/ws/echo/tab", ["bearer", mint(lifetime=2)], None])
    assert (seen["code"], seen["reason"]) == (4401, "auth_expired")
