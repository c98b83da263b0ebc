"""Security catalogue §4: framing and desync, from raw sockets, judged by the bytes that the upstream got."""

import pytest
from harness.raw import Cut, Wire, ask, request
from harness.tokens import mint

INNER = b"GET /api/smuggled HTTP/1.1\r\nHost: gateway.test\r\nx-user-id: evil\r\n\r\n"


def fence(gateway, recorder):
    """A request of our own: when the upstream has got it, and nothing else before, nothing else was sent."""
    reply = ask(gateway.address, request("GET /public/fence"))
    assert reply.status == 200
    assert recorder.take().target == "/public/fence"
    assert recorder.nothing()


def authorized(line: str, *headers: str, body: bytes = b"", **more) -> bytes:
    """A request with a good token: what is refused is refused for its framing."""
    return request(line, f"Authorization: Bearer {mint()}", *headers, body=body, **more)


def chunked(data: bytes) -> bytes:
    """A chunked body."""
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)


AMBIGUOUS = {
    "length and chunked": (["Content-Length: 6", "Transfer-Encoding: chunked"], b"0\r\n\r\n" + INNER),
    "chunked and length": (["Transfer-Encoding: chunked", "Content-Length: 6"], b"0\r\n\r\n" + INNER),
    "two lengths": (["Content-Length: 0", f"Content-Length: {len(INNER)}"], INNER),
    "a list of lengths": ([f"Content-Length: 0, {len(INNER)}"], INNER),
    "a length with a plus": (["Content-Length: +5"], b"hello"),
    "a length below zero": (["Content-Length: -5"], b"hello"),
    "a length in hex": (["Content-Length: 0x5"], b"hello"),
    "a length with a tail": (["Content-Length: 5x"], b"hello"),
    "a length with a list's tail": (["Content-Length: 5,5x"], b"hello"),
    "an empty length": (["Content-Length: "], b"hello"),
    "a length over 64 bits": (["Content-Length: 18446744073709551621"], b"hello"),
    "a length on a folded line": (["Content-Length:\r\n 5"], b"hello"),
    "chunked twice": (["Transfer-Encoding: chunked, chunked"], chunked(b"hello")),
    "chunked on two lines": (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], chunked(b"hello")),
    "chunked then identity": (["Transfer-Encoding: chunked", "Transfer-Encoding: identity"], chunked(b"hello")),
    "identity": (["Transfer-Encoding: identity"], b""),
    "identity and chunked": (["Transfer-Encoding: identity, chunked"], chunked(b"hello")),
    "gzip and chunked": (["Transfer-Encoding: gzip, chunked"], chunked(b"hello")),
    "chunked behind a vertical tab": (["Transfer-Encoding: \x0bchunked"], chunked(b"hello")),
    "quoted chunked": (['Transfer-Encoding: "chunked"'], chunked(b"hello")),
    "xchunked": (["Transfer-Encoding: xchunked"], chunked(b"hello")),
    "chunked with a parameter": (["Transfer-Encoding: chunked;q=1"], chunked(b"hello")),
    "an empty encoding": (["Transfer-Encoding: "], chunked(b"hello")),
    "a space before the colon of the encoding": (["Transfer-Encoding : chunked"], chunked(b"hello")),
    "a space before the colon of the length": (["Content-Length : 5"], b"hello"),
    "a bare LF within a header": (["X-A: b\nTransfer-Encoding: chunked"], chunked(b"hello")),
    "a bare CR within a header": (["X-A: b\rTransfer-Encoding: chunked"], chunked(b"hello")),
    "a NUL within a header": (["X-A: b\0c"], b""),
    "an obsolete fold": (["X-A: b", " c"], b""),
    "an empty name": ([": b"], b""),
    "a name with a space": (["X A: b"], b""),
    "a name that is no token": (["X(A): b"], b""),
    "no colon": (["X-A"], b""),
}


