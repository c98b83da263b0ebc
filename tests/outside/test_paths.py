"""Security catalogue §5: the path that policy saw is the path that is sent; hosts and methods."""

import pytest
from harness.gateway import GUARDED, config
from harness.raw import Cut, Wire, ask, request
from harness.tokens import mint

TRAVERSALS = [
    "/public/../api/x",
    "/public/%2e%2e/api/x",
    "/public/%2E%2E/api/x",
    "/public/.%2e/api/x",
    "/public/%2e./api/x",
    "/public/..;/api/x",
    "/public/..;a=b/api/x",
    "/public/%2e%2e%2fapi/x",
    "/public/..%2fapi/x",
    "/public/..%5capi/x",
    "/public/..\\api\\x",
    "/public\\..\\api/x",
    "//api/x",
    "/public//../api/x",
    "/public/./../api/x",
    "/./api/x",
    "/public/x/..",
    "/public/x%00",
    "/public/%0d%0ax-user-id:%20evil",
    "/public/%c0%ae%c0%ae/api/x",
    "/public/%u002e%u002e/api/x",
    "/public/%",
    "/public/%2",
    "/public/%zz",
    "/public/%7f",
    "/public/%ff",
    "/public/a%2fb",
    "/public/a%5cb",
]


@pytest.mark.parametrize("target", TRAVERSALS)
def test_a_path_that_could_be_read_in_two_ways_is_400(guarded, recorder, target):
    reply = ask(guarded.address, request(f"GET {target}"))
    assert reply.status == 400, target
    assert recorder.nothing()


@pytest.mark.parametrize(
    "target",
    ["/API/x", "/Api/x", "/api;x=1/x", "/api./x", "/ap%69/x", "/%61pi/x", "/%61%70%69/x", "/api%20/x", "/api", "/api/"],
)
def test_a_look_alike_of_a_protected_path_never_passes_without_a_token(guarded, recorder, target):
    assert ask(guarded.address, request(f"GET {target}")).status in (400, 401, 404)
    assert recorder.nothing()


@pytest.mark.parametrize(
    "target", ["/%61pi/x", "/%61%50%49/x", "/api/%41dmin/x", "/api/%61dmin/x", "/api/ADMIN/x", "/api/Admin/x"]
)
def test_a_user_does_not_reach_an_admins_path_by_its_spelling(guarded, recorder, target):
    reply = ask(guarded.address, request(f"GET {target}", f"Authorization: Bearer {mint()}"))
    if reply.status == 200:
        seen = recorder.take()
        assert not seen.target.lower().startswith("/api/admin"), seen.target
        assert "%" not in seen.target, "decided on one text, sent another"
    else:
        assert reply.status in (400, 403, 404)
        assert recorder.nothing()


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("/public/a%252eb", "/public/a%252eb"),
        ("/public/a%20b", "/public/a%20b"),
        ("/public/%e4%b8%96", None),
        ("/public/a?b=../api&c=%2e%2e%2f&d=//&e", "/public/a?b=../api&c=%2e%2e%2f&d=//&e"),
        ("/public/a?", None),
        ("/public/a/", "/public/a/"),
        ("/public/a:b@c!$&'()*+,=~", "/public/a:b@c!$&'()*+,=~"),
        ("/public/a?x=/api/y", "/public/a?x=/api/y"),
    ],
)
def test_what_is_safe_is_sent_as_it_came(guarded, recorder, target, sent):
    assert ask(guarded.address, request(f"GET {target}")).status == 200
    seen = recorder.take().target
    assert seen == (sent or target) or (sent is None and seen.lower() == target.lower()) or seen + "?" == target


def test_a_fragment_is_refused_or_gone_before_anything_is_decided(guarded, recorder):
    assert ask(guarded.address, request("GET /api/x#/../public/x")).status in (400, 401)
    assert recorder.nothing()
    if ask(guarded.address, request("GET /public/x#/api/x")).status == 200:
        assert recorder.take().target == "/public/x"