ALLOWED = {
    # RFC 9112 §6.3: the encoding wins, alone goes on, and the connection ends.
    "length and chunked": b"",
    "chunked and length": b"",
    # RFC 9112 §2.2: a bare LF may be taken for a line's end; then what it ends is framed by what it says.
    "a bare LF within a header": b"hello",
}
"""What may be answered 200 instead, and what the upstream then gets."""


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_could_be_framed_in_two_ways_is_refused_and_the_connection_closed(guarded, recorder, name):
    headers, body = AMBIGUOUS[name]
    with Wire(guarded.address) as wire:
        wire.send(authorized("POST /api/outer", *headers, body=body))
        reply = wire.reply()
        if reply.status == 200 and name in ALLOWED:
            assert recorder.take().body == ALLOWED[name]
            assert name == "a bare LF within a header" or wire.rest() == b""
        else:
            assert reply.status in (400, 501)
            assert wire.rest() == b""
    fence(guarded, recorder)


def test_transfer_encoding_in_http_1_0_is_refused(guarded, recorder):
    data = authorized("POST /api/outer", "Transfer-Encoding: chunked", body=chunked(b"hello")).replace(
        b"HTTP/1.1", b"HTTP/1.0", 1
    )
    with Wire(guarded.address) as wire:
        wire.send(data)
        assert wire.reply().status in (400, 501)
        assert wire.rest() == b""
    fence(guarded, recorder)


CHUNKS = {
    "a size over 64 bits": b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "a size below zero": b"-5\r\nhello\r\n0\r\n\r\n",
    "a size with a plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "a size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a size that is none": b"zz\r\nhello\r\n0\r\n\r\n",
    "an empty size": b"\r\nhello\r\n0\r\n\r\n",
    "a bare LF behind the size": b"5\nhello\r\n0\r\n\r\n",
    "a CR within an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "a LF within an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "data longer than its size": b"4\r\nhello\r\n0\r\n\r\n",
    "an extension of 100 KiB": b"5;" + b"a" * 102_400 + b"\r\nhello\r\n0\r\n\r\n",
    "trailers of 200 KiB": b"5\r\nhello\r\n0\r\n" + b"X-T: a\r\n" * 25_600 + b"\r\n",
}


@pytest.mark.parametrize("name", CHUNKS)
def test_a_chunked_body_that_turns_bad_ends_the_connection_and_the_upstreams_request(guarded, recorder, name):
    with Wire(guarded.address) as wire:
        wire.send(authorized("POST /api/outer", "Transfer-Encoding: chunked", body=CHUNKS[name] + INNER))
        try:
            assert wire.reply().status in (400, 408, 413, 431)
        except Cut:
            pass
        assert b"HTTP/1.1 200" not in wire.rest()
    # The upstream may have seen the head, but never a body with a proper end: the recorder notes whole requests only.
    fence(guarded, recorder)


def test_chunk_extensions_and_trailers_that_spoof_do_not_pass(guarded, recorder):
    body = b"5;ext=evil\r\nhello\r\n0\r\nx-user-id: evil\r\nX_User_Id: evil\r\n\r\n"
    reply = ask(
        guarded.address, authorized("POST /api/outer", "Transfer-Encoding: chunked", "Trailer: x-user-id", body=body)
    )
    assert reply.status == 200
    seen = recorder.take()
    assert seen.body == b"hello"
    assert seen.one("x-user-id") == "user-1"


LINES = {
    "an extra word": b"GET /api/x y HTTP/1.1",
    "a NUL in the target": b"GET /api/x\0y HTTP/1.1",
    "a tab in the target": b"GET /api/x\ty HTTP/1.1",
    "a tab for the space": b"GET\t/api/x\tHTTP/1.1",
    "two spaces": b"GET  /api/x HTTP/1.1",
    "HTTP/2.0": b"GET /api/x HTTP/2.0",
    "HTTP/1.9": b"GET /api/x HTTP/1.9",
    "lower-case http": b"GET /api/x http/1.1",
    "no version": b"GET /api/x",
    "a method with a space": b"GE T /api/x HTTP/1.1",
    "no target": b"GET HTTP/1.1",
    "no slash": b"GET api/x HTTP/1.1",
    "a second request line": b"GET /api/x HTTP/1.1\r\nGET /api/y HTTP/1.1",
    "a CR in the target": b"GET /api/x\rx-user-id: evil HTTP/1.1",
    "eight bits in the target": b"GET /api/\xff HTTP/1.1",
}


@pytest.mark.parametrize("name", LINES)
def test_a_request_line_that_is_not_well_formed_is_refused(guarded, recorder, name):
    data = LINES[name] + b"\r\nHost: gateway.test\r\nAuthorization: Bearer " + mint().encode() + b"\r\n\r\n"
    with Wire(guarded.address) as wire:
        wire.send(data)
        try:
            for reply in wire.replies():
                assert 400 <= reply.status < 500 or reply.status in (501, 505)
        except Cut:
            pass
    fence(guarded, recorder)


def test_each_request_of_a_pipeline_is_judged_on_its_own(guarded, recorder):
    first, second = mint("alice"), mint("bob")
    data = b"".join(
        [
            request("GET /api/1", f"Authorization: Bearer {first}"),
            request("GET /api/2"),
            request("GET /api/3", f"Authorization: Bearer {second}"),
            request("GET /public/4"),
            request("GET /guests/5"),
            request("GET /api/6", f"Authorization: Bearer {mint(lifetime=-1)}"),
            request("GET /api/7", f"Authorization: Bearer {first}", "Connection: close"),
        ]
    )
    with Wire(guarded.address) as wire:
        wire.send(data)
        assert [reply.status for reply in wire.replies()] == [200, 401, 200, 200, 200, 401, 200]
    seen = [recorder.take() for _ in range(5)]
    assert [(one.target, one.all("x-user-id")) for one in seen] == [
        ("/api/1", ["alice"]),
        ("/api/3", ["bob"]),
        ("/public/4", []),
        ("/guests/5", []),
        ("/api/7", ["alice"]),
    ]
    assert recorder.nothing()


def test_a_refused_requests_body_is_never_read_as_a_request(guarded, recorder):
    for headers, body in [
        ([f"Content-Length: {len(INNER)}"], INNER),
        (["Transfer-Encoding: chunked"], chunked(INNER)),
        ([f"Content-Length: {len(INNER)}", "Expect: 100-continue"], INNER),
    ]:
        with Wire(guarded.address) as wire:
            wire.send(request("POST /api/refused", *headers, body=body))
            wire.send(request("GET /public/behind", "Connection: close"))
            statuses = [reply.status for reply in wire.replies()]
            assert statuses in ([401], [401, 200])
            if len(statuses) == 2:
                assert recorder.take().target == "/public/behind"
        fence(guarded, recorder)


def test_a_body_on_get_stays_a_body(guarded, recorder):
    with Wire(guarded.address) as wire:
        wire.send(authorized("GET /api/1", f"Content-Length: {len(INNER)}", body=INNER))
        assert wire.reply().status == 200
        wire.send(authorized("GET /api/2"))
        assert wire.reply().status == 200
    assert recorder.take().body == INNER
    assert recorder.take().target == "/api/2"
    assert recorder.nothing()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([f"X-Large: {'a' * 70_000}"], {431}),
        ([f"X-{at}: a" for at in range(150)], {431}),
    ],
    ids=["70 KB", "150 lines"],
)
def test_headers_beyond_the_limits_are_431(guarded, recorder, headers, status):
    with Wire(guarded.address) as wire:
        wire.send(authorized("GET /api/x", *headers))
        assert wire.reply().status in status
    fence(guarded, recorder)


def test_a_target_beyond_the_limit_is_414(guarded, recorder):
    with Wire(guarded.address) as wire:
        wire.send(authorized("GET /api/" + "a" * 17_000))
        assert wire.reply().status == 414
    fence(guarded, recorder)