def test_a_public_rule_never_sees_the_query(guarded, recorder):
    for target in ("/api/x?/public/y", "/api/x?a=/public/", "/api/x;/public/y", "/api/x%3f/public/y"):
        assert ask(guarded.address, request(f"GET {target}")).status in (400, 401)
    assert recorder.nothing()


HOSTS = {
    "none": [],
    "two": ["Host: a.test", "Host: b.test"],
    "the same twice": ["Host: a.test", "Host: a.test"],
    "a list": ["Host: a.test, b.test"],
    "userinfo": ["Host: user@a.test"],
    "a path": ["Host: a.test/x"],
    "a space": ["Host: a.test b.test"],
    "empty": ["Host: "],
    "a bad port": ["Host: a.test:99999"],
    "a word for a port": ["Host: a.test:http"],
    "a query": ["Host: a.test?x"],
    "a backslash": ["Host: a.test\\b"],
    "a percent": ["Host: a%2etest"],
    "a quote": ['Host: a"b'],
    "an open bracket": ["Host: [::1"],
}


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_that_is_not_one_host_is_400(guarded, recorder, name):
    reply = ask(guarded.address, request("GET /public/x", *HOSTS[name], host=None))
    assert reply.status == 400
    assert recorder.nothing()


@pytest.mark.parametrize("host", ["a.test", "A.Test", "a.test.", "a.test:8080", "127.0.0.1:80", "[::1]:80"])
def test_a_proper_host_passes_once(guarded, recorder, host):
    assert ask(guarded.address, request("GET /public/x", host=host)).status == 200
    assert recorder.take().one("host").lower().rstrip(".") in (host.lower(), host.lower().rstrip("."))


def test_the_host_of_an_absolute_target_replaces_the_header(guarded, recorder):
    reply = ask(guarded.address, request("GET http://real.test/public/x", host="real.test"))
    assert reply.status == 200
    seen = recorder.take()
    assert (seen.target, seen.one("host")) == ("/public/x", "real.test")
    reply = ask(guarded.address, request("GET http://real.test/public/x", host="other.test"))
    if reply.status == 200:
        seen = recorder.take()
        assert (seen.target, seen.one("host")) == ("/public/x", "real.test")
    else:
        assert reply.status == 400
    assert ask(guarded.address, request("GET http://real.test/api/x")).status in (400, 401)
    assert recorder.nothing()


@pytest.mark.parametrize(
    "line",
    [
        "TRACE /public/x",
        "TRACK /public/x",
        "CONNECT gateway.test:80",
        "CONNECT /public/x",
        "OPTIONS *",
        "get /api/x",
        "Get /api/x",
        f"{'A' * 300} /public/x",
    ],
)
def test_methods_that_are_not_served_are_refused(guarded, recorder, line):
    reply = ask(guarded.address, request(f"{line}"), method="HEAD")
    assert 400 <= reply.status < 500 or reply.status == 501
    assert recorder.nothing()


def test_options_opens_no_protected_route(guarded, recorder):
    assert ask(guarded.address, request("OPTIONS /api/x")).status == 401
    assert recorder.nothing()


def test_hosts_that_are_not_served_are_421(start, recorder):
    gateway = start(config(GUARDED, server='hosts = ["gateway.test", "*.wild.test"]'))
    for host, status in [
        ("gateway.test", 200),
        ("GATEWAY.test.", 200),
        ("a.wild.test:81", 200),
        ("a.b.wild.test", 421),
        ("evil.test", 421),
        ("wild.test", 421),
    ]:
        assert ask(gateway.address, request("GET /public/x", host=host)).status == status, host


def test_no_target_makes_the_gateway_fail(guarded, recorder):
    for byte in range(256):
        with Wire(guarded.address) as wire:
            wire.send(b"GET /public/a" + bytes([byte]) + b"b HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
            try:
                assert wire.reply().status < 500, byte
            except Cut:
                pass
